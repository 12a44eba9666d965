"""The convolutional classifier, its classic augmentation and its training."""
