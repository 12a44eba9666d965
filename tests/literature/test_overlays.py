"""The overlays of studies/literature: what their papers state, and nothing more."""

import pytest
import torch
import yaml

from pipeline.gan.networks import Discriminator, Generator
from pipeline.gan.options import PaperGan
from pipeline.gan.state import new_state
from pipeline.images import LabeledImages
from pipeline.literature.systems import NAMES, OVERLAYS, System, systems

CPU = torch.device("cpu")
# A width may be that of the base: it stands there again, with its reason.
WIDTHS = {f"{player}_{what}" for player in ("generator", "discriminator") for what in ("channels", "strides")}
SYSTEMS = {system.name: system for system in systems()}
# Words for what is no key of a GAN's section.
WORDS = {"epochs", "the row", "the run", "batches", "order"}


def gan_of(name: str) -> PaperGan:
    return SYSTEMS[name].gan(SYSTEMS[name].epochs * 55_000, 55_000)


def networks(name: str) -> tuple[Generator, Discriminator]:
    images = torch.zeros(10, 1, 28, 28, dtype=torch.uint8).numpy()
    real = LabeledImages(images, torch.arange(10).numpy(), tuple("0123456789"))
    state = new_state(real, gan_of(name), seed=0, device=CPU)
    return state.generator, state.discriminator


def count(network: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def test_every_overlay_is_a_system_and_every_system_has_one():
    assert sorted(path.stem for path in OVERLAYS.glob("*.yaml")) == sorted([*NAMES, "base"])
    assert {system.paper for system in SYSTEMS.values()} == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("name", SYSTEMS)
def test_its_networks_take_mnist_and_read_no_label(name):
    generator, discriminator = networks(name)
    z, labels = torch.randn(2, generator.z_dim), torch.tensor([0, 3])
    images = generator.eval()(z, labels)
    assert images.shape == (2, 1, 28, 28)
    assert torch.equal(images, generator(z, labels.flip(0)))
    assert discriminator(images, labels).shape == (2,)


@pytest.mark.parametrize("name", NAMES)
def test_an_overlay_holds_keys_of_a_gan_and_a_reason_for_each_that_is_ours(name):
    overlay = yaml.safe_load((OVERLAYS / f"{name}.yaml").read_text())
    known = PaperGan.model_fields.keys() | WORDS
    assert overlay["states"].keys() | overlay["ours"].keys() <= known
    assert not overlay["states"].keys() & overlay["ours"].keys()
    assert all(set(entry) == {"value", "why"} and entry["why"] for entry in overlay["ours"].values())


@pytest.mark.parametrize("name", NAMES)
def test_what_is_ours_differs_from_the_base(name):
    """An overlay repeats no key: beside what the paper states, it has only what is not in the base."""
    base = yaml.safe_load((OVERLAYS / "base.yaml").read_text())["gan"]
    overlay = yaml.safe_load((OVERLAYS / f"{name}.yaml").read_text())
    for key, entry in overlay["ours"].items():
        if key in base and key not in ("loss", *WIDTHS):
            assert base[key] != entry["value"], key


def test_the_base_has_every_option_but_those_of_a_trainings_length():
    base = yaml.safe_load((OVERLAYS / "base.yaml").read_text())
    length = {"total_images", "history_points", "film_strip_frames"}
    assert base["gan"].keys() == PaperGan.model_fields.keys() - length


def test_paper_0_has_81184_weights():
    generator, _ = networks("minimal")
    assert generator.z_dim == 20 and generator.first.bias is None
    assert generator.first.weight.numel() == 2_000
    assert count(generator) == 81_184


def test_paper_1_has_the_printed_layers():
    generator, discriminator = networks("mlp")
    assert (count(generator), count(discriminator)) == (1_486_352, 1_460_225)
    assert gan_of("mlp").fresh_fakes and SYSTEMS["mlp"].epochs == 200


def test_paper_2_has_four_rows_of_fifty_epochs_and_one_optimiser():
    rows = [system for system in SYSTEMS.values() if system.paper == 2]
    assert [row.name for row in rows] == ["vanilla", "dcgan", "wgan", "proposed"]
    for row in rows:
        gan = gan_of(row.name)
        assert (gan.generator_learning_rate, gan.beta1, gan.beta2, gan.batch_size) == (2e-4, 0.5, 0.999, 128)
        assert row.epochs == 50 and gan.discriminator_normalization == "none"
    assert gan_of("wgan").loss == "wasserstein" and gan_of("wgan").penalty == "none"
    assert gan_of("proposed").spectral_norm and gan_of("proposed").penalty == "gradient_penalty"


def test_paper_3_has_a_training_for_each_rate_and_batch_norm_in_d():
    rates = [name for name in SYSTEMS if name.startswith("learning_rates/")]
    assert rates == [f"learning_rates/0.000{digit}" for digit in range(1, 7)]
    for name in rates:
        gan = gan_of(name)
        assert (
            gan.generator_learning_rate == gan.discriminator_learning_rate == float(name.rpartition("/")[2])
        )
        assert gan.discriminator_normalization == "batch" and gan.schedule == "constant"
        assert SYSTEMS[name].epochs == 20 and gan.history_points == 20
    balance = gan_of("balance")
    assert (balance.cycles_from, balance.history_points) == ("plateau", 50) and balance.cycle_decay < 1
    low = balance.generator_learning_rate * balance.final_learning_rate_fraction
    assert (low, balance.generator_learning_rate) == pytest.approx((1e-4, 6e-4))


def test_paper_4_has_its_noise_and_dropout_in_d():
    gan, (generator, _) = gan_of("noisy_dcgan"), networks("noisy_dcgan")
    assert (gan.dropout, gan.generator_noise, gan.generator_dropout, gan.loss) == (0.2, 0, 0, "saturating")
    assert gan.discriminator_noise > 0 and gan.instance_noise == 0
    assert generator.z_dim == 7 * 7 * 256 and count(generator.first) == 0
    assert (gan.batch_size, SYSTEMS["noisy_dcgan"].epochs) == (256, 50)
    assert gan.film_strip_frames == 51  # one before the first epoch, and one after each


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("noisy_dcgan", [(256, 7), (128, 7), (64, 14)]),
        ("dcgan", [(128, 7), (128, 14), (64, 28)]),
        ("proposed", [(128, 7), (128, 14), (64, 28)]),
    ],
)
def test_the_dcgans_have_the_papers_feature_maps(name, shapes):
    generator, _ = networks(name)
    seen = []
    for layer in generator.layers:
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[1:3])))
    generator.eval()(torch.randn(1, generator.z_dim), torch.tensor([0]))
    assert seen == shapes


def test_the_equal_length_has_ten_points_at_least():
    assert isinstance(SYSTEMS["dcgan"], System)
    gan = SYSTEMS["dcgan"].gan(200_000, 55_000)
    assert (gan.total_images, gan.history_points) == (200_000, 10)
