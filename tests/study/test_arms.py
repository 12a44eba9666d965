from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.augmentation.policies import POLICIES
from pipeline.errors import SynthGainError
from pipeline.images import LabeledImages
from pipeline.study.arms import ARMS, Arm, arms_at
from pipeline.study.subsets import (
    extra_real_images,
    missing_counts,
    parse_budget,
    real_subset,
    subset_indices,
)
from pipeline.study.training_sets import (
    TrainingSet,
    fresh_training_set,
    mix,
    repeated,
    take_per_class,
    training_set,
)


def labelled(counts, value, provenance):
    labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    images = np.full((len(labels), 1, 4, 4), value, dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(len(labels)) % 256  # tell them apart
    return LabeledImages(images, labels, tuple(f"c{i}" for i in range(len(counts))), provenance)


REAL = labelled([20, 10, 5], 10, {"real_subset_sha256": "h"})
SYNTHETIC = labelled([60, 60, 60], 200, {"real_subset_sha256": "h"})


@given(ratio=st.floats(0, 3), seed=st.integers(0, 999))
def test_mix_keeps_every_real_image_and_adds_the_ratio_per_class(ratio, seed):
    mixed = mix(REAL, SYNTHETIC, ratio, np.random.default_rng(seed))
    assert np.array_equal(mixed.images[: len(REAL)], REAL.images)
    added = mixed.subset(np.arange(len(REAL), len(mixed)))
    assert added.counts().tolist() == [round(count * ratio) for count in (20, 10, 5)]
    assert (added.images[:, 0, 1, 1] == 200).all()
    assert len(
        {(int(i[0, 0, 0]), int(label)) for i, label in zip(added.images, added.labels, strict=True)}
    ) == len(added)


def test_a_generator_of_other_real_images_is_refused():
    """The guard against mixing in a generator that has seen what it should not have."""
    for provenance in ({"real_subset_sha256": "other"}, {}):
        synthetic = labelled([60, 60, 60], 200, provenance)
        with pytest.raises(SynthGainError, match="trained on other real images"):
            mix(REAL, synthetic, 1.0, np.random.default_rng(0))


def test_too_few_synthetic_images_name_the_parameter_to_raise():
    with pytest.raises(SynthGainError, match=r"generation\.images_per_class: class c0 has 60.*4\.0 needs 80"):
        take_per_class(REAL, SYNTHETIC, 4.0, np.random.default_rng(0))


REMEDIES = ("class_weights", "deferred_weights", "balanced_sampling", "logit_adjustment")
# As REAL after `study.imbalance` {c1: 0.5, c2: 0.25}: c1 and c2 lack 10 and 15 images to c0's 20.
RARE = labelled([20, 10, 5], 10, {"real_subset_sha256": "h", "imbalance": {"c1": 0.5, "c2": 0.25}})


def test_arms_train_on_what_their_name_says():
    extra = labelled([40, 20, 10], 99, {})
    sets = {
        name: training_set(arm, RARE, synthetic=SYNTHETIC, extra=extra, synthetic_per_real=2.0, seed=0)
        for name, arm in ARMS.items()
    }
    sizes = {
        "real": 35,
        "synthetic": 105,
        "synthetic_only": 70,
        "synthetic_filtered": 105,
        "synthetic_fresh": 35 + 180,
        "synthetic_fresh_filtered": 35 + 180,
        "repeat": 105,
        "extra_real": 105,
        "fill_repeat": 60,
        **dict.fromkeys(REMEDIES, 35),
        "fill_affine": 60,
        "fill_extra_real": 105,
        "fill_synthetic": 60,
        "pseudo_label": 35,  # and the pool beside it
        "consistency": 35,
        "labelled_pool": 35,
        "pseudo_label_synthetic_fresh": 35 + 180,
        "fill_synthetic_deferred_weights": 60,
        "fill_synthetic_logit_adjustment": 20 + 14 + 10,  # √(10 · 20) and √(5 · 20)
    }
    for name, training in sets.items():
        family = name if name == "fill_affine" else replace(ARMS[name], policy="none").name
        assert len(training.images) == sizes[family], name
        # The real ones come first, and are counted as such.
        values = training.images.images[:, 0, 1, 1]
        assert (values[: training.real_images] != 200).all() and (values[training.real_images :] == 200).all()
    values = {name: set(one.images.images[:, 0, 1, 1].tolist()) for name, one in sets.items()}
    assert values["synthetic_only"] == {200} and values["synthetic"] == {10, 200}
    assert values["repeat"] == values["real"] == values["fill_repeat"] == {10}
    assert values["extra_real"] == values["fill_extra_real"] == {10, 99}
    assert sets["repeat"].images.counts().tolist() == [60, 30, 15]
    for name in ("fill_repeat", "fill_affine", "fill_synthetic", "fill_synthetic_deferred_weights"):
        assert sets[name].images.counts().tolist() == [20, 20, 20]
    assert sets["synthetic_fresh"].synthetic_per_epoch.tolist() == [40, 20, 10]
    for name, arm in ARMS.items():
        one, weights = sets[name], [1.0, 2.0, 4.0]
        for found, remedy in (
            (one.class_weights, "class_weights"),
            (one.tail_class_weights, "deferred_weights"),
        ):
            assert (found is None) == (arm.remedy != remedy) and (found is None or found.tolist() == weights)
        assert one.balanced == (arm.remedy == "balanced_sampling")
    assert {name: one.first_augmented for name, one in sets.items() if one.first_augmented} == {
        "fill_affine": 35
    }


def test_an_arm_without_its_images_is_refused():
    for name in ("synthetic", "extra_real"):
        with pytest.raises(SynthGainError, match=f"arm {name}: found no images"):
            training_set(ARMS[name], REAL, synthetic_per_real=1.0, seed=0)


def test_a_row_of_the_table_says_all_of_an_arm():
    # Twelve kinds with each policy (consistency with those that change images), six with a remedy, four others.
    assert len({arm.name for arm in ARMS.values()}) == len(ARMS) == 18 * len(POLICIES) - 1 + 4
    assert {f"real_{policy}" for policy in POLICIES if policy != "none"} < set(ARMS)
    for name, arm in ARMS.items():
        assert arm.name == name and arm.policy in POLICIES
        assert (arm.baseline is None) == (name == "real")
        assert arm.baseline is None or ARMS[arm.baseline].place == "baselines"
        assert arm.upper_bound is None or ARMS[arm.upper_bound].uses_synthetic
    assert ARMS["synthetic_fresh_filtered_affine_elastic"].words == (
        "real + fresh filtered synthetic, affine + elastic"
    )
    assert ARMS["real_trivial_augment"].words == "real only, TrivialAugment"
    assert ARMS["synthetic_flip_crop"].words == "real + synthetic, flip + crop"
    assert ARMS["pseudo_label_synthetic_fresh_affine"].words == (
        "real + fresh synthetic + pool with pseudo-labels, affine"
    )
    assert ARMS["labelled_pool"].words == "real + labelled pool"
    assert ARMS["consistency_affine"].baseline == "real_affine" and ARMS["pseudo_label"].baseline == "real"
    assert ARMS["real_affine_elastic_mixup"].words == "real only, affine + elastic + mixup"
    assert ARMS["fill_affine"].words == "rare classes repeated, copies affine"
    assert ARMS["synthetic_affine"].baseline == "real_affine" and ARMS["fill_affine"].baseline == "real"
    assert ARMS["logit_adjustment_affine"].baseline == "real_affine"
    assert ARMS["class_weights"].baseline == ARMS["fill_synthetic_logit_adjustment"].baseline == "real"
    assert ARMS["fill_synthetic_logit_adjustment_affine_elastic"].words == (
        "rare classes + synthetic, logits adjusted, affine + elastic"
    )
    made_up = Arm("synthetic", "affine", filtered=True)
    assert (made_up.name, made_up.words) == (
        "synthetic_only_filtered_affine",
        "filtered synthetic only, affine",
    )
    assert (made_up.place, made_up.baseline) == ("augmented", "real_affine")


def test_each_arm_is_trained_by_one_stage():
    places = ("baselines", "controls", "augmented", "fill", "pool")
    trained = [arm.name for place in places for arm in arms_at(place, list(ARMS))]
    assert sorted(trained) == sorted(ARMS)
    assert [arm.name for arm in arms_at("controls", ["extra_real", "real", "repeat"])] == [
        "repeat",
        "extra_real",
    ]


@given(times=st.floats(1, 4))
def test_repeating_shows_every_image_equally_often(times):
    images = repeated(REAL, times)
    for label, count in enumerate((20, 10, 5)):
        marks = images.images[images.labels == label][:, 0, 0, 0]
        used = np.unique(marks, return_counts=True)[1]
        assert used.sum() == round(count * times) and len(used) == count
        assert used.max() - used.min() <= 1


def distinct_train(per_class=60):
    train = labelled([per_class] * 3, 0, {})
    train.images[:, 0, 1, 1] = np.arange(len(train)) // 256  # with the first pixel: each image its own
    return train


def pixels(images):
    return {image.tobytes() for image in images.images}


def test_extra_real_images_are_others_than_the_subset_and_nested():
    train = distinct_train()
    subset = real_subset(train, budget=30, replicate=1, seed=7)
    one, two = (extra_real_images(train, subset, images_per_real=ratio, seed=7) for ratio in (1.0, 2.0))
    assert one.counts().tolist() == [10, 10, 10] and two.counts().tolist() == [20, 20, 20]
    assert len(pixels(two)) == 60 and not pixels(two) & pixels(subset)
    assert pixels(one) < pixels(two) < pixels(train)
    of_another = real_subset(train, budget=30, replicate=2, seed=7)
    other = extra_real_images(train, of_another, images_per_real=1.0, seed=7)
    assert pixels(other) != pixels(one)


def test_too_few_other_real_images_are_none():
    train = distinct_train()
    extra = {
        budget: extra_real_images(
            train, real_subset(train, budget=budget, replicate=0, seed=7), images_per_real=1.0, seed=7
        )
        for budget in (90, 93, "all")
    }
    assert extra[90] is not None  # 30 of each class, and 30 left
    assert extra[93] is None and extra["all"] is None


def test_the_subset_is_its_indices():
    train = distinct_train()
    indices = subset_indices(train, budget=30, replicate=0, seed=7)
    assert np.array_equal(train.images[indices], real_subset(train, budget=30, replicate=0, seed=7).images)


def test_paired_arms_see_the_same_synthetic_images():
    plain, *others = (
        training_set(arm, REAL, synthetic=SYNTHETIC, synthetic_per_real=1.0, seed=3)
        for arm in arms_at("augmented", list(ARMS))
        if arm.uses_real
    )
    assert len(others) == 5 * len(POLICIES) - 1
    assert all(
        np.array_equal(plain.images.images, other.images.images)
        for other in others
        if other.synthetic_per_epoch is None
    )


def test_replicates_draw_subsets_of_their_own_and_repeat():
    train = labelled([300, 300, 300], 0, {})
    subsets = [real_subset(train, budget=90, replicate=r, seed=7) for r in (0, 0, 1)]
    hashes = [subset.provenance["real_subset_sha256"] for subset in subsets]
    assert hashes[0] == hashes[1] != hashes[2]
    assert all(subset.counts().tolist() == [30, 30, 30] for subset in subsets)


def test_the_whole_split_is_a_budget_too():
    assert len(real_subset(REAL, budget="all", replicate=0, seed=7)) == len(REAL)
    with pytest.raises(SynthGainError, match=r"study\.real_images: found 99; the train split has 35"):
        real_subset(REAL, budget=99, replicate=0, seed=7)


def test_budgets_on_the_command_line():
    assert parse_budget("all") == "all"
    assert parse_budget("1000") == 1000
    with pytest.raises(SynthGainError, match="--budget: found many"):
        parse_budget("many")


def test_fresh_images_are_refused_as_fixed_ones_are():
    other = labelled([60, 60, 60], 200, {"real_subset_sha256": "other"})
    with pytest.raises(SynthGainError, match="trained on other real images"):
        fresh_training_set(REAL, other, 1.0)
    with pytest.raises(SynthGainError, match=r"class c0 has 60 synthetic images; .* 4\.0 needs 80"):
        fresh_training_set(REAL, SYNTHETIC, 4.0)


def test_weights_have_a_mean_of_one_over_what_an_epoch_shows():
    fixed = TrainingSet(mix(REAL, SYNTHETIC, 1.0, np.random.default_rng(0)), len(REAL))
    weights = fixed.image_weights(synthetic_weight=0.25)
    assert weights.mean() == pytest.approx(1) and weights.dtype == np.float32
    assert np.allclose(weights[35:], 0.25 * weights[0]) and np.allclose(weights[:35], weights[0])
    fresh = fresh_training_set(REAL, SYNTHETIC, 1.0).image_weights(synthetic_weight=0.25)
    # 35 of the pool are shown in an epoch, as many as in the fixed set.
    assert np.allclose([fresh[0], fresh[-1]], [weights[0], weights[-1]])
    by_class = TrainingSet(REAL, len(REAL), class_weights=np.array([1.0, 2.0, 4.0]))
    weights = by_class.image_weights(synthetic_weight=0.25)
    assert np.allclose(weights, np.array([1, 2, 4])[REAL.labels] * 35 / 60)


def test_shares_are_those_of_the_losses_of_an_epoch():
    real = TrainingSet(REAL, len(REAL))
    assert np.allclose(real.class_shares(synthetic_weight=0.3), np.array([20, 10, 5]) / 35)
    filled = training_set(ARMS["fill_synthetic"], RARE, synthetic=SYNTHETIC, synthetic_per_real=0, seed=0)
    assert np.allclose(filled.class_shares(synthetic_weight=1.0), 1 / 3)
    by_source = filled.class_shares(synthetic_weight=0.2)
    assert np.allclose(by_source * (20 + 12 + 8), [20, 10 + 0.2 * 10, 5 + 0.2 * 15])
    fresh = fresh_training_set(REAL, SYNTHETIC, 2.0).class_shares(synthetic_weight=1.0)
    assert np.allclose(fresh, np.array([20, 10, 5]) / 35)


def test_logits_cannot_be_adjusted_to_a_class_without_an_image():
    without = TrainingSet(labelled([20, 0, 5], 10, {}), 25)
    with pytest.raises(SynthGainError, match=r"study\.arms: .*class c1 has no training image"):
        without.class_shares(synthetic_weight=1.0)


def test_weights_of_the_last_steps_are_those_of_the_real_images():
    for name in ("deferred_weights", "fill_synthetic_deferred_weights"):
        training = training_set(ARMS[name], RARE, synthetic=SYNTHETIC, synthetic_per_real=0, seed=0)
        assert training.image_weights(synthetic_weight=1.0) is None
        assert np.allclose(training.tail_weights(), np.array([1, 2, 4])[RARE.labels] * 35 / 60)
    assert training_set(ARMS["real"], RARE, synthetic_per_real=0, seed=0).tail_weights() is None


def test_a_training_set_with_another_remedy_is_another_one():
    names = [name for name in REMEDIES if name != "logit_adjustment"]
    sets = [training_set(ARMS[name], RARE, synthetic_per_real=0, seed=0) for name in ("real", *names)]
    assert len({one.sha256() for one in sets}) == len(sets)


def test_equal_weights_are_none():
    real, fixed = (
        TrainingSet(REAL, len(REAL)),
        TrainingSet(mix(REAL, SYNTHETIC, 1.0, np.random.default_rng(0)), len(REAL)),
    )
    only = TrainingSet(SYNTHETIC, 0)
    assert fixed.image_weights(synthetic_weight=1.0) is None
    assert real.image_weights(synthetic_weight=0.5) is None is only.image_weights(synthetic_weight=0.5)


def test_rare_classes_keep_their_share_of_the_common_count_and_the_others_their_images():
    train = distinct_train()
    imbalance = {"c1": 0.5, "c2": 0.1}
    arguments = {"budget": 90, "replicate": 1, "seed": 7}
    balanced = real_subset(train, **arguments)
    rare = real_subset(train, **arguments, imbalance=imbalance)
    assert rare.counts().tolist() == [30, 15, 3]
    assert pixels(rare) < pixels(balanced)
    assert np.array_equal(rare.images[rare.labels == 0], balanced.images[balanced.labels == 0])
    assert rare.provenance["imbalance"] == imbalance and "imbalance" not in balanced.provenance
    assert rare.provenance["real_subset_sha256"] != balanced.provenance["real_subset_sha256"]
    assert missing_counts(rare).tolist() == [0, 15, 27] and missing_counts(balanced).tolist() == [0, 0, 0]
    extra = extra_real_images(train, rare, images_per_real=None, seed=7)
    assert extra.counts().tolist() == [0, 15, 27] and not pixels(extra) & pixels(rare)


@pytest.mark.parametrize(
    "imbalance, said",
    [
        ({"c9": 0.5}, "study.imbalance: found class c9; the classes are c0, c1, c2"),
        ({"c0": 0.5, "c1": 0.5, "c2": 0.5}, "at least one must stay as it is"),
        (
            {"c1": 0.04},
            "found 0.04 for class c1, which leaves 1 of 30 images; at least 2 are needed: raise it to 0.07",
        ),
    ],
)
def test_an_imbalance_that_cannot_be_drawn_is_refused(imbalance, said):
    with pytest.raises(SynthGainError, match=said.replace(".", r"\.")):
        subset_indices(distinct_train(), budget=90, replicate=0, seed=7, imbalance=imbalance)


@pytest.mark.parametrize(("fill_to", "missing"), [("largest", [0, 10, 15]), (12, [0, 2, 7]), (5, [0, 0, 0])])
def test_classes_that_are_unequal_by_nature_are_filled_up_to_the_largest_or_to_a_count(fill_to, missing):
    extra = labelled(missing, 99, {})
    given = {"synthetic": SYNTHETIC, "extra": extra, "synthetic_per_real": 0, "seed": 0}
    filled = [20 + missing[0], 10 + missing[1], 5 + missing[2]]
    for name in ("fill_repeat", "fill_affine", "fill_synthetic", "fill_extra_real"):
        training = training_set(ARMS[name], REAL, **given, fill_to=fill_to)
        assert training.images.counts().tolist() == filled, name
        assert np.array_equal(training.images.images[: len(REAL)], REAL.images)
    weights = training_set(ARMS["class_weights"], REAL, **given, fill_to=fill_to).class_weights
    assert np.allclose(weights * [20, 10, 5], filled)
    assert missing_counts(REAL).tolist() == [0, 0, 0]  # no class was made rare


def test_extra_real_images_fill_the_gap_that_nature_left():
    train = distinct_train()
    order = np.concatenate([np.arange(60), np.arange(60, 75), np.arange(120, 140)])
    unequal = train.subset(order)
    subset = real_subset(unequal, budget=19, replicate=0, seed=7)
    assert subset.counts().tolist() == [12, 3, 4]
    extra = extra_real_images(unequal, subset, images_per_real=None, seed=7, fill_to="largest")
    assert extra.counts().tolist() == [0, 9, 8] and not pixels(extra) & pixels(subset)
    assert extra_real_images(unequal, subset, images_per_real=None, seed=7, fill_to=20) is None


def test_too_few_synthetic_images_for_a_natural_gap_name_it():
    with pytest.raises(SynthGainError, match=r"class c2 has 60 synthetic images; study\.fill_to 90 needs 85"):
        training_set(
            ARMS["fill_synthetic"], REAL, synthetic=SYNTHETIC, synthetic_per_real=0, seed=0, fill_to=90
        )
