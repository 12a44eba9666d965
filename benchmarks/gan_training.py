"""GAN training, images per second, against the standard conditional DCGAN, in turns in the same run.

The reference is what most tutorials train: generator and discriminator of about 2 million parameters each (width 128),
non-saturating loss, label maps concatenated, a generator pass of its own for each of the two steps, PyTorch's default
memory layout and Adam, float32.

python benchmarks/gan_training.py [--steps 40]
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from pipeline.gan.networks import images_from_uint8
from pipeline.gan.training import train_gan
from pipeline.images import LabeledImages
from pipeline.params import load_params
from pipeline.runtime import configure, training_dtype

WIDTH, CLASSES, Z_DIM = 128, 10, 100
_TURNS = 3


class ReferenceGenerator(nn.Module):
    """(z, label) to image: label one-hot beside z, 7 × 7 × 2·WIDTH, two transposed convolutions, batch norm."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(Z_DIM + CLASSES, 2 * WIDTH * 49)
        self.body = nn.Sequential(
            nn.BatchNorm2d(2 * WIDTH),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * WIDTH, WIDTH, 4, 2, 1),
            nn.BatchNorm2d(WIDTH),
            nn.ReLU(),
            nn.ConvTranspose2d(WIDTH, 1, 4, 2, 1),
            nn.Tanh(),
        )

    def forward(self, z, labels):
        x = self.first(torch.cat([z, F.one_hot(labels, CLASSES).float()], 1))
        return self.body(x.view(-1, 2 * WIDTH, 7, 7))


class ReferenceDiscriminator(nn.Module):
    """(image, label) to logit: label maps beside the image, three convolutions of stride 2."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1 + CLASSES, WIDTH, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(WIDTH, 2 * WIDTH, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * WIDTH, 4 * WIDTH, 3, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(4 * WIDTH * 16, 1),
        )

    def forward(self, images, labels):
        maps = F.one_hot(labels, CLASSES).float()[:, :, None, None].expand(-1, -1, *images.shape[2:])
        return self.body(torch.cat([images, maps], 1)).squeeze(1)


def reference_steps(images, labels, *, steps, batch_size, networks):
    """Train the reference for some steps."""
    generator, discriminator, g_optimizer, d_optimizer = networks
    for _ in range(steps):
        index = torch.randint(len(images), (batch_size,))
        real, classes = images_from_uint8(images[index]), labels[index]
        fake = generator(torch.randn(batch_size, Z_DIM), classes).detach()
        d_loss = F.softplus(-discriminator(real, classes)).mean()
        d_loss = d_loss + F.softplus(discriminator(fake, classes)).mean()
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()
        g_loss = F.softplus(
            -discriminator(generator(torch.randn(batch_size, Z_DIM), classes), classes)
        ).mean()
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()


def main(steps):
    """Print both rates and their ratio."""
    params = load_params(Path(__file__).parents[1] / "params.yaml")
    device = configure(params.execution)
    torch.use_deterministic_algorithms(False)  # for the reference: it promises nothing
    dtype = training_dtype(params.execution, device)
    rng = np.random.default_rng(0)  # the time of a step does not depend on what the images show
    real = LabeledImages(
        rng.integers(0, 256, (2000, 1, 28, 28), dtype=np.uint8),
        np.arange(2000, dtype=np.int64) % CLASSES,
        tuple("0123456789"),
    )
    batch_size = params.gan.batch_size
    changes = {"total_images": steps * batch_size, "history_points": 1, "film_strip_frames": 2}
    ours = params.gan.model_copy(update={**changes, "collapse_patience": 0})
    generator, discriminator = ReferenceGenerator(), ReferenceDiscriminator()
    optimizers = [
        torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999))
        for network in (generator, discriminator)
    ]
    images, labels = torch.from_numpy(real.images), torch.from_numpy(real.labels)
    networks = (generator, discriminator, *optimizers)

    def timed(work):
        start = time.perf_counter()
        work()
        return steps * batch_size / (time.perf_counter() - start)

    def train_ours():
        train_gan(real, ours, seed=0, device=device, dtype=dtype, what="ours")

    def train_reference():
        reference_steps(images, labels, steps=steps, batch_size=batch_size, networks=networks)

    for work in (train_ours, train_reference):
        work()  # warm-up
    rates = [(timed(train_ours), timed(train_reference)) for _ in range(_TURNS)]
    our_rate, reference_rate = np.median(rates, axis=0)
    sizes = [sum(p.numel() for p in network.parameters()) / 1e6 for network in networks[:2]]
    print(f"reference (G {sizes[0]:.1f} M, D {sizes[1]:.1f} M): {reference_rate:,.0f} images/s")
    print(f"ours ({str(dtype).removeprefix('torch.')}): {our_rate:,.0f} images/s")
    print(f"ratio: {np.median([a / b for a, b in rates]):.1f} (wanted: 10)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    main(parser.parse_args().steps)
