"""What a stage that fails after its trainings leaves to the next start."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.images import LabeledImages
from pipeline.params import load_params
from pipeline.study.subsets import real_subset
from tests.test_kills import own_environment, tiny_params

ROOT = Path(__file__).parents[2]


def test_states_are_those_of_their_real_images_and_are_there_until_the_history_is_written(tmp_path):
    tiny_params(tmp_path)
    params = load_params(tmp_path / "params.yaml")
    labels = np.arange(60, dtype=np.int64) % 10
    pixels = np.random.default_rng(0).integers(0, 255, (60, 1, 8, 8), dtype=np.uint8)
    train = LabeledImages(pixels, labels, tuple("0123456789"))
    train.save(tmp_path / "train.npz")
    (tmp_path / "file").touch()

    def run(history):
        command = "-m stages.train_gan --budget 20 --train train.npz --out gan --history".split()
        return subprocess.run(
            [sys.executable, *command, history],
            cwd=tmp_path,
            env={**own_environment(), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )

    failed = run("file/history")  # below a file there is no folder
    assert failed.returncode != 0 and not (tmp_path / "gan/20").exists(), failed.stderr
    kept = [path.parent.name for path in (tmp_path / ".work").rglob("state.pt")]
    subsets = [
        real_subset(train, budget=20, replicate=i, seed=params.seed) for i in range(params.study.replicates)
    ]
    assert sorted(kept) == [
        f"{i}_{subset.provenance['real_subset_sha256'][:12]}" for i, subset in enumerate(subsets)
    ]
    done = run("history")
    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / ".work").rglob("state.pt"))
    assert set(pd.read_csv(tmp_path / "history/20.csv")["replicate"]) == set(range(params.study.replicates))
