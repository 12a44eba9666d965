"""Train the conditional GAN on one set of labelled images."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.errors import SynthGainError
from pipeline.gan.augment import apply_affine, sample_affine
from pipeline.gan.losses import discriminator_loss, generator_loss, gradient_penalty
from pipeline.gan.networks import Discriminator, Generator, images_from_uint8, uint8_from_images
from pipeline.gan.sampling import sample_z
from pipeline.images import LabeledImages
from pipeline.params import Gan
from pipeline.progress import progress
from pipeline.runtime import derive_seed, torch_generator

# Images per class of the film strip, and of the label-fidelity estimate in the history.
FILM_STRIP_IMAGES_PER_CLASS = 2
_FIDELITY_IMAGES_PER_CLASS = 20
_FIDELITY_REAL_IMAGES = 2000


@dataclass(frozen=True)
class GanRun:
    """What a training leaves behind.

    Attributes:
        generator: the exponential moving average of the weights, on the CPU.
        history: one dict per interval, in order of training; see `train_gan`.
        film_strip: (frames, rows, 1, H, W) uint8, the same latents at even distances of training, from the
            first step to the last; rows are FILM_STRIP_IMAGES_PER_CLASS per class, class by class.
    """

    generator: Generator
    history: list[dict[str, float]]
    film_strip: npt.NDArray[np.uint8]


def train_gan(real: LabeledImages, gan: Gan, *, seed: int, device: torch.device, what: str) -> GanRun:
    """Train a conditional GAN on exactly these images.

    The history has, per interval: step, images_seen, d_loss, g_loss (means over the interval), d_real and d_fake
    (mean logits), d_accuracy (share of pairs in which the real image scores higher; 0.5 = cannot tell),
    label_fidelity_1nn (share of averaged-generator samples whose nearest real training image, in pixel space,
    has the requested label; a quick look, biased by what 1-nearest-neighbour gets wrong), learning_rate,
    images_per_second.

    Args:
        real: the training images.
        gan: its section of the parameters.
        seed: of weights, batch order, latents and augmentation.
        device: where to compute.
        what: a name for the progress display.

    Raises:
        SynthGainError: if the training diverges (a loss is not finite).
    """
    torch.manual_seed(derive_seed(seed, "weights"))
    image_size = real.images.shape[-1]
    generator = Generator(
        z_dim=gan.z_dim,
        class_embedding_dim=gan.class_embedding_dim,
        channels=gan.generator_channels,
        num_classes=real.num_classes,
        image_size=image_size,
    )
    discriminator = Discriminator(
        channels=gan.discriminator_channels, num_classes=real.num_classes, image_size=image_size
    )
    # channels_last: the layout that the CPU's and the GPU's convolutions compute in.
    generator = generator.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    discriminator = discriminator.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged = copy.deepcopy(generator).eval().requires_grad_(False)
    g_optimizer, d_optimizer = (
        torch.optim.Adam(network.parameters(), lr=gan.learning_rate, betas=(gan.beta1, gan.beta2), fused=True)
        for network in (generator, discriminator)
    )

    # The whole set lives on the device as uint8: no loader, no copies.
    all_images = torch.from_numpy(real.images).to(device)
    all_labels = torch.from_numpy(real.labels).to(device)
    z_rng = torch_generator(derive_seed(seed, "z"), device)
    augment_rng = torch_generator(derive_seed(seed, "augment"), device)
    batches = _batches(len(real), gan.batch_size, np.random.default_rng(derive_seed(seed, "batches")))

    steps = gan.total_images // gan.batch_size
    history_steps = _even_steps(steps, gan.history_points)
    frame_steps = _even_steps(steps, gan.film_strip_frames - 1)
    film = [_film_frame(averaged, seed=seed, device=device)]
    history: list[dict[str, float]] = []
    # Sums of the running interval stay on the device: reading a value every step would wait for it every step.
    sums = torch.zeros(5, device=device)
    interval_start, interval_steps = time.monotonic(), 0

    with progress(what, total=steps * gan.batch_size, unit="images") as advance:
        for step in range(1, steps + 1):
            learning_rate = _learning_rate(step, steps, gan)
            for optimizer in (g_optimizer, d_optimizer):
                optimizer.param_groups[0]["lr"] = learning_rate
            index = next(batches).to(device)
            labels = all_labels[index]
            real_images = images_from_uint8(all_images[index])
            z = torch.randn(gan.batch_size, gan.z_dim, generator=z_rng, device=device)

            # Discriminator: the real image of a pair up, the fake one of the same class down. One generator
            # pass serves both steps: the discriminator sees it detached.
            fake_images = generator(z, labels)
            maps = sample_affine(
                2 * gan.batch_size,
                probability=gan.augment_probability,
                translation=gan.augment_translation,
                rotation_degrees=gan.augment_rotation_degrees,
                scale=gan.augment_scale,
                generator=augment_rng,
            )
            real_maps, fake_maps = maps.chunk(2)
            real_augmented = apply_affine(real_images, real_maps)
            fake_augmented = apply_affine(fake_images, fake_maps)
            both = torch.cat([real_augmented, fake_augmented.detach()])
            penalised = gan.penalty_gamma > 0 and step % gan.penalty_interval == 0
            real_logits, fake_logits = (
                logits := discriminator(both.requires_grad_(penalised), labels.repeat(2))
            ).chunk(2)
            d_loss = discriminator_loss(real=real_logits, fake=fake_logits)
            d_total = d_loss
            if penalised:
                # The mean over both halves is (R1 + R2) / 2; lazy: every k-th step with k times the weight.
                d_total = d_loss + 2 * gan.penalty_gamma * gan.penalty_interval * gradient_penalty(
                    logits, both
                )
            d_optimizer.zero_grad()
            d_total.backward()  # type: ignore[no-untyped-call]
            d_optimizer.step()

            # Generator: fool the discriminator that was just updated, with the same fakes.
            discriminator.requires_grad_(False)
            with torch.no_grad():
                real_again = discriminator(real_augmented, labels)
            g_loss = generator_loss(real=real_again, fake=discriminator(fake_augmented, labels))
            g_optimizer.zero_grad()
            g_loss.backward()  # type: ignore[no-untyped-call]
            g_optimizer.step()
            discriminator.requires_grad_(True)

            update_average(averaged, generator, decay=min(gan.ema_decay, (1 + step) / (10 + step)))

            with torch.no_grad():
                sums += torch.stack(
                    [
                        d_loss,
                        g_loss,
                        real_logits.mean(),
                        fake_logits.mean(),
                        (real_logits > fake_logits).float().mean(),
                    ]
                )
            interval_steps += 1
            if step in history_steps:
                d_mean, g_mean, d_real, d_fake, d_accuracy = (sums / interval_steps).tolist()
                if not math.isfinite(d_mean + g_mean):
                    raise SynthGainError(
                        f"{what}: the training diverged by step {step} (D loss {d_mean}, G loss {g_mean});"
                        f" lower gan.learning_rate (now {gan.learning_rate}) or raise gan.penalty_gamma"
                        f" (now {gan.penalty_gamma})"
                    )
                elapsed = time.monotonic() - interval_start
                history.append(
                    {
                        "step": step,
                        "images_seen": step * gan.batch_size,
                        "d_loss": d_mean,
                        "g_loss": g_mean,
                        "d_real": d_real,
                        "d_fake": d_fake,
                        "d_accuracy": d_accuracy,
                        "label_fidelity_1nn": _label_fidelity_1nn(averaged, real, seed=seed, device=device),
                        "learning_rate": learning_rate,
                        "images_per_second": interval_steps * gan.batch_size / elapsed,
                    }
                )
                sums.zero_()
                interval_start, interval_steps = time.monotonic(), 0
            if step in frame_steps:
                film.append(_film_frame(averaged, seed=seed, device=device))
            note = f"D {history[-1]['d_loss']:.2f}  G {history[-1]['g_loss']:.2f}" if history else ""
            advance(gan.batch_size, note)
    return GanRun(averaged.to("cpu", memory_format=torch.contiguous_format), history, np.stack(film))


@torch.no_grad()
def update_average(averaged: Generator, generator: Generator, *, decay: float) -> None:
    """Averaged ← decay · averaged + (1 − decay) · generator, in place."""
    torch._foreach_lerp_(list(averaged.parameters()), list(generator.parameters()), 1 - decay)


def _learning_rate(step: int, steps: int, gan: Gan) -> float:
    """Linear warm-up over warmup_steps, then half a cosine down to the final fraction; `step` counts from 1."""
    warmup = min(1.0, step / max(gan.warmup_steps, 1))
    cosine = (1 + math.cos(math.pi * step / steps)) / 2
    floor = gan.final_learning_rate_fraction
    return gan.learning_rate * warmup * (floor + (1 - floor) * cosine)


def _batches(size: int, batch_size: int, rng: np.random.Generator) -> Iterator[Tensor]:
    """Endless batches of positions: every image once per pass, passes joined without a gap."""
    waiting = np.empty(0, dtype=np.int64)
    while True:
        while len(waiting) < batch_size:
            waiting = np.concatenate([waiting, rng.permutation(size)])
        yield torch.from_numpy(waiting[:batch_size])
        waiting = waiting[batch_size:]


def _even_steps(steps: int, points: int) -> set[int]:
    """At most `points` steps of 1..steps at even distances, the last among them."""
    return {math.ceil(steps * (point + 1) / points) for point in range(points)}


@torch.no_grad()
def _sample_each_class(
    generator: Generator, *, per_class: int, seed: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Images (num_classes · per_class, 1, H, W) in −1..1 from fixed latents, and their labels."""
    z = np.concatenate(
        [sample_z(seed, label, 0, per_class, generator.z_dim) for label in range(generator.num_classes)]
    )
    labels = torch.arange(generator.num_classes, device=device).repeat_interleave(per_class)
    return generator(torch.from_numpy(z).to(device), labels), labels


def _film_frame(generator: Generator, *, seed: int, device: torch.device) -> npt.NDArray[np.uint8]:
    images, _ = _sample_each_class(
        generator, per_class=FILM_STRIP_IMAGES_PER_CLASS, seed=derive_seed(seed, "film"), device=device
    )
    return uint8_from_images(images).cpu().numpy()


def _label_fidelity_1nn(
    generator: Generator, real: LabeledImages, *, seed: int, device: torch.device
) -> float:
    images, labels = _sample_each_class(
        generator, per_class=_FIDELITY_IMAGES_PER_CLASS, seed=derive_seed(seed, "fidelity"), device=device
    )
    # Subsets are sorted by position and stratified draws are spread over the file: the first images are as
    # good a reference as any.
    reference = images_from_uint8(torch.from_numpy(real.images[:_FIDELITY_REAL_IMAGES])).to(device)
    nearest = torch.cdist(images.flatten(1), reference.flatten(1)).argmin(dim=1)
    reference_labels = torch.from_numpy(real.labels[:_FIDELITY_REAL_IMAGES]).to(device)
    return float((reference_labels[nearest] == labels).float().mean())
