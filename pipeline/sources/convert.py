"""Any image to one square image, grey or in colour: the rules that docs/own-data.md states, and nothing else."""

from __future__ import annotations

import errno
import stat
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

Pixels = npt.NDArray[np.float32]

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".mpo")
MAX_PIXELS = 64_000_000
MAX_ASPECT = 8
MIN_SIDE = 4
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
# What many phones write as .jpg: a JPEG with more pictures behind it (for depth, or another exposure).
_SEVERAL_JPEGS = "MPO"
_ORIENTATION = 0x0112  # the EXIF tag; 1 is upright
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
_SIGNED, _FLOATING, _WHITE_IS_ZERO = 2, 3, 0
# What a PNG's grey levels of few bits are multiplied by to fill 0..255.
_STEPS = {"L;2": 85, "L;4": 17}


class UnusableImage(Exception):
    """Why a file cannot be used as an image."""


def read_image(path: Path, *, grey: bool) -> tuple[Pixels, set[str]]:
    """One image file as (C, H, W) float32 in 0..255, and what was done to it.

    C is 3 where a pixel has colour, whatever the file's mode, and 1 where none has. Palettes give their colours, and
    transparency lies over black. 16-bit grey: × 255/65535; of 16-bit colour, the upper 8 bits. An EXIF orientation is
    applied. Of an MPO file, as phones write it, the first picture.

    Args:
        path: the file.
        grey: colour becomes ITU-R 601-2 luma, as Pillow's mode "L", so that C is 1.

    Returns:
        The image, and which of "luminance", "alpha over black", "16 bits scaled", "upper 8 of 16 bits", "first picture
        of several (MPO)" and "EXIF orientation applied" were done.

    Raises:
        UnusableImage: if it is empty, corrupt, no image, of several frames, or of an unusable size or depth.
    """
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):  # a pipe would wait for ever
            raise UnusableImage("not a plain file")
        if facts.st_size == 0:
            raise UnusableImage("empty file")
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # Pillow warns of odd metadata and of sizes that are refused below
            with Image.open(path, formats=_FORMATS) as image:
                check_size(*image.size)
                frames = getattr(image, "n_frames", 1)
                if frames > 1 and image.format != _SEVERAL_JPEGS:
                    raise UnusableImage(f"{frames} frames; one image per file")
                _check_samples(image)
                transparent = _transparent_grey(image)
                deep_colour = _mode_in_file(image).startswith(("RGB", "LA")) and ";16" in _mode_in_file(image)
                is_inverted = image.mode.startswith("I;16") and _tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO
                image.load()
                pixels, done = _pixels(image, transparent, is_inverted=is_inverted, grey=grey)
                done |= {"first picture of several (MPO)"} if frames > 1 else set()
                return pixels, done | ({"upper 8 of 16 bits"} if deep_colour else set())
    except FileNotFoundError:
        raise UnusableImage("broken link" if path.is_symlink() else "no such file") from None
    except PermissionError:
        raise UnusableImage("no permission to read it") from None
    except UnidentifiedImageError:
        raise UnusableImage("not a readable image (damaged, or another kind of file)") from None
    except Image.DecompressionBombError:
        raise UnusableImage(f"over {MAX_PIXELS // 1_000_000} megapixels") from None
    except UnusableImage:
        raise
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UnusableImage("a link that leads to itself") from None
        raise UnusableImage(f"corrupt ({' '.join(str(error).split()) or type(error).__name__})") from None
    except Exception as error:  # Pillow's decoders raise what they like on damaged files
        raise UnusableImage(f"corrupt ({' '.join(str(error).split()) or type(error).__name__})") from None


def check_size(width: int, height: int) -> None:
    """Refuse what no rule can make a sensible square of.

    Raises:
        UnusableImage: over 64 megapixels, a side under 4 pixels, or sides more than 8 : 1.
    """
    if width * height > MAX_PIXELS:
        raise UnusableImage(f"{width} × {height}: over {MAX_PIXELS // 1_000_000} megapixels")
    if min(width, height) < MIN_SIDE:
        raise UnusableImage(f"{width} × {height}: a side under {MIN_SIDE} pixels")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise UnusableImage(f"{width} × {height}: sides more than {MAX_ASPECT} : 1")


def to_square(grey: Pixels, size: int) -> npt.NDArray[np.uint8]:
    """An (H, W) image, or one channel of it, in 0..255 as (size, size) uint8.

    The shorter side is padded on both ends with the median grey of the image's border, then the square is
    resized with Pillow's bicubic filter (which averages when it shrinks), clipped and rounded. An image that
    has the size already keeps its pixels.
    """
    height, width = grey.shape
    side = max(height, width)
    if height != width:
        border = np.concatenate([grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1]])
        top, left = (side - height) // 2, (side - width) // 2
        square = np.full((side, side), np.median(border), dtype=np.float32)
        square[top : top + height, left : left + width] = grey
        grey = square
    if side != size:
        # In float: 8-bit resizing would round between its two passes.
        grey = np.asarray(Image.fromarray(grey).resize((size, size), Image.Resampling.BICUBIC))
    return np.rint(np.clip(grey, 0, 255)).astype(np.uint8)


def _tag(image: Image.Image, number: int) -> int | None:
    """The (first) value of a tag of a TIFF; None of other files, and where it is not there."""
    value = getattr(image, "tag_v2", {}).get(number)
    return int(value[0] if isinstance(value, tuple) else value) if value is not None else None


def _check_samples(image: Image.Image) -> None:
    """Refuse pixels that Pillow opens, but whose values have no range that grey could be scaled by."""
    bits, kind = _tag(image, _BITS) or (32 if image.mode in ("I", "F") else 8), _tag(image, _SAMPLE_FORMAT)
    if image.mode == "F" or kind == _FLOATING:
        raise UnusableImage("floating-point values; 8 or 16 bits are needed")
    if kind == _SIGNED:
        raise UnusableImage(f"signed {bits}-bit values; 8 or 16 bits from 0 are needed")
    if image.mode == "I":
        raise UnusableImage(f"{bits}-bit values; 8 or 16 bits are needed")


def _transparent_grey(image: Image.Image) -> int | None:
    """The one grey level that a PNG declares transparent, as its pixels will have it; None if there is none.

    Pillow scales pixels of 2 and 4 bits to 8 bits, but not this level, and does not look at it in 16 bits.
    """
    level = image.info.get("transparency")
    if image.format != "PNG" or level is None:
        return None
    mode = _mode_in_file(image)
    if mode.startswith("RGB;16"):  # of which Pillow keeps the upper 8 bits
        raise UnusableImage(
            "16-bit colour with one transparent colour; an alpha channel, or 8 bits, are needed"
        )
    if image.mode not in ("L", "I;16"):
        return None  # a palette, colours, or black and white: Pillow does it
    return int(level) * _STEPS.get(mode, 1)


def _mode_in_file(image: Image.Image) -> str:
    """How the pixels lie in the file, in Pillow's words (`RGB;16B`); Pillow's own mode does not say it."""
    arguments = image.tile[0][3] if image.tile else ""  # type: ignore[attr-defined]
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _pixels(
    image: Image.Image, transparent: int | None, *, is_inverted: bool, grey: bool
) -> tuple[Pixels, set[str]]:
    done: set[str] = set()
    if image.getexif().get(_ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
        done.add("EXIF orientation applied")
    if transparent is not None or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.float64)
        if is_inverted:
            values = 65535 - values
        if transparent is not None:
            values[values == transparent] = 0
            done.add("alpha over black")
        if image.mode.startswith("I;16"):
            values *= 255 / 65535
            done.add("16 bits scaled")
        return values.astype(np.float32)[np.newaxis], done
    if image.has_transparency_data:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image).convert("RGB")
        done.add("alpha over black")
    elif image.mode not in ("1", "L", "RGB"):
        image = image.convert("RGB")
    if image.mode == "RGB":
        colours = np.asarray(image)
        if (colours[..., :1] != colours[..., 1:]).any():
            if not grey:
                return np.moveaxis(colours, -1, 0).astype(np.float32), done
            done.add("luminance")
    return np.asarray(image.convert("L")).astype(np.float32)[np.newaxis], done
