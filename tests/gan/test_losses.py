import math

import pytest
import torch

from pipeline.gan.losses import discriminator_loss, generator_loss, gradient_penalty


def test_undecided_pairs_cost_log_two():
    logits = torch.randn(16)
    assert discriminator_loss(real=logits, fake=logits).item() == pytest.approx(math.log(2))
    assert generator_loss(real=logits, fake=logits).item() == pytest.approx(math.log(2))


def test_the_players_pull_in_opposite_directions():
    real = torch.zeros(4)
    fake = torch.zeros(4, requires_grad=True)
    discriminator_loss(real=real, fake=fake).backward()
    toward_d, fake.grad = fake.grad.clone(), None
    generator_loss(real=real, fake=fake).backward()
    assert torch.allclose(toward_d, -fake.grad)
    assert (fake.grad < 0).all()  # the generator wants its fakes to score higher


def test_only_differences_within_a_pair_count():
    real, fake, shift = torch.randn(8), torch.randn(8), torch.randn(8)
    assert torch.allclose(
        discriminator_loss(real=real, fake=fake), discriminator_loss(real=real + shift, fake=fake + shift)
    )


def test_the_penalty_of_a_linear_function_is_half_its_squared_norm():
    weight = torch.randn(1, 4, 4, requires_grad=True)
    images = torch.randn(5, 1, 4, 4, requires_grad=True)
    logits = (images * weight).flatten(1).sum(1)
    penalty = gradient_penalty(logits, images)
    assert torch.allclose(penalty, weight.square().sum() / 2)
    penalty.backward()  # it can be differentiated again
    assert torch.allclose(weight.grad, weight)
