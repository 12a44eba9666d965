"""Classifiers of one's own: torchvision's and a factory's, in the same steps, pairs and bytes as ours."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.checkpoints import tensors_sha256
from pipeline.classifier.network import class_probabilities, network_from, predict
from pipeline.classifier.own_network import OwnNetwork, recipe_of
from pipeline.classifier.replicates import train_cells
from pipeline.classifier.saved_cells import load_cells, save_cells
from pipeline.classifier.training import Recipe, new_network, train_classifier
from pipeline.errors import SynthGainError
from pipeline.images import LabeledImages
from pipeline.params import Classifier, Execution, load_params, parse_params
from pipeline.scoring.prediction import predictions_of_cells
from pipeline.study.arms import arms_at
from pipeline.study.subsets import real_subsets
from pipeline.study.training_sets import ReplicateImages

CPU = torch.device("cpu")
PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
ONE_PROCESS = Execution(device="cpu", precision="float32", threads=1, processes=0)
FACTORY = """
from torch import nn


def make(*, num_classes, channels, image_size):
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(),
        nn.Linear(4 * image_size**2, num_classes),
    )
"""
SMALL = "torchvision:shufflenet_v2_x0_5"  # with batch normalisation, as a ResNet


@pytest.fixture(autouse=True)
def _modules_as_they_were():
    """A test's my_net.py is not that of the next one."""
    path = list(sys.path)
    yield
    sys.path[:] = path
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_net"]:
        del sys.modules[name]


@pytest.fixture
def factory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(text=FACTORY):
        (tmp_path / "my_net.py").write_text(text)

    write()
    return write


def images(channels=1, count=40, size=16):
    rng = np.random.default_rng(channels)
    pixels = rng.integers(0, 256, (count, channels, size, size), dtype=np.uint8)
    return LabeledImages(pixels, np.arange(count, dtype=np.int64) % 4, tuple("abcd"), {"split": "train"})


def settings(network="my_net:make", **changes):
    values = {
        "network": network,
        "code": "my_net.py",
        "channels": 4,
        "feature_dim": 8,
        "steps": 2,
        "batch_size": 4,
    }
    return Classifier.model_validate(
        {**PARAMS.classifier.model_dump(), "steps": 2} | values | changes, strict=False
    )


def train(network="my_net:make", channels=1, seed=0, count=40, **changes):
    return train_classifier(
        Recipe(images(channels, count), seed),
        settings(network, **changes),
        device=CPU,
        advance=lambda units, note="": None,
    )


@pytest.mark.parametrize(("network", "channels"), [("my_net:make", 1), ("my_net:make", 3), (SMALL, 1)])
def test_a_training_repeats_to_the_bit_and_starts_paired(factory, network, channels):
    """With batch normalisation and dropout too."""
    first = train(network, channels)
    assert tensors_sha256(first.state_dict()) == tensors_sha256(train(network, channels).state_dict())
    assert tensors_sha256(first.state_dict()) != tensors_sha256(train(network, channels, seed=1).state_dict())
    still = [
        new_network(Recipe(images(channels, count), 0), settings(network), CPU).state_dict()
        for count in (40, 20)
    ]
    assert tensors_sha256(still[0]) == tensors_sha256(still[1])


@pytest.mark.parametrize("network", ["my_net:make", SMALL])
def test_it_is_read_back_from_arguments_and_weights(factory, network):
    trained = train(network)
    twin = network_from(trained.arguments, trained.state_dict(), CPU)
    pixels = images().images
    assert np.array_equal(class_probabilities(twin, pixels, CPU), class_probabilities(trained, pixels, CPU))
    alone = [predict(trained, pixels[i : i + 1], CPU) for i in range(10)]
    assert np.array_equal(
        predict(trained, pixels, CPU)[:10], np.concatenate(alone)
    )  # no statistics of the batch


def test_grey_images_are_given_to_torchvision_three_times_over():
    torch.manual_seed(0)
    network = OwnNetwork(
        network="torchvision:resnet18", code="", num_classes=4, image_size=16, image_channels=1
    ).eval()
    grey = torch.rand(3, 1, 16, 16)
    assert network.network.conv1.in_channels == 3
    assert torch.equal(network(grey), network.network(grey.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize(
    "network", ["my_net:make", pytest.param("torchvision:resnet18", marks=pytest.mark.slow)]
)
def test_the_arms_of_a_study_train_with_it_and_are_scored(factory, network, tmp_path, capsys):
    train_split = images(count=60)

    def cells():
        subsets = real_subsets(train_split, budget=24, replicates=range(2), seed=1, imbalance={})
        return train_cells(
            arms_at("baselines", ["real", "real_affine"]),
            (ReplicateImages(subset) for subset in subsets),
            count=2,
            synthetic_per_real=0,
            classifier=settings(network),
            augmentation=PARAMS.augmentation,
            seed=1,
            execution=ONE_PROCESS,
            label="cells",
        )

    trained, arguments = cells()
    assert [cell.facts["optimizer_steps"] for cell in trained] == [2, 2, 2, 2]
    save_cells(tmp_path / "cells", trained, arguments=arguments)
    loaded, kept = load_cells(tmp_path / "cells")
    assert kept == arguments and len(loaded) == 4
    held_out = np.random.default_rng(9).integers(0, 256, (6, 1, 16, 16), dtype=np.uint8)
    found = list(predictions_of_cells([tmp_path / "cells"], {"test": held_out}, execution=ONE_PROCESS))
    assert all(seen["test"].shape == (6,) for _, seen in found)
    capsys.readouterr()
    again, _ = cells()
    assert "0 classifiers trained, 4 found finished" in capsys.readouterr().out
    assert [tensors_sha256(cell.weights) for cell in again] == [
        tensors_sha256(cell.weights) for cell in trained
    ]


def test_edited_code_is_another_recipe_and_refuses_older_weights(factory):
    before, trained = recipe_of(settings()), train()
    factory(FACTORY + "# edited\n")
    assert recipe_of(settings()) != before
    with pytest.raises(SynthGainError, match=r"^classifier\.code: my_net\.py has changed since"):
        network_from(trained.arguments, trained.state_dict(), CPU)


def test_the_recipe_of_ours_does_not_know_these_keys():
    compact = settings("compact")
    assert recipe_of(compact) == recipe_of(compact.model_copy(update={"code": "other.py"}))
    assert not {"network", "code"} & recipe_of(compact).keys()


def test_a_folder_of_code_is_a_package(factory, tmp_path):
    (tmp_path / "nets/my_net").mkdir(parents=True)
    (tmp_path / "nets/my_net/__init__.py").touch()
    (tmp_path / "nets/my_net/small.py").write_text(FACTORY)
    trained = train("my_net.small:make", code="nets/my_net")
    assert trained.arguments["code"] == "nets/my_net"


@pytest.mark.parametrize(
    ("network", "text", "words"),
    [
        ("torchvision:resnet19", None, r"torchvision has no classifier resnet19; perhaps resnet18"),
        ("torchvision:inception_v3", None, r"torchvision:inception_v3: "),
        ("my_net:other", FACTORY, r"my_net:other: AttributeError: .* has no attribute 'other'$"),
        ("my_net:make", "import no_such_package", r"ModuleNotFoundError: No module named 'no_such_package'$"),
        (
            "my_net:make",
            "def make(**sizes):\n    return 3",
            r"it made a int, and a torch\.nn\.Module is needed$",
        ),
        (
            "my_net:make",
            "from torch import nn\n\ndef make(**sizes):\n    return nn.Conv2d(1, 1, 1)",
            r"it gives \(4, 1, 16, 16\) for \(4, 1, 16, 16\), and logits \(4, 4\) are needed$",
        ),
        (
            "my_net:make",
            "from torchvision.models import resnet18\n\ndef make(**sizes):\n    return resnet18(weights='DEFAULT')",
            r"my_net:make would fetch https://.*; put the file beside your code and load it from there$",
        ),
    ],
)
def test_what_is_wrong_with_it_is_one_line(factory, network, text, words, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))  # where weights would lie if they were here
    if text:
        factory(text)
    with pytest.raises(SynthGainError, match=rf"^classifier\.network: .*{words}") as wrong:
        train(network)
    assert "\n" not in str(wrong.value)


def test_a_module_from_elsewhere_is_refused(factory, tmp_path, monkeypatch):
    """Its edits would be seen by nobody."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/my_net.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))
    import my_net  # noqa: F401

    with pytest.raises(SynthGainError, match=r"which is not in classifier\.code \(my_net\.py\)"):
        train()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"network": "resnet18"},
            "classifier.network: found 'resnet18'; allowed: 'compact' or torchvision:<name>",
        ),
        ({"network": "a.py:make"}, "the module must be that file, or in that folder"),
        ({"network": "my_net:make"}, "the module must be that file, or in that folder"),
        ({"code": "/somewhere/my_net.py"}, "a path within the folder of params.yaml is needed"),
        ({"code": "pipeline/my_net.py"}, "pipeline belongs to the pipeline"),
    ],
)
def test_values_that_cannot_be(changes, words):
    values = PARAMS.model_dump()
    values["classifier"] |= changes
    with pytest.raises(SynthGainError, match=words.replace(".", r"\.")):
        parse_params(values, where="params.yaml")
