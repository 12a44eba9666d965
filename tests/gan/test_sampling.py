import copy
import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pipeline.errors import SynthGainError
from pipeline.gan.networks import Generator, GeneratorDesign
from pipeline.gan.sampling import BLOCK, interleaved, sample_images, sample_z, synthetic_images
from pipeline.images import LabeledImages

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(0)
    return Generator(
        GeneratorDesign(
            architecture="compact",
            z_dim=6,
            class_embedding_dim=4,
            channels=[8, 4],
            strides=[2, 2],
            upsampling="transposed",
            normalization="none",
            conditioning="projection",
            leak=0.2,
            noise=0.0,
            num_classes=3,
            image_size=8,
        )
    ).eval()


@settings(max_examples=50)
@given(
    start=st.integers(0, 10**6), count=st.integers(1, 50), cut=st.integers(0, 50), z_dim=st.integers(1, 70)
)
def test_latent_i_depends_on_seed_label_and_i_only(start, count, cut, z_dim):
    cut = min(cut, count)
    whole = sample_z(7, 2, start, count, z_dim)
    parts = [sample_z(7, 2, start, cut, z_dim), sample_z(7, 2, start + cut, count - cut, z_dim)]
    assert whole.dtype == np.float32
    assert whole.tobytes() == np.concatenate(parts).tobytes()


def test_latents_are_standard_normal_and_independent():
    z = sample_z(0, 0, 0, 5000, 8)
    assert stats.kstest(z.ravel(), "norm").pvalue > 0.001
    assert np.abs(np.corrcoef(z.T) - np.eye(8)).max() < 0.06
    assert np.isfinite(z).all()


def test_uniform_latents_fill_their_range():
    z = sample_z(0, 0, 0, 5000, 8, "uniform")
    assert stats.kstest(z.ravel(), stats.uniform(-1, 2).cdf).pvalue > 0.001
    # The same stream: the normal ones are the quantiles of the same numbers.
    assert np.allclose(stats.norm.cdf(sample_z(0, 0, 0, 5000, 8)), (z + 1) / 2, atol=1e-6)


def test_seeds_and_labels_have_latents_of_their_own():
    draws = [sample_z(seed, label, 0, 4, 8).tobytes() for seed in range(3) for label in range(3)]
    assert len(set(draws)) == 9


@settings(max_examples=15)
@given(
    start=st.integers(0, 2 * BLOCK),
    counts=st.lists(st.integers(1, BLOCK + 7), min_size=1, max_size=4),
)
def test_batch_size_changes_no_byte(generator, start, counts):
    """However a range of images is split over calls, image i has the same bytes."""
    whole = sample_images(generator, seed=1, label=2, start=start, count=sum(counts), device=CPU)
    parts, at = [], start
    for count in counts:
        parts.append(sample_images(generator, seed=1, label=2, start=at, count=count, device=CPU))
        at += count
    assert whole.tobytes() == np.concatenate(parts).tobytes()


def test_counts_are_exact_and_more_images_extend_the_fewer(generator):
    def make(count):
        return synthetic_images(
            generator,
            class_names=("a", "b", "c"),
            images_per_class=count,
            seed=5,
            provenance={"generator_sha256": "x"},
            device=CPU,
            advance=lambda units, note="": None,
        )

    few, many = make(7), make(BLOCK + 3)
    assert few.counts().tolist() == [7, 7, 7]
    assert many.counts().tolist() == [BLOCK + 3] * 3
    for label in range(3):
        assert np.array_equal(few.images[few.labels == label], many.images[many.labels == label][:7])
    assert few.provenance == {
        "generator_sha256": "x",
        "kind": "synthetic",
        "seed": 5,
        "z_dim": few.provenance["z_dim"],
        "images_per_class": 7,
    }


def spread_images(generator, **spread):
    return synthetic_images(
        generator,
        class_names=("a", "b", "c"),
        images_per_class=5,
        seed=5,
        provenance={},
        device=CPU,
        advance=lambda units, note="": None,
        **spread,
    )


def test_the_latents_are_spread_as_told(generator, monkeypatch):
    seen = []
    forward = generator.forward
    monkeypatch.setattr(generator, "forward", lambda z, labels: seen.append(z.clone()) or forward(z, labels))
    images = [
        sample_images(generator, seed=1, label=2, start=3, count=4, latent_std=std, device=CPU)
        for std in (1.0, 1.3)
    ]
    assert torch.equal(seen[1], seen[0] * torch.tensor(1.3)) and not np.array_equal(*images)
    assert seen[0].numpy().tobytes() == sample_z(1, 2, 0, BLOCK, 6).tobytes()


def test_a_spread_of_one_is_the_default_to_the_byte_and_another_is_noted(generator):
    plain, one, wide = spread_images(generator), *(spread_images(generator, latent_std=s) for s in (1.0, 1.2))
    assert np.array_equal(plain.images, one.images) and plain.provenance == one.provenance
    assert not np.array_equal(plain.images, wide.images)
    assert wide.provenance == {**plain.provenance, "latent_std": 1.2}


def test_several_generators_give_equal_parts_and_one_is_as_before(generator):
    parts = []
    for member in range(3):  # of one generator at three spreads: what counts is whose image i is
        part = spread_images(generator, latent_std=1.0 + 0.2 * member)
        made = {"images_per_class": 5, "gan_seed": member, "generator_sha256": str(member)}
        parts.append(LabeledImages(part.images, part.labels, part.class_names, made))
    assert interleaved(parts[:1]) is parts[0]
    mixed = interleaved(parts)
    for index in range(15):
        assert np.array_equal(mixed.images[index], parts[index % 5 % 3].images[index])
    assert mixed.labels.tolist() == parts[0].labels.tolist()
    assert mixed.provenance["gan_seed"] == [0, 1, 2]
    assert mixed.provenance["generators_sha256"] == ["0", "1", "2"]
    assert mixed.provenance["generator_sha256"] == hashlib.sha256(b"012").hexdigest()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "are no finite numbers"),
        (3e38, "are no finite numbers|at the ends of their range"),
        (float("inf"), "are no finite numbers|at the ends of their range"),
        (-50.0, "at the ends of their range"),
    ],
)
@pytest.mark.parametrize("weights", ["all", "last bias", "one class"])
def test_values_that_are_no_images_are_refused(generator, value, message, weights):
    """Weights of 3e38 are finite, and give black or white pixels alone, which any format would hold."""
    broken = copy.deepcopy(generator)
    with torch.no_grad():
        if weights == "all":
            for parameter in broken.parameters():
                parameter.fill_(value)
        elif weights == "last bias":
            broken.layers[-1][0].bias.fill_(value)
        else:
            broken.affines[-1].bias.weight[2].fill_(value)
    if (value, weights) == (-50.0, "one class"):
        return  # a bias among others
    with pytest.raises(SynthGainError, match=message):
        sample_images(broken, seed=1, label=2, start=0, count=3, device=CPU)


class Made(torch.nn.Module):
    """Stands for a generator: labels → what `make` gives for them."""

    z_dim, num_classes, image_size, latents = 4, 3, 8, "normal"

    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, z, labels):
        return self.make(z, labels)


def digits(z, labels):
    """Strokes on a background of exactly -1, as of a trained generator of MNIST: 9 of 10 pixels at an end."""
    images = -torch.ones(len(z), 1, 8, 8)
    images[:, 0, 2:5, 3] = torch.tanh(z[:, :3])
    images[:, 0, 5, 3:6] = 1.0
    return images


def saturated(share):
    def make(z, labels):
        images = digits(z, labels)
        images[: round(share * len(z))] = torch.where(
            z[: round(share * len(z)), :1, None, None] > 0, 1.0, -1.0
        )
        return images

    return make


def flat(z, labels):
    return torch.full((len(z), 1, 8, 8), 0.25)


def not_a_number_in_one(z, labels):
    images = digits(z, labels)
    images[7, 0, 0, 0] = torch.nan
    return images


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (digits, None),
        (saturated(0.5), None),
        (saturated(0.6), r"ends of their range \(-1 or 1\) in 150 of 250 images"),
        (saturated(1.0), "in 250 of 250 images"),
        (flat, "are one and the same picture for every latent"),
        (not_a_number_in_one, "are no finite numbers"),
    ],
)
def test_output_that_is_no_images_in_part_is_refused_and_a_plain_background_is_not(make, message):
    def sample(label):
        return sample_images(Made(make), seed=1, label=label, start=0, count=9, device=CPU)

    if message is None:
        assert sample(1).shape == (9, 1, 8, 8)
    else:
        with pytest.raises(SynthGainError, match=f"for label 1 .*{message}"):
            sample(1)


def test_images_of_black_and_white_with_an_edge_are_images(generator):
    """A sharp generator of drawings is none that has failed."""
    sharp = copy.deepcopy(generator)
    with torch.no_grad():
        for parameter in sharp.layers[-1].parameters():
            parameter.mul_(1000)
    images = sample_images(sharp, seed=1, label=2, start=0, count=9, device=CPU)
    assert ((images == 0) | (images == 255)).mean() > 0.9
