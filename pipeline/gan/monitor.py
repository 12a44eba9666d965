"""Quick measurements of a generator while it trains: the film strip, two numbers, and whether it has failed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.errors import SynthGainError
from pipeline.gan.networks import Generator, images_from_uint8, uint8_from_images
from pipeline.gan.sampling import sample_z
from pipeline.images import LabeledImages, stratified_indices
from pipeline.params import Gan
from pipeline.runtime.seeds import derive_seed

FILM_STRIP_IMAGES_PER_CLASS = 2
_IMAGES_PER_CLASS = 20
_REAL_IMAGES = 2000
# A generator has collapsed if a class varies less than this share of what real images of it do, or if labels are
# hardly better than chance: less than this share of the way from chance to what real images themselves score. Healthy
# trainings pass both within their first tenth.
_DIVERSITY_FLOOR = 0.2
_FIDELITY_FLOOR = 0.1
# Real images that score nearer to chance than so many standard errors of a generator's score say nothing of its labels.
_STANDARD_ERRORS = 3.0


class CollapsedTraining(SynthGainError):
    """A training that is given up: its generator has collapsed, or its losses are no longer finite.

    Attributes:
        label: the training's name.
        reason: what was seen.
        advice: how to do better, and where the last good state is.
    """

    def __init__(self, label: str, reason: str, advice: str) -> None:
        super().__init__(label, reason, advice)  # all of them, so that it can be pickled
        self.label, self.reason, self.advice = label, reason, advice

    def __str__(self) -> str:
        return f"{self.label}: {self.reason}; {self.advice}"


class Monitor:
    """Compares samples of a generator with real training images: 2000 in the shares of their classes, at most.

    Attributes:
        real_fidelity: what those real images score themselves where a generator has its `label_fidelity_1nn`: the share
            whose nearest other one is of the same class, as the mean over the classes. On hard data it is near chance.
        fidelity_floor: below it, labels are hardly better than chance; 0 where real images are not either, or where the
            GAN has no labels.
    """

    def __init__(
        self, real: LabeledImages, *, has_labels: bool = True, seed: int, device: torch.device
    ) -> None:
        self.seed, self.device = derive_seed(seed, "fidelity"), device
        # Without labels all images are of one class: nothing is requested that could be seen.
        self.has_labels = has_labels
        self.num_classes = real.num_classes if has_labels else 1
        # Not the first ones: those of a folder of images are all of one class.
        chosen = stratified_indices(
            real.labels,
            min(_REAL_IMAGES, len(real)),
            real.num_classes,
            np.random.default_rng(derive_seed(seed, "reference")),
        )
        self.reference = images_from_uint8(torch.from_numpy(real.images[chosen])).to(device).flatten(1)
        self.labels = self._known(torch.from_numpy(real.labels[chosen]).to(device))
        self.real_spread = self._spread(self.reference, self.labels)
        self.real_fidelity = self._real_fidelity()
        chance = 1 / self.num_classes
        above = self.real_fidelity - chance
        error = math.sqrt(chance * (1 - chance) / (self.num_classes * _IMAGES_PER_CLASS))
        self.fidelity_floor = chance + _FIDELITY_FLOOR * above if above > _STANDARD_ERRORS * error else 0.0

    @torch.no_grad()
    def measure(self, generator: Generator) -> dict[str, float]:
        """Two numbers from a few averaged-generator samples of each class.

        label_fidelity_1nn: the share of samples whose nearest real training image, in pixel space, has the requested
        label; biased by the errors of 1-nearest-neighbour. A GAN without labels has none.
        diversity: the mean distance of a class's samples from their mean image, as a share of the same distance of
        real images; the smallest of all classes. 1 = as varied as real images, 0 = one image for all. Without
        labels all samples count as one class.
        """
        images, labels = sample_each_class(
            generator, per_class=_IMAGES_PER_CLASS, seed=self.seed, device=self.device
        )
        pixels = images.flatten(1)
        spread = self._spread(pixels, self._known(labels)) / self.real_spread
        diversity = float(spread[spread.isfinite()].min()) if spread.isfinite().any() else 1.0
        if not self.has_labels:
            return {"diversity": diversity}
        nearest = torch.cdist(pixels, self.reference).argmin(dim=1)
        return {
            "label_fidelity_1nn": float((self.labels[nearest] == labels).float().mean()),
            "diversity": diversity,
        }

    def _real_fidelity(self) -> float:
        distances = torch.cdist(self.reference, self.reference).fill_diagonal_(math.inf)
        right = (self.labels[distances.argmin(dim=1)] == self.labels).float()
        return float(
            torch.stack([right[self.labels == label].mean() for label in range(self.num_classes)]).mean()
        )

    def _known(self, labels: Tensor) -> Tensor:
        """The labels that the GAN knows of: these, or one for all."""
        return labels if self.has_labels else torch.zeros_like(labels)

    def _spread(self, pixels: Tensor, labels: Tensor) -> Tensor:
        """(num_classes,) mean distance of a class's images from their mean image."""
        spread = []
        for label in range(self.num_classes):
            own = pixels[labels == label]
            spread.append((own - own.mean(0)).norm(dim=1).mean())
        return torch.stack(spread)


def refuse_collapse(
    history: Sequence[dict[str, float]], gan: Gan, *, fidelity_floor: float, label: str, kept: Path | None
) -> None:
    """Stop a training whose generator has been collapsed for `gan.collapse_patience_images` (0: never).

    They are counted in images shown, so that more evaluation points or a shorter training change nothing, and
    from the last evaluation point at which the generator was well; the warm-up of the learning rates is left out.

    Args:
        history: its rows so far.
        gan: the training's section of the parameters.
        fidelity_floor: of the `Monitor` of its images.
        label: its name.
        kept: where its last state before this evaluation point may be.

    Raises:
        CollapsedTraining: with advice, and where that state is.
    """
    last = history[-1]
    # A generator that has never been good may still be learning: it has half of the training for that.
    is_learning = last["images_seen"] * 2 <= gan.total_images
    if not gan.collapse_patience_images or is_learning or not _has_collapsed(last, fidelity_floor):
        return
    warm = gan.warmup_steps * gan.batch_size * gan.discriminator_steps
    since = max([warm, *(row["images_seen"] for row in history if not _has_collapsed(row, fidelity_floor))])
    images = last["images_seen"] - since
    if images >= gan.collapse_patience_images:
        where = f"; the last state before it is kept in {kept}" if kept and kept.exists() else ""
        raise CollapsedTraining(
            label,
            f"the generator has collapsed (diversity {last['diversity']:.2f} of the real images', label"
            f" fidelity {last['label_fidelity_1nn']:.0%}, for {images} images)",
            "lower the learning rates, raise gan.penalty_weight or gan.augment_probability, or set"
            f" gan.collapse_patience_images to 0 to train on all the same{where}",
        )


def _has_collapsed(row: dict[str, float], fidelity_floor: float) -> bool:
    return row["diversity"] < _DIVERSITY_FLOOR or row["label_fidelity_1nn"] < fidelity_floor


def refuse_divergence(row: dict[str, float], gan: Gan, *, label: str, kept: Path | None) -> None:
    """Stop a training whose means since the last evaluation point are not all finite.

    Args:
        row: `step` and the means.
        gan: the training's section of the parameters.
        label: its name.
        kept: where its last good state may be.

    Raises:
        CollapsedTraining: with advice, and where that state is.
    """
    if all(map(math.isfinite, row.values())):
        return
    where = f"; the last good state is kept in {kept}" if kept and kept.exists() else ""
    raise CollapsedTraining(
        label,
        f"the training diverged by step {row['step']} (D loss {row['d_loss']}, G loss {row['g_loss']})",
        f"lower gan.generator_learning_rate (now {gan.generator_learning_rate}) and"
        f" gan.discriminator_learning_rate (now {gan.discriminator_learning_rate}), or raise"
        f" gan.penalty_weight (now {gan.penalty_weight}){where}",
    )


@torch.no_grad()
def sample_each_class(
    generator: Generator, *, per_class: int, seed: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Images (num_classes · per_class, C, H, W) in −1..1 from fixed latents, and their labels."""
    z = np.concatenate(
        [
            sample_z(seed, label, 0, per_class, generator.z_dim, generator.latents)
            for label in range(generator.num_classes)
        ]
    )
    labels = torch.arange(generator.num_classes, device=device).repeat_interleave(per_class)
    return generator(torch.from_numpy(z).to(device), labels), labels


def film_frame(generator: Generator, *, seed: int, device: torch.device) -> npt.NDArray[np.uint8]:
    """The same latents of every class, (num_classes · FILM_STRIP_IMAGES_PER_CLASS, C, H, W) uint8."""
    images, _ = sample_each_class(
        generator, per_class=FILM_STRIP_IMAGES_PER_CLASS, seed=derive_seed(seed, "film"), device=device
    )
    return uint8_from_images(images).cpu().numpy()
