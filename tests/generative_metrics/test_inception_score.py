"""Inception Score: closed forms at both ends and between, agreement with torch-fidelity, refusals."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SynthGainError
from pipeline.generative_metrics.inception_score import inception_score


def probabilities(seed: int, n: int = 200, classes: int = 10) -> np.ndarray:
    return torch.from_numpy(3 * np.random.default_rng(seed).normal(size=(n, classes))).softmax(1).numpy()


@pytest.mark.parametrize("classes", [1, 2, 10])
def test_certain_images_of_all_classes_reach_the_number_of_classes(classes):
    assert inception_score(np.eye(classes).repeat(7, axis=0)) == pytest.approx(classes, rel=1e-12)


def test_images_that_all_look_alike_score_1():
    assert inception_score(probabilities(1, n=1).repeat(50, axis=0)) == pytest.approx(1, rel=1e-12)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8))
def test_certain_images_score_the_exponential_of_their_classes_entropy(counts):
    shares = np.array(counts) / sum(counts)
    score = inception_score(np.eye(len(counts)).repeat(counts, axis=0))
    assert score == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-9)


@given(st.integers(0, 10_000), st.integers(1, 60))
def test_lies_between_1_and_the_classes_and_does_not_see_the_order(seed, n):
    p = probabilities(seed, n, 6)
    assert 1 - 1e-12 <= inception_score(p) <= 6 + 1e-12
    shuffled = np.random.default_rng(seed).permutation(p)
    assert inception_score(shuffled) == pytest.approx(inception_score(p), rel=1e-12)


def test_agrees_with_torch_fidelity():
    from torch_fidelity.metric_isc import isc_features_to_metric

    logits = torch.from_numpy(3 * np.random.default_rng(5).normal(size=(400, 10)))
    expected = isc_features_to_metric(logits, splits=1)["inception_score_mean"]
    assert inception_score(logits.softmax(1).numpy()) == pytest.approx(expected, rel=1e-9)
    # What a float32 network gives is good to 1e-5 all the same.
    assert inception_score(logits.float().softmax(1).numpy()) == pytest.approx(expected, rel=1e-5)


def test_collapse_to_one_class_shows_and_collapse_within_classes_does_not():
    diverse = np.eye(10).repeat(100, axis=0)
    assert inception_score(diverse[:100]) == pytest.approx(1)
    assert inception_score(np.eye(10)) == pytest.approx(inception_score(diverse))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((0, 10)), r"found shape \(0, 10\); \(N, C\) is needed"),
        (np.ones(5), r"found shape \(5,\)"),
        (np.full((3, 2), 0.7), "no probabilities; softmax is needed"),
        (np.array([[1.5, -0.5]]), "no probabilities"),
        (np.array([[np.nan, 1.0]]), "no probabilities"),
    ],
)
def test_refuses_what_is_no_probability(values, message):
    with pytest.raises(SynthGainError, match=message):
        inception_score(values)
