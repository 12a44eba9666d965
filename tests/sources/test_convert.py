import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.sources import convert
from pipeline.sources.convert import UnusableImage, read_image, to_square

SHADES = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def read_grey(path: Path) -> tuple[np.ndarray, set[str]]:
    pixels, done = read_image(path, grey=True)
    assert len(pixels) == 1
    return pixels[0], done


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


@pytest.mark.parametrize("extension", ["png", "bmp", "tif", "webp"])
def test_grey_images_keep_their_pixels(tmp_path: Path, extension: str) -> None:
    options = {"lossless": True} if extension == "webp" else {}
    path = saved(tmp_path / f"a.{extension}", Image.fromarray(SHADES), **options)
    grey, done = read_grey(path)
    assert np.array_equal(grey, SHADES)
    assert done == set()
    assert len(read_image(path, grey=False)[0]) == 1  # WebP knows no grey: its pixels say it
    assert np.array_equal(to_square(grey, 8), SHADES)


def test_colour_becomes_itu_r_601_luma(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    grey, done = read_grey(saved(tmp_path / "a.png", Image.fromarray(rgb)))
    luma = rgb @ np.array([0.299, 0.587, 0.114])
    assert np.abs(grey - luma).max() <= 1 and done == {"luminance"}
    pixels, done = read_image(tmp_path / "a.png", grey=False)
    assert np.array_equal(pixels, rgb.transpose(2, 0, 1)) and done == set()


def test_colour_is_kept_through_palettes_alpha_and_cameras(tmp_path: Path) -> None:
    rgb = np.zeros((8, 8, 3), np.uint8)
    rgb[:4, :, 0], rgb[4:, :, 2] = 200, 100
    picture = Image.fromarray(rgb)
    assert np.array_equal(
        read_image(saved(tmp_path / "p.png", picture.quantize(8)), grey=False)[0], rgb.transpose(2, 0, 1)
    )
    exif = Image.Exif()
    exif[0x0112] = 3
    pixels, done = read_image(saved(tmp_path / "e.png", picture, exif=exif), grey=False)
    assert np.array_equal(pixels, rgb[::-1, ::-1].transpose(2, 0, 1)) and done == {"EXIF orientation applied"}
    half = picture.copy()
    half.putalpha(Image.fromarray(np.repeat([[255], [0]], 4, axis=0).repeat(8, axis=1).astype(np.uint8)))
    pixels, done = read_image(saved(tmp_path / "a.png", half), grey=False)
    assert (pixels[0, :4] == 200).all() and not pixels[:, 4:].any() and done == {ALPHA}
    # A transparent colour over black leaves no colour: the picture is grey.
    half.putalpha(0)
    assert len(read_image(saved(tmp_path / "b.png", half), grey=False)[0]) == 1
    cmyk = read_image(saved(tmp_path / "c.jpg", picture.convert("CMYK")), grey=False)[0]
    assert np.abs(cmyk - rgb.transpose(2, 0, 1)).mean() < 20 and len(cmyk) == 3


def test_of_sixteen_bit_colour_the_upper_half_is_kept_and_said(tmp_path: Path) -> None:
    rows = [np.repeat(row[:, None], 3, axis=1).astype(">u2").tobytes() for row in SHADES.astype(int) * 257]
    (tmp_path / "a.png").write_bytes(png(rows, bits=16, colour=2))
    pixels, done = read_image(tmp_path / "a.png", grey=False)
    assert np.array_equal(pixels[0], SHADES) and done == {"upper 8 of 16 bits"}


def test_transparency_is_composited_over_black(tmp_path: Path) -> None:
    white = np.full((8, 8, 4), 255, np.uint8)
    white[..., 3] = SHADES
    grey, done = read_grey(saved(tmp_path / "a.png", Image.fromarray(white)))
    assert np.abs(grey - SHADES).max() <= 1 and done == {"alpha over black"}

    grey_alpha = Image.merge("LA", [Image.fromarray(np.full_like(SHADES, 255)), Image.fromarray(SHADES)])
    grey, done = read_grey(saved(tmp_path / "b.png", grey_alpha))
    assert np.abs(grey - SHADES).max() <= 1 and done == {"alpha over black"}

    # one grey value declared transparent, and a palette with a transparent entry
    grey, _ = read_grey(saved(tmp_path / "c.png", Image.fromarray(SHADES), transparency=252))
    assert grey.max() == 248
    palette = Image.fromarray(SHADES).convert("P")
    grey, done = read_grey(saved(tmp_path / "d.png", palette, transparency=int(np.asarray(palette)[7, 7])))
    assert grey[7, 7] == 0 and grey[7, 6] == 248 and "alpha over black" in done


def test_palette_images_give_their_colours_not_their_indices(tmp_path: Path) -> None:
    palette = Image.fromarray(np.repeat(SHADES[..., None], 3, axis=2)).quantize(64)
    grey, done = read_grey(saved(tmp_path / "a.png", palette))
    assert np.array_equal(grey, np.asarray(palette.convert("RGB").convert("L"))) and done == set()


def test_bilevel_images_are_black_and_white(tmp_path: Path) -> None:
    grey, _ = read_grey(saved(tmp_path / "a.png", Image.fromarray(SHADES > 100)))
    assert np.array_equal(grey, (SHADES > 100) * 255.0)


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_sixteen_bits_are_scaled_by_their_range(tmp_path: Path, extension: str) -> None:
    values = SHADES.astype(np.uint16) * 257
    grey, done = read_grey(saved(tmp_path / f"a.{extension}", Image.fromarray(values)))
    assert np.allclose(grey, SHADES, atol=1e-4) and done == {"16 bits scaled"}
    assert np.array_equal(to_square(grey, 8), SHADES)


def test_a_camera_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    grey, done = read_grey(saved(tmp_path / "a.png", Image.fromarray(SHADES), exif=exif))
    assert np.array_equal(grey, SHADES[::-1, ::-1]) and done == {"EXIF orientation applied"}


def test_unusable_files_say_why(tmp_path: Path) -> None:
    shades = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    whole = saved(tmp_path / "whole.png", Image.fromarray(shades)).read_bytes()
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "cut.png").write_bytes(whole[:-400])
    (tmp_path / "stump.png").write_bytes(whole[:20])
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "broken.png").symlink_to(tmp_path / "nowhere.png")
    Image.new("L", (1, 40)).save(tmp_path / "thin.png")
    Image.new("L", (100, 8)).save(tmp_path / "long.png")
    Image.new("F", (8, 8)).save(tmp_path / "float.tif")
    Image.fromarray(np.full((8, 8), 1 << 20, np.int32)).save(tmp_path / "deep.tif")
    frames = [Image.new("L", (8, 8), shade) for shade in (0, 99)]
    frames[0].save(tmp_path / "pages.tif", save_all=True, append_images=frames[1:])
    for name, reason in {
        "empty.png": "empty file",
        "cut.png": "corrupt",
        "stump.png": "corrupt",
        "text.png": "not a readable image",
        "broken.png": "broken link",
        "thin.png": "1 × 40: a side under 4 pixels",
        "long.png": "100 × 8: sides more than 8 : 1",
        "float.tif": "floating-point",
        "deep.tif": "signed 32-bit",
        "pages.tif": "2 frames",
    }.items():
        with pytest.raises(UnusableImage, match=reason):
            read_grey(tmp_path / name)


def tiff(values: np.ndarray, *, kind: int, photometric: int = 1) -> bytes:
    """An uncompressed grey TIFF of 8×8 values; kind 1 is from 0, 2 signed, 3 floating-point."""
    data = values.tobytes()
    tags = {256: 8, 257: 8, 258: 8 * values.itemsize, 259: 1, 262: photometric, 273: 0, 277: 1}
    tags |= {278: 8, 279: len(data), 339: kind}
    tags[273] = 8 + 2 + 12 * len(tags) + 4  # where the pixels begin
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, tags[tag]) for tag in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    return head + entries + bytes(4) + data


def png(rows: list[bytes], *, bits: int, colour: int, transparent: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, bits, colour, 0, 0, 0))
    level = chunk(b"tRNS", transparent) if transparent else b""
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + level + pixels + chunk(b"IEND", b"")


def grey_png(levels: np.ndarray, bits: int, transparent: int | None = None) -> bytes:
    """A PNG of 8×8 grey levels, one of which may be transparent."""
    if bits == 16:
        rows = [row.astype(">u2").tobytes() for row in levels]
    else:
        texts = ["".join(f"{level:0{bits}b}" for level in row) for row in levels]
        rows = [int(text, 2).to_bytes(bits, "big") for text in texts]
    tag = b"" if transparent is None else struct.pack(">H", transparent)
    return png(rows, bits=bits, colour=0, transparent=tag)


def colour_png(bits: int, transparent: int) -> bytes:
    levels = np.repeat(SHADES[..., None], 3, axis=2).astype(">u2" if bits == 16 else "u1")
    rows = [row.tobytes() for row in levels * (257 if bits == 16 else 1)]
    return png(rows, bits=bits, colour=2, transparent=struct.pack(">3H", *[transparent] * 3))


def several_jpegs() -> bytes:
    buffer = io.BytesIO()
    first, second = Image.new("L", (8, 8), 200), Image.new("L", (8, 8), 10)
    first.save(buffer, "MPO", save_all=True, append_images=[second])
    return buffer.getvalue()


def levels(bits: int) -> np.ndarray:
    return np.arange(64).reshape(8, 8) % 2**bits if bits < 16 else SHADES.astype(np.int64) * 257


def without(shade: int) -> np.ndarray:
    """The shades, one of them over black."""
    return np.where(shade == SHADES, 0, SHADES)


def steps(bits: int, hidden: int) -> np.ndarray:
    found = levels(bits)
    return np.where(found == hidden, 0, found * 255 / (2**bits - 1))


ALPHA = "alpha over black"
# mode × format × (right pixels, and what is said of it; or the reason of the refusal)
TABLE: dict[str, tuple[bytes, tuple[np.ndarray, set[str]] | str]] = {
    "TIFF, 8 bits": (tiff(SHADES, kind=1), (SHADES, set())),
    "TIFF, 8 bits, white is 0": (tiff(SHADES, kind=1, photometric=0), (255 - SHADES, set())),
    "TIFF, 16 bits": (tiff(SHADES.astype("<u2") * 257, kind=1), (SHADES, {"16 bits scaled"})),
    "TIFF, 16 bits, white is 0": (
        tiff(SHADES.astype("<u2") * 257, kind=1, photometric=0),
        (255.0 - SHADES, {"16 bits scaled"}),
    ),
    "TIFF, 8 bits, signed": (tiff(SHADES.astype("<i1"), kind=2), "signed 8-bit values"),
    "TIFF, 16 bits, signed": (tiff(SHADES.astype("<i2"), kind=2), "signed 16-bit values"),
    "TIFF, 32 bits": (tiff(SHADES.astype("<u4"), kind=1), "^32-bit values"),
    "TIFF, 32 bits, signed": (tiff(SHADES.astype("<i4"), kind=2), "signed 32-bit values"),
    "TIFF, 32 bits, floating-point": (tiff(SHADES.astype("<f4"), kind=3), "floating-point values"),
    "TIFF, 64 bits, floating-point": (tiff(SHADES.astype("<f8"), kind=3), "not a readable image"),
    "PNG, 16 bits": (grey_png(levels(16), 16), (SHADES, {"16 bits scaled"})),
    "PNG, 16 bits, one transparent": (
        grey_png(levels(16), 16, 8 * 257),
        (without(8), {"16 bits scaled", ALPHA}),
    ),
    "PNG, colour, one transparent": (colour_png(8, 8), (without(8), {ALPHA})),
    "PNG, 16-bit colour, one transparent": (colour_png(16, 8 * 257), "16-bit colour with one transparent"),
    "MPO of a phone": (
        several_jpegs(),
        (np.full((8, 8), 200), {"first picture of several (MPO)"}),
    ),
    **{
        f"PNG, {bits} bits": (grey_png(levels(bits), bits), (steps(bits, -1), set())) for bits in (1, 2, 4, 8)
    },
    **{
        f"PNG, {bits} bits, {hidden} transparent": (
            grey_png(levels(bits), bits, hidden),
            (steps(bits, hidden), {ALPHA}),
        )
        for bits, hidden in ((1, 1), (2, 1), (2, 3), (4, 1), (4, 15), (8, 9), (8, 63))
    },
}


@pytest.mark.parametrize("extension", ["png", "tif", "jpg"])
@pytest.mark.parametrize("name", TABLE)
def test_a_picture_comes_out_right_or_is_refused_with_the_reason(
    tmp_path: Path, name: str, extension: str
) -> None:
    """The extension says nothing: files are called anything."""
    content, outcome = TABLE[name]
    path = tmp_path / f"a.{extension}"
    path.write_bytes(content)
    if isinstance(outcome, str):
        with pytest.raises(UnusableImage, match=outcome):
            read_grey(path)
        return
    pixels, said = outcome
    grey, done = read_grey(path)
    assert np.allclose(grey, pixels, atol=1e-4) and done == said


def test_what_is_no_plain_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "zero.png"):
        with pytest.raises(UnusableImage, match="not a plain file"):
            read_grey(tmp_path / name)


@given(
    cut=st.integers(0, 700),
    flip=st.integers(0, 700),
    kind=st.sampled_from(["PNG", "JPEG", "TIFF", "WEBP", "BMP"]),
)
@settings(max_examples=150)
def test_a_damaged_file_gives_an_image_or_a_reason_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flip: int, kind: str
) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.repeat(SHADES[..., None], 3, axis=2)).save(buffer, kind)
    content = bytearray(buffer.getvalue())
    content[flip % len(content)] ^= 0xFF
    path = tmp_path_factory.getbasetemp() / "damaged.png"
    path.write_bytes(content[: len(content) - cut] if cut < len(content) else content)
    try:
        grey, _ = read_grey(path)
    except UnusableImage:
        return
    assert grey.ndim == 2 and 0 <= grey.min() and grey.max() <= 255


@pytest.mark.parametrize("side", [8200, 20000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(
    tmp_path: Path, side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a bitmap header that promises pixels which are not there
    header = saved(tmp_path / "a.bmp", Image.new("L", (8, 8))).read_bytes()
    size = side.to_bytes(4, "little")
    (tmp_path / "a.bmp").write_bytes(header[:18] + size + size + header[26:])
    with pytest.raises(UnusableImage, match="over 64 megapixels"):
        read_grey(tmp_path / "a.bmp")


@given(
    height=st.integers(4, 40),
    width=st.integers(4, 40),
    shade=st.integers(0, 255),
    size=st.sampled_from([8, 28]),
)
@settings(max_examples=60)
def test_a_flat_image_stays_flat_at_any_size(height: int, width: int, shade: int, size: int) -> None:
    square = to_square(np.full((height, width), shade, np.float32), size)
    assert square.shape == (size, size) and square.dtype == np.uint8 and (square == shade).all()


@given(st.integers(0, 2**32 - 1), st.integers(4, 40), st.integers(4, 40))
@settings(max_examples=60)
def test_turning_commutes_with_squaring(seed: int, height: int, width: int) -> None:
    # even differences only: an odd one leaves the spare pixel at the bottom or right
    width = height + 2 * ((width - height) // 2)
    if width < 4:
        width += 2
    grey = np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.float32)
    difference = to_square(grey.T, 28).astype(int) - to_square(grey, 28).T.astype(int)
    assert np.abs(difference).max() <= 1


def test_padding_is_the_median_of_the_border_and_centred() -> None:
    grey = np.full((4, 8), 30, np.float32)
    grey[1:3, 1:7] = 250
    square = to_square(grey, 8)
    assert (square[:2] == 30).all() and (square[6:] == 30).all()
    assert np.array_equal(square[2:6], grey)


def test_the_limits_are_the_documented_ones() -> None:
    page = (Path(__file__).parents[2] / "docs" / "own-data.md").read_text(encoding="utf-8")
    assert f"{convert.MAX_PIXELS // 1_000_000} megapixels" in page
    assert f"{convert.MAX_ASPECT} : 1" in page and f"under {convert.MIN_SIDE} pixels" in page
    assert all(f"`{extension[1:]}`" in page for extension in convert.EXTENSIONS)
