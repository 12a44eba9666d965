from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import SynthGainError
from pipeline.images import LabeledImages, concatenate, index_sha256, pixel_sha256, stratified_indices


def random_images(n=30, classes=3, size=4, seed=0):
    rng = np.random.default_rng(seed)
    return LabeledImages(
        rng.integers(0, 256, (n, 1, size, size), dtype=np.uint8),
        np.arange(n, dtype=np.int64) % classes,
        tuple(f"class {i}" for i in range(classes)),
        {"seed": seed, "nested": {"b": 1, "a": None}},
    )


def test_save_and_load_are_inverse_and_bytes_repeat(tmp_path):
    images = random_images()
    images.save(tmp_path / "a.npz")
    images.save(tmp_path / "b.npz")
    loaded = LabeledImages.load(tmp_path / "a.npz")
    assert np.array_equal(loaded.images, images.images)
    assert np.array_equal(loaded.labels, images.labels)
    assert (loaded.class_names, loaded.provenance) == (images.class_names, images.provenance)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"PNG" * 99]
)
def test_a_damaged_file_is_named(tmp_path, damage):
    path = tmp_path / "a.npz"
    random_images().save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(SynthGainError, match=r"a\.npz: not a readable labelled image file"):
        LabeledImages.load(path)


@given(place=st.integers(0, 10_000), value=st.integers(0, 255))
@settings(max_examples=300)
def test_a_changed_byte_is_named_or_changes_nothing_that_is_read(tmp_path_factory, place, value):
    path = tmp_path_factory.mktemp("damaged") / "a.npz"
    random_images().save(path)
    content = bytearray(path.read_bytes())
    content[place % len(content)] = value
    path.write_bytes(content)
    with suppress(SynthGainError):
        loaded, whole = LabeledImages.load(path), random_images()
        assert np.array_equal(loaded.images, whole.images) and np.array_equal(loaded.labels, whole.labels)
        assert (loaded.class_names, loaded.provenance) == (whole.class_names, whole.provenance)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SynthGainError, match=r"a\.npz: no such file"):
        LabeledImages.load(tmp_path / "a.npz")


@pytest.mark.parametrize(
    "images, labels, said",
    [
        (np.zeros((2, 4, 4), np.uint8), np.zeros(2, np.int64), r"\(N, 3, H, W\) uint8"),
        (np.zeros((2, 4, 4, 3), np.uint8), np.zeros(2, np.int64), r"\(N, 3, H, W\) uint8"),
        (np.zeros((2, 1, 4, 4), np.float32), np.zeros(2, np.int64), "float32"),
        (np.zeros((2, 1, 4, 4), np.uint8), np.zeros(3, np.int64), r"\(2,\) int64"),
        (np.zeros((2, 1, 4, 4), np.uint8), np.zeros(2, np.int32), "int32"),
        (np.zeros((2, 1, 4, 4), np.uint8), np.array([0, 3], np.int64), r"allow 0\.\.2"),
        (np.zeros((2, 1, 4, 4), np.uint8), np.array([-1, 0], np.int64), "found -1"),
    ],
)
def test_wrong_shapes_types_and_labels_are_refused(images, labels, said):
    with pytest.raises(SynthGainError, match=said):
        LabeledImages(images, labels, ("a", "b", "c"))


def test_colour_is_saved_and_read_back(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 8, 8), dtype=np.uint8)
    colour = LabeledImages(pixels, np.array([0, 1, 2, 0]), ("a", "b", "c"))
    colour.save(tmp_path / "c.npz")
    again = LabeledImages.load(tmp_path / "c.npz")
    assert again.channels == 3 and np.array_equal(again.images, pixels)
    grey = LabeledImages(pixels[:, :1], colour.labels, colour.class_names)
    with pytest.raises(SynthGainError, match="channels or sides differ"):
        concatenate([colour, grey], {})


def test_concatenate_keeps_order_and_refuses_other_classes():
    a, b = random_images(seed=1), random_images(seed=2)
    both = concatenate([a, b], {})
    assert np.array_equal(both.images, np.concatenate([a.images, b.images]))
    with pytest.raises(SynthGainError, match="classes differ"):
        concatenate([a, random_images(classes=2)], {})


@given(
    counts=st.lists(st.integers(1, 60), min_size=2, max_size=6),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_a_stratified_draw_has_the_size_and_the_shares_it_was_asked_for(counts, share, seed):
    labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    size = max(len(counts), round(share * len(labels)))
    indices = stratified_indices(labels, size, len(counts), np.random.default_rng(seed))
    assert len(indices) == size == len(set(indices.tolist()))
    assert (np.diff(indices) > 0).all()
    drawn = np.bincount(labels[indices], minlength=len(counts))
    quota = np.array(counts) * size / len(labels)
    assert (drawn >= 1).all()
    assert (drawn <= np.maximum(np.ceil(quota), 1)).all()


@given(
    counts=st.lists(st.integers(3, 60), min_size=1, max_size=8),
    leave=st.integers(0, 2),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**32),
)
def test_a_stratified_draw_leaves_so_many_of_each_class(counts, leave, share, seed):
    labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    size = max(len(counts), round(share * (len(labels) - leave * len(counts))))
    indices = stratified_indices(labels, size, len(counts), np.random.default_rng(seed), leave=leave)
    drawn = np.bincount(labels[indices], minlength=len(counts))
    assert drawn.sum() == size and (drawn >= 1).all() and (drawn <= np.array(counts) - leave).all()
    most = len(labels) - leave * len(counts)
    said = f"{leave} of each class are to be left" if leave else "there are only"
    with pytest.raises(SynthGainError, match=said):
        stratified_indices(labels, most + 1, len(counts), np.random.default_rng(seed), leave=leave)


def test_impossible_draws_are_refused():
    labels = np.array([0, 0, 1, 1], dtype=np.int64)
    rng = np.random.default_rng(0)
    for size, classes, said in (
        (5, 2, "only 4"),
        (1, 2, "at least one each"),
        (3, 3, "class 2 has no image"),
    ):
        with pytest.raises(SynthGainError, match=said):
            stratified_indices(labels, size, classes, rng)


def test_the_index_hash_is_that_of_a_set():
    assert index_sha256(np.array([3, 1, 2])) == index_sha256(np.array([1, 2, 3]))
    assert index_sha256(np.array([1, 2])) != index_sha256(np.array([1, 2, 3]))


def test_pixel_hashes_tell_images_apart():
    images = random_images(5).images
    images[4] = images[0]
    hashes = pixel_sha256(images)
    assert hashes[4] == hashes[0]
    assert len(set(hashes)) == 4
