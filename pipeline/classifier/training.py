"""Train one classifier for a fixed number of optimiser steps, whatever the size of its training set."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.augmentation.classic import Augment
from pipeline.augmentation.mixup import Mix
from pipeline.classifier.network import ConvNet, Network, images_to_unit
from pipeline.classifier.own_network import OwnNetwork
from pipeline.errors import SynthGainError
from pipeline.images import LabeledImages
from pipeline.params import Classifier, Training
from pipeline.runtime.progress import Advance
from pipeline.runtime.seeds import derive_seed, torch_generator

# Share of the steps over which the learning rate rises to its peak, before it falls along a cosine to 0.
_WARMUP = 0.1

# A generator to draw from → (M,) int64: the positions of the images of one epoch, in the order in which they are shown.
DrawEpoch = Callable[[torch.Generator], Tensor]


@dataclass(frozen=True)
class Recipe:
    """What one training shows its classifier, and how; the settings are the same for every arm of a study.

    Attributes:
        training: the images; an epoch shows every image once, in a new order, unless `draw_epoch` says otherwise.
        seed: of weights, batch order and augmentation.
        augment: maps a float32 batch (N, C, H, W) in 0..1 to another, with a generator to draw from; or None.
        mix: blends the images of a batch and their targets, after `augment` and from the same generator; or None.
        draw_epoch: what an epoch shows; None: all of it.
        weights: (N,) of the images' losses, with a mean of 1 over an epoch: a batch's loss is the mean of weight ×
            loss. None: all equal.
        first_augmented: images before this position are shown as they are.
        real_images: how many images, from the first on, are real; for `real_only_tail` alone.
        real_only_tail: share in 0..1 of the steps, the last ones, that are on the real images only.
        tail_weights: (real_images,) of the images' losses in these steps, with a mean of 1. None: all equal.
        logit_shift: (num_classes,) added to the logits, in training alone (arXiv:2007.07314). None: nothing.
        replayable: whether a GPU can replay a step: `augment` and `mix` read no value back from it.
    """

    training: LabeledImages
    seed: int
    augment: Augment | None = None
    mix: Mix | None = None
    draw_epoch: DrawEpoch | None = None
    weights: npt.NDArray[np.float32] | None = None
    first_augmented: int = 0
    real_images: int = 0
    real_only_tail: float = 0.0
    tail_weights: npt.NDArray[np.float32] | None = None
    logit_shift: npt.NDArray[np.float64] | None = None
    replayable: bool = True


def train_classifier(
    recipe: Recipe,
    settings: Training,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    advance: Advance,
) -> Network:
    """Train a classifier with AdamW on random batches; return it on the device, in evaluation mode.

    Two calls with the same seed start from the same weights and draw batches from the same stream, so that arms
    of a study can be compared in pairs.

    Args:
        recipe: what to show the network, and how.
        settings: its section of the parameters, the same for every arm: otherwise "more data" would only be "more
            training". The learning rate is that of the peak, the weight decay decoupled and on all weights.
        device: where to compute.
        dtype: what convolutions and dense layers compute in (autocast); weights and losses stay float32.
        advance: told about each step done.

    Raises:
        SynthGainError: if the training diverges.
    """
    network = new_network(recipe, settings, device)
    optimizer = new_optimizer(network.parameters(), settings)
    all_images = torch.from_numpy(recipe.training.images).to(device)
    all_labels = torch.from_numpy(recipe.training.labels).to(device)
    augment_rng = torch_generator(derive_seed(recipe.seed, "augment"), device)

    loss_weights, tail_weights, logit_shift = (
        None if values is None else torch.from_numpy(values).to(device, torch.float32)
        for values in (recipe.weights, recipe.tail_weights, recipe.logit_shift)
    )
    spread = smoothing_spread(logit_shift, recipe.training.num_classes, device)
    soft = recipe.mix is not None or logit_shift is not None
    real_only_from = first_real_only_step(recipe, settings)

    loss = torch.zeros((), device=device)
    for step, positions in enumerate(positions_shown(recipe, settings), start=1):
        if step == real_only_from:
            loss_weights = tail_weights
        index = positions.to(device)
        images = images_to_unit(all_images[index])
        if recipe.augment is not None:
            changed = recipe.augment(images, augment_rng)
            images = (
                torch.where((index >= recipe.first_augmented)[:, None, None, None], changed, images)
                if recipe.first_augmented
                else changed
            )
        labels, weights = all_labels[index], None if loss_weights is None else loss_weights[index]
        if soft:
            targets = soft_targets(labels, weights, spread, label_smoothing=settings.label_smoothing)
        if recipe.mix is not None:
            images, targets = recipe.mix(images, targets, augment_rng)
        optimizer.param_groups[0]["lr"] = learning_rate(settings, step)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            logits = network(images).float()
        if logit_shift is not None:
            logits = logits + logit_shift
        if soft:
            loss = F.cross_entropy(logits, targets)
        elif weights is None:
            loss = F.cross_entropy(logits, labels, label_smoothing=settings.label_smoothing)
        else:
            losses = F.cross_entropy(
                logits, labels, label_smoothing=settings.label_smoothing, reduction="none"
            )
            loss = (losses * weights).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        advance(1)
    if not math.isfinite(loss.item()):
        raise diverged(loss.item())
    network.eval()
    return network


def smoothing_spread(logit_shift: Tensor | None, num_classes: int, device: torch.device) -> Tensor:
    """(..., num_classes) float32: over which classes label smoothing spreads its share; the last axis sums to 1.

    Over all alike; with adjusted logits, over the shares that they are adjusted to. Spread alike, a class of one image
    in a thousand would get more of the targets than it has images, and the adjustment would make it the likeliest.
    """
    return (torch.zeros(num_classes, device=device) if logit_shift is None else logit_shift).softmax(-1)


def soft_targets(labels: Tensor, weights: Tensor | None, spread: Tensor, *, label_smoothing: float) -> Tensor:
    """(N, num_classes) float32: labels (N,) int64 as distributions, smoothed, each times the weight of its image.

    The cross-entropy with them is the weighted one of the labels, but it can be mixed: it is linear in its targets.
    `spread` (num_classes,) or (N, num_classes) is that of `smoothing_spread`.
    """
    targets = F.one_hot(labels, spread.shape[-1]) * (1 - label_smoothing) + label_smoothing * spread
    return targets if weights is None else targets * weights[:, None]


def diverged(loss: float) -> SynthGainError:
    """The error of a training whose last loss is not finite."""
    return SynthGainError(f"the classifier diverged (loss {loss}); lower its learning_rate")


def new_network(recipe: Recipe, settings: Training, device: torch.device) -> Network:
    """A network for such images, in training mode; its initial weights depend on the seed alone."""
    if isinstance(settings, Classifier) and settings.network != "compact":
        torch.manual_seed(derive_seed(recipe.seed, "weights"))
        own = OwnNetwork(
            network=settings.network,
            code=settings.code,
            num_classes=recipe.training.num_classes,
            image_size=recipe.training.images.shape[-1],
            image_channels=recipe.training.channels,
        )
        return own.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload,no-any-return]
    return new_conv_net(recipe, settings, device)


def new_conv_net(recipe: Recipe, settings: Training, device: torch.device) -> ConvNet:
    """The same for a `ConvNet`."""
    torch.manual_seed(derive_seed(recipe.seed, "weights"))
    network = ConvNet(
        channels=settings.channels,
        feature_dim=settings.feature_dim,
        num_classes=recipe.training.num_classes,
        image_size=recipe.training.images.shape[-1],
        image_channels=recipe.training.channels,
    )
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.train()


def new_optimizer(
    parameters: Iterable[Tensor], settings: Training, *, capturable: bool = False
) -> torch.optim.AdamW:
    """AdamW: element by element, so that it does not matter how many networks a tensor holds.

    `capturable`: its steps can be part of a CUDA graph.
    """
    return torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        betas=(0.9, 0.99),
        weight_decay=settings.weight_decay,
        fused=True,
        capturable=capturable,
    )


def positions_shown(recipe: Recipe, settings: Training) -> Iterator[Tensor]:
    """The positions (batch_size,) int64 of each step's images: epoch after epoch, joined without a gap."""
    rng = torch_generator(derive_seed(recipe.seed, "order"))
    draw = recipe.draw_epoch or whole_epochs(len(recipe.training))
    real_only_from = first_real_only_step(recipe, settings)
    waiting = torch.empty(0, dtype=torch.int64)
    for step in range(1, settings.steps + 1):
        if step == real_only_from:
            draw, waiting = whole_epochs(recipe.real_images), waiting[:0]
        while len(waiting) < settings.batch_size:
            waiting = torch.cat([waiting, draw(rng)])
        yield waiting[: settings.batch_size]
        waiting = waiting[settings.batch_size :]


def first_real_only_step(recipe: Recipe, settings: Training) -> int:
    """The first of the last steps, on the real images only; one that never comes, if there are none."""
    return settings.steps - round(settings.steps * recipe.real_only_tail) + 1


def whole_epochs(size: int) -> DrawEpoch:
    """Every image once, in random order."""
    return lambda rng: torch.randperm(size, generator=rng)


def fresh_epochs(training: LabeledImages, *, real_images: int, per_epoch: npt.NDArray[np.int64]) -> DrawEpoch:
    """Every real image once and `per_epoch` synthetic ones of each class, in random order, others each time.

    Of a class's synthetic images none comes a second time before all have come once.

    Args:
        training: the images, the real ones first.
        real_images: how many are real.
        per_epoch: (num_classes,) int64, none where a class has no synthetic image.
    """
    labels = torch.from_numpy(training.labels)
    pools = [
        real_images + torch.nonzero(labels[real_images:] == label).flatten()
        for label in range(len(per_epoch))
    ]
    waiting = [torch.empty(0, dtype=torch.int64) for _ in pools]

    def draw(rng: torch.Generator) -> Tensor:
        shown = [torch.arange(real_images)]
        for label, count in enumerate(per_epoch.tolist()):
            pool = pools[label]
            while len(waiting[label]) < count:
                again = pool[torch.randperm(len(pool), generator=rng)]
                waiting[label] = torch.cat([waiting[label], again])
            shown.append(waiting[label][:count])
            waiting[label] = waiting[label][count:]
        positions = torch.cat(shown)
        return positions[torch.randperm(len(positions), generator=rng)]

    return draw


def learning_rate(settings: Training, step: int) -> float:
    """At a step of 1..steps: a linear rise to the peak, then half a cosine down to 0."""
    return settings.learning_rate * _schedule(step / settings.steps)


def _schedule(progress: float) -> float:
    if progress < _WARMUP:
        return progress / _WARMUP
    return (1 + math.cos(math.pi * (progress - _WARMUP) / (1 - _WARMUP))) / 2
