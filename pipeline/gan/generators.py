"""A trained generator on disk: averaged weights, constructor arguments, and what it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pipeline.checkpoints import (
    load_checkpoint,
    network_with_weights,
    refused_if_edited,
    save_checkpoint,
)
from pipeline.gan.networks import Generator, GeneratorDesign
from pipeline.images import problem_of_class_names

GENERATOR_KIND = "generator"


def generator_path(folder: Path, member: int) -> Path:
    """The file of a replicate's generator: `generator.safetensors`; then `generator_1.safetensors` and so on."""
    return folder / (f"generator_{member}.safetensors" if member else "generator.safetensors")


def save_generator(
    path: Path, generator: Generator, *, class_names: tuple[str, ...], provenance: Mapping[str, Any]
) -> None:
    """Write weights, constructor arguments, class names and provenance (JSON values)."""
    save_checkpoint(
        path,
        generator.state_dict(),
        {
            "kind": GENERATOR_KIND,
            "arguments": generator.arguments,
            "class_names": list(class_names),
            "provenance": dict(provenance),
        },
    )


def load_generator(path: Path, device: torch.device) -> tuple[Generator, tuple[str, ...], dict[str, Any]]:
    """The generator on a device in evaluation mode, its class names and its provenance.

    Raises:
        SynthGainError: if the file is missing, damaged or no generator.
    """
    tensors, metadata = load_checkpoint(path, kind=GENERATOR_KIND)
    with refused_if_edited(path, kind=GENERATOR_KIND, remedy="train it again"):
        generator = network_with_weights(lambda: Generator(GeneratorDesign(**metadata["arguments"])), tensors)
        class_names = tuple(str(name) for name in list(metadata["class_names"]))
        if problem := problem_of_class_names(class_names):
            raise ValueError(problem)
        if len(class_names) != generator.num_classes:
            raise ValueError(f"{len(class_names)} class names for {generator.num_classes} classes")
        provenance = dict(metadata["provenance"])
        with torch.no_grad():  # what is no weight, such as the slope of an activation, shows when it computes
            generator.eval()(torch.zeros(1, generator.z_dim), torch.zeros(1, dtype=torch.int64))
    generator = generator.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return generator, class_names, provenance
