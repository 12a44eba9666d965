import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_digits

from pipeline.augmentation.classic import (
    affine_grid,
    elastic_displacement,
    random_affine,
    random_affine_elastic,
)
from pipeline.augmentation.mixup import mixing
from pipeline.augmentation.policies import POLICIES
from pipeline.checkpoints import load_checkpoint
from pipeline.classifier import replicates
from pipeline.classifier.network import (
    ConvNet,
    class_probabilities,
    load_features_and_probabilities,
    network_from,
    predict,
    save_extractor,
)
from pipeline.classifier.replicates import train_cells
from pipeline.classifier.saved_cells import TrainedCell, load_cells, refuse_leak, save_cells
from pipeline.classifier.training import (
    Recipe,
    fresh_epochs,
    smoothing_spread,
    soft_targets,
    train_classifier,
)
from pipeline.errors import SynthGainError
from pipeline.images import LabeledImages, concatenate, pixel_keys
from pipeline.params import Execution, Training, load_params, parse_params
from pipeline.runtime import cuda_graphs
from pipeline.runtime.seeds import torch_generator
from pipeline.scoring.label_scores import load_label_scores
from pipeline.scoring.prediction import predictions_of_cells
from pipeline.study.arms import ARMS, Arm, arms_at
from pipeline.study.subsets import extra_real_images, real_subsets
from pipeline.study.training_sets import ReplicateImages, TrainingSet

CPU = torch.device("cpu")
ONE_PROCESS = Execution(device="cpu", precision="float32", threads=1, processes=0)
ON_GPU = ONE_PROCESS.model_copy(update={"device": "cuda"})
AUGMENTATION = load_params(Path(__file__).parents[2] / "params.yaml").augmentation
AFFINE = {"rotation_degrees": 10.0, "translation": 0.1, "scale": 0.1, "shear_degrees": 10.0}


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    images = (data.images[:, None] * 15.9).astype(np.uint8)
    return LabeledImages(images, data.target.astype(np.int64), tuple("0123456789"))


def train(images, **changes):
    settings = {
        "channels": 8,
        "feature_dim": 32,
        "steps": 5,
        "batch_size": 16,
        "learning_rate": 3e-3,
        "weight_decay": 0.01,
        "label_smoothing": 0.1,
    }
    options = {"device": CPU, "advance": lambda units, note="": None}
    recipe = {"seed": 0}
    for name, value in changes.items():
        (settings if name in settings else options if name == "dtype" else recipe)[name] = value
    return train_classifier(Recipe(images, **recipe), Training(**settings), **options)


def weights(network):
    return torch.cat([tensor.flatten() for tensor in network.state_dict().values()])


def test_it_learns_the_digits(digits):
    order = np.random.default_rng(0).permutation(len(digits))
    network = train(digits.subset(order[:1400]), steps=300, batch_size=64)
    test = digits.subset(order[1400:])
    assert (predict(network, test.images, CPU) == test.labels).mean() > 0.9


def test_bfloat16_is_used_where_asked_for_and_learns_as_well(digits):
    order = np.random.default_rng(0).permutation(len(digits))
    halves = {}
    for dtype in (torch.float32, torch.bfloat16):
        network = train(digits.subset(order[:1400]), steps=300, batch_size=64, dtype=dtype)
        halves[dtype] = weights(network)
        test = digits.subset(order[1400:])
        assert (predict(network, test.images, CPU) == test.labels).mean() > 0.9
    assert not torch.equal(*halves.values())


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
        {"mix": mixing(["mixup"], alpha=1.0)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_option_changes_the_result(digits, change):
    assert not torch.equal(weights(train(digits, **change)), weights(train(digits)))


def test_arms_of_a_seed_start_from_the_same_weights(digits):
    """Next to no learning rate leaves the initial weights: they depend on the seed, not on the training set."""
    a, b = train(digits, learning_rate=1e-30), train(digits.subset(np.arange(50)), learning_rate=1e-30)
    assert torch.equal(weights(a), weights(b))


def test_divergence_is_named(digits):
    with pytest.raises(SynthGainError, match="diverged"):
        train(digits, learning_rate=1e30, steps=30)


def test_cells_are_read_back_as_they_were(digits, tmp_path):
    networks = [train(digits, seed=seed) for seed in (0, 1)]
    cells = [
        TrainedCell({"arm": "real", "replicate": i}, network.state_dict(), pixel_keys(digits.images[: 9 + i]))
        for i, network in enumerate(networks)
    ]
    save_cells(tmp_path / "cells", cells, arguments=networks[0].arguments)
    loaded, arguments = load_cells(tmp_path / "cells")
    assert [dict(cell.facts) for cell in loaded] == [dict(cell.facts) for cell in cells]
    for cell, kept in zip(loaded, cells, strict=True):
        assert np.array_equal(cell.real_pixels, kept.real_pixels)
    for cell, network in zip(loaded, networks, strict=True):
        twin = network_from(arguments, cell.weights, CPU)
        assert np.array_equal(
            predict(twin, digits.images[:50], CPU), predict(network, digits.images[:50], CPU)
        )


def test_a_test_image_in_training_is_refused(digits):
    """The hash check: one shared image, the same pixels at another position, is enough."""
    key = {"budget": 50, "arm": "extra_real", "synthetic_per_real": 1.0, "replicate": 3}
    distinct = digits.subset(np.unique(digits.images, axis=0, return_index=True)[1])
    training, test = distinct.images[:50], distinct.images[50:90]
    cell = TrainedCell(key, train(digits).state_dict(), pixel_keys(training))
    refuse_leak(cell, pixel_keys(test), split="test")
    leaking = np.concatenate([test, training[7:8]])
    with pytest.raises(
        SynthGainError,
        match=r"1 images of the test split .* budget 50, arm extra_real, synthetic_per_real 1\.0, replicate 4",
    ):
        refuse_leak(cell, pixel_keys(leaking), split="test")


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


@pytest.mark.parametrize("image_size", [8, 10, 12, 28, 32, 56, 64, 128])
@pytest.mark.parametrize("image_channels", [1, 3])
def test_the_network_takes_every_side_and_colour(image_size, image_channels):
    colours = {} if image_channels == 1 else {"image_channels": image_channels}
    network = ConvNet(channels=4, feature_dim=5, num_classes=3, image_size=image_size, **colours)
    images = torch.rand(2, image_channels, image_size, image_size)
    assert network(images).shape == (2, 3)
    assert 2 <= (network.hidden.in_features / 16) ** 0.5 <= 8
    # The file of a grey classifier has the keys that it always had.
    assert set(network.arguments) == {"channels", "feature_dim", "num_classes", "image_size", *colours}
    twin = network_from(network.arguments, network.state_dict(), CPU)
    assert torch.equal(twin(images).argmax(1), network(images).argmax(1))


def test_a_colour_classifier_sees_colour_and_judges_labels(tmp_path):
    """Two classes of the same grey, one red and one blue."""
    pixels = np.zeros((40, 3, 32, 32), dtype=np.uint8)
    pixels[::2, 0], pixels[1::2, 2] = 200, 200
    images = LabeledImages(pixels, np.arange(40, dtype=np.int64) % 2, ("red", "blue"))
    network = train(images, steps=40)
    assert (predict(network, images.images, CPU) == images.labels).all()
    save_extractor(tmp_path / "extractor.safetensors", network, images, CPU)
    scores = load_label_scores(tmp_path / "extractor.safetensors", class_names=images.class_names)
    assert scores(images.images, images.labels).min() > 0.5
    with pytest.raises(SynthGainError, match="made for images of"):
        scores(images.images[:, 0], images.labels)


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


@pytest.mark.parametrize(("height", "width"), [(1, 1), (8, 8), (28, 28), (5, 12)])
def test_the_affine_grid_is_that_of_torch(height, width):
    maps = torch.randn(7, 2, 3)
    expected = torch.nn.functional.affine_grid(maps, [7, 1, height, width], align_corners=False)
    assert torch.allclose(affine_grid(maps, height, width), expected, atol=1e-5)


ELASTIC = {"elastic_alpha": 34.0, "elastic_sigma": 4.0}


def test_elastic_without_strength_is_the_affine_map():
    images = torch.rand(5, 1, 28, 28)
    affine = random_affine(images, **AFFINE, generator=torch_generator(0))
    both = random_affine_elastic(
        images, **AFFINE, **(ELASTIC | {"elastic_alpha": 0.0}), generator=torch_generator(0)
    )
    assert torch.allclose(affine, both, atol=1e-6)


def test_the_displacement_is_simards_smoothed_noise():
    """The same noise through SciPy's Gaussian filter, zero outside of the image."""
    size, sigma, alpha = 20, 2.0, 7.0
    found = elastic_displacement(3, size, size, alpha=alpha, sigma=sigma, generator=torch_generator(5))
    noise = torch.rand(6, size, size, generator=torch_generator(5)).mul(2).sub(1).double().numpy()
    for axis in range(2):
        for image in range(3):
            expected = alpha * gaussian_filter(noise[3 * axis + image], sigma, mode="constant", truncate=8)
            assert np.allclose(found[image, :, :, axis], expected, atol=1e-4)


def test_the_displacement_has_the_documented_spread():
    field = elastic_displacement(400, 64, 64, alpha=34.0, sigma=4.0, generator=torch_generator(0))
    inside = field[:, 24:40, 24:40]
    assert inside.std().item() == pytest.approx(34 / (2 * 4 * (3 * np.pi) ** 0.5), rel=0.03)
    assert abs(inside.mean().item()) < 0.05


def test_each_image_has_a_smooth_distortion_of_its_own():
    field = elastic_displacement(20, 28, 28, alpha=34.0, sigma=4.0, generator=torch_generator(1))
    assert len({tuple(one.flatten().tolist()) for one in field}) == 20
    assert field.diff(dim=1).abs().max() < 1.5  # neighbours move together: no fold, no tear


def test_a_pixel_of_displacement_is_a_pixel(monkeypatch):
    """A constant field of one pixel to the right takes each pixel from its right neighbour."""
    images = torch.rand(2, 1, 12, 16)
    shift = torch.zeros(2, 12, 16, 2)
    shift[..., 0] = 1.0
    monkeypatch.setattr("pipeline.augmentation.classic.elastic_displacement", lambda *a, **k: shift.clone())
    moved = random_affine_elastic(
        images, **dict.fromkeys(AFFINE, 0.0), **ELASTIC, generator=torch_generator(0)
    )
    assert torch.allclose(moved[..., :-1], images[..., 1:], atol=1e-5)
    assert torch.allclose(moved[..., -1], torch.zeros(2, 1, 12), atol=1e-5)


@pytest.fixture(scope="module")
def classifier_params():
    values = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    values["classifier"] |= {"channels": 4, "feature_dim": 8, "steps": 3, "batch_size": 8}
    return parse_params(values, where="params.yaml").classifier.of_budget(1000)


def study_cells(
    digits, settings, arms, ratio=1.0, replicates=2, extra=True, execution=ONE_PROCESS, store=None
):
    """The cells of these arms, trained; in a store of their own, so that nothing is found."""
    train_split = digits.subset(np.arange(600))

    def images():
        for real in real_subsets(train_split, budget=40, replicates=range(replicates), seed=1, imbalance={}):
            synthetic = LabeledImages(
                digits.images[700:1500], digits.labels[700:1500], digits.class_names, real.provenance
            )
            yield ReplicateImages(
                real,
                synthetic,
                synthetic.subset(np.arange(0, len(synthetic), 2)),
                extra_real_images(train_split, real, images_per_real=ratio if extra else 99, seed=1),
            )

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setenv("SYNTHGAIN_STORE", str(store or folder))
        return train_cells(
            arms,
            images(),
            count=replicates,
            synthetic_per_real=ratio,
            classifier=settings,
            augmentation=AUGMENTATION,
            seed=1,
            execution=execution,
            label="cells",
        )[0]


def test_a_classifiers_key_holds_the_strengths_of_its_own_transforms_alone():
    """Another strength of colour trains no affine arm again."""
    names = {policy: set(replicates.strengths_of(POLICIES[policy], AUGMENTATION)) for policy in POLICIES}
    facts = {"fill", "flips"}
    assert names["none"] == set() and names["trivial_augment"] == facts
    assert names["shift"] == names["flip_crop"] == facts | {"shift_translation"}
    assert names["color"] == facts | {
        f"color_{name}" for name in ("brightness", "contrast", "saturation", "hue")
    }
    assert names["affine"] < names["affine_elastic"]
    assert names["affine_elastic"] - names["affine"] == {"elastic_alpha", "elastic_sigma"}
    assert names["mixup"] == {"mixup_alpha"}  # what comes in at a border is nothing to it
    assert names["affine_elastic_mixup"] == names["affine_elastic"] | names["mixup"]
    every = set(AUGMENTATION.model_dump())
    assert set().union(*names.values()) == every  # no strength is in no key


EVERY_KIND = ("real", "real_affine", "synthetic", "synthetic_fresh_affine_elastic", "extra_real")


def assert_the_same_but_for_rounding(cells, expected, arms=EVERY_KIND):
    assert [cell.facts for cell in cells] == [cell.facts for cell in expected]
    for cell, other in zip(cells, expected, strict=True):
        assert np.array_equal(cell.real_pixels, other.real_pixels)
        if cell.facts["arm"] in arms:
            for name, tensor in cell.weights.items():
                torch.testing.assert_close(tensor, other.weights[name], rtol=1e-3, atol=1e-4)


def test_cells_are_the_same_but_for_rounding_when_trained_as_one_batch(
    digits, classifier_params, monkeypatch
):
    arms = tuple(ARMS[name] for name in EVERY_KIND)
    expected = study_cells(digits, classifier_params, arms)
    monkeypatch.setattr(replicates.CellTraining, "as_one_batch", True)
    monkeypatch.setattr(replicates, "_AT_ONCE", 4)  # three batches for ten cells
    assert_the_same_but_for_rounding(study_cells(digits, classifier_params, arms), expected)


def test_every_policy_trains_on_colour_images_and_is_a_training_of_its_own(
    digits, classifier_params, monkeypatch
):
    colour = np.stack([digits.images[:, 0], 255 - digits.images[:, 0], digits.images[:, 0] // 2], axis=1)
    monkeypatch.setitem(globals(), "AUGMENTATION", AUGMENTATION.model_copy(update={"flips": "horizontal"}))
    arms = [Arm("real", policy) for policy in POLICIES]
    cells = study_cells(
        LabeledImages(colour, digits.labels, digits.class_names), classifier_params, arms, replicates=1
    )
    assert [cell.facts["classic_augmentation"] for cell in cells] == list(POLICIES)
    assert len(
        {torch.cat([t.flatten() for t in cell.weights.values()]).numpy().tobytes() for cell in cells}
    ) == len(POLICIES)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_trains_the_same_cells(digits, classifier_params):
    """But for augmentation: the two devices draw other random numbers."""
    arms = tuple(ARMS[name] for name in EVERY_KIND)
    expected = study_cells(digits, classifier_params, arms)
    on_gpu = study_cells(digits, classifier_params, arms, execution=ON_GPU)
    assert_the_same_but_for_rounding(on_gpu, expected, arms=("real", "synthetic", "extra_real"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_replays_what_it_would_compute_kernel_by_kernel(digits, classifier_params, monkeypatch):
    """Twelve steps: the first three are never replayed."""
    arms = tuple(ARMS[name] for name in EVERY_KIND)
    longer = classifier_params.model_copy(update={"steps": 12})
    replayed = study_cells(digits, longer, arms, execution=ON_GPU)
    monkeypatch.setattr(cuda_graphs, "_WARM_UP", sys.maxsize)
    assert_the_same_but_for_rounding(study_cells(digits, longer, arms, execution=ON_GPU), replayed)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_trains_with_every_policy(digits, classifier_params):
    """Also with the one whose steps cannot be replayed."""
    longer = classifier_params.model_copy(update={"steps": 6})
    arms = [Arm("real", policy) for policy in POLICIES]
    cells = study_cells(digits, longer, arms, replicates=1, execution=ON_GPU)
    assert [cell.facts["classic_augmentation"] for cell in cells] == list(POLICIES)


def test_cells_are_the_same_to_the_bit_one_after_another_and_side_by_side(digits, classifier_params):
    """Two threads in all: one process uses one of them, two processes one each."""
    side_by_side = ONE_PROCESS.model_copy(update={"threads": 2})
    arms = (ARMS["real"], ARMS["synthetic_fresh_affine"])
    one = study_cells(digits, classifier_params, arms)
    two = study_cells(digits, classifier_params, arms, execution=side_by_side)
    assert [cell.facts for cell in one] == [cell.facts for cell in two] and len(one) == 4
    for a, b in zip(one, two, strict=True):
        assert (a.real_pixels == b.real_pixels).all()
        assert {n: t.tolist() for n, t in a.weights.items()} == {n: t.tolist() for n, t in b.weights.items()}


def test_held_out_images_are_told_apart_alike_in_one_process_and_in_two(
    digits, classifier_params, tmp_path, monkeypatch
):
    splits = {"validation": digits.images[1000:1200], "test": digits.images[1200:1500]}
    cells = study_cells(digits.subset(np.arange(1000)), classifier_params, (ARMS["real"],))
    arguments = {"channels": classifier_params.channels, "feature_dim": classifier_params.feature_dim}
    arguments |= {"num_classes": 10, "image_size": 8}
    files = [tmp_path / f"{number}.safetensors" for number in range(3)]
    for file, part in zip(files, (cells[:1], [], cells[1:]), strict=True):
        save_cells(file, part, arguments=arguments)
    for processes in (1, 2):
        execution = ONE_PROCESS.model_copy(update={"threads": processes})
        monkeypatch.setenv("SYNTHGAIN_STORE", str(tmp_path / f"store{processes}"))
        found = list(predictions_of_cells(files, splits, execution=execution))
        assert [facts for facts, _ in found] == [cell.facts for cell in cells]
        for cell, (_, seen) in zip(cells, found, strict=True):
            network = network_from(arguments, cell.weights, CPU)
            for name, images in splits.items():
                assert (seen[name] == predict(network, images, CPU)).all()
    with pytest.raises(SynthGainError, match="images of the test split are among the real training images"):
        list(predictions_of_cells(files, {"test": digits.images[:1000]}, execution=ONE_PROCESS))


def pass_of(training, **changes):
    """The positions that the first two passes of a fresh training show."""
    draw = fresh_epochs(training, **changes)
    rng = torch_generator(3)
    return [draw(rng).tolist() for _ in range(6)]


def test_a_fresh_pass_shows_every_real_image_and_other_synthetic_ones_each_time(digits):
    training = digits.subset(np.arange(200))
    pool = training.labels[50:]
    per_epoch = np.zeros(10, dtype=np.int64)
    per_epoch[[3, 8]] = 4, 2
    passes = pass_of(training, real_images=50, per_epoch=per_epoch)
    for shown in passes:
        assert sorted(shown)[:50] == list(range(50)) and len(shown) == 56
        synthetic = training.labels[[position for position in shown if position >= 50]]
        assert np.bincount(synthetic, minlength=10).tolist() == per_epoch.tolist()
    threes = [p for shown in passes for p in shown if p >= 50 and training.labels[p] == 3]
    size = int((pool == 3).sum())
    assert len(threes) == 24 and np.ptp(np.unique(threes, return_counts=True)[1]) <= 1
    assert len(set(threes)) == min(size, 24)  # none comes again before all have come
    assert passes == pass_of(training, real_images=50, per_epoch=per_epoch)


def test_weights_of_one_are_no_weights_and_others_change_the_training(digits):
    ones = np.ones(len(digits), dtype=np.float32)
    plain, weighted = train(digits), train(digits, weights=ones)
    assert torch.allclose(weights(plain), weights(weighted), atol=1e-6)
    half = ones.copy()
    half[::2] = 0.5
    assert not torch.allclose(weights(plain), weights(train(digits, weights=half)), atol=1e-4)


def test_targets_that_are_not_mixed_train_what_labels_train(digits):
    """With weights and smoothing: what mixup blends is the loss that all other arms have."""
    half = np.where(np.arange(len(digits)) % 2, 0.5, 1.5).astype(np.float32)
    for options in ({}, {"weights": half}, {"weights": half, "real_images": 900, "real_only_tail": 0.4}):
        targets = train(digits, mix=lambda images, targets, rng: (images, targets), **options)
        assert torch.allclose(weights(targets), weights(train(digits, **options)), atol=1e-5)


def test_images_without_weight_teach_nothing(digits):
    """Wrong labels of weight 0: as good as without them."""
    order = np.random.default_rng(0).permutation(len(digits))
    right, test = digits.subset(order[:700]), digits.subset(order[1400:])
    wrong = LabeledImages(right.images, (right.labels + 1) % 10, digits.class_names)
    both = concatenate([right, wrong], {})
    none = np.repeat(np.array([2, 0], dtype=np.float32), 700)
    ignored = train(both, weights=none, steps=200, batch_size=64)
    believed = train(both, steps=200, batch_size=64)
    accuracy = [(predict(one, test.images, CPU) == test.labels).mean() for one in (ignored, believed)]
    assert accuracy[0] > 0.8 > 0.65 > accuracy[1]


def test_a_tail_of_everything_is_the_training_on_real_images(digits):
    real = digits.subset(np.arange(60))
    assert torch.equal(
        weights(train(digits, real_images=60, real_only_tail=1.0)),
        weights(train(real)),
    )
    none = train(digits, real_images=60, real_only_tail=0.0)
    assert torch.equal(weights(none), weights(train(digits)))
    some = train(digits, real_images=60, real_only_tail=0.4)
    assert not torch.equal(weights(some), weights(none))


def test_the_tail_shows_real_images_only(digits):
    """Fakes marked white, seen through the augmentation: none in the last two of five steps, some before."""
    marked = digits.images.copy()
    marked[60:] = 255
    seen = []

    def look(images, rng):
        seen.append((images.flatten(1).amin(1) == 1).sum().item())
        return images

    train(
        LabeledImages(marked, digits.labels, digits.class_names),
        augment=look,
        real_images=60,
        real_only_tail=0.4,
    )
    assert len(seen) == 5 and min(seen[:3]) > 8 and seen[3:] == [0, 0]


def test_only_images_from_the_first_augmented_on_are_augmented(digits):
    """Augmentation to black: a network that learns from images before that position alone is the same."""

    def black(images, rng):
        return torch.zeros_like(images)

    plain = train(digits)
    assert torch.equal(weights(train(digits, augment=black, first_augmented=len(digits))), weights(plain))
    assert not torch.equal(weights(train(digits, augment=black, first_augmented=900)), weights(plain))


def test_the_last_steps_have_weights_of_their_own(digits):
    real = digits.subset(np.arange(60))
    own = np.linspace(0.5, 1.5, 60, dtype=np.float32)
    whole_tail = train(real, real_images=60, real_only_tail=1.0, tail_weights=own)
    assert torch.equal(weights(whole_tail), weights(train(real, weights=own)))
    late = train(real, real_images=60, real_only_tail=0.4, tail_weights=own)
    assert not torch.equal(weights(late), weights(train(real, real_images=60, real_only_tail=0.4)))


def test_equal_shares_adjust_nothing_and_rare_classes_are_claimed_more_often(digits):
    order = np.random.default_rng(0).permutation(len(digits))
    pool, test = digits.subset(order[:1200]), digits.subset(order[1200:])
    eights = np.flatnonzero(pool.labels == 8)
    real = pool.subset(np.setdiff1d(np.arange(1200), eights[20:]))
    plain = train(real)
    assert torch.allclose(weights(plain), weights(train(real, logit_shift=np.full(10, -2.3))), atol=1e-3)
    how = {"steps": 100, "batch_size": 64}
    shares = np.log(real.counts() / len(real))
    likely = [
        class_probabilities(train(real, logit_shift=shift, **how), test.images[test.labels == 8], CPU)[:, 8]
        for shift in (None, shares)
    ]
    assert likely[1].mean() > 1.5 * likely[0].mean() and likely[1].mean() > 0.2


@given(counts=st.lists(st.integers(1, 10_000), min_size=2, max_size=12), smoothing=st.floats(0.01, 0.5))
def test_adjusted_logits_that_fit_smoothed_labels_best_say_the_label(counts, smoothing):
    """Were smoothing spread alike over all classes, they would say the rarest one of nearly every image."""
    shift = (torch.tensor(counts) / sum(counts)).log()
    labels = torch.arange(len(counts))
    spread = smoothing_spread(shift, len(counts), CPU)
    assert spread.tolist() == pytest.approx([count / sum(counts) for count in counts], rel=1e-4)
    targets = soft_targets(labels, None, spread, label_smoothing=smoothing)
    assert torch.equal((targets.log() - shift).argmax(1), labels)
    assert torch.allclose(smoothing_spread(None, 4, CPU), torch.full((4,), 0.25))


def test_an_epoch_of_balanced_sampling_shows_each_class_as_often(digits):
    real = digits.subset(np.arange(100)).subset(np.r_[0:40, np.flatnonzero(digits.labels[:100] < 3)])
    draw = replicates._draw_epoch(TrainingSet(real, len(real), balanced=True))
    rng = torch_generator(0)
    counts = [np.bincount(real.labels[draw(rng)], minlength=10) for _ in range(3)]
    assert {count for epoch in counts for count in epoch.tolist()} == {-(-len(real) // 10)}
    assert replicates._draw_epoch(TrainingSet(real, len(real))) is None


def test_each_remedy_is_a_training_of_its_own_and_its_value_is_in_no_other_key(digits, classifier_params):
    names = ("real", "class_weights", "deferred_weights", "balanced_sampling", "logit_adjustment")
    rare = digits.subset(np.arange(400))
    real = next(real_subsets(rare, budget=200, replicates=[0], seed=1, imbalance={"3": 0.2}))

    def trained(**changes):
        settings = classifier_params.model_copy(update={"steps": 15, **changes})
        how = replicates.CellTraining(settings, AUGMENTATION, CPU, torch.float32, Path("store"))
        jobs = replicates.cell_jobs(
            [ARMS[name] for name in names],
            [ReplicateImages(real)],
            synthetic_per_real=0,
            classifier=settings,
            seed=1,
        )
        return {
            job.arm.name: (
                job.key(how).digest,
                weights(replicates.train_cell(job, how, lambda units, note="": None)).tolist(),
            )
            for job in jobs
        }

    before = trained()
    assert len({key for key, _ in before.values()}) == len({tuple(made) for _, made in before.values()}) == 5
    for value, arm in (("logit_adjustment", "logit_adjustment"), ("reweighted_tail", "deferred_weights")):
        after = trained(**{value: 0.5})
        for part in (0, 1):
            assert [name for name in names if after[name][part] != before[name][part]] == [arm]


def test_weight_and_tail_change_the_arms_with_both_and_no_other(digits, classifier_params):
    arms = [ARMS[name] for name in ("real", "synthetic", "synthetic_fresh", "synthetic_only", "extra_real")]
    plain = study_cells(digits, classifier_params, arms, replicates=1)
    for change in ({"synthetic_weight": 0.3}, {"real_only_tail": 0.5}):
        changed = study_cells(digits, classifier_params.model_copy(update=change), arms, replicates=1)
        same = {
            cell.facts["arm"]: all(
                torch.equal(cell.weights[name], twin.weights[name]) for name in cell.weights
            )
            for cell, twin in zip(plain, changed, strict=True)
        }
        assert same == {
            "real": True,
            "synthetic": False,
            "synthetic_fresh": False,
            "synthetic_only": True,
            "extra_real": True,
        }
        assert [cell.facts for cell in plain] == [cell.facts for cell in changed]


def test_every_arm_trains_equally_long_on_its_replicates_subset(digits, classifier_params):
    arms = [
        arm
        for arm in ARMS.values()
        if arm.policy in ("none", "affine", "affine_elastic") and not arm.pool  # these: test_pool_training.py
    ]
    cells = study_cells(digits, classifier_params, arms)
    names = [arm.name for arm in arms]
    assert [(c.facts["arm"], c.facts["replicate"]) for c in cells] == [(a, i) for i in (0, 1) for a in names]
    assert {(c.facts["optimizer_steps"], c.facts["batch_size"]) for c in cells} == {(3, 8)}
    for replicate in (0, 1):
        assert len({c.facts["real_subset_sha256"] for c in cells if c.facts["replicate"] == replicate}) == 1
    sizes = {c.facts["arm"]: c.facts["training_images"] for c in cells}
    assert sizes["real"] == 40 and sizes["repeat"] == sizes["extra_real"] == sizes["synthetic"] == 80
    keys = {c.facts["arm"]: c.real_pixels for c in cells if c.facts["replicate"] == 0}
    # The generator of synthetic_only saw the subset: its images have a part in the cell.
    assert np.array_equal(keys["synthetic_only"], keys["real"])
    assert set(keys["real"]) < set(keys["extra_real"]) and len(keys["extra_real"]) > len(keys["real"])
    weights_of = {c.facts["arm"]: c.weights["conv1.weight"] for c in cells if c.facts["replicate"] == 0}
    assert not torch.equal(weights_of["real_affine"], weights_of["real_affine_elastic"])


def test_extra_real_arms_are_left_out_where_the_split_has_too_few(digits, classifier_params):
    cells = study_cells(digits, classifier_params, arms_at("controls", list(ARMS)), extra=False)
    assert [cell.facts["arm"] for cell in cells] == ["repeat", "repeat"]
