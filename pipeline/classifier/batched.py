"""Train many classifiers at once as one batch of networks: what a GPU wants, for which one such network is too small.

A step of one of them is a hundred kernels of a few microseconds each, and starting them takes longer than they run.
Here the weights of all networks are stacked (`torch.func`): a step of all starts as many kernels as a step of one. On a
GPU the step is recorded once and replayed (`runtime/cuda_graphs.py`).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state
from torch.nn import functional as F

from pipeline.augmentation.draws import Generators
from pipeline.classifier.network import ConvNet, images_to_unit
from pipeline.classifier.training import (
    Recipe,
    diverged,
    first_real_only_step,
    learning_rate,
    new_conv_net,
    new_optimizer,
    positions_shown,
    smoothing_spread,
    soft_targets,
)
from pipeline.params import Training
from pipeline.runtime.cuda_graphs import CudaGraphs
from pipeline.runtime.progress import Advance
from pipeline.runtime.seeds import derive_seed, torch_generator


def train_classifiers(
    recipes: Sequence[Recipe],
    settings: Training,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    advance: Advance,
) -> list[ConvNet]:
    """Train a `ConvNet` by each recipe, all in the same steps; return them on the device, in evaluation mode.

    Initial weights, batches and random distortions are those of `train_classifier`, and so are the weights that come
    out, but for the order of summation: only there, rounding differs.

    Args:
        recipes: of one training each; all have as many classes, and images of one size. An `augment` or a `mix` that
            several share is called once for all of them.
        settings: their section of the parameters.
        device: where to compute.
        dtype: what convolutions and dense layers compute in (autocast); weights and losses stay float32.
        advance: told about each step of each training.

    Raises:
        SynthGainError: if one of the trainings diverges.
    """
    networks = [new_conv_net(recipe, settings, device) for recipe in recipes]
    # By name, weights of all networks: the first axis is that of the networks, and they are what is trained.
    stacked, _ = stack_module_state(networks)
    shape_only = copy.deepcopy(networks[0]).to("meta")
    forward = torch.vmap(lambda weights, images: functional_call(shape_only, weights, (images,)))
    optimizer = new_optimizer(stacked.values(), settings, capturable=device.type == "cuda")

    data = _StackedData(recipes, settings, device)
    losses = torch.zeros(len(recipes), device=device)

    def one_step(positions: Tensor, step: int | Tensor, rate: float | Tensor) -> None:
        images, labels, loss_weights, targets = data.batch(positions, step)
        optimizer.param_groups[0]["lr"] = rate
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            logits = forward(stacked, images)
        logits = (logits.float() + data.logit_shifts).flatten(0, 1)
        if targets is None:
            per_image = F.cross_entropy(
                logits, labels.flatten(), label_smoothing=settings.label_smoothing, reduction="none"
            )
            per_image = per_image.view_as(labels) * loss_weights
        else:
            per_image = F.cross_entropy(logits, targets.flatten(0, 1), reduction="none").view_as(labels)
        of_each = per_image.mean(1)
        optimizer.zero_grad()
        of_each.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.copy_(of_each.detach())

    take_step: Callable[[Tensor, int, float], None] = one_step
    if device.type == "cuda" and all(recipe.replayable for recipe in recipes):
        take_step = CudaGraphs(one_step, device=device, generators=data.rngs)
    for step in range(1, settings.steps + 1):
        take_step(data.shown[step - 1], step, learning_rate(settings, step))
        advance(len(recipes))
    for loss in losses.tolist():
        if not math.isfinite(loss):
            raise diverged(loss)
    for i, network in enumerate(networks):
        network.load_state_dict({name: tensor[i] for name, tensor in stacked.items()})
        network.eval()
    return networks


class _StackedData:
    """The images of all trainings on the device, and what each step shows of them."""

    def __init__(self, recipes: Sequence[Recipe], settings: Training, device: torch.device) -> None:
        self.images = torch.cat([torch.from_numpy(recipe.training.images) for recipe in recipes]).to(device)
        self.labels = torch.cat([torch.from_numpy(recipe.training.labels) for recipe in recipes]).to(device)
        sizes = [len(recipe.training) for recipe in recipes]
        self.loss_weights, self.tail_weights = (
            torch.cat([_weights(values, size) for values, size in zip(of_each, sizes, strict=True)]).to(
                device
            )
            for of_each in zip(*((recipe.weights, recipe.tail_weights) for recipe in recipes), strict=True)
        )
        num_classes = recipes[0].training.num_classes
        none = np.zeros(num_classes)
        shifts = [none if recipe.logit_shift is None else recipe.logit_shift for recipe in recipes]
        self.logit_shifts = torch.from_numpy(np.stack(shifts)).to(device, torch.float32)[:, None]
        self.spread = smoothing_spread(self.logit_shifts[:, 0], num_classes, device)
        self.soft = any(recipe.mix is not None or recipe.logit_shift is not None for recipe in recipes)
        self.starts = torch.tensor([0, *sizes[:-1]], device=device).cumsum(0)[:, None]
        real_only_from = [first_real_only_step(recipe, settings) for recipe in recipes]
        self.real_only_from = torch.tensor(real_only_from, device=device)[:, None]
        # Of all steps, on the device once: made in each step, an index would be a copy to the device in each step.
        shown = [torch.stack(list(positions_shown(recipe, settings))) for recipe in recipes]
        self.shown = torch.stack(shown, dim=1).to(device)  # (steps, K, N)
        self.first_augmented = torch.tensor([recipe.first_augmented for recipe in recipes], device=device)[
            :, None
        ]
        self.label_smoothing = settings.label_smoothing
        self.rngs = [torch_generator(derive_seed(recipe.seed, "augment"), device) for recipe in recipes]
        self.augmented = _groups([recipe.augment for recipe in recipes], self.rngs, device)
        self.mixed = _groups([recipe.mix for recipe in recipes], self.rngs, device)

    def batch(self, positions: Tensor, step: int | Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Of K trainings and N images each: (K, N, C, H, W) float32 in 0..1, labels and loss weights (K, N).

        The last is (K, N, num_classes), the targets that have the weights in them; None where no training mixes.
        """
        index = positions + self.starts
        images = images_to_unit(self.images[index])
        keep = (positions < self.first_augmented)[:, :, None, None, None]
        for augment, which, rngs in self.augmented:
            chosen = images[which]
            changed = augment(chosen.flatten(0, 1), rngs)
            images[which] = torch.where(keep[which], chosen, changed.view_as(chosen))
        in_tail = step >= self.real_only_from
        loss_weights = torch.where(in_tail, self.tail_weights[index], self.loss_weights[index])
        labels = self.labels[index]
        if not self.soft:
            return images, labels, loss_weights, None
        spread = self.spread.repeat_interleave(labels.shape[1], dim=0)
        targets = soft_targets(
            labels.flatten(), loss_weights.flatten(), spread, label_smoothing=self.label_smoothing
        ).view(*labels.shape, -1)
        for mix, which, rngs in self.mixed:
            chosen, own_targets = images[which], targets[which]
            mixed, mixed_targets = mix(chosen.flatten(0, 1), own_targets.flatten(0, 1), rngs)
            images[which], targets[which] = mixed.view_as(chosen), mixed_targets.view_as(own_targets)
        return images, labels, loss_weights, targets


def _weights(values: npt.NDArray[np.float32] | None, size: int) -> Tensor:
    """(size,) float32: those of the first images, and 1 for all others."""
    weights = torch.ones(size)
    if values is not None:
        weights[: len(values)] = torch.from_numpy(values)
    return weights


_Policy = TypeVar("_Policy", bound=Callable[..., Any])


def _groups(
    policies: Sequence[_Policy | None], rngs: Sequence[torch.Generator], device: torch.device
) -> list[tuple[_Policy, Tensor, Generators]]:
    """Each policy of several trainings once, with the positions of its trainings and their generators."""
    groups: dict[_Policy, list[int]] = {}
    for i, policy in enumerate(policies):
        if policy is not None:
            groups.setdefault(policy, []).append(i)
    return [
        (policy, torch.tensor(which, device=device), [rngs[i] for i in which])
        for policy, which in groups.items()
    ]
