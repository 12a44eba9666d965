"""GANs that a GPU trains: replayed steps, states that are gone on with, the format that they compute in."""

import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from pipeline.gan import training
from pipeline.gan.sampling import synthetic_images
from pipeline.gan.training import train_gan
from pipeline.images import LabeledImages
from pipeline.runtime import cuda_graphs
from pipeline.runtime.device import set_switches
from tests.gan.test_training import DCGAN, MLP, make_gan, make_paper_gan

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CUDA = torch.device("cuda")
# The gradient of grid sampling sums in any order on a GPU: without it a training repeats itself there.
STILL = {"augment_probability": 0.0, "real_augmentation": 0.0}


@pytest.fixture(autouse=True)
def switches():
    """Those of every stage on a GPU, and sums in a fixed order where there is one: differences grow in a GAN."""
    set_switches(CUDA, threads=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=False)
        yield
    set_switches(torch.device("cpu"), threads=torch.get_num_threads())


@pytest.fixture(scope="module")
def digits():
    """Six classes of the embedded digits, 8×8."""
    data = load_digits(n_class=6)
    images = (data.images[:, None] * 15.9).astype(np.uint8)
    return LabeledImages(images, data.target.astype(np.int64), tuple("012345"))


def small_gan(**changes):
    """Eight steps of one kind, of which the last five are replayed: rounding has no time to grow."""
    return make_gan(**{"total_images": 256, "penalty_interval": 1} | changes)


def small_paper_gan(**changes):
    """The same with options that only the papers' systems have."""
    return make_paper_gan(**{"total_images": 256, "penalty_interval": 1} | changes)


def train(digits, gan, dtype=torch.float32, **more):
    return train_gan(
        digits,
        gan,
        seed=0,
        device=CUDA,
        dtype=dtype,
        label="test",
        advance=lambda units, note="": None,
        **more,
    )


def numbers(run):
    """Weights, and what the history says but for speed."""
    weights = torch.cat([tensor.float().flatten() for tensor in run.generator.state_dict().values()])
    rows = [[row[name] for name in sorted(row) if name != "images_per_second"] for row in run.history]
    return weights.numpy(), np.array(rows)


def assert_the_same_but_for_rounding(found, expected):
    """Adam divides by a gradient's size: of the smallest gradients rounding decides the sign, and a weight's step."""
    for name, values, wanted in zip(("weights", "history"), found, expected, strict=True):
        apart = np.abs(values - wanted)
        print(f"{name}: {apart.mean():.2e} apart on average, {apart.max():.2e} at most")
        assert apart.mean() < {"weights": 5e-4, "history": 5e-3}[name]


@pytest.mark.parametrize(
    "gan",
    [
        small_gan(**STILL),
        small_gan(discriminator_steps=3, instance_noise=0.1, **STILL),
        small_gan(spectral_norm=True, dropout=0.2, conditioning="concatenate", **STILL),
        small_gan(loss="wasserstein", penalty="gradient_penalty", **DCGAN, **STILL),
        small_gan(normalization="batch", loss="hinge", **DCGAN, **STILL),
        small_paper_gan(fresh_fakes=True, generator_noise=0.1, **MLP, **STILL),
        small_paper_gan(discriminator_normalization="batch", weight_clipping=0.1, **STILL),
    ],
    ids=["default", "turns-noise", "spectral", "wgan-gp", "batch-norm", "fresh-fakes", "clipped"],
)
def test_replayed_steps_train_what_single_kernels_train(gan, digits, monkeypatch):
    replayed = numbers(train(digits, gan))
    monkeypatch.setattr(cuda_graphs, "_WARM_UP", sys.maxsize)
    assert_the_same_but_for_rounding(replayed, numbers(train(digits, gan)))


def test_augmented_images_are_new_in_each_replayed_step(digits, monkeypatch):
    """The augmentation draws on the device, within the graph: a frozen draw would be the same images each time."""
    seen = []
    real_step = training.discriminator_step

    def watched(state, gan, pairs, penalised, autocast):
        kept = torch.zeros_like(pairs.real) if not seen else seen[0]
        kept.copy_(pairs.real.detach())
        if not seen:
            seen.append(kept)
        return real_step(state, gan, pairs, penalised, autocast)

    monkeypatch.setattr(training, "discriminator_step", watched)
    torch.use_deterministic_algorithms(False)
    shown = []
    gan = make_gan(
        total_images=32 * 40,
        real_augmentation_up_to=10_000,
        penalty="none",
        penalty_weight=0.0,
    )
    train_gan(
        digits,
        gan,
        seed=0,
        device=CUDA,
        label="test",
        advance=lambda units, note="": shown.append(seen[0].cpu().numpy().tobytes() if seen else b""),
    )
    assert len(set(shown)) == len(shown)


def test_a_training_goes_on_from_its_state_with_the_same_numbers(digits, tmp_path):
    gan = small_gan(instance_noise=0.1, **STILL)
    expected = numbers(train(digits, gan))

    class Killed(Exception):
        pass

    def killed_late(units, note=""):
        killed_late.shown += units
        if killed_late.shown > 200:
            raise Killed

    killed_late.shown = 0
    with pytest.raises(Killed):
        train_gan(digits, gan, seed=0, device=CUDA, label="test", advance=killed_late, scratch=tmp_path)
    assert_the_same_but_for_rounding(numbers(train(digits, gan, scratch=tmp_path)), expected)


def test_bfloat16_learns_the_digits_and_its_generator_draws_on_the_cpu(digits):
    # As in every stage: the gradient of an augmentation has no fixed order.
    torch.use_deterministic_algorithms(False)
    gan = make_gan(total_images=32 * 600, history_points=2, generator_channels=[64, 32])
    run = train(digits, gan, dtype=torch.bfloat16)
    assert run.history[-1]["label_fidelity_1nn"] > 0.5  # chance is 0.17
    assert next(run.generator.parameters()).device.type == "cpu"
    images = synthetic_images(
        run.generator,
        class_names=digits.class_names,
        images_per_class=5,
        seed=0,
        provenance={},
        device=torch.device("cpu"),
        advance=lambda units: None,
    )
    assert images.images.shape == (30, 1, 8, 8) and images.images.std() > 20
