import math
from typing import get_args

import pytest
import torch
from torch.nn import functional as F

from pipeline.gan.losses import (
    Loss,
    discriminator_loss,
    generator_loss,
    half_squared_gradient,
    interpolation_penalty,
    recognised,
)

LOSSES = get_args(Loss)


def test_undecided_pairs_cost_log_two():
    logits = torch.randn(16)
    assert discriminator_loss("relativistic", real=logits, fake=logits).item() == pytest.approx(math.log(2))
    assert generator_loss("relativistic", real=logits, fake=logits).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("loss", LOSSES)
def test_the_players_pull_a_fake_in_opposite_directions(loss):
    real, fake = torch.zeros(4), torch.full((4,), 0.5, requires_grad=True)
    discriminator_loss(loss, real=real, fake=fake).backward()
    toward_d, fake.grad = fake.grad.clone(), None
    generator_loss(loss, real=real, fake=fake).backward()
    assert (toward_d > 0).all() and (fake.grad < 0).all()  # D wants a lower score, G a higher one


@pytest.mark.parametrize("loss", LOSSES)
def test_the_discriminator_wants_real_images_to_score_higher(loss):
    real = torch.zeros(4, requires_grad=True)
    discriminator_loss(loss, real=real, fake=torch.zeros(4)).backward()
    assert (real.grad < 0).all()


def test_only_differences_within_a_pair_count_in_the_relativistic_game():
    real, fake, shift = torch.randn(8), torch.randn(8), torch.randn(8)
    assert torch.allclose(
        discriminator_loss("relativistic", real=real, fake=fake),
        discriminator_loss("relativistic", real=real + shift, fake=fake + shift),
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_non_saturating_is_binary_cross_entropy_with_one_sided_smoothing(smoothing):
    real, fake = torch.randn(32), torch.randn(32)
    expected = F.binary_cross_entropy_with_logits(real, torch.full_like(real, 1 - smoothing))
    expected += F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))
    found = discriminator_loss("non_saturating", real=real, fake=fake, label_smoothing=smoothing)
    assert torch.allclose(found, expected)
    on_fake = F.binary_cross_entropy_with_logits(fake, torch.ones_like(fake))
    assert torch.allclose(generator_loss("non_saturating", real=real, fake=fake), on_fake)


@pytest.mark.parametrize(
    ("loss", "real", "fake", "expected_d", "expected_g"),
    [
        ("least_squares", 0.5, 0.25, (0.25 + 0.0625) / 2, 0.5625 / 2),
        ("hinge", 0.5, 0.25, 0.5 + 1.25, -0.25),
        ("hinge", 2.0, -3.0, 0.0, 3.0),
        ("wasserstein", 0.5, 0.25, -0.25, -0.25),
        (
            "saturating",
            0.5,
            0.25,
            math.log1p(math.exp(-0.5)) + math.log1p(math.exp(0.25)),
            -math.log1p(math.exp(0.25)),
        ),
    ],
)
def test_closed_forms(loss, real, fake, expected_d, expected_g):
    real, fake = torch.tensor([real]), torch.tensor([fake])
    assert discriminator_loss(loss, real=real, fake=fake).item() == pytest.approx(expected_d)
    assert generator_loss(loss, real=real, fake=fake).item() == pytest.approx(expected_g)


def test_the_saturating_game_is_one_of_zero_sum():
    """G minimises what of D's loss is about its fakes, with the other sign."""
    real, fake = torch.randn(8), torch.randn(8)
    on_real = F.softplus(-real).mean()
    d_loss = discriminator_loss("saturating", real=real, fake=fake)
    assert torch.allclose(d_loss - on_real, -generator_loss("saturating", real=real, fake=fake))


def test_smoothed_targets_move_the_optimum_of_least_squares():
    real = torch.tensor([0.9])
    smoothed = discriminator_loss("least_squares", real=real, fake=torch.zeros(1), label_smoothing=0.1)
    assert smoothed.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_recognised_counts_the_right_side_of_the_boundary(loss):
    real, fake = torch.tensor([2.0, 2.0, 2.0, -2.0]), torch.tensor([-2.0, -2.0, 2.5, 2.5])
    shares = [share.item() for share in recognised(loss, real=real, fake=fake)]
    assert shares == [0.75, 0.5]


def test_r1_of_a_linear_function_is_half_its_squared_norm():
    weight = torch.randn(1, 4, 4, requires_grad=True)
    images = torch.randn(5, 1, 4, 4, requires_grad=True)
    logits = (images * weight).flatten(1).sum(1)
    penalty = half_squared_gradient(logits, images)
    assert torch.allclose(penalty, weight.square().sum() / 2)
    penalty.backward()  # it can be differentiated again
    assert torch.allclose(weight.grad, weight)


def test_the_interpolation_penalty_wants_a_slope_of_one():
    weight = torch.randn(1, 4, 4)
    real, fake = torch.randn(2, 5, 1, 4, 4)
    for slope in (1.0, 3.0):
        unit = (slope * weight / weight.norm()).requires_grad_(True)
        penalty = interpolation_penalty(
            lambda images, unit=unit: (images * unit).flatten(1).sum(1), real=real, fake=fake
        )
        assert penalty.item() == pytest.approx((slope - 1) ** 2, abs=1e-5)
        penalty.backward()
