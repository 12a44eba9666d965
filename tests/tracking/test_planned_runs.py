"""Runs are planned from the declared study alone, and their hash changes with whatever is logged."""

import dataclasses
import json
import re

import pytest

from pipeline.comparison.verdict import CODES
from pipeline.errors import SynthGainError
from pipeline.images import LabeledImages
from pipeline.params import load_params
from pipeline.study.trained_gans import Collapse, TrainedGans
from pipeline.tracking.planned_runs import Images, PlannedRun, plan_runs


@pytest.fixture
def plan(write_study):
    """A function that plans the runs of a small study, after `write_study` and whatever a test changes."""

    def plan(files):
        data = files.root / "data"
        test = {"images": 300, "pixels_sha256": "ef" * 32}
        manifest = {"image_size": 8, "splits": {"test": test}}
        (data / "prepared/splits.json").write_text(json.dumps(manifest))
        (data / "report/figures").mkdir(parents=True, exist_ok=True)
        (data / "report/index.html").write_text("<p>report</p>")
        (data / "report/figures/accuracy.png").write_bytes(b"picture")
        return plan_runs(
            load_params(files.params),
            files.folders,
            params_file=files.params,
            report=data / "report",
        )

    return plan


def by_key(runs):
    keyed = {run.key: run for run in runs}
    assert len(keyed) == len(runs)
    return keyed


def test_one_run_per_cell_gan_budget_and_study(plan, write_study):
    runs = plan(write_study(budgets=(60, "all"), ratios=(0.5, 1.0), replicates=2))
    kinds = [run.kind for run in runs]
    assert kinds[0] == "study"
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "study": 1,
        "summary": 2,
        "curve": 2 * 5,
        "gan": 2 * 2,
        "cell": 2 * (2 + 3 * 2) * 2,  # budgets × (arms without + arms with synthetic × ratios) × replicates
    }


def test_a_cell_has_what_people_group_by_and_what_it_was_trained_on(plan, write_study):
    files = write_study(budgets=(60,), ratios=(0.5,), replicates=1)
    runs = by_key(plan(files))
    mixed = runs["cell/60/synthetic_affine/0.5/1"]
    assert mixed.name == "60 · synthetic_affine · 0.5 · replicate 1"
    assert mixed.params == {
        "arm": "synthetic_affine",
        "synthetic_per_real": "0.5",
        "classic_augmentation": "affine",
        "real_images": "60",
        "replicate": "1",
        "training_images": "90",
        "optimizer_steps": "1000",
        "batch_size": "64",
    }
    names = {name for name, _, _ in mixed.metrics}
    assert {"test_accuracy", "test_macro_f1", "validation_accuracy", "test_f1_2"} <= names
    assert {images.name for images in mixed.inputs} == {"folder-real", "folder-synthetic", "folder-test"}
    assert {images.name for images in runs["cell/60/real/0/1"].inputs} == {"folder-real", "folder-test"}
    only = runs["cell/60/synthetic_only/0.5/1"].inputs
    assert {images.name for images in only} == {"folder-synthetic", "folder-test"}
    provenance = LabeledImages.load(files.root / "data/synthetic/60/0.npz").provenance
    digests = {images.name: images.digest for images in mixed.inputs}
    assert digests["folder-test"] == "ef" * 8
    assert provenance["real_subset_sha256"].startswith(digests["folder-real"])
    assert provenance["generator_sha256"].startswith(digests["folder-synthetic"])


def test_extra_real_images_are_no_synthetic_ones(plan, write_study):
    files = write_study(arms=("real", "synthetic", "repeat", "extra_real"), ratios=(0.5,), replicates=2)
    runs = by_key(plan(files))
    for arm in ("repeat", "extra_real"):
        assert {images.name for images in runs[f"cell/60/{arm}/0.5/1"].inputs} == {
            "folder-real",
            "folder-test",
        }
    assert "curve/60/extra_real" in runs and "curve/60/synthetic_affine" not in runs
    names = {name for name, _, _ in runs["summary/60"].metrics}
    assert {"minimum_detectable_effect", "probability_of_improvement"} <= names
    assert runs["summary/60"].tags["verdict_code"] in CODES


def lines(run):
    """{metric: {step: value}}."""
    found = {}
    for name, value, step in run.metrics:
        found.setdefault(name, {})[step] = value
    return found


def test_a_curve_is_an_arm_against_the_ratio_in_percent(plan, write_study):
    files = write_study(budgets=(60,), ratios=(0.5, 1.0), replicates=3)
    runs = by_key(plan(files))
    arms = json.loads(files.comparison.read_text())["arms"]
    means = {(arm["arm"], arm["synthetic_per_real"]): arm["test_accuracy"] for arm in arms}
    for arm, classic in (("synthetic", "real"), ("synthetic_affine", "real_affine")):
        start = means[classic, 0]
        expected = {0: start, 50: means[arm, 0.5], 100: means[arm, 1.0]}
        assert lines(runs[f"curve/60/{arm}"])["test_accuracy"] == expected
        level = lines(runs[f"curve/60/{classic}"])
        assert level["test_accuracy"] == dict.fromkeys((0, 50, 100), start)
        assert level["test_accuracy_low"][0] < start < level["test_accuracy_high"][0]
    only = runs["curve/60/synthetic_only"]
    assert set(lines(only)["test_accuracy"]) == {50, 100}
    assert only.params == {"arm": "synthetic_only", "real_images": "60", "classic_augmentation": "none"}
    assert {run.name for run in runs.values() if run.kind == "curve"} == {
        *("60 · real only", "60 · affine", "60 · + synthetic", "60 · + synthetic, affine"),
        "60 · synthetic only",
    }


def test_no_two_curves_have_one_colour(plan, write_study):
    curves = [run for run in plan(write_study(budgets=(30, 60))) if run.kind == "curve"]
    assert len({run.tags["mlflow.runColor"] for run in curves}) == len(curves) > 4


def test_a_summary_has_the_finding_and_the_study_its_numbers_at_each_budget(plan, write_study):
    files = write_study(budgets=(60, "all"), ratios=(0.5, 1.0), replicates=3)
    runs = by_key(plan(files))
    summary = runs["summary/60"]
    found = lines(summary)
    assert (found["floor_fid"][0], found["copycat_fid"][0], found["fid"][0]) == (1.25, 2.5, 8.0)
    assert summary.note.startswith(summary.tags["verdict"])
    (judged, _) = json.loads(files.comparison.read_text())["budgets"]
    study = lines(runs["study"])
    assert study["gain"][60] == round(judged["mean_difference"], 4)
    assert study["gain_low"][60] <= study["gain"][60] <= study["gain_high"][60]
    assert study["recommended_ratio"][60] == judged["recommended"]["synthetic_per_real"]
    assert set(study["fid"]) == set(study["test_accuracy_with_synthetic"]) == {60, 600}


def test_where_classes_are_rare_the_study_has_the_numbers_of_that_verdict(plan, write_study):
    arms = ("real", "real_affine", "logit_adjustment", "fill_synthetic", "synthetic")
    files = write_study(arms=arms, imbalance={"2": 0.1}, replicates=4)
    runs = by_key(plan(files))
    (judged,) = json.loads(files.comparison.read_text())["imbalance"]["budgets"]
    study, summary = lines(runs["study"]), lines(runs["summary/60"])
    assert study["gain"][60] == round(judged["mean_difference"], 4)
    assert study["rare_recall_gain"][60] == round(judged["rare_recall"]["mean_difference"], 4)
    assert {"test_macro_f1_without_synthetic", "test_macro_f1_with_synthetic"} < set(study)
    assert not {"test_accuracy_with_synthetic", "recommended_ratio"} & set(study)
    assert summary["gain_over_best_remedy"][0] == judged["mean_difference"]
    assert summary["rare_recall_gain_low"][0] == judged["rare_recall"]["low"]
    assert runs["summary/60"].tags["verdict_on_rare_classes"] == judged["verdict"]
    assert judged["verdict"] in runs["summary/60"].note


def test_one_replicate_has_no_interval(plan, write_study):
    runs = by_key(plan(write_study(replicates=1)))
    assert set(lines(runs["curve/60/real"])) == {"test_accuracy", "test_macro_f1"}
    assert not any(name.endswith(("_low", "_high")) for run in runs.values() for name in lines(run))
    assert "| none |" in runs["summary/60"].note


def test_a_cell_with_synthetic_images_has_their_fid(plan, write_study):
    files = write_study(budgets=(60,), ratios=(0.5,), replicates=1)
    runs = by_key(plan(files))
    scores = json.loads((files.metrics / "synthetic/60.json").read_text())["replicates"]["1"]
    assert lines(runs["cell/60/synthetic/0.5/1"])["fid"] == {0: scores["fid"]}
    assert "fid" not in lines(runs["cell/60/real/0/1"])


def test_gan_curves_run_against_images_seen(plan, write_study):
    files = write_study(replicates=1)
    table = (files.metrics / "gan/60.csv").read_text().splitlines()
    header = table[0].split(",")
    blank = table[1].split(",")
    blank[header.index("label_fidelity_1nn")] = ""  # not every row has every measurement
    (files.metrics / "gan/60.csv").write_text("\n".join([table[0], ",".join(blank), *table[2:]]) + "\n")
    gan = by_key(plan(files))["gan/60/1"]
    steps = {name: [step for other, _, step in gan.metrics if other == name] for name, _, _ in gan.metrics}
    assert steps["d_loss"] == [6400 * point for point in range(1, 11)]
    assert steps["label_fidelity_1nn"] == steps["d_loss"][1:]
    assert steps["fid"] == steps["fid_class_1"] == steps["label_fidelity_class_0"] == [0]
    assert [file.name for file, _ in gan.artifacts] == ["film_strip.png"]


def test_the_parent_names_the_verdict_and_all_parameters(plan, write_study):
    files = write_study()
    study = plan(files)[0]
    verdict = json.loads(files.comparison.read_text())["verdict"]
    assert study.tags["verdict"] == verdict and verdict in study.note
    assert study.note.count("\n| 60 |") == 8
    assert study.params["study.synthetic_per_real"] == "[0.5, 1.0]" and study.params["gan.z_dim"] == "64"
    assert {file.name for file, _ in study.artifacts} == {
        *("params.yaml", "cells.csv", "confusion.csv", "comparison.json", "index.html", "accuracy.png")
    }


def test_a_long_table_is_cut_at_a_row(plan, write_study):
    study = plan(write_study(budgets=(60, 70), ratios=tuple(range(1, 24)), replicates=1))[0]
    assert 7000 < len(study.note) <= 8000
    *_, last_row, empty, rest = study.note.split("\n")
    assert last_row.endswith(" |") and empty == "" and "report" in rest


def test_undeclared_results_are_not_read(plan, write_study):
    files = write_study(ratios=(0.5, 1.0), replicates=2).declare(synthetic_per_real=[0.5], replicates=1)
    runs = by_key(plan(files))
    assert not any("/1/" in key for key in runs if key.startswith("cell"))
    assert {run.params["replicate"] for run in runs.values() if run.kind in ("cell", "gan")} == {"1"}


def test_a_class_may_have_any_name_a_metric_may_not(plan, write_study):
    from mlflow.utils.validation import _validate_metric_name, _validate_param_name

    names = ("a/b", "../x", "q&a", "straße", "%", "", "bolt (M6)")
    imbalance = dict.fromkeys(names, 0.5)
    runs = plan(write_study(class_names=(*names, "1"), ratios=(0.5,), replicates=1, imbalance=imbalance))
    for run in runs:
        for metric, _, _ in run.metrics:
            _validate_metric_name(metric)
        for param in run.params:
            _validate_param_name(param)


def test_classes_that_differ_in_signs_only_keep_their_own_values(plan, write_study):
    """`+` and `=` were one metric: the second value stood in the place of the first."""
    runs = plan(write_study(class_names=("+", "=", "C#"), replicates=1, imbalance={"C#": 0.5}))
    for run in runs:
        points = [(name, step) for name, _, step in run.metrics]
        assert len(set(points)) == len(points)
    cells = [name for name, _, _ in runs[-1].metrics if name.startswith("test_f1_")]
    assert cells == ["test_f1__x2B_", "test_f1__x3D_", "test_f1_C_x23_"]
    assert runs[0].params["study.imbalance.C_x23_"] == "0.5"


def test_a_class_is_text_in_the_note(plan, write_study):
    rare = {"<script>alert(1)</script>": 0.5, "[x](http://a.b)": 0.5}
    study = plan(write_study(class_names=("a", *rare), replicates=1, imbalance=rare))[0]
    assert "<script" not in study.note and "](" not in study.note and "&#60;script&#62;" in study.note


def test_no_parameter_shows_a_path_of_the_machine(plan, write_study):
    files = write_study(replicates=1)
    files.params.write_text(files.params.read_text().replace("data/own", "/home/anna/secret-client"))
    study = plan(files)[0]
    assert "anna" not in str(study.params) and study.params["data.folder"]


def test_missing_and_foreign_files_are_one_line_each(plan, write_study):
    files = write_study()
    strip = files.root / "data/gan/60/1/film_strip.png"
    content = strip.read_bytes()
    strip.unlink()
    with pytest.raises(SynthGainError, match=r"film_strip\.png: no such file; `dvc repro` makes it"):
        plan(files)
    strip.write_bytes(content)
    (files.metrics / "synthetic/60.json").write_text("{")
    with pytest.raises(SynthGainError, match="not valid JSON"):
        plan(files)
    (files.metrics / "synthetic/60.json").write_text(
        '{"n": 9, "floor": {}, "copycat": {}, "replicates": {"1": {}}}'
    )
    with pytest.raises(SynthGainError, match=r"60\.json: no replicate 2, 3; `dvc repro`"):
        plan(files)


def test_a_gan_of_other_real_images_is_refused(plan, write_study):
    files = write_study()
    path = files.root / "data/synthetic/60/2.npz"
    images = LabeledImages.load(path)
    other = {**images.provenance, "real_subset_sha256": "f" * 64}
    LabeledImages(images.images, images.labels, images.class_names, other).save(path)
    with pytest.raises(SynthGainError, match="replicate 3 has other real images than the GAN"):
        plan(files)


def test_the_hash_covers_everything_but_where_files_lie(tmp_path):
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.png").write_bytes(b"same")
    (tmp_path / "b.png").write_bytes(b"same")
    real = Images("real", "ab", "train.npz", "training", 3, (1, 8, 8))
    run = PlannedRun("gan", "k", "n", {"p": "1"}, [("m", 0.5, 1)], {"t": "x"}, "note", [real])
    with_file = dataclasses.replace(run, artifacts=[(tmp_path / "here/a.png", "")])
    changes = {
        "kind": "cell",
        "key": "k2",
        "name": "n2",
        "params": {"p": "2"},
        "metrics": [("m", 0.5, 2)],
        "tags": {"t": "y"},
        "note": "",
        "inputs": [dataclasses.replace(real, digest="cd")],
        "artifacts": [(tmp_path / "b.png", "")],
    }
    assert set(changes) == {field.name for field in dataclasses.fields(PlannedRun)}
    variants = [dataclasses.replace(with_file, **{name: value}) for name, value in changes.items()]
    (tmp_path / "here/c.png").write_bytes(b"other")
    variants.append(dataclasses.replace(run, artifacts=[(tmp_path / "here/c.png", "")]))
    hashes = [variant.content_sha256() for variant in (with_file, *variants)]
    assert len(set(hashes)) == len(hashes)
    moved = dataclasses.replace(run, artifacts=[(tmp_path / "there/a.png", "")])
    assert moved.content_sha256() == with_file.content_sha256()
    assert re.fullmatch("[0-9a-f]{64}", hashes[0])


def test_a_replicate_without_a_gan_has_no_run_and_the_collapse_is_told(plan, write_study):
    gans = {60: TrainedGans(3, (Collapse(2, 1, "it diverged"),))}
    runs = by_key(plan(write_study(budgets=(60,), ratios=(0.5,), replicates=3, gans=gans)))
    assert {key for key in runs if key.startswith("gan/")} == {"gan/60/1", "gan/60/3"}
    assert {key.rpartition("/")[2] for key in runs if key.startswith("cell/")} == {"1", "3"}
    for key in ("study", "summary/60"):
        assert "1 of 3 GANs collapsed" in runs[key].tags["verdict"]
        assert "1 of 3 GANs collapsed" in runs[key].note
