"""How good a classifier the GAN's images train after five minutes, against the standard conditional DCGAN after sixty.

Both are trained on the whole train split, ours as in studies/quality.yaml. The minutes are turned into images shown by
rates that are taken in turns at the beginning: whatever else the machine does afterwards changes neither's share. The
score is CAS: the validation accuracy of the study's classifier after training on 55 000 synthetic images alone. No test
image has a part in it. Needs data/prepared (`dvc repro prepare`) and an hour.

python benchmarks/five_minutes.py [--minutes 5] [--reference-minutes 60]
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from gan_training import CLASSES, Z_DIM, reference_networks, reference_steps

from pipeline.classifier.network import predict
from pipeline.classifier.training import Recipe, train_classifier
from pipeline.gan.networks import uint8_from_images
from pipeline.gan.sampling import synthetic_images
from pipeline.gan.training import train_gan
from pipeline.images import LabeledImages
from pipeline.params import overlay_params
from pipeline.progress import progress
from pipeline.runtime import configure, training_dtype

ROOT = Path(__file__).parents[1]
IMAGES_PER_CLASS = 5500
_TURNS, _STEPS = 3, 100
# Where in its training the reference is looked at.
_LOOKS = (1 / 12, 1 / 3, 1)


def quiet(units, note=""):
    """Report to nobody."""


class Reference:
    """The standard conditional DCGAN in training."""

    def __init__(self, train, batch_size):
        torch.manual_seed(0)
        self.networks = reference_networks()
        self.generator = self.networks[0]
        self.images, self.labels = torch.from_numpy(train.images), torch.from_numpy(train.labels)
        self.batch_size = batch_size

    def train(self, steps):
        """Go on for some steps."""
        reference_steps(
            self.images, self.labels, steps=steps, batch_size=self.batch_size, networks=self.networks
        )

    @torch.no_grad()
    def sample(self, class_names, *, with_running_statistics):
        """As many images of each class."""
        self.generator.train(not with_running_statistics)
        generator = torch.Generator().manual_seed(1)
        labels = torch.arange(CLASSES).repeat(IMAGES_PER_CLASS)
        images = [
            uint8_from_images(self.generator(torch.randn(len(part), Z_DIM, generator=generator), part))
            for part in labels.split(500)
        ]
        self.generator.train()
        return LabeledImages(torch.cat(images).numpy(), labels.numpy(), class_names, {"kind": "synthetic"})


def main(minutes, reference_minutes):
    """Print a line for each."""
    params = overlay_params(ROOT / "params.yaml", ROOT / "studies/quality.yaml")
    device = configure(params.execution)
    dtype = training_dtype(params.execution, device)
    train, validation = (
        LabeledImages.load(ROOT / f"data/prepared/{name}.npz") for name in ("train", "validation")
    )
    batch_size = params.gan.batch_size

    def train_ours(images, advance, **changes):
        gan = params.gan.model_copy(update={"total_images": images, **changes})
        return train_gan(train, gan, seed=0, device=device, dtype=dtype, label="ours", advance=advance)

    def rate(work):
        start = time.perf_counter()
        work()
        return _STEPS * batch_size / (time.perf_counter() - start)

    def score(images):
        settings = params.classifier
        network = train_classifier(
            Recipe(images, seed=0), settings, device=device, dtype=dtype, advance=quiet
        )
        return (predict(network, validation.images, device) == validation.labels).mean()

    warm = Reference(train, batch_size)
    warm.train(4)
    rates = np.median(
        [
            (
                rate(lambda: train_ours(_STEPS * batch_size, quiet, history_points=1)),
                rate(lambda: warm.train(_STEPS)),
            )
            for _ in range(_TURNS)
        ],
        axis=0,
    )
    shown = [int(rates[0] * minutes * 60), int(rates[1] * reference_minutes * 60)]
    print(f"ours {rates[0]:,.0f} images/s, reference {rates[1]:,.0f} images/s", flush=True)

    with progress("ours", shown[0], "images") as advance:
        trained = train_ours(shown[0], advance)
    images = synthetic_images(
        trained.generator.to(device),
        class_names=train.class_names,
        images_per_class=IMAGES_PER_CLASS,
        seed=0,
        provenance={},
        device=device,
        advance=quiet,
    )
    print(f"ours, {minutes:g} minutes ({shown[0]:,} images): CAS {score(images):.2%}", flush=True)

    reference, done = Reference(train, batch_size), 0
    with progress("reference", shown[1], "images") as advance:
        for look in _LOOKS:
            while done < look * shown[1]:
                reference.train(10)
                done += 10 * batch_size
                advance(10 * batch_size)
            # A network with batch norm can be sampled in two ways, and the better one shall count.
            scores = [
                score(reference.sample(train.class_names, with_running_statistics=each))
                for each in (True, False)
            ]
            print(
                f"reference, {look * reference_minutes:g} minutes ({done:,} images): CAS {max(scores):.2%}"
                f" (running statistics {scores[0]:.2%}, those of the batch {scores[1]:.2%})",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--reference-minutes", type=float, default=60)
    options = parser.parse_args()
    main(options.minutes, options.reference_minutes)
