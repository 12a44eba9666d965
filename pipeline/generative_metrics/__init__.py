"""What synthetic images are worth, beside floor and copycat."""
