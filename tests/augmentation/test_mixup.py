"""Mixup blends images and targets by the same share, which is Beta(α, α) and comes from the generator alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.nn import functional as F

from pipeline.augmentation.mixup import beta_draws, mixing, mixup
from pipeline.augmentation.policies import POLICIES
from pipeline.runtime.seeds import torch_generator


def batch(count=12):
    """Images that say of themselves which they are: pixel i of image i is 1."""
    return torch.eye(count).view(count, 1, count, 1), torch.eye(count) * torch.arange(1.0, count + 1)[:, None]


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 3.0])
def test_shares_are_of_the_beta_distribution(alpha):
    draws = beta_draws(20_000, alpha=alpha, generator=torch_generator(0)).double().numpy()
    # Not the p-value: a share within float32's rounding of 1 is 1.
    assert (
        stats.kstest(draws.clip(1e-6, 1 - 1e-6), stats.beta(alpha, alpha).cdf).statistic
        < 0.5e-6**alpha + 0.012
    )


@settings(max_examples=30, deadline=None)
@given(alpha=st.floats(1e-6, 100), seed=st.integers(0, 2**31), count=st.integers(2, 20))
def test_an_image_and_its_target_are_blended_with_the_one_before_by_the_same_share(alpha, seed, count):
    images, targets = batch(count)
    mixed, mixed_targets = mixup(images, targets, alpha=alpha, generator=torch_generator(seed))
    share = beta_draws(count, alpha=alpha, generator=torch_generator(seed))
    for i in range(count):
        expected = share[i] * images[i] + (1 - share[i]) * images[i - 1]
        assert torch.allclose(mixed[i], expected, atol=1e-6)
        expected = share[i] * targets[i] + (1 - share[i]) * targets[i - 1]
        assert torch.allclose(mixed_targets[i], expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(images, batch(count)[0])  # not in place


def test_trainings_that_share_a_batch_mix_their_own_images_as_each_would_alone():
    images, targets = batch()
    together = mixup(images, targets, alpha=1.0, generator=[torch_generator(seed) for seed in (3, 4, 5)])
    for i in range(3):
        mine = slice(4 * i, 4 * i + 4)
        alone = mixup(images[mine], targets[mine], alpha=1.0, generator=torch_generator(3 + i))
        for part, expected in zip(together, alone, strict=True):
            assert torch.equal(part[mine], expected)


def test_the_loss_of_a_mixed_target_is_the_mean_of_both_losses():
    """So the weight of an image goes with its label."""
    images, targets = batch()
    logits = torch.randn(12, 12, generator=torch_generator(1))
    _, mixed = mixup(images, targets, alpha=1.0, generator=torch_generator(2))
    share = beta_draws(12, alpha=1.0, generator=torch_generator(2))
    labels = torch.arange(12)
    own, other = (
        F.cross_entropy(logits, which, reduction="none") * (which + 1) for which in (labels, labels.roll(1))
    )
    expected = share * own + (1 - share) * other
    assert torch.allclose(F.cross_entropy(logits, mixed, reduction="none"), expected, rtol=1e-4)


def test_mixup_stands_last_and_the_policies_with_it_mix():
    for name, transforms in POLICIES.items():
        assert "mixup" not in transforms[:-1]
        assert (mixing(transforms, alpha=1.0) is not None) == name.endswith("mixup")
