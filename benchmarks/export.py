"""Export in all formats against the plain loop: one Pillow save per image and one zip, on the same images.

python benchmarks/export.py [--images 60000] [--workers 2] [--rounds 3] [--where FOLDER]
python benchmarks/export.py --stream 1000000             # bounded memory: generated, exported, peak of both
python benchmarks/export.py --stream 1000000 --kills 3   # killed at random moments, too: the same bytes

The first is the median of the rounds, written to memory (/dev/shm) where there is enough of it. On a disk, most of the
time goes to making 60 000 files, for which ext4 takes between 1 and 30 seconds, the latter where others were just
deleted; so there nothing is deleted before the end. In memory each round is: pages that were never used are slow.
"""

import argparse
import json
import math
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from pipeline.checkpoints import file_sha256
from pipeline.export.dataset import export_dataset
from pipeline.export.samples import select_samples
from pipeline.export.shards import FORMATS
from pipeline.export.source import open_images
from pipeline.images import LabeledImages
from pipeline.npz import write_npz

MEMORY = Path("/dev/shm")


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
        arrays = {
            "images": images.images,
            "labels": labels,
            "class_names": np.array(images.class_names),
            "provenance": np.array(json.dumps(provenance)),
        }
        write_npz(folder / "images.npz", arrays, compressed=False)  # as `synthgain generate` writes
        rounds: dict[str, list[float]] = {"ours": [], "plain": [], "bare": []}
        for number in range(repeats):
            place = folder / str(number)
            place.mkdir()
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
            if where == MEMORY:
                shutil.rmtree(place)
    ours, plain, bare = (statistics.median(rounds[name]) for name in ("ours", "plain", "bare"))
    print(f"{count} images, {len(FORMATS)} formats, {workers} workers: {ours:.2f} s")
    print(f"plain loop, PNG and one zip: {plain:.2f} s; {count} bare files, one process: {bare:.2f} s")
    ratios = ", ".join(f"{b / a:.1f}" for a, b in zip(rounds["ours"], rounds["plain"], strict=True))
    print(
        f"ratio: {plain / ours:.1f} times as fast; by round {ratios} (wanted: 5, with 2 workers on 2 free cores)"
    )


def untrained_generator(path: Path) -> Path:
    """A generator with the layers of params.yaml, saved there."""
    import torch

    from pipeline.gan.generators import save_generator
    from pipeline.gan.state import new_state
    from pipeline.params import load_params

    gan = load_params(Path(__file__).parents[1] / "params.yaml").gan
    names = tuple("0123456789")
    no_images = LabeledImages(np.zeros((0, 1, 28, 28), np.uint8), np.zeros(0, np.int64), names)
    generator = new_state(no_images, gan, seed=0, device=torch.device("cpu")).generator
    save_generator(path, generator, class_names=names, provenance={})
    return path


def stream(count: int, kills: int, where: Path | None) -> None:
    """Peak memory of generating and exporting `count` images; with `kills`, also killed and started again."""
    with tempfile.TemporaryDirectory(dir=where) as temporary:
        folder = Path(temporary)
        untrained_generator(folder / "generator")
        for name, arguments, out in (
            ("generate", ["--model", "generator", "--per-class", str(count // 10)], "images.npz"),
            ("export", ["images.npz", "--format", "idx,parquet,webdataset"], "data"),
        ):
            command = [
                sys.executable,
                "-c",
                "import synthgain.app; synthgain.app.main()",
                name,
                *arguments,
                "--out",
            ]
            start = time.perf_counter()
            peaks = finish([*command, out], folder)
            seconds = time.perf_counter() - start
            print(
                f"{name}: {seconds:.0f} s, peak MB of each process: {', '.join(map(str, peaks))}", flush=True
            )
            if not kills:
                continue
            killed = 0
            while killed < kills:
                moment = random.uniform(0.05, 0.7) * seconds
                if finish([*command, f"again_{out}"], folder, kill_after=moment):
                    break  # at its end before
                killed += 1
            else:
                finish([*command, f"again_{out}"], folder)
            same = digests(folder / out) == digests(folder / f"again_{out}")
            print(f"{name}, killed {killed} times: {'the same bytes' if same else 'OTHER BYTES'}", flush=True)


def finish(command: list[str], folder: Path, kill_after: float = math.inf) -> list[int]:
    """Run a command to its end; the peak of each of its processes in MB. Or kill it before: none."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    started = time.perf_counter()
    peaks: dict[int, int] = {}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    tree = psutil.Process(process.pid)
    while process.poll() is None:
        if time.perf_counter() - started > kill_after:
            process.kill()
            process.wait()
            return []
        with suppress(psutil.Error):
            for member in (tree, *tree.children(recursive=True)):
                peaks[member.pid] = max(peaks.get(member.pid, 0), member.memory_info().rss // 2**20)
        time.sleep(0.05)
    assert process.returncode == 0, command
    return sorted(peaks.values(), reverse=True)


def digests(path: Path) -> dict[str, str]:
    """The SHA-256 of a file, or of each file below a folder."""
    files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
    return {file.relative_to(path).as_posix(): file_sha256(file) for file in files}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--where", type=Path)
    parser.add_argument("--stream", type=int)
    parser.add_argument("--kills", type=int, default=0)
    options = parser.parse_args()
    if options.stream:
        stream(options.stream, options.kills, options.where)
    else:
        # A round takes half a gigabyte; a container may have 64 MB of it.
        roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 20_000 * options.images
        where = options.where or (MEMORY if roomy else None)
        ratio(options.images, options.workers, options.rounds, where)
        print(
            f"peak RSS with the images in memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB"
        )
