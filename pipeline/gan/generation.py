"""Any number of labelled images from a generator into one file, in bounded memory, going on where it was killed."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipeline.errors import SynthGainError
from pipeline.gan.networks import Generator
from pipeline.gan.sampling import BLOCK, sample_images
from pipeline.npz import ArrayOnDisk, write_npz
from pipeline.runtime.device import Workers
from pipeline.runtime.outputs import only_writer, write_text
from pipeline.runtime.parallel import parallel_map
from pipeline.runtime.progress import Advance, counted, progress

# CLASS=NUMBER and a comma or the end. Twelve digits are more images than a disk holds.
_PART = re.compile(r"(.*?)=\s*(\d{1,12})\s*(?=,|$)", re.DOTALL)
# Of images that are made at a time, on one machine; so many are noted down when they are on disk for good.
_PART_BYTES = 4 * 2**20


def parse_counts(text: str, class_names: Sequence[str]) -> list[int]:
    """Images of each class from `3=500,8=2000`; a class is called by its name.

    Where no class has a number for its name, its label (0 for the first) is understood too. Where one has, a number
    is a name and nothing else: class `3` is never taken for the class of label 3.

    Raises:
        SynthGainError: for an unknown class, a class that stands twice, or a count that is no positive number.
    """
    counts = [0] * len(class_names)
    by_label = not any(_is_number(name) for name in class_names)
    for name, number in _parts(text):
        if name in class_names:
            label = list(class_names).index(name)
        elif by_label and _is_number(name) and int(name) < len(class_names):
            label = int(name)
        else:
            known = ", ".join(class_names[:20]) + (", …" if len(class_names) > 20 else "")
            rule = (
                ""
                if by_label or not _is_number(name)
                else "; where names are numbers, a class is called by its name"
            )
            raise SynthGainError(f"--counts: unknown class {name!r}; this generator knows {known}{rule}")
        if counts[label]:
            raise SynthGainError(f"--counts: class {class_names[label]} stands there twice; once is allowed")
        counts[label] = number
    return counts


def _parts(text: str) -> Iterator[tuple[str, int]]:
    """The name and the number of each part; a name may hold commas and equals signs."""
    place = 0
    while place <= len(text):
        found = _PART.match(text, place)
        if found is None or int(found[2]) < 1:
            wrong = text[place:].partition(",")[0].strip()
            raise SynthGainError(
                f"--counts: found {wrong!r}; CLASS=NUMBER is needed, as in 3=500,8=2000, numbers from 1"
            )
        yield found[1].strip(), int(found[2])
        place = found.end() + 1  # beyond the comma


def _is_number(name: str) -> bool:
    return re.fullmatch(r"[+-]?\d{1,18}(\.\d*)?", name.strip()) is not None


def counts_text(counts: Sequence[int], class_names: Sequence[str]) -> str:
    """`30 synthetic images (a: 10, b: 20)`: what was made of which class, so that a mistaken class is seen."""
    made = [(name, count) for name, count in zip(class_names, counts, strict=True) if count]
    shown = ", ".join(f"{name}: {count}" for name, count in made[:20]) + (", …" if len(made) > 20 else "")
    return f"{counted(sum(counts), 'synthetic image')} ({shown})"


def generate_file(
    generator: Generator,
    out: Path,
    *,
    class_names: tuple[str, ...],
    counts: Sequence[int],
    seed: int,
    provenance: Mapping[str, Any],
    device: torch.device,
) -> None:
    """Write `counts[label]` images of each class, class after class: an `.npz` that `LabeledImages.load` reads.

    Pixels are not compressed, so that a reader can take any rows. The same arguments give the same bytes, and
    image i of a class is the same in every file of the same generator and seed. Killed in between, the same
    call goes on after the last images that are known to be on disk (in `.<name>.partial` beside the file).

    Raises:
        SynthGainError: if there is nothing to generate, another process is writing `out`, or the disk is full; `out`
            is as it was before.
    """
    total = sum(counts)
    if min(counts) < 0 or total < 1:
        raise SynthGainError(
            f"counts: found {list(counts)}; at least one image is needed, and no negative count"
        )
    made = provenance_of(generator, provenance, counts=counts, seed=seed)
    work = out.absolute().parent / f".{out.name}.partial"
    plan = json.dumps({**made, "class_names": class_names, "torch": torch.__version__}, sort_keys=True)
    with only_writer(out):  # of the unfinished work too
        try:
            pixels = _generate(generator, work, plan, counts, seed, device)
            shape = (total, *generator.image_shape)
            arrays: dict[str, ArrayOnDisk | npt.NDArray[Any]] = {
                "images": ArrayOnDisk(pixels, shape),
                "labels": np.repeat(np.arange(len(counts), dtype=np.int64), counts),
                "class_names": np.array(class_names, dtype=np.str_),
                "provenance": np.array(json.dumps(made, sort_keys=True), dtype=np.str_),
            }
            write_npz(out, arrays, compressed=False)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise  # the images that are there stay: a machine of a cluster may have lost its folder
            shutil.rmtree(work, ignore_errors=True)
            needed = total * math.prod(generator.image_shape)
            raise SynthGainError(
                f"{out}: the disk is full; {total} images need twice {needed:,} bytes"
                " while they are written. Make room or name another --out. Nothing was changed"
            ) from None
        shutil.rmtree(work)


def provenance_of(
    generator: Generator, provenance: Mapping[str, Any], *, counts: Sequence[int], seed: int
) -> dict[str, Any]:
    """What generated images say of where they come from (JSON values); `provenance` is their generator's."""
    return {
        **provenance,
        "kind": "synthetic",
        "seed": seed,
        "z_dim": generator.z_dim,
        "counts": list(counts),
        **({"latents": generator.latents} if generator.latents != "normal" else {}),
    }


def _images_on_disk(notes: Path, pixels: Path, *, size: int) -> int:
    """How many images of `size` bytes a killed run has left; 0 where note and pixels do not agree."""
    try:
        noted = int(notes.read_text())
        return noted if 0 < noted * size <= pixels.stat().st_size else 0
    except (FileNotFoundError, ValueError):
        return 0


def _generate(
    generator: Generator, work: Path, plan: str, counts: Sequence[int], seed: int, device: torch.device
) -> Path:
    """The file with the pixels of all images, one after another."""
    pixels, notes, plan_file = work / "pixels", work / "images_on_disk", work / "plan.json"
    if not plan_file.is_file() or plan_file.read_text() != plan:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        write_text(plan_file, plan)
    size = math.prod(generator.image_shape)
    done = _images_on_disk(notes, pixels, size=size)
    if 0 < done < sum(counts):
        print(f"{done} of {sum(counts)} images are there already; going on with the others", file=sys.stderr)
    make = partial(_images_of, generator=generator, seed=seed, device=device)
    part_images = max(1, _PART_BYTES // (BLOCK * size)) * BLOCK
    workers = Workers(processes=1, threads=torch.get_num_threads(), device=device)
    with (
        pixels.open("r+b" if done else "wb") as file,
        progress("generating", sum(counts), "images") as advance,
    ):
        file.truncate(done * size)
        file.seek(0, os.SEEK_END)
        advance(done)
        noted, parts = done, _parts_of(counts, done, part_images)
        for part, images in parallel_map(make, parts, workers=workers, advance=advance):
            file.write(images.data)
            done += part.count
            if done - noted >= part_images:
                file.flush()
                os.fsync(file.fileno())
                write_text(notes, str(done))
                noted = done
    return pixels


@dataclass(frozen=True)
class _ImagesOfClass:
    """Images `start` to `start + count` of a class."""

    label: int
    start: int
    count: int


def _parts_of(counts: Sequence[int], done: int, part_images: int) -> Iterator[_ImagesOfClass]:
    """All images after the first `done`, which is the end of a block of some class, or of a class."""
    position = 0
    for label, count in enumerate(counts):
        for start in range(max(0, min(done - position, count)), count, part_images):
            yield _ImagesOfClass(label, start, min(part_images, count - start))
        position += count


def _images_of(
    part: _ImagesOfClass, advance: Advance, *, generator: Generator, seed: int, device: torch.device
) -> npt.NDArray[np.uint8]:
    """(count, C, H, W)."""
    images = sample_images(
        generator, seed=seed, label=part.label, start=part.start, count=part.count, device=device
    )
    advance(part.count)
    return images
