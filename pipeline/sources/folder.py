"""A team's own images: one folder per class, or IDX files with MNIST's names, packed into one file.

The rules (what is accepted, how it is converted) are stated in docs/own-data.md.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pipeline.errors import SynthGainError
from pipeline.images import LabeledImages, index_sha256, stratified_indices
from pipeline.redaction import without_control_characters
from pipeline.runtime.progress import counted, progress
from pipeline.sources.convert import EXTENSIONS, Pixels, UnusableImage, check_size, read_image, to_square
from pipeline.sources.idx import read_idx

Channels = Literal["auto", "grey", "colour"]

RAW_FILE = "folder.npz"
SHAPE_OF_FOLDER = (
    "put one folder per class there (<class name>/*.png), optionally under train/ and test/,"
    " or IDX files with MNIST's names (docs/own-data.md)"
)
_IDX_NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
# What systems, viewers and NAS boxes strew about, in lower case; each of them writes it as it likes.
_CLUTTER = (
    *("readme.md", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir"),
    *("#recycle", "$recycle.bin", "system volume information", "lost+found"),
)
_ENLARGED = "smaller than data.image_size, enlarged"
_PROBLEMS_SHOWN = 1000
_LEFT_OUT_SHOWN = 20
_TO_LEAVE = 2  # of each class when the test images are held out: one for train, one for validation
_SPLITS = ("train", "test")
_HOW_TO_GO_ON = (
    "  mend or remove these files; or set data.unusable_images to leave_out, and the others are used"
)


@dataclass
class _Pack:
    """What is found on the way through the folder.

    Attributes:
        side: pixels per side of what is packed.
        channels: as `data.channels`.
        images: (C, side, side) each, C = 3 only of those with colour.
    """

    side: int
    channels: Channels
    images: dict[str, list[npt.NDArray[np.uint8]]] = field(default_factory=lambda: {"train": [], "test": []})
    names: dict[str, list[str]] = field(
        default_factory=lambda: {"train": [], "test": []}
    )  # class of each image
    converted: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)  # (width, height)
    light_borders: int = 0
    problems: list[str] = field(default_factory=list)
    classes: set[str] = field(default_factory=set)  # of the files, usable or not
    unusable: list[tuple[str, str]] = field(default_factory=list)  # file, reason


def write_raw(
    folder: Path,
    out: Path,
    *,
    image_size: int,
    channels: Channels = "auto",
    unusable: Literal["stop", "leave_out"] = "stop",
) -> list[str]:
    """Check every image of a folder, convert it, pack all into `folder.npz`: train images, then test images.

    Args:
        folder: the images.
        out: where `folder.npz` goes.
        image_size: pixels per side.
        channels: `grey` and `colour` give every image one channel or three; `auto` gives three to all as soon as one
            has colour.
        unusable: `stop` refuses a folder with a file that cannot be used; `leave_out` packs the others, and keeps a
            record.

    Returns:
        Lines that say what was found and what was converted.

    Raises:
        SynthGainError: if the folder is missing or empty, or something in it is wrong; all at once.
    """
    if not folder.is_dir():
        raise SynthGainError(f"{folder}: no such folder; {SHAPE_OF_FOLDER}")
    pack = _Pack(image_size, channels)
    top = list(_visible(folder))
    idx = [
        path
        for path in top
        if path.name.removesuffix(".gz") in (n for pair in _IDX_NAMES.values() for n in pair)
    ]
    if not top:
        raise SynthGainError(f"{folder}: empty; {SHAPE_OF_FOLDER}")
    if idx:
        _read_idx_files(folder, [path for path in top if path not in idx], pack)
    else:
        _read_tree(folder, top, pack)
    class_names = tuple(sorted(set(pack.names["train"]) | set(pack.names["test"])))
    if idx:  # labels are numbers: 10 comes after 9
        class_names = tuple(sorted(class_names, key=int))
    described = [f"{name}: {reason}" for name, reason in pack.unusable]
    of_classes = _problems_of_classes(class_names, pack)
    if unusable == "leave_out":  # no class goes without a word
        lost = sorted(pack.classes - set(class_names))
        of_classes += [
            f"class {name}: none of its files can be used; remove its folder, or mend them" for name in lost
        ]
    if unusable == "stop" or pack.problems or of_classes:  # a class may be too small for want of them
        advice = _HOW_TO_GO_ON if described and unusable == "stop" else ""
        _refuse(folder, [*pack.problems, *described, *of_classes], advice)

    images = pack.images["train"] + pack.images["test"]
    in_colour = sum(len(image) == 3 for image in images)
    packed_channels = 3 if in_colour or channels == "colour" else 1
    position = {name: label for label, name in enumerate(class_names)}
    record = {
        "classes": len(class_names),
        "converted": dict(pack.converted),
        "light_border_images": pack.light_borders,
        "sizes": {f"{width}x{height}": count for (width, height), count in sorted(pack.sizes.items())},
        "train_images": len(pack.names["train"]),
        "test_images": len(pack.names["test"]),
        "image_size": image_size,
        **({"channels": packed_channels, "images_in_colour": in_colour} if packed_channels == 3 else {}),
        **(
            {"left_out": [{"file": name, "reason": why} for name, why in pack.unusable]}
            if pack.unusable
            else {}
        ),
    }
    packed = LabeledImages(
        np.stack([np.broadcast_to(image, (packed_channels, *image.shape[1:])) for image in images]),
        np.array([position[name] for name in pack.names["train"] + pack.names["test"]], dtype=np.int64),
        class_names,
        {"kind": "real", "source": "folder", "conversion": record},
    )
    packed.save(out / RAW_FILE)
    return _summary(folder, packed, record)


def load(
    raw: Path, *, image_size: int, test_fraction: float, seed: int
) -> tuple[LabeledImages, LabeledImages]:
    """Train and test images; without a test split of its own, a stratified `test_fraction` is held out.

    Raises:
        SynthGainError: if the packed file is missing, damaged or of another image size, or if a class is too
            small for the hold-out.
    """
    packed = LabeledImages.load(raw / RAW_FILE)
    record: dict[str, Any] = dict(packed.provenance.get("conversion", {}))
    if record.get("image_size") != image_size:
        raise SynthGainError(
            f"{raw / RAW_FILE}: has {record.get('image_size')} pixels per side,"
            f" data.image_size is {image_size}; run the `download` stage again"
        )
    provenance: dict[str, Any] = {"kind": "real", "source": "folder", "conversion": record}
    if record["test_images"]:
        test = np.arange(record["train_images"], len(packed))
    else:
        wanted, classes = round(test_fraction * len(packed)), packed.num_classes
        most = len(packed) - _TO_LEAVE * classes
        if not classes <= wanted <= most:
            raise SynthGainError(
                f"data.folder_test_fraction: found {test_fraction}, which holds out {wanted} of {len(packed)} images;"
                f" each of {classes} classes needs one for test, and {_TO_LEAVE} for train and validation:"
                f" {classes / len(packed):.4g} to {most / len(packed):.4g} is allowed"
            )
        rng = np.random.default_rng(seed)
        test = stratified_indices(packed.labels, wanted, classes, rng, leave=_TO_LEAVE)
        provenance |= {
            "held_out_index_sha256": index_sha256(test),
            "test_fraction": test_fraction,
            "seed": seed,
        }
    train = np.setdiff1d(np.arange(len(packed)), test)
    return (
        packed.subset(train, {**provenance, "published_split": "train"}),
        packed.subset(test, {**provenance, "published_split": "test"}),
    )


def _visible(folder: Path) -> Iterator[Path]:
    """What counts in a folder, sorted by name: hidden files and what systems strew about do not."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if not path.name.startswith(".") and path.name.casefold() not in _CLUTTER:
            yield path


def _read_tree(folder: Path, top: list[Path], pack: _Pack) -> None:
    """Class folders, at the top or under train/ and test/."""
    folders = {path.name: path for path in top if path.is_dir()}
    holds_classes = [
        name for name in _SPLITS if name in folders and any(p.is_dir() for p in _visible(folders[name]))
    ]
    roots = {"train": folder}
    if holds_classes:
        if "train" not in holds_classes:
            raise SynthGainError(
                f"{folder}: test/ holds class folders, but train/ does not; {SHAPE_OF_FOLDER}"
            )
        roots = {name: folders[name] for name in _SPLITS if name in folders}
        for path in top:
            if path.name not in roots:
                what = "beside train/ and test/"
                pack.problems.append(
                    f"{path.name}: {what}; put its images into train/ (or test/) or take it away"
                )
    files: list[tuple[str, str, Path]] = []  # split, class, file
    seen = {os.path.realpath(folder)}
    for split, root in roots.items():
        for path in _visible(root):
            if not path.is_dir():
                if path.parent != folder or not holds_classes:  # else it is named above
                    pack.problems.append(f"{path.relative_to(folder)}: a file outside the class folders")
                continue
            before = len(files)
            files += [(split, path.name, file) for file in _files_below(path, folder, seen, pack.problems)]
            if len(files) == before:
                pack.problems.append(f"{path.relative_to(folder)}: no image in this class folder")
    if not files and not pack.problems:
        raise SynthGainError(f"{folder}: no images; {SHAPE_OF_FOLDER}")
    with progress("read own images", len(files), "images") as advance:
        for split, name, path in files:
            pack.classes.add(name)
            try:
                if path.suffix.lower() not in EXTENSIONS:
                    raise UnusableImage(f"not an image file ({', '.join(EXTENSIONS)})")
                pixels, done = read_image(path, grey=pack.channels == "grey")
            except UnusableImage as problem:
                pack.unusable.append(
                    (without_control_characters(path.relative_to(folder).as_posix()), str(problem))
                )
            else:
                pack.converted.update(done)
                _add(pack, split, name, pixels)
            advance(1)


def _files_below(folder: Path, root: Path, seen: set[str], problems: list[str]) -> Iterator[Path]:
    """All files of a class, also in folders inside it; a linked folder is read, but none is read twice."""
    real = os.path.realpath(folder)
    if real in seen:
        problems.append(f"{folder.relative_to(root)}: a link to a folder that is read already")
        return
    seen.add(real)
    for path in _visible(folder):
        if path.is_dir():
            yield from _files_below(path, root, seen, problems)
        else:
            yield path


def _read_idx_files(folder: Path, others: list[Path], pack: _Pack) -> None:
    pack.problems += [f"{path.name}: beside IDX files; take it away" for path in others]
    for split, names in _IDX_NAMES.items():
        found = [[p for p in (folder / name, folder / f"{name}.gz") if p.is_file()] for name in names]
        if split == "test" and not any(found):
            continue
        for name, paths in zip(names, found, strict=True):
            if not paths:
                pack.problems.append(f"{name}[.gz]: not there; images and labels are needed")
            elif len(paths) > 1:
                pack.problems.append(f"{name}: there with and without .gz; keep one of them")
        if any(len(paths) != 1 for paths in found):
            continue
        try:
            images = read_idx(found[0][0], dimensions=3)
            labels = read_idx(found[1][0], dimensions=1)
            if len(images) != len(labels):
                raise SynthGainError(f"{found[0][0]}: {len(images)} images, but {len(labels)} labels")
            if not len(images):
                raise SynthGainError(f"{found[0][0]}: no images")
            check_size(images.shape[2], images.shape[1])
        except UnusableImage as problem:
            pack.problems.append(f"{found[0][0].name}: {problem}")
        except SynthGainError as problem:
            pack.problems.append(str(problem).removeprefix(f"{folder}{os.sep}"))
        else:
            with progress("read own images", len(images), "images") as advance:
                for image, label in zip(images, labels, strict=True):
                    _add(pack, split, str(label), image.astype(np.float32)[np.newaxis])
                    advance(1)


def _add(pack: _Pack, split: str, name: str, pixels: Pixels) -> None:
    height, width = pixels.shape[1:]
    square = np.stack([to_square(channel, pack.side) for channel in pixels])
    pack.images[split].append(square)
    pack.names[split].append(name)
    pack.sizes[width, height] += 1
    if height != width:
        pack.converted["padded to a square"] += 1
    if max(height, width) != pack.side:
        pack.converted["resized"] += 1
    if max(height, width) < pack.side:
        pack.converted[_ENLARGED] += 1
    border = np.concatenate([square[:, 0], square[:, -1], square[:, :, 0], square[:, :, -1]], axis=None)
    pack.light_borders += bool(np.median(border) > 127)


def _problems_of_classes(class_names: tuple[str, ...], pack: _Pack) -> list[str]:
    """Enough classes, and in each enough images to be split."""
    problems = []
    if len(class_names) == 1:
        problems.append(f"one class only ({class_names[0]}); at least 2 are needed")
    train, test = Counter(pack.names["train"]), Counter(pack.names["test"])
    needed = 2 if test else 3  # one each for train and validation, and for test where it has no own folder
    for composed, names in _same_but_for_unicode(class_names).items():
        problems.append(
            f"class {composed}: folders have this name in different Unicode forms, as macOS and other systems write"
            f" it ({', '.join(ascii(name) for name in names)}); put their images into one folder, and give that"
            " folder one form in train and test"
        )
    for name in class_names:
        if not name.isprintable():
            problems.append(f"class {name!r}: a class name of printable characters is needed")
        if train[name] < needed:
            for_what = "train and validation" if test else "train, validation and test"
            problems.append(
                f"class {name}: {train[name]} usable train images; at least {needed} are needed ({for_what})"
            )
        if test and not test[name]:
            problems.append(f"class {name}: no test image")
    return problems


def _same_but_for_unicode(class_names: tuple[str, ...]) -> dict[str, list[str]]:
    """Names that are written with the same letters, and stand for different folders (é as one sign, or as e and ´)."""
    forms: dict[str, list[str]] = {}
    for name in class_names:
        forms.setdefault(unicodedata.normalize("NFC", name), []).append(name)
    return {name: names for name, names in forms.items() if len(names) > 1}


def _refuse(folder: Path, problems: list[str], advice: str = "") -> None:
    if not problems:
        return
    lines = [f"{folder}: {counted(len(problems), 'problem')}; nothing was packed"]
    lines += ["  " + without_control_characters(problem) for problem in problems[:_PROBLEMS_SHOWN]]
    if len(problems) > _PROBLEMS_SHOWN:
        lines.append(f"  and {len(problems) - _PROBLEMS_SHOWN} more")
    if advice:
        lines.append(advice)
    raise SynthGainError("\n".join(lines))


def _about_channels(packed: LabeledImages, record: dict[str, Any]) -> list[str]:
    """What became of colour, if any image had some or was to have."""
    if lost := record["converted"].get("luminance"):
        return [f"  warning: {lost} images lost their colour (data.channels: grey); auto or colour keeps it"]
    if packed.channels == 1:
        return []
    in_colour, grey = record["images_in_colour"], len(packed) - record["images_in_colour"]
    if not grey:
        return [f"  all {in_colour} images have colour: three channels"]
    return [
        f"  {in_colour} of {len(packed)} images have colour, so all have three channels; the {grey} grey ones have"
        " three equal ones (data.channels: grey makes all of them grey)"
    ]


def _summary(folder: Path, packed: LabeledImages, record: dict[str, Any]) -> list[str]:
    counts = ", ".join(f"{name} {n}" for name, n in zip(packed.class_names, packed.counts(), strict=True))
    test = f"{record['test_images']} test" if record["test_images"] else "no test split of its own"
    lines = [
        f"{folder}: {record['train_images']} train images, {test}; {record['classes']} classes: {counts}"
    ]
    for what, count in sorted(record["converted"].items()):
        lines.append(f"  {count} images: {what}")
    lines += _about_channels(packed, record)
    if enlarged := record["converted"].get(_ENLARGED):
        lines.append(
            f"  warning: {enlarged} images were enlarged to {record['image_size']} pixels, which adds no detail: a"
            " smaller data.image_size trains faster and loses nothing of them"
        )
    if left_out := record.get("left_out"):
        lines.append(f"  {len(left_out)} files were left out (data.unusable_images: leave_out):")
        lines += [f"    {each['file']}: {each['reason']}" for each in left_out[:_LEFT_OUT_SHOWN]]
        if len(left_out) > _LEFT_OUT_SHOWN:
            lines.append(f"    and {len(left_out) - _LEFT_OUT_SHOWN} more")
    if record["light_border_images"] * 2 > len(packed):
        lines.append(
            f"  {record['light_border_images']} of {len(packed)} images have a light border and are kept as they are:"
            " set augmentation.fill to edge or mean (it fills with black by default), or invert dark-on-light images"
        )
    return lines
