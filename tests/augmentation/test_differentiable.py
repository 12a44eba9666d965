import pytest
import torch

from pipeline.augmentation.differentiable import (
    Differentiable,
    apply_affine,
    augment,
    augment_real,
    sample_affine,
)
from pipeline.augmentation.geometry import ImageFacts
from pipeline.runtime.seeds import torch_generator


def draw(count=64, seed=0, **changes):
    bounds = {"probability": 1.0, "translation": 0.1, "rotation_degrees": 10.0, "scale": 0.1} | changes
    return sample_affine(count, generator=torch_generator(seed), **bounds)


def test_no_bounds_or_no_probability_is_the_identity():
    images = torch.rand(64, 1, 28, 28) * 2 - 1
    for maps in (draw(translation=0.0, rotation_degrees=0.0, scale=0.0), draw(probability=0.0)):
        assert torch.allclose(apply_affine(images, maps), images, atol=1e-4)


@pytest.mark.parametrize("bound", ["translation", "rotation_degrees", "scale"])
def test_every_bound_does_something_of_its_own(bound):
    none = {"translation": 0.0, "rotation_degrees": 0.0, "scale": 0.0}
    value = {"translation": 0.2, "rotation_degrees": 20.0, "scale": 0.2}[bound]
    images = torch.rand(64, 1, 28, 28)
    moved = apply_affine(images, draw(**{**none, bound: value}))
    assert ((moved - images).flatten(1).abs().amax(1) > 0.05).float().mean() > 0.9


def test_the_probability_is_the_share_of_images_changed():
    identity = torch.tensor([[1.0, 0, 0], [0, 1, 0]])
    changed = (draw(4000, probability=0.3) != identity).flatten(1).any(1).float().mean()
    assert changed == pytest.approx(0.3, abs=0.03)


def test_no_map_mirrors():
    linear = draw(500, rotation_degrees=45.0, scale=0.5)[:, :, :2]
    assert (torch.linalg.det(linear) > 0).all()


def test_what_comes_in_is_background():
    dark = torch.full((64, 1, 28, 28), -1.0)
    assert torch.allclose(apply_affine(dark, draw(translation=0.5)), dark)


def test_gradients_reach_the_images():
    images = torch.zeros(4, 1, 8, 8, requires_grad=True)
    apply_affine(images, draw(4)).sum().backward()
    assert images.grad.abs().sum() > 0


def test_the_draw_repeats_with_its_generator():
    assert torch.equal(draw(seed=3), draw(seed=3))
    assert not torch.equal(draw(seed=3), draw(seed=4))


def distorted(images, strength, seed=0):
    return augment_real(images, strength, torch_generator(seed))


@pytest.fixture
def squares():
    images = torch.full((200, 1, 28, 28), -1.0)
    images[:, :, 8:20, 8:20] = 1.0
    return images


def test_real_images_are_distorted_each_in_its_own_way(squares):
    changed = distorted(squares, 1.0)
    assert (changed - squares).flatten(1).abs().mean(1).min() > 0.01
    assert len(changed.flatten(1).unique(dim=0)) == len(squares)
    assert changed.min() == -1
    assert changed.max() <= 1


def test_real_images_are_distorted_in_proportion_to_the_strength(squares):
    assert torch.equal(distorted(squares, 0.0), squares)
    weak, half, whole = ((distorted(squares, s) - squares).abs().mean().item() for s in (0.1, 0.5, 1.0))
    assert 3 * weak < half < 0.8 * whole


def test_the_distortion_of_a_real_image_is_the_same_share_of_any_side(squares):
    doubled = squares.repeat_interleave(2, 2).repeat_interleave(2, 3)
    small, large = ((distorted(images, 1.0) - images).abs().mean().item() for images in (squares, doubled))
    assert large == pytest.approx(small, rel=0.2)


def seen_by_discriminator(images, facts, **changes):
    strengths = {"translation": 0.0, "rotation_degrees": 0.0, "scale": 0.0, "cutout": 0.0, **changes}
    how = Differentiable(probability=1.0, **strengths, facts=facts)
    return augment(images, how, 0.0, torch_generator(0))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_discriminator_sees_mirror_images_only_where_they_are_of_the_same_class(channels):
    images = torch.rand(200, channels, 8, 8) * 2 - 1
    for flips, share in (("none", 0.0), ("horizontal", 0.5)):
        seen = seen_by_discriminator(images, ImageFacts(0, flips))
        mirrored = (seen - images.flip(3)).flatten(1).abs().amax(1) < 1e-3
        assert mirrored.float().mean() == pytest.approx(share, abs=0.12 if share else 0)
        distorted = augment_real(images, 1e-6, torch_generator(0), ImageFacts(0, flips))
        mirrored = (distorted - images.flip(3)).flatten(1).abs().amax(1) < 1e-3
        assert mirrored.float().mean() == pytest.approx(share, abs=0.12 if share else 0)


@pytest.mark.parametrize(("fill", "value"), [(255, 1.0), ("edge", 0.3), ("mean", 0.3), (0, -1.0)])
def test_what_comes_in_for_the_discriminator_is_what_the_data_set_says(fill, value):
    even = torch.full((40, 3, 8, 8), value)
    facts = ImageFacts(fill, "none")
    seen = seen_by_discriminator(even, facts, translation=0.5, cutout=0.5)
    assert torch.allclose(seen, even, atol=1e-5)
    assert torch.allclose(augment_real(even, 1.0, torch_generator(0), facts), even, atol=1e-5)


def test_gradients_reach_the_images_under_every_fill_and_flip():
    for fill in (0, 200, "edge", "mean"):
        images = torch.zeros(8, 3, 8, 8, requires_grad=True)
        (seen_by_discriminator(images, ImageFacts(fill, "both"), translation=0.1) * 2).sum().backward()
        assert images.grad.abs().sum() > 0
