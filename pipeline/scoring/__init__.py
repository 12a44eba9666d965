"""What trained classifiers say of images, and the rows that this becomes."""
