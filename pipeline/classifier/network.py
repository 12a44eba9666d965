"""A small convolutional network: the classifier of every cell, and the extractor of the domain features."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.checkpoints import (
    load_checkpoint,
    network_with_weights,
    refused_if_edited,
    save_checkpoint,
)
from pipeline.classifier.own_network import OwnNetwork
from pipeline.images import LabeledImages

EXTRACTOR_KIND = "feature_extractor"

FeaturesAndProbabilities = Callable[
    [npt.NDArray[np.uint8]], tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
]


class ConvNet(nn.Module):
    """Images (N, image_channels, image_size, image_size) float32 in 0..1 → logits (N, num_classes).

    Three convolutions of `channels`, `channels` and 4 · `channels`, and a hidden layer over a grid of 2 to 8 a side.
    The first convolution halves the side of all but tiny images, and quarters a large one: at full resolution, few
    input channels are the slowest part of such a network on a CPU, and give nothing. No batch normalisation: its
    statistics would mix real and synthetic images, and make a cell depend on its batch size.
    """

    def __init__(
        self, *, channels: int, feature_dim: int, num_classes: int, image_size: int, image_channels: int = 1
    ) -> None:
        super().__init__()
        self.arguments = {
            "channels": channels,
            "feature_dim": feature_dim,
            "num_classes": num_classes,
            "image_size": image_size,
            # Not said of grey images: files from before colour do not say it.
            **({"image_channels": image_channels} if image_channels != 1 else {}),
        }
        stride = (
            1 if image_size < 16 else 2 if image_size < 64 else 4
        )  # of an 8×8 digit nothing would be left
        kernel = max(5, 2 * stride + 1)
        self.conv1 = nn.Conv2d(image_channels, channels, kernel, stride=stride, padding=kernel // 2)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        self.conv3 = nn.Conv2d(channels, 4 * channels, kernel_size=3, padding=1)
        # Of a side of 10 or 20, the second pooling leaves out the last row and column.
        self.hidden = nn.Linear(4 * channels * (image_size // (4 * stride)) ** 2, feature_dim)
        self.score = nn.Linear(feature_dim, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """(N, feature_dim) activations before the last layer."""
        x = F.relu(self.conv1(images))
        x = F.relu(
            F.max_pool2d(self.conv2(x), 2)
        )  # pooled first: the activation sees a quarter of the values
        x = F.relu(F.max_pool2d(self.conv3(x), 2))
        return F.relu(self.hidden(x.flatten(1)))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.score(self.features(images))
        return logits


Network = ConvNet | OwnNetwork


def images_to_unit(images: Tensor) -> Tensor:
    """uint8 in 0..255 → float32 in 0..1, the range of the classifier."""
    return images.float().div_(255)


@torch.no_grad()
def predict(network: Network, images: npt.NDArray[np.uint8], device: torch.device) -> npt.NDArray[np.int64]:
    """The most likely class of each image: (N, C, H, W) uint8 → (N,) int64."""
    predictions: npt.NDArray[np.int64] = _logits(network, images, device).argmax(1).numpy()
    return predictions


@torch.no_grad()
def class_probabilities(
    network: Network, images: npt.NDArray[np.uint8], device: torch.device
) -> npt.NDArray[np.float32]:
    """Softmax of each image: (N, C, H, W) uint8 → (N, num_classes) float32, whose rows sum to 1."""
    probabilities: npt.NDArray[np.float32] = _logits(network, images, device).softmax(1).numpy()
    return probabilities


def _logits(network: Network, images: npt.NDArray[np.uint8], device: torch.device) -> Tensor:
    network.eval()
    parts = [torch.from_numpy(images[start : start + 500]) for start in range(0, len(images), 500)]
    return torch.cat([network(images_to_unit(part.to(device))).cpu() for part in parts])


@torch.no_grad()
def _features_and_logits(
    network: ConvNet, images: npt.NDArray[np.uint8], device: torch.device
) -> tuple[Tensor, Tensor]:
    network.eval()
    features, logits = [], []
    for start in range(0, len(images), 500):
        batch = network.features(images_to_unit(torch.from_numpy(images[start : start + 500]).to(device)))
        features.append(batch.cpu())
        logits.append(network.score(batch).cpu())
    return torch.cat(features), torch.cat(logits)


def network_from(
    arguments: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device
) -> Network:
    """Build a classifier from its constructor arguments and weights.

    Raises:
        Exception: nearly anything if they do not fit each other; of a file, see `refused_if_edited`.
    """
    if "network" not in arguments:
        return conv_net_from(arguments, tensors, device)
    network = network_with_weights(lambda: OwnNetwork(**arguments), tensors)
    return network.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]


def conv_net_from(
    arguments: Mapping[str, Any], tensors: Mapping[str, Tensor], device: torch.device
) -> ConvNet:
    """The same for a `ConvNet`, as feature extractors are."""
    network = network_with_weights(lambda: ConvNet(**arguments), tensors)
    return network.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]


def load_features_and_probabilities(path: Path, device: torch.device) -> FeaturesAndProbabilities:
    """The feature extractor of a checkpoint, as a function.

    It takes (N, C, H, W) uint8 and gives features (N, D) float32 and class probabilities (N, num_classes) float32,
    whose rows sum to 1.

    Raises:
        SynthGainError: if the file is missing, damaged, or no feature extractor.
    """
    tensors, metadata = load_checkpoint(path, kind=EXTRACTOR_KIND)
    with refused_if_edited(path, kind="feature extractor", remedy="`dvc repro` makes it again"):
        network = conv_net_from(metadata["arguments"], tensors, device)
        feature_scale = float(metadata["feature_scale"])
        if not 0 < feature_scale < math.inf:
            raise ValueError(f"feature_scale is {feature_scale}")

    def features_and_probabilities(
        images: npt.NDArray[np.uint8],
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        features, logits = _features_and_logits(network, images, device)
        return (features / feature_scale).numpy(), logits.softmax(1).numpy()

    return features_and_probabilities


def save_extractor(path: Path, network: Network, train: LabeledImages, device: torch.device) -> None:
    """Write a network as the feature extractor of a data set.

    Its features are divided by their root mean square over the train images. What a ReLU network's activations
    measure in is an accident of its training, and distances grow with its square (FID) or its sixth power (KID).
    """
    assert isinstance(network, ConvNet), "a network of one's own need not have features"
    features, _ = _features_and_logits(network, train.images, device)
    metadata = {
        "kind": EXTRACTOR_KIND,
        "arguments": network.arguments,
        "class_names": list(train.class_names),
        # Eight digits: enough for float32, and no noise of a summation order in the file.
        "feature_scale": float(f"{np.sqrt(np.mean(features.numpy().astype(np.float64) ** 2)):.8g}"),
    }
    save_checkpoint(path, network.state_dict(), metadata)
