"""`synthgain literature` on embedded digits, tiny: one table, work that is kept, one system that diverges."""

import json
import threading

import numpy as np
import pytest
import typer
import yaml
from sklearn.datasets import load_digits
from typer.testing import CliRunner

from pipeline.errors import SynthGainError
from pipeline.images import LabeledImages
from pipeline.literature import comparison
from pipeline.runtime import only_writer
from pipeline.workspace import PROJECT
from stages.literature import literature

BASELINES = {"real", "copycat", "class_mixup", "class_kernel_density", "class_gaussian"}


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


def run(files, *arguments, out="out"):
    app = typer.Typer()
    app.command()(literature)
    paths = {"prepared": files / "prepared", "out": files / out, "params": files / "params.yaml"}
    options = [text for name, value in paths.items() for text in (f"--{name}", str(value))]
    return CliRunner().invoke(app, [*options, *arguments])


@pytest.fixture(scope="module")
def first(files):
    result = run(files, "--only", "mlp_minimal", "--only", "mlp")
    assert result.exit_code == 0, result.exception
    return json.loads((files / "out/table.json").read_text())


def measured(table):
    return {row["system"]: row for row in table["rows"] if row["kind"] != "published"}


@pytest.mark.slow
def test_every_row_has_every_metric_at_one_n(first):
    rows = measured(first)
    assert set(rows) == {"mlp", "mlp_minimal"} | BASELINES
    (scale,) = {json.dumps(row["fid_scale"], sort_keys=True) for row in rows.values()}
    assert json.loads(scale)["n"] <= 200
    for row in rows.values():
        for metric in ("fid", "kid", "inception_score", "precision", "recall", "density", "coverage"):
            assert np.isfinite(row[metric])
        for share in ("label_fidelity", "cas_validation", "cas_test", "recognised_of_100"):
            assert 0 <= row[share] <= 1
        assert np.isfinite(row["parzen_nats"]) and row["parzen_samples"] == 300
    for name in ("mlp", "mlp_minimal"):
        row = rows[name]
        assert row["images_seen"] == 1280 and row["images_per_second"] > 0
        assert {"d_loss", "g_loss", "d_accuracy_real", "d_accuracy_fake"} < set(row)
    assert rows["mlp"]["generator_parameters"] > rows["mlp_minimal"]["generator_parameters"] > 10_000


@pytest.mark.slow
def test_the_anchors_come_out_as_they_must(first):
    rows = measured(first)
    assert rows["real"]["fid"] < rows["class_gaussian"]["fid"] < rows["mlp_minimal"]["fid"]
    assert rows["real"]["cas_test"] > rows["mlp_minimal"]["cas_test"]
    assert rows["real"]["label_fidelity"] > 0.8


@pytest.mark.slow
def test_finished_systems_are_kept_and_a_later_call_adds_to_them(files, first, monkeypatch):
    trained = []
    train_gan = comparison.train_gan

    def recorded(*arguments, what, **options):
        trained.append(what)
        return train_gan(*arguments, what=what, **options)

    monkeypatch.setattr(comparison, "train_gan", recorded)
    before = (files / "out/mlp/gan/generator.safetensors").read_bytes()
    # The vanilla GAN is new, mlp is there; nothing else of the first call is touched.
    result = run(files, "--only", "mlp", "--only", "table_vanilla")
    assert result.exit_code == 0, result.exception
    table = json.loads((files / "out/table.json").read_text())
    assert trained == ["table_vanilla"]
    assert set(measured(table)) == {"mlp", "mlp_minimal", "table_vanilla"} | BASELINES
    for name, row in measured(first).items():
        assert measured(table)[name] == row
    assert (files / "out/mlp/gan/generator.safetensors").read_bytes() == before
    # Another budget is another key.
    result = run(files, "--only", "mlp", "--total-images", "640")
    assert result.exit_code == 0, result.exception
    assert trained == ["table_vanilla", "mlp"]
    table = json.loads((files / "out/table.json").read_text())
    assert set(measured(table)) == {"mlp"} | BASELINES  # rows of one budget only
    assert measured(table)["mlp"]["images_seen"] == 640


@pytest.mark.slow
def test_the_study_starts_every_rate_from_the_same_weights(files):
    result = run(files, "--only", "learning_rates", "--total-images", "1280", out="study")
    assert result.exit_code == 0, result.exception
    study = json.loads((files / "study/table.json").read_text())["learning_rates"]
    assert list(study["variants"]) == ["0.0001", "0.0002", "0.0003", "0.0004", "0.0005", "0.0006", "cyclic"]
    first_d_losses = {variant["balance"][0]["d_loss"] for variant in study["variants"].values()}
    assert len(first_d_losses) == 1  # before the first update nothing has set them apart
    assert len({json.dumps(variant["balance"]) for variant in study["variants"].values()}) == 7


@pytest.mark.slow
def test_a_system_that_diverges_has_a_reason_instead_of_a_row(files, monkeypatch):
    def diverge(*arguments, what, **options):
        raise SynthGainError(f"{what}: the training diverged")

    monkeypatch.setattr(comparison, "train_gan", diverge)
    result = run(files, "--only", "dcgan", out="failed")
    assert result.exit_code == 0, result.exception
    table = json.loads((files / "failed/table.json").read_text())
    assert table["failures"] == {"dcgan": "dcgan: the training diverged"}
    assert set(measured(table)) == BASELINES
    assert not (files / "failed/dcgan/gan").exists()


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
        (("--only", "biggan"), "--only: found biggan; allowed: compact, mlp, .*, learning_rates"),
        (("--total-images", "64"), r"gan\.total_images: found 64; at least gan\.batch_size"),
        (("--prepared", "nowhere"), r"nowhere/train\.npz: no such file; `dvc repro` makes it"),
    ],
)
def test_bad_input_is_one_clear_line(files, arguments, message):
    result = run(files, *arguments, out="none")
    assert isinstance(result.exception, SynthGainError)
    assert len(set(str(result.exception).splitlines())) == 1
    with pytest.raises(SynthGainError, match=message):
        raise result.exception
    assert not (files / "none").exists()
