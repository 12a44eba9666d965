import itertools
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.gan.layers import discriminator_layers, generator_layers
from pipeline.gan.networks import (
    Discriminator,
    DiscriminatorDesign,
    Generator,
    GeneratorDesign,
    images_from_uint8,
    uint8_from_images,
)

GENERATORS = {
    "compact": {"channels": [8, 4], "strides": [2, 2]},
    "dcgan": {"channels": [8, 8, 4], "strides": [1, 2, 2]},
    "mlp": {"channels": [16, 32], "strides": []},
}
DISCRIMINATORS = {
    "compact": {"channels": [4, 8, 8], "strides": [1, 2, 2], "features": 8},
    "dcgan": {"channels": [4, 8], "strides": [2, 2], "features": 0},
    "mlp": {"channels": [16, 8], "strides": [], "features": 0},
}
ARCHITECTURES = list(GENERATORS)
PLAYERS = ("generator", "discriminator")
CONDITIONINGS = ["projection", "concatenate"]
everywhere = pytest.mark.parametrize(
    ("architecture", "conditioning"), list(itertools.product(ARCHITECTURES, CONDITIONINGS))
)


def make_generator(architecture="compact", image_size=28, **changes):
    torch.manual_seed(0)
    options = {
        "z_dim": 8,
        "class_embedding_dim": 4,
        "upsampling": "transposed",
        "normalization": "none",
        "conditioning": "projection",
        "leak": 0.2,
        "noise": 0.0,
        "num_classes": 3,
    }
    options |= {"architecture": architecture, "image_size": image_size, **GENERATORS[architecture], **changes}
    return Generator(GeneratorDesign(**options))


def make_discriminator(architecture="compact", image_size=28, **changes):
    torch.manual_seed(1)
    options = {
        "class_embedding_dim": 4,
        "conditioning": "projection",
        "dropout": 0.0,
        "spectral_norm": False,
        "normalization": "none",
        "noise": 0.0,
        "num_classes": 3,
    }
    options |= {
        "architecture": architecture,
        "image_size": image_size,
        **DISCRIMINATORS[architecture],
        **changes,
    }
    return Discriminator(DiscriminatorDesign(**options))


@everywhere
@pytest.mark.parametrize("image_size", [8, 12, 28, 32])
def test_shapes_and_ranges_for_every_multiple_of_four(architecture, conditioning, image_size):
    labels = torch.tensor([0, 1, 2, 2, 1])
    generator = make_generator(architecture, image_size, conditioning=conditioning)
    images = generator(10 * torch.randn(5, 8), labels)
    assert images.shape == (5, 1, image_size, image_size)
    assert images.min() >= -1 and images.max() <= 1
    assert make_discriminator(architecture, image_size, conditioning=conditioning)(images, labels).shape == (
        5,
    )


@settings(deadline=None, max_examples=25)
@given(
    grid=st.integers(4, 7),
    doublings=st.integers(1, 5),
    image_channels=st.sampled_from([1, 3]),
    architecture=st.sampled_from(["compact", "dcgan"]),
)
def test_every_side_has_layers_that_lead_there(grid, doublings, image_channels, architecture):
    side = grid * 2**doublings
    if side > 128:
        return
    auto = SimpleNamespace(
        architecture=architecture,
        **{f"{player}_{part}": "auto" for player in PLAYERS for part in ("channels", "strides")},
    )
    channels, strides = generator_layers(auto, side=side)
    colours = {"image_channels": image_channels}
    generator = make_generator(architecture, side, channels=channels, strides=strides, **colours)
    assert generator.grid == grid and strides == [2] * doublings
    channels, strides = discriminator_layers(auto, side=side)
    discriminator = make_discriminator(
        architecture, side, channels=channels, strides=strides, features=8, **colours
    )
    sides = []
    discriminator.layers[len(channels) - 1].register_forward_hook(
        lambda _, i, out: sides.append(out.shape[-1])
    )
    labels = torch.tensor([0, 1])
    images = generator(torch.randn(2, 8), labels)
    assert images.shape == (2, image_channels, side, side)
    assert discriminator(images, labels).shape == (2,)
    assert sides in ([3], [4])


def test_mnist_has_the_layers_that_it_always_had():
    auto = SimpleNamespace(
        architecture="compact",
        **{f"{player}_{part}": "auto" for player in PLAYERS for part in ("channels", "strides")},
    )
    assert generator_layers(auto, side=28) == ([128, 64], [2, 2])
    assert discriminator_layers(auto, side=28) == ([32, 64, 128], [1, 2, 2])


def test_widths_of_ones_own_grow_at_the_image():
    """The demo names widths alone: 28 pixels are two doublings, whatever the number of layers."""
    own = SimpleNamespace(architecture="compact", generator_channels=[8, 8, 8], generator_strides="auto")
    assert generator_layers(own, side=28) == ([8, 8, 8], [1, 2, 2])
    assert generator_layers(own, side=64) == ([8, 8, 8], [2, 2, 2])


@everywhere
@pytest.mark.parametrize("image_size", [8, 32])
def test_colour_is_three_channels_in_and_out(architecture, conditioning, image_size):
    labels = torch.tensor([0, 1, 2])
    generator = make_generator(architecture, image_size, conditioning=conditioning, image_channels=3)
    images = generator(torch.randn(3, 8), labels)
    assert images.shape == (3, 3, image_size, image_size)
    assert not torch.equal(images[:, 0], images[:, 1])
    discriminator = make_discriminator(architecture, image_size, conditioning=conditioning, image_channels=3)
    logits = discriminator(images, labels)
    for channel in range(3):
        changed = images.clone()
        changed[:, channel] *= -1
        assert not torch.equal(discriminator(changed, labels), logits)
    assert Generator(GeneratorDesign(**generator.arguments)).image_shape == (3, image_size, image_size)


@everywhere
def test_the_label_changes_the_image_and_the_logit(architecture, conditioning):
    generator = make_generator(architecture, conditioning=conditioning)
    discriminator = make_discriminator(architecture, conditioning=conditioning)
    z = torch.randn(1, 8).repeat(2, 1)
    labels = torch.tensor([0, 1])
    images = generator(z, labels)
    assert not torch.allclose(images[0], images[1])
    same = images[:1].repeat(2, 1, 1, 1)
    logits = discriminator(same, labels)
    assert logits[0] != logits[1]


@everywhere
@pytest.mark.parametrize("normalization", ["none", "batch"])
def test_each_image_is_independent_of_the_others_in_its_batch(architecture, conditioning, normalization):
    generator = make_generator(architecture, conditioning=conditioning, normalization=normalization).eval()
    labels = torch.tensor([0, 1, 2, 0])
    z = torch.randn(4, 8)
    whole = generator(z, labels)
    for i in range(4):
        alone = generator(z[i : i + 1], labels[i : i + 1])
        assert torch.allclose(whole[i], alone[0], atol=1e-6)


@everywhere
def test_constructor_arguments_build_the_same_network(architecture, conditioning):
    generator = make_generator(architecture, conditioning=conditioning)
    twin = Generator(GeneratorDesign(**generator.arguments))
    twin.load_state_dict(generator.state_dict())
    z, labels = torch.randn(2, 8), torch.tensor([0, 2])
    assert torch.equal(generator(z, labels), twin(z, labels))


@pytest.mark.parametrize("upsampling", ["transposed", "nearest", "pixel_shuffle"])
def test_every_upsampling_doubles_the_side_with_layers_of_its_own(upsampling):
    generator = make_generator("dcgan", upsampling=upsampling)
    assert generator(torch.randn(2, 8), torch.tensor([0, 1])).shape == (2, 1, 28, 28)
    kinds = {type(layer).__name__ for layer in generator.layers[1].modules()}
    assert {"transposed": "ConvTranspose2d", "nearest": "Upsample", "pixel_shuffle": "PixelShuffle"}[
        upsampling
    ] in kinds


def test_nearest_upsampling_has_no_checkerboard():
    """A constant grid stays constant inside the image; a transposed convolution of even overlap may not."""
    generator = make_generator("dcgan", upsampling="nearest")
    flat = torch.ones(1, 8, 7, 7)
    inside = generator.layers[1](flat)[0, :, 2:-2, 2:-2]
    assert torch.allclose(inside, inside[:, :1, :1].expand_as(inside), atol=1e-6)


@everywhere
def test_no_bias_comes_before_a_conditional_affine_which_has_one(architecture, conditioning):
    *hidden, last = make_generator(architecture, conditioning=conditioning).layers
    assert hidden
    assert all((layer.bias is None) == (conditioning == "projection") for layer in hidden)
    assert any("bias" in name for name, _ in last.named_parameters())


@everywhere
def test_the_memory_layout_changes_no_logit(architecture, conditioning):
    """Channels last is only faster: weights trained in one layout are good in the other."""
    images, labels = torch.randn(4, 1, 28, 28), torch.tensor([0, 1, 2, 0])
    plain = make_discriminator(architecture, conditioning=conditioning)
    last = make_discriminator(architecture, conditioning=conditioning).to(memory_format=torch.channels_last)
    assert torch.allclose(plain(images, labels), last(images, labels), atol=1e-5)


def test_the_dense_layers_of_a_discriminator_copy_no_activation():
    """In channels last, as trainings are: a copy, and gradients of another layout, cost a twentieth of a step."""
    discriminator = make_discriminator().to(memory_format=torch.channels_last)
    dense = next(layer for layer in discriminator.layers if isinstance(layer, torch.nn.Linear))
    storages = []
    discriminator.layers[2].register_forward_hook(lambda _, i, output: storages.append(output.data_ptr()))
    dense.register_forward_hook(lambda _, inputs, o: storages.append(inputs[0].data_ptr()))
    discriminator(torch.randn(4, 1, 28, 28), torch.tensor([0, 1, 2, 0]))
    assert len(set(storages)) == 1 and len(storages) == 2


def test_compact_computes_on_the_half_resolution_only():
    sizes = []
    generator, discriminator = make_generator(), make_discriminator()
    for network in (generator, discriminator):
        for layer in network.modules():
            if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
                layer.register_forward_hook(lambda _, inputs, output: sizes.append(output.shape[-1]))
    labels = torch.tensor([0, 1])
    discriminator(generator(torch.randn(2, 8), labels), labels)
    assert sizes and max(sizes) == 14


def test_a_checkpoint_of_today_is_one_of_tomorrow():
    """Names of weights and arguments are those of the checkpoints that people have."""
    generator = make_generator(normalization="batch")
    assert set(generator.arguments) == {
        *("architecture", "z_dim", "class_embedding_dim", "channels", "strides", "upsampling"),
        *("normalization", "conditioning", "leak", "noise", "num_classes", "image_size"),
    }
    running = ("running_mean", "running_var", "num_batches_tracked")
    assert set(generator.state_dict()) == {
        *("embedding.weight", "first.weight", "first.bias"),
        *("layers.0.weight", "layers.1.0.weight", "layers.1.0.bias"),
        *(f"norms.{i}.{name}" for i in range(2) for name in running),
        *(f"affines.{i}.{name}.weight" for i in range(2) for name in ("gain", "bias")),
    }
    assert set(make_discriminator().state_dict()) == {
        *(f"layers.{i}.{name}" for i in range(5) for name in ("weight", "bias")),
        "projection.weight",
    }


def test_batch_normalization_is_there_when_asked_for():
    assert not any("running_mean" in name for name in make_generator().state_dict())
    assert any("running_mean" in name for name in make_generator(normalization="batch").state_dict())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_noise_comes_in_training_only(architecture):
    generator = make_generator(architecture, noise=0.5)
    z, labels = torch.randn(2, 8), torch.tensor([0, 1])
    assert not torch.equal(generator(z, labels), generator(z, labels))
    generator.eval()
    assert torch.equal(generator(z, labels), generator(z, labels))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_dropout_comes_in_training_only(architecture):
    discriminator = make_discriminator(architecture, dropout=0.5)
    images, labels = torch.randn(4, 1, 28, 28), torch.tensor([0, 1, 2, 0])
    assert not torch.equal(discriminator(images, labels), discriminator(images, labels))
    discriminator.eval()
    assert torch.equal(discriminator(images, labels), discriminator(images, labels))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_spectral_norm_holds_every_layer_at_one(architecture):
    discriminator = make_discriminator(architecture, spectral_norm=True)
    images, labels = torch.randn(4, 1, 28, 28), torch.tensor([0, 1, 2, 0])
    for _ in range(50):  # power iteration: one turn per pass
        discriminator(images, labels)
    for layer in (
        *discriminator.layers,
        discriminator.projection,
    ):  # the embedding's features count as the score's
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_without_conditioning_no_label_is_read(architecture):
    generator = make_generator(architecture, conditioning="none").eval()
    discriminator = make_discriminator(architecture, conditioning="none")
    z, images, labels = torch.randn(3, 8), torch.randn(3, 1, 28, 28), torch.tensor([0, 1, 2])
    assert torch.equal(generator(z, labels), generator(z, labels.flip(0)))
    assert torch.equal(discriminator(images, labels), discriminator(images, labels.flip(0)))
    assert not any(isinstance(module, torch.nn.Embedding) for module in generator.modules())


def test_a_grid_of_noise_is_the_first_grid_itself():
    generator = make_generator("dcgan", conditioning="none", noise_grid=True, z_dim=7 * 7 * 8)
    assert sum(weight.numel() for weight in generator.first.parameters()) == 0
    seen = []
    generator.layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    z, labels = (
        torch.rand(2, 7 * 7 * 8),
        torch.tensor([0, 1]),
    )  # above 0, where the activation changes nothing
    assert generator(z, labels).shape == (2, 1, 28, 28)
    assert torch.equal(seen[0].permute(0, 2, 3, 1).flatten(1), z)


@pytest.mark.parametrize(
    ("make", "change"),
    [(make_generator, {"dropout": 0.5}), (make_discriminator, {"noise": 0.5})],
)
def test_dropout_of_the_generator_and_noise_of_the_discriminator_act_in_training_only(make, change):
    network, plain = make(**change), make()
    inputs = torch.randn(4, 8) if make is make_generator else torch.randn(4, 1, 28, 28)
    labels = torch.tensor([0, 1, 2, 0])
    assert not torch.equal(network(inputs, labels), network(inputs, labels))
    assert torch.equal(network.eval()(inputs, labels), plain.eval()(inputs, labels))


def test_an_option_at_rest_leaves_no_trace_in_a_generators_file():
    """Files of versions without it are read, and those of generators without it keep their bytes."""
    arguments = make_generator().arguments
    assert not {"latents", "noise_grid", "hidden_bias", "dropout", "image_channels"} & set(arguments)
    assert make_generator(latents="uniform").arguments["latents"] == "uniform"
    assert Generator(GeneratorDesign(**arguments)).design == make_generator().design


def test_the_leak_is_the_slope_below_zero():
    z, labels = torch.randn(2, 8), torch.tensor([0, 1])
    assert not torch.equal(make_generator(leak=0.0)(z, labels), make_generator(leak=0.2)(z, labels))


def test_the_projection_is_not_scaled():
    discriminator = make_discriminator()
    images, labels = torch.randn(2, 1, 28, 28), torch.tensor([0, 1])
    before = discriminator(images, labels)
    with torch.no_grad():
        discriminator.projection.weight[1] += 1  # each feature counts once more, whatever their number
    moved = discriminator(images, labels) - before
    assert moved[0] == 0 and moved[1].abs() > 1e-3


def test_grey_levels_survive_the_way_to_the_gan_and_back():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    floats = images_from_uint8(levels)
    assert floats.min() == -1 and floats.max() == 1
    assert torch.equal(uint8_from_images(floats), levels)


def test_values_between_two_levels_go_to_the_nearest():
    between = torch.tensor([-1 + 0.4 / 127.5, -1 + 0.6 / 127.5, 1.2])
    assert uint8_from_images(between).tolist() == [0, 1, 255]
