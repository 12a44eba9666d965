"""Where real images come from: published data sets, embedded digits, a team's own folder.

Each source puts its files into one raw folder (`download_raw`) and reads them back as a train and a test
split of `LabeledImages` (`load_raw`). What comes later is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from pipeline.images import LabeledImages

# The modules of the sources are imported where they are used: torchvision and scikit-learn take seconds each,
# and no source needs both.


def download_raw(
    source: str,
    out: Path,
    *,
    mirrors: Sequence[str],
    folder: Path,
    image_size: int,
    channels: Literal["auto", "grey", "colour"],
    unusable: Literal["stop", "leave_out"],
    say: Callable[[str], None],
) -> None:
    """Put the raw files of a source into `out`.

    Published data sets come exactly as published, checksums verified, from `mirrors`, from `folder` (where a
    person may put the files by hand) or from the published addresses. Embedded digits are written as they are
    in scikit-learn. A team's own `folder` is checked, converted and packed.

    Args:
        source: as in `data.source`.
        out: the raw folder; made if it is not there, other files in it stay.
        mirrors: base URLs or local folders, tried in order; `SYNTHGAIN_MIRROR` goes before them.
        folder: the team's own images.
        image_size: pixels per side that own images are resized to.
        channels: of own images; published ones have their own.
        unusable: whether an own image that cannot be used stops all, or is left out.
        say: gets one line per event worth a log line.

    Raises:
        SynthGainError: if no place gives a file with the published checksum, or own images cannot be used.
    """
    out.mkdir(parents=True, exist_ok=True)
    if source == "digits":
        from pipeline.sources import digits

        digits.write_raw(out)
        say(f"{digits.RAW_FILE}: the digits embedded in scikit-learn, written to {out}")
    elif source == "folder":
        from pipeline.sources import folder as own

        for line in own.write_raw(folder, out, image_size=image_size, channels=channels, unusable=unusable):
            say(line)
    else:
        from pipeline.sources import published

        published.fetch(source, out, mirrors=mirrors, by_hand=folder, say=say)


def load_raw(
    source: str, raw: Path, *, image_size: int, test_fraction: float, seed: int
) -> tuple[LabeledImages, LabeledImages]:
    """The train and the test split of a source, from its raw folder.

    Args:
        source: as in `data.source`.
        raw: the folder that `download_raw` filled.
        image_size: pixels per side.
        test_fraction: share held out as test where own images have no test split; other sources ignore it.
        seed: of that draw.

    Raises:
        SynthGainError: if a file is missing, damaged, not as published, or of another image size.
    """
    if source == "digits":
        from pipeline.sources import digits

        return digits.load(raw, image_size=image_size)
    if source == "folder":
        from pipeline.sources import folder

        return folder.load(raw, image_size=image_size, test_fraction=test_fraction, seed=seed)
    from pipeline.sources import published

    return published.load(source, raw)
