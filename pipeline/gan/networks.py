"""Generator and discriminator: three architectures, one conditioning, one top-to-bottom read.

`compact` is the project's own, made for few CPU cores: it works at half the image resolution as far as it can,
because a CPU is slowest at convolutions over one full-resolution channel. Its discriminator starts with a
pixel-unshuffle (space to depth), its generator ends with a pixel-shuffle (Shi et al. 2016, arXiv:1609.05158).
`dcgan` is the same body without the two (Radford et al. 2016, arXiv:1511.06434), `mlp` has dense layers only
(Goodfellow et al. 2014, arXiv:1406.2661).

The functions named after an architecture hold what is special to it; the rest is common to all.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm as normalize_spectrum

Architecture = Literal["compact", "dcgan", "mlp"]
Conditioning = Literal["projection", "concatenate", "none"]
Upsampling = Literal["transposed", "nearest", "pixel_shuffle"]
Normalization = Literal["none", "batch"]
Latents = Literal["normal", "uniform"]

# Slope of the discriminator's LeakyReLU below 0, the value of nearly every GAN since DCGAN.
_LEAK = 0.2


@dataclass(frozen=True, kw_only=True)
class GeneratorDesign:
    """What a generator is built from; with its weights, all that a checkpoint needs.

    Attributes:
        architecture: see the module.
        z_dim: size of the latent.
        class_embedding_dim: size of the class vector beside it.
        channels: width before each layer of growth (`mlp`: the hidden sizes).
        strides: growth of each convolution, from the first grid to the side (`mlp`: none); the last gives the image.
        upsampling: how a stride of 2 is made; compact's last one is always a pixel-shuffle.
        normalization: of the hidden layers.
        conditioning: `projection` adds a `ConditionalAffine` after each hidden layer; `concatenate` has the class
            vector beside z alone; `none` has no classes: labels are not read.
        leak: slope of the activation below 0; 0 is ReLU.
        noise: standard deviation of Gaussian noise before the last layer, in training only.
        num_classes, image_size, image_channels: of the data.
        latents: `normal` is N(0, 1), `uniform` is −1..1.
        noise_grid: z itself is the first grid, (grid, grid, channels[0]); without it a dense layer makes the grid.
        hidden_bias: whether layers before the last have a bias (see `layer_bias`).
        dropout: after each hidden activation, in training only.
    """

    architecture: Architecture
    z_dim: int
    class_embedding_dim: int
    channels: Sequence[int]
    strides: Sequence[int]
    upsampling: Upsampling
    normalization: Normalization
    conditioning: Conditioning
    leak: float
    noise: float
    num_classes: int
    image_size: int
    # Files of generators from before these were options do not have them: this is what those generators are.
    latents: Latents = "normal"
    noise_grid: bool = False
    hidden_bias: bool = True
    dropout: float = 0.0
    image_channels: int = 1

    @property
    def grid(self) -> int:
        """The side of the first grid; `mlp` has one cell."""
        return 1 if self.architecture == "mlp" else self.image_size // math.prod(self.strides)

    @property
    def layer_bias(self) -> bool:
        """Whether layers after the first have a bias: beside that of a conditional affine it costs 4 % of a step."""
        return self.hidden_bias and self.conditioning != "projection"


@dataclass(frozen=True, kw_only=True)
class DiscriminatorDesign:
    """What a discriminator is built from.

    Attributes:
        architecture: see the module.
        class_embedding_dim: `mlp` with `concatenate`: size of the class vector beside the pixels.
        channels: width after each convolution (`mlp`: the hidden sizes).
        strides: of each convolution (`mlp`: none); compact has halved the side before.
        features: width of a dense layer before the score; 0 for none.
        conditioning: `projection` adds ⟨embedding of the label, features⟩ to the score (Miyato & Koyama 2018,
            arXiv:1802.05637), not divided by √features: scaled, the GAN learns its classes far more slowly.
            `concatenate` puts a learned map of the label beside the image (Mirza & Osindero 2014,
            arXiv:1411.1784). `none` does not read the labels.
        dropout: after each hidden layer.
        spectral_norm: on every layer and on the projection's embedding (Miyato et al. 2018, arXiv:1802.05957); a
            map of the label is input, and bounds nothing.
        normalization: of the hidden layers, before the activation. Batch norm mixes the images of a pass: give real
            and fake images a pass each.
        noise: standard deviation of Gaussian noise on the flat features before the score, in training only.
        num_classes, image_size, image_channels: of the data.
    """

    architecture: Architecture
    class_embedding_dim: int
    channels: Sequence[int]
    strides: Sequence[int]
    features: int
    conditioning: Conditioning
    dropout: float
    spectral_norm: bool
    normalization: Normalization
    noise: float
    num_classes: int
    image_size: int
    image_channels: int = 1

    @property
    def input_channels(self) -> int:
        """Channels of what a convolution sees at full resolution: the image, and the map of the label if it has one."""
        return self.image_channels + (self.conditioning == "concatenate")


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

    z (N, z_dim) float32, as the design's latents, and labels (N,) int64 give (N, image_channels, image_size,
    image_size) float32 in −1..1.

    A dense layer makes a grid with `channels[0]` channels from z and the class vector (`mlp`: a grid of one cell).
    Before each further layer come the normalization, the conditional affine and the activation.
    """

    def __init__(self, design: GeneratorDesign) -> None:
        super().__init__()
        self.design = design
        self.z_dim, self.num_classes, self.image_size = design.z_dim, design.num_classes, design.image_size
        self.latents = design.latents
        self.image_shape = design.image_channels, design.image_size, design.image_size
        self.is_dense = design.architecture == "mlp"
        self.grid = design.grid
        self.embedding: nn.Embedding | None = None
        inputs = design.z_dim
        if design.conditioning != "none":
            self.embedding = nn.Embedding(design.num_classes, design.class_embedding_dim)
            inputs += design.class_embedding_dim
        self.first: nn.Module = nn.Identity()
        if not design.noise_grid:
            self.first = nn.Linear(inputs, design.channels[0] * self.grid**2, bias=design.hidden_bias)
        self.layers = nn.ModuleList(_GENERATOR_LAYERS[design.architecture](design))
        batch_norm = nn.BatchNorm1d if self.is_dense else nn.BatchNorm2d
        self.norms = nn.ModuleList(
            # The conditional affine that follows does the scaling, where there is one.
            batch_norm(width, affine=design.conditioning != "projection")
            if design.normalization == "batch"
            else nn.Identity()
            for width in design.channels
        )
        self.affines = nn.ModuleList(
            ConditionalAffine(num_classes=design.num_classes, channels=width)
            for width in design.channels
            if design.conditioning == "projection"
        )

    @property
    def arguments(self) -> dict[str, Any]:
        """The design as JSON values: the metadata of a checkpoint. What a field says by itself is left out."""
        values = {each.name: getattr(self.design, each.name) for each in fields(self.design)}
        defaults = {each.name: each.default for each in fields(self.design) if each.default is not MISSING}
        return {name: value for name, value in values.items() if defaults.get(name, MISSING) != value}

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        x: Tensor = self.first(z if self.embedding is None else torch.cat([z, self.embedding(labels)], dim=1))
        if not self.is_dense:  # channels last, as the convolutions want it: no copy
            x = x.view(-1, self.grid, self.grid, self.design.channels[0]).permute(0, 3, 1, 2)
        for i, layer in enumerate(self.layers):
            x = self.norms[i](x)
            if self.affines:
                x = self.affines[i](x, labels)
            x = F.leaky_relu(x, self.design.leak, inplace=not self.design.noise_grid)
            if self.design.dropout:
                x = F.dropout(x, self.design.dropout, self.training)
            if self.training and self.design.noise and i == len(self.layers) - 1:
                x = x + self.design.noise * torch.randn_like(x)
            x = layer(x)
        # float32 from here on, whatever the layers computed in: 256 grey levels need more than bfloat16's 8 bits.
        return torch.tanh(x.float()).view(-1, *self.image_shape)


def _compact_generator_layers(design: GeneratorDesign) -> list[nn.Module]:
    """Convolutions from the grid to half the side, then a pixel-shuffle: nothing is computed at the full side."""
    return _convolutions_to_image(design, last_upsampling="pixel_shuffle")


def _dcgan_generator_layers(design: GeneratorDesign) -> list[nn.Module]:
    """Convolutions from the grid to the side."""
    return _convolutions_to_image(design, last_upsampling=design.upsampling)


def _mlp_generator_layers(design: GeneratorDesign) -> list[nn.Module]:
    """Dense layers from the first hidden size to the pixels."""
    hidden = [nn.Linear(a, b, bias=design.layer_bias) for a, b in itertools.pairwise(design.channels)]
    return [*hidden, nn.Linear(design.channels[-1], design.image_channels * design.image_size**2)]


_GENERATOR_LAYERS = {
    "compact": _compact_generator_layers,
    "dcgan": _dcgan_generator_layers,
    "mlp": _mlp_generator_layers,
}


def _convolutions_to_image(design: GeneratorDesign, *, last_upsampling: Upsampling) -> list[nn.Module]:
    """A convolution for each stride; the last one gives the image."""
    *strides, last_stride = design.strides
    hidden = [
        _growing_convolution(a, b, stride, design.upsampling, bias=design.layer_bias)
        for (a, b), stride in zip(itertools.pairwise(design.channels), strides, strict=True)
    ]
    last = _growing_convolution(
        design.channels[-1], design.image_channels, last_stride, last_upsampling, bias=True
    )
    return [*hidden, last]


def _growing_convolution(
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
    # Always a bias: it differs between the four pixels that a channel becomes; that of a conditional affine does not.
    return nn.Sequential(
        nn.Conv2d(in_channels, 4 * out_channels, kernel_size=3, padding=1), nn.PixelShuffle(2)
    )


class Discriminator(nn.Module):
    """(image, label) → logit.

    Images (N, image_channels, image_size, image_size) float32 in −1..1 and labels (N,) int64 give (N,) float32; larger
    is more real.
    """

    def __init__(self, design: DiscriminatorDesign) -> None:
        super().__init__()
        self.design = design
        self.is_dense = design.architecture == "mlp"
        self.label_map: nn.Embedding | None = None
        if design.conditioning == "concatenate":
            map_size = design.class_embedding_dim if self.is_dense else design.image_size**2
            self.label_map = nn.Embedding(design.num_classes, map_size)
        hidden, width = _DISCRIMINATOR_LAYERS[design.architecture](design)
        if design.features:
            hidden.append(nn.Linear(width, design.features))
            width = design.features
        self.hidden_layers = len(hidden)
        layers = [*hidden, nn.Linear(width, 1)]
        self.layers = nn.ModuleList(
            normalize_spectrum(layer) if design.spectral_norm else layer for layer in layers
        )
        widths = [*design.channels, *([design.features] if design.features else [])]
        self.norms = nn.ModuleList(
            nn.Identity()
            if design.normalization == "none"
            else (nn.BatchNorm1d if isinstance(layer, nn.Linear) else nn.BatchNorm2d)(size)
            for layer, size in zip(hidden, widths, strict=True)
        )
        self.projection: nn.Module | None = None
        if design.conditioning == "projection":
            embedding = nn.Embedding(design.num_classes, width)
            self.projection = normalize_spectrum(embedding) if design.spectral_norm else embedding

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        x = images.flatten(1) if self.is_dense else images
        if self.label_map is not None:  # a vector beside the pixels, or a map beside the image
            x = torch.cat([x, self.label_map(labels).view(len(x), -1, *x.shape[2:])], dim=1)
        if self.design.architecture == "compact":
            x = F.pixel_unshuffle(x, 2)
        for layer, norm in zip(self.layers[: self.hidden_layers], self.norms, strict=True):
            x = norm(layer(_flat(x) if isinstance(layer, nn.Linear) else x))
            x = F.dropout(F.leaky_relu(x, _LEAK, inplace=True), self.design.dropout, self.training)
        x = _flat(x)
        if self.training and self.design.noise:
            x = x + self.design.noise * torch.randn_like(x)
        logits: Tensor = self.layers[-1](x).float().squeeze(1)
        if self.projection is not None:
            logits = logits + (self.projection(labels) * x.float()).sum(1)
        return logits


# The hidden layers of a discriminator, and how many features of an image come out of them.
_Hidden = tuple[list[nn.Module], int]


def _compact_discriminator_layers(design: DiscriminatorDesign) -> _Hidden:
    """Convolutions after a pixel-unshuffle: half the side, four times the channels."""
    return _strided_convolutions(design, in_channels=4 * design.input_channels, side=design.image_size // 2)


def _dcgan_discriminator_layers(design: DiscriminatorDesign) -> _Hidden:
    """Convolutions over the image."""
    return _strided_convolutions(design, in_channels=design.input_channels, side=design.image_size)


def _mlp_discriminator_layers(design: DiscriminatorDesign) -> _Hidden:
    """Dense layers over the pixels, and the class vector beside them if it is there."""
    label_width = design.class_embedding_dim if design.conditioning == "concatenate" else 0
    widths = [design.image_channels * design.image_size**2 + label_width, *design.channels]
    return [nn.Linear(a, b) for a, b in itertools.pairwise(widths)], widths[-1]


_DISCRIMINATOR_LAYERS = {
    "compact": _compact_discriminator_layers,
    "dcgan": _dcgan_discriminator_layers,
    "mlp": _mlp_discriminator_layers,
}


def _strided_convolutions(design: DiscriminatorDesign, *, in_channels: int, side: int) -> _Hidden:
    """A convolution for each width and stride."""
    layers: list[nn.Module] = []
    for out_channels, stride in zip(design.channels, design.strides, strict=True):
        # A kernel of 4 shares the pixels of an even side evenly; an odd side (7 → 4) needs one of 3.
        kernel = 4 if stride == 2 and side % 2 == 0 else 3
        layers.append(nn.Conv2d(in_channels, out_channels, kernel_size=kernel, stride=stride, padding=1))
        side, in_channels = (side + 2 - kernel) // stride + 1, out_channels
    return layers, in_channels * side**2


def _flat(x: Tensor) -> Tensor:
    """(N, C, H, W) → (N, H·W·C): the order of channels_last, so that nothing is copied. (N, F) stays as it is."""
    return x.permute(0, 2, 3, 1).flatten(1) if x.ndim == 4 else x


def images_from_uint8(images: Tensor) -> Tensor:
    """uint8 in 0..255 → float32 in −1..1, the range of the GAN."""
    return images.float().div_(127.5).sub_(1)


def uint8_from_images(images: Tensor) -> Tensor:
    """float32 in −1..1 → uint8 in 0..255, to the nearest."""
    return images.add(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
