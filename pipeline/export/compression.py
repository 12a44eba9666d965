"""The pixels of a shard, compressed once for all formats that hold them: as PNG files, and as deflate blocks.

zlib and zlib-ng compress; only the few bytes around that are written here, in `webdataset.py` and in `npz.py`. With
Pillow, tarfile, zipfile and gzip instead, an export of 60 000 images in all formats takes five times the computing time
(14 s instead of 3 s), and none of them writes the bytes of earlier exports.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt
from zlib_ng import zlib_ng

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB = 0, 2  # kinds of pixels in the header
_PNG_END = struct.pack(">I4sI", 0, b"IEND", zlib_ng.crc32(b"IEND"))
# zlib-ng sets up and packs a small image four times as fast as zlib does, to the size of Pillow's files (MNIST: 275
# bytes). Its other levels take as long as zlib.
_PNG_LEVEL = 1

# An empty deflate block that is marked as the last one.
LAST_BLOCK = b"\x03\x00"


def encode_pngs(images: npt.NDArray[np.uint8]) -> list[bytes]:
    """Images (n, H, W), in colour (n, H, W, 3), as a PNG file each: signature, header, pixels, end; no time, no name.

    Rows are not filtered (type 0): filters gain nothing on images with plain backgrounds. Pillow takes seven times as
    long (0.77 s for 10 000 images), most of it around the compression.
    """
    count, height, width = images.shape[:3]
    kind = _RGB if images.ndim == 4 else _GREY
    header = _png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))
    flat = images.reshape(count, height, -1)
    rows = np.zeros((count, height, flat.shape[2] + 1), dtype=np.uint8)
    rows[:, :, 1:] = flat
    return [
        b"".join(
            (_PNG_SIGNATURE, header, _png_chunk(b"IDAT", zlib_ng.compress(pixels.data, _PNG_LEVEL)), _PNG_END)
        )
        for pixels in rows
    ]


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return b"".join((struct.pack(">I", len(content)), body, struct.pack(">I", zlib_ng.crc32(body))))


def deflate_blocks(images: npt.NDArray[np.uint8]) -> bytes:
    """Deflate blocks that end on a byte and refer to nothing before them, so that they fit into any stream.

    Small images on a plain background gain from runs of one byte only: MNIST takes 9.8 MB, as at level 6, and a
    quarter of the time.
    """
    packer = zlib.compressobj(level=1, wbits=-zlib.MAX_WBITS, strategy=zlib.Z_RLE)
    return packer.compress(images.data) + packer.flush(zlib.Z_FULL_FLUSH)


def stored_block(content: bytes) -> bytes:
    """Up to 65535 bytes as a deflate block that does not compress them."""
    size = len(content).to_bytes(2, "little")
    return b"\x00" + size + bytes(byte ^ 0xFF for byte in size) + content


def deflate(content: bytes) -> bytes:
    """A whole deflate stream."""
    packer = zlib.compressobj(level=1, wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()
