"""Killed with SIGKILL at random moments and started again, a stage ends with the bytes of an uninterrupted run.

Also: two at once, and many trainings in one process.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
KILLS = 20
TRAININGS = 200
KILLED_STAGES = ("train_gan", "train_augmented", "generate", "export")

TINY = {
    "data": {"source": "digits", "image_size": 8, "validation_images": 100},
    "study": {
        "real_images": [60],
        "replicates": 2,
        "synthetic_per_real": [1.0],
        "arms": ["real", "real_affine", "synthetic", "synthetic_only", "extra_real"],
    },
    "gan": {
        "z_dim": 8,
        "generator_channels": [8, 4],
        "discriminator_channels": [4, 8, 8],
        "total_images": 640,
        "batch_size": 32,
        "history_points": 8,
        "film_strip_frames": 3,
        "collapse_patience_images": 0,  # so small a GAN draws nothing yet, and is not asked to
    },
    "generation": {"images_per_class": 300},
    "classifier": {"channels": 4, "feature_dim": 8, "steps": 10, "batch_size": 16},
    "extractor": {"channels": 4, "feature_dim": 8, "steps": 8, "batch_size": 32},
    "evaluation": {"images": 100},
    "report": {"grid_images_per_class": 2},
    "export": {"formats": ["idx", "npz"], "allow_memorized": True},
    "execution": {"device": "cpu", "precision": "float32", "threads": 1},
}

# Imports once and forks for each start: a kill costs what the stage costs, and not seconds of imports. Nothing
# of torch is computed before a fork, so no thread is left behind in it.
HARNESS = """
import json, os, random, shutil, signal, sys, time
from pathlib import Path

import numpy, pandas, pyarrow, safetensors.torch, scipy.special, torch
import pipeline.classifier.replicates, pipeline.export.dataset, pipeline.gan.film, pipeline.gan.training
import synthgain.app

kills, seed = int(sys.argv[1]), int(sys.argv[2])
moments = random.Random(seed)
COMMANDS = json.loads(sys.argv[3])


def start(arguments):
    process = os.fork()
    if process == 0:
        sys.argv = ["synthgain", *arguments]
        sys.stdout = sys.stderr = open("said.txt", "a")
        try:
            synthgain.app.main()
            status = 0
        except SystemExit as ending:
            status = int(ending.code or 0)
        except BaseException:
            status = 99
        sys.stdout.flush()
        os._exit(status)
    return process


def wait(process):
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def remove(path):
    if Path(path).is_dir():
        shutil.rmtree(path)
    else:
        Path(path).unlink(missing_ok=True)


def contents(outputs):
    found = {}
    for output in outputs:
        files = [Path(output)] if Path(output).is_file() else sorted(Path(output).rglob("*"))
        for path in files:
            if path.is_file():
                content = path.read_bytes()
                if path.suffix == ".csv":  # a history tells how fast it went: that is no result
                    content = pandas.read_csv(path).drop(columns="images_per_second").to_csv().encode()
                found[str(path)] = content
    return found


def different(one, other):
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def left_over(outputs):
    places = {Path(output).parent for output in outputs}
    return sorted(
        str(path)
        for path in [*(each for place in places for each in place.iterdir()), *Path(".work").rglob("*")]
        if path.name.endswith((".tmp", ".partial")) or path.parent.name == "unfinished"
    )


report = {}
for name, arguments, outputs, is_killed in COMMANDS:
    began = time.monotonic()
    status = wait(start(arguments))
    lasted = time.monotonic() - began
    assert status == 0, (name, status, Path("said.txt").read_text()[-2000:])
    if not is_killed:
        continue
    whole = contents(outputs)
    for output in (*outputs, ".work"):  # with the store: else all would be found there
        remove(output)
    killed, starts, problems = 0, 0, []
    while killed < kills and starts < 10 * kills:
        starts += 1
        delay = moments.uniform(0, lasted)
        process = start(arguments)
        time.sleep(delay)
        os.kill(process, signal.SIGKILL)
        if wait(process) == 0:  # it had ended before: later moments meet nothing
            lasted = min(lasted, delay)
            if contents(outputs) != whole:
                problems.append(f"{name}: after {killed} kills other bytes in {different(whole, contents(outputs))}")
            for output in (*outputs, ".work"):
                remove(output)
        else:
            killed += 1
    status = wait(start(arguments))
    if status != 0:
        problems.append(f"{name}: status {status}: {Path('said.txt').read_text()[-500:]}")
    elif contents(outputs) != whole:
        problems.append(f"{name}: after {killed} kills other bytes in {different(whole, contents(outputs))}")
    problems += [f"{name}: left over: {path}" for path in left_over(outputs)]
    report[name] = {"killed": killed, "files": len(whole), "problems": problems, "seconds": lasted}
print(json.dumps(report))
"""

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


def own_environment() -> dict[str, str]:
    """Without the store of the tests: what a command finds is what it has made in its folder."""
    return {name: value for name, value in os.environ.items() if name != "SYNTHGAIN_STORE"}


def tiny_params(folder: Path, *, threads: int = 1, **gan: object) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section, own in TINY.items():
        values[section] |= own
    values["gan"] |= gan
    values["execution"]["threads"] = threads
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))


def commands() -> list[tuple[str, list[str], list[str], bool]]:
    """(stage, arguments, outputs, whether it is killed), in an order in which each finds its inputs."""
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    result = []
    for stage in (
        "download",
        "prepare",
        "train_extractor",
        "label_pool",
        "train_gan",
        "generate",
        "evaluate_synthetic",
        "train_baselines",
        "train_controls",
        "score_labels",
        "train_fill",
        "train_augmented",
        "train_pool",
        "evaluate_classifiers",
        "compare",
        "export",
    ):
        text = json.dumps(stages[stage])
        ratio = " --synthetic_per_real 1.0" if "synthetic_per_real" in stages[stage].get("matrix", {}) else ""
        for name, value in (
            ("${item.budget}", "60"),
            ("${item.synthetic_per_real}", "1.0"),
            ("${data.folder}", "data/own"),
            ("${item}", "--budget 60" + ratio),
        ):
            text = text.replace(name, value)
        entry = json.loads(text)
        outputs = [out if isinstance(out, str) else next(iter(out)) for out in entry.get("outs", [])]
        arguments = ["stage", stage.replace("_", "-"), *entry["cmd"].split()[3:]]
        is_killed = stage in KILLED_STAGES
        result.append((stage, arguments, outputs, is_killed))
    return result


@pytest.mark.parametrize(
    "kills, threads",
    [
        pytest.param(2, 1, id="a few", marks=pytest.mark.slow),
        pytest.param(KILLS, 1, id="many", marks=[pytest.mark.slow, pytest.mark.soak]),
        pytest.param(2, 2, id="side by side", marks=[pytest.mark.slow, pytest.mark.soak]),
    ],
)
def test_killed_at_random_moments_it_ends_byte_equal(tmp_path, kills, threads):
    """With one thread the trainings of a stage run in its own process, with two in workers."""
    tiny_params(tmp_path, threads=threads)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", HARNESS, str(kills), "7", json.dumps(commands())],
        cwd=tmp_path,
        env={**own_environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert set(report) == set(KILLED_STAGES)
    assert [problem for each in report.values() for problem in each["problems"]] == []
    assert {each["killed"] for each in report.values()} == {kills}


SOAK = """
import gc, json, os, sys
from pathlib import Path

import numpy as np
import psutil
import torch

from pipeline.classifier.training import Recipe, train_classifier
from pipeline.gan.training import train_gan
from pipeline.images import LabeledImages
from pipeline.params import load_params
from pipeline.runtime.device import configure

params = load_params(Path("params.yaml"))
device = configure(params.execution)
rng = np.random.default_rng(0)
real = LabeledImages(
    rng.integers(0, 255, (60, 1, 8, 8), dtype=np.uint8), np.arange(60, dtype=np.int64) % 10, tuple("0123456789")
)
process, seen = psutil.Process(), []
for number in range(int(sys.argv[1])):
    run = train_gan(
        real, params.gan, seed=number, device=device, scratch=Path("scratch") / str(number), label="soak",
        advance=lambda units, note="": None,
    )
    train_classifier(
        Recipe(real, number), params.extractor, device=device, advance=lambda units, note="": None,
    )
    LabeledImages(real.images, real.labels, real.class_names, {}).save(Path("images.npz"))
    LabeledImages.load(Path("images.npz"))
    del run
    gc.collect()
    seen.append((process.memory_info().rss, process.num_fds(), process.num_threads(), len(gc.get_objects())))
print(json.dumps(seen))
"""


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts file handles")
def test_many_trainings_in_one_process_take_no_more_memory_and_no_more_handles(tmp_path):
    tiny_params(tmp_path, total_images=160, history_points=2, film_strip_frames=2)
    done = subprocess.run(
        [sys.executable, "-c", SOAK, str(TRAININGS)],
        cwd=tmp_path,
        env={**own_environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert len(seen) == TRAININGS
    settled, last = seen[TRAININGS // 4], seen[-1]  # caches and pools fill in the first trainings
    memory, handles, threads, objects = (after - before for before, after in zip(settled, last, strict=True))
    assert (handles, threads) == (0, 0)
    assert memory < 20e6, f"{memory / 1e6:.1f} MB more after {TRAININGS * 3 // 4} trainings"
    assert objects < 1000
