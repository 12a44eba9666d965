"""Colour digits over photographs, 32 × 32 RGB, as a folder of PNG files: the data of studies/colour_digits.yaml.

The recipe of MNIST-M (Ganin et al. 2016, arXiv:1505.07818): |digit − patch| for each colour channel, with a random
patch of a photograph; here of the two that scikit-learn has. Patches of train and test come from different seeds. The
digits are MNIST's where a prepared workspace has them, else the small ones that scikit-learn has: nothing is fetched.

python studies/colour_digits.py OUT [--prepared data/prepared]
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from pipeline.images import LabeledImages, concatenate
from pipeline.sources import digits

SIDE = 32
SEEDS = {"train": 0, "test": 1}


def grey_digits(prepared: Path) -> dict[str, LabeledImages]:
    """The digits of each split, with a black border up to 32 pixels; validation counts as train."""
    if (prepared / "train.npz").is_file():
        parts = {
            name: LabeledImages.load(prepared / f"{name}.npz") for name in ("train", "validation", "test")
        }
        splits = {"train": concatenate([parts["train"], parts["validation"]], {}), "test": parts["test"]}
    else:
        with tempfile.TemporaryDirectory() as raw:
            digits.write_raw(Path(raw))
            train, test = digits.load(Path(raw), image_size=28)
        splits = {"train": train, "test": test}
    return splits


def over_photographs(grey: LabeledImages, seed: int) -> np.ndarray:
    """(N, 32, 32, 3) uint8: each digit (N, 1, 28, 28) as the difference to a patch of a photograph."""
    rng = np.random.default_rng(seed)
    photographs = np.stack(load_sample_images().images).astype(np.int16)  # (2, 427, 640, 3)
    count, (_, height, width, _) = len(grey), photographs.shape
    border = (SIDE - grey.images.shape[-1]) // 2
    digit = np.pad(grey.images[:, 0], ((0, 0), (border, border), (border, border))).astype(np.int16)
    places = zip(
        rng.integers(0, len(photographs), count),
        rng.integers(0, height - SIDE + 1, count),
        rng.integers(0, width - SIDE + 1, count),
        strict=True,
    )
    patches = np.stack([photographs[which, y : y + SIDE, x : x + SIDE] for which, y, x in places])
    return np.abs(digit[..., None] - patches).astype(np.uint8)


def write(out: Path, prepared: Path) -> None:
    """Write `out`/train/<digit>/<number>.png and the same of test."""
    for split, grey in grey_digits(prepared).items():
        colour = over_photographs(grey, SEEDS[split])
        for name in grey.class_names:
            (out / split / name).mkdir(parents=True)
        for number, (image, label) in enumerate(zip(colour, grey.labels, strict=True)):
            Image.fromarray(image).save(out / split / grey.class_names[label] / f"{number:05}.png")
        print(f"{out / split}: {len(grey)} images", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--prepared", type=Path, default=Path("data/prepared"))
    arguments = parser.parse_args()
    write(arguments.out, arguments.prepared)
