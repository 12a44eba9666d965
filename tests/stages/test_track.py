"""`track` mirrors the files of a study as they lie, says what it did, and fails in one line."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time

import pytest
import typer
from typer.testing import CliRunner

from pipeline.checkpoints import file_sha256
from pipeline.study.trained_gans import Collapse, TrainedGans
from stages import track
from tests.conftest import write_empty_generator
from tests.test_faults import run_command


@pytest.fixture
def files(write_study):
    """A whole study on disk."""
    return finish(write_study(budgets=(60, "all"), ratios=(0.5, 1.0), replicates=2))


@pytest.fixture
def small_files(write_study, empty_database):
    """A study of one budget and one ratio, beside a database without runs."""
    files = finish(write_study(budgets=("all",), ratios=(0.5,), replicates=2))
    shutil.copy(empty_database, files.root / "mlflow.db")
    return files


def finish(files):
    """What no other stage makes in these tests: the split's hashes, a generator, a report."""
    data = files.root / "data"
    test = {"images": 300, "pixels_sha256": "ef" * 32}
    manifest = {"image_size": 8, "splits": {"test": test, "validation": {"pixels_sha256": "cd" * 32}}}
    (data / "prepared/splits.json").write_text(json.dumps(manifest))
    # The largest budget is the one that is exported; what is in the file is not looked at.
    write_empty_generator(data / "gan/all/0/generator.safetensors")
    (data / "report/figures").mkdir(parents=True)
    (data / "report/index.html").write_text("<p>report</p>")
    (data / "report/figures/accuracy.png").write_bytes(b"picture")
    return files


def arguments(files):
    data = files.root / "data"
    folders = ("metrics", "gan", "synthetic", "prepared", "report")
    options = [part for name in folders for part in (f"--{name}", str(data / name))]
    return [*options, "--params", str(files.params)]


def run_alone(files, **environment):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "DVC"))}
    return subprocess.run(
        [sys.executable, "-m", "stages.track", *arguments(files)],
        capture_output=True,
        text=True,
        check=False,
        env=inherited | environment,
    )


def run_here(files, monkeypatch):
    """In this process, which has MLflow already: the exit status, and what was said (on stderr, else on stdout)."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("DVC_ROOT", str(files.root))
    return run_command(["stage", "track", *arguments(files)], monkeypatch)


def test_mirrors_the_declared_study_into_the_root_of_the_project(files, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("DVC_ROOT", str(files.root))
    app = typer.Typer()
    app.command()(track.main)
    first = CliRunner().invoke(app, arguments(files))
    assert first.exit_code == 0, first.exception
    uri = f"sqlite:///{files.root}/mlflow.db"
    # the parent, and per budget a summary, five curves, two GANs, and 2 + 3 × 2 arms twice
    planned = 1 + 2 * (1 + 5 + 2 + 8 * 2)
    line = f"MLflow experiment synthgain-folder in {uri}: {planned} runs created, 0 kept, 0 removed"
    assert line in first.output
    assert (
        "synthgain-folder version 1: alias champion moved to it: first generator, validation CAS"
        in first.output
    )
    assert re.search(f"mlflow server .*--backend-store-uri {uri}", first.output)
    files.declare(synthetic_per_real=[0.5])
    second = CliRunner().invoke(app, arguments(files))
    # Of curves, summaries and the parent there are new ones; 3 arms × 2 replicates × 2 budgets are gone.
    assert "13 runs created, 24 kept, 25 removed" in second.output
    third = CliRunner().invoke(app, arguments(files))
    assert "0 runs created, 37 kept, 0 removed" in third.output
    assert "synthgain-folder version 1: alias champion stays" not in first.output
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("synthgain-folder")
    runs = client.search_runs([experiment.experiment_id], "tags.kind = 'cell'", max_results=1000)
    assert {run.data.params["synthetic_per_real"] for run in runs} == {"0", "0.5"}
    assert {run.data.params["real_images"] for run in runs} == {"60", "600"}
    (gan,) = client.search_runs([experiment.experiment_id], "attributes.run_name = 'all · gan · replicate 1'")
    assert [file.path for file in client.list_artifacts(gan.info.run_id)] == ["film_strip.png"]


def test_check_says_whether_mlflow_shows_the_results_and_writes_nothing(files, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(files.root)
    app = typer.Typer()
    app.command()(track.main)

    def check():
        result = CliRunner().invoke(app, [*arguments(files), "--check"])
        return result.exit_code, result.output

    planned = 1 + 2 * (1 + 5 + 2 + 8 * 2)
    differ = f"MLflow: {planned} of {planned} runs are not those of data/; `synthgain stage track` mends it\n"
    assert check() == (1, differ)
    assert not list(files.root.glob("ml*"))
    CliRunner().invoke(app, arguments(files))
    stored = (files.root / "mlflow.db").read_bytes()
    assert check() == (0, f"MLflow: all {planned} runs are those of data/\n")
    files.declare(synthetic_per_real=[0.5])
    # The parent, both summaries and ten curves are others, 3 arms × 2 replicates × 2 budgets are too many.
    assert check() == (1, differ.replace(f"{planned} of", "25 of", 1))
    assert (files.root / "mlflow.db").read_bytes() == stored


@pytest.mark.slow
def test_a_trial_beside_the_workspace_has_an_experiment_and_a_model_of_its_own(
    files, monkeypatch, tmp_path, empty_database
):
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    app = typer.Typer()
    app.command()(track.main)
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    shutil.copy(empty_database, workspace / "mlflow.db")
    monkeypatch.chdir(files.root)
    monkeypatch.setenv("DVC_ROOT", str(workspace))
    monkeypatch.setenv("DVC_EXP_NAME", "lamer-iron")
    (files.root / "dvc.lock").write_text("stages: {of: the copy}\n")
    (workspace / "dvc.lock").write_text("stages: {of: the workspace}\n")
    result = CliRunner().invoke(app, arguments(files))
    assert (
        f"MLflow experiment synthgain-folder-lamer-iron in sqlite:///{workspace}/mlflow.db" in result.output
    )
    assert "synthgain-folder-lamer-iron version 1: alias champion moved to it" in result.output
    assert not (files.root / "mlflow.db").exists()
    client = MlflowClient(f"sqlite:///{workspace}/mlflow.db")
    assert client.get_experiment_by_name("synthgain-folder") is None
    (parent,) = client.search_runs(["1"], "tags.kind = 'study'")
    assert parent.data.tags["dvc.lock_sha256"] == file_sha256(files.root / "dvc.lock")
    # In place, DVC's own folder is the current one.
    monkeypatch.setenv("DVC_ROOT", str(files.root))
    assert "MLflow experiment synthgain-folder in" in CliRunner().invoke(app, arguments(files)).output


def test_a_missing_generator_is_one_line(small_files, monkeypatch):
    (small_files.root / "data/gan/all/0/generator.safetensors").unlink()
    status, said = run_here(small_files, monkeypatch)
    assert status == 1
    assert re.fullmatch(r"error: .*generator\.safetensors: no such file; `dvc repro` makes it\n", said)


def test_a_study_without_synthetic_only_is_mirrored_and_registers_no_generator(
    write_study, monkeypatch, empty_database
):
    files = finish(write_study(budgets=("all",), ratios=(0.5,), replicates=2, arms=("real", "synthetic")))
    shutil.copy(empty_database, files.root / "mlflow.db")
    status, said = run_here(files, monkeypatch)
    assert status == 0, said
    assert " runs created, 0 kept" in said
    assert "no generator registered: its score is that of the arm synthetic_only" in said


def test_a_server_that_is_down_is_one_line_and_status_1(small_files):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    start = time.monotonic()
    result = run_alone(small_files, MLFLOW_TRACKING_URI=f"http://127.0.0.1:{port}")
    assert (
        time.monotonic() - start < 150
    )  # most of it imports, on a busy machine; MLflow's own tries take longer
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(
        f"error: MLflow server http://127.0.0.1:{port} (MLFLOW_TRACKING_URI): connection refused."
    )


def test_missing_results_are_one_line(small_files, monkeypatch):
    (small_files.root / "data/report/index.html").unlink()
    status, said = run_here(small_files, monkeypatch)
    assert status == 1
    assert re.fullmatch(r"error: .*index\.html: no such file; `dvc repro` makes it\n", said)


def test_a_study_that_has_not_ended_can_be_watched(write_study, monkeypatch, empty_database):
    from mlflow import MlflowClient

    files = finish(write_study(budgets=(60, "all"), ratios=(0.5,), replicates=2))
    shutil.copy(empty_database, files.root / "mlflow.db")
    later = [files.comparison, files.metrics / "synthetic/all.json", files.metrics / "gan/all.csv"]
    kept = {path: path.read_bytes() for path in later}
    for path in later:
        path.unlink()

    def shown():
        status, said = run_here(files, monkeypatch)
        client = MlflowClient(f"sqlite:///{files.root}/mlflow.db")
        runs = client.search_runs(["1"], "tags.kind = 'gan'")
        return status, said, {run.info.run_name: run for run in runs}

    status, said, runs = shown()
    assert status == 0 and "not finished: the GANs of 1 of 2 budgets are trained" in said
    note = MlflowClient(f"sqlite:///{files.root}/mlflow.db").get_experiment("1").tags["mlflow.note.content"]
    assert (
        "viewStateShareKey=synthgain-gans" in note and "synthgain-means" not in note
    )  # no view without cells
    assert "viewStateShareKey=synthgain-gans" in said and "registered" not in said
    assert sorted(runs) == ["60 · gan · replicate 1", "60 · gan · replicate 2"]
    assert {"d_loss", "fid"} <= runs["60 · gan · replicate 1"].data.metrics.keys()
    later[2].write_bytes(kept[later[2]])
    status, said, runs = shown()
    assert status == 0 and "the GANs of 2 of 2 budgets" in said and len(runs) == 4
    unmeasured = runs["all · gan · replicate 1"].data.metrics
    assert "d_loss" in unmeasured and "fid" not in unmeasured
    # When it has ended, all of it stands there, and what was shown already is kept.
    for path, content in kept.items():
        path.write_bytes(content)
    status, said, runs = shown()
    assert status == 0 and " 2 kept, 3 removed" in said and len(runs) == 4
    later[0].unlink()
    for path in (files.metrics / "gan").iterdir():
        path.unlink()
    status, said, _ = shown()
    assert status == 1 and "there is nothing to show; `dvc repro` makes both" in said


def test_the_registered_generator_has_its_card(small_files, monkeypatch):
    from mlflow import MlflowClient

    run_here(small_files, monkeypatch)
    client = MlflowClient(registry_uri=f"sqlite:///{small_files.root}/mlflow.db")
    version = client.get_model_version_by_alias("synthgain-folder", "champion")
    assert version.description.startswith("# A generator of synthetic images")
    assert "## Limits" in version.description and "license:" not in version.description


def test_the_note_of_the_experiment_links_what_matters_and_is_left_to_its_reader(small_files, monkeypatch):
    from mlflow import MlflowClient

    run_here(small_files, monkeypatch)
    client = MlflowClient(f"sqlite:///{small_files.root}/mlflow.db")
    (study,) = client.search_runs(["1"], "tags.kind = 'study'")
    note = client.get_experiment("1").tags["mlflow.note.content"]
    links = re.findall(r"\]\((#/experiments/1/runs[^)]*)\)", note)
    assert [link for link in links if "viewStateShareKey=synthgain-means" in link]
    assert f"#/experiments/1/runs/{study.info.run_id}/artifacts" in links
    client.set_experiment_tag("1", "mlflow.note.content", "mine")
    run_here(small_files, monkeypatch)
    assert client.get_experiment("1").tags["mlflow.note.content"] == "mine"


def test_help_does_not_wait_for_mlflow():
    code = "import sys; import stages.track; sys.exit(any(m in sys.modules for m in ('mlflow', 'pandas')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_where_the_exported_replicate_is_left_out_all_is_mirrored_and_none_registered(
    write_study, monkeypatch, empty_database
):
    gans = {"all": TrainedGans(3, (Collapse(1, 1, "it diverged"),))}
    files = write_study(budgets=("all",), ratios=(0.5,), replicates=3, gans=gans)
    (files.root / "data/gan/all/0").mkdir()
    shutil.copy(empty_database, files.root / "mlflow.db")
    status, said = run_here(finish(files), monkeypatch)
    assert status == 0, said
    assert "no generator registered: export.replicate: found 1, which is left out (it diverged)" in said
