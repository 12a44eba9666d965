"""Result files of a small study, as the stages before `compare` and `report` write them."""

import functools
import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from hypothesis import settings
from PIL import Image

from pipeline.checkpoints import save_checkpoint
from pipeline.comparison.cells import load_cells, load_confusion
from pipeline.comparison.rare_classes import with_imbalance
from pipeline.comparison.verdict import compare_cells
from pipeline.images import LabeledImages
from pipeline.params import load_params
from pipeline.results import ResultFolders
from pipeline.study.arms import ARMS
from pipeline.study.grid import DeclaredArm, Grid
from pipeline.study.subsets import Budget, replicate_index, replicate_number
from pipeline.study.trained_gans import TrainedGans, save_trained_gans, trained_gans

# A loaded machine is no failure.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# MLflow asks the network for its telemetry's settings, in a thread and as soon as it is imported: a socket that
# nobody closes is then the error of whichever test runs at that moment.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

# A script's background job ignores Ctrl-C, and so does every process that it starts: here, those under test.
if (
    threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):
    signal.signal(signal.SIGINT, signal.default_int_handler)

REAL_PARAMS = Path(__file__).parents[1] / "params.yaml"
TEST_PER_CLASS = 100
FIVE_ARMS = ("real", "real_affine", "synthetic", "synthetic_affine", "synthetic_only")


# Results that a test keeps are no other test's, and none of this checkout's: each has a store of its own. What a
# module's fixtures keep goes into one of this process.
_store_of_modules = tempfile.TemporaryDirectory(prefix="synthgain-test-store-")
os.environ["SYNTHGAIN_STORE"] = _store_of_modules.name


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """MLflow's own SQLite store without runs, to copy: the fifty migrations that make one take seconds."""
    from pipeline.tracking.connection import make_database

    database = tmp_path_factory.mktemp("empty") / "mlflow.db"
    make_database(database)
    return database


@pytest.fixture(autouse=True)
def _store(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("SYNTHGAIN_STORE", str(tmp_path_factory.mktemp("store") / "store"))


@pytest.fixture(autouse=True)
def _process_switches_as_they_were():
    """`runtime.configure` sets switches of the whole process: a stage wants them, the next test does not."""
    yield
    if "torch" in sys.modules:
        import torch

        torch.set_flush_denormal(False)
        torch.set_deterministic_debug_mode("default")


@dataclass(frozen=True)
class StudyFiles:
    """Where the files of a study lie, and what they declare."""

    root: Path
    grid: Grid
    class_names: tuple[str, ...]

    @property
    def params(self) -> Path:
        return self.root / "params.yaml"

    @property
    def metrics(self) -> Path:
        return self.root / "data/metrics"

    @property
    def folders(self) -> ResultFolders:
        return ResultFolders.within(self.root / "data")

    @property
    def cells(self) -> Path:
        return self.metrics / "cells.csv"

    @property
    def collapsed(self) -> Path:
        return self.metrics / "collapsed"

    @property
    def confusion(self) -> Path:
        return self.metrics / "confusion.csv"

    @property
    def comparison(self) -> Path:
        return self.metrics / "comparison.json"

    def declare(self, **study: object) -> "StudyFiles":
        """The same files under a params.yaml whose study section is changed; compared anew."""
        values = yaml.safe_load(self.params.read_text())
        values["study"] |= study
        self.params.write_text(yaml.safe_dump(values, sort_keys=False))
        study = load_params(self.params).study
        grid = Grid.declared(study, trained_gans(self.collapsed, study.real_images))
        changed = StudyFiles(self.root, grid, self.class_names)
        changed.compare()
        return changed

    def compare(self) -> None:
        table, _ = load_cells(self.cells, self.grid)
        comparison = compare_cells(table, self.grid, test_images=TEST_PER_CLASS * len(self.class_names))
        comparison = with_imbalance(comparison, table, load_confusion(self.confusion, self.grid), self.grid)
        self.comparison.write_text(json.dumps(comparison, indent=2, sort_keys=True) + "\n")


Score = Callable[[DeclaredArm, int], float]


def accuracies_with_gain(gain: float, seed: int = 0) -> Score:
    """Accuracy of (arm, replicate): the affine arms above the others, synthetic images worth `gain`."""
    rng = np.random.default_rng(seed)
    noise = {name: rng.normal(0, 0.001, 20) for name in ("subset", "arm")}

    def accuracy(arm: DeclaredArm, replicate: int) -> float:
        value = 0.94 + noise["subset"][replicate] + 0.3 * noise["arm"][(replicate * 7 + len(str(arm))) % 20]
        if arm.name == "synthetic_only":
            return value - 0.05
        return value + 0.02 * (arm.policy == "affine") + gain * (arm.synthetic_per_real > 0)

    return accuracy


def _write_study(
    root: Path,
    *,
    budgets=(60,),
    ratios=(0.5, 1.0),
    replicates=3,
    arms=FIVE_ARMS,
    left_out=(),
    class_names=("0", "1", "2"),
    imbalance=None,
    test_accuracy: Score | None = None,
    validation_accuracy: Score | None = None,
    size=8,
    channels=1,
    gans: Mapping[Budget, TrainedGans] | None = None,
) -> StudyFiles:
    if imbalance is None:  # some arms need a rare class
        imbalance = {class_names[-1]: 0.1} if any(ARMS[name].rare_only for name in arms) else {}
    grid = Grid(tuple(budgets), tuple(ratios), replicates, tuple(arms), dict(imbalance), gans or {})
    files = StudyFiles(root, grid, tuple(class_names))
    test_accuracy = test_accuracy or accuracies_with_gain(0.0)
    _write_params(files)
    for budget in grid.budgets:
        save_trained_gans(
            files.collapsed / f"{budget}.json", grid.gans.get(budget, TrainedGans(gans=replicates))
        )
    _write_cells(files, test_accuracy, validation_accuracy or test_accuracy, left_out)
    _write_images(files, size, channels)
    _write_generative_metrics(files)
    files.compare()
    return files


def write_empty_generator(path: Path) -> None:
    """A checkpoint of the generator's kind without a network, for tests that register it and do not load it."""
    save_checkpoint(path, {"nothing": torch.zeros(1)}, {"kind": "generator", "arguments": {}})


@pytest.fixture
def write_study(tmp_path):
    """A function that writes the files of a study below `tmp_path`."""
    return functools.partial(_write_study, tmp_path)


@pytest.fixture(scope="module")
def write_shared_study(tmp_path_factory):
    """The same for a study that the tests of a module share and do not change."""
    return lambda **arguments: _write_study(tmp_path_factory.mktemp("study"), **arguments)


@functools.cache
def _real_params() -> str:
    """The shipped parameters as JSON, which is parsed a hundred times faster than YAML."""
    return json.dumps(yaml.safe_load(REAL_PARAMS.read_text()))


def _write_params(files: StudyFiles) -> None:
    values = json.loads(_real_params())
    values["data"]["source"] = "folder"
    values["study"] |= {
        "real_images": list(files.grid.budgets),
        "replicates": files.grid.replicates,
        "synthetic_per_real": list(files.grid.ratios),
        "arms": list(files.grid.arm_names),
        "imbalance": dict(files.grid.imbalance),
    }
    values["report"]["grid_images_per_class"] = 4
    files.params.write_text(yaml.dump(values, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True))


def indices(files: StudyFiles, budget: Budget) -> list[int]:
    """Of the replicates that are not left out."""
    return [replicate_index(number) for number in files.grid.replicates_of(budget)]


def _write_cells(
    files: StudyFiles,
    test_accuracy: Score,
    validation_accuracy: Score,
    left_out: Sequence[tuple[str, float]],
) -> None:
    rows, counts = [], []
    per_class = TEST_PER_CLASS
    for budget in files.grid.budgets:
        real_images = 600 if budget == "all" else budget
        for arm in files.grid.arms():
            if (arm.name, arm.synthetic_per_real) in left_out:
                continue
            for replicate in range(files.grid.replicates):
                if replicate not in indices(files, budget) and arm.recipe.uses_synthetic:
                    continue
                test = test_accuracy(arm, replicate)
                key = {
                    "budget": budget,
                    "arm": arm.name,
                    "synthetic_per_real": arm.synthetic_per_real,
                    "classic_augmentation": arm.policy,
                    "replicate": replicate_number(replicate),
                }
                rows.append(
                    key
                    | {
                        "real_images": real_images,
                        "training_images": round(real_images * (1 + arm.synthetic_per_real)),
                        "optimizer_steps": 1000,
                        "batch_size": 64,
                        "real_subset_overlap": 0.0,
                        "validation_images": 15,
                        "validation_few_accuracy": round(validation_accuracy(arm, replicate), 6),
                        "real_subset_sha256": f"{budget}-{replicate}".encode().hex().ljust(64, "0"),
                        "validation_accuracy": round(validation_accuracy(arm, replicate), 6),
                        "validation_macro_f1": round(validation_accuracy(arm, replicate) - 0.001, 6),
                        "test_accuracy": round(test, 6),
                        "test_macro_f1": round(test - 0.001, 6),
                    }
                    | {
                        f"test_f1_{name}": round(min(test + 0.002 * index, 1.0), 6)
                        for index, name in enumerate(files.class_names)
                    }
                )
                for index, actual in enumerate(files.class_names):
                    wrong = round(per_class * (1 - test))
                    other = files.class_names[(index + 1) % len(files.class_names)]
                    counts += [
                        key | {"actual": actual, "predicted": predicted, "count": count}
                        for predicted, count in ((actual, per_class - wrong), (other, wrong))
                    ]
    files.metrics.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(files.cells, index=False, lineterminator="\n")
    pd.DataFrame(counts).to_csv(files.confusion, index=False, lineterminator="\n")


def _write_images(files: StudyFiles, size: int, channels: int) -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(len(files.class_names), dtype=np.int64), 12)
    images = rng.integers(0, 255, (len(labels), channels, size, size), dtype=np.uint8)
    data = files.root / "data"
    shuffled = rng.permutation(len(labels))
    LabeledImages(images[shuffled], labels[shuffled], files.class_names, {"split": "train"}).save(
        data / "prepared/train.npz"
    )
    splits = {
        name: {
            "images": 12 * per_class,
            "images_per_class": dict.fromkeys(files.class_names, per_class),
            "distinct_images": 12 * per_class - 1,
            "published_split": "test" if name == "test" else "train",
            "index_sha256": f"{index}" * 64,
            "pixels_sha256": f"{index + 3}" * 64,
        }
        for index, (name, per_class) in enumerate({"train": 12, "validation": 5, "test": 100}.items())
    }
    manifest = {"source": "folder", "splits": splits, "dropped_from_train_and_validation": []}
    (data / "prepared/splits.json").write_text(json.dumps(manifest))
    for budget in files.grid.budgets:
        for replicate in indices(files, budget):
            provenance = {
                "kind": "synthetic",
                "budget": budget,
                "replicate": replicate,
                "seed": 11 + replicate,
                "images_per_class": 12,
                "generator_sha256": f"{replicate}" * 64,
                "real_subset_sha256": f"{budget}-{replicate}".encode().hex().ljust(64, "0"),
            }
            LabeledImages(255 - images, labels, files.class_names, provenance).save(
                data / f"synthetic/{budget}/{replicate}.npz"
            )
            strip = data / f"gan/{budget}/{replicate}/film_strip.png"
            strip.parent.mkdir(parents=True)
            Image.fromarray(rng.integers(0, 255, (4 * size, 8 * size), dtype=np.uint8)).save(strip)


def _write_generative_metrics(files: StudyFiles) -> None:
    def row(fid: float) -> dict[str, object]:
        return {
            "fid": fid,
            "kid": fid / 1000,
            "precision": 0.81,
            "recall": 0.62,
            "density": 0.93,
            "coverage": 0.74,
            "inception_score": 2.75,
            "label_fidelity": 0.97,
            "label_fidelity_per_class": dict.fromkeys(files.class_names, 0.97),
            "fid_per_class": dict.fromkeys(files.class_names, 2 * fid),
        }

    for folder in ("gan", "synthetic"):
        (files.metrics / folder).mkdir()
    for budget in files.grid.budgets:
        summary = {
            "budget": budget,
            "n": 300,
            "neighbors": 5,
            "features": "domain",
            "extractor_sha256": "ab" * 32,
            "extractor_test_accuracy": 0.985,
            "replicates": {
                str(replicate_number(replicate)): row(7.0 + replicate)
                | {"memorization": _memorization_of_replicate(files.class_names, replicate)}
                for replicate in indices(files, budget)
            },
            "floor": row(1.25),
            "copycat": row(2.5),
            "memorization": {
                "n": 290,
                "rule": "at most 5 points above",
                "real_test": _nearness(0.01, 0.55),
                "copycat": _nearness(1.0, 0.0),
            },
        }
        (files.metrics / f"synthetic/{budget}.json").write_text(json.dumps(summary))
        steps = np.arange(1, 11) * 100
        history = [
            pd.DataFrame(
                {
                    "replicate": replicate_number(replicate),
                    "step": steps,
                    "images_seen": steps * 64,
                    "d_loss": 0.6 + 0.1 / steps + 0.01 * replicate,
                    "g_loss": 0.9 - 10 / steps,
                    "d_real": 0.6,
                    "d_fake": 0.4,
                    "d_accuracy": 0.7,
                    "label_fidelity_1nn": 1 - 10 / steps,
                    "learning_rate": 1e-3,
                    "images_per_second": 900.0,
                }
            )
            for replicate in indices(files, budget)
        ]
        pd.concat(history).to_csv(files.metrics / f"gan/{budget}.csv", index=False)


def _nearness(near_copies: float, authenticity: float) -> dict[str, object]:
    measures = {
        "near_copies": near_copies,
        "authenticity": authenticity,
        "c_t": -1.5,
        "near_duplicates": 0.02,
        "median_distance": 30.0,
    }
    return {"pixel": measures, "feature": measures}


def _memorization_of_replicate(class_names: Sequence[str], replicate: int) -> dict[str, object]:
    return {
        "passed": True,
        "reason": "0.5% near copies and authenticity as of real images",
        **_nearness(0.005, 0.6),
        "exact_duplicates": 0,
        "closest_pairs": [
            {
                "space": space,
                "synthetic_index": place,
                "train_index": 2 * place,
                "class": class_names[0],
                "distance": 12.5,
                "nearness": 0.4 + 0.01 * replicate + 0.1 * place,
            }
            for space in ("pixel", "feature")
            for place in range(2)
        ],
    }
