"""The feature extractor's network is trained once; found in the store, it gives the same file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from pipeline.classifier import extractor
from pipeline.classifier.network import save_extractor
from pipeline.images import LabeledImages
from pipeline.params import Execution, load_params

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
ONE_THREAD = Execution(device="cpu", precision="float32", threads=1, processes=1)


@pytest.fixture
def digits():
    data = load_digits()
    images = (data.images[:600, None] * 15.9).astype(np.uint8)
    return LabeledImages(images, data.target[:600].astype(np.int64), tuple("0123456789"))


def made(digits, file, *, seed=1, steps=20):
    """The bytes of the extractor's file."""
    settings = PARAMS.extractor.model_copy(update={"steps": steps, "channels": 8})
    network = extractor.find_or_train_extractor(digits, settings, seed=seed, execution=ONE_THREAD)
    assert not network.training
    save_extractor(file, network, digits, torch.device("cpu"))
    return file.read_bytes()


def test_a_trained_and_a_found_network_give_the_same_file(digits, tmp_path, capsys, monkeypatch):
    trained = made(digits, tmp_path / "trained.safetensors")
    assert "extractor: 1 trained, 0 found finished" in capsys.readouterr().out
    assert made(digits, tmp_path / "found.safetensors") == trained
    assert "extractor: 0 trained, 1 found finished" in capsys.readouterr().out
    monkeypatch.setenv("SYNTHGAIN_STORE", str(tmp_path / "another"))
    assert made(digits, tmp_path / "again.safetensors") == trained
    assert "extractor: 1 trained" in capsys.readouterr().out


def test_other_settings_seeds_and_images_are_other_networks(digits, tmp_path, capsys):
    first = made(digits, tmp_path / "1.safetensors")
    others = LabeledImages(255 - digits.images, digits.labels, digits.class_names)
    for number, (images, changes) in enumerate(
        [(digits, {"seed": 2}), (digits, {"steps": 21}), (others, {})], start=2
    ):
        assert made(images, tmp_path / f"{number}.safetensors", **changes) != first
    assert capsys.readouterr().out.count("1 trained, 0 found") == 4
