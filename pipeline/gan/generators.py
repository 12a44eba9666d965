"""A trained generator on disk: averaged weights, constructor arguments, and what it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pipeline.checkpoints import load_checkpoint, save_checkpoint
from pipeline.errors import SynthGainError
from pipeline.gan.networks import Generator, GeneratorDesign

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
    try:
        generator = Generator(GeneratorDesign(**metadata["arguments"]))
        generator.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:  # another version's, or edited
        reason = " ".join(str(error).split())[:200]
        raise SynthGainError(
            f"{path}: not a generator of this version of SynthGain ({reason}); train it again"
        ) from None
    generator = generator.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return generator, tuple(metadata["class_names"]), metadata["provenance"]
