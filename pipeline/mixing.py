"""Put real and synthetic images together."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from pipeline.errors import SynthGainError
from pipeline.images import LabeledImages, concatenate


def mix(
    real: LabeledImages, synthetic: LabeledImages, synthetic_per_real: float, rng: np.random.Generator
) -> LabeledImages:
    """All real images and, per class, `synthetic_per_real` synthetic ones for each of them.

    Raises:
        SynthGainError: if the generator was not trained on exactly these real images, or there are too few
            synthetic ones.
    """
    return concatenate(
        [real, take_per_class(real, synthetic, synthetic_per_real, rng)],
        {**real.provenance, "synthetic_per_real": synthetic_per_real},
    )


def take_per_class(
    real: LabeledImages, synthetic: LabeledImages, synthetic_per_real: float, rng: np.random.Generator
) -> LabeledImages:
    """`synthetic_per_real` synthetic images per real one, class by class, drawn without replacement.

    Counts are rounded to the nearest whole image per class.

    Raises:
        SynthGainError: as `mix`.
    """
    wanted_hash, found_hash = (images.provenance.get("real_subset_sha256") for images in (real, synthetic))
    if wanted_hash is None or wanted_hash != found_hash:
        raise SynthGainError(
            f"the synthetic images come from a generator trained on other real images (subset {found_hash})"
            f" than the ones they would be mixed with (subset {wanted_hash}); run `dvc repro` to make them again"
        )
    if real.class_names != synthetic.class_names:
        raise SynthGainError(f"classes differ: real {real.class_names}, synthetic {synthetic.class_names}")
    wanted = images_wanted(real, synthetic_per_real)
    _require_enough(synthetic, wanted, f"study.synthetic_per_real {synthetic_per_real}")
    chosen = [
        rng.choice(np.flatnonzero(synthetic.labels == label), size=count, replace=False)
        for label, count in enumerate(wanted)
    ]
    return synthetic.subset(np.concatenate(chosen).astype(np.int64))


def _require_enough(synthetic: LabeledImages, wanted: npt.NDArray[np.int64], what: str) -> None:
    """Refuse to draw more images of a class than there are, and say what to raise."""
    available = synthetic.counts()
    if not (wanted > available).any():
        return
    label = int(np.argmax(wanted - available))
    name, found, needed = synthetic.class_names[label], int(available[label]), int(wanted[label])
    label_filter = synthetic.provenance.get("label_filter")
    if label_filter is None:
        raise SynthGainError(
            f"generation.images_per_class: class {name} has {found} synthetic images; {what} needs {needed}"
        )
    judged = int(label_filter["judged"][label])
    # As many as would do at this rate of acceptance, and a tenth more: the rate of other images is another.
    raised = f"to about {math.ceil(1.1 * needed * judged / found)} " if found else ""
    raise SynthGainError(
        f"study.label_filter: found {label_filter['least_probability']}, which accepts {found} of the {judged}"
        f" synthetic images of class {name}; {what} needs {needed}: raise generation.images_per_class {raised}or"
        " gan.total_images, or lower study.label_filter"
    )


def repeated(real: LabeledImages, times: float) -> LabeledImages:
    """Each class of the real images over and over, in their order, up to `times` its size."""
    wanted = images_wanted(real, times)
    chosen = [
        np.resize(np.flatnonzero(real.labels == label), count) for label, count in enumerate(wanted.tolist())
    ]
    return real.subset(np.concatenate(chosen).astype(np.int64))


def images_wanted(real: LabeledImages, per_real: float) -> npt.NDArray[np.int64]:
    """(num_classes,) int64: `per_real` images for each real one, rounded to the nearest whole image per class."""
    wanted: npt.NDArray[np.int64] = np.rint(real.counts() * per_real).astype(np.int64)
    return wanted
