import itertools

import numpy as np
import pytest
import torch
import yaml
from sklearn.datasets import load_digits

from pipeline.errors import SynthGainError
from pipeline.gan import training
from pipeline.gan.film import save_film_strip
from pipeline.gan.generators import load_generator, save_generator
from pipeline.gan.training import _batches, _even_steps, _learning_rate, train_gan, update_average
from pipeline.images import LabeledImages
from pipeline.params import Gan

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def digits():
    """The embedded digits at their own 8×8 pixels, six classes: small enough to train on in seconds."""
    data = load_digits(n_class=6)
    images = (data.images[:, None] * 15.9).astype(np.uint8)
    return LabeledImages(images, data.target.astype(np.int64), tuple("012345"))


def make_gan(**changes):
    from pathlib import Path

    values = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())["gan"]
    small = {
        "z_dim": 16,
        "class_embedding_dim": 8,
        "generator_channels": 16,
        "discriminator_channels": 8,
        "total_images": 320,
        "batch_size": 32,
        "warmup_steps": 2,
        "history_points": 4,
        "film_strip_frames": 3,
    }
    return Gan.model_validate(values | small | changes)


def train(digits, gan, seed=0):
    return train_gan(digits, gan, seed=seed, device=CPU, what="test")


def weights(run):
    return torch.cat([tensor.flatten() for tensor in run.generator.state_dict().values()])


def test_a_run_repeats_to_the_bit_and_seeds_differ(digits):
    runs = [train(digits, make_gan(), seed) for seed in (0, 0, 1)]
    assert torch.equal(weights(runs[0]), weights(runs[1]))
    assert np.array_equal(runs[0].film_strip, runs[1].film_strip)
    assert not torch.equal(weights(runs[0]), weights(runs[2]))
    timeless = [
        [{k: v for k, v in row.items() if k != "images_per_second"} for row in run.history] for run in runs
    ]
    assert timeless[0] == timeless[1]


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 1e-3},
        {"warmup_steps": 8},
        {"final_learning_rate_fraction": 0.9},
        {"beta1": 0.5},
        {"beta2": 0.9},
        {"penalty_gamma": 0.0},
        {"penalty_interval": 1},
        {"ema_decay": 0.1},
        {"augment_probability": 0.0},
        {"augment_translation": 0.2},
        {"augment_rotation_degrees": 30.0},
        {"augment_scale": 0.3},
        {"batch_size": 16, "total_images": 160},
        {"total_images": 640},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_option_changes_the_result(digits, change):
    """An option that does nothing would be a lie in params.yaml."""
    base = train(digits, make_gan())
    assert not torch.equal(weights(train(digits, make_gan(**change))), weights(base))


def test_the_history_and_the_film_strip_have_what_they_promise(digits):
    run = train(digits, make_gan())
    assert [row["step"] for row in run.history] == [3, 5, 8, 10]
    assert [row["images_seen"] for row in run.history] == [96, 160, 256, 320]
    for row in run.history:
        assert 0 <= row["d_accuracy"] <= 1
        assert 0 <= row["label_fidelity_1nn"] <= 1
        assert row["images_per_second"] > 0
    assert run.film_strip.shape == (3, 12, 1, 8, 8)
    assert run.film_strip.dtype == np.uint8
    assert not np.array_equal(run.film_strip[0], run.film_strip[-1])


def test_it_learns_which_label_is_which(digits):
    gan = make_gan(total_images=12800, generator_channels=32, discriminator_channels=16)
    run = train(digits, gan)
    assert run.history[-1]["label_fidelity_1nn"] > 0.8


def test_divergence_is_named_with_advice(digits):
    gan = make_gan(learning_rate=1e30, warmup_steps=0)
    with pytest.raises(SynthGainError, match=r"diverged by step \d+.*lower gan\.learning_rate"):
        train(digits, gan)


def test_each_player_moves_its_own_network_only(digits, monkeypatch):
    """With the other player's loss held at nothing, its network stays as it was."""
    before = {}

    def generator_without_loss(*, real, fake):
        return 0 * (real.sum() + fake.sum())

    monkeypatch.setattr(training, "generator_loss", generator_without_loss)
    before = train(digits, make_gan(total_images=32, history_points=1))
    after = train(digits, make_gan(total_images=320))
    # Adam moves nothing without a gradient: the generator is the freshly drawn one, however long D trains.
    assert torch.equal(weights(before), weights(after))


def test_the_average_follows_the_generator():
    old, new = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    expected = 0.9 * old.weight + 0.1 * new.weight
    update_average(old, new, decay=0.9)
    assert torch.allclose(old.weight, expected)


def test_batches_show_every_image_once_per_pass():
    batches = _batches(10, 4, np.random.default_rng(0))
    shown = torch.cat([next(batches) for _ in range(5)])
    assert sorted(shown[:10].tolist()) == sorted(shown[10:].tolist()) == list(range(10))


def test_a_set_smaller_than_a_batch_fills_it():
    batch = next(_batches(3, 8, np.random.default_rng(0)))
    assert np.bincount(batch.numpy()).tolist() in ([3, 3, 2], [3, 2, 3], [2, 3, 3])


def test_the_learning_rate_rises_and_falls_to_its_floor():
    gan = make_gan(warmup_steps=10, final_learning_rate_fraction=0.05, learning_rate=1e-3)
    rates = [_learning_rate(step, 1000, gan) for step in range(1, 1001)]
    assert rates[0] == pytest.approx(1e-4, rel=1e-3)
    assert max(rates) == pytest.approx(1e-3, rel=1e-2)
    assert rates[-1] == pytest.approx(5e-5)
    assert all(later <= earlier for earlier, later in itertools.pairwise(rates[10:]))


def test_even_steps_end_with_the_last():
    assert _even_steps(10, 4) == {3, 5, 8, 10}
    assert _even_steps(3, 10) == {1, 2, 3}


def test_a_generator_is_read_back_as_it_was(digits, tmp_path):
    run = train(digits, make_gan())
    path = tmp_path / "generator.safetensors"
    save_generator(path, run.generator, class_names=digits.class_names, provenance={"seed": 3})
    generator, class_names, provenance = load_generator(path, CPU)
    assert (class_names, provenance) == (digits.class_names, {"seed": 3})
    z, labels = torch.randn(4, 16), torch.tensor([0, 1, 2, 3])
    assert torch.equal(generator(z, labels), run.generator(z, labels))


def test_the_film_strip_runs_to_the_right(tmp_path):
    from PIL import Image

    film = np.zeros((3, 2, 1, 4, 4), np.uint8)
    film[2, 1] = 255  # the last frame of the second latent: bottom right
    save_film_strip(tmp_path / "film.png", film)
    picture = np.asarray(Image.open(tmp_path / "film.png"))
    assert picture.shape == (16, 24)
    assert (picture[8:, 16:] == 255).all() and picture.sum() == 64 * 255
