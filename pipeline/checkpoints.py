"""Weights and constructor arguments in one safetensors file: plain tensors and JSON, never a pickled object."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.errors import SynthGainError
from pipeline.runtime.outputs import atomic_output

if TYPE_CHECKING:
    import torch

    Network = TypeVar("Network", bound=torch.nn.Module)

# One key only: safetensors writes several keys in an order of its own, and the bytes would differ from run to run.
_KEY = "synthgain"


def save_checkpoint(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, Any]) -> None:
    """Write tensors (by name, on any device) with JSON metadata; the same content gives the same bytes.

    `metadata["kind"]` says what it is, `metadata["arguments"]` are the constructor arguments of the network.
    """
    text = {_KEY: json.dumps(dict(metadata), sort_keys=True)}
    if tensors:
        from safetensors.torch import save

        copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        content = save(copies, metadata=text)
    else:  # of a stage with nothing to train, which need not import torch (two seconds)
        from safetensors import serialize

        content = serialize({}, metadata=text)
    with atomic_output(path) as temporary:
        # Not `save_file`: its files have mode 0600 whatever the umask, and a colleague could not read them.
        temporary.write_bytes(content)


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
            metadata: Any = json.loads((file.metadata() or {})[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise SynthGainError(f"{path}: not a readable SynthGain checkpoint ({error})") from None
    if not isinstance(metadata, dict):
        raise SynthGainError(
            f"{path}: not a readable SynthGain checkpoint (its metadata are no keys and values)"
        )
    if metadata.get("kind") != kind:
        raise SynthGainError(f"{path}: holds a {metadata.get('kind')}, a {kind} is needed")
    return tensors, metadata


@contextmanager
def refused_if_edited(path: Path, *, kind: str, remedy: str) -> Iterator[None]:
    """While the block makes something of a checkpoint, whatever does not fit is a fault of the file, in one line.

    Args:
        path: of the checkpoint.
        kind: what it should be, in words: "feature extractor".
        remedy: what to do then.

    Raises:
        SynthGainError: if the block raises what a wrong value, size, name or type leads to.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise SynthGainError(
            f"{path}: not a {kind} of this version of SynthGain ({reason}); {remedy}"
        ) from None


def network_with_weights(build: Callable[[], Network], weights: Mapping[str, torch.Tensor]) -> Network:
    """A network with these weights, which must have its names, shapes and dtypes; checked before memory is taken.

    Raises:
        ValueError: if they do not fit, or are not finite.
        Exception: whatever `build` raises.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    class NoInitialValues(TorchFunctionMode):
        """Initialisers do nothing: to draw numbers that nobody holds, torch would import its compiler (1.9 s)."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if getattr(func, "__module__", None) == "torch.nn.init":
                return None
            return func(*args, **(kwargs or {}))

    # No memory: an edited size may ask for terabytes.
    with warnings.catch_warnings(), torch.device("meta"), NoInitialValues():
        warnings.simplefilter("ignore")  # torch warns of a size of 0, which is refused below
        wanted = build().state_dict()
    if missing := sorted(wanted.keys() ^ weights.keys()):
        raise ValueError(f"weights {', '.join(missing[:3])} are in one of network and file only")
    for name, tensor in wanted.items():
        found = weights[name]
        if (found.shape, found.dtype) != (tensor.shape, tensor.dtype):
            raise ValueError(
                f"{name} is {tuple(found.shape)} {found.dtype}, {tuple(tensor.shape)} {tensor.dtype} is needed"
            )
        if not torch.isfinite(found).all():
            raise ValueError(f"{name} holds values that are no finite numbers")
    network = build()
    network.load_state_dict(dict(weights))
    return network


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
