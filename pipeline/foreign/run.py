"""One run of somebody else's program: the real subset for it to read, and the images that it wrote."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.class_folders import class_folders
from pipeline.foreign.program import run_program
from pipeline.foreign.reading import Pixels, Wanted, read_images
from pipeline.images import LabeledImages
from pipeline.npz import write_npz

CLASSES = "classes.txt"


def generated_images(
    real: LabeledImages,
    wanted: Wanted,
    command: str,
    *,
    seed: int,
    seconds: float,
    scratch: Path,
    log: Path,
) -> Pixels:
    """Run the program on a real subset, and read what it wrote.

    Args:
        real: the replicate's real images, the only ones that the program is shown.
        wanted: what it is to write.
        command: its command line, with `PLACEHOLDERS` of `pipeline/params.py` in braces.
        seed: for `{seed}`.
        seconds: its time limit.
        scratch: the folder for what it reads and writes; both are removed at the end.
        log: gets its output.

    Returns:
        As `read_images`.

    Raises:
        ProgramFailed, WrongImages: as `run_program` and `read_images`.
    """
    places = {"real": scratch / "real", "real_npz": scratch / "real.npz", "out": scratch / "out"}
    values = {
        **{name: str(path.absolute()) for name, path in places.items()},
        "n": str(wanted.per_class),
        "seed": str(seed),
    }
    try:
        _clear(scratch)
        places["out"].mkdir(parents=True)
        if "{real}" in command:
            _write_tree(real, places["real"])
        if "{real_npz}" in command:
            write_npz(
                places["real_npz"],
                {
                    "images": real.images,
                    "labels": real.labels,
                    "class_names": np.array(real.class_names, dtype=np.str_),
                },
            )
        run_program(
            filled(command, values),
            out=places["out"],
            log=log,
            seconds=seconds,
            most_bytes=wanted.most_bytes,
        )
        return read_images(places["out"], wanted)
    finally:
        _clear(scratch)


def filled(command: str, values: dict[str, str]) -> list[str]:
    """The arguments of a command line, with values in the place of `{name}`; a value is never split."""
    arguments = shlex.split(command)
    for name, value in values.items():
        arguments = [argument.replace(f"{{{name}}}", value) for argument in arguments]
    return arguments


def _clear(scratch: Path) -> None:
    """Remove what a run reads and writes, also that of a killed one."""
    for name in ("real", "out"):
        shutil.rmtree(scratch / name, ignore_errors=True)
    (scratch / "real.npz").unlink(missing_ok=True)


def _write_tree(real: LabeledImages, folder: Path) -> None:
    """A folder for each class with PNG files, 8-bit grey or RGB, and the class names in label order."""
    names = class_folders(real.class_names)
    for name in names:
        (folder / name).mkdir(parents=True)
    (folder / CLASSES).write_text("".join(f"{name}\n" for name in real.class_names), encoding="utf-8")
    for place, (image, label) in enumerate(zip(real.images, real.labels.tolist(), strict=True)):
        pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
        Image.fromarray(np.ascontiguousarray(pixels)).save(folder / names[label] / f"{place:06}.png")
