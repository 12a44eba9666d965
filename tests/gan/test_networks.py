import pytest
import torch

from pipeline.gan.networks import Discriminator, Generator, images_from_uint8, uint8_from_images


def make_generator(image_size=28):
    torch.manual_seed(0)
    return Generator(z_dim=8, class_embedding_dim=4, channels=8, num_classes=3, image_size=image_size)


def make_discriminator(image_size=28):
    torch.manual_seed(1)
    return Discriminator(channels=4, num_classes=3, image_size=image_size)


@pytest.mark.parametrize("image_size", [8, 12, 28, 32])
def test_shapes_and_ranges_for_every_multiple_of_four(image_size):
    labels = torch.tensor([0, 1, 2, 2, 1])
    images = make_generator(image_size)(10 * torch.randn(5, 8), labels)
    assert images.shape == (5, 1, image_size, image_size)
    assert images.min() >= -1 and images.max() <= 1
    assert make_discriminator(image_size)(images, labels).shape == (5,)


def test_the_label_changes_the_image_and_the_logit():
    generator, discriminator = make_generator(), make_discriminator()
    z = torch.randn(1, 8).repeat(2, 1)
    labels = torch.tensor([0, 1])
    images = generator(z, labels)
    assert not torch.allclose(images[0], images[1])
    same = images[:1].repeat(2, 1, 1, 1)
    logits = discriminator(same, labels)
    assert logits[0] != logits[1]


def test_each_image_is_independent_of_the_others_in_its_batch():
    generator, labels = make_generator(), torch.tensor([0, 1, 2, 0])
    z = torch.randn(4, 8)
    whole = generator(z, labels)
    alone = torch.cat([generator(z[i : i + 1], labels[i : i + 1]) for i in range(4)])
    assert torch.allclose(whole, alone, atol=1e-6)


def test_constructor_arguments_build_the_same_network():
    generator = make_generator()
    twin = Generator(**generator.arguments)
    twin.load_state_dict(generator.state_dict())
    z, labels = torch.randn(2, 8), torch.tensor([0, 2])
    assert torch.equal(generator(z, labels), twin(z, labels))


def test_grey_levels_survive_the_round_trip():
    grey = torch.arange(256, dtype=torch.uint8)
    scaled = images_from_uint8(grey)
    assert scaled.min() == -1 and scaled.max() == 1
    assert torch.equal(uint8_from_images(scaled), grey)
