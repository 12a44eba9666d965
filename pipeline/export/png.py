"""PNG: one folder per class with one file per image, the tree that torchvision's ImageFolder reads."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from pipeline.export.ids import sample_ids
from pipeline.images import LabeledImages
from pipeline.progress import progress

# Windows gives these names to devices, with or without a suffix.
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
# File systems allow 255 bytes; a character takes up to four.
_LONGEST_NAME = 60


def write_png(images: LabeledImages, folder: Path) -> None:
    """Write `<class name>/<id>.png`, 8-bit greyscale; class names as `class_folders` makes them."""
    folders = class_folders(images.class_names)
    for name in folders:
        (folder / name).mkdir()
    with progress("writing PNG", total=len(images), unit="images") as advance:
        for image, label, sample_id in zip(
            images.images[:, 0], images.labels.tolist(), sample_ids(images.labels), strict=True
        ):
            # A fixed level, no time, no program name: the same pixels give the same bytes.
            Image.fromarray(image).save(folder / folders[label] / f"{sample_id}.png", compress_level=6)
            advance(1)


def class_folders(class_names: Sequence[str]) -> list[str]:
    """A folder name per class, in label order: the class name itself wherever every file system takes it.

    Letters of any script, digits, `_`, `-`, `.` and spaces stay; anything else becomes `_`. A name that
    would hide the folder, that a system reserves, that is empty, or that differs from another in case alone
    gets its label added.
    """
    cleaned = []
    for name in class_names:
        text = re.sub(r"[^\w\-. ]", "_", unicodedata.normalize("NFC", name))
        cleaned.append(text[:_LONGEST_NAME].strip(". "))
    folders: list[str] = []
    for label, text in enumerate(cleaned):
        alike = [other for other in cleaned if other.casefold() == text.casefold()]
        if not text or _DEVICE.fullmatch(text) or len(alike) > 1:
            text = f"{text}_{label}" if text else f"class_{label}"
        while text.casefold() in {
            other.casefold() for other in (*folders, *cleaned[:label], *cleaned[label + 1 :])
        }:
            text += f"_{label}"
        folders.append(text)
    return folders
