"""The state of a GAN training: all that it needs to go on. New, saved to disk, and read back."""

from __future__ import annotations

import copy
import hashlib
import io
import math
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from pipeline.errors import SynthGainError
from pipeline.gan.layers import discriminator_layers, generator_layers
from pipeline.gan.networks import Discriminator, DiscriminatorDesign, Generator, GeneratorDesign
from pipeline.gan.options import PaperGan, all_options
from pipeline.images import LabeledImages
from pipeline.params import Gan
from pipeline.runtime.outputs import atomic_output
from pipeline.runtime.seeds import derive_seed, torch_generator

_FILE = "state.pt"
_DIGEST_BYTES = 32  # SHA-256 of what follows


@dataclass
class TrainingState:
    """A training after `step` steps.

    Batches are a function of the step, and so no state. `history` and `film` grow with the training.
    """

    generator: Generator
    discriminator: Discriminator
    averaged: Generator
    g_optimizer: torch.optim.Adam
    d_optimizer: torch.optim.Adam
    z_rng: torch.Generator
    augment_rng: torch.Generator
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    film: list[npt.NDArray[np.uint8]] = field(default_factory=list)


def resumed_state(
    real: LabeledImages, gan: Gan, *, seed: int, device: torch.device, folder: Path | None
) -> TrainingState:
    """The state that `save_state` left in a folder; a new one if there is none, or no folder.

    One that cannot be read is set aside as `state.pt.damaged`, which is said, and the training starts anew: a state
    saves time and nothing else, and must not stop what could be computed again.

    Raises:
        OSError, MemoryError: if the file may be whole, but cannot be read here and now.
    """
    state = new_state(real, gan, seed=seed, device=device)
    file = None if folder is None else folder / _FILE
    if file is None or not file.is_file():
        return state
    try:
        load_state(state, file)
    except SynthGainError as error:
        aside = file.with_name(f"{_FILE}.damaged")
        file.replace(aside)
        print(f"{error}; set aside as {aside.name}, this training starts anew", file=sys.stderr, flush=True)
        return new_state(real, gan, seed=seed, device=device)  # the other one may be half of the file's
    return state


def new_state(real: LabeledImages, gan: Gan, *, seed: int, device: torch.device) -> TrainingState:
    """Networks with new weights and all that goes with them, on a device.

    Seeds torch's own stream: the initial weights, noise layers, dropout and interpolation points draw from it.
    """
    torch.manual_seed(derive_seed(seed, "weights"))
    options = all_options(gan)
    generator, discriminator = _new_generator(real, options), _new_discriminator(real, options)
    # channels_last: the layout that the CPU's and the GPU's convolutions compute in.
    generator = generator.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    discriminator = discriminator.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return TrainingState(
        generator,
        discriminator,
        averaged=copy.deepcopy(generator).eval().requires_grad_(False),
        g_optimizer=_adam(generator, gan, gan.generator_learning_rate, device),
        d_optimizer=_adam(discriminator, gan, gan.discriminator_learning_rate, device),
        z_rng=torch_generator(derive_seed(seed, "z"), device),
        augment_rng=torch_generator(derive_seed(seed, "augment"), device),
    )


def _new_generator(real: LabeledImages, gan: PaperGan) -> Generator:
    side = real.images.shape[-1]
    channels, strides = generator_layers(gan, side=side)
    grid = side // math.prod(strides)
    return Generator(
        GeneratorDesign(
            architecture=gan.architecture,
            z_dim=gan.z_dim * (grid**2 if gan.noise_grid else 1),
            class_embedding_dim=gan.class_embedding_dim,
            channels=channels,
            strides=strides,
            upsampling=gan.upsampling,
            normalization=gan.normalization,
            conditioning=gan.conditioning,
            leak=gan.generator_leak,
            noise=gan.generator_noise,
            num_classes=real.num_classes,
            image_size=side,
            image_channels=real.channels,
            latents=gan.latents,
            noise_grid=gan.noise_grid,
            hidden_bias=gan.hidden_bias,
            dropout=gan.generator_dropout,
        )
    )


def _new_discriminator(real: LabeledImages, gan: PaperGan) -> Discriminator:
    side = real.images.shape[-1]
    channels, strides = discriminator_layers(gan, side=side)
    return Discriminator(
        DiscriminatorDesign(
            architecture=gan.architecture,
            class_embedding_dim=gan.class_embedding_dim,
            channels=channels,
            strides=strides,
            features=gan.discriminator_features,
            conditioning=gan.conditioning,
            dropout=gan.dropout,
            spectral_norm=gan.spectral_norm,
            normalization=gan.discriminator_normalization,
            noise=gan.discriminator_noise,
            num_classes=real.num_classes,
            image_size=side,
            image_channels=real.channels,
        )
    )


def _adam(network: nn.Module, gan: Gan, learning_rate: float, device: torch.device) -> torch.optim.Adam:
    betas = float(gan.beta1), float(gan.beta2)
    # capturable: its steps can be part of a CUDA graph.
    return torch.optim.Adam(
        network.parameters(), lr=learning_rate, betas=betas, fused=True, capturable=device.type == "cuda"
    )


_MODULES = ("generator", "discriminator", "averaged", "g_optimizer", "d_optimizer")
_STREAMS = ("z_rng", "augment_rng")


def save_state(state: TrainingState, folder: Path) -> None:
    """Write a state whole or not at all: plain tensors and numbers, no pickled object."""
    content = {
        **{name: getattr(state, name).state_dict() for name in _MODULES},
        **{name: getattr(state, name).get_state() for name in _STREAMS},
        "torch_rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "step": state.step,
        "history": state.history,
        "film": torch.from_numpy(np.stack(state.film)),
    }
    # Through memory: torch's own writer says "unexpected pos" where the system says that the disk is full.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_output(folder / _FILE) as temporary, temporary.open("wb") as file:
        file.write(hashlib.sha256(buffer.getbuffer()).digest())
        file.write(buffer.getbuffer())


def load_state(state: TrainingState, file: Path) -> None:
    """Bring a new state to where `save_state` left one.

    Raises:
        SynthGainError: if the file is damaged or of another training; `state` is of no use then.
        OSError, MemoryError: if the file may be whole, but cannot be read here and now.
    """
    # Read first: of a file that was cut off, torch's reader has the system say "invalid argument".
    whole = memoryview(file.read_bytes())
    digest, packed = whole[:_DIGEST_BYTES], whole[_DIGEST_BYTES:]
    if hashlib.sha256(packed).digest() != digest:
        # A changed value would be found later, or never: a moment of an optimiser, a row of the history.
        raise SynthGainError(f"{file}: not a readable state of this training (damaged, or edited)")
    try:
        content = torch.load(io.BytesIO(packed), weights_only=True, map_location="cpu")
        for name in _MODULES:
            getattr(state, name).load_state_dict(content[name])
        for name in _STREAMS:
            getattr(state, name).set_state(content[name])
        torch.set_rng_state(content["torch_rng"])
        if content["cuda_rng"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(content["cuda_rng"])
        state.step, state.history = int(content["step"]), list(content["history"])
        state.film = list(content["film"].numpy())
    except MemoryError:
        raise
    except Exception as error:  # torch.load and load_state_dict raise nearly anything on a damaged file
        raise SynthGainError(
            f"{file}: not a readable state of this training ({type(error).__name__})"
        ) from None
