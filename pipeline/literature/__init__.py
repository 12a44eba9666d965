"""The systems of the digits-GAN literature beside the project's own, under one protocol."""
