"""Electroluminescence images of solar cells as a folder of PNG files: the data of studies/solar_cells.yaml.

They are those of the package elpv-dataset (Deitsch et al. 2019, arXiv:1807.02894; images CC BY-NC-SA 4.0, so they are
not shipped here): 2624 grey cells, 300 × 300, which experts judged. Four classes, by the probability of a defect.

pip install --no-deps elpv-dataset && python studies/solar_cells.py OUT
"""

import argparse
from pathlib import Path

from elpv_dataset.utils import load_dataset
from PIL import Image

CLASSES = {0.0: "0 intact", 1 / 3: "1 perhaps intact", 2 / 3: "2 perhaps defective", 1.0: "3 defective"}


def write(out: Path) -> None:
    """Write `out`/<class>/<number>.png."""
    images, probabilities, _ = load_dataset()
    for number, (image, probability) in enumerate(zip(images, probabilities, strict=True)):
        nearest = min(CLASSES, key=lambda value: abs(value - probability))
        folder = out / CLASSES[nearest]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number:04}.png")
    print(f"{out}: {len(images)} images")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    write(parser.parse_args().out)
