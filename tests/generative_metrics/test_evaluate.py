"""The table of a budget: one n for every row, anchors from the right images, scenarios with known answers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.checkpoints import save_checkpoint
from pipeline.classifier.network import EXTRACTOR_KIND, ConvNet, load_features_and_probabilities
from pipeline.errors import SynthGainError
from pipeline.generative_metrics.anchors import COPYCAT_NOISE
from pipeline.generative_metrics.budget import BudgetImages
from pipeline.generative_metrics.evaluate import (
    DescribedImages,
    FeatureNetworks,
    evaluate_budget,
    evaluate_images,
)
from pipeline.generative_metrics.features import Extractor
from pipeline.generative_metrics.fid import fid, fid_floor
from pipeline.generative_metrics.inception_score import inception_score
from pipeline.generative_metrics.kid import kernel_distance
from pipeline.generative_metrics.precision_recall import manifold_metrics
from pipeline.images import LabeledImages, concatenate, draw_indices
from pipeline.study.subsets import real_subset, subset_indices

CLASS_NAMES = ("circle", "square", "cross")
ROWS = {
    *("fid", "fid_scale", "kid", "precision", "recall", "density", "coverage"),
    *("inception_score", "label_fidelity", "label_fidelity_images"),
}
DOMAIN = Extractor("domain", "ab" * 32)
INCEPTION = Extractor("inception", "cd" * 32)
SEED = 7


def pictures(seed: int, counts: tuple[int, ...], **provenance: object) -> LabeledImages:
    """Noisy 8×8 images, each class bright in a place of its own."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    images = rng.integers(0, 60, size=(len(labels), 1, 8, 8))
    for label in range(len(counts)):
        images[labels == label, :, 2 * label : 2 * label + 2] += rng.integers(
            90, 190, size=(counts[label], 1, 1, 1)
        )
    return LabeledImages(images.astype(np.uint8), labels.astype(np.int64), CLASS_NAMES, provenance)


def features_and_probabilities(images):
    """The means of eight rows as features; the brightness of a pair of rows as evidence of its class."""
    rows = images.mean(axis=(1, 3), dtype=np.float64).astype(np.float32)
    pairs = rows[:, :6].reshape(-1, 3, 2).sum(axis=2)
    evidence = np.exp((pairs - pairs.max(axis=1, keepdims=True)) / 20)
    return rows, evidence / evidence.sum(axis=1, keepdims=True)


def described(images: LabeledImages) -> DescribedImages:
    return DescribedImages(*features_and_probabilities(images.images), images.labels, DOMAIN)


def shuffled(images: DescribedImages, order: np.ndarray) -> DescribedImages:
    return DescribedImages(images.features[order], images.probabilities[order], images.labels[order], DOMAIN)


def row_of(real: DescribedImages, synthetic: DescribedImages, **changes: object) -> dict:
    arguments = {"other_real": described(pictures(99, tuple(np.bincount(synthetic.labels)))), "neighbors": 3}
    return evaluate_images(
        real=real, synthetic=synthetic, class_names=CLASS_NAMES, **{**arguments, **changes}
    )


class Study:
    """Small splits and two replicates, with each call's images on record."""

    def __init__(self, *, budget=30, train_counts=(60, 60, 60), validation_counts=(60, 60, 60), replicates=2):
        self.test = pictures(1, (60, 40, 20))
        self.train = pictures(2, train_counts)
        self.validation = pictures(3, validation_counts)
        self.real_subset = real_subset(self.train, budget=budget, replicate=0, seed=SEED)
        self.subsets = [
            subset_indices(self.train, budget=budget, replicate=replicate, seed=SEED)
            for replicate in range(replicates)
        ]
        self.synthetic = [
            pictures(
                10 + replicate,
                (50, 50, 50),
                budget=budget,
                replicate=replicate,
                real_subset_sha256=self.real_subset.provenance["real_subset_sha256"],
            )
            for replicate in range(replicates)
        ]
        self.budget = budget
        self.seen = []

    def evaluate(self, **changes):
        def recorded(images):
            self.seen.append(images)
            return features_and_probabilities(images)

        def chosen(**defaults):
            return {name: changes.get(name, default) for name, default in defaults.items()}

        images = chosen(
            budget=self.budget,
            replicates=range(len(self.synthetic)),
            synthetic=self.synthetic,
            train=self.train,
            validation=self.validation,
            subsets=self.subsets,
            test=self.test,
        )
        networks = chosen(domain=recorded, extractor=DOMAIN, inception=None)
        settings = chosen(n=60, neighbors=3, seed=SEED)
        assert set(changes) <= {*images, *networks, *settings}
        return evaluate_budget(BudgetImages(**images), FeatureNetworks(**networks), **settings)


def test_a_row_is_what_the_metrics_say():
    real, synthetic = described(pictures(1, (40, 30, 30))), described(pictures(2, (40, 30, 30)))
    other = described(pictures(3, (40, 30, 30)))
    row = row_of(real, synthetic, other_real=other)
    assert set(row) == ROWS | {"fid_per_class", "label_fidelity_per_class"}
    floor = fid_floor(real=real.statistics(), other_real=other.statistics())
    expected = fid(synthetic=synthetic.statistics(), floor=floor)
    assert row["fid"] == pytest.approx(expected.value, rel=1e-5)
    assert row["fid_scale"] == {
        "floor": pytest.approx(floor.value, rel=1e-5),
        "n": 100,
        "extractor_sha256": DOMAIN.sha256,
    }
    assert row["inception_score"] == pytest.approx(inception_score(synthetic.probabilities), rel=1e-5)
    kid = kernel_distance(real=real.features, synthetic=synthetic.features)
    assert row["kid"] == pytest.approx(kid, rel=1e-5)
    metrics = manifold_metrics(real=real.features, synthetic=synthetic.features, neighbors=3)
    assert row["coverage"] == pytest.approx(metrics.coverage, rel=1e-5)
    assert row["label_fidelity"] == pytest.approx(
        (synthetic.predictions == synthetic.labels).mean(), rel=1e-5
    )
    assert set(row["fid_per_class"]) == set(row["label_fidelity_per_class"]) == set(CLASS_NAMES)


def test_one_wrong_class_shows_in_its_own_numbers():
    real, synthetic = pictures(1, (40, 40, 40)), pictures(2, (40, 40, 40))
    crosses = synthetic.images[synthetic.labels == 2]
    synthetic.images[synthetic.labels == 1] = crosses  # asked for squares, got crosses
    row = row_of(described(real), described(synthetic))
    assert row["label_fidelity_per_class"] == {"circle": 1.0, "square": 0.0, "cross": 1.0}
    assert row["label_fidelity"] == pytest.approx(2 / 3, rel=1e-5)
    assert row["fid_per_class"]["square"] > 10 * max(
        row["fid_per_class"][name] for name in ("circle", "cross")
    )


def test_labels_are_judged_on_every_image_there_is():
    """The worst class of few images is a matter of luck."""
    real, drawn = described(pictures(1, (40, 40, 40))), described(pictures(2, (40, 40, 40)))
    wrong = pictures(3, (20, 20, 20))
    wrong.images[wrong.labels == 1] = wrong.images[wrong.labels == 2]
    every = concatenate([pictures(2, (40, 40, 40)), wrong], {})
    row = row_of(real, drawn, all_synthetic=described(every))
    assert (row["label_fidelity"], row["label_fidelity_images"]) == (pytest.approx(160 / 180, rel=1e-5), 180)
    assert row["label_fidelity_per_class"]["square"] == pytest.approx(40 / 60, rel=1e-5)
    assert {**row, **row_of(real, drawn)} == row_of(real, drawn)  # nothing else of the row depends on them


def test_the_order_of_the_images_does_not_change_a_row():
    real, synthetic = described(pictures(1, (40, 30, 30))), described(pictures(2, (40, 30, 30)))
    rows = [
        row_of(shuffled(real, order), shuffled(synthetic, order))
        for order in (np.arange(100), np.random.default_rng(0).permutation(100))
    ]
    assert rows[0] == rows[1]


def test_no_more_images_than_features_are_refused():
    few = described(pictures(1, (3, 3, 2)))
    with pytest.raises(
        SynthGainError, match=r"between 8 images in 8 features .* more than 8 .* evaluation\.images"
    ):
        row_of(few, few)


def test_a_class_with_one_image_is_named():
    real = described(pictures(1, (20, 20, 1)))
    with pytest.raises(SynthGainError, match="class cross: 1 real and 20 synthetic images"):
        row_of(real, described(pictures(2, (20, 20, 20))))


def test_a_floor_of_another_n_is_refused():
    real, other = described(pictures(1, (40, 30, 30))), described(pictures(2, (40, 30, 29)))
    with pytest.raises(
        SynthGainError,
        match="found 30 synthetic images and a floor of 29",
    ):
        row_of(real, real, other_real=other)


def test_every_row_has_the_same_images_per_class():
    study = Study()
    table = study.evaluate()
    assert (table["budget"], table["n"], table["neighbors"], table["features"]) == (30, 60, 3, "domain")
    # In the shares of the test split (60, 40, 20), though train and synthetic images are balanced.
    assert table["n_per_class"] == {"circle": 30, "square": 20, "cross": 10}
    assert list(table["replicates"]) == ["1", "2"]
    for row in (table["floor"], table["copycat"], *table["replicates"].values()):
        assert ROWS < set(row)
    whole_test, *sets = study.seen
    assert len(whole_test) == len(study.test)
    # Test, floor, copycat; of each replicate all images, whose labels are judged, and as many as the others have.
    assert [len(images) for images in sets] == [60, 60, 60, 150, 60, 150, 60]
    assert [row["label_fidelity_images"] for row in table["replicates"].values()] == [150, 150]
    assert table["extractor_sha256"] == DOMAIN.sha256
    scales = [row["fid_scale"] for row in (table["floor"], table["copycat"], *table["replicates"].values())]
    assert scales == [{"floor": table["floor"]["fid"], "n": 60, "extractor_sha256": DOMAIN.sha256}] * 4


def test_inception_features_have_columns_of_their_own(monkeypatch):
    monkeypatch.setattr("pipeline.generative_metrics.evaluate.FEATURE_DIM", 12)

    def columns(images):
        return images.mean(axis=(1, 2), dtype=np.float64).astype(np.float32)

    domain, both = Study().evaluate(), Study().evaluate(inception=(columns, INCEPTION))
    assert (domain["features"], both["features"]) == ("domain", "inception")
    assert not [name for name in domain["floor"] if name.startswith("inception_f")]
    for name in ("floor", "copycat"):
        row = both[name]
        assert {key: row[key] for key in domain[name]} == domain[
            name
        ]  # the domain's columns stay what they are
        assert row["inception_fid_scale"] == {
            "floor": both["floor"]["inception_fid"],
            "n": 60,
            "extractor_sha256": INCEPTION.sha256,
        }
        for metric in ("fid", "kid", "precision", "recall", "density", "coverage"):
            assert np.isfinite(row[f"inception_{metric}"])
    assert both["copycat"]["inception_fid"] != both["copycat"]["fid"]


def test_too_few_images_for_inception_are_refused_before_any_work():
    study = Study()
    with pytest.raises(SynthGainError, match=r"evaluation\.features: found inception, but 60 images .* 2048"):
        study.evaluate(inception=(lambda images: 1 / 0, INCEPTION))
    assert not study.seen


def test_the_copycat_repeats_the_training_images_with_little_noise():
    study = Study()
    study.evaluate()
    copycat = study.seen[3].astype(int)
    originals = study.real_subset.images.astype(int)
    differences = np.abs(copycat[:, None] - originals[None]).reshape(len(copycat), len(originals), -1)
    nearest = differences.mean(axis=2).argmin(axis=1)
    noise = differences[np.arange(len(copycat)), nearest]
    assert 0 < noise.mean() < COPYCAT_NOISE
    # 30 images of class circle from about ten: each one as often as any other, give or take one.
    labels = study.real_subset.labels
    for label, count in enumerate((30, 20, 10)):
        members = np.flatnonzero(labels == label)
        used = np.bincount(nearest, minlength=len(labels))[members]
        assert used.sum() == count and used.max() - used.min() <= 1


@pytest.mark.parametrize("budget", [30, "all"])
def test_the_floor_is_of_images_on_which_nothing_was_trained(budget):
    study = Study(budget=budget)
    table = study.evaluate()
    floor = [image.tobytes() for image in study.seen[2]]
    assert table["floor_split"] == "validation" and table["n"] == 60
    assert set(floor) <= {image.tobytes() for image in study.validation.images} and len(set(floor)) == 60


def test_n_is_that_of_the_smallest_set_in_every_row():
    study = Study(validation_counts=(12, 40, 40))  # of circle, half of the test split, 12 are 24 in all
    table = study.evaluate()
    assert table["n"] == 24
    assert [len(images) for images in study.seen[1:4]] == [24, 24, 24]
    assert {row["fid_scale"]["n"] for row in (table["floor"], table["copycat"])} == {24}


def test_the_draw_depends_on_the_seed_and_on_nothing_else():
    assert Study().evaluate() == Study().evaluate()
    assert Study().evaluate()["floor"] != Study().evaluate(seed=SEED + 1)["floor"]
    three = Study(replicates=3).evaluate()
    two = Study(replicates=2).evaluate()
    assert three["replicates"]["2"] == two["replicates"]["2"]
    assert three["floor"] == two["floor"]


def test_a_generator_of_real_quality_is_near_the_floor_and_a_collapsed_one_is_not():
    study = Study(validation_counts=(200, 200, 200))
    collapsed = study.synthetic[1]
    for label in range(3):
        members = np.flatnonzero(collapsed.labels == label)
        collapsed.images[members] = collapsed.images[members[0]]
    table = study.evaluate(n=120)
    good, bad, floor = *table["replicates"].values(), table["floor"]
    assert good["fid"] < 3 * floor["fid"] < bad["fid"]
    assert good["coverage"] > floor["coverage"] - 0.2
    assert bad["coverage"] < 0.2 and bad["recall"] < 0.2
    assert bad["label_fidelity"] == 1.0  # a collapsed class can still be the right class


def test_n_is_lowered_to_what_the_smallest_set_offers():
    assert Study().evaluate(n=5000)["n_per_class"] == {"circle": 50, "square": 33, "cross": 17}


@given(st.lists(st.integers(0, 25), min_size=3, max_size=3), st.integers(0, 1000))
def test_drawn_positions_have_the_counts_and_repeat_evenly(counts, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(3), (5, 10, 20))).astype(np.int64)
    drawn = draw_indices(labels, np.array(counts), np.random.default_rng(seed))
    assert np.bincount(labels[drawn], minlength=3).tolist() == counts
    for label in range(3):
        used = np.bincount(drawn, minlength=len(labels))[labels == label]
        assert used.max() - used.min() <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget": 40}, "synthetic images of budget 40, replicate 1: the file says budget 30, replicate 1"),
        ({"synthetic": "swapped"}, "budget 30, replicate 1: the file says budget 30, replicate 2"),
        (
            {"subsets": "other"},
            "made from the real subset [0-9a-f]{64}, but params.yaml gives [0-9a-f]{64}",
        ),
        ({"train": "larger"}, r"train split: found 3 classes, images \(1, 12, 12\); the test split has 3"),
        ({"neighbors": 60}, r"evaluation\.neighbors: found 60"),
    ],
)
def test_files_that_do_not_belong_together_are_one_clear_line(change, message):
    study = Study()
    made = {
        "swapped": lambda: study.synthetic[::-1],
        "other": lambda: [subset_indices(study.train, budget=30, replicate=0, seed=SEED + 1)],
        "larger": lambda: LabeledImages(np.zeros((3, 1, 12, 12), np.uint8), np.arange(3), CLASS_NAMES),
    }
    with pytest.raises(SynthGainError, match=message) as caught:
        study.evaluate(**{key: made[value]() if value in made else value for key, value in change.items()})
    assert "\n" not in str(caught.value)


def test_a_row_does_not_depend_on_the_batches_of_the_extractor(tmp_path):
    torch.manual_seed(0)
    arguments = {"channels": 4, "feature_dim": 6, "num_classes": 3, "image_size": 8}
    metadata = {"kind": EXTRACTOR_KIND, "arguments": arguments, "feature_scale": 0.01}
    save_checkpoint(tmp_path / "extractor", ConvNet(**arguments).state_dict(), metadata)
    network = load_features_and_probabilities(tmp_path / "extractor", torch.device("cpu"))

    def in_batches_of(size):
        def described_in_parts(images):
            parts = [network(images[start : start + size]) for start in range(0, len(images), size)]
            return tuple(np.concatenate(values) for values in zip(*parts, strict=True))

        return Study().evaluate(domain=described_in_parts)["replicates"]["1"]

    whole = in_batches_of(1000)
    for size in (1, 7, 59):
        for name, value in in_batches_of(size).items():
            if name != "fid_scale":
                assert value == pytest.approx(whole[name], rel=1e-5), name


@pytest.mark.parametrize("collapse", ["within classes", "to one class"])
def test_what_each_metric_says_of_a_mode_collapse(collapse):
    real = described(pictures(1, (200, 200, 200)))
    good, bad = pictures(2, (200, 200, 200)), pictures(3, (200, 200, 200))
    rng = np.random.default_rng(4)
    first = bad.images[(bad.labels // 3 if collapse == "to one class" else bad.labels) * 200].astype(int)
    bad.images[:] = np.clip(first + rng.integers(-2, 3, first.shape), 0, 255)
    fine, collapsed = row_of(real, described(good)), row_of(real, described(bad))
    assert collapsed["fid"] > 10 * fine["fid"] and collapsed["kid"] > 5 * abs(fine["kid"])
    assert collapsed["recall"] < 0.1 and collapsed["coverage"] < 0.2 < 0.8 < fine["coverage"]
    if collapse == "to one class":
        assert collapsed["inception_score"] < 1.1 and collapsed["label_fidelity"] == pytest.approx(
            1 / 3, abs=1e-5
        )
    else:  # the two that look at single images do not see it
        assert collapsed["inception_score"] > 2.5 and collapsed["label_fidelity"] == 1.0
    assert fine["inception_score"] > 2.5 and fine["label_fidelity"] == 1.0


def test_a_replicate_that_is_left_out_changes_no_row_of_the_others():
    study = Study(replicates=3)
    whole = study.evaluate()
    chosen = [0, 2]
    rest = study.evaluate(
        replicates=chosen,
        synthetic=[study.synthetic[i] for i in chosen],
        subsets=[study.subsets[i] for i in chosen],
    )
    del whole["replicates"]["2"]
    assert rest == whole
