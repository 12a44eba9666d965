"""Any image to one square grey image: the rules that docs/own-data.md states, and nothing else."""

from __future__ import annotations

import errno
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

Grey = npt.NDArray[np.float32]

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
MAX_PIXELS = 64_000_000
MAX_ASPECT = 8
MIN_SIDE = 4
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
_ORIENTATION = 0x0112  # the EXIF tag; 1 is upright


class UnusableImage(Exception):
    """Why a file cannot be used as an image."""


def read_grey(path: Path) -> tuple[Grey, set[str]]:
    """One image file as (H, W) float32 in 0..255, and what was done to it.

    8-bit grey: as is. Colour and palette: ITU-R 601-2 luma, as Pillow's mode "L". Transparency: over black.
    16 bits: × 255/65535. An EXIF orientation is applied.

    Returns:
        The image, and which of "luminance", "alpha over black", "16 bits scaled" and
        "EXIF orientation applied" were done.

    Raises:
        UnusableImage: if it is empty, corrupt, no image, of several frames, or of an unusable size or depth.
    """
    try:
        if path.stat().st_size == 0:
            raise UnusableImage("empty file")
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # Pillow warns of odd metadata and of sizes that are refused below
            with Image.open(path, formats=_FORMATS) as image:
                check_size(*image.size)
                if getattr(image, "n_frames", 1) > 1:
                    raise UnusableImage(f"{image.n_frames} frames; one image per file")  # type: ignore[attr-defined]
                image.load()
                return _grey(image)
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


def to_square(grey: Grey, size: int) -> npt.NDArray[np.uint8]:
    """An (H, W) image in 0..255 as (size, size) uint8.

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


def _grey(image: Image.Image) -> tuple[Grey, set[str]]:
    done: set[str] = set()
    if image.getexif().get(_ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
        done.add("EXIF orientation applied")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.float64)
        if values.min() < 0 or values.max() > 65535:
            raise UnusableImage("32-bit values; 8 or 16 bits are needed")
        return (values * (255 / 65535)).astype(np.float32), done | {"16 bits scaled"}
    if image.mode == "F":
        raise UnusableImage("floating-point values; 8 or 16 bits are needed")
    if image.mode not in ("1", "L", "LA", "La"):
        done.add("luminance")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image).convert("RGB")
        done.add("alpha over black")
    elif image.mode not in ("1", "L", "RGB"):
        image = image.convert("RGB")
    return np.asarray(image.convert("L")).astype(np.float32), done
