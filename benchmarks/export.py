"""Export in all formats against the plain loop: one Pillow save per image and one zip, on the same images.

python benchmarks/export.py [--images 60000] [--workers 2] [--rounds 3] [--where FOLDER]
python benchmarks/export.py --stream 1000000    # bounded memory: generated, exported, peak RSS of both

Written to memory (/dev/shm) where there is such a thing, and the median of the rounds: on a disk, most of the time
goes to making 60 000 files, for which ext4 takes between 1 and 30 seconds, the latter where others were just deleted.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.export.dataset import export_dataset
from pipeline.export.samples import select_samples
from pipeline.export.shards import FORMATS
from pipeline.export.source import open_images
from pipeline.images import LabeledImages


def strokes(count: int, rng: np.random.Generator) -> np.ndarray:
    """Images (count, 1, 28, 28) that compress about as MNIST does: soft blobs on black."""
    y, x = np.mgrid[0:28, 0:28].astype(np.float32)
    images = np.zeros((count, 28, 28), np.float32)
    for _ in range(6):
        cy, cx = rng.uniform(6, 22, (2, count, 1, 1)).astype(np.float32)
        images += 300 * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 3)
    images[images < 20] = 0
    return images.clip(0, 255).astype(np.uint8)[:, None]


def plain_loop(images: LabeledImages, folder: Path) -> None:
    """What one would write first."""
    folder.mkdir()
    for name in images.class_names:
        (folder / name).mkdir()
    with zipfile.ZipFile(folder / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number, (image, label) in enumerate(
            zip(images.images[:, 0], images.labels.tolist(), strict=True)
        ):
            path = folder / images.class_names[label] / f"{number}.png"
            Image.fromarray(image).save(path)
            archive.write(path, f"{label}/{number}.png")


def bare_files(folder: Path, count: int, content: bytes) -> None:
    """What no export of single files can do without: one open, one write, one close for each."""
    for label in range(10):
        (folder / str(label)).mkdir(parents=True)
        for number in range(count // 10):
            file = os.open(f"{folder}/{label}/{number}.png", os.O_WRONLY | os.O_CREAT, 0o666)
            os.write(file, content)
            os.close(file)


def ratio(count: int, workers: int, repeats: int, where: Path | None) -> None:
    # Not at the top: a worker imports this file again, and torch with it.
    from pipeline.gan.sampling import latent_hashes

    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(10, dtype=np.int64), count // 10)
    provenance = {"kind": "synthetic", "seed": 1, "z_dim": 64, "generator_sha256": "0" * 64}
    images = LabeledImages(
        np.concatenate([strokes(count // 10, rng) for _ in range(10)]),
        labels,
        tuple("0123456789"),
        provenance,
    )
    with tempfile.TemporaryDirectory(dir=where) as temporary:
        folder = Path(temporary)
        np.savez(  # not compressed, as `synthgain generate` writes
            folder / "images.npz",
            images=images.images,
            labels=labels,
            class_names=np.array(images.class_names),
            provenance=np.array(json.dumps(provenance)),
        )
        rounds: dict[str, list[float]] = {"ours": [], "plain": [], "bare": []}
        for _ in range(repeats):
            with tempfile.TemporaryDirectory(dir=folder) as round_folder:
                place = Path(round_folder)
                start = time.perf_counter()
                samples = select_samples(
                    open_images(folder / "images.npz"), latent_hashes=latent_hashes(provenance)
                )
                export_dataset(samples, place / "out", formats=FORMATS, source="mnist", workers=workers)
                rounds["ours"].append(time.perf_counter() - start)
                start = time.perf_counter()
                plain_loop(images, place / "plain")
                rounds["plain"].append(time.perf_counter() - start)
                start = time.perf_counter()
                bare_files(place / "bare", count, bytes(250))
                rounds["bare"].append(time.perf_counter() - start)
    ours, plain, bare = (statistics.median(rounds[name]) for name in ("ours", "plain", "bare"))
    print(f"{count} images, {len(FORMATS)} formats, {workers} workers: {ours:.2f} s")
    print(f"plain loop, PNG and one zip: {plain:.2f} s; {count} bare files, one process: {bare:.2f} s")
    each = ", ".join(f"{b / a:.1f}" for a, b in zip(rounds["ours"], rounds["plain"], strict=True))
    print(
        f"ratio: {plain / ours:.1f} times as fast; by round {each} (wanted: 5, with 2 workers on 2 free cores)"
    )


def stream(count: int) -> None:
    """Peak resident memory of generating and exporting `count` images, each in a process of its own."""
    import torch

    from pipeline.gan.generators import save_generator
    from pipeline.gan.state import new_state
    from pipeline.params import load_params

    gan = load_params(Path(__file__).parents[1] / "params.yaml").gan
    no_images = LabeledImages(np.zeros((0, 1, 28, 28), np.uint8), np.zeros(0, np.int64), tuple("0123456789"))
    generator = new_state(no_images, gan, seed=0, device=torch.device("cpu")).generator
    with tempfile.TemporaryDirectory() as temporary:
        model, images, out = (
            f"{temporary}/{name}" for name in ("generator.safetensors", "images.npz", "out")
        )
        save_generator(Path(model), generator, class_names=tuple("0123456789"), provenance={})
        for arguments in (
            ["generate", "--model", model, "--per-class", str(count // 10), "--out", images],
            ["export", images, "--format", "idx,parquet,webdataset", "--out", out],
        ):
            code = (
                "import resource as r, stages.cli\ntry: stages.cli.main()\nfinally: print('peak MB, own and workers',"
                " *(r.getrusage(who).ru_maxrss // 1024 for who in (r.RUSAGE_SELF, r.RUSAGE_CHILDREN)))"
            )
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code, *arguments], check=True)
            print(f"{arguments[0]}: {time.perf_counter() - start:.0f} s\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    memory = Path("/dev/shm")
    parser.add_argument("--where", type=Path, default=memory if memory.is_dir() else None)
    parser.add_argument("--stream", type=int)
    options = parser.parse_args()
    if options.stream:
        stream(options.stream)
    else:
        ratio(options.images, options.workers, options.rounds, options.where)
        print(
            f"peak RSS with the images in memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB"
        )
