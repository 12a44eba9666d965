import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SynthGainError
from pipeline.images import LabeledImages, pixel_keys
from pipeline.sources.splits import split
from pipeline.study.arms import ARMS
from pipeline.study.pool import (
    PseudoLabels,
    collapse_of_self_training,
    load_pseudo_labels,
    pool_indices,
    problem_of_size,
    save_pseudo_labels,
    with_pseudo_labels,
)
from pipeline.study.subsets import real_subset, subset_indices
from pipeline.study.training_sets import needs_pseudo_labels, replicate_pool, shown_pool, without_collapsed

SEED = 7


def distinct(count, seed=0, classes=3):
    rng = np.random.default_rng(seed)
    images = np.zeros((count, 1, 8, 8), dtype=np.uint8)
    images[:, 0, 0, :2] = np.stack([np.arange(count) // 256, np.arange(count) % 256], axis=1)
    images[:, 0, 1:] = rng.integers(0, 255, (count, 7, 8))
    return LabeledImages(images, np.arange(count, dtype=np.int64) % classes, tuple("abc"[:classes]))


TRAIN = distinct(300)


def given_labels(count, *, probabilities=None, labels=None, least=0.5, pool_sha256="p"):
    if labels is None:
        labels = np.arange(count) % 3
    if probabilities is None:
        probabilities = np.full(count, 0.9)
    return PseudoLabels(labels.astype(np.int64), probabilities.astype(np.float32), pool_sha256, least)


@given(budget=st.integers(3, 200), replicate=st.integers(0, 5), count=st.integers(1, 100))
def test_a_pool_is_the_rest_of_the_split_in_random_order_and_a_count_its_beginning(budget, replicate, count):
    real = real_subset(TRAIN, budget=budget, replicate=replicate, seed=SEED)
    taken = subset_indices(TRAIN, budget=budget, replicate=replicate, seed=SEED)
    rest = pool_indices(TRAIN, real, size="rest", seed=SEED)
    assert sorted([*rest.tolist(), *taken.tolist()]) == list(range(len(TRAIN)))
    assert pool_indices(TRAIN, real, size=count, seed=SEED).tolist() == rest[:count].tolist()
    assert rest.tolist() != sorted(rest.tolist())
    assert len(pool_indices(TRAIN, real, size="none", seed=SEED)) == 0


def test_replicates_have_pools_of_their_own():
    pools = [
        pool_indices(TRAIN, real_subset(TRAIN, budget=30, replicate=i, seed=SEED), size="rest", seed=SEED)
        for i in range(2)
    ]
    assert set(pools[0].tolist()) != set(pools[1].tolist())


def test_no_image_of_a_pool_is_in_validation_or_test():
    """`prepare` drops what is in a stricter split too, to the pixel: a pool is part of what is left."""
    published = distinct(200)
    twins = LabeledImages(
        np.concatenate([published.images, published.images[:40]]),
        np.concatenate([published.labels, published.labels[:40]]),
        published.class_names,
    )
    test = published.subset(np.arange(100, 130))
    splits = split(twins, test, validation_images=30, seed=0)
    real = real_subset(splits.train, budget=30, replicate=0, seed=SEED)
    pool = splits.train.images[pool_indices(splits.train, real, size="rest", seed=SEED)]
    for held_out in (splits.validation, splits.test):
        assert not np.intersect1d(pixel_keys(pool), pixel_keys(held_out.images)).size


@pytest.mark.parametrize(
    "size, rest, said",
    [
        ("none", 0, None),
        ("rest", 1, None),
        (20, 20, None),
        (
            21,
            20,
            "found 21; beside 30 real images (study.real_images) the train split has 20 others: take 20",
        ),
        (
            "rest",
            0,
            "found rest; beside 30 real images (study.real_images) the train split has 0 others: set it",
        ),
    ],
)
def test_a_pool_that_is_not_there_is_refused_with_the_nearest_that_is(size, rest, said):
    problem = problem_of_size(size, rest=rest, real_images=30)
    assert (problem is None) if said is None else (said in problem)


def test_what_trains_gets_the_labels_that_its_arms_ask_for_and_no_others(tmp_path):
    real = real_subset(TRAIN, budget=30, replicate=0, seed=SEED)
    indices = pool_indices(TRAIN, real, size=100, seed=SEED)
    file = tmp_path / "labels.npz"

    def pool_of(*names):
        return replicate_pool(
            TRAIN, real, arms=[ARMS[name] for name in names], size=100, seed=SEED, pseudo_labels=file
        )

    bare = pool_of("consistency_affine")
    assert bare.pseudo_labels is None and bare.true_labels is None
    assert shown_pool(ARMS["consistency_affine"], bare).labels is None
    with pytest.raises(SynthGainError, match="arm labelled_pool: found no pool, or not the labels"):
        shown_pool(ARMS["labelled_pool"], bare)
    assert shown_pool(ARMS["real"], bare) is None
    bound = pool_of("labelled_pool", "consistency_affine")
    assert shown_pool(ARMS["labelled_pool"], bound).labels.tolist() == TRAIN.labels[indices].tolist()
    with pytest.raises(SynthGainError, match="no such file"):
        pool_of("pseudo_label")
    save_pseudo_labels(file, {0: given_labels(100)})
    with pytest.raises(SynthGainError, match="are of another pool"):
        pool_of("pseudo_label")


def test_labels_below_the_threshold_are_not_shown(tmp_path):
    from pipeline.images import index_sha256

    real = real_subset(TRAIN, budget=30, replicate=0, seed=SEED)
    indices = pool_indices(TRAIN, real, size=100, seed=SEED)
    sure = np.linspace(0, 1, 100)
    given = given_labels(100, probabilities=sure, least=0.75, pool_sha256=index_sha256(indices))
    save_pseudo_labels(tmp_path / "labels.npz", {0: given})
    assert load_pseudo_labels(tmp_path / "labels.npz", 0, indices).kept.tolist() == given.kept.tolist()
    arms = [ARMS["pseudo_label"]]
    pool = replicate_pool(TRAIN, real, arms=arms, size=100, seed=SEED, pseudo_labels=tmp_path / "labels.npz")
    shown = shown_pool(arms[0], pool)
    kept = indices[given.kept]
    assert len(kept) == 25 and np.array_equal(shown.images, TRAIN.images[kept])
    assert shown.labels.tolist() == given.labels[given.kept].tolist()
    together = with_pseudo_labels(real, TRAIN, size=100, seed=SEED, pseudo_labels=tmp_path / "labels.npz")
    assert np.array_equal(together.images, np.concatenate([real.images, TRAIN.images[kept]]))
    assert together.labels.tolist() == [*real.labels.tolist(), *shown.labels.tolist()]
    assert together.provenance["pool_images"] == 25
    assert together.provenance["real_subset_sha256"] == real.provenance["real_subset_sha256"]


@pytest.mark.parametrize(
    "given, said",
    [
        (given_labels(9, least=0.95), "none of 9 pseudo-labels has a probability of 0.95 (the highest: 0.9)"),
        (
            given_labels(9, labels=np.zeros(9)),
            "all 9 pseudo-labels that are sure enough are of one class (label 0)",
        ),
        (given_labels(9), ""),
    ],
)
def test_self_training_that_collapses_is_left_out_with_its_reason(given, said, tmp_path, capsys):
    assert said in given.collapse and bool(said) == bool(given.collapse)
    assert given.facts(tuple("abc")).get("collapse", "") == given.collapse
    save_pseudo_labels(tmp_path / "labels.npz", {0: given_labels(9), 1: given})
    assert collapse_of_self_training(tmp_path / "labels.npz") == (
        f"replicate 2: {given.collapse}" if said else ""
    )
    arms = [ARMS[name] for name in ("pseudo_label", "consistency_affine", "labelled_pool")]
    kept = without_collapsed(arms, tmp_path / "labels.npz")
    assert kept == (arms[1:] if said else arms)
    assert (
        "pseudo_label: left out, because self-training collapsed: replicate 2" in capsys.readouterr().err
    ) == (bool(said))


def test_a_generator_or_an_arm_may_need_pseudo_labels():
    assert needs_pseudo_labels([ARMS["pseudo_label_affine"]], "subset")
    assert needs_pseudo_labels([ARMS["real"]], "pool")
    assert not needs_pseudo_labels([ARMS["consistency_affine"], ARMS["labelled_pool"]], "subset")
