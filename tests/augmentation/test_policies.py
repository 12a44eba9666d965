"""Each policy draws for each image and keeps shape and range; torchvision, where it has the same, agrees."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional

from pipeline.augmentation import photometric, trivial
from pipeline.augmentation.classic import Strengths, classic_augmentation, random_flip, random_shift
from pipeline.augmentation.geometry import ImageFacts
from pipeline.augmentation.policies import POLICIES
from pipeline.params import load_params
from pipeline.runtime.seeds import torch_generator

SECTION = load_params(Path(__file__).parents[2] / "params.yaml").augmentation.model_dump()
# Mixup changes no image by itself: test_mixup.py.
CHANGING = [name for name, transforms in POLICIES.items() if transforms and "mixup" not in transforms]


def policy(name, **changes):
    return classic_augmentation(POLICIES[name], Strengths(**{**SECTION, "flips": "both", **changes}))


def some_images(channels=3, count=40, side=16):
    return torch.rand(count, channels, side, side, generator=torch_generator(9))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", CHANGING)
def test_every_policy_changes_each_image_by_its_own_draw(name, channels):
    image = some_images(channels, count=1).repeat(60, 1, 1, 1)
    kept = image.clone()
    changed = policy(name)(image, torch_generator(1))
    assert torch.equal(image, kept)  # not in place
    assert changed.shape == image.shape and changed.dtype == torch.float32
    assert changed.min() >= 0 and changed.max() <= 1
    different = len({tuple(one.flatten().tolist()) for one in changed})
    assert different > (8 if name in ("shift", "flip_crop") else 20)
    assert torch.equal(changed, policy(name)(image, torch_generator(1)))
    assert not torch.equal(changed, policy(name)(image, torch_generator(2)))


@pytest.mark.parametrize("name", CHANGING)
def test_trainings_that_share_a_batch_draw_what_each_would_alone(name):
    images = some_images(count=30)
    together = policy(name)(images, [torch_generator(seed) for seed in (3, 4, 5)])
    alone = [policy(name)(images[10 * i : 10 * i + 10], torch_generator(3 + i)) for i in range(3)]
    assert torch.allclose(together, torch.cat(alone), atol=1e-6)


@pytest.mark.parametrize("name", CHANGING)
@pytest.mark.parametrize("fill", [0, 255, "edge", "mean"])
def test_an_even_image_of_the_colour_of_the_outside_has_no_border(name, fill):
    """Black on black, white on white, and any even image at its own edge or mean."""
    value = {0: 0.0, 255: 1.0}.get(fill, 0.4)
    even = torch.full((50, 1, 12, 12), value)
    if name in ("color", "trivial_augment"):  # they change the value, but to an even one
        spread = policy(name, fill=fill)(even, torch_generator(0)).flatten(1).std(1)
        assert (spread < 1e-4).float().mean() > (0.99 if name == "color" else 0.55)
    else:
        assert torch.allclose(policy(name, fill=fill)(even, torch_generator(0)), even, atol=1e-5)


def test_white_around_is_what_black_around_is_in_the_negative():
    images = some_images()
    for name in ("shift", "affine", "affine_elastic"):
        black = policy(name, fill=0)(images, torch_generator(5))
        white = policy(name, fill=255)(1 - images, torch_generator(5))
        assert torch.allclose(1 - black, white, atol=1e-5)


def test_no_flip_where_none_is_allowed_and_half_of_the_images_where_one_is():
    images = some_images(count=400, side=4)
    mirrored = {(): images, (3,): images.flip(3), (2,): images.flip(2), (2, 3): images.flip(2, 3)}
    for flips, wanted in {
        "none": {(): 400},
        "horizontal": {(): 200, (3,): 200},
        "both": dict.fromkeys(mirrored, 100),
    }.items():
        changed = random_flip(images, flips=flips, generator=torch_generator(0))
        found = {axes: int((changed == other).flatten(1).all(1).sum()) for axes, other in mirrored.items()}
        assert sum(found.values()) == 400
        for axes, count in found.items():
            assert abs(count - wanted.get(axes, 0)) <= (40 if axes in wanted and flips != "none" else 0)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_a_shift_is_a_crop_of_the_padded_image(seed):
    images = some_images(count=8, side=8)
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2), mode="replicate")
    shifted = random_shift(images, translation=0.25, fill="edge", generator=torch_generator(seed))
    for one, source in zip(shifted, padded, strict=True):
        crops = [source[:, y : y + 8, x : x + 8] for y in range(5) for x in range(5)]
        assert any(torch.equal(one, crop) for crop in crops)


def test_all_shifts_are_equally_likely():
    image = torch.zeros(5000, 1, 8, 8)
    image[:, 0, 4, 4] = 1
    shifted = random_shift(image, translation=0.25, generator=torch_generator(0))
    counts = shifted.sum((0, 1))
    assert (counts > 0).sum() == 25 and counts.sum() == 5000
    assert counts[counts > 0].min() > 140 and counts.max() < 260


@pytest.mark.parametrize(
    ("ours", "theirs", "factors"),
    [
        (photometric.brightened, functional.adjust_brightness, [0.2, 1.0, 1.7]),
        (photometric.contrasted, functional.adjust_contrast, [0.2, 1.0, 1.7]),
        (photometric.saturated, functional.adjust_saturation, [0.2, 1.0, 1.7]),
        (photometric.sharpened, functional.adjust_sharpness, [0.2, 1.0, 1.7]),
        (photometric.hue_shifted, functional.adjust_hue, [-0.5, -0.1, 0.0, 0.3]),
    ],
)
def test_a_factor_for_each_image_is_what_torchvision_does_to_one(ours, theirs, factors):
    images = some_images(count=len(factors))
    images[:, :, :2, :2] = images[:, :1, :2, :2]  # grey pixels, which have no hue
    expected = torch.stack([theirs(image, factor) for image, factor in zip(images, factors, strict=True)])
    assert torch.allclose(ours(images, torch.tensor(factors)), expected, atol=1e-5)


def test_each_bound_of_colour_does_something_of_its_own_and_grey_has_no_hue():
    none = dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0.0)
    images, grey = some_images(), some_images(channels=1)
    for bound in none:
        how = {**none, bound: 0.3}
        changed = photometric.random_color(images, **how, generator=torch_generator(0))
        assert ((changed - images).flatten(1).abs().amax(1) > 0.01).float().mean() > 0.9
        changed = photometric.random_color(grey, **how, generator=torch_generator(0))
        assert torch.allclose(changed, grey, atol=1e-6) == (bound in ("saturation", "hue"))


@pytest.mark.parametrize(
    ("number", "theirs"),
    [
        (0, lambda image, level: image),
        (1, lambda image, level: sheared(image, [level * 0.99, 0.0])),
        (2, lambda image, level: sheared(image, [0.0, level * 0.99])),
        (3, lambda image, level: moved(image, [-16 * level, 0])),
        (4, lambda image, level: moved(image, [0, -16 * level])),
        (5, lambda image, level: functional.rotate(image, 135 * level, interpolation=BILINEAR)),
        (6, lambda image, level: functional.adjust_brightness(image, 1 + 0.99 * level)),
        (7, lambda image, level: functional.adjust_saturation(image, 1 + 0.99 * level)),
        (8, lambda image, level: functional.adjust_contrast(image, 1 + 0.99 * level)),
        (9, lambda image, level: functional.adjust_sharpness(image, 1 + 0.99 * level)),
        (10, lambda image, level: functional.posterize(image, 8 - round(6 * level))),
        (11, lambda image, level: functional.solarize(image, 1 - level)),
        (12, lambda image, level: functional.autocontrast(image)),
        (13, lambda image, level: functional.equalize(image)),
    ],
)
def test_the_operations_of_trivial_augment_are_torchvisions(number, theirs):
    images, level = some_images(count=2), 0.5
    ours = trivial._OPERATIONS[number](images, torch.full((2,), level), torch.ones(2), 0.0)
    expected = torch.stack([theirs(image, level) for image in images])
    # Interpolated at the border, torchvision weighs the outside otherwise.
    inside = slice(1, -1) if 1 <= number <= 5 else slice(None)
    assert torch.allclose(ours[:, :, inside, inside], expected[:, :, inside, inside], atol=1e-4)


BILINEAR = functional.InterpolationMode.BILINEAR


def sheared(image, tangents):
    degrees = [torch.rad2deg(torch.atan(torch.tensor(tangent))).item() for tangent in tangents]
    return functional.affine(image, 0.0, [0, 0], 1.0, degrees, center=[0.0, 0.0], interpolation=BILINEAR)


def moved(image, pixels):
    return functional.affine(image, 0.0, pixels, 1.0, [0.0, 0.0], interpolation=BILINEAR)


def test_trivial_augment_takes_each_operation_as_often_as_any():
    drawn = trivial._whole(torch.rand(14_000, generator=torch_generator(0)) * 2 - 1, 14)
    counts = torch.bincount(drawn, minlength=14)
    assert len(counts) == 14 and counts.min() > 850 and counts.max() < 1150
    assert trivial._whole(torch.tensor([-1.0, 1.0]), 14).tolist() == [0, 13]


def test_a_fill_is_a_value_of_the_scale_at_hand():
    assert ImageFacts(fill=255).fill_between(-1.0, 1.0) == 1.0
    assert ImageFacts(fill=0).fill_between(-1.0, 1.0) == -1.0
    assert ImageFacts(fill=51).fill_between(0.0, 1.0) == pytest.approx(0.2)
    assert ImageFacts(fill="edge").fill_between(0.0, 1.0) == "edge"
