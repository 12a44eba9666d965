import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.errors import SynthGainError
from pipeline.held_out import read_held_out_keys
from pipeline.images import LabeledImages, pixel_keys, pixel_sha256
from pipeline.runtime.seeds import derive_seed
from pipeline.sources import digits
from pipeline.sources.splits import all_pixels_sha256
from stages import prepare

SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    digits.write_raw(folder)
    return folder


# A data set of a handful of images has few features too.
FEW = {"extractor": {"feature_dim": 2}, "evaluation": {"neighbors": 1}}


def prepared(
    raw: Path, out: Path, *, seed: int = 7, sections: Mapping[str, Any] | None = None, **data: Any
) -> dict[str, Any]:
    values = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8"))
    values["data"] |= {"source": "digits", "validation_images": 200} | data
    values["seed"] = seed
    values["study"] |= {"real_images": ["all"], "synthetic_per_real": [0.5]}
    for section, changes in (sections or {}).items():
        values[section] |= changes
    out.mkdir(parents=True, exist_ok=True)
    params_file = out.parent / f"{out.name}.yaml"
    params_file.write_text(yaml.safe_dump(values), encoding="utf-8")
    prepare.main(raw, out, params_file)
    manifest: dict[str, Any] = json.loads((out / "splits.json").read_text(encoding="utf-8"))
    return manifest


def test_the_three_splits_are_what_the_manifest_says(raw: Path, tmp_path: Path) -> None:
    manifest = prepared(raw, tmp_path / "prepared")
    assert manifest["source"] == "digits" and manifest["image_size"] == 28
    assert manifest["validation_seed"] == derive_seed(7, "validation")
    assert manifest["dropped_from_train_and_validation"] == []
    hashes = {}
    for name, size in zip(SPLITS, (1197, 200, 400), strict=True):
        images = LabeledImages.load(tmp_path / "prepared" / f"{name}.npz")
        described = manifest["splits"][name]
        assert len(images) == described["images"] == size
        hashes[name] = pixel_sha256(images.images)
        assert described["pixels_sha256"] == all_pixels_sha256(hashes[name])
        assert list(described["images_per_class"].values()) == images.counts().tolist()
        assert images.provenance["split"] == name and images.provenance["kind"] == "real"
    assert len(set().union(*hashes.values())) == 1797


def test_the_keys_of_held_out_images_find_each_of_them_and_none_of_train(raw: Path, tmp_path: Path) -> None:
    prepared(raw, tmp_path / "prepared")
    keys = read_held_out_keys(tmp_path / "prepared/held_out_keys.npz")
    images = {name: LabeledImages.load(tmp_path / f"prepared/{name}.npz").images for name in SPLITS}
    for name in ("validation", "test"):
        assert np.array_equal(keys[name], pixel_keys(images[name]))
        assert not np.isin(pixel_keys(images["train"]), keys[name]).any()
    (tmp_path / "keys.npz").write_bytes(b"PK")
    with pytest.raises(SynthGainError, match=r"keys\.npz: not a readable file of held-out keys"):
        read_held_out_keys(tmp_path / "keys.npz")


def test_same_inputs_give_the_same_bytes(raw: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        prepared(raw, tmp_path / name)
    for file in (*(f"{name}.npz" for name in (*SPLITS, "held_out_keys")), "splits.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_the_seed_draws_validation_and_leaves_test_alone(raw: Path, tmp_path: Path) -> None:
    one, two = (prepared(raw, tmp_path / str(seed), seed=seed) for seed in (1, 2))
    assert one["splits"]["validation"]["index_sha256"] != two["splits"]["validation"]["index_sha256"]
    assert one["splits"]["test"] == two["splits"]["test"]


def test_dropped_leaks_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 1, 8, 8), dtype=np.uint8)
    images[3] = images[51]  # a train image that is in the test split as well
    record = {"image_size": 8, "train_images": 50, "test_images": 10}
    labels = np.arange(60) % 2
    LabeledImages(images, labels, ("a", "b"), {"conversion": record}).save(tmp_path / "folder.npz")
    manifest = prepared(
        tmp_path, tmp_path / "prepared", source="folder", image_size=8, validation_images=10, sections=FEW
    )
    assert manifest["dropped_from_train_and_validation"] == [
        {"identical_to": "test", "index": 1, "published_train_index": 3}
    ]
    assert manifest["published"]["train"]["conversion"] == record
    out = capsys.readouterr().out
    assert "train: 39 images, 2 classes" in out
    assert "1 image dropped: pixel-identical to one of a stricter split" in out


def test_a_picture_under_two_labels_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 1, 8, 8), dtype=np.uint8)
    images[2:40:2] = images[3:41:2]  # of classes 0 and 1 in turn
    left_out = [{"file": "a/empty.png", "reason": "empty file"}]
    record = {"image_size": 8, "train_images": 50, "test_images": 10, "left_out": left_out}
    labels = np.arange(60) % 2
    LabeledImages(images, labels, ("a", "b"), {"conversion": record}).save(tmp_path / "folder.npz")
    manifest = prepared(
        tmp_path, tmp_path / "prepared", source="folder", image_size=8, validation_images=10, sections=FEW
    )
    count = manifest["train_images_under_two_labels"]
    assert 0 < count < 38 and f"{count} images in train under two labels" in capsys.readouterr().out
    assert manifest["published"]["train"]["conversion"]["left_out"] == left_out


def test_nothing_is_written_when_the_split_cannot_be_made(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(
        SynthGainError, match=r"data\.validation_images: found 5000; .* 10 to 1387 are allowed"
    ):
        prepared(raw, tmp_path / "prepared", validation_images=5000)
    assert list((tmp_path / "prepared").iterdir()) == []


def folder_of(tmp_path: Path, per_class: list[int], test_per_class: list[int]) -> None:
    """A raw folder of so many distinct images of each class."""
    rng = np.random.default_rng(0)
    classes = len(per_class)
    labels = np.concatenate([np.repeat(np.arange(classes), counts) for counts in (per_class, test_per_class)])
    images = rng.integers(0, 256, (len(labels), 1, 8, 8), dtype=np.uint8)
    sizes = {"train_images": sum(per_class), "test_images": sum(test_per_class)}
    names = tuple(f"c{label}" for label in range(classes))
    LabeledImages(images, labels, names, {"conversion": {"image_size": 8, **sizes}}).save(
        tmp_path / "folder.npz"
    )


@pytest.mark.parametrize(
    ("per_class", "test_per_class", "sections", "message"),
    [
        (
            [200, 200],
            [32, 32],
            {},
            r"^the test split: .* 64 images .* 64 features .* extractor\.feature_dim to at most 63$",
        ),
        ([200, 200], [33, 32], {}, None),
        ([600, 90], [90, 1], {}, r"class c1: .* 1 of this class; at least 2 of each class"),
        (
            [60, 9],
            [99, 2],
            {"generation": {"images_per_class": 40}},
            "^the test split: .* class c1: .* [01] of this class",
        ),
        ([200, 200], [50, 50], {"evaluation": {"neighbors": 50, "images": 100}}, None),
        (
            [20, 20],
            [9, 9],
            FEW | {"evaluation": {"neighbors": 18}},
            r"^evaluation\.neighbors: found 18; .* 1\.\.17",
        ),
        (
            [40, 40],
            [50, 50],
            {"evaluation": {"features": "inception"}},
            "^evaluation.features: .*2048 features.* set it to domain",
        ),
        (
            [4] * 257,
            [2] * 257,
            {"export": {"formats": ["idx_gz"]}},
            "^export.formats: idx_gz: IDX holds at most 256 classes, and there are 257",
        ),
        ([4] * 257, [2] * 257, {"export": {"formats": ["png", "idx_gz"]}}, None),
        ([4] * 256, [2] * 256, {}, None),
        (
            [180, 80],
            [50, 50],
            {
                "generation": {"images_per_class": 68},
                "study": {"real_images": [100], "synthetic_per_real": [0, 1]},
            },
            r"^generation\.images_per_class: found 68; class c0 has 69 images in a real subset \(study\.real_images"
            r" 100\), so study\.synthetic_per_real 1 needs 69 synthetic ones: set it to at least 69, or lower the ratio"
            r" to at most 0\.98$",
        ),
        (
            [180, 80],
            [50, 50],
            {
                "generation": {"images_per_class": 69},
                "study": {"real_images": [100], "synthetic_per_real": [0, 1]},
            },
            None,
        ),
        (
            [176, 76],
            [50, 50],
            {
                "generation": {"images_per_class": 100},
                "study": {"real_images": [9, "all"], "synthetic_per_real": [2]},
            },
            r"class c0 has 88 images .*\(study\.real_images all\).* set it to at least 176",
        ),
        (
            [80, 80],
            [50, 50],
            {"study": {"real_images": [81]}},
            "^study.real_images: found 81; .* has 80 images of 2 classes: 2 to 80, or all",
        ),
        (
            [40, 40],
            [50, 50],
            {"study": {"imbalance": {"c7": 0.1}}},
            "^study.imbalance: found class c7; the classes are c0, c1",
        ),
        (
            [40, 40],
            [50, 50],
            {},
            r"^the test split: .* 40 images to evaluate .*data\.validation_images 40.* at most 39$",
        ),
    ],
)
def test_what_would_fail_after_the_training_is_refused_before_it(
    tmp_path: Path,
    per_class: list[int],
    test_per_class: list[int],
    sections: dict[str, Any],
    message: str | None,
) -> None:
    folder_of(tmp_path, per_class, test_per_class)
    out, data = tmp_path / "prepared", {"source": "folder", "image_size": 8}
    data |= {"validation_images": sum(per_class) // 2}
    if message is None:
        prepared(tmp_path, out, sections=sections, **data)
        return
    with pytest.raises(SynthGainError) as error:
        prepared(tmp_path, out, sections=sections, **data)
    assert re.search(message, str(error.value).replace("\n", " ")), error.value
    assert list(out.iterdir()) == []


def test_every_wish_that_cannot_be_met_is_in_one_list_with_the_nearest_values(tmp_path: Path) -> None:
    """A folder with a rare class: what the arms, the budgets, the metrics and the export need of it."""
    folder_of(tmp_path, [300, 8], [60, 3])
    with pytest.raises(SynthGainError) as error:
        prepared(
            tmp_path,
            tmp_path / "prepared",
            source="folder",
            image_size=8,
            validation_images=40,
            sections={
                "study": {
                    "real_images": [1, 900, 200],
                    "synthetic_per_real": [1.0],
                    "imbalance": {"c1": 0.02},
                    "arms": ["real", "fill_synthetic"],
                },
                "generation": {"images_per_class": 50},
                "export": {"formats": ["npz"]},
                "evaluation": {"images": 100, "neighbors": 5},
            },
        )
    lines = str(error.value).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "study.real_images",
        "study.real_images",
        "generation.images_per_class",
        "generation.images_per_class",
        "the test split",
        "class c1",
    ]
    assert lines[0].endswith("found 1; the train split has 268 images of 2 classes: 2 to 268, or all")
    assert "class c0 has 195 images" in lines[2] and lines[2].endswith(
        "at least 195, or lower the ratio to at most 0.25"
    )
    assert "class c1 lacks" in lines[3] and lines[3].endswith(
        "which the fill arms add: set it to at least 191"
    )
    assert "raise generation.images_per_class to at least 62" in lines[4]
    assert "data.validation_images to about" in lines[4] and "the test split to 65 images" in lines[4]


def test_values_that_the_list_names_are_enough(tmp_path: Path) -> None:
    folder_of(tmp_path, [300, 30], [90, 9])
    sections: dict[str, Any] = {
        "study": {"real_images": [200], "synthetic_per_real": [1.0], "arms": ["real", "synthetic"]},
        "generation": {"images_per_class": 100},
        "evaluation": {"images": 100, "neighbors": 5},
        "extractor": {"feature_dim": 64},
    }
    data: dict[str, Any] = {"source": "folder", "image_size": 8, "validation_images": 50}
    with pytest.raises(SynthGainError) as error:
        prepared(tmp_path, tmp_path / "before", sections=sections, **data)
    needed = re.search(r"set it to at least (\d+)", str(error.value))
    validation = re.search(r"data\.validation_images to about (\d+)", str(error.value))
    assert needed and validation
    sections["generation"]["images_per_class"] = int(needed[1])
    data["validation_images"] = int(validation[1])
    prepared(tmp_path, tmp_path / "after", sections=sections, **data)


def test_arms_without_enough_other_real_images_and_unequal_classes_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder_of(tmp_path, [300, 100], [75, 25])
    sections: dict[str, Any] = {
        "study": {
            "real_images": [200],
            "synthetic_per_real": [0.5, 1.0],
            "arms": ["real", "synthetic", "extra_real"],
        },
        "export": {"formats": ["idx", "npz"]},
    }
    data = {"source": "folder", "image_size": 8, "validation_images": 100}
    prepared(tmp_path, tmp_path / "prepared", sections=sections, **data)
    lines = capsys.readouterr().out.splitlines()
    assert "classes are unequal: c0 has 3 times the train images of c1 (train, validation, test):" in lines
    assert "  c1: 75, 25, 25" in lines
    assert (
        "  always answering c0 would be right in 75% of the test images; study.metric balanced_accuracy or macro_f1"
        " counts every class alike"
    ) in lines
    assert lines[7:9] == [
        "extra_real: not trained with 200 real images at synthetic_per_real 1.0 or more: class c0 has 75 other train"
        " images, and 150 are needed (up to a ratio of 0.5 there are enough)",
        "0 images dropped: pixel-identical to one of a stricter split",
    ]
    sections["study"] |= {"arms": ["real", "synthetic", "synthetic_filtered"]}
    sections["generation"] = {"images_per_class": 160}
    prepared(tmp_path, tmp_path / "filtered", sections=sections, **data)
    said = "filtered arms need 150 of the 160 synthetic images of class c0 (200 real images): they fail if the label"
    assert said + " filter refuses more than 6%" in capsys.readouterr().out
    sections["study"] |= {
        "metric": "balanced_accuracy",
        "fill_to": "largest",
        "arms": ["real", "fill_synthetic"],
    }
    sections["generation"] = {"images_per_class": 99}
    with pytest.raises(
        SynthGainError, match=r"class c1 lacks 100 images .*which the fill arms add: set .* 100$"
    ):
        prepared(tmp_path, tmp_path / "refused", sections=sections, **data)
    sections["generation"] = {"images_per_class": 200}
    prepared(tmp_path, tmp_path / "filled", sections=sections, **data)
    said = "  one of the 25 test images of c1 is worth 2 points of balanced accuracy"
    assert said in capsys.readouterr().out.splitlines()
