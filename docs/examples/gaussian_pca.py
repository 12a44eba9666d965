"""A stand-in generator: for each class, a Gaussian along the principal components of its real images."""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

COMPONENTS = 20


def main() -> None:
    """Read `<real>/<class>/*.png`, write `<out>/<class>/<number>.png`: as many of each class as asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--real", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--per-class", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    for folder in sorted(path for path in options.real.iterdir() if path.is_dir()):
        real = np.stack([np.asarray(Image.open(file)) for file in sorted(folder.glob("*.png"))])
        flat = real.reshape(len(real), -1).astype(float)
        _, lengths, axes = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)
        spread = lengths[:COMPONENTS] / np.sqrt(max(1, len(real) - 1))  # standard deviation along each axis
        latents = rng.normal(size=(options.per_class, len(spread)))
        made = flat.mean(axis=0) + (latents * spread) @ axes[:COMPONENTS]
        pixels = np.clip(np.rint(made), 0, 255).astype(np.uint8).reshape(-1, *real.shape[1:])
        (options.out / folder.name).mkdir(parents=True)
        for number, image in enumerate(pixels):
            Image.fromarray(image).save(options.out / folder.name / f"{number:06}.png")
    print(f"{options.per_class} images of each class")


if __name__ == "__main__":
    main()
