"""Train one classifier for a fixed number of optimiser steps, whatever the size of its training set."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.classifier.network import ConvNet, images_to_unit
from pipeline.errors import SynthGainError
from pipeline.images import LabeledImages
from pipeline.progress import Advance
from pipeline.runtime import derive_seed, torch_generator

# Share of the steps over which the learning rate rises to its peak, before it falls along a cosine to 0.
_WARMUP = 0.1

Augment = Callable[[Tensor, torch.Generator], Tensor]


def train_classifier(
    training: LabeledImages,
    *,
    channels: int,
    feature_dim: int,
    steps: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    label_smoothing: float,
    augment: Augment | None,
    seed: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    advance: Advance,
) -> ConvNet:
    """Train a `ConvNet` with AdamW on random batches; return it on the device, in evaluation mode.

    Two calls with the same seed start from the same weights and draw batches from the same stream, so that arms
    of a study can be compared in pairs.

    Args:
        training: the images; each pass shows every image once, in a new order.
        channels, feature_dim: the width of the network.
        steps, batch_size: the same for every arm, otherwise "more data" would only be "more training".
        learning_rate: at its peak.
        weight_decay: decoupled, on all weights.
        label_smoothing: in 0..1.
        augment: maps a float32 batch (N, 1, H, W) in 0..1 to another, with a generator to draw from; or None.
        seed: of weights, batch order and augmentation.
        device: where to compute.
        dtype: what convolutions and dense layers compute in (autocast); weights and losses stay float32.
        advance: told about each step done.

    Raises:
        SynthGainError: if the training diverges.
    """
    torch.manual_seed(derive_seed(seed, "weights"))
    network = ConvNet(
        channels=channels,
        feature_dim=feature_dim,
        num_classes=training.num_classes,
        image_size=training.images.shape[-1],
    )
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.train()
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=learning_rate, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True
    )
    all_images = torch.from_numpy(training.images).to(device)
    all_labels = torch.from_numpy(training.labels).to(device)
    order_rng = torch_generator(derive_seed(seed, "order"))
    augment_rng = torch_generator(derive_seed(seed, "augment"), device)

    waiting = torch.empty(0, dtype=torch.int64)
    loss = torch.zeros((), device=device)
    for step in range(1, steps + 1):
        while len(waiting) < batch_size:
            waiting = torch.cat([waiting, torch.randperm(len(training), generator=order_rng)])
        index, waiting = waiting[:batch_size].to(device), waiting[batch_size:]
        images = images_to_unit(all_images[index])
        if augment is not None:
            images = augment(images, augment_rng)
        optimizer.param_groups[0]["lr"] = learning_rate * _schedule(step / steps)
        with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
            logits = network(images)
        loss = F.cross_entropy(logits.float(), all_labels[index], label_smoothing=label_smoothing)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        advance(1)
    if not math.isfinite(loss.item()):
        raise SynthGainError(f"the classifier diverged (loss {loss.item()}); lower its learning_rate")
    network.eval()
    return network


def _schedule(progress: float) -> float:
    if progress < _WARMUP:
        return progress / _WARMUP
    return (1 + math.cos(math.pi * (progress - _WARMUP) / (1 - _WARMUP))) / 2
