"""GAN training, images per second, against the standard conditional DCGAN and against the machine's own limit.

By size and channels: MNIST's 28 × 28 grey, 32 × 32 and 64 × 64 in colour; ours has the layers of `auto`.

The reference is what most tutorials train: width 128 at half the side, twice the width at half of that and so on (2 to
13 million parameters a network; at 64 pixels the DCGAN of Radford et al. 2016), non-saturating loss, label maps
concatenated, a generator pass of its own for each of the two steps, PyTorch's default memory layout and Adam, float32.
It has a process of its own, without the switches that `pipeline.runtime` sets in ours (in ours it would be a sixth
faster, by the memory that the C library then keeps). The limit is the rate at which this machine multiplies large
square matrices of that type, divided by the operations of our step. All are taken in turns. On a GPU ours is also
compared with itself: each kernel started by Python, in place of steps that are replayed as CUDA graphs.

python benchmarks/gan_training.py [--steps 100] [--size 28 --size 32 --size 64]
"""

import argparse
import math
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import pairwise
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from result import Result, show
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from pipeline.gan.networks import images_from_uint8
from pipeline.gan.training import train_gan
from pipeline.images import LabeledImages
from pipeline.params import load_params
from pipeline.runtime import cuda_graphs
from pipeline.runtime.device import configure, training_dtype

WIDTH, CLASSES, Z_DIM = 128, 10, 100
_TURNS = 3
# Side → channels, the ratio to the reference that is wanted, and that to the machine's matrix product.
_SIZES = {28: (1, "10", "0.6"), 32: (3, "6", "0.45"), 64: (3, "6", "0.45")}


class ReferenceGenerator(nn.Module):
    """(z, label) to image: label one-hot beside z, a grid, transposed convolutions to the side, batch norm."""

    def __init__(self, side, channels):
        super().__init__()
        self.grid, widths = side, [channels]
        while self.grid % 2 == 0 and self.grid >= 8:
            self.grid //= 2
            widths.insert(0, WIDTH if len(widths) == 1 else 2 * widths[0])
        self.width = widths[0]
        self.first = nn.Linear(Z_DIM + CLASSES, self.width * self.grid**2)
        layers = []
        for before, after in pairwise(widths):
            layers += [nn.BatchNorm2d(before), nn.ReLU(), nn.ConvTranspose2d(before, after, 4, 2, 1)]
        self.body = nn.Sequential(*layers, nn.Tanh())

    def forward(self, z, labels):
        x = self.first(torch.cat([z, F.one_hot(labels, CLASSES).float()], 1))
        return self.body(x.view(-1, self.width, self.grid, self.grid))


class ReferenceDiscriminator(nn.Module):
    """(image, label) to logit: label maps beside the image, convolutions of stride 2 until a grid of 4 is left."""

    def __init__(self, side, channels):
        super().__init__()
        layers, before, after = [], channels + CLASSES, WIDTH
        while side > 4:
            layers += [nn.Conv2d(before, after, 3 if side % 2 else 4, 2, 1), nn.LeakyReLU(0.2)]
            side, before, after = -(-side // 2), after, 2 * after
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * side**2, 1))

    def forward(self, images, labels):
        maps = F.one_hot(labels, CLASSES).float()[:, :, None, None].expand(-1, -1, *images.shape[2:])
        return self.body(torch.cat([images, maps], 1)).squeeze(1)


def reference_networks(side, channels, device="cpu"):
    """Generator, discriminator, and an Adam for each."""
    networks = (
        ReferenceGenerator(side, channels).to(device),
        ReferenceDiscriminator(side, channels).to(device),
    )
    return *networks, *(torch.optim.Adam(each.parameters(), lr=2e-4, betas=(0.5, 0.999)) for each in networks)


def reference_steps(images, labels, *, steps, batch_size, networks):
    """Train the reference for some steps; not deterministically: it promises nothing, and is faster so."""
    generator, discriminator, g_optimizer, d_optimizer = networks
    ours = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    for _ in range(steps):
        index = torch.randint(len(images), (batch_size,), device=images.device)
        real, classes = images_from_uint8(images[index]), labels[index]
        fake = generator(torch.randn(batch_size, Z_DIM, device=images.device), classes).detach()
        d_loss = F.softplus(-discriminator(real, classes)).mean()
        d_loss = d_loss + F.softplus(discriminator(fake, classes)).mean()
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()
        fake = generator(torch.randn(batch_size, Z_DIM, device=images.device), classes)
        g_loss = F.softplus(-discriminator(fake, classes)).mean()
        g_optimizer.zero_grad()
        g_loss.backward()
        g_optimizer.step()
    torch.use_deterministic_algorithms(ours)


@cache
def _reference(side, channels, device):
    """The reference in training, once in a process."""
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2000, channels, side, side), generator=rng, dtype=torch.uint8)
    labels = torch.arange(len(images)) % CLASSES
    return images.to(device), labels.to(device), reference_networks(side, channels, device)


def _wait(device):
    """Until a GPU has computed what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def reference_rate(side, channels, steps, batch_size, threads, device):
    """Images per second of the next steps of this process's reference."""
    torch.set_num_threads(threads)
    images, labels, networks = _reference(side, channels, device)
    start = time.perf_counter()
    reference_steps(images, labels, steps=steps, batch_size=batch_size, networks=networks)
    _wait(device)
    return steps * batch_size / (time.perf_counter() - start)


class OperationCount(TorchDispatchMode):
    """Floating-point operations of the convolutions and matrix products in its block, two per multiply-add.

    PyTorch's own counter adds hooks that a double backward does not survive.
    """

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if count := flop_registry.get(func._overloadpacket):
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


def operations_per_image(train):
    """Of our training step, by the difference of two trainings: the measurements of the generator cancel."""
    counts = []
    for steps in (8, 16):
        with OperationCount() as counted:
            train(steps)
        counts.append(counted.total)
    return (counts[1] - counts[0]) / 8


def matrix_rate(dtype, device, size=2048, times=8):
    """Operations per second in the product of two square matrices."""
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    _wait(device)
    start = time.perf_counter()
    for _ in range(times):
        left @ right
    _wait(device)
    return times * 2 * size**3 / (time.perf_counter() - start)


def measure(steps=100, sizes=tuple(_SIZES)):
    """The results of each size; of a larger one, fewer steps."""
    return [result for side in sizes for result in measure_size(max(4, steps * 28**2 // side**2), side)]


def measure_size(steps, side):
    """Train both and multiply matrices, in turns."""
    channels, wanted, wanted_of_limit = _SIZES[side]
    params = load_params(Path(__file__).parents[1] / "params.yaml")
    device = configure(params.execution)
    dtype = training_dtype(params.execution, device)
    rng = np.random.default_rng(0)  # the time of a step does not depend on what the images show
    real = LabeledImages(
        rng.integers(0, 256, (2000, channels, side, side), dtype=np.uint8),
        np.arange(2000, dtype=np.int64) % CLASSES,
        tuple("0123456789"),
    )
    batch_size = params.gan.batch_size

    def train_ours(count):
        changes = {"total_images": count * batch_size, "history_points": 1, "film_strip_frames": 2}
        gan = params.gan.model_copy(update={**changes, "collapse_patience_images": 0})
        train_gan(
            real, gan, seed=0, device=device, dtype=dtype, label="ours", advance=lambda units, note="": None
        )

    def our_rate():
        """By the difference of two trainings on a GPU: neither the first steps nor the recording is in it."""
        start = time.perf_counter()
        train_ours(steps)
        middle = time.perf_counter()
        if device.type == "cpu":
            return steps * batch_size / (middle - start)
        train_ours(2 * steps)
        return steps * batch_size / (time.perf_counter() - middle - (middle - start))

    def our_eager_rate():
        """Ours, each kernel started by Python."""
        with mock.patch.object(cuda_graphs, "_WARM_UP", sys.maxsize):
            return our_rate()

    with mock.patch.object(cuda_graphs, "_WARM_UP", sys.maxsize):
        operations = operations_per_image(train_ours) / batch_size
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as other:

        def their_rate(count):
            job = (reference_rate, side, channels, count, batch_size, torch.get_num_threads(), device)
            return other.submit(*job).result()

        their_rate(4)
        matrix_rate(dtype, device)  # warm-up
        rates = np.array(
            [
                (
                    our_rate(),
                    their_rate(steps),
                    matrix_rate(dtype, device) / operations,
                    our_eager_rate() if device.type == "cuda" else math.nan,
                )
                for _ in range(_TURNS)
            ]
        )
    ours, theirs, limit, eager = np.median(rates, axis=0)
    sizes = [
        sum(p.numel() for p in network.parameters()) / 1e6
        for network in reference_networks(side, channels)[:2]
    ]
    name = str(dtype).removeprefix("torch.")
    replayed = Result(
        what=f"GAN training, {side} × {side} × {channels}, replayed as CUDA graphs",
        ours=ours,
        reference=eager,
        unit="images/s",
        ratio=float(np.median(rates[:, 0] / rates[:, 3])),
        wanted="2",
        against="the same, each kernel started by Python",
    )
    return [
        *([replayed] if device.type == "cuda" else []),
        Result(
            what=f"GAN training, {side} × {side} × {channels}, batch {batch_size}, {name}",
            ours=ours,
            reference=theirs,
            unit="images/s",
            ratio=float(np.median(rates[:, 0] / rates[:, 1])),
            wanted=wanted,
            against=f"standard conditional DCGAN (G {sizes[0]:.1f} M, D {sizes[1]:.1f} M), float32",
        ),
        Result(
            what=f"the same, {operations / 1e6:.0f} M operations per image",
            ours=ours,
            reference=limit,
            unit="images/s",
            ratio=float(np.median(rates[:, 0] / rates[:, 2])),
            wanted=wanted_of_limit,
            against=f"the machine's {name} matrix product, {limit * operations / 1e9:,.0f} G operations/s",
        ),
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--size", type=int, action="append", choices=_SIZES)
    arguments = parser.parse_args()
    for size in arguments.size or _SIZES:  # each is shown when it is done: all take 22 minutes
        show(measure(arguments.steps, (size,)))
