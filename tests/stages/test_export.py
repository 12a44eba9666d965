"""`export` hands over what the comparison recommends, says so when that is nothing, and checks out."""

import json
import shutil
import subprocess

import pytest
import typer
import yaml
from typer.testing import CliRunner

from pipeline.errors import SynthGainError
from pipeline.study.trained_gans import Collapse, TrainedGans
from stages import export


def arguments(files, *extra):
    return [
        *("--comparison", str(files.comparison)),
        *("--metrics", str(files.metrics / "synthetic")),
        *("--synthetic", str(files.root / "data/synthetic")),
        *("--gan", str(files.root / "data/gan")),
        *("--collapsed", str(files.collapsed)),
        *("--out", str(files.root / "data/export")),
        *("--params", str(files.params)),
        *extra,
    ]


def run(files, *extra):
    app = typer.Typer()
    app.command()(export.main)
    return CliRunner().invoke(app, arguments(files, *extra))


def manifest(files, format_name="idx"):
    return json.loads((files.root / f"data/export/{format_name}/manifest.json").read_text())


def set_export(files, **changes):
    values = yaml.safe_load(files.params.read_text())
    values["export"] |= changes
    files.params.write_text(yaml.safe_dump(values))


def steady_gain(arm, replicate):
    """Synthetic images at ratio 1 help every replicate, by 5 points and a little."""
    helped = arm.name == "synthetic_affine" and arm.synthetic_per_real == 1
    return 0.9 + 0.001 * replicate + (0.05 + 0.002 * replicate) * helped


def test_what_the_study_recommends_is_exported(write_study):
    files = write_study(test_accuracy=steady_gain)
    result = run(files)
    assert result.exit_code == 0, result.output
    study = manifest(files)["study"]
    assert study["recommended"] is True and study["synthetic_per_real"] == 1
    assert "note: The study recommends adding 1 of these images per real image. The cards" in result.output


def test_where_nothing_is_recommended_the_largest_budget_is_exported_with_a_clear_note(write_study):
    files = write_study(budgets=(30, 60), test_accuracy=lambda arm, replicate: 0.9 + 0.001 * replicate)
    result = run(files)
    assert result.exit_code == 0, result.output
    for format_name in ("idx", "png", "parquet"):
        facts = manifest(files, format_name)
        assert facts["provenance"]["budget"] == facts["study"]["budget"] == 60
        assert facts["study"]["recommended"] is False
        assert facts["study"]["note"].startswith("The study does not recommend adding these images. ")
        assert facts["images"] == 36 and set(facts["counts"]) == {12}
    assert "note: The study does not recommend adding these images. The cards" in result.output


def test_a_budget_a_replicate_and_formats_can_be_asked_for(write_study):
    files = write_study(budgets=(30, 60))
    set_export(files, real_images=30, replicate=2, formats=["png"])
    assert run(files).exit_code == 0
    facts = manifest(files, "png")
    assert (facts["provenance"]["budget"], facts["provenance"]["replicate"]) == (30, 1)  # its index
    assert not (files.root / "data/export/idx").exists()


def test_the_card_has_the_metrics_beside_their_anchors(write_study):
    files = write_study()
    assert run(files).exit_code == 0
    card = (files.root / "data/export/parquet/README.md").read_text()
    assert "| these synthetic images | 7 | 0.007 | 0.81 | 0.62 | 0.93 | 0.74 | 0.97 |" in card
    assert "| floor: real validation images | 1.25 |" in card and "n = 300" in card


def test_metrics_that_lack_the_replicate_are_one_line(write_study):
    from pipeline.export.quality import read_quality

    files = write_study()
    with pytest.raises(SynthGainError, match=r"60\.json: not readable metrics of replicate 7"):
        read_quality(files.metrics / "synthetic/60.json", replicate=7)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_sha256sum_and_verify_accept_what_was_written(write_study):
    from pipeline.export.verify import verify

    files = write_study()
    run(files)
    for format_name in ("idx", "png", "parquet"):
        assert verify(files.root / "data/export" / format_name) == []
        folder = files.root / "data/export" / format_name
        subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, check=True)


def test_a_foreign_folder_is_one_line_and_force_keeps_it(write_study):
    files = write_study()
    mine = files.root / "data/export/png/mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    refusal = run(files).exception
    assert isinstance(refusal, SynthGainError) and "\n" not in str(refusal)
    assert "holds mine.txt, which no export wrote" in str(refusal)
    assert mine.read_text() == "mine"
    assert run(files, "--force").exit_code == 0
    assert (files.root / "data/export/png.before-1/mine.txt").read_text() == "mine"


def fail_the_gate(files):
    for file in (files.metrics / "synthetic").glob("*.json"):
        table = json.loads(file.read_text())
        for row in table["replicates"].values():
            row["memorization"] = {"passed": False, "reason": "30.0% near copies in pixel space"}
        file.write_text(json.dumps(table))


def test_memorised_images_are_refused_and_the_study_goes_on(write_study):
    files = write_study()
    fail_the_gate(files)
    result = run(files)
    assert result.exit_code == 0, result.output
    assert "NOT exported" in result.output and "export.allow_memorized" in result.output
    out = files.root / "data/export"
    assert [path.name for path in out.iterdir()] == ["REFUSED.md"]
    assert "did not pass the memorisation gate: 30.0% near copies" in (out / "REFUSED.md").read_text()


def test_memorised_images_can_be_exported_on_request_and_the_card_says_so(write_study):
    files = write_study()
    fail_the_gate(files)
    run(files)
    set_export(files, allow_memorized=True)
    result = run(files)
    assert not (files.root / "data/export/REFUSED.md").exists()
    assert result.exit_code == 0, result.output
    assert manifest(files)["metrics"]["memorization"]["passed"] is False
    card = (files.root / "data/export/idx/README.md").read_text()
    assert "**NOT passed**: 30.0% near copies in pixel space" in card


def test_a_replicate_that_is_left_out_is_not_handed_over_and_the_study_goes_on(write_study):
    gans = {60: TrainedGans(3, (Collapse(1, 1, "the generator has collapsed"),))}
    files = write_study(gans=gans)
    result = run(files)
    line = (
        "export.replicate: found 1, which is left out (the generator has collapsed); of this budget there are the"
        " replicates 2, 3"
    )
    assert result.exit_code == 0 and f"NOT exported: {line}\n" in result.output
    assert [path.name for path in (files.root / "data/export").iterdir()] == ["REFUSED.md"]
    assert line in (files.root / "data/export/REFUSED.md").read_text()
    set_export(files, replicate=2)
    assert run(files).exit_code == 0
    assert not (files.root / "data/export/REFUSED.md").exists()
    assert manifest(files)["provenance"]["replicate"] == 1  # its index
