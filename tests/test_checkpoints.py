import os
import re
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pipeline.checkpoints import file_sha256, load_checkpoint, save_checkpoint
from pipeline.classifier.network import ConvNet, load_features_and_probabilities, save_extractor
from pipeline.classifier.saved_cells import CELLS_KIND, TrainedCell, load_cells, save_cells
from pipeline.errors import SynthGainError
from pipeline.gan.generators import load_generator
from pipeline.images import LabeledImages
from pipeline.scoring.label_scores import load_label_scores

TENSORS = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor([1], dtype=torch.int64)}
METADATA = {"kind": "generator", "arguments": {"z_dim": 3}, "provenance": {"seed": 1, "x": None}}


def test_save_and_load_are_inverse_and_bytes_repeat(tmp_path):
    for name in ("x", "y"):
        save_checkpoint(tmp_path / name, TENSORS, METADATA)
    tensors, metadata = load_checkpoint(tmp_path / "x", kind="generator")
    assert metadata == METADATA
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert file_sha256(tmp_path / "x") == file_sha256(tmp_path / "y")


def test_a_channels_last_tensor_comes_back_equal(tmp_path):
    weight = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    save_checkpoint(tmp_path / "x", {"w": weight}, METADATA)
    assert torch.equal(load_checkpoint(tmp_path / "x", kind="generator")[0]["w"], weight)


def test_another_kind_is_refused_by_name(tmp_path):
    save_checkpoint(tmp_path / "x", TENSORS, METADATA)
    with pytest.raises(SynthGainError, match="holds a generator, a feature_extractor is needed"):
        load_checkpoint(tmp_path / "x", kind="feature_extractor")


@pytest.mark.parametrize("content", [b"", b"\x80\x04 pickle", b"\xff" * 100])
def test_a_damaged_file_is_refused_by_name(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(SynthGainError, match="x: not a readable SynthGain checkpoint"):
        load_checkpoint(tmp_path / "x", kind="generator")


def test_a_truncated_file_is_refused(tmp_path):
    save_checkpoint(tmp_path / "x", TENSORS, METADATA)
    (tmp_path / "x").write_bytes((tmp_path / "x").read_bytes()[:-3])
    with pytest.raises(SynthGainError, match="not a readable SynthGain checkpoint"):
        load_checkpoint(tmp_path / "x", kind="generator")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SynthGainError, match="no such file"):
        load_checkpoint(tmp_path / "x", kind="generator")


def test_a_checkpoint_is_as_readable_as_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        save_checkpoint(tmp_path / "x", TENSORS, METADATA)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640


def with_argument(name, value):
    return lambda tensors, metadata: metadata["arguments"].update({name: value})


def without(name):
    return lambda tensors, metadata: metadata.pop(name)


def with_first(change):
    def edit(tensors, metadata):
        name = next(iter(tensors))
        tensors[name] = change(tensors[name])

    return edit


EDITS = {
    "a negative size": (with_argument("num_classes", -3), "."),
    "a size of 0": (with_argument("image_size", 0), "is needed|zero|empty"),
    "terabytes": (with_argument("num_classes", 10**12), r"\(1000000000000, .* is needed"),
    "a size in words": (with_argument("num_classes", "ten"), "."),
    "arguments that are a list": (lambda tensors, metadata: metadata.update(arguments=[1]), "."),
    "no arguments": (without("arguments"), "arguments"),
    "no class names": (without("class_names"), "class_names"),
    "another shape": (with_first(lambda weights: weights[:-1]), "is needed"),
    "another dtype": (with_first(lambda weights: weights.double()), r"float64, .*float32 is needed"),
    "NaN": (with_first(lambda weights: weights * float("nan")), "no finite numbers"),
    "a weight too few": (lambda tensors, metadata: tensors.pop(next(iter(tensors))), "in one of network"),
    "a weight too many": (lambda tensors, metadata: tensors.update(x=torch.ones(1)), "weights x are in one"),
}
OF_A_GENERATOR = {
    "no provenance": (without("provenance"), "provenance"),
    "no layers": (with_argument("channels", []), "."),
    "a slope in words": (with_argument("leak", "steep"), "."),
    "a class twice": (
        lambda tensors, metadata: metadata.update(class_names=[*"0123456788"]),
        "8 stands there 2 times",
    ),
    "an empty class name": (
        lambda tensors, metadata: metadata.update(class_names=["", *"123456789"]),
        "found ''; a name of printable characters",
    ),
    "a control character": (
        lambda tensors, metadata: metadata.update(class_names=["0\x1b[2J", *"123456789"]),
        "printable characters",
    ),
    "a class name too few": (
        lambda tensors, metadata: metadata["class_names"].pop(),
        "9 class names for 10 classes",
    ),
}
GENERATOR = Path(__file__).parent / "data/v0.1.0/generator.safetensors"


@pytest.mark.parametrize(("edit", "message"), (EDITS | OF_A_GENERATOR).values(), ids=EDITS | OF_A_GENERATOR)
def test_an_edited_generator_is_a_fault_of_its_file(tmp_path, edit, message):
    tensors, metadata = load_checkpoint(GENERATOR, kind="generator")
    edit(tensors, metadata)
    save_checkpoint(tmp_path / "x", tensors, metadata)
    with pytest.raises(SynthGainError, match="x: not a generator of this version of SynthGain") as error:
        load_generator(tmp_path / "x", torch.device("cpu"))
    assert re.search(message, str(error.value)) and "\n" not in str(error.value)


@pytest.fixture(scope="module")
def extractor(tmp_path_factory):
    path = tmp_path_factory.mktemp("extractor") / "extractor.safetensors"
    network = ConvNet(channels=2, feature_dim=4, num_classes=2, image_size=8)
    images = np.random.default_rng(0).integers(0, 256, (4, 1, 8, 8), dtype=np.uint8)
    labelled = LabeledImages(images, np.array([0, 1, 0, 1]), ("a", "b"))
    save_extractor(path, network, labelled, torch.device("cpu"))
    return path


@pytest.mark.parametrize(("edit", "message"), EDITS.values(), ids=EDITS)
def test_an_edited_extractor_is_a_fault_of_its_file(tmp_path, extractor, edit, message):
    tensors, metadata = load_checkpoint(extractor, kind="feature_extractor")
    edit(tensors, metadata)
    save_checkpoint(tmp_path / "x", tensors, metadata)
    with pytest.raises(SynthGainError, match="x: not a feature extractor of this version") as error:
        load_label_scores(tmp_path / "x", class_names=("a", "b"))
    assert re.search(message, str(error.value))


@pytest.mark.parametrize("scale", [0, float("nan"), "much", None])
def test_an_edited_scale_of_features_is_a_fault_of_the_file(tmp_path, extractor, scale):
    tensors, metadata = load_checkpoint(extractor, kind="feature_extractor")
    save_checkpoint(tmp_path / "x", tensors, metadata | {"feature_scale": scale})
    with pytest.raises(SynthGainError, match="x: not a feature extractor of this version"):
        load_features_and_probabilities(tmp_path / "x", torch.device("cpu"))


CELL = {"budget": 10, "arm": "real", "synthetic_per_real": 0, "replicate": 0}
EDITS_OF_CELLS = {
    name: edit
    for name, (edit, _) in EDITS.items()
    if name != "no class names"  # a file of classifiers has none
} | {
    "no cells": without("cells"),
    "a cell too few": lambda tensors, metadata: metadata["cells"].pop(),
    "cells that are numbers": lambda tensors, metadata: metadata.update(cells=[1]),
    "a number for a name": lambda tensors, metadata: tensors.update({"x.y": torch.ones(1)}),
}


@pytest.mark.parametrize("edit", EDITS_OF_CELLS.values(), ids=EDITS_OF_CELLS)
def test_an_edited_file_of_classifiers_is_a_fault_of_the_file(tmp_path, edit):
    network = ConvNet(channels=2, feature_dim=4, num_classes=2, image_size=8)
    cell = TrainedCell(CELL, network.state_dict(), np.arange(3))
    save_cells(tmp_path / "x", [cell], arguments=network.arguments)
    assert load_cells(tmp_path / "x")[0][0].facts == CELL
    tensors, metadata = load_checkpoint(tmp_path / "x", kind=CELLS_KIND)
    edit(tensors, metadata)
    save_checkpoint(tmp_path / "x", tensors, metadata)
    with pytest.raises(SynthGainError, match="x: not a file of classifiers of this version"):
        load_cells(tmp_path / "x")


@pytest.mark.parametrize("metadata", ["[1]", "3", "null", '"x"', "[" * 100_000])
def test_metadata_that_are_no_keys_and_values_are_refused(tmp_path, metadata):
    save_file({"a": torch.ones(1)}, tmp_path / "x", metadata={"synthgain": metadata})
    with pytest.raises(SynthGainError, match="not a readable SynthGain checkpoint"):
        load_checkpoint(tmp_path / "x", kind="generator")
