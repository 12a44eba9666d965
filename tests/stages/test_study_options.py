"""The stages of a small study with all arms: filtered, fresh, weighted, and rare classes with what fills their gap."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.datasets import load_digits

from pipeline.images import LabeledImages
from pipeline.study.arms import ARMS
from pipeline.study.subsets import real_subset
from stages import (
    compare,
    evaluate_classifiers,
    label_pool,
    score_labels,
    train_augmented,
    train_baselines,
    train_controls,
    train_fill,
    train_pool,
)

STUDIED = tuple(
    name
    for name, arm in ARMS.items()
    if not arm.pool  # these: test_pool_stages.py
    and (arm.policy == "none" or (arm.policy in ("affine", "affine_elastic") and not arm.remedy))
)
BUDGET, SEED, IMBALANCE = 200, 5, {"3": 0.5, "8": 0.2}
STUDY = {
    "real_images": [BUDGET],
    "replicates": 2,
    "synthetic_per_real": [0.5],
    "arms": list(STUDIED),
    "imbalance": IMBALANCE,
    "label_filter": 0.0,
    "label_filter_folds": 2,
    "label_filter_steps": 200,
}
CLASSIFIER = {
    "channels": 8,
    "feature_dim": 16,
    "steps": 5,
    "batch_size": 32,
    "synthetic_weight": 0.5,
    "real_only_tail": 0.4,
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Every cell of the study; digits that were left over stand in for the generator's images."""
    root = tmp_path_factory.mktemp("study")
    values = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    values["seed"] = SEED
    values["data"] |= {"source": "digits", "image_size": 8}
    values["study"] |= STUDY
    values["classifier"] |= CLASSIFIER
    values["execution"]["threads"] = 1
    params_file = root / "params.yaml"
    params_file.write_text(yaml.safe_dump(values))
    loaded = load_digits()
    distinct = np.unique((loaded.images[:, None] * 15.9).astype(np.uint8), axis=0, return_index=True)[1]
    order = np.random.default_rng(0).permutation(distinct)
    digits = LabeledImages(
        (loaded.images[:, None] * 15.9).astype(np.uint8), loaded.target.astype(np.int64), tuple("0123456789")
    )
    parts = {"train": order[:600], "validation": order[600:700], "test": order[700:900]}
    for name, chosen in parts.items():
        digits.subset(chosen).save(root / f"{name}.npz")
    train = digits.subset(parts["train"])
    for replicate in range(2):
        real = real_subset(train, budget=BUDGET, replicate=replicate, seed=SEED, imbalance=IMBALANCE)
        digits.subset(order[900:], real.provenance).save(root / f"synthetic/{BUDGET}/{replicate}.npz")
    given = {"budget": str(BUDGET), "train": root / "train.npz", "params_file": params_file}
    made = {"synthetic": root / "synthetic", "collapsed": root / "collapsed"}
    labels = {"labels": root / "pseudo_labels"}
    classifiers = {"out": root / "classifier"}
    scores = root / "scores"
    score_labels.main(**given, **made, out=scores, metrics=root / "acceptance")
    label_pool.main(**given, out=root / "pseudo_labels", metrics=root / "labelled")
    train_baselines.main(**given, **classifiers)
    train_fill.main(**given, **made, **classifiers)
    train_pool.main(**given, **labels, **classifiers)
    ratio = {"synthetic_per_real": "0.5"}
    train_augmented.main(**given, **made, **ratio, **labels, scores=scores, **classifiers)
    train_controls.main(**given, **ratio, **classifiers)
    tables = {"cells": root / "cells.csv", "confusion": root / "confusion.csv"}
    evaluate_classifiers.main(
        classifiers=root / "classifier",
        validation=root / "validation.npz",
        test=root / "test.npz",
        train=root / "train.npz",
        **labels,
        pool=root / "pool.csv",
        **tables,
        judgements=root / "judgements.csv",
        params_file=params_file,
    )
    scores_of_images = {
        "replicates": {"1": {"fid": 0.25}, "2": {"fid": 0.5}},
        "floor": {},
        "copycat": {},
        "n": 9,
    }
    (root / f"{BUDGET}.json").write_text(json.dumps(scores_of_images))
    compare.main(
        **tables,
        collapsed=root / "collapsed",
        synthetic=root,
        out=root / "comparison.json",
        summary=root / "summary.json",
        params_file=params_file,
    )
    return root


def test_every_arm_is_trained_equally_long_on_the_imbalanced_subset(study):
    cells = pd.read_csv(study / "cells.csv")
    assert set(cells.arm) == set(STUDIED) and len(cells) == 2 * len(STUDIED)
    assert cells.optimizer_steps.unique().tolist() == [5] and cells.batch_size.unique().tolist() == [32]
    # 20 of each class, 10 of the digit 3 and 4 of the digit 8.
    sizes = cells.groupby("arm").training_images.agg(["min", "max"])
    assert (sizes["min"] == sizes["max"]).sum() >= len(
        STUDIED
    ) - 6  # fresh arms: what the filter accepts differs
    real = sizes["min"]["real"]
    assert real == cells.real_images.iloc[0]
    filled = {name: sizes["min"][name] - real for name in STUDIED if name.startswith("fill")}
    # From 10 to 20 and from 4 to 20 images; half of that on a scale of logarithms is 14 and 9.
    halves = {name for name in filled if ARMS[name].fills_half}
    assert {filled.pop(name) for name in halves} == {4 + 5}
    assert set(filled.values()) == {10 + 16}
    remedies = [name for name in STUDIED if ARMS[name].remedy and ARMS[name].images == "real"]
    assert len(remedies) == 4 and {sizes["min"][name] for name in remedies} == {real}
    assert (cells.groupby("replicate").real_subset_sha256.nunique() == 1).all()


def test_the_acceptance_is_told_class_by_class(study):
    facts = json.loads((study / f"acceptance/{BUDGET}.json").read_text())
    assert facts["least_probability"] == 0.0 and set(facts["replicates"]) == {"1", "2"}
    for row in facts["replicates"].values():
        assert set(row["accepted_per_class"]) == set(row["real_accepted_per_class"]) == set("0123456789")
        assert 0.5 < row["accepted"] < 1 and 0.5 < row["judges_accuracy_on_real"] < 1


def test_the_comparison_has_a_verdict_on_the_rare_classes(study):
    comparison = json.loads((study / "comparison.json").read_text())
    rare = comparison["imbalance"]
    assert rare["classes"] == IMBALANCE
    assert rare["budgets"][0]["code"] in comparison["codes"]
    assert comparison["verdict"].startswith(
        "With 200 real images and rare class 3 (50 %) and class 8 (20 %), "
    )
    cells, counts = pd.read_csv(study / "cells.csv"), pd.read_csv(study / "confusion.csv")
    eights = counts[(counts.arm == "fill_synthetic") & (counts.actual == 8)]
    right = eights[eights.predicted == 8]["count"].sum() / eights["count"].sum()
    (row,) = [row for row in rare["arms"] if row["arm"] == "fill_synthetic"]
    assert row["test_recall_8"] == pytest.approx(right, abs=1e-6)
    assert row["test_macro_f1"] == pytest.approx(
        cells[cells.arm == "fill_synthetic"].test_macro_f1.mean(), abs=1e-6
    )


def test_without_a_pool_nothing_is_labelled_and_no_cell_says_anything_of_one(study):
    assert json.loads((study / f"labelled/{BUDGET}.json").read_text()) == {}
    assert len(pd.read_csv(study / "pool.csv")) == 0
    assert not [name for name in pd.read_csv(study / "cells.csv", nrows=0).columns if "pool" in name]


def test_without_a_filtered_arm_nothing_is_judged(study, tmp_path):
    values = yaml.safe_load((study / "params.yaml").read_text())
    values["study"]["arms"] = ["real", "synthetic"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    score_labels.main(
        budget=str(BUDGET),
        train=study / "train.npz",
        synthetic=tmp_path / "not read",
        collapsed=tmp_path / "collapsed",
        out=tmp_path / "scores",
        metrics=tmp_path / "acceptance",
        params_file=tmp_path / "params.yaml",
    )
    assert json.loads((tmp_path / f"acceptance/{BUDGET}.json").read_text())["replicates"] == {}
