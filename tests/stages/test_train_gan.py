"""What a stage that fails after its trainings leaves to the next start."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from pipeline.images import LabeledImages
from pipeline.params import load_params
from pipeline.study.subsets import replicate_numbers
from tests.test_kills import own_environment, tiny_params

ROOT = Path(__file__).parents[2]


def test_generators_are_found_until_their_images_change(tmp_path):
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
    assert "2 trained, 0 found finished" in failed.stdout
    done = run("history")
    assert done.returncode == 0, done.stderr
    assert "0 trained, 2 found finished" in done.stdout
    assert list((tmp_path / ".work/unfinished").iterdir()) == []
    assert set(pd.read_csv(tmp_path / "history/20.csv")["replicate"]) == set(
        replicate_numbers(params.study.replicates)
    )
    # Another replicate trains itself alone; other real images are another training.
    values = yaml.safe_load((tmp_path / "params.yaml").read_text())
    values["study"]["replicates"] = 3
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    assert "1 trained, 2 found finished" in run("history").stdout
    LabeledImages(255 - pixels, labels, tuple("0123456789")).save(tmp_path / "train.npz")
    assert "3 trained, 0 found finished" in run("history").stdout
