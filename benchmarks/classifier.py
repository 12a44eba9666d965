"""Seconds until a classifier has 99 % on MNIST's test split, against PyTorch's own MNIST example in the same run.

Both train for a fixed number of steps that was chosen on the validation split; the accuracy that each reaches stands in
the table. The test images are looked at once, at the end. Needs data/prepared (`dvc repro prepare`).

python benchmarks/classifier.py [--seeds 3]
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from result import Result, show
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from pipeline.classifier.network import predict
from pipeline.classifier.training import Recipe, train_classifier
from pipeline.images import LabeledImages
from pipeline.params import load_params
from pipeline.runtime.device import configure, training_dtype

ROOT = Path(__file__).parents[1]
STEPS = 1300  # of 64 images: one and a half passes
REFERENCE_PASSES = 1


class ReferenceNetwork(nn.Module):
    """The network of PyTorch's MNIST example: 3×3 convolutions of 32 and 64, pool, dropout, 128 hidden units."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3)
        self.hidden, self.score = nn.Linear(9216, 128), nn.Linear(128, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv2(F.relu(self.conv1(x)))), 2)
        x = F.dropout(x, 0.25, self.training).flatten(1)
        return self.score(F.dropout(F.relu(self.hidden(x)), 0.5, self.training))


def train_ours(train, seed, params, device):
    """The project's classifier, its recipe and its loop."""
    return train_classifier(
        Recipe(train, seed),
        params.classifier.of_budget("all").model_copy(update={"steps": STEPS}),
        device=device,
        dtype=training_dtype(params.execution, device),
        advance=lambda count: None,
    )


def train_reference(train, seed, device):
    """PyTorch's example: Adadelta at 1.0, batches of 64, a DataLoader."""
    torch.manual_seed(seed)
    network = ReferenceNetwork().to(device)
    optimizer = torch.optim.Adadelta(network.parameters(), lr=1.0)
    images = (torch.from_numpy(train.images).float() / 255 - 0.1307) / 0.3081
    loader = DataLoader(TensorDataset(images, torch.from_numpy(train.labels)), batch_size=64, shuffle=True)
    for _ in range(REFERENCE_PASSES):
        for batch, labels in loader:
            optimizer.zero_grad()
            F.cross_entropy(network(batch.to(device)), labels.to(device)).backward()
            optimizer.step()
    return network.eval()


@torch.no_grad()
def reference_accuracy(network, images, device):
    """Share of right answers."""
    batches = ((torch.from_numpy(images.images).float() / 255 - 0.1307) / 0.3081).split(500)
    predictions = torch.cat([network(batch.to(device)).argmax(1).cpu() for batch in batches]).numpy()
    return float((predictions == images.labels).mean())


def measure(seeds=3):
    """Mean seconds and accuracies over seeds, in turns."""
    params = load_params(ROOT / "params.yaml")
    device = configure(params.execution)
    torch.use_deterministic_algorithms(False)  # for the reference: it promises nothing
    train, test = (LabeledImages.load(ROOT / f"data/prepared/{name}.npz") for name in ("train", "test"))
    seconds, accuracies = {"ours": [], "reference": []}, {"ours": [], "reference": []}
    train_ours(train.subset(np.arange(128, dtype=np.int64)), 99, params, device)  # warm-up
    for seed in range(seeds):
        start = time.perf_counter()
        network = train_ours(train, seed, params, device)
        middle = time.perf_counter()
        reference = train_reference(train, seed, device)
        seconds["ours"].append(middle - start)
        seconds["reference"].append(time.perf_counter() - middle)
        accuracies["ours"].append(float((predict(network, test.images, device) == test.labels).mean()))
        accuracies["reference"].append(reference_accuracy(reference, test, device))
    mean = {name: statistics.mean(values) for name, values in seconds.items()}
    reached = {name: f"{statistics.mean(values):.2%}" for name, values in accuracies.items()}
    return [
        Result(
            what=f"classifier to 99 % on full MNIST ({reached['ours']} on test, mean of {seeds})",
            ours=mean["ours"],
            reference=mean["reference"],
            unit="s",
            ratio=mean["reference"] / mean["ours"],
            wanted="25 s on 2 cores, 1 s on a GPU",
            against=f"PyTorch's MNIST example, {REFERENCE_PASSES} pass ({reached['reference']})",
        )
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    show(measure(parser.parse_args().seeds))
