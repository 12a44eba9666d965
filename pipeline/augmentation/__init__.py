"""Augmentation policies, classic (for classifiers) and differentiable (inside a GAN), of the same transforms."""
