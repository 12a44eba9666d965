"""Copies are found, unseen real images are not, underfitting is neither; agreement with SciPy and by hand."""

import numpy as np
import pytest
import scipy.stats
import torch

from pipeline.generative_metrics.budget import BudgetImages
from pipeline.generative_metrics.memorization import (
    CLOSEST_PAIRS,
    REAL_SHARE,
    Gate,
    Neighbors,
    authenticity,
    data_copying_score,
    evaluate_memorization,
    judge,
    near_copies,
    near_duplicates,
    nearest_of_their_own,
    nearest_training_images,
)
from pipeline.images import LabeledImages
from pipeline.study.subsets import subset_indices

CLASS_NAMES = ("circle", "square")
GATE = Gate(near_copies_margin=0.05, authenticity_margin=0.1)
SEED = 3


def points(seed, n, size=4, scale=1.0):
    return torch.from_numpy(np.random.default_rng(seed).normal(0, scale, (n, size)))


def test_neighbours_by_hand():
    training = torch.tensor([[0.0], [1.0], [10.0]])
    found = nearest_training_images(torch.tensor([[0.5], [9.0], [10.0], [30.0]]), training)
    assert found.index.tolist() == [0, 2, 2, 2]
    assert found.squared.tolist() == [0.25, 1.0, 0.0, 400.0]
    # Distance to the nearest training image, over that one's own: 1 for the image at 0, 9 for that at 10.
    assert found.nearness == pytest.approx([0.5, 1 / 9, 0.0, 20 / 9])
    assert authenticity(found) == 0.25


def test_a_copy_of_an_image_that_is_there_twice_is_a_copy():
    training = torch.tensor([[0.0], [0.0], [5.0]])
    found = nearest_training_images(torch.tensor([[0.0], [0.1]]), training)
    assert found.nearness.tolist() == [0.0, np.inf]


def test_neighbours_are_those_of_scipy_and_blocks_change_nothing(monkeypatch):
    queries, training = points(0, 300), points(1, 200)
    found = nearest_training_images(queries, training)
    distances = scipy.spatial.distance.cdist(queries, training)
    assert np.array_equal(found.index, distances.argmin(axis=1))
    assert np.sqrt(found.squared) == pytest.approx(distances.min(axis=1))
    own = scipy.spatial.distance.cdist(training, training) + np.diag(np.full(200, np.inf))
    assert found.nearness == pytest.approx(distances.min(axis=1) / own.min(axis=1)[found.index])
    monkeypatch.setattr("pipeline.generative_metrics.memorization._DISTANCES", 1000)
    assert np.array_equal(nearest_training_images(queries, training).index, found.index)


def test_the_data_copying_score_of_one_cell_is_scipys_z():
    training, labels = points(0, 50), np.zeros(50, dtype=np.int64)
    candidate = nearest_training_images(points(1, 80, scale=0.8), training)
    reference = nearest_training_images(points(2, 80), training)
    found = data_copying_score(candidate=candidate, reference=reference, training_labels=labels)
    test = scipy.stats.mannwhitneyu(
        candidate.squared, reference.squared, alternative="less", use_continuity=False, method="asymptotic"
    )
    assert found == pytest.approx(scipy.stats.norm.ppf(test.pvalue))


def test_the_data_copying_score_is_the_mean_of_its_cells_by_held_out_images():
    labels = np.array([0, 0, 1, 1])
    rng = np.random.default_rng(0)

    def neighbors(counts, scale):
        index = np.repeat([0, 2], counts)
        squared = rng.random(len(index)) * scale
        return Neighbors(squared, index, squared)

    reference, candidate = neighbors((60, 30), 1.0), neighbors((40, 50), 0.7)
    whole = data_copying_score(candidate=candidate, reference=reference, training_labels=labels)
    parts = []
    for cell in (0, 2):
        held_out, mine = (
            Neighbors(
                *(values[whole.index == cell] for values in (whole.squared, whole.index, whole.nearness))
            )
            for whole in (reference, candidate)
        )
        parts.append(data_copying_score(candidate=mine, reference=held_out, training_labels=labels))
    assert whole == pytest.approx((60 * parts[0] + 30 * parts[1]) / 90)


def test_the_score_has_the_sign_of_copying_and_of_underfitting():
    training, labels = points(0, 100), np.zeros(100, dtype=np.int64)
    reference = nearest_training_images(points(1, 200), training)

    def score(queries):
        neighbors = nearest_training_images(queries, training)
        return data_copying_score(candidate=neighbors, reference=reference, training_labels=labels)

    assert abs(score(points(2, 200))) < 3  # as real as the reference
    assert score(training.repeat(2, 1) + points(3, 200, scale=0.05)) < -10
    assert score(points(4, 200, scale=3.0)) > 10
    assert score(points(5, 10)) is None  # too few in any cell


def test_of_real_images_one_percent_are_near_copies_by_definition():
    training = points(0, 300)
    reference, unseen = (nearest_training_images(points(seed, 4000), training) for seed in (1, 2))
    assert near_copies(candidate=reference, reference=reference) == REAL_SHARE
    assert near_copies(candidate=unseen, reference=reference) == pytest.approx(REAL_SHARE, abs=0.006)
    mixed = torch.cat([points(3, 3600), training[:300] + 1e-4, training[:100] + 2e-4])
    found = near_copies(candidate=nearest_training_images(mixed, training), reference=reference)
    assert found == pytest.approx(0.1 + 0.9 * REAL_SHARE, abs=0.006)  # 400 of 4000 are copies


def test_duplicates_are_found_and_real_images_have_few():
    reference = nearest_of_their_own(points(0, 1000))
    assert near_duplicates(candidate=nearest_of_their_own(points(1, 1000)), reference=reference) < 0.03
    halved = torch.cat([points(2, 800), points(2, 800)[:200] + 1e-6])
    found = near_duplicates(candidate=nearest_of_their_own(halved), reference=reference)
    assert found == pytest.approx(0.4, abs=0.03)  # 200 pairs


def pictures(seed, per_class, **provenance):
    """Blurred 12×12 blobs at random places, each class in a half of its own."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(2), per_class)
    centres = rng.uniform(2, 10, (2, len(labels)))
    centres[0] = centres[0] / 2 + 3 * labels
    rows, columns = np.mgrid[:12, :12]
    squares = (rows - centres[0][:, None, None]) ** 2 + (columns - centres[1][:, None, None]) ** 2
    widths = rng.uniform(2, 8, (len(labels), 1, 1))
    images = 255 * np.exp(-squares / widths)
    return LabeledImages(images.astype(np.uint8)[:, None], labels.astype(np.int64), CLASS_NAMES, provenance)


def features_from_images(images):
    return images.mean(axis=1).reshape(len(images), 12, 12).mean(axis=2).astype(np.float32)


def evaluate(synthetic, budget=60, replicates=None, **changes):
    train = pictures(1, 200)
    replicates = replicates or range(len(synthetic))
    subsets = [subset_indices(train, budget=budget, replicate=i, seed=SEED) for i in replicates]
    images = BudgetImages(
        budget=budget,
        replicates=replicates,
        synthetic=synthetic,
        train=train,
        subsets=subsets,
        validation=train,
        test=pictures(2, 300),
    )
    arguments = {"n": 200, "gate": GATE, "seed": SEED}
    return evaluate_memorization(images, features_from_images, **(arguments | changes))


def memorised(budget, replicate, share):
    """A set of which a share are its training images, one grey level brighter."""
    train = pictures(1, 200)
    subset = train.subset(subset_indices(train, budget=budget, replicate=replicate, seed=SEED))
    honest = pictures(90 + replicate, 150)
    copies = subset.subset(np.resize(np.arange(len(subset)), len(honest)))
    order = np.argsort(copies.labels, kind="stable")
    take = np.random.default_rng(0).random(len(honest)) < share
    images = np.where(take[:, None, None, None], np.minimum(copies.images[order], 254) + 1, honest.images)
    labels = np.where(take, copies.labels[order], honest.labels)
    return LabeledImages(images.astype(np.uint8), labels, CLASS_NAMES)


def test_honest_images_pass_and_copies_do_not():
    result = evaluate([pictures(50, 150), memorised(60, 1, 1.0), memorised(60, 2, 0.2)])
    honest, copied, partly = result["replicates"].values()
    assert honest["passed"] and not copied["passed"] and not partly["passed"]
    assert copied["pixel"]["near_copies"] > 0.9 and copied["pixel"]["authenticity"] < 0.05
    assert "near copies in pixel space (allowed up to 8.0%" in copied["reason"]
    assert 0.1 < partly["pixel"]["near_copies"] < 0.35
    # Copies of another replicate's images are none: each is held against what its own GAN saw.
    stranger = evaluate([pictures(50, 150), memorised(60, 0, 1.0)])["replicates"]["2"]
    assert stranger["pixel"]["near_copies"] < 0.5


def test_copies_in_colour_are_found_as_well(monkeypatch):
    grey = pictures

    def tinted(*arguments):
        part = grey(*arguments)
        colours = np.concatenate([part.images, part.images // 2, 255 - part.images], axis=1)
        return LabeledImages(colours, part.labels, CLASS_NAMES, part.provenance)

    monkeypatch.setitem(globals(), "pictures", tinted)
    honest, copied = evaluate([pictures(50, 150), memorised(60, 1, 1.0)])["replicates"].values()
    assert honest["passed"] and not copied["passed"]


def test_anchors_stand_beside():
    result = evaluate([pictures(50, 150)])
    assert result["n"] == 200
    for space in ("pixel", "feature"):
        assert result["real_test"][space]["near_copies"] < 0.05
        assert abs(result["real_test"][space]["c_t"]) < 3
        assert result["copycat"][space]["c_t"] < -8
    assert result["copycat"]["pixel"]["near_copies"] > 0.6
    assert result["copycat"]["pixel"]["median_distance"] < 4 < result["real_test"]["pixel"]["median_distance"]
    passed, _ = judge(result["real_test"], real_test=result["real_test"], n=200, gate=GATE)
    assert passed


def test_the_closest_pairs_are_pairs():
    synthetic = memorised(60, 0, 0.3)
    train = pictures(1, 200)
    pairs = evaluate([synthetic])["replicates"]["1"]["closest_pairs"]
    in_pixels = [pair for pair in pairs if pair["space"] == "pixel"]
    assert len(in_pixels) == CLOSEST_PAIRS == len({pair["train_index"] for pair in in_pixels})
    assert [pair["nearness"] for pair in in_pixels] == sorted(pair["nearness"] for pair in in_pixels)
    for pair in in_pixels:
        difference = synthetic.images[pair["synthetic_index"]].astype(int) - train.images[pair["train_index"]]
        assert np.abs(difference).max() <= 1
        assert pair["class"] == CLASS_NAMES[synthetic.labels[pair["synthetic_index"]]]
    subset = set(subset_indices(train, budget=60, replicate=0, seed=SEED).tolist())
    assert {pair["train_index"] for pair in pairs} <= subset


def test_the_whole_split_as_a_budget_and_exact_duplicates():
    synthetic = pictures(50, 150)
    synthetic.images[1] = synthetic.images[0]
    found = evaluate([synthetic], budget="all", n=10_000)
    assert found["n"] == 300
    assert found["replicates"]["1"]["exact_duplicates"] == 1


def test_the_same_inputs_give_the_same_values():
    assert evaluate([pictures(50, 150)]) == evaluate([pictures(50, 150)])
    assert evaluate([pictures(50, 150)]) != evaluate([pictures(50, 150)], seed=SEED + 1)


def test_the_gate_is_what_the_parameters_say():
    real = {"pixel": {"near_copies": 0.01, "authenticity": 0.55}}
    near = {"pixel": {"near_copies": 0.06, "authenticity": 0.50}}
    assert judge(near, real_test=real, n=10**8, gate=Gate(0.06, 0.1))[0]
    assert not judge(near, real_test=real, n=10**8, gate=Gate(0.04, 0.1))[0]
    passed, reason = judge(near, real_test=real, n=10**8, gate=Gate(0.06, 0.02))
    assert not passed and reason.startswith("authenticity 50.0% in pixel space (allowed from 53.0%")
    # With 200 images, two standard errors of the difference are 10 points: chance explains it.
    assert judge(near, real_test=real, n=200, gate=Gate(0.06, 0.02))[0]
    assert "near copies at most 5 points above" in str(Gate(0.05, 0.1))


def test_a_replicate_that_is_left_out_changes_nothing_of_the_others():
    synthetic = [memorised(60, replicate, 0.1) for replicate in range(3)]
    whole, rest = evaluate(synthetic), evaluate([synthetic[0], synthetic[2]], replicates=(0, 2))
    del whole["replicates"]["2"]
    assert rest == whole
