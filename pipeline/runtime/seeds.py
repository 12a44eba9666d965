"""Seeds: one for each purpose, passed on as generators and never ambient."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A seed in 0..2⁶³−1 of its own for each purpose: `derive_seed(7, "subset", 1000, 2)`.

    Purposes never share a stream, and adding one changes no other.
    """
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def torch_generator(seed: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A seeded `torch.Generator` on a device."""
    import torch

    return torch.Generator(device=device).manual_seed(seed)
