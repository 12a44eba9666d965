"""The conditional GAN: networks, losses, differentiable augmentation, the training loop, sampling."""
