import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from pipeline.checkpoints import load_checkpoint
from pipeline.classifier.augment import random_affine
from pipeline.classifier.cells import load_cells, save_cells, trained_cell
from pipeline.classifier.network import (
    ConvNet,
    load_features_and_probabilities,
    network_from,
    predict,
    save_extractor,
)
from pipeline.classifier.training import train_classifier
from pipeline.errors import SynthGainError
from pipeline.images import LabeledImages
from pipeline.runtime import torch_generator

CPU = torch.device("cpu")
AFFINE = {"rotation_degrees": 10.0, "translation": 0.1, "scale": 0.1, "shear_degrees": 10.0}


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    images = (data.images[:, None] * 15.9).astype(np.uint8)
    return LabeledImages(images, data.target.astype(np.int64), tuple("0123456789"))


def train(images, **changes):
    options = {
        "channels": 8,
        "feature_dim": 32,
        "steps": 5,
        "batch_size": 16,
        "learning_rate": 3e-3,
        "weight_decay": 0.01,
        "label_smoothing": 0.1,
        "augment": None,
        "seed": 0,
        "device": CPU,
        "advance": lambda units, note="": None,
    }
    return train_classifier(images, **(options | changes))


def weights(network):
    return torch.cat([tensor.flatten() for tensor in network.state_dict().values()])


def test_it_learns_the_digits(digits):
    order = np.random.default_rng(0).permutation(len(digits))
    network = train(digits.subset(order[:1400]), steps=300, batch_size=64)
    test = digits.subset(order[1400:])
    assert (predict(network, test.images, CPU) == test.labels).mean() > 0.9


def test_a_training_repeats_to_the_bit(digits):
    assert torch.equal(weights(train(digits)), weights(train(digits)))


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"steps": 6},
        {"batch_size": 17},
        {"learning_rate": 1e-3},
        {"weight_decay": 0.5},
        {"label_smoothing": 0.0},
        {"augment": lambda images, rng: random_affine(images, **AFFINE, generator=rng)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_option_changes_the_result(digits, change):
    assert not torch.equal(weights(train(digits, **change)), weights(train(digits)))


def test_arms_of_a_seed_start_from_the_same_weights(digits):
    """Zero learning rate leaves the initial weights: they depend on the seed, not on the training set."""
    a, b = train(digits, learning_rate=0.0), train(digits.subset(np.arange(50)), learning_rate=0.0)
    assert torch.equal(weights(a), weights(b))


def test_divergence_is_named(digits):
    with pytest.raises(SynthGainError, match="diverged"):
        train(digits, learning_rate=1e30, steps=30)


def test_cells_are_read_back_as_they_were(digits, tmp_path):
    networks = [train(digits, seed=seed) for seed in (0, 1)]
    cells = [trained_cell(network, {"arm": "real", "replicate": i}) for i, network in enumerate(networks)]
    save_cells(tmp_path / "cells", cells, arguments=networks[0].arguments)
    loaded, arguments = load_cells(tmp_path / "cells")
    assert [dict(cell.facts) for cell in loaded] == [dict(cell.facts) for cell in cells]
    for cell, network in zip(loaded, networks, strict=True):
        twin = network_from(arguments, cell.weights, CPU)
        assert np.array_equal(
            predict(twin, digits.images[:50], CPU), predict(network, digits.images[:50], CPU)
        )


def test_a_file_of_no_cells_is_fine(tmp_path):
    save_cells(tmp_path / "cells", [], arguments={})
    assert load_cells(tmp_path / "cells") == ([], {})


def test_the_extractor_gives_features_of_unit_scale_and_the_networks_probabilities(digits, tmp_path):
    network = train(digits, steps=50)
    path = tmp_path / "extractor.safetensors"
    save_extractor(path, network, digits, CPU)
    features, probabilities = load_features_and_probabilities(path, CPU)(digits.images)
    assert features.shape == (len(digits), 32) and features.dtype == np.float32
    assert np.mean(features.astype(np.float64) ** 2) == pytest.approx(1, rel=1e-5)
    assert probabilities.shape == (len(digits), 10) and probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)
    assert np.array_equal(probabilities.argmax(axis=1), predict(network, digits.images, CPU))
    with torch.no_grad():
        expected = network(torch.from_numpy(digits.images[:20]).float() / 255).softmax(dim=1)
    np.testing.assert_allclose(probabilities[:20], expected, rtol=1e-5, atol=1e-7)
    assert load_checkpoint(path, kind="feature_extractor")[1]["class_names"] == list(digits.class_names)


def test_predictions_do_not_depend_on_the_batch(digits):
    network = train(digits, steps=50)
    whole = predict(network, digits.images[:600], CPU)
    parts = [predict(network, digits.images[i : i + 1], CPU) for i in range(20)]
    assert np.array_equal(whole[:20], np.concatenate(parts))


@pytest.mark.parametrize("image_size", [8, 12, 28])
def test_the_network_takes_every_multiple_of_four(image_size):
    network = ConvNet(channels=4, feature_dim=5, num_classes=3, image_size=image_size)
    assert network(torch.rand(2, 1, image_size, image_size)).shape == (2, 3)


def test_affine_without_bounds_is_the_identity():
    images = torch.rand(5, 1, 28, 28)
    same = random_affine(images, **dict.fromkeys(AFFINE, 0.0), generator=torch_generator(0))
    assert torch.allclose(same, images, atol=1e-5)


@pytest.mark.parametrize("bound", AFFINE)
def test_every_affine_bound_does_something_of_its_own(bound):
    images = torch.rand(40, 1, 28, 28)
    bounds = dict.fromkeys(AFFINE, 0.0) | {bound: AFFINE[bound]}
    moved = random_affine(images, **bounds, generator=torch_generator(0))
    assert ((moved - images).flatten(1).abs().amax(1) > 0.05).float().mean() > 0.9


def test_each_image_has_a_map_of_its_own():
    image = torch.rand(1, 1, 28, 28).repeat(10, 1, 1, 1)
    moved = random_affine(image, **AFFINE, generator=torch_generator(0))
    assert len({tuple(row.tolist()) for row in moved.flatten(1)}) == 10
