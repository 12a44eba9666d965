"""Weights and constructor arguments in one safetensors file: plain tensors and JSON, never a pickled object."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import SynthGainError
from pipeline.runtime.outputs import atomic_output

if TYPE_CHECKING:
    import torch

# One key only: safetensors writes several keys in an order of its own, and the bytes would differ from run to run.
_KEY = "synthgain"


def save_checkpoint(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors (by name, on any device) with JSON metadata; the same content gives the same bytes.

    `metadata["kind"]` says what it is, `metadata["arguments"]` are the constructor arguments of the network.
    """
    from safetensors.torch import save_file

    with atomic_output(path) as temporary:
        save_file(
            {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()},
            temporary,
            metadata={_KEY: json.dumps(dict(metadata), sort_keys=True)},
        )


def load_checkpoint(path: Path, *, kind: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read tensors (on the CPU) and metadata.

    Raises:
        SynthGainError: if the file is missing, damaged, or not of this kind.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise SynthGainError(f"{path}: no such file; `dvc repro` makes it")
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, Any] = json.loads((file.metadata() or {})[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, KeyError, ValueError) as error:
        raise SynthGainError(f"{path}: not a readable SynthGain checkpoint ({error})") from None
    if metadata.get("kind") != kind:
        raise SynthGainError(f"{path}: holds a {metadata.get('kind')}, a {kind} is needed")
    return tensors, metadata


def file_sha256(path: Path) -> str:
    """The hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tensors_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    """The hash of named tensors: names, shapes, dtypes and bytes, on whichever device they are."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
