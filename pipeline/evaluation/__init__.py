"""What the images and the classifiers are worth: generative metrics, classification scores, statistics."""
