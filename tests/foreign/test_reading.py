"""Four formats give the same images; whatever is not what was asked for is refused in one line."""

import gzip
import io
import struct

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.foreign.reading import Wanted, WrongImages, read_images

NAMES = ("cat", "T-shirt/top", "2")
FOLDERS = ("cat", "T-shirt_top", "2")


def made(channels=1, per_class=4, size=8):
    rng = np.random.default_rng(channels)
    return rng.integers(0, 256, (len(NAMES) * per_class, channels, size, size), dtype=np.uint8)


def wanted(channels=1, per_class=4, size=8):
    return Wanted(NAMES, per_class, (channels, size, size))


LABELS = np.repeat(np.arange(3), 4)


def picture(image):
    return Image.fromarray(np.ascontiguousarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)))


def png(image):
    content = io.BytesIO()
    picture(image).save(content, format="PNG")
    return content.getvalue()


def as_tree(folder, images, labels=LABELS):
    for place, (image, label) in enumerate(zip(images, labels, strict=True)):
        (folder / FOLDERS[label]).mkdir(exist_ok=True)
        (folder / FOLDERS[label] / f"{place:03}.png").write_bytes(png(image))


def as_npz(folder, images, labels=LABELS):
    np.savez(folder / "images.npz", images=images, labels=labels)


def as_floats(folder, images, labels=LABELS):
    np.savez_compressed(folder / "b.npz", images=images.transpose(0, 2, 3, 1) / 255, labels=labels)


def as_named_labels(folder, images, labels=LABELS):
    np.savez(folder / "named.npz", images=images, labels=np.array(NAMES)[labels])


def as_parquet(folder, images, labels=LABELS):
    cells = [{"bytes": png(image), "path": None} for image in images]
    pq.write_table(pa.table({"image": cells, "label": labels}), folder / "train-00000-of-00001.parquet")


def as_two_files(folder, images, labels=LABELS):
    for name, part in (("0", slice(0, 5)), ("1", slice(5, None))):
        np.savez(folder / f"{name}.npz", images=images[part], labels=labels[part])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("write", [as_tree, as_npz, as_floats, as_named_labels, as_parquet, as_two_files])
def test_every_format_gives_the_same_images(write, channels, tmp_path):
    images = made(channels)
    write(tmp_path, images)
    (tmp_path / "README.md").write_text("what lies beside them does not count")
    assert np.array_equal(read_images(tmp_path, wanted(channels)), images)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx(tmp_path, suffix):
    images = made()
    pack = gzip.compress if suffix else bytes
    for name, header, array in (
        (f"train-images-idx3-ubyte{suffix}", struct.pack(">4i", 2051, 12, 8, 8), images),
        (f"train-labels-idx1-ubyte{suffix}", struct.pack(">2i", 2049, 12), LABELS.astype(np.uint8)),
    ):
        (tmp_path / name).write_bytes(pack(header + array.tobytes()))
    assert np.array_equal(read_images(tmp_path, wanted()), images)


def test_of_more_images_the_first_of_each_class_are_taken_in_class_order(tmp_path):
    images = made()
    order = np.random.default_rng(0).permutation(12)
    as_npz(tmp_path, images[order], LABELS[order])
    expected = [images[order][LABELS[order] == label][:2] for label in range(3)]
    assert np.array_equal(read_images(tmp_path, wanted(per_class=2)), np.concatenate(expected))


def changed(place, value):
    """Floats of which one is another."""

    def write(folder):
        images = made() / 255
        images.reshape(-1)[place] = value
        np.savez(folder / "x.npz", images=images, labels=LABELS)

    return write


def sparse(folder):
    with (folder / "big.npz").open("wb") as file:
        file.truncate(20_000_000_000)


def truncated(folder):
    as_npz(folder, made())
    (folder / "images.npz").write_bytes((folder / "images.npz").read_bytes()[:300])


def bomb(folder):
    np.savez_compressed(folder / "x.npz", images=np.zeros((64_000_001,), np.uint8), labels=LABELS)


def torn_png(folder):
    as_tree(folder, made())
    path = folder / "cat/000.png"
    path.write_bytes(path.read_bytes()[:60])


def two_kinds(folder):
    as_npz(folder, made())
    as_tree(folder, made())


def other_class(folder):
    as_tree(folder, made())
    (folder / "dog").mkdir()


def other_file(folder):
    as_tree(folder, made())
    (folder / "cat/weights.pt").write_bytes(b"x")


def pickled(folder):
    np.savez(folder / "x.npz", images=np.array([{}]), labels=LABELS)


def one_picture(folder):
    images = made()
    images[4:8] = images[4]
    as_npz(folder, images)


def of_palette(folder):
    as_tree(folder, made())
    picture(made()[0]).convert("P").save(folder / "cat/000.png")


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda folder: None, r"^no images; a folder for each class with PNG"),
        (
            lambda folder: as_npz(folder, made()[:11], LABELS[:11]),
            r"^too few .* 4 of each class .*, 2 has 3$",
        ),
        (lambda folder: as_npz(folder, made()[:8], LABELS), r"^8 images, but 12 labels$"),
        (lambda folder: as_npz(folder, made(), LABELS + 1), r"^images\.npz has labels 1\.\.3; 0\.\.2 are"),
        (lambda folder: as_npz(folder, made(), LABELS / 2), r"has labels of float64; whole numbers"),
        (
            lambda folder: as_npz(folder, made(), np.repeat(["cat", "cow", "2"], 4)),
            r"the label 'cow', which is none",
        ),
        (lambda folder: as_npz(folder, made(size=9)), r"has images \(12, 1, 9, 9\); \(N, 1, 8, 8\)"),
        (lambda folder: as_npz(folder, made(3)), r"has images \(12, 3, 8, 8\)"),
        (
            lambda folder: as_npz(folder, made().astype(np.int64)),
            r"images of int64; uint8 in 0\.\.255, or floats",
        ),
        (
            lambda folder: as_tree(folder, made(size=9)),
            r"^2/008\.png has 9×9 pixels, mode L; 8×8, L \(8-bit grey\)",
        ),
        (lambda folder: as_tree(folder, made(3)), r"mode RGB; 8×8, L"),
        (of_palette, r"cat/000\.png has 8×8 pixels, mode P"),
        (changed(70, np.nan), r"no numbers \(NaN or infinite\) in 1 images"),
        (changed(70, -np.inf), r"no numbers \(NaN or infinite\) in 1 images"),
        (changed(70, 1.5), r"values from .* to 1\.5; floats are needed in 0\.\.1"),
        (sparse, r"^wrote 20,000 MB, and 64 MB are allowed"),
        (truncated, r"^cannot be read: "),
        (bomb, r"^cannot be read: images\.npy has 64000129 bytes; up to 64000000"),
        (torn_png, r"^cat/000\.png is damaged, or no image"),
        (two_kinds, r"^images as \.npz and as folders of classes; one of these"),
        (other_class, r"^folder dog is of no class; the folders of the classes are cat, T-shirt_top, 2$"),
        (other_file, r"^cat/weights\.pt is no image file"),
        (pickled, r"^cannot be read: .*with objects$"),
        (one_picture, r"^all 4 images of class T-shirt/top are one and the same picture$"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(write, words, tmp_path):
    write(tmp_path)
    with pytest.raises(WrongImages, match=words) as wrong:
        read_images(tmp_path, wanted())
    assert "\n" not in str(wrong.value)
    assert len(str(wrong.value)) < 400
