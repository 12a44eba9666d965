"""Train a classifier on labelled images and, beside them in each step, on images of the pool, which have no labels.

Two methods, with the labels that each takes for those of the pool:

- **Pseudo-labels** (Lee 2013): they are given once, before the training. With true labels it is the upper bound.
- **Consistency** (FixMatch, Sohn et al. 2020, arXiv:2001.07685, Algorithm 1): in each step the classifier labels weakly
  augmented images, and what it is sure of becomes the label of the same images, strongly augmented.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.augmentation.classic import Augment
from pipeline.classifier.network import Network, images_to_unit
from pipeline.classifier.training import (
    Recipe,
    diverged,
    first_real_only_step,
    learning_rate,
    new_network,
    new_optimizer,
    positions_shown,
    smoothing_spread,
    soft_targets,
)
from pipeline.params import Training
from pipeline.runtime.progress import Advance
from pipeline.runtime.seeds import derive_seed, torch_generator


@dataclass(frozen=True)
class PoolRecipe:
    """What a training is shown of the pool, and how.

    Attributes:
        images: (M, C, H, W) uint8, bare: their own labels are not here.
        labels: (M,) int64, what they are taken for; None: consistency.
        per_step: how many each step shows; an epoch over the pool shows each of its images once, in a new order.
        weak: augmentation of the images that the classifier labels, for consistency alone; or None. Those that it
            learns from are augmented as the labelled ones are.
        threshold: 0..1, consistency: how sure of its label the classifier must be, before label smoothing.
        weight: of their loss, beside 1 of the labelled images'.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64] | None
    per_step: int
    weak: Augment | None = None
    threshold: float = 0.95
    weight: float = 1.0


def train_with_pool(
    recipe: Recipe,
    pool: PoolRecipe,
    settings: Training,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    advance: Advance,
) -> Network:
    """Train a classifier as `train_classifier` does, with images of the pool in each step too.

    Initial weights, batches of labelled images and the learning rate are those of `train_classifier`: arms can be
    compared in pairs. The loss is the labelled images' mean and `weight` times the mean over all images of the pool in
    the step; one whose label is not sure counts 0. The paper's average of weights is left out: the learning rate falls
    to 0, which does the same.

    Args:
        recipe: the images with labels; all of them are augmented.
        pool: the others.
        settings, device, dtype, advance: as in `train_classifier`.

    Raises:
        SynthGainError: if the training diverges.
    """
    network = new_network(recipe, settings, device)
    optimizer = new_optimizer(network.parameters(), settings)
    all_images = torch.from_numpy(recipe.training.images).to(device)
    all_labels = torch.from_numpy(recipe.training.labels).to(device)
    pool_images = torch.from_numpy(pool.images).to(device)
    pool_labels = None if pool.labels is None else torch.from_numpy(pool.labels).to(device)
    weights = None if recipe.weights is None else torch.from_numpy(recipe.weights).to(device)
    least = smoothed(pool.threshold, settings.label_smoothing, recipe.training.num_classes)
    targets_of = partial(
        soft_targets,
        spread=smoothing_spread(None, recipe.training.num_classes, device),
        label_smoothing=settings.label_smoothing,
    )
    rng, pool_rng, weak_rng = (
        torch_generator(derive_seed(recipe.seed, name), device)
        for name in ("augment", "augment pool", "weak")
    )

    real_only_from = first_real_only_step(recipe, settings)

    loss = torch.zeros((), device=device)
    shown = zip(positions_shown(recipe, settings), pool_positions(recipe, pool, settings), strict=True)
    for step, (positions, places) in enumerate(shown, start=1):
        if step == real_only_from:
            weights = None
        index, place = positions.to(device), places.to(device)
        images, beside = images_to_unit(all_images[index]), images_to_unit(pool_images[place])
        if pool_labels is None:
            taken_for, sure = sure_labels(network, _augmented(pool.weak, beside, weak_rng), least, dtype)
        else:
            taken_for, sure = pool_labels[place], None
        images, targets = _shown(
            recipe, images, targets_of(all_labels[index], None if weights is None else weights[index]), rng
        )
        beside, pool_targets = _shown(recipe, beside, targets_of(taken_for, sure), pool_rng)
        optimizer.param_groups[0]["lr"] = learning_rate(settings, step)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            logits = network(torch.cat([images, beside])).float()
        loss = F.cross_entropy(logits[: len(index)], targets)
        loss = loss + pool.weight * F.cross_entropy(logits[len(index) :], pool_targets)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        advance(1)
    if not math.isfinite(loss.item()):
        raise diverged(loss.item())
    return network.eval()


@torch.no_grad()
def sure_labels(network: Network, images: Tensor, least: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The likeliest class (N,) int64 of each image (N, C, H, W), and (N,) float32: 1 where it is at least so likely."""
    with torch.autocast(images.device.type, dtype=dtype, enabled=dtype != torch.float32):
        logits = network(images)
    probability, label = logits.float().softmax(1).max(1)
    return label, (probability >= least).float()


def smoothed(probability: float, label_smoothing: float, classes: int) -> float:
    """What a probability is after label smoothing, under which even a sure classifier says no more than 1 − s + s/K."""
    return probability * (1 - label_smoothing) + label_smoothing / classes


def pool_positions(recipe: Recipe, pool: PoolRecipe, settings: Training) -> Iterator[Tensor]:
    """The positions (per_step,) int64 of each step's images of the pool: epoch after epoch, joined without a gap."""
    rng = torch_generator(derive_seed(recipe.seed, "pool order"))
    waiting = torch.empty(0, dtype=torch.int64)
    for _ in range(settings.steps):
        while len(waiting) < pool.per_step:
            waiting = torch.cat([waiting, torch.randperm(len(pool.images), generator=rng)])
        yield waiting[: pool.per_step]
        waiting = waiting[pool.per_step :]


def _shown(recipe: Recipe, images: Tensor, targets: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) and targets (N, num_classes) under the recipe's policy."""
    images = _augmented(recipe.augment, images, rng)
    return (images, targets) if recipe.mix is None else recipe.mix(images, targets, rng)


def _augmented(augment: Augment | None, images: Tensor, rng: torch.Generator) -> Tensor:
    return images if augment is None else augment(images, rng)
