"""Train the conditional GAN on one set of labelled images.

`train_gan` is the loop; below it are its steps in the order in which the loop takes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.augmentation.differentiable import Differentiable, augment, augment_real
from pipeline.augmentation.geometry import DIGITS, ImageFacts
from pipeline.gan.batches import RealBatches
from pipeline.gan.history import Interval
from pipeline.gan.losses import (
    discriminator_loss,
    generator_loss,
    half_squared_gradient,
    interpolation_penalty,
)
from pipeline.gan.monitor import Monitor, film_frame, refuse_collapse, refuse_divergence
from pipeline.gan.networks import Discriminator, Generator
from pipeline.gan.options import PaperGan, all_options, plateau_step
from pipeline.gan.state import TrainingState, resumed_state, save_state
from pipeline.images import LabeledImages
from pipeline.params import Gan
from pipeline.runtime.cuda_graphs import CudaGraphs
from pipeline.runtime.progress import Advance

# Convolutions and dense layers in its block compute in the training's dtype.
Autocast = Callable[[], AbstractContextManager[object]]
# A number, or on a GPU a tensor () of it, whose value a recorded step reads when it is replayed.
Scalar = float | Tensor
Step = Callable[..., object]


@dataclass(frozen=True)
class GanRun:
    """What a training leaves behind.

    Attributes:
        generator: the exponential moving average of the weights, on the CPU.
        history: one dict per evaluation point, in order of training; see `train_gan`.
        film_strip: (frames, rows, C, H, W) uint8, the same latents at even distances of training, from the
            first step to the last; rows are FILM_STRIP_IMAGES_PER_CLASS per class, class by class.
    """

    generator: Generator
    history: list[dict[str, float]]
    film_strip: npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Pairs:
    """A batch as the discriminator sees it: the i-th real and the i-th fake image are of the class labels[i].

    Attributes:
        real: (N, C, H, W) float32, about −1..1: augmented, with instance noise.
        fake: the same of the generator's images; its gradient leads to the generator.
        labels: (N,) int64.
    """

    real: Tensor
    fake: Tensor
    labels: Tensor


def train_gan(
    real: LabeledImages,
    gan: Gan,
    *,
    seed: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    facts: ImageFacts = DIGITS,
    scratch: Path | None = None,
    label: str,
    advance: Advance,
) -> GanRun:
    """Train a conditional GAN on exactly these images.

    The history has, per evaluation point: step, images_seen, d_loss, g_loss (means over the steps since the last
    one), d_real and d_fake (mean logits), d_accuracy (share of pairs in which the real image scores higher; 0.5 =
    cannot tell), d_accuracy_real and d_accuracy_fake (see `recognised`), label_fidelity_1nn and diversity (see
    `Monitor`), learning_rate (the generator's), images_per_second.

    Args:
        real: the training images.
        gan: its section of the parameters.
        seed: of weights, batch order, latents, augmentation, noise and dropout.
        device: where to compute.
        dtype: what convolutions and dense layers compute in (autocast); weights, losses, Adam and the average
            stay float32.
        facts: what is true of the images; augmentation of all kinds keeps to it.
        scratch: a folder of this training's own. Its state is kept there at every evaluation point; a training that
            finds one goes on from it and ends with the same bytes. None: nothing is kept.
        label: a name for messages.
        advance: called with the number of real images shown, `images_shown` in all.

    Raises:
        CollapsedTraining: if the training diverges (a loss is not finite) or collapses. What `scratch` holds is
            then the last good state.
    """
    gan = all_options(gan)
    images_per_step = gan.batch_size * gan.discriminator_steps
    steps = gan.total_images // images_per_step
    evaluation_steps = even_steps(steps, gan.history_points)
    film_steps = even_steps(steps, gan.film_strip_frames - 1)
    state = resumed_state(real, gan, seed=seed, device=device, folder=scratch)
    batches = RealBatches(real, gan, seed=seed, device=device)
    interval = Interval(device)
    one_step: Step = partial(
        training_step,
        state,
        gan,
        batches=batches,
        strength=gan.real_augmentation if len(real) <= gan.real_augmentation_up_to else 0.0,
        differentiable=pair_augmentation(gan, facts),
        autocast=partial(torch.autocast, device.type, dtype=dtype, enabled=dtype != torch.float32),
        interval=interval,
    )
    if device.type == "cuda":
        one_step = CudaGraphs(one_step, device=device, generators=[state.z_rng, state.augment_rng])
    monitor = Monitor(real, has_labels=gan.conditioning != "none", seed=seed, device=device)
    if not state.film:
        state.film.append(film_frame(state.averaged, seed=seed, device=device))

    advance(state.step * images_per_step)
    interval.restart()
    for step in range(state.step + 1, steps + 1):
        turns = range((step - 1) * gan.discriminator_steps, step * gan.discriminator_steps)
        rate = learning_rate_factor(step, steps, gan, state.history)
        noise = gan.instance_noise * (1 - step / steps)
        one_step(
            torch.stack([batches.indices(turn) for turn in turns]),
            rate,
            noise,
            # A shorter average at first, which forgets the initial weights.
            min(gan.ema_decay, (1 + step) / (10 + step)),
            noisy=noise > 0,
            penalised=tuple(
                gan.penalty != "none" and (turn + 1) % gan.penalty_interval == 0 for turn in turns
            ),
        )

        state.step = step
        if step in film_steps:
            state.film.append(film_frame(state.averaged, seed=seed, device=device))
        if step in evaluation_steps:
            row = {"step": step, "images_seen": step * images_per_step, **interval.means()}
            refuse_divergence(row, gan, label=label, kept=scratch)
            row |= monitor.measure(state.averaged)
            row["learning_rate"] = gan.generator_learning_rate * rate
            row["images_per_second"] = interval.steps_per_second() * images_per_step
            state.history.append(row)
            floor = monitor.fidelity_floor
            refuse_collapse(state.history, gan, fidelity_floor=floor, label=label, kept=scratch)
            if scratch is not None:
                save_state(state, scratch)
            interval.restart()
        advance(images_per_step, _last_losses(state))

    on_cpu = state.averaged.to("cpu").to(memory_format=torch.contiguous_format)
    return GanRun(on_cpu, state.history, np.stack(state.film))


def training_step(
    state: TrainingState,
    gan: PaperGan,
    index: Tensor,
    rate: Scalar,
    noise: Scalar,
    decay: Scalar,
    *,
    noisy: bool,
    penalised: tuple[bool, ...],
    batches: RealBatches,
    strength: float,
    differentiable: Differentiable,
    autocast: Autocast,
    interval: Interval,
) -> None:
    """Update both players once, the discriminator in several turns, and the average; add to the interval's sums.

    It reads no value from the device, so that a GPU can replay it (`CudaGraphs`).

    Args:
        state: the training; its count of steps is left as it is.
        gan: its options.
        index: (turns, batch_size) int64, the positions of the real images of each turn.
        rate: what both learning rates are multiplied with.
        noise: standard deviation of the instance noise.
        decay: of the moving average.
        noisy: whether there is instance noise.
        penalised: of each turn, whether the gradient penalty is added.
        batches: the real images.
        strength: of the augmentation of real images alone.
        differentiable: of real and fake images alike.
        autocast: what convolutions and dense layers compute in.
        interval: of the history.
    """
    set_learning_rates(state, gan, factor=rate)
    shown = partial(augment, how=differentiable, noise=noise if noisy else 0.0, generator=state.augment_rng)
    last = len(index) - 1

    # Discriminator: the real image of a pair up, the fake one of the same class down.
    for turn, positions in enumerate(index):
        real_images, labels = batches.at(positions)
        real_images = augment_real(real_images, strength, state.augment_rng, differentiable.facts)
        # One pass of the generator serves the last of these turns and, as a rule, the generator's own step.
        with torch.set_grad_enabled(turn == last and not gan.fresh_fakes):
            fake_images = draw_fakes(state, labels, autocast)
        pairs = Pairs(real=shown(real_images), fake=shown(fake_images), labels=labels)
        d_loss, real_logits, fake_logits = discriminator_step(state, gan, pairs, penalised[turn], autocast)

    # Generator: fool the discriminator that was just updated, with the same fakes or with fresh ones.
    if gan.fresh_fakes:
        pairs = replace(pairs, fake=shown(draw_fakes(state, labels, autocast)))
    g_loss = generator_step(state, gan, pairs, real_logits, autocast)
    update_average(state.averaged, state.generator, decay=decay)
    interval.add(gan.loss, d_loss=d_loss, g_loss=g_loss, real_logits=real_logits, fake_logits=fake_logits)


def pair_augmentation(gan: PaperGan, facts: ImageFacts) -> Differentiable:
    """How strongly real and fake images are augmented alike."""
    return Differentiable(
        probability=gan.augment_probability,
        translation=gan.augment_translation,
        rotation_degrees=gan.augment_rotation_degrees,
        scale=gan.augment_scale,
        cutout=gan.augment_cutout,
        facts=facts,
    )


def set_learning_rates(state: TrainingState, gan: PaperGan, *, factor: Scalar) -> None:
    """Both players' learning rates: their peaks times `factor`."""
    state.g_optimizer.param_groups[0]["lr"] = gan.generator_learning_rate * factor
    state.d_optimizer.param_groups[0]["lr"] = gan.discriminator_learning_rate * factor


def draw_fakes(state: TrainingState, labels: Tensor, autocast: Autocast) -> Tensor:
    """A fake image (N, C, H, W) float32 in −1..1 for each label, from new latents."""
    size = len(labels), state.generator.z_dim
    if state.generator.latents == "uniform":
        z = 2 * torch.rand(size, generator=state.z_rng, device=labels.device) - 1
    else:
        z = torch.randn(size, generator=state.z_rng, device=labels.device)
    with autocast():
        images: Tensor = state.generator(z, labels)
    return images


def discriminator_step(
    state: TrainingState, gan: PaperGan, pairs: Pairs, penalised: bool, autocast: Autocast
) -> tuple[Tensor, Tensor, Tensor]:
    """Update the discriminator; return its loss without penalty, and the logits (N,) of real and fake images."""
    # The fakes are detached: no gradient reaches the generator here.
    images = torch.cat([pairs.real, pairs.fake.detach()]).requires_grad_(penalised)
    with autocast():
        if gan.discriminator_normalization == "none":  # one forward for both
            logits = state.discriminator(images, pairs.labels.repeat(2))
        else:  # a forward each: batch norm must not mix the statistics of real and fake images
            logits = torch.cat([state.discriminator(half, pairs.labels) for half in images.chunk(2)])
    real_logits, fake_logits = logits.chunk(2)
    loss = discriminator_loss(
        gan.loss, real=real_logits, fake=fake_logits, label_smoothing=gan.label_smoothing
    )
    total = loss
    if penalised:  # lazy: every k-th turn with k times the weight (arXiv:1912.04958)
        with autocast():
            penalty = gradient_penalty(gan, state.discriminator, logits, images, pairs.labels)
        total = loss + gan.penalty_weight * gan.penalty_interval * penalty
    state.d_optimizer.zero_grad()
    total.backward()  # type: ignore[no-untyped-call]
    state.d_optimizer.step()
    if gan.weight_clipping:
        clip_weights(state.discriminator, gan.weight_clipping)
    return loss, real_logits, fake_logits


@torch.no_grad()
def clip_weights(discriminator: Discriminator, bound: float) -> None:
    """Hold every weight within ±bound, in place: WGAN's first bound on the critic's slope (arXiv:1701.07875)."""
    torch._foreach_clamp_min_(list(discriminator.parameters()), -bound)
    torch._foreach_clamp_max_(list(discriminator.parameters()), bound)


def gradient_penalty(
    gan: PaperGan, discriminator: Discriminator, logits: Tensor, images: Tensor, labels: Tensor
) -> Tensor:
    """The penalty that the parameters ask for; `images` are real, then fake (2N, C, H, W), with their `logits`."""
    real, fake = images.chunk(2)
    if gan.penalty == "gradient_penalty":
        return interpolation_penalty(
            lambda between: discriminator(between, labels), real=real.detach(), fake=fake.detach()
        )
    # The mean runs over both halves, also where only one has a gradient: twice it is R1, or R1 + R2.
    return 2 * half_squared_gradient(logits.chunk(2)[0] if gan.penalty == "r1" else logits, images)


def generator_step(
    state: TrainingState, gan: PaperGan, pairs: Pairs, real_logits: Tensor, autocast: Autocast
) -> Tensor:
    """Update the generator; return its loss. `real_logits` (N,) are those of the discriminator's step."""
    state.discriminator.requires_grad_(False)
    real_logits = real_logits.detach()
    if gan.loss == "relativistic":  # the only loss that reads them, and they have changed with the update
        with torch.no_grad(), autocast():
            real_logits = state.discriminator(pairs.real, pairs.labels)
    with autocast():  # a context of its own: autocast would hand on the weights it cast without gradients
        fake_logits = state.discriminator(pairs.fake, pairs.labels)
    loss = generator_loss(gan.loss, real=real_logits, fake=fake_logits)
    state.g_optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    state.g_optimizer.step()
    state.discriminator.requires_grad_(True)
    return loss


@torch.no_grad()
def update_average(averaged: torch.nn.Module, generator: torch.nn.Module, *, decay: Scalar) -> None:
    """Averaged ← decay · averaged + (1 − decay) · generator, in place; running statistics are copied."""
    weight = 1 - decay
    for average, parameter in zip(averaged.parameters(), generator.parameters(), strict=True):
        average.lerp_(parameter, weight)
    for target, source in zip(averaged.buffers(), generator.buffers(), strict=True):
        target.copy_(source)


def learning_rate_factor(step: int, steps: int, gan: PaperGan, history: list[dict[str, float]]) -> float:
    """What the learning rates are multiplied with at a step of 1..steps, in 0..1.

    A linear warm-up over `warmup_steps`, times: 1 (constant); half a cosine from 1 down to the final fraction
    (cosine); `cycles` triangles from the final fraction up to a peak and back (cyclic; Smith 2017, arXiv:1506.01186).
    The first peak is 1, each further one has `cycle_decay` of the height before. Cycles that wait for a plateau
    (`plateau_step` of the history so far) share the steps that are left then; until then the factor is 1.
    """
    warmup = min(1.0, step / max(gan.warmup_steps, 1))
    if gan.schedule == "constant":
        return warmup
    floor = gan.final_learning_rate_fraction
    if gan.schedule == "cosine":
        return warmup * (floor + (1 - floor) * (1 + math.cos(math.pi * step / steps)) / 2)
    first = plateau_step(history, gan.plateau_points) if gan.cycles_from == "plateau" else 0
    if first is None:
        return warmup
    cycles = (step - first) * gan.cycles / (steps - first)
    height = (1 - abs(2 * (cycles % 1) - 1)) * gan.cycle_decay ** int(cycles)
    return warmup * (floor + (1 - floor) * height)


def images_shown(gan: Gan) -> int:
    """How many real images a training shows its discriminator: `total_images`, but whole steps."""
    images_per_step = gan.batch_size * gan.discriminator_steps
    return gan.total_images // images_per_step * images_per_step


def even_steps(steps: int, points: int) -> set[int]:
    """At most `points` steps of 1..steps at even distances, the last among them."""
    return {math.ceil(steps * (point + 1) / points) for point in range(points)}


def _last_losses(state: TrainingState) -> str:
    """The losses at the last evaluation point, for the progress display."""
    if not state.history:
        return ""
    return f"D {state.history[-1]['d_loss']:.2f}  G {state.history[-1]['g_loss']:.2f}"
