"""A small study with a pool, stage by stage: nothing but the upper bound and the evaluation sees its labels."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.datasets import load_digits

from pipeline.checkpoints import file_sha256
from pipeline.classifier.saved_cells import load_cells
from pipeline.errors import SynthGainError
from pipeline.held_out import write_held_out_keys
from pipeline.images import LabeledImages
from pipeline.study.arms import ARMS
from pipeline.study.pool import labelled_pool, pool_indices
from pipeline.study.subsets import real_subset, subset_indices
from stages import (
    compare,
    evaluate_classifiers,
    generate,
    label_pool,
    train_augmented,
    train_baselines,
    train_controls,
    train_fill,
    train_gan,
    train_pool,
)

BUDGET, SEED = 60, 5
POOL_ARMS = ("pseudo_label_affine", "consistency_affine", "labelled_pool_affine")
WITH_GAN = ("synthetic_fresh_affine", "pseudo_label_synthetic_fresh_affine")
STUDY = {
    "real_images": [BUDGET],
    "replicates": 1,
    "synthetic_per_real": [1.0],
    "arms": ["real", "real_affine", *POOL_ARMS, *WITH_GAN],
    "pool": "rest",
    "generators_train_on": "pool",
}
CLASSIFIER = {"channels": 8, "feature_dim": 16, "steps": 30, "batch_size": 32}
POOL = {"labelled_by": "affine", "pseudo_label_threshold": 0.1, "consistency_threshold": 0.1}
GAN = {
    "total_images": 128,
    "batch_size": 32,
    "generator_channels": [16, 8],
    "discriminator_channels": [8, 16, 16],
    "discriminator_features": 16,
    "history_points": 2,
    "film_strip_frames": 2,
    "collapse_patience_images": 0,
    "warmup_steps": 1,
    "real_augmentation": 0.0,
}


@dataclass(frozen=True)
class Workspace:
    """A folder with three splits of the embedded digits, and the parameters of the study."""

    root: Path
    train: LabeledImages

    def declare(self, **changes: object) -> Path:
        values = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
        values["seed"] = SEED
        values["data"] |= {"source": "digits", "image_size": 8}
        values["study"] |= STUDY | changes.pop("study", {})
        values["pool"] |= POOL | changes
        values["gan"] |= GAN
        values["generation"]["images_per_class"] = 20
        values["classifier"] |= CLASSIFIER
        values["execution"] |= {"threads": 1, "precision": "float32"}
        file = self.root / "params.yaml"
        file.write_text(yaml.safe_dump(values))
        return file

    @property
    def given(self) -> dict[str, object]:
        return {
            "budget": str(BUDGET),
            "train": self.root / "train.npz",
            "params_file": self.root / "params.yaml",
        }

    @property
    def labels(self) -> dict[str, Path]:
        return {"labels": self.root / "pseudo_labels"}

    def label(self) -> None:
        label_pool.main(**self.given, out=self.root / "pseudo_labels", metrics=self.root / "labelled")

    def train_classifiers(self) -> None:
        out = {"out": self.root / "classifier"}
        train_baselines.main(**self.given, **out)
        train_pool.main(**self.given, **self.labels, **out)

    def run(self) -> None:
        """Every stage up to the last classifier, in a store of its own: nothing is found that another run has."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(os.environ, "SYNTHGAIN_STORE", str(self.root / "store"))
            self.label()
            collapsed = {"collapsed": self.root / "collapsed"}
            gan = self.root / "gan"
            train_gan.main(**self.given, **self.labels, **collapsed, out=gan, history=self.root / "history")
            generate.main(
                gan=gan,
                budget=str(BUDGET),
                **collapsed,
                held_out=self.root / "held_out_keys.npz",
                out=self.root / "synthetic",
                params_file=self.root / "params.yaml",
            )
            self.train_classifiers()
            ratio, out = {"synthetic_per_real": "1.0"}, {"out": self.root / "classifier"}
            made = {**collapsed, "synthetic": self.root / "synthetic"}
            scores = self.root / "scores"
            train_augmented.main(**self.given, **self.labels, **ratio, **made, scores=scores, **out)
            train_fill.main(**self.given, **made, **out)
            train_controls.main(**self.given, **ratio, **out)

    def digests(self) -> dict[str, str]:
        """Of the weights of each arm's classifier, and of what comes before it."""
        folder = self.root / f"classifier/{BUDGET}"
        files = [folder / "baselines.safetensors", folder / "pool.safetensors"]
        found = {
            cell.facts["arm"]: str({name: tensor.tolist() for name, tensor in cell.weights.items()})
            for file in [*files, folder / "augmented/1.0.safetensors"]
            for cell in load_cells(file)[0]
        }
        for name in (f"pseudo_labels/{BUDGET}.npz", f"gan/{BUDGET}/0/generator.safetensors"):
            found[name] = file_sha256(self.root / name)
        return found


def workspace(root: Path, train: LabeledImages, digits: LabeledImages, held_out: np.ndarray) -> Workspace:
    parts = {"validation": digits.subset(held_out[:100]), "test": digits.subset(held_out[100:300])}
    for name, images in {"train": train, **parts}.items():
        images.save(root / f"{name}.npz")
    write_held_out_keys(root / "held_out_keys.npz", parts)
    made = Workspace(root, train)
    made.declare()
    return made


@pytest.fixture(scope="module")
def digits():
    loaded = load_digits()
    images = (loaded.images[:, None] * 15.9).astype(np.uint8)
    distinct = np.sort(np.unique(images, axis=0, return_index=True)[1])
    return LabeledImages(images[distinct], loaded.target[distinct].astype(np.int64), tuple("0123456789"))


@pytest.fixture(scope="module")
def studies(tmp_path_factory, digits):
    """The study twice: with the true labels, and with those of the pool's images exchanged in pairs of neighbours.

    Neither image of a pair is in the subset, and nothing lies between them: the stratified draw of the subset, which
    goes by labels, takes the same images. Everything that does not see the labels of the pool must stay the same.
    """
    order = np.random.default_rng(0).permutation(len(digits))
    train = digits.subset(order[:400])
    taken = set(subset_indices(train, budget=BUDGET, replicate=0, seed=SEED).tolist())
    labels, first = train.labels.copy(), 0
    while first < len(train) - 1:
        if not {first, first + 1} & taken:
            labels[[first, first + 1]] = labels[[first + 1, first]]
            first += 1
        first += 1
    assert (labels != train.labels).mean() > 0.4
    exchanged = LabeledImages(train.images, labels, train.class_names, train.provenance)
    pair = []
    for name, images in (("true", train), ("exchanged", exchanged)):
        made = workspace(tmp_path_factory.mktemp(name), images, digits, order[400:])
        made.run()
        pair.append(made)
    return pair


def test_the_labels_of_the_pool_change_no_byte_but_those_of_the_upper_bound(studies):
    true, exchanged = (study.digests() for study in studies)
    assert set(true) >= {*POOL_ARMS, *WITH_GAN, "real", "real_affine"}
    assert {name for name in true if true[name] != exchanged[name]} == {"labelled_pool_affine"}


@pytest.fixture(scope="module")
def evaluated(studies):
    study = studies[0]
    evaluate_classifiers.main(
        classifiers=study.root / "classifier",
        validation=study.root / "validation.npz",
        test=study.root / "test.npz",
        train=study.root / "train.npz",
        **study.labels,
        pool=study.root / "pool.csv",
        cells=study.root / "cells.csv",
        confusion=study.root / "confusion.csv",
        judgements=study.root / "judgements.csv",
        params_file=study.root / "params.yaml",
    )
    return study


def test_arms_see_as_many_labelled_images_and_say_how_many_others(evaluated):
    cells = pd.read_csv(evaluated.root / "cells.csv").set_index("arm")
    assert set(cells.index) == set(STUDY["arms"])
    assert cells.optimizer_steps.unique().tolist() == [30] and cells.batch_size.unique().tolist() == [32]
    assert cells.real_images.unique().tolist() == [60] and cells.real_subset_sha256.nunique() == 1
    with_pool = [name for name in STUDY["arms"] if ARMS[name].pool]
    assert set(cells.index[cells.pool_images > 0]) == set(with_pool)
    assert cells.pool_batch_size[with_pool].unique().tolist() == [2 * 32]
    assert cells.pool_images["consistency_affine"] == cells.pool_images["labelled_pool_affine"] == 340
    assert cells.pool_images["pseudo_label_affine"] <= 340


def test_the_evaluation_alone_says_how_many_pseudo_labels_are_right(evaluated):
    (row,) = pd.read_csv(evaluated.root / "pool.csv").to_dict("records")
    train = evaluated.train
    real = real_subset(train, budget=BUDGET, replicate=0, seed=SEED)
    indices, given = labelled_pool(
        train, real, size="rest", seed=SEED, pseudo_labels=evaluated.root / f"pseudo_labels/{BUDGET}.npz"
    )
    right = given.labels == train.labels[indices]
    assert (row["budget"], row["replicate"], row["pool_images"]) == (60, 1, 340)
    assert row["kept"] == given.kept.sum() and row["coverage"] == pytest.approx(given.kept.mean(), abs=1e-6)
    assert row["accuracy"] == pytest.approx(right.mean(), abs=1e-6)
    assert row["kept_accuracy"] == pytest.approx(right[given.kept].mean(), abs=1e-6)
    assert row["kept_least_class_accuracy"] <= row["kept_accuracy"]
    facts = json.loads((evaluated.root / f"labelled/{BUDGET}.json").read_text())["1"]
    assert facts["kept"] == sum(facts["kept_per_class"].values()) == row["kept"]
    assert not [name for name in facts if "accura" in name]


def test_a_generator_of_the_pool_says_so_and_its_cells_had_these_images(evaluated):
    images = LabeledImages.load(evaluated.root / f"synthetic/{BUDGET}/0.npz")
    kept = pd.read_csv(evaluated.root / "pool.csv").kept.iloc[0]
    assert images.provenance["pool_images"] == kept > 0
    cells, _ = load_cells(evaluated.root / f"classifier/{BUDGET}/augmented/1.0.safetensors")
    for cell in cells:  # a held-out image in the pool would be found
        assert len(cell.real_pixels) == len(evaluated.train)


def test_a_verdict_is_over_the_best_arm_without_a_generator(evaluated, tmp_path):
    scores = {"replicates": {"1": {"fid": 0.25}}, "floor": {}, "copycat": {}, "n": 9}
    (tmp_path / f"{BUDGET}.json").write_text(json.dumps(scores))
    compare.main(
        cells=evaluated.root / "cells.csv",
        confusion=evaluated.root / "confusion.csv",
        collapsed=evaluated.root / "collapsed",
        synthetic=tmp_path,
        out=tmp_path / "comparison.json",
        summary=tmp_path / "summary.json",
        params_file=evaluated.root / "params.yaml",
    )
    comparison = json.loads((tmp_path / "comparison.json").read_text())
    (row,) = comparison["budgets"]
    cells = pd.read_csv(evaluated.root / "cells.csv").set_index("arm")
    without = cells.loc[["real", "real_affine", *POOL_ARMS[:2]]].validation_accuracy
    assert row["best_classic"]["arm"] == without.idxmax() or (
        without[row["best_classic"]["arm"]] == without.max()
    )
    assert row["best_synthetic"]["arm"] in WITH_GAN


def test_self_training_that_teaches_nothing_leaves_its_arms_out(studies, tmp_path, monkeypatch, capsys):
    """No label is sure enough: the study goes on without the arms that need one, and a generator is refused."""
    monkeypatch.setenv("SYNTHGAIN_STORE", str(studies[0].root / "store"))
    for name in ("train", "validation", "test"):
        (tmp_path / f"{name}.npz").symlink_to(studies[0].root / f"{name}.npz")
    study = Workspace(tmp_path, studies[0].train)
    study.declare(pseudo_label_threshold=1.0)
    study.label()
    assert "none of 340 pseudo-labels has a probability of 0.91" in capsys.readouterr().out
    study.train_classifiers()
    said = capsys.readouterr().err
    assert "pseudo_label_affine: left out, because self-training collapsed: replicate 1: none of 340" in said
    cells, _ = load_cells(tmp_path / f"classifier/{BUDGET}/pool.safetensors")
    assert [cell.facts["arm"] for cell in cells] == ["consistency_affine", "labelled_pool_affine"]
    with pytest.raises(
        SynthGainError, match=r"found pool, but in replicate 1\s+self-training collapsed: none"
    ):
        train_gan.main(
            **study.given,
            **study.labels,
            collapsed=tmp_path / "collapsed",
            out=tmp_path / "gan",
            history=tmp_path / "history",
        )


def test_a_larger_pool_than_the_rest_is_refused(studies):
    real = real_subset(studies[0].train, budget=BUDGET, replicate=0, seed=SEED)
    with pytest.raises(SynthGainError, match=r"study\.pool: found 341; .* has 340 others: take 340, or rest"):
        pool_indices(studies[0].train, real, size=341, seed=SEED)
