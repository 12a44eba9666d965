"""Which synthetic images the label filter keeps, and who judges them."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sklearn.datasets import load_digits

from pipeline.classifier.cross_fitting import cross_fitted_agreement, stratified_folds
from pipeline.errors import SynthGainError
from pipeline.images import LabeledImages
from pipeline.params import parse_params
from pipeline.study.label_filter import (
    LabelAgreement,
    acceptance,
    accepted_images,
    images_sha256,
    load_agreement,
    save_agreements,
)
from pipeline.study.subsets import real_subset
from pipeline.study.training_sets import mix

NAMES = ("a", "b", "c")


def images(labels, seed=0, provenance=None):
    pixels = np.random.default_rng(seed).integers(0, 255, (len(labels), 1, 4, 4), dtype=np.uint8)
    return LabeledImages(pixels, np.array(labels, dtype=np.int64), NAMES, provenance or {})


def agreement_on(synthetic, predictions, probabilities):
    return LabelAgreement(
        np.array(predictions, dtype=np.int64),
        np.array(probabilities, dtype=np.float32),
        images_sha256(synthetic),
        0.9,
        np.array([1.0, 0.5, np.nan]),
    )


SYNTHETIC = images([0, 0, 1, 1, 2, 2], provenance={"real_subset_sha256": "h"})
AGREEMENT = agreement_on(SYNTHETIC, [0, 0, 1, 2, 2, 2], [0.9, 0.4, 0.5, 0.45, 0.7, 0.2])


def test_an_image_is_kept_if_its_label_is_the_likeliest_class_and_likely_enough():
    kept = accepted_images(SYNTHETIC, AGREEMENT, least_probability=0.5)
    assert np.array_equal(kept.images, SYNTHETIC.images[[0, 2, 4]])
    assert kept.labels.tolist() == [0, 1, 2]
    everything_likeliest = accepted_images(SYNTHETIC, AGREEMENT, least_probability=0.0)
    assert np.array_equal(everything_likeliest.images, SYNTHETIC.images[[0, 1, 2, 4, 5]])


def test_the_acceptance_is_told_by_class_beside_real_images():
    facts = acceptance(SYNTHETIC, AGREEMENT, least_probability=0.2)
    assert facts == {
        "accepted": round(5 / 6, 6),
        "accepted_per_class": {"a": 1.0, "b": 0.5, "c": 1.0},
        "real_accepted_per_class": {"a": 1.0, "b": 0.5, "c": None},
        "judges_accuracy_on_real": 0.9,
    }


def test_scores_of_other_images_are_refused():
    other = SYNTHETIC.subset(np.arange(6)[::-1].copy())
    with pytest.raises(SynthGainError, match="judged other synthetic images than these"):
        accepted_images(other, AGREEMENT, least_probability=0.5)


def test_too_few_accepted_images_say_what_to_raise():
    kept = accepted_images(SYNTHETIC, AGREEMENT, least_probability=0.5)
    real = images([0, 0, 1, 2], provenance={"real_subset_sha256": "h"})
    assert len(mix(real, kept, 0.5, np.random.default_rng(0))) == 5
    with pytest.raises(SynthGainError) as caught:
        mix(real, kept, 1.0, np.random.default_rng(0))
    assert str(caught.value) == (
        "study.label_filter: found 0.5, which accepts 1 of the 2 synthetic images of class a;"
        " study.synthetic_per_real 1.0 needs 2: raise generation.images_per_class to about 5 or gan.total_images,"
        " or lower study.label_filter"
    )


def test_a_class_without_an_accepted_image_names_no_number_to_raise_to():
    kept = accepted_images(SYNTHETIC, AGREEMENT, least_probability=0.8)
    real = images([2], provenance={"real_subset_sha256": "h"})
    with pytest.raises(
        SynthGainError, match=r"accepts 0 of the 2 .* raise generation.images_per_class or gan"
    ):
        mix(real, kept, 1.0, np.random.default_rng(0))


def test_scores_are_read_back_as_they_were_and_repeat_to_the_byte(tmp_path):
    other = agreement_on(SYNTHETIC, [1] * 6, [0.1] * 6)
    save_agreements(tmp_path / "1.npz", {0: AGREEMENT, 1: other})
    save_agreements(tmp_path / "2.npz", {0: AGREEMENT, 1: other})
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "2.npz").read_bytes()
    for replicate, kept in enumerate((AGREEMENT, other)):
        loaded = load_agreement(tmp_path / "1.npz", replicate)
        assert np.array_equal(loaded.predictions, kept.predictions) and loaded.predictions.dtype == np.int64
        assert np.array_equal(loaded.probabilities, kept.probabilities)
        assert loaded.images_sha256 == kept.images_sha256 and loaded.real_accuracy == kept.real_accuracy
        assert np.array_equal(loaded.real_accepted, kept.real_accepted, equal_nan=True)


def test_a_replicate_may_be_left_out_of_the_scores(tmp_path):
    save_agreements(tmp_path / "some.npz", {0: AGREEMENT, 2: AGREEMENT})
    assert load_agreement(tmp_path / "some.npz", 2).images_sha256 == AGREEMENT.images_sha256
    with pytest.raises(SynthGainError, match="no readable label scores of replicate 2"):
        load_agreement(tmp_path / "some.npz", 1)


def test_a_missing_or_damaged_file_and_a_missing_replicate_are_named(tmp_path):
    with pytest.raises(SynthGainError, match="no such file"):
        load_agreement(tmp_path / "absent.npz", 0)
    (tmp_path / "broken.npz").write_bytes(b"PK")
    with pytest.raises(SynthGainError, match="no readable label scores of replicate 1"):
        load_agreement(tmp_path / "broken.npz", 0)
    save_agreements(tmp_path / "none.npz", {})
    with pytest.raises(SynthGainError, match="no readable label scores of replicate 1"):
        load_agreement(tmp_path / "none.npz", 0)


@pytest.mark.parametrize("folds", [2, 3, 5])
def test_every_fold_has_its_share_and_every_judge_has_seen_every_class(folds):
    real = images([0] * 11 + [1] * 2 + [2])
    fold_of = stratified_folds(real, folds, seed=1)
    assert fold_of[-1] == -1  # the only image of its class is held out from nobody
    assert np.ptp(np.bincount(fold_of[:13], minlength=folds)) <= 1
    for fold in range(folds):
        assert set(real.labels[fold_of != fold]) == {0, 1, 2}
    assert not np.array_equal(fold_of, stratified_folds(real, folds, seed=2))


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    pixels = (data.images[:, None] * 15.9).astype(np.uint8)
    return LabeledImages(pixels, data.target.astype(np.int64), tuple("0123456789"))


def judge(digits, synthetic, **changes):
    values = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    values["classifier"] |= {"channels": 8, "feature_dim": 32, "batch_size": 32}
    params = parse_params(values, where="params.yaml")
    options = {
        "classifier": params.classifier.of_budget(1000),
        "augmentation": params.augmentation,
        "folds": 2,
        "steps": 200,
        "least_probability": 0.3,
        "seed": 3,
        "device": torch.device("cpu"),
        "advance": lambda units, note="": None,
    }
    return cross_fitted_agreement(
        real_subset(digits, budget=300, replicate=0, seed=1), synthetic, **(options | changes)
    )


def test_wrong_labels_are_rejected_and_right_ones_accepted(digits):
    """Images with known labels in the place of synthetic ones, a fifth of the labels planted wrong."""
    known = digits.subset(np.arange(1000, 1400))
    labels = known.labels.copy()
    labels[::5] = (labels[::5] + 1) % 10
    planted = LabeledImages(known.images, labels, known.class_names)
    agreement = judge(digits, planted)
    kept = (agreement.predictions == labels) & (agreement.probabilities >= 0.3)
    wrong = np.arange(400) % 5 == 0
    assert kept[wrong].mean() < 0.1 and kept[~wrong].mean() > 0.75
    assert 0.7 < agreement.real_accuracy <= 1 and agreement.real_accepted.shape == (10,)
    assert (agreement.probabilities <= 1).all()


def test_judging_repeats_to_the_bit_and_hangs_on_its_seed(digits):
    known = digits.subset(np.arange(1000, 1040))
    once, again, other = (judge(digits, known, steps=3, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(once.probabilities, again.probabilities)
    assert not np.array_equal(once.probabilities, other.probabilities)
