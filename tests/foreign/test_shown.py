"""Reports, runs, cards and checks say whose images they are, and speak of no GAN that there was not."""

import json
import re

import jsonschema
import pytest
import torch
import yaml

from pipeline.errors import SynthGainError
from pipeline.export.croissant import croissant
from pipeline.export.dataset import export_dataset
from pipeline.export.manifest import SCHEMA_VERSION, schema_file
from pipeline.export.samples import select_samples
from pipeline.export.source import open_images
from pipeline.export.verify import verify
from pipeline.foreign.replicates import NO_HISTORY
from pipeline.images import LabeledImages
from pipeline.maintenance.doctor import read_params
from pipeline.maintenance.generators import generators
from pipeline.maintenance.reproduce import slices
from pipeline.maintenance.workspace import create_workspace
from pipeline.markdown import as_markdown
from pipeline.params import load_params
from pipeline.report.page import write_report
from pipeline.results import load_results
from pipeline.study.trained_gans import Collapse, TrainedGans
from pipeline.tracking.champion import reason_without_candidate
from pipeline.tracking.planned_runs import plan_runs

GENERATOR = {
    "kind": "command",
    "command": "python my_gan.py {out}",
    "code": "my_gan.py",
    "trained_on": "unknown",
    "name": "Dif<fusion>",
    "author": "A | B",
    "licence": "CC-BY-4.0",
}
ORIGIN = {key: GENERATOR[key] for key in ("kind", "name", "author", "licence", "trained_on")} | {
    "copies_of_real_images": 2,
    "code_sha256": "c" * 64,
}


@pytest.fixture(scope="module")
def study(write_shared_study):
    """As the stages leave it: no film strip, no history, the origin in the images and their metrics."""
    gans = {60: TrainedGans(4, (Collapse(4, 1, "ended with exit status 1"),), "unknown")}
    files = write_shared_study(replicates=4, gans=gans)
    data = files.root / "data"
    (files.metrics / "gan/60.csv").write_text(NO_HISTORY)
    for file in (data / "synthetic/60").iterdir():
        images = LabeledImages.load(file)
        LabeledImages(
            images.images, images.labels, images.class_names, {**images.provenance, "generator": ORIGIN}
        ).save(file)
    for strip in data.rglob("film_strip.png"):
        strip.unlink()
    table = json.loads((files.metrics / "synthetic/60.json").read_text())
    (files.metrics / "synthetic/60.json").write_text(json.dumps(table | {"generator": ORIGIN}))
    values = yaml.safe_load(files.params.read_text())
    values["generator"] |= GENERATOR
    files.params.write_text(yaml.safe_dump(values, sort_keys=False))
    return files


def test_the_verdict_says_that_leakage_cannot_be_excluded_and_that_a_run_failed(study):
    (row,) = json.loads(study.comparison.read_text())["budgets"]
    assert row["verdict"].endswith("leakage cannot be excluded.")
    assert "1 of 4 runs of the generator failed" in row["verdict"] and "GAN" not in row["verdict"]


def test_the_report_names_the_generator_and_shows_no_training(study, tmp_path):
    params = load_params(study.params)
    settings = params.model_dump(exclude={"tracking", "export", "execution"})
    write_report(
        load_results(study.folders, params.study),
        tmp_path / "report",
        settings=settings,
        grid_images_per_class=4,
        times_judged=1,
    )
    html = (tmp_path / "report/index.html").read_text(encoding="utf-8")
    assert "Dif&lt;fusion&gt; by A | B" in html and "Licence of the images: CC-BY-4.0" in html
    assert "leakage cannot be excluded" in html
    shown = re.sub(r"<pre.*?</pre>", "", html, flags=re.DOTALL)  # the parameters have a section gan
    assert "How the GANs trained" not in shown and "the GAN" not in shown
    assert "the generator beats the copycat" in shown or "the generator does not beat" in shown
    assert not list((tmp_path / "report/figures").glob("film_strip*"))


def test_runs_have_its_origin_and_no_curves(study):
    data = study.root / "data"
    (data / "prepared/splits.json").write_text(
        json.dumps({"image_size": 8, "splits": {"test": {"images": 300, "pixels_sha256": "ef" * 32}}})
    )
    (data / "report/figures").mkdir(parents=True)
    (data / "report/index.html").write_text("<p>report</p>")
    params = load_params(study.params)
    runs = plan_runs(params, study.folders, params_file=study.params, report=data / "report")
    mine = [run for run in runs if run.kind == "gan"]
    assert len(mine) == 3
    for run in mine:
        assert run.name.startswith("60 · generator · replicate")
        assert run.artifacts == []
        assert run.params["generator.name"] == "Dif<fusion>"
        assert "d_loss" not in {name for name, _, _ in run.metrics}
        assert "fid" in {name for name, _, _ in run.metrics}
    assert "generator.kind is command" in reason_without_candidate(params)


@pytest.mark.parametrize("trained_on", ["subset", "unknown"])
def test_card_manifest_and_croissant_name_it_and_never_a_gan(study, tmp_path, trained_on):
    images = LabeledImages.load(study.root / "data/synthetic/60/0.npz")
    origin = ORIGIN | {"trained_on": trained_on}
    LabeledImages(
        images.images, images.labels, images.class_names, {**images.provenance, "generator": origin}
    ).save(tmp_path / "images.npz")
    export_dataset(
        select_samples(open_images(tmp_path / "images.npz")),
        tmp_path / "out",
        formats=["npz"],
        source="digits",
        study=None,
        metrics=None,
        workers=1,
    )
    folder = tmp_path / "out/npz"
    manifest = json.loads((folder / "manifest.json").read_text())
    jsonschema.validate(manifest, json.loads(schema_file(SCHEMA_VERSION).read_text()))
    assert manifest["provenance"]["generator"] == origin
    text = (folder / "README.md").read_text()
    assert "conditional GAN" not in text and "conditional GAN" not in json.dumps(croissant(manifest))
    assert "GAN" not in croissant(manifest)["keywords"]
    assert (
        f"{as_markdown('Dif<fusion>')} by {as_markdown('A | B')}, a generator that is no part of SynthGain"
        in text
    )
    assert "Licence of the images: CC-BY-4.0." in text
    assert "2 of them are copies of its real training images." in text
    assert "<fusion>" not in text  # a browser would take it for a tag
    assert ("leakage cannot be excluded" in text) == (trained_on == "unknown")
    assert ("and from nothing else" in text) == (trained_on == "subset")
    assert verify(folder) == []


def test_the_doctor_and_the_reproduction_know_that_there_is_no_gan(study, tmp_path):
    params, check = read_params(study.params)
    assert "it runs a program of its own (generator.command): python my_gan.py {out}" in check.seen
    assert not generators(tmp_path, params).findings
    with pytest.raises(SynthGainError, match=r"^--gan: generator\.kind is command"):
        list(
            slices(
                params,
                data=tmp_path,
                images_per_class=1,
                cell=False,
                gan=True,
                device=torch.device("cpu"),
                dtype=torch.float32,
            )
        )


def test_a_workspace_has_a_copy_of_the_code_that_lies_beside_its_parameters(tmp_path):
    own = tmp_path / "mine"
    (own / "nets/__pycache__").mkdir(parents=True)
    (own / "my_gan.py").write_text("print(1)")
    (own / "nets/small.py").write_text("x = 1")
    changes = own / "changes.yaml"
    network = {"network": "nets.small:make", "code": "nets"}
    changes.write_text(yaml.safe_dump({"generator": GENERATOR, "classifier": network}))
    folder = tmp_path / "w"
    params = create_workspace(folder, changes=changes)
    assert (folder / "my_gan.py").read_text() == "print(1)"
    assert [path.name for path in (folder / "nets").iterdir()] == ["small.py"]
    assert [line.partition(":")[0] for line in params.code_of_its_own()] == [
        "it runs a program of its own (generator.command)",
        "it runs Python of its own (classifier.network)",
    ]
    (own / "my_gan.py").write_text("print(2)")
    (own / "nets/small.py").unlink()
    (own / "nets/large.py").write_text("x = 1")
    create_workspace(folder, changes=changes)
    assert (folder / "my_gan.py").read_text() == "print(2)"
    assert [path.name for path in (folder / "nets").iterdir()] == ["large.py"]
    (own / "my_gan.py").unlink()
    with pytest.raises(SynthGainError, match=r"^generator\.code: found my_gan\.py, which is neither beside"):
        create_workspace(folder, changes=changes)
