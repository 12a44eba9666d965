"""What the generative metrics say of the exported images, beside floor and copycat."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import SynthGainError


def read_quality(path: Path, *, replicate: int) -> dict[str, Any]:
    """The metrics of one replicate from `data/metrics/synthetic/<budget>.json` (JSON values).

    Args:
        path: that file.
        replicate: its number, from 1.

    Raises:
        SynthGainError: if the file cannot be read or lacks the replicate.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        row = table["replicates"][str(replicate)]
        quality: dict[str, Any] = {
            "n": table["n"],
            "extractor_sha256": table["extractor_sha256"],
            "synthetic": _numbers(row),
            **{anchor: _numbers(table[anchor]) for anchor in ("floor", "copycat")},
        }
    except FileNotFoundError:
        raise SynthGainError(f"{path}: no such file; `dvc repro evaluate_synthetic` makes it") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SynthGainError(
            f"{path}: not readable metrics of replicate {replicate} ({error}); `dvc repro` makes them again"
        ) from None
    found = row.get("memorization")
    verdict = None if found is None else {name: found[name] for name in ("passed", "reason")}
    return {**quality, "memorization": verdict}


def memorization_refusal(quality: Mapping[str, Any], *, where: str) -> str | None:
    """Why images are not to be handed over, with the ways out; None if they passed the memorisation gate."""
    verdict = quality["memorization"]
    if verdict is None or verdict["passed"]:
        return None
    return (
        f"{where}: these images did not pass the memorisation gate: {verdict['reason']}. Export another budget or"
        " replicate (export.real_images, export.replicate), train with more real images or more"
        " gan.real_augmentation, or set export.allow_memorized to true: the data card will say so"
    )


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in row.items() if isinstance(value, int | float)}
