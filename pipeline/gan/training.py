"""Train the conditional GAN on one set of labelled images."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.augmentation.differentiable import augment, augment_real
from pipeline.errors import SynthGainError
from pipeline.gan.losses import (
    discriminator_loss,
    generator_loss,
    half_squared_gradient,
    interpolation_penalty,
    recognised,
)
from pipeline.gan.monitor import Monitor, film_frame
from pipeline.gan.networks import Discriminator, Generator, images_from_uint8
from pipeline.gan.state import load_state, new_state, save_state
from pipeline.images import LabeledImages, draw_indices
from pipeline.params import Gan
from pipeline.runtime.progress import Advance
from pipeline.runtime.seeds import derive_seed


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


def train_gan(
    real: LabeledImages,
    gan: Gan,
    *,
    seed: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    scratch: Path | None = None,
    what: str,
    advance: Advance,
) -> GanRun:
    """Train a conditional GAN on exactly these images.

    The history has, per interval: step, images_seen, d_loss, g_loss (means over the interval), d_real and d_fake
    (mean logits), d_accuracy (share of pairs in which the real image scores higher; 0.5 = cannot tell),
    d_accuracy_real and d_accuracy_fake (see `recognised`), label_fidelity_1nn and diversity (see `Monitor`),
    learning_rate (the generator's), images_per_second.

    Args:
        real: the training images.
        gan: its section of the parameters.
        seed: of weights, batch order, latents, augmentation, noise and dropout.
        device: where to compute.
        dtype: what convolutions and dense layers compute in (autocast); weights, losses, Adam and the average
            stay float32.
        scratch: a folder of this training's own. Its state is kept there at every interval; a training that
            finds one goes on from it and ends with the same bytes. None: nothing is kept.
        what: a name for messages.
        advance: told about the real images shown, `images_shown` in all.

    Raises:
        SynthGainError: if the training diverges (a loss is not finite) or collapses. What `scratch` holds is
            then the last good state.
    """
    steps = gan.total_images // (gan.batch_size * gan.discriminator_steps)
    images_per_step = gan.batch_size * gan.discriminator_steps
    history_steps = even_steps(steps, gan.history_points)
    frame_steps = even_steps(steps, gan.film_strip_frames - 1)
    state = new_state(real, gan, seed=seed, device=device)
    if scratch is not None:
        load_state(state, scratch)
    generator, discriminator, averaged = state.generator, state.discriminator, state.averaged
    monitor = Monitor(real, gan, seed=seed, device=device)
    cast = partial(torch.autocast, device.type, dtype=dtype, enabled=dtype != torch.float32)
    if not state.film:
        state.film.append(film_frame(averaged, seed=seed, device=device))

    strength = float(gan.real_augmentation) if len(real) <= gan.real_augmentation_up_to else 0.0
    balance = real.labels if gan.class_sampling == "balanced" else None
    # Of 55 000 images, an order costs 2 % of the step that would draw it anew. Pass 0 is asked for its length.
    order = lru_cache(maxsize=3)(partial(order_of_pass, size=len(real), seed=seed, balance=balance))
    # The whole set lives on the device as uint8: no loader, no copies.
    all_images = torch.from_numpy(real.images).to(device)
    all_labels = torch.from_numpy(real.labels).to(device)
    # Sums of the running interval stay on the device: reading a value every step would wait for it every step.
    sums = torch.zeros(7, device=device)
    interval_start, interval_steps = time.monotonic(), 0

    advance(state.step * images_per_step)
    for step in range(state.step + 1, steps + 1):
        factor = learning_rate_factor(step, steps, gan)
        state.g_optimizer.param_groups[0]["lr"] = gan.generator_learning_rate * factor
        state.d_optimizer.param_groups[0]["lr"] = gan.discriminator_learning_rate * factor
        noise = gan.instance_noise * (1 - step / steps)

        # Discriminator: the real image of a pair up, the fake one of the same class down.
        for turn in range(gan.discriminator_steps):
            draw = (step - 1) * gan.discriminator_steps + turn
            index = batch_indices(order, gan.batch_size, draw).to(device)
            labels = all_labels[index]
            z = torch.randn(gan.batch_size, gan.z_dim, generator=state.z_rng, device=device)
            # One generator pass serves the last of these turns and the generator's own step.
            with cast(), torch.set_grad_enabled(turn == gan.discriminator_steps - 1):
                fake_images = generator(z, labels)
            real_images = augment_real(images_from_uint8(all_images[index]), strength, state.augment_rng)
            real_seen = augment(real_images, gan, noise, state.augment_rng)
            fake_seen = augment(fake_images, gan, noise, state.augment_rng)
            penalised = gan.penalty != "none" and (draw + 1) % gan.penalty_interval == 0
            both = torch.cat([real_seen, fake_seen.detach()]).requires_grad_(penalised)
            with cast():
                logits = discriminator(both, labels.repeat(2))
            real_logits, fake_logits = logits.chunk(2)
            d_loss = discriminator_loss(
                gan.loss, real=real_logits, fake=fake_logits, label_smoothing=gan.label_smoothing
            )
            d_total = d_loss
            if penalised:  # lazy: every k-th turn with k times the weight (arXiv:1912.04958)
                with cast():
                    penalty = gradient_penalty(gan, discriminator, logits, both, labels)
                d_total = d_loss + gan.penalty_weight * gan.penalty_interval * penalty
            state.d_optimizer.zero_grad()
            d_total.backward()  # type: ignore[no-untyped-call]
            state.d_optimizer.step()

        # Generator: fool the discriminator that was just updated, with the same fakes.
        discriminator.requires_grad_(False)
        with cast():
            new_real_logits = real_logits.detach()
            if gan.loss == "relativistic":
                with torch.no_grad():
                    new_real_logits = discriminator(real_seen, labels)
        with cast():  # a context of its own: autocast would hand on the weights it cast without gradients
            new_fake_logits = discriminator(fake_seen, labels)
        g_loss = generator_loss(gan.loss, real=new_real_logits, fake=new_fake_logits)
        state.g_optimizer.zero_grad()
        g_loss.backward()  # type: ignore[no-untyped-call]
        state.g_optimizer.step()
        discriminator.requires_grad_(True)

        update_average(averaged, generator, decay=min(gan.ema_decay, (1 + step) / (10 + step)))

        with torch.no_grad():
            right = recognised(gan.loss, real=real_logits, fake=fake_logits)
            pairs = (real_logits > fake_logits).float().mean()
            sums += torch.stack([d_loss, g_loss, real_logits.mean(), fake_logits.mean(), pairs, *right])
        interval_steps += 1
        state.step = step
        if step in frame_steps:
            state.film.append(film_frame(averaged, seed=seed, device=device))
        if step in history_steps:
            means = (sums / interval_steps).tolist()
            if not all(map(math.isfinite, means)):
                raise SynthGainError(_diverged(what, step, means, gan, scratch))
            names = (
                "d_loss",
                "g_loss",
                "d_real",
                "d_fake",
                "d_accuracy",
                "d_accuracy_real",
                "d_accuracy_fake",
            )
            row = {
                "step": step,
                "images_seen": step * images_per_step,
                **dict(zip(names, means, strict=True)),
            }
            row |= monitor.look(averaged)
            row["learning_rate"] = gan.generator_learning_rate * factor
            row["images_per_second"] = interval_steps * images_per_step / (time.monotonic() - interval_start)
            state.history.append(row)
            monitor.refuse_collapse(state.history, what=what, kept=scratch)
            if scratch is not None:
                save_state(state, scratch)
            sums.zero_()
            interval_start, interval_steps = time.monotonic(), 0
        last = state.history[-1] if state.history else None
        advance(images_per_step, f"D {last['d_loss']:.2f}  G {last['g_loss']:.2f}" if last else "")
    on_cpu = averaged.to("cpu").to(memory_format=torch.contiguous_format)
    return GanRun(on_cpu, state.history, np.stack(state.film))


def gradient_penalty(
    gan: Gan, discriminator: Discriminator, logits: Tensor, both: Tensor, labels: Tensor
) -> Tensor:
    """The penalty that the parameters ask for; `both` is real then fake (2N, 1, H, W), with their `logits`."""
    real, fake = both.chunk(2)
    if gan.penalty == "gradient_penalty":
        return interpolation_penalty(
            lambda images: discriminator(images, labels), real=real.detach(), fake=fake.detach()
        )
    # The mean runs over both halves, also where only one has a gradient: twice it is R1, or R1 + R2.
    return 2 * half_squared_gradient(logits.chunk(2)[0] if gan.penalty == "r1" else logits, both)


def images_shown(gan: Gan) -> int:
    """How many real images a training shows its discriminator: `total_images`, but whole steps."""
    images_per_step = gan.batch_size * gan.discriminator_steps
    return gan.total_images // images_per_step * images_per_step


@torch.no_grad()
def update_average(averaged: torch.nn.Module, generator: torch.nn.Module, *, decay: float) -> None:
    """Averaged ← decay · averaged + (1 − decay) · generator, in place; running statistics are copied."""
    torch._foreach_lerp_(list(averaged.parameters()), list(generator.parameters()), 1 - decay)
    for target, source in zip(averaged.buffers(), generator.buffers(), strict=True):
        target.copy_(source)


def learning_rate_factor(step: int, steps: int, gan: Gan) -> float:
    """What the learning rates are multiplied with at a step of 1..steps, in 0..1.

    A linear warm-up over `warmup_steps`, times: 1 (constant); half a cosine from 1 down to the final fraction
    (cosine); `cycles` triangles from the final fraction up to 1 and back (cyclic; Smith 2017, arXiv:1506.01186).
    """
    warmup = min(1.0, step / max(gan.warmup_steps, 1))
    if gan.schedule == "constant":
        return warmup
    if gan.schedule == "cosine":
        height = (1 + math.cos(math.pi * step / steps)) / 2
    else:
        height = 1 - abs(2 * (step * gan.cycles / steps % 1) - 1)
    floor = gan.final_learning_rate_fraction
    return warmup * (floor + (1 - floor) * height)


def batch_indices(order: Callable[[int], npt.NDArray[np.int64]], batch_size: int, draw: int) -> Tensor:
    """The positions (batch_size,) int64 of batch `draw`: the passes of `order`, joined without a gap.

    Depends on its arguments alone, so that a training can go on from any step.
    """
    length = len(order(0))
    positions = np.arange(draw * batch_size, (draw + 1) * batch_size)
    passes = range(positions[0] // length, positions[-1] // length + 1)
    return torch.from_numpy(np.concatenate([order(one) for one in passes])[positions - passes[0] * length])


def order_of_pass(
    one: int, *, size: int, seed: int, balance: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.int64]:
    """The positions of pass `one` over `size` images: every image once, in an order of its own.

    With the labels (size,) int64 to `balance`, each class is shown as often as the largest one, its images round
    and round in a new order. Every pass has the same length.
    """
    rng = np.random.default_rng(derive_seed(seed, "batches", one))
    if balance is None:
        return rng.permutation(size)
    per_class = np.bincount(balance)
    counts = np.where(per_class > 0, per_class.max(), 0)
    return rng.permutation(draw_indices(balance, counts, rng))


def even_steps(steps: int, points: int) -> set[int]:
    """At most `points` steps of 1..steps at even distances, the last among them."""
    return {math.ceil(steps * (point + 1) / points) for point in range(points)}


def _diverged(what: str, step: int, means: list[float], gan: Gan, scratch: Path | None) -> str:
    kept = f"; the last good state is kept in {scratch}" if scratch is not None and scratch.exists() else ""
    return (
        f"{what}: the training diverged by step {step} (D loss {means[0]}, G loss {means[1]}); lower"
        f" gan.generator_learning_rate (now {gan.generator_learning_rate}) and"
        f" gan.discriminator_learning_rate (now {gan.discriminator_learning_rate}), or raise"
        f" gan.penalty_weight (now {gan.penalty_weight}){kept}"
    )
