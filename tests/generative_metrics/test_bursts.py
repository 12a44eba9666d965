"""What the memorisation gate sees where pictures come in bursts, several almost equal ones of each scene.

It compares with real test images. Where these show scenes that were trained on, another shot of a training image is
what an honest image looks like, and the gate cannot see it. docs/numbers.md has this table.
"""

from functools import partial

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from pipeline.generative_metrics.budget import BudgetImages
from pipeline.generative_metrics.memorization import SPACES, Gate, evaluate_memorization
from pipeline.images import LabeledImages

SHOTS, SCENES, HIDDEN, DRAWN = 4, 900, 200, 600
NAMES = tuple("0123456789")


def shots(scenes, rng):
    """A picture of each of these scenes (digits of 32 pixels): moved by up to one pixel, with a little noise."""
    digits = load_digits()
    pictures = np.kron(digits.images[scenes] * 15.9, np.ones((4, 4)))
    moved = [
        np.roll(picture, shift, (0, 1))
        for picture, shift in zip(pictures, rng.integers(-1, 2, (len(scenes), 2)), strict=True)
    ]
    noisy = np.stack(moved) + rng.normal(0, 4, pictures.shape)
    labels = digits.target[scenes].astype(np.int64)
    return LabeledImages(noisy.clip(0, 255).astype(np.uint8)[:, None], labels, NAMES)


def coarse(images):
    """Stands for the extractor: a shift of a pixel changes it little."""
    return torch.nn.functional.avg_pool2d(torch.from_numpy(images).float(), 4).flatten(1).numpy()


@pytest.fixture(scope="module", params=["apart", "straddling"])
def measured(request):
    """What the gate says of three generators; the bursts are whole in a split, or are dealt out to both."""
    rng = np.random.default_rng(0)
    scenes = rng.permutation(1797)[: SCENES + HIDDEN]
    unseen, scenes = scenes[:HIDDEN], scenes[HIDDEN:]
    if request.param == "apart":
        of_train, of_test = (np.repeat(part, SHOTS) for part in (scenes[:600], scenes[600:]))
    else:
        dealt = rng.permutation(np.repeat(scenes, SHOTS))
        of_train, of_test = dealt[: 600 * SHOTS], dealt[600 * SHOTS :]
    train, test = shots(of_train, rng), shots(of_test, rng)
    copied = train.subset(rng.choice(len(train), DRAWN))
    noise = rng.normal(0, 2, copied.images.shape)
    drawn = {
        "copies": LabeledImages((copied.images + noise).clip(0, 255).astype(np.uint8), copied.labels, NAMES),
        "other shots": shots(rng.choice(of_train, DRAWN), rng),
        "unseen scenes": shots(rng.choice(unseen, DRAWN), rng),
    }
    evaluate = partial(evaluate_memorization, n=480, gate=Gate(0.05, 0.1), seed=3)
    found = {}
    for name, synthetic in drawn.items():
        everything = np.arange(len(train))
        images = BudgetImages(
            budget="all",
            replicates=(0,),
            synthetic=(synthetic,),
            train=train,
            subsets=(everything,),
            validation=test,
            test=test,
        )
        values = evaluate(images, coarse)
        found[name], found["real test"] = values["replicates"]["1"], values["real_test"]
    return request.param, found


def test_copies_are_seen_and_new_scenes_pass_however_bursts_are_split(measured):
    _, found = measured
    assert not found["copies"]["passed"] and found["unseen scenes"]["passed"]
    for space in SPACES:
        assert found["copies"][space]["near_copies"] > 0.5 and found["copies"][space]["authenticity"] < 0.02
        assert found["copies"][space]["c_t"] < -5


def test_another_shot_of_a_training_scene_is_seen_only_where_bursts_are_whole_in_a_split(measured):
    split, found = measured
    shot, real = found["other shots"], found["real test"]
    assert shot["passed"] == (split == "straddling")
    for space in SPACES:
        lower = real[space]["authenticity"] - shot[space]["authenticity"]
        if split == "apart":
            assert shot[space]["near_copies"] > 0.15 and lower > 0.2 and shot[space]["c_t"] < -3
        else:  # real test images are such shots too
            assert shot[space]["near_copies"] < 0.04 and lower < 0.17 and shot[space]["c_t"] > -3
            # An honest generator looks as if it missed the data.
            assert found["unseen scenes"][space]["c_t"] > real[space]["c_t"] + 1
