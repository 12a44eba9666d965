"""Generator and discriminator: three architectures, one conditioning, one top-to-bottom read.

`compact` is the project's own, made for few CPU cores: it works at half the image resolution as far as it can,
because convolutions over one full-resolution channel are what a CPU does worst. Its discriminator starts with a
pixel-unshuffle (space to depth), its generator ends with a pixel-shuffle (Shi et al. 2016, arXiv:1609.05158).
`dcgan` is the same body without the two (Radford et al. 2016, arXiv:1511.06434), `mlp` has dense layers only
(Goodfellow et al. 2014, arXiv:1406.2661).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm as normalize_spectrum

Architecture = Literal["compact", "dcgan", "mlp"]
Conditioning = Literal["projection", "concatenate"]
Upsampling = Literal["transposed", "nearest", "pixel_shuffle"]
Normalization = Literal["none", "batch"]

# Slope of the discriminator's LeakyReLU below 0, the value of nearly every GAN since DCGAN.
_LEAK = 0.2
# The generator's grid before upsampling: strides of 4 in all lead from a quarter of the side to the side.
_GROWTH = 4


class ConditionalAffine(nn.Module):
    """A gain and a bias per channel that depend on the class; starts as the identity."""

    def __init__(self, *, num_classes: int, channels: int) -> None:
        super().__init__()
        self.gain = nn.Embedding(num_classes, channels)
        self.bias = nn.Embedding(num_classes, channels)
        nn.init.ones_(self.gain.weight)
        nn.init.zeros_(self.bias.weight)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:  # (N, C) or (N, C, H, W), (N,)
        shape = (*x.shape[:2], *(1 for _ in x.shape[2:]))
        gain: Tensor = self.gain(labels).to(x.dtype).view(shape)
        bias: Tensor = self.bias(labels).to(x.dtype).view(shape)
        return x * gain + bias


class Generator(nn.Module):
    """(z, label) → image.

    z (N, z_dim) float32 ~ N(0, 1) and labels (N,) int64 give (N, 1, image_size, image_size) float32 in −1..1.

    Args:
        architecture: see the module.
        z_dim: size of the latent.
        class_embedding_dim: size of the class vector beside it.
        channels: width before each layer of growth (`mlp`: the hidden sizes).
        strides: growth of each convolution, 4 in all (`mlp`: none); the last convolution gives the image.
        upsampling: how a stride of 2 is made, but for compact's last, which is a pixel-shuffle.
        normalization: of the hidden layers.
        conditioning: `projection` adds a `ConditionalAffine` after each hidden layer; `concatenate` has the class
            vector beside z alone.
        leak: slope of the activation below 0; 0 is ReLU.
        noise: standard deviation of Gaussian noise before the last layer, in training only.
        num_classes, image_size: of the data.
    """

    def __init__(
        self,
        *,
        architecture: Architecture,
        z_dim: int,
        class_embedding_dim: int,
        channels: Sequence[int],
        strides: Sequence[int],
        upsampling: Upsampling,
        normalization: Normalization,
        conditioning: Conditioning,
        leak: float,
        noise: float,
        num_classes: int,
        image_size: int,
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "architecture": architecture,
            "z_dim": z_dim,
            "class_embedding_dim": class_embedding_dim,
            "channels": list(channels),
            "strides": list(strides),
            "upsampling": upsampling,
            "normalization": normalization,
            "conditioning": conditioning,
            "leak": leak,
            "noise": noise,
            "num_classes": num_classes,
            "image_size": image_size,
        }
        self.z_dim, self.num_classes, self.image_size = z_dim, num_classes, image_size
        self.dense, self.leak, self.noise = architecture == "mlp", leak, noise
        self.grid = 1 if self.dense else image_size // _GROWTH
        self.first_channels = channels[0]
        self.embedding = nn.Embedding(num_classes, class_embedding_dim)
        self.first = nn.Linear(z_dim + class_embedding_dim, channels[0] * self.grid**2)
        # The conditional affine that follows has a bias: a second one would only cost (on a CPU 4 % of a step).
        bias = conditioning == "concatenate"
        if self.dense:
            layers: list[nn.Module] = [nn.Linear(a, b, bias=bias) for a, b in itertools.pairwise(channels)]
            layers.append(nn.Linear(channels[-1], image_size**2))
        else:
            layers = [
                _growing(a, b, stride, upsampling, bias=bias)
                for a, b, stride in zip(channels[:-1], channels[1:], strides[:-1], strict=True)
            ]
            last: Upsampling = "pixel_shuffle" if architecture == "compact" else upsampling
            layers.append(_growing(channels[-1], 1, strides[-1], last, bias=True))
        self.layers = nn.ModuleList(layers)
        norm = nn.BatchNorm1d if self.dense else nn.BatchNorm2d
        self.norms = nn.ModuleList(
            # The conditional affine that follows does the scaling, where there is one.
            norm(width, affine=conditioning == "concatenate") if normalization == "batch" else nn.Identity()
            for width in channels
        )
        self.affines = nn.ModuleList(
            ConditionalAffine(num_classes=num_classes, channels=width)
            for width in channels
            if conditioning == "projection"
        )

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        x = self.first(torch.cat([z, self.embedding(labels)], dim=1))
        if not self.dense:  # channels last, as the convolutions want it: no copy
            x = x.view(-1, self.grid, self.grid, self.first_channels).permute(0, 3, 1, 2)
        for i, layer in enumerate(self.layers):
            x = self.norms[i](x)
            if self.affines:
                x = self.affines[i](x, labels)
            x = F.leaky_relu(x, self.leak, inplace=True)
            if self.training and self.noise and i == len(self.layers) - 1:
                x = x + self.noise * torch.randn_like(x)
            x = layer(x)
        # float32 from here on, whatever the layers computed in: 256 grey levels need more than bfloat16's 8 bits.
        return torch.tanh(x.float()).view(-1, 1, self.image_size, self.image_size)


def _growing(
    in_channels: int, out_channels: int, stride: int, upsampling: Upsampling, *, bias: bool
) -> nn.Module:
    """A convolution to `stride` times the side."""
    if stride == 1:
        return nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=bias)
    if upsampling == "transposed":
        return nn.ConvTranspose2d(in_channels, out_channels, kernel_size=4, stride=2, padding=1, bias=bias)
    if upsampling == "nearest":  # no checkerboard (Odena et al. 2016)
        convolution = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=bias)
        return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), convolution)
    # Always a bias: the four pixels that one channel becomes have one each, a conditional affine one for all.
    return nn.Sequential(
        nn.Conv2d(in_channels, 4 * out_channels, kernel_size=3, padding=1), nn.PixelShuffle(2)
    )


class Discriminator(nn.Module):
    """(image, label) → logit.

    Images (N, 1, image_size, image_size) float32 in −1..1 and labels (N,) int64 give (N,) float32; larger is
    more real.

    Args:
        architecture: see the module.
        class_embedding_dim: `mlp` with `concatenate`: size of the class vector beside the pixels.
        channels: width after each convolution (`mlp`: the hidden sizes).
        strides: of each convolution (`mlp`: none); compact has halved the side before.
        features: width of a dense layer before the score; 0 for none.
        conditioning: `projection` adds ⟨embedding of the label, features⟩ to the score (Miyato & Koyama 2018,
            arXiv:1802.05637), not divided by √features: scaled, the GAN learns its classes far more slowly.
            `concatenate` puts a learned map of the label beside the image (Mirza & Osindero 2014,
            arXiv:1411.1784).
        dropout: after each hidden layer.
        spectral_norm: on every layer but embeddings (Miyato et al. 2018, arXiv:1802.05957).
        num_classes, image_size: of the data.
    """

    def __init__(
        self,
        *,
        architecture: Architecture,
        class_embedding_dim: int,
        channels: Sequence[int],
        strides: Sequence[int],
        features: int,
        conditioning: Conditioning,
        dropout: float,
        spectral_norm: bool,
        num_classes: int,
        image_size: int,
    ) -> None:
        super().__init__()
        self.dense, self.compact, self.dropout = architecture == "mlp", architecture == "compact", dropout
        self.label_map: nn.Embedding | None = None
        if conditioning == "concatenate":
            self.label_map = nn.Embedding(
                num_classes, class_embedding_dim if self.dense else image_size * image_size
            )
        layers: list[nn.Module] = []
        if self.dense:
            width = image_size**2 + (class_embedding_dim if self.label_map else 0)
            for hidden in channels:
                layers.append(nn.Linear(width, hidden))
                width = hidden
        else:
            inputs = 2 if self.label_map else 1
            size, inputs = (image_size // 2, 4 * inputs) if self.compact else (image_size, inputs)
            for outputs, stride in zip(channels, strides, strict=True):
                # A kernel of 4 shares the pixels of an even side evenly; an odd side (7 → 4) needs one of 3.
                kernel = 4 if stride == 2 and size % 2 == 0 else 3
                layers.append(nn.Conv2d(inputs, outputs, kernel_size=kernel, stride=stride, padding=1))
                size, inputs = (size + 2 - kernel) // stride + 1, outputs
            width = inputs * size**2
        self.hidden_layers = len(layers) + (1 if features else 0)
        if features:
            layers.append(nn.Linear(width, features))
            width = features
        layers.append(nn.Linear(width, 1))
        self.layers = nn.ModuleList(normalize_spectrum(layer) if spectral_norm else layer for layer in layers)
        self.projection = nn.Embedding(num_classes, width) if conditioning == "projection" else None

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        x = images.flatten(1) if self.dense else images
        if self.label_map is not None:
            label_map = self.label_map(labels)
            x = torch.cat([x, label_map if self.dense else label_map.view(images.shape)], dim=1)
        if self.compact:
            x = F.pixel_unshuffle(x, 2)
        for layer in self.layers[: self.hidden_layers]:
            x = layer(_flat(x) if isinstance(layer, nn.Linear) else x)
            x = F.dropout(F.leaky_relu(x, _LEAK, inplace=True), self.dropout, self.training)
        x = _flat(x)
        logits: Tensor = self.layers[-1](x).float().squeeze(1)
        if self.projection is not None:
            logits = logits + (self.projection(labels) * x.float()).sum(1)
        return logits


def _flat(x: Tensor) -> Tensor:
    """(N, C, H, W) → (N, H·W·C): the order of channels_last, so that nothing is copied. (N, F) stays as it is."""
    return x.permute(0, 2, 3, 1).flatten(1) if x.ndim == 4 else x


def images_from_uint8(images: Tensor) -> Tensor:
    """uint8 in 0..255 → float32 in −1..1, the range of the GAN."""
    return images.float().div_(127.5).sub_(1)


def uint8_from_images(images: Tensor) -> Tensor:
    """float32 in −1..1 → uint8 in 0..255, to the nearest."""
    return images.add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
