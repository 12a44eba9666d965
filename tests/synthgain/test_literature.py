"""`synthgain literature` on embedded digits, tiny: rows, pictures, work that is kept, MLflow, and bad input."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pandas as pd
import pytest
import typer
import yaml
from sklearn.datasets import load_digits
from typer.testing import CliRunner

from pipeline.errors import SynthGainError
from pipeline.gan import training
from pipeline.images import LabeledImages
from pipeline.literature import run as literature_run
from pipeline.maintenance.workspace import PROJECT
from pipeline.runtime.outputs import only_writer
from pipeline.runtime.store import this_store
from synthgain.literature import literature


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("literature")
    digits = load_digits()
    images = np.pad((digits.images[:, None] * 15.9).astype(np.uint8), ((0, 0), (0, 0), (2, 2), (2, 2)))
    order = np.random.default_rng(0).permutation(len(images))
    for name, part in zip(("train", "validation", "test"), np.split(order, (900, 1200)), strict=True):
        split = LabeledImages(images[part], digits.target[part].astype(np.int64), tuple("0123456789"))
        split.save(folder / f"prepared/{name}.npz")
    values = yaml.safe_load((PROJECT / "params.yaml").read_text())
    values["study"] = {**values["study"], "real_images": [100], "synthetic_per_real": [1.0]}
    values["export"]["real_images"] = "recommended"
    values["data"]["source"] = "digits"
    values["gan"] |= {"total_images": 1280, "history_points": 2, "film_strip_frames": 2}
    values["generation"]["images_per_class"] = 30
    values["extractor"] |= {"channels": 8, "feature_dim": 16, "steps": 400}
    values["classifier"] |= {"channels": 8, "feature_dim": 16, "steps": 80}
    values["evaluation"] |= {"images": 200, "neighbors": 3}
    values["execution"] |= {"device": "cpu", "threads": 1}
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    return folder


@pytest.fixture(autouse=True)
def at_home(files, monkeypatch):
    """The store and MLflow's file are those of the folder that the command is given in."""
    monkeypatch.chdir(files)
    monkeypatch.setenv("SYNTHGAIN_STORE", str(files / ".work/store"))


def arguments_of(files, *arguments, out="out"):
    paths = {"prepared": files / "prepared", "out": files / out, "params": files / "params.yaml"}
    return [*(text for name, value in paths.items() for text in (f"--{name}", str(value))), *arguments]


def run(files, *arguments, out="out"):
    app = typer.Typer()
    app.command()(literature)
    return CliRunner().invoke(app, arguments_of(files, *arguments, out=out))


@pytest.fixture(scope="module")
def first(files):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(files)
        patch.setenv("SYNTHGAIN_STORE", str(files / ".work/store"))
        return first_rows(files)


def first_rows(files):
    result = run(files, "--length", "equal", "--only", "minimal", "--only", "noisy_dcgan", "--only", "compact",
                 "--only", "real", "--only", "class_gaussian")  # fmt: skip
    assert result.exit_code == 0, result.exception
    return pd.read_csv(files / "out/rows.csv").set_index("system")


@pytest.mark.slow
def test_every_row_has_every_measure_at_one_n(first):
    assert set(first.index) == {"minimal", "noisy_dcgan", "compact", "real", "class_gaussian"}
    assert first["n"].nunique() == 1 and first["n"].iloc[0] <= 200
    for measure in (
        "fid",
        "kid",
        "inception_score",
        "precision",
        "recall",
        "density",
        "coverage",
        "parzen_nats",
    ):
        assert np.isfinite(first[measure]).all()
    for share in ("cas_validation", "cas_test", "recognisable", "recognisable_real"):
        assert first[share].between(0, 1).all()
    assert first.loc["real", "fid"] < first.loc["class_gaussian", "fid"] < first.loc["minimal", "fid"]
    assert first.loc["real", "recognisable"] > first.loc["minimal", "recognisable"]


@pytest.mark.slow
def test_side_by_side_the_numbers_are_the_same(files, first, monkeypatch):
    """Of two trainings with a thread each; the extractor is that of the first rows, for alone it would take both."""
    (extractor,) = this_store().glob("literature-extractor-*")
    shutil.copytree(extractor, files / "beside/store" / extractor.name)
    monkeypatch.setenv("SYNTHGAIN_STORE", str(files / "beside/store"))
    values = yaml.safe_load((files / "params.yaml").read_text())
    values["execution"]["threads"] = 2
    (files / "two.yaml").write_text(yaml.safe_dump(values))
    result = run(files, "--length", "equal", "--only", "minimal", "--only", "compact", "--only", "real",
                 "--params", str(files / "two.yaml"), out="beside")  # fmt: skip
    assert result.exit_code == 0, result.exception
    rows = pd.read_csv(files / "beside/rows.csv").set_index("system")
    assert list(rows.index) == ["minimal", "compact", "real"] and set(rows.columns) == set(first.columns)
    how = ["commit", "images_per_second"]
    pd.testing.assert_frame_equal(
        rows.drop(columns=how), first.loc[rows.index, rows.columns].drop(columns=how), check_dtype=False
    )


@pytest.mark.slow
def test_a_generator_without_images_has_a_reason_and_the_others_have_rows(files, first, monkeypatch):
    """Its training came to its end: what it draws is one picture, say."""
    monkeypatch.setattr(literature_run, "system_images", no_images)
    for row in this_store().glob("literature-row-*"):
        if '"label_fidelity"' not in (row / "row.json").read_text():  # of minimal and noisy_dcgan: drawn anew
            shutil.move(row, files / f"aside_{row.name}")
    result = run(files, "--length", "equal", "--only", "minimal", "--only", "real", out="no_images")
    for row in files.glob("aside_*"):
        shutil.move(row, this_store() / row.name.removeprefix("aside_"))
    assert result.exit_code == 0 and "minimal has no row: one and the same picture" in result.output
    assert pd.read_csv(files / "no_images/rows.csv")["system"].tolist() == ["real"]


def no_images(*arguments):
    raise SynthGainError("one and the same picture")


@pytest.mark.slow
def test_without_labels_there_is_no_label_fidelity(first):
    assert first["label_fidelity"].notna().to_dict() == {
        "minimal": False, "noisy_dcgan": False, "compact": True, "real": True, "class_gaussian": True,
    }  # fmt: skip
    assert first.loc[["minimal", "noisy_dcgan"], "recognisable_of_100"].between(0, 100).all()


@pytest.mark.slow
def test_finished_work_is_kept_and_shown_in_mlflow(files, first, monkeypatch):
    resumed_state = training.resumed_state
    monkeypatch.setattr(training, "resumed_state", None)  # it would fail if something were trained
    before = (files / "out/rows.csv").read_text()
    with pytest.raises(TypeError):
        raise run(files, "--length", "equal", "--only", "mlp").exception
    monkeypatch.setattr(training, "resumed_state", resumed_state)
    result = run(files, "--length", "equal", "--only", "minimal", out="again")
    assert result.exit_code == 0, result.exception
    again = pd.read_csv(files / "again/rows.csv").set_index("system")
    pd.testing.assert_series_equal(
        again.loc["minimal"].dropna().drop("commit"), first.loc["minimal", again.columns].dropna().drop("commit"),
        check_names=False, check_dtype=False,
    )  # fmt: skip
    assert (files / "out/rows.csv").read_text() == before
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{files / 'mlflow.db'}")
    (shown,) = [each for each in client.search_experiments() if each.name.endswith("-digits-literature")]
    runs = {each.info.run_name: each for each in client.search_runs([shown.experiment_id])}
    assert set(runs) == {"the papers' systems", "minimal, equal length"}  # what the last results folder holds
    metrics = runs["minimal, equal length"].data.metrics
    assert metrics["fid"] == pytest.approx(first.loc["minimal", "fid"])
    assert "label_fidelity" not in metrics


@pytest.mark.slow
def test_the_page_has_ours_beside_the_published(files, first):
    page = (files / "out/literature.md").read_text()
    (line,) = [line for line in page.splitlines() if "| Adversarial nets: MNIST |" in line]
    assert "240 ± 2.5 | not run yet |" in line and line.rstrip(" |").endswith(
        f"{first.loc['minimal', 'parzen_nats']:.1f} ± {first.loc['minimal', 'parzen_standard_error']:.1f}"
    )


@pytest.mark.slow
def test_a_damaged_result_is_made_again_and_a_damaged_table_named(files, first):
    store = this_store()
    (row,) = [
        path for path in store.glob("literature-row-*/row.json") if '"label_fidelity"' not in path.read_text()
    ][:1]
    row.write_text("{")
    result = run(files, "--length", "equal", "--only", "minimal", "--only", "noisy_dcgan", out="damaged")
    assert result.exit_code == 0, result.exception
    rows = pd.read_csv(files / "damaged/rows.csv").set_index("system")
    assert rows["fid"].to_dict() == pytest.approx(first.loc[["minimal", "noisy_dcgan"], "fid"].to_dict())
    (files / "damaged/rows.csv").write_text("nothing\n")
    result = run(files, "--length", "equal", "--only", "minimal", out="damaged")
    with pytest.raises(
        SynthGainError, match=r"rows\.csv: not a table of this command .*; remove it"
    ) as error:
        raise result.exception
    assert "\n" not in str(error.value)


@pytest.mark.soak
@pytest.mark.slow
def test_a_killed_training_goes_on_and_ends_with_the_same_row(files, monkeypatch):
    command = [sys.executable, "-c", "from synthgain.app import main; main()", "literature",
               *arguments_of(files, "--length", "equal", "--only", "wgan", out="killed")]  # fmt: skip
    monkeypatch.setenv("SYNTHGAIN_STORE", str(files / "killed_store/store"))
    process = subprocess.Popen(command, cwd=files, env={**os.environ, "PYTHONPATH": str(PROJECT)})
    states = files / "killed_store/unfinished"
    while not list(states.glob("literature-gan-*/state/state.pt")) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL  # it was at work, and had saved a state
    assert run(files, "--length", "equal", "--only", "wgan", out="killed").exit_code == 0
    killed = pd.read_csv(files / "killed/rows.csv")
    monkeypatch.setenv("SYNTHGAIN_STORE", str(files / "other/store"))
    assert run(files, "--length", "equal", "--only", "wgan", out="whole").exit_code == 0
    whole = pd.read_csv(files / "whole/rows.csv")
    for column in ("fid", "d_loss_sum", "g_loss", "cas_test"):
        assert killed[column].tolist() == whole[column].tolist()


@pytest.mark.slow
def test_a_system_that_diverges_has_a_reason_instead_of_a_row(files, monkeypatch):
    def diverge(*arguments, **options):
        raise SynthGainError("the training diverged")

    monkeypatch.setattr(training, "resumed_state", diverge)
    result = run(files, "--length", "equal", "--only", "dcgan", out="failed")
    with pytest.raises(SynthGainError, match="no training came to its end: dcgan: the training diverged"):
        raise result.exception
    assert not (files / "failed").exists()


def test_two_at_once_do_not_write_into_one_folder(files):
    at_work, done = threading.Event(), threading.Event()

    def other():
        with only_writer(files / "shared"):
            at_work.set()
            done.wait(60)

    thread = threading.Thread(target=other)
    thread.start()
    at_work.wait(60)
    result = run(files, out="shared")
    done.set()
    thread.join()
    with pytest.raises(SynthGainError, match=r"shared: another process .* is writing it; wait for it"):
        raise result.exception
    assert not (files / "shared").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--only", "biggan"), "--only: found biggan; allowed: minimal, mlp, .*, compact, real"),
        (("--only", "compact"), "found compact with --length paper, which no paper has; use --length equal"),
        (
            ("--only", "mlp", "--prepared", "nowhere"),
            r"nowhere/train\.npz: no such file; `dvc repro` makes it",
        ),
    ],
)
def test_bad_input_is_one_clear_line(files, arguments, message):
    result = run(files, *arguments, out="none")
    assert isinstance(result.exception, SynthGainError)
    assert len(set(str(result.exception).splitlines())) == 1
    with pytest.raises(SynthGainError, match=message):
        raise result.exception
    assert not (files / "none").exists()
