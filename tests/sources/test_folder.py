import os
import resource
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.errors import SynthGainError
from pipeline.images import LabeledImages, pixel_sha256
from pipeline.sources import folder
from pipeline.sources.folder import RAW_FILE, load, write_raw
from pipeline.sources.splits import split


def noise(seed: int, height: int = 28, width: int = 28) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def make_tree(root: Path, counts: dict[str, int], *, start: int = 0) -> Path:
    """Each class a folder of distinct noise images."""
    for position, (name, count) in enumerate(counts.items()):
        (root / name).mkdir(parents=True)
        for n in range(count):
            Image.fromarray(noise(start + 1000 * position + n)).save(root / name / f"{n:03}.png")
    return root


def packed(own: Path, out: Path, image_size: int = 28) -> LabeledImages:
    out.mkdir(exist_ok=True)
    write_raw(own, out, image_size=image_size)
    return LabeledImages.load(out / folder.RAW_FILE)


def problems(own: Path, out: Path) -> list[str]:
    out.mkdir(exist_ok=True)
    with pytest.raises(SynthGainError) as error:
        write_raw(own, out, image_size=28)
    assert list(out.iterdir()) == []  # nothing half-written
    return str(error.value).splitlines()


def test_classes_are_sorted_and_pixels_kept(tmp_path: Path) -> None:
    own = make_tree(tmp_path / "own", {"pear": 3, "apple": 4})
    clutter = (
        ".hidden.png",
        ".DS_Store",
        "Thumbs.db",
        "thumbs.db",
        "THUMBS.DB",
        "Desktop.ini",
        "desktop.ini",
    )
    for place in ("", "pear/", "apple/"):
        for name in ("README.md", "Icon\r", "ehthumbs.db", *clutter):
            (own / place / name).write_text("ignored")
        for name in ("@eaDir", "__MACOSX", "#recycle", "$RECYCLE.BIN", "System Volume Information"):
            (own / place / name / "0.png").mkdir(parents=True)
            Image.fromarray(noise(7)).save(own / place / name / "thumbnail.png")
    images = packed(own, tmp_path / "raw")
    assert images.class_names == ("apple", "pear")
    assert images.labels.tolist() == [0] * 4 + [1] * 3
    expected = [noise(1000 + n) for n in range(4)] + [noise(n) for n in range(3)]
    assert np.array_equal(images.images[:, 0], np.stack(expected))
    assert images.provenance["conversion"]["converted"] == {}


def test_images_in_deeper_and_linked_folders_belong_to_their_class(tmp_path: Path) -> None:
    own = make_tree(tmp_path / "own", {"a": 3, "b": 3})
    make_tree(own / "a", {"more": 2}, start=500)
    make_tree(tmp_path / "elsewhere", {"c": 4}, start=700)
    (own / "c").symlink_to(tmp_path / "elsewhere" / "c", target_is_directory=True)
    assert packed(own, tmp_path / "raw").counts().tolist() == [5, 3, 4]


def test_a_link_loop_is_named_and_ends(tmp_path: Path) -> None:
    own = make_tree(tmp_path / "own", {"a": 3, "b": 3})
    (own / "a" / "up").symlink_to(own, target_is_directory=True)
    (own / "b" / "aside").symlink_to(own / "a", target_is_directory=True)
    lines = problems(own, tmp_path / "raw")
    assert lines[1:] == [f"  {name}: a link to a folder that is read already" for name in ("a/up", "b/aside")]


def test_a_decompression_bomb_is_named_before_it_is_decoded(tmp_path: Path) -> None:
    own = make_tree(tmp_path / "own", {"a": 4, "b": 3})
    path = own / "a" / "000.png"
    png = bytearray(path.read_bytes())
    png[16:24] = struct.pack(">II", 60_000, 60_000)  # in the header: width and height
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    path.write_bytes(png)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert problems(own, tmp_path / "raw")[1:-1] == ["  a/000.png: over 64 megapixels"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KiB; decoded: 3.6 million


def test_train_and_test_folders_are_kept_apart(tmp_path: Path) -> None:
    own = tmp_path / "own"
    make_tree(own / "train", {"a": 5, "b": 4})
    make_tree(own / "test", {"a": 2, "b": 3}, start=5000)
    packed(own, tmp_path / "raw")
    train, test = load(tmp_path / "raw", image_size=28, test_fraction=0.5, seed=1)
    assert train.counts().tolist() == [5, 4] and test.counts().tolist() == [2, 3]
    assert np.array_equal(test.images[0, 0], noise(5000))
    assert "held_out_index_sha256" not in test.provenance


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    own = make_tree(tmp_path / "own", {"train": 3, "plane": 3})
    assert packed(own, tmp_path / "raw").class_names == ("plane", "train")


def test_train_and_test_must_hold_the_same_classes_and_nothing_beside(tmp_path: Path) -> None:
    own = tmp_path / "own"
    make_tree(own / "train", {"a": 2, "b": 2, "c": 1})
    make_tree(own / "test", {"a": 2, "d": 2})
    make_tree(own / "val", {"a": 2})
    lines = "\n".join(problems(own, tmp_path / "raw"))
    assert "val: beside train/ and test/; put its images into train/" in lines
    assert "class b: no test image" in lines
    assert "class c: 1 usable train images; at least 2 are needed (train and validation)" in lines
    assert "class d: 0 usable train images" in lines


def test_all_problems_come_at_once_each_by_name(tmp_path: Path) -> None:
    own = make_tree(tmp_path / "own", {"a": 5, "b": 5})
    for n in range(18):
        (own / "a" / f"empty{n:02}.png").write_bytes(b"")
    (own / "b" / "labels.csv").write_text("x")
    (own / "b" / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    Image.new("L", (400, 9)).save(own / "b" / "wide.png")
    (own / "notes.txt").write_text("x")
    (own / "hollow").mkdir()
    lines = problems(own, tmp_path / "raw")
    assert lines[0] == f"{own}: 23 problems; nothing was packed"
    assert len(lines) == 25 and "set data.unusable_images to leave_out" in lines[-1]
    assert lines[1] == "  hollow: no image in this class folder"
    assert lines[2] == "  notes.txt: a file outside the class folders"
    assert lines[3] == "  a/empty00.png: empty file"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("labels.csv", "not an image file (.png, .jpg"),
        ("cut.jpg", "not a readable image"),
        (os.fsdecode(b"caf\xe9.png"), "empty file"),
        ("line\nbreak.png", "empty file"),
    ],
)
def test_a_problem_names_its_file_on_one_printable_line(tmp_path: Path, name: str, reason: str) -> None:
    own = make_tree(tmp_path / "own", {"a": 3, "b": 3})
    (own / "b" / name).write_bytes(b"" if reason == "empty file" else b"\xff\xd8\xff")
    lines = problems(own, tmp_path / "raw")
    assert lines[0] == f"{own}: 1 problem; nothing was packed"
    assert len(lines) == 3 and lines[1].startswith("  b/") and reason in lines[1]
    lines[1].encode("utf-8")


def test_of_five_thousand_bad_files_a_thousand_are_named(tmp_path: Path) -> None:
    own = make_tree(tmp_path / "own", {"a": 3, "b": 3})
    for n in range(1100):
        (own / "a" / f"empty{n:04}.png").write_bytes(b"")
    lines = problems(own, tmp_path / "raw")
    assert lines[0] == f"{own}: 1100 problems; nothing was packed" and lines[1001:1002] == ["  and 100 more"]


def test_files_that_cannot_be_used_are_left_out_on_request_and_counted(tmp_path: Path) -> None:
    own = make_tree(tmp_path / "own", {"a": 5, "b": 5})
    (own / "a" / "empty.png").write_bytes(b"")
    (own / "b" / "line\nbreak.txt").write_text("x")
    (tmp_path / "raw").mkdir()
    said = write_raw(own, tmp_path / "raw", image_size=28, unusable="leave_out")
    images = LabeledImages.load(tmp_path / "raw" / folder.RAW_FILE)
    assert images.counts().tolist() == [5, 5]
    left_out = images.provenance["conversion"]["left_out"]
    assert [each["file"] for each in left_out] == ["a/empty.png", "b/line\\nbreak.txt"]
    assert left_out[0]["reason"] == "empty file" and left_out[1]["reason"].startswith("not an image file")
    assert "  2 files were left out (data.unusable_images: leave_out):" in said
    assert "    a/empty.png: empty file" in said
    train, _ = load(tmp_path / "raw", image_size=28, test_fraction=0.4, seed=1)
    assert train.provenance["conversion"]["left_out"] == left_out  # and so it is in the split manifest


def test_a_folder_without_a_bad_file_gives_the_same_bytes_with_either_setting(tmp_path: Path) -> None:
    own = make_tree(tmp_path / "own", {"a": 5, "b": 5})
    for setting in ("stop", "leave_out"):
        (tmp_path / setting).mkdir()
        write_raw(own, tmp_path / setting, image_size=28, unusable=setting)
    one, two = ((tmp_path / name / folder.RAW_FILE).read_bytes() for name in ("stop", "leave_out"))
    assert one == two


@pytest.mark.parametrize(
    ("good", "message"),
    [
        (0, "class b: none of its files can be used"),
        (2, "class b: 2 usable train images; at least 3"),
        (None, "class a: none of its files can be used"),
    ],
)
def test_a_class_that_is_too_small_for_want_of_left_out_files_stops_all_the_same(
    tmp_path: Path, good: int | None, message: str
) -> None:
    own = make_tree(tmp_path / "own", {"a": 5, "b": 5, "c": 5})
    bad = list((own / "b").iterdir())[good:] if good is not None else own.rglob("*.png")
    for path in bad:
        path.write_bytes(b"")
    (tmp_path / "raw").mkdir()
    with pytest.raises(SynthGainError) as error:
        write_raw(own, tmp_path / "raw", image_size=28, unusable="leave_out")
    assert message in str(error.value) and "leave_out, and" not in str(error.value)


@pytest.mark.parametrize("apart", [False, True])
def test_one_name_in_two_unicode_forms_is_named_with_the_reason(tmp_path: Path, apart: bool) -> None:
    """A folder from a Mac beside one from elsewhere: they look the same."""
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    if apart:
        own = make_tree(tmp_path / "own" / "train", {composed: 3, "b": 3}).parent
        make_tree(own / "test", {decomposed: 3, "b": 3}, start=9000)
    else:
        own = make_tree(tmp_path / "own", {composed: 3, decomposed: 3, "b": 3})
    lines = problems(own, tmp_path / "raw")
    assert any(
        "different Unicode forms" in line and "caf\\xe9" in line and "e\\u0301" in line for line in lines
    )


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("right\u202eleft", "right\\u202eleft"),
        ("cursor\x1b[2J", "cursor\\x1b[2J"),
        (os.fsdecode(b"caf\xe9"), "caf\\udce9"),
        ("line\nbreak", "line\\nbreak"),
    ],
)
def test_a_class_is_called_by_printable_characters(tmp_path: Path, name: str, shown: str) -> None:
    lines = problems(make_tree(tmp_path / "own", {"a": 3, name: 3}), tmp_path / "raw")
    assert len(lines) == 2 and shown in lines[1] and "printable characters is needed" in lines[1]
    assert all(line.isprintable() for line in lines)


def test_names_that_differ_in_case_or_are_long_are_classes(tmp_path: Path) -> None:
    own = make_tree(tmp_path / "own", {"a": 3, "A": 3, "x" * 200: 3})
    write_raw(own, tmp_path / "raw", image_size=8)
    assert LabeledImages.load(tmp_path / "raw" / RAW_FILE).class_names == ("A", "a", "x" * 200)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"a": 5}, "one class only (a); at least 2"),
        (
            {"a": 5, "b": 2},
            "class b: 2 usable train images; at least 3 are needed (train, validation and test)",
        ),
        ({"a": 5, "b": 0}, "b: no image in this class folder"),
    ],
)
def test_classes_must_be_large_enough_to_be_split(
    tmp_path: Path, counts: dict[str, int], message: str
) -> None:
    assert message in "\n".join(problems(make_tree(tmp_path / "own", counts), tmp_path / "raw"))


def test_an_empty_or_missing_folder_says_what_belongs_there(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "README.md").write_text("put images here")
    for own, what in ((tmp_path / "own", "empty"), (tmp_path / "none", "no such folder")):
        with pytest.raises(
            SynthGainError, match=rf"{own}: {what}; put one folder per class there.*own-data.md"
        ):
            write_raw(own, tmp_path, image_size=28)
    make_tree(tmp_path / "half" / "test", {"a": 3})
    with pytest.raises(SynthGainError, match="test/ holds class folders, but train/ does not"):
        write_raw(tmp_path / "half", tmp_path, image_size=28)


def test_what_was_converted_is_recorded_and_said(tmp_path: Path) -> None:
    own = make_tree(tmp_path / "own", {"a": 3, "b": 3})
    Image.fromarray(np.full((28, 20, 3), 250, np.uint8)).save(own / "a" / "white.png")
    Image.fromarray(noise(1, 40, 40).astype(np.uint16) * 257).save(own / "b" / "deep.png")
    out = tmp_path / "raw"
    out.mkdir()
    said = write_raw(own, out, image_size=28)
    record = LabeledImages.load(out / folder.RAW_FILE).provenance["conversion"]
    assert record["converted"] == {
        "padded to a square": 1,
        "16 bits scaled": 1,
        "resized": 1,
    }
    assert record["sizes"] == {"20x28": 1, "28x28": 6, "40x40": 1}
    assert said[0] == f"{own}: 8 train images, no test split of its own; 2 classes: a 4, b 4"
    assert "  1 images: 16 bits scaled" in said and "channels" not in record


def tree_with_colour(root: Path) -> tuple[Path, np.ndarray]:
    """Two grey images and one in colour of each class; the colour of the first is the answer."""
    own = make_tree(root, {"a": 2, "b": 2})
    rgb = np.random.default_rng(5).integers(0, 256, (28, 28, 3), dtype=np.uint8)
    for name in "ab":
        Image.fromarray(rgb if name == "a" else rgb[::-1]).save(own / name / "z.png")
    return own, rgb


@pytest.mark.parametrize(
    ("channels", "wanted", "said"),
    [
        (
            "auto",
            3,
            "  2 of 6 images have colour, so all have three channels; the 4 grey ones have three equal ones",
        ),
        ("colour", 3, "  2 of 6 images have colour"),
        ("grey", 1, "  warning: 2 images lost their colour (data.channels: grey); auto or colour keeps it"),
    ],
)
def test_colour_is_never_lost_without_a_word(tmp_path: Path, channels: Any, wanted: int, said: str) -> None:
    own, rgb = tree_with_colour(tmp_path / "own")
    (tmp_path / "raw").mkdir()
    lines = write_raw(own, tmp_path / "raw", image_size=28, channels=channels)
    images = LabeledImages.load(tmp_path / "raw" / RAW_FILE)
    assert images.channels == wanted and any(line.startswith(said) for line in lines)
    train, test = load(tmp_path / "raw", image_size=28, test_fraction=0.4, seed=1)
    assert train.channels == test.channels == wanted
    if wanted == 3:
        assert np.array_equal(images.images[2], rgb.transpose(2, 0, 1))
        assert (images.images[0] == noise(0)).all()  # grey: the same in each channel
        assert images.provenance["conversion"]["images_in_colour"] == 2
    else:
        luma = rgb @ np.array([0.299, 0.587, 0.114])
        assert np.abs(images.images[2, 0] - luma).max() <= 1


def test_grey_images_in_three_channels_on_request(tmp_path: Path) -> None:
    own = make_tree(tmp_path / "own", {"a": 3, "b": 3})
    (tmp_path / "raw").mkdir()
    lines = write_raw(own, tmp_path / "raw", image_size=28, channels="colour")
    assert LabeledImages.load(tmp_path / "raw" / RAW_FILE).images.shape == (6, 3, 28, 28)
    assert "  0 of 6 images have colour, so" in lines[-1]


def test_images_smaller_than_the_side_are_enlarged_with_a_warning(tmp_path: Path) -> None:
    own = make_tree(tmp_path / "own", {"a": 3, "b": 3})
    Image.fromarray(noise(9, 40, 80)).save(own / "a" / "large.png")
    (tmp_path / "raw").mkdir()
    lines = write_raw(own, tmp_path / "raw", image_size=64)
    assert lines[-1].startswith("  warning: 6 images were enlarged to 64 pixels")
    assert not any("warning" in line for line in write_raw(own, tmp_path / "raw", image_size=28))


def test_light_backgrounds_are_kept_and_told(tmp_path: Path) -> None:
    own = make_tree(tmp_path / "own", {"a": 3, "b": 3})
    for path in own.rglob("*.png"):
        Image.fromarray(255 - noise(int(path.stem)) // 4).save(path)
    (tmp_path / "raw").mkdir()
    said = write_raw(own, tmp_path / "raw", image_size=28)
    assert "6 of 6 images have a light border" in said[-1]
    assert LabeledImages.load(tmp_path / "raw" / folder.RAW_FILE).images.min() > 127


def test_the_packed_file_has_the_same_bytes_each_time(tmp_path: Path) -> None:
    own = make_tree(tmp_path / "own", {"b": 4, "a": 4})
    packed(own, tmp_path / "one")
    for path in own.rglob("*.png"):
        os.utime(path, (1, 1))
    packed(own, tmp_path / "two")
    one, two = ((tmp_path / name / folder.RAW_FILE).read_bytes() for name in ("one", "two"))
    assert one == two


@given(
    counts=st.lists(st.integers(8, 40), min_size=2, max_size=5),
    fraction=st.floats(0.15, 0.6),
    seed=st.integers(0, 2**63 - 1),
)
@settings(max_examples=25)
def test_the_hold_out_is_a_stratified_partition(
    tmp_path_factory: pytest.TempPathFactory, counts: list[int], fraction: float, seed: int
) -> None:
    raw = tmp_path_factory.mktemp("raw")
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int64)
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 1, 8, 8), dtype=np.uint8)
    record = {"image_size": 8, "train_images": len(labels), "test_images": 0}
    everything = LabeledImages(images, labels, tuple("abcde"[: len(counts)]), {"conversion": record})
    everything.save(raw / folder.RAW_FILE)
    train, test = load(raw, image_size=8, test_fraction=fraction, seed=seed)
    assert len(test) == round(fraction * len(labels))
    assert sorted(pixel_sha256(train.images) + pixel_sha256(test.images)) == sorted(pixel_sha256(images))
    assert np.array_equal(train.counts() + test.counts(), counts)
    assert np.abs(test.counts() - fraction * np.array(counts)).max() < 2
    again = load(raw, image_size=8, test_fraction=fraction, seed=seed)[1]
    assert np.array_equal(again.images, test.images)


def test_small_classes_keep_an_image_for_every_split(tmp_path: Path) -> None:
    """In proportion, the test split would take two of the three, and leave one for train and validation."""
    packed(make_tree(tmp_path / "own", {"a": 40, "b": 3}), tmp_path / "raw")
    train, test = load(tmp_path / "raw", image_size=28, test_fraction=0.6, seed=1)
    assert test.counts().tolist() == [25, 1] and train.counts().tolist() == [15, 2]
    splits = split(train, test, validation_images=14, seed=1)
    assert min(splits.train.counts()) == min(splits.validation.counts()) == 1


def test_another_seed_holds_out_other_images(tmp_path: Path) -> None:
    packed(make_tree(tmp_path / "own", {"a": 20, "b": 20}), tmp_path / "raw")
    draws = [load(tmp_path / "raw", image_size=28, test_fraction=0.5, seed=seed)[1] for seed in (1, 2)]
    assert not np.array_equal(draws[0].images, draws[1].images)


@pytest.mark.parametrize(
    ("fraction", "message"),
    [
        (
            0.1,
            "data.folder_test_fraction: found 0.1, which holds out 1 of 8 images; .* 0.25 to 0.5 is allowed",
        ),
        (
            0.9,
            "found 0.9, which holds out 7 of 8 images; each of 2 classes needs one for test, and 2 for train",
        ),
    ],
)
def test_a_fraction_that_does_not_fit_is_explained(tmp_path: Path, fraction: float, message: str) -> None:
    packed(make_tree(tmp_path / "own", {"a": 5, "b": 3}), tmp_path / "raw")
    with pytest.raises(SynthGainError, match=message):
        load(tmp_path / "raw", image_size=28, test_fraction=fraction, seed=1)


def test_another_image_size_needs_another_download(tmp_path: Path) -> None:
    packed(make_tree(tmp_path / "own", {"a": 5, "b": 5}), tmp_path / "raw")
    with pytest.raises(SynthGainError, match=r"has 28 pixels per side, data\.image_size is 32"):
        load(tmp_path / "raw", image_size=32, test_fraction=0.2, seed=1)


class TestIdxFiles:
    @pytest.mark.parametrize("suffix", ["", ".gz"])
    def test_a_pair_with_a_test_pair(self, tmp_path: Path, write_idx: Any, suffix: str) -> None:
        own = tmp_path / "own"
        images = np.stack([noise(n) for n in range(9)])
        write_idx(own / f"train-images-idx3-ubyte{suffix}", images[:6])
        write_idx(own / f"train-labels-idx1-ubyte{suffix}", np.array([10, 2, 7, 2, 7, 10]))
        write_idx(own / f"t10k-images-idx3-ubyte{suffix}", images[6:])
        write_idx(own / f"t10k-labels-idx1-ubyte{suffix}", np.array([2, 10, 7]))
        (own / "README.md").write_text("ignored")
        packed(own, tmp_path / "raw")
        train, test = load(tmp_path / "raw", image_size=28, test_fraction=0.2, seed=1)
        assert train.class_names == ("2", "7", "10")
        assert train.labels.tolist() == [2, 0, 1, 0, 1, 2] and test.labels.tolist() == [0, 2, 1]
        assert np.array_equal(np.concatenate([train.images, test.images])[:, 0], images)

    def test_other_sizes_are_resized(self, tmp_path: Path, write_idx: Any) -> None:
        write_idx(tmp_path / "own" / "train-images-idx3-ubyte", np.full((6, 8, 12), 77))
        write_idx(tmp_path / "own" / "train-labels-idx1-ubyte", np.array([0, 0, 0, 1, 1, 1]))
        images = packed(tmp_path / "own", tmp_path / "raw")
        assert images.images.shape == (6, 1, 28, 28) and (images.images == 77).all()
        assert images.provenance["conversion"]["converted"] == {
            "padded to a square": 6,
            "resized": 6,
            "smaller than data.image_size, enlarged": 6,
        }

    def test_problems_are_named_together(self, tmp_path: Path, write_idx: Any) -> None:
        own = tmp_path / "own"
        write_idx(own / "train-images-idx3-ubyte", np.zeros((4, 28, 28)))
        write_idx(own / "train-labels-idx1-ubyte", np.zeros(5))
        write_idx(own / "t10k-images-idx3-ubyte", np.zeros((4, 28, 28)))
        write_idx(own / "t10k-images-idx3-ubyte.gz", np.zeros((4, 28, 28)))
        (own / "cats").mkdir()
        assert problems(own, tmp_path / "raw")[1:] == [
            "  cats: beside IDX files; take it away",
            "  train-images-idx3-ubyte: 4 images, but 5 labels",
            "  t10k-images-idx3-ubyte: there with and without .gz; keep one of them",
            "  t10k-labels-idx1-ubyte[.gz]: not there; images and labels are needed",
        ]
