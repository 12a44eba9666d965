"""What a stage that fails after its trainings leaves to the next start."""

import numpy as np
import pandas as pd

from pipeline.images import LabeledImages
from pipeline.params import load_params
from pipeline.study.subsets import replicate_numbers
from tests.test_faults import run_command
from tests.test_kills import tiny_params


def test_generators_are_found_until_their_images_change(tmp_path, monkeypatch):
    tiny_params(tmp_path, total_images=160, history_points=2, film_strip_frames=2)
    params = load_params(tmp_path / "params.yaml")
    labels = np.arange(60, dtype=np.int64) % 10
    pixels = np.random.default_rng(0).integers(0, 255, (60, 1, 8, 8), dtype=np.uint8)
    train = LabeledImages(pixels, labels, tuple("0123456789"))
    train.save(tmp_path / "train.npz")
    (tmp_path / "file").touch()

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SYNTHGAIN_STORE", raising=False)

    def run(history):
        command = (
            "stage train-gan --budget 20 --train train.npz --labels none --out gan --collapsed collapsed"
        )
        return run_command([*command.split(), "--history", history], monkeypatch)

    status, said = run("file/history")  # below a file there is no folder
    assert status == 1 and not (tmp_path / "gan/20").exists(), said
    status, said = run("history")
    assert status == 0 and "0 trained, 2 found finished" in said
    assert list((tmp_path / ".work/unfinished").iterdir()) == []
    assert set(pd.read_csv(tmp_path / "history/20.csv")["replicate"]) == set(
        replicate_numbers(params.study.replicates)
    )
    # Other real images are another training.
    LabeledImages(255 - pixels, labels, tuple("0123456789")).save(tmp_path / "train.npz")
    assert "2 trained, 0 found finished" in run("history")[1]
