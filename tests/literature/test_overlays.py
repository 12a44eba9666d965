"""The overlays of studies/literature: each is valid, whole and what its system says."""

import pytest
import torch
import yaml

from pipeline.gan.networks import Discriminator, DiscriminatorDesign, Generator, GeneratorDesign
from pipeline.literature.learning_rates import CYCLIC, RATES, variants
from pipeline.literature.systems import ELSEWHERE, LEARNING_RATES, OVERLAYS, SYSTEMS
from pipeline.maintenance.workspace import PROJECT
from pipeline.params import Gan, overlay_params

PARAMS = PROJECT / "params.yaml"
NAMES = [*(system.name for system in SYSTEMS), LEARNING_RATES]
# What every system shares: the budget, and how often its training is looked at.
COMMON = {"total_images", "history_points", "film_strip_frames"}


def gan_of(name: str) -> Gan:
    return overlay_params(PARAMS, OVERLAYS / f"{name}.yaml").gan


def networks(gan: Gan) -> tuple[Generator, Discriminator]:
    generator = Generator(
        GeneratorDesign(
            architecture=gan.architecture,
            z_dim=gan.z_dim,
            class_embedding_dim=gan.class_embedding_dim,
            channels=gan.generator_channels,
            strides=gan.generator_strides,
            upsampling=gan.upsampling,
            normalization=gan.normalization,
            conditioning=gan.conditioning,
            leak=gan.generator_leak,
            noise=gan.generator_noise,
            num_classes=10,
            image_size=28,
        )
    )
    discriminator = Discriminator(
        DiscriminatorDesign(
            architecture=gan.architecture,
            class_embedding_dim=gan.class_embedding_dim,
            channels=gan.discriminator_channels,
            strides=gan.discriminator_strides,
            features=gan.discriminator_features,
            conditioning=gan.conditioning,
            dropout=gan.dropout,
            spectral_norm=gan.spectral_norm,
            num_classes=10,
            image_size=28,
        )
    )
    return generator, discriminator


def test_every_overlay_is_a_system_and_every_system_has_one():
    assert sorted(path.stem for path in OVERLAYS.glob("*.yaml")) == sorted(NAMES)
    assert not {system.name for system in ELSEWHERE} & set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_networks_of_an_overlay_take_mnist(name):
    generator, discriminator = networks(gan_of(name))
    labels = torch.tensor([0, 3])
    images = generator.eval()(torch.randn(2, generator.z_dim), labels)
    assert images.shape == (2, 1, 28, 28)
    assert discriminator(images, labels).shape == (2,)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "compact"])
def test_a_system_of_the_literature_leaves_nothing_to_our_default(name):
    """A change of the project's own recipe must not change what others' systems are."""
    values = yaml.safe_load((OVERLAYS / f"{name}.yaml").read_text())
    assert set(values) == {"gan"}
    assert set(values["gan"]) == set(Gan.model_fields) - COMMON


def test_compact_is_the_projects_own_recipe_run_to_the_end():
    own = yaml.safe_load(PARAMS.read_text())["gan"]
    assert gan_of("compact").model_dump() == {**own, "collapse_patience_images": 0}


def count(network: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def widths(network: torch.nn.Module) -> list[tuple[int, int]]:
    return [
        (layer.in_features, layer.out_features)
        for layer in network.modules()
        if isinstance(layer, torch.nn.Linear)
    ]


def test_system_1_has_the_reports_layers():
    gan = gan_of("mlp")
    generator, discriminator = networks(gan)
    classes = gan.class_embedding_dim
    assert widths(generator) == [(100 + classes, 256), (256, 512), (512, 1024), (1024, 784)]
    assert widths(discriminator) == [(784 + classes, 1024), (1024, 512), (512, 256), (256, 1)]
    assert gan.dropout > 0


def test_system_2_has_one_hidden_layer_of_100_units_and_its_three_options():
    gan = gan_of("mlp_minimal")
    generator, discriminator = networks(gan)
    assert [outputs for _, outputs in widths(generator)] == [100, 784]
    assert [outputs for _, outputs in widths(discriminator)] == [100, 1]
    assert count(generator) == pytest.approx(81_000, rel=0.01)
    assert gan.discriminator_learning_rate > gan.generator_learning_rate  # two time scales
    assert gan.label_smoothing > 0
    nearest, transposed = gan_of("dcgan_nearest").model_dump(), gan_of("dcgan").model_dump()
    assert {key for key in nearest if nearest[key] != transposed[key]} == {"upsampling"}


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("dcgan", [(256, 7), (128, 7), (64, 14), (1, 28)]),
        ("table_dcgan", [(128, 7), (128, 14), (64, 28), (1, 28)]),
    ],
)
def test_the_dcgans_have_the_papers_feature_maps(name, shapes):
    gan = gan_of(name)
    generator, _ = networks(gan)
    seen = []
    for layer in generator.layers:
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[1:3])))
    generator.eval()(torch.randn(1, generator.z_dim), torch.tensor([0]))
    assert [*seen, (1, 28)] == shapes
    assert gan.normalization == "batch"
    assert (gan.generator_leak == 0) == (name == "table_dcgan")  # ReLU there, LeakyReLU here


def test_the_table_of_system_4_has_one_optimiser_and_what_each_row_is_named_after():
    table = {name: gan_of(name) for name in NAMES if name.startswith("table_")}
    for gan in table.values():
        assert (gan.generator_learning_rate, gan.beta1, gan.batch_size) == (2e-4, 0.5, 128)
    assert {name: gan.architecture for name, gan in table.items()} == {
        "table_vanilla": "mlp",
        "table_conditional": "mlp",
        "table_dcgan": "dcgan",
        "table_wgan_gp": "dcgan",
        "table_proposed": "dcgan",
    }
    assert (table["table_wgan_gp"].loss, table["table_wgan_gp"].penalty) == (
        "wasserstein",
        "gradient_penalty",
    )
    proposed = table["table_proposed"]
    assert proposed.spectral_norm and proposed.penalty == "gradient_penalty"
    assert proposed.instance_noise > 0 and proposed.schedule == "cosine"


def test_the_study_has_a_constant_training_for_each_rate_and_a_cyclic_one():
    base = gan_of(LEARNING_RATES)
    made = variants(base, epochs=50.0)
    assert list(made) == ["0.0001", "0.0002", "0.0003", "0.0004", "0.0005", "0.0006", CYCLIC]
    for rate in RATES:
        gan = made[f"{rate:.4f}"]
        assert gan.generator_learning_rate == gan.discriminator_learning_rate == rate
        assert gan.schedule == "constant"
    cyclic = made[CYCLIC]
    assert cyclic.schedule == "cyclic" and cyclic.generator_learning_rate == RATES[-1]
    assert cyclic.generator_learning_rate * cyclic.final_learning_rate_fraction == pytest.approx(RATES[0])
    assert {gan.history_points for gan in made.values()} == {50}
    assert variants(base, epochs=0.3)[CYCLIC].history_points == 10
    for gan in made.values():
        assert Gan.model_validate(gan.model_dump()) == gan
