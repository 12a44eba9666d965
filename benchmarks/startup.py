"""Process starts: `synthgain --help`, a stage before its first useful work, and `dvc repro` with nothing to do.

The reference is Python's own start. The last line needs a finished `dvc repro` in this folder; else it is left out.

python benchmarks/startup.py
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from result import Result, show

ROOT = Path(__file__).parents[1]
# What every training stage imports and does before it reads its data.
_STAGE = """
import stages.train_gan
from pipeline.params import load_params
from pipeline.runtime.device import configure
import pipeline.gan.training
configure(load_params(__import__("pathlib").Path("params.yaml")).execution)
"""
_TURNS = 5


def _seconds(*command):
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - start


def measure():
    """Median seconds of each, in turns with `python -c pass`."""
    tools = Path(sys.executable).parent
    commands = {
        "synthgain --help": ((str(tools / "synthgain"), "--help"), "0.3 s"),
        "a stage before its first useful work": ((sys.executable, "-c", _STAGE), "3 s"),
    }
    status = subprocess.run(
        (str(tools / "dvc"), "status", "--quiet"), cwd=ROOT, check=False, capture_output=True
    )
    if status.returncode == 0:
        commands["dvc repro, nothing to do"] = ((str(tools / "dvc"), "repro"), "3 s")
    turns = [
        {name: _seconds(*command) for name, (command, _) in commands.items()}
        | {"python": _seconds(sys.executable, "-c", "pass")}
        for _ in range(_TURNS)
    ]
    python = statistics.median(turn["python"] for turn in turns)
    results = []
    for name, (_, wanted) in commands.items():
        ours = statistics.median(turn[name] for turn in turns)
        results.append(
            Result(
                what=name,
                ours=ours,
                reference=python,
                unit="s",
                ratio=python / ours,
                wanted=wanted,
                against="python -c pass",
            )
        )
    return results


if __name__ == "__main__":
    show(measure())
