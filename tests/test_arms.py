import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.arms import AUGMENTED_ARMS, BASELINE_ARMS, parse_budget, real_subset, training_set
from pipeline.errors import SynthGainError
from pipeline.images import LabeledImages
from pipeline.mixing import mix, take_per_class


def labelled(counts, value, provenance):
    labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    images = np.full((len(labels), 1, 4, 4), value, dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(len(labels)) % 256  # tell them apart
    return LabeledImages(images, labels, tuple(f"c{i}" for i in range(len(counts))), provenance)


REAL = labelled([20, 10, 5], 10, {"real_subset_sha256": "h"})
SYNTHETIC = labelled([60, 60, 60], 200, {"real_subset_sha256": "h"})


@settings(deadline=None)
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


def test_arms_train_on_what_their_name_says():
    sizes = {
        arm.name: training_set(arm, REAL, SYNTHETIC, synthetic_per_real=2.0, seed=0)
        for arm in (*BASELINE_ARMS, *AUGMENTED_ARMS)
    }
    assert {name: len(images) for name, images in sizes.items()} == {
        "real": 35,
        "real_affine": 35,
        "synthetic": 105,
        "synthetic_affine": 105,
        "synthetic_only": 70,
    }
    assert (sizes["synthetic_only"].images[:, 0, 1, 1] == 200).all()


def test_paired_arms_see_the_same_synthetic_images():
    plain, affine = (
        training_set(arm, REAL, SYNTHETIC, synthetic_per_real=1.0, seed=3)
        for arm in AUGMENTED_ARMS
        if arm.uses_real
    )
    assert np.array_equal(plain.images, affine.images)


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
