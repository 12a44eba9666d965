import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import SynthGainError
from pipeline.images import LabeledImages, index_sha256, pixel_sha256
from pipeline.sources.splits import split


def labeled(values: list[int], labels: list[int], classes: int = 2) -> LabeledImages:
    """Flat images: equal values are equal images."""
    images = np.array(values, np.uint8)[:, None, None, None] * np.ones((1, 1, 8, 8), np.uint8)
    return LabeledImages(images, np.array(labels, np.int64), tuple("abcdefghij"[:classes]), {"source": "toy"})


def distinct(counts: list[int], start: int) -> LabeledImages:
    total = sum(counts)
    images = np.arange(start, start + total, dtype=">u8").view(np.uint8).reshape(total, 1, 2, 4)
    return LabeledImages(
        images.copy(),
        np.repeat(np.arange(len(counts)), counts).astype(np.int64),
        tuple("abcdef"[: len(counts)]),
    )


@given(
    counts=st.lists(st.integers(5, 60), min_size=2, max_size=6),
    share=st.floats(0.2, 0.7),
    seed=st.integers(0, 2**63 - 1),
)
@settings(max_examples=40)
def test_train_and_validation_partition_the_published_split(
    counts: list[int], share: float, seed: int
) -> None:
    published, test = distinct(counts, 0), distinct([1] * len(counts), 10_000)
    wanted = max(len(counts), round(share * len(published)))
    splits = split(published, test, validation_images=wanted, seed=seed)
    train, validation = splits.train, splits.validation
    assert len(validation) == wanted
    assert sorted(pixel_sha256(train.images) + pixel_sha256(validation.images)) == sorted(
        pixel_sha256(published.images)
    )
    assert np.abs(validation.counts() - np.array(counts) * wanted / len(published)).max() < 2
    assert min(train.counts()) >= 1 and min(validation.counts()) >= 1
    assert np.array_equal(splits.test.images, test.images)
    again = split(published, test, validation_images=wanted, seed=seed)
    assert again.manifest == splits.manifest and np.array_equal(again.train.images, train.images)


@given(
    train_values=st.lists(st.integers(0, 30), min_size=40, max_size=60),
    test_values=st.lists(st.integers(20, 40), min_size=4, max_size=10),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60)
def test_no_image_is_ever_in_two_splits(train_values: list[int], test_values: list[int], seed: int) -> None:
    published = labeled(train_values, [n % 2 for n in range(len(train_values))])
    test = labeled(test_values, [n % 2 for n in range(len(test_values))])
    try:
        splits = split(published, test, validation_images=4, seed=seed)
    except SynthGainError as error:  # so many copies that a class is used up
        assert any(words in str(error) for words in ("too few images in", "are identical", "are allowed"))
        return
    hashes = [set(pixel_sha256(part.images)) for part in (splits.train, splits.validation, splits.test)]
    assert not hashes[0] & hashes[1] and not hashes[0] & hashes[2] and not hashes[1] & hashes[2]
    assert len(splits.test) == len(test) and len(splits.validation) == 4
    dropped = splits.manifest["dropped_from_train_and_validation"]
    assert len(splits.train) + len(splits.validation) + len(dropped) == len(published)
    for row in dropped:  # each is listed beside an image that it really equals
        other = test if row["identical_to"] == "test" else published
        assert np.array_equal(published.images[row["published_train_index"]], other.images[row["index"]])


def test_copies_of_test_images_leave_train_and_are_listed() -> None:
    published = labeled([1, 2, 3, 4, 5, 6, 9, 9], [0, 0, 0, 1, 1, 1, 0, 1])
    test = labeled([8, 9], [0, 1])
    splits = split(published, test, validation_images=2, seed=0)
    assert splits.manifest["dropped_from_train_and_validation"] == [
        {"published_train_index": 6, "identical_to": "test", "index": 1},
        {"published_train_index": 7, "identical_to": "test", "index": 1},
    ]
    assert splits.test.images[:, 0, 0, 0].tolist() == [8, 9]


def test_the_manifest_can_be_checked_from_the_published_split() -> None:
    published, test = distinct([30, 20], 0), distinct([3, 3], 500)
    splits = split(published, test, validation_images=10, seed=4)
    described = splits.manifest["splits"]
    all_hashes = pixel_sha256(published.images)
    for part, name in ((splits.train, "train"), (splits.validation, "validation")):
        hashes = pixel_sha256(part.images)
        indices = np.array([all_hashes.index(one) for one in hashes])
        assert described[name]["index_sha256"] == index_sha256(indices)
        text = "".join(f"{one}\n" for one in hashes)
        assert described[name]["pixels_sha256"] == hashlib.sha256(text.encode()).hexdigest()
        assert described[name]["images_per_class"] == dict(zip("ab", part.counts().tolist(), strict=True))
        assert part.provenance["index_sha256"] == described[name]["index_sha256"]
        assert part.provenance["split"] == name
    assert described["test"]["index_sha256"] == index_sha256(np.arange(6))
    assert splits.manifest["schema_version"] == 1 and splits.manifest["validation_seed"] == 4


@pytest.mark.parametrize(
    ("published", "test", "wanted", "message"),
    [
        (labeled([5] * 9, [0, 1] * 4 + [0]), labeled([1, 2], [0, 1]), 2, "all 9 images .* are identical"),
        (
            labeled([*range(9)], [0] * 9),
            labeled([11, 12], [0, 1]),
            2,
            r"published train split: class b \(0\)",
        ),
        (labeled([*range(9)], [0, 1] * 4 + [0]), labeled([11], [1]), 2, r"test split: class a \(0\)"),
        (
            labeled([*range(9)], [0, 1] * 4 + [0]),
            labeled([11, 12], [0, 1]),
            8,
            "found 8; .* 2 to 7 are allowed",
        ),
        (
            labeled([*range(9)], [0, 1] * 4 + [0]),
            labeled([11, 12], [0, 1]),
            1,
            "found 1; .* 2 to 7 are allowed",
        ),
        (
            labeled([1, 2, 3, 4, 7, 7], [0, 0, 0, 0, 1, 1]),  # the copy of a validation image leaves train
            labeled([11, 12], [0, 1]),
            2,
            "lower data.validation_images",
        ),
        (
            labeled([1, 2, 3, 7, 7, 7], [0, 0, 0, 1, 1, 1]),
            labeled([7, 8], [1, 0]),
            2,
            r"without images that are in test as well: class b \(0\)",
        ),
    ],
)
def test_what_cannot_be_split_is_explained(
    published: LabeledImages, test: LabeledImages, wanted: int, message: str
) -> None:
    with pytest.raises(SynthGainError, match=message):
        split(published, test, validation_images=wanted, seed=0)


@pytest.mark.parametrize(
    "change", [{"class_names": ("a", "c")}, {"images": np.zeros((2, 1, 8, 12), np.uint8)}]
)
def test_train_and_test_must_fit_together(change: dict[str, Any]) -> None:
    test = labeled([11, 12], [0, 1])
    values: dict[str, Any] = {
        "images": test.images,
        "labels": test.labels,
        "class_names": test.class_names,
    } | change
    with pytest.raises(SynthGainError, match="train and test differ"):
        split(labeled([*range(9)], [0, 1] * 4 + [0]), LabeledImages(**values), validation_images=2, seed=0)


def test_the_same_picture_under_two_labels_is_counted_where_it_stays_in_train() -> None:
    """Whichever copy validation takes, its twin leaves train; where both are in train, both stay."""
    pairs = [0, 0, 1, 1, 2, 2]
    published = labeled([*pairs, *range(10, 40)], [0, 1] * 3 + [0, 1] * 15)
    splits = split(published, labeled([200, 201], [0, 1]), validation_images=4, seed=3)
    hashes = pixel_sha256(splits.train.images)
    of_two = [digest for digest in hashes if hashes.count(digest) == 2]
    assert splits.manifest.get("train_images_under_two_labels", 0) == len(of_two) > 0
    same = labeled([0, 0, 1, 1, *range(10, 40)], [0, 0, 1, 1] + [0, 1] * 15)
    assert (
        "train_images_under_two_labels"
        not in split(same, labeled([200, 201], [0, 1]), validation_images=4, seed=3).manifest
    )


def test_validation_leaves_an_image_of_a_small_class_in_train() -> None:
    splits = split(
        labeled([*range(9)], [0] * 7 + [1] * 2), labeled([11, 12], [0, 1]), validation_images=7, seed=0
    )
    assert splits.validation.counts().tolist() == [6, 1] and splits.train.counts().tolist() == [1, 1]
