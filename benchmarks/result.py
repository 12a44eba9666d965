"""One line of the benchmark table: a figure against a reference that was measured in the same run."""

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from pipeline.runtime.device import available_cores


@dataclass(frozen=True)
class Result:
    """What was measured.

    Attributes:
        what: for the reader.
        ours, reference: two figures of the same unit, taken in turns.
        unit: of both.
        ratio: how many times better ours is: above 1 is better, whichever way the unit points.
        wanted: the ratio, or the absolute figure, that the project asks for.
        against: what the reference is.
    """

    what: str
    ours: float
    reference: float
    unit: str
    ratio: float
    wanted: str
    against: str


def machine() -> str:
    """The processor, its cores, and what it multiplies natively."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    capabilities = torch.cpu.get_capabilities()
    facts = [
        names[0] if names else platform.processor(),
        f"{available_cores()} cores",
        *(name for name in ("avx512_bf16", "amx_bf16") if capabilities.get(name)),
        f"torch {torch.__version__}",
        f"load {os.getloadavg()[0]:.1f} before",
    ]
    return ", ".join(facts)


def show(results: list[Result]) -> None:
    """Print the table."""
    table = Table("what", "ours", "reference", "unit", "ratio", "wanted", "against", title=machine())
    for one in results:
        table.add_row(
            one.what,
            f"{one.ours:,.3g}",
            f"{one.reference:,.3g}",
            one.unit,
            f"{one.ratio:.3g}",
            one.wanted,
            one.against,
        )
    Console(width=150).print(table)


def save(results: list[Result], path: Path) -> None:
    """Write the results and the machine as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps({"machine": machine(), "results": [asdict(one) for one in results]}, indent=2) + "\n"
    )
