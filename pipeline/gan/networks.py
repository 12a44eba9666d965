"""Generator and discriminator, small enough for two CPU cores.

Both work at half the image resolution as far as they can: convolutions over one full-resolution channel are
what a CPU does worst, so the discriminator starts with a pixel-unshuffle (space to depth) and the generator
ends with a pixel-shuffle (Shi et al. 2016, arXiv:1609.05158). No normalisation layers (R3GAN, arXiv:2501.05441).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ConditionalAffine(nn.Module):
    """A gain and a bias per channel that depend on the class; starts as the identity."""

    def __init__(self, *, num_classes: int, channels: int) -> None:
        super().__init__()
        self.gain = nn.Embedding(num_classes, channels)
        self.bias = nn.Embedding(num_classes, channels)
        nn.init.ones_(self.gain.weight)
        nn.init.zeros_(self.bias.weight)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:  # (N, C, H, W), (N,)
        gain: Tensor = self.gain(labels)
        bias: Tensor = self.bias(labels)
        return x * gain[:, :, None, None] + bias[:, :, None, None]


class Generator(nn.Module):
    """(z, label) → image.

    z (N, z_dim) float32 ~ N(0, 1) and labels (N,) int64 give (N, 1, image_size, image_size) float32 in −1..1.
    """

    def __init__(
        self, *, z_dim: int, class_embedding_dim: int, channels: int, num_classes: int, image_size: int
    ) -> None:
        super().__init__()
        self.arguments = {
            "z_dim": z_dim,
            "class_embedding_dim": class_embedding_dim,
            "channels": channels,
            "num_classes": num_classes,
            "image_size": image_size,
        }
        self.z_dim, self.channels, self.quarter = z_dim, channels, image_size // 4
        self.num_classes, self.image_size = num_classes, image_size
        self.embedding = nn.Embedding(num_classes, class_embedding_dim)
        self.linear = nn.Linear(z_dim + class_embedding_dim, channels * self.quarter**2)
        self.affine1 = ConditionalAffine(num_classes=num_classes, channels=channels)
        self.up = nn.ConvTranspose2d(channels, channels // 2, kernel_size=4, stride=2, padding=1)
        self.affine2 = ConditionalAffine(num_classes=num_classes, channels=channels // 2)
        self.out = nn.Conv2d(channels // 2, 4, kernel_size=3, padding=1)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        x = self.linear(torch.cat([z, self.embedding(labels)], dim=1))
        x = x.view(-1, self.channels, self.quarter, self.quarter)  # (N, C, 7, 7)
        x = F.leaky_relu(self.affine1(x, labels), 0.2)
        x = F.leaky_relu(self.affine2(self.up(x), labels), 0.2)  # (N, C/2, 14, 14)
        return torch.tanh(F.pixel_shuffle(self.out(x), 2))  # (N, 1, 28, 28)


class Discriminator(nn.Module):
    """(image, label) → logit, with a projection head (Miyato & Koyama 2018, arXiv:1802.05637).

    Images (N, 1, image_size, image_size) float32 in −1..1 and labels (N,) int64 give (N,) float32; larger is
    more real. The projection is not divided by √features: scaled, the GAN learns its classes far more slowly.
    """

    def __init__(self, *, channels: int, num_classes: int, image_size: int) -> None:
        super().__init__()
        features = 4 * channels
        last = -(-(image_size // 4) // 2)  # 28 → 14 → 7 → 4
        self.conv1 = nn.Conv2d(4, channels, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(channels, 2 * channels, kernel_size=4, stride=2, padding=1)
        self.conv3 = nn.Conv2d(2 * channels, 4 * channels, kernel_size=3, stride=2, padding=1)
        self.linear = nn.Linear(4 * channels * last**2, features)
        self.score = nn.Linear(features, 1)
        self.projection = nn.Embedding(num_classes, features)

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        x = F.pixel_unshuffle(images, 2)  # (N, 4, 14, 14)
        x = F.leaky_relu(self.conv1(x), 0.2)
        x = F.leaky_relu(self.conv2(x), 0.2)  # (N, 2C, 7, 7)
        x = F.leaky_relu(self.conv3(x), 0.2)  # (N, 4C, 4, 4)
        x = F.leaky_relu(self.linear(x.flatten(1)), 0.2)
        logits: Tensor = self.score(x).squeeze(1) + (self.projection(labels) * x).sum(1)
        return logits


def images_from_uint8(images: Tensor) -> Tensor:
    """uint8 in 0..255 → float32 in −1..1, the range of the GAN."""
    return images.float().div_(127.5).sub_(1)


def uint8_from_images(images: Tensor) -> Tensor:
    """float32 in −1..1 → uint8 in 0..255, to the nearest."""
    return images.add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
