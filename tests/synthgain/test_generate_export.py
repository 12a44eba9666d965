"""`synthgain generate` and `export` as a person runs them: what each option does, and bad input changes nothing."""

import hashlib
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits
from typer.testing import CliRunner

from pipeline.classifier.network import save_extractor
from pipeline.classifier.training import Recipe, train_classifier
from pipeline.errors import SynthGainError
from pipeline.export.verify import verify
from pipeline.gan.generators import save_generator
from pipeline.gan.networks import Generator, GeneratorDesign
from pipeline.images import LabeledImages
from pipeline.params import Training, load_params
from pipeline.runtime import store
from pipeline.scoring.label_scores import load_label_scores
from pipeline.study.subsets import real_subset
from synthgain.app import app
from synthgain.export import _images_of_generator

ROOT = Path(__file__).parents[2]
PARAMS = ROOT / "params.yaml"
CPU = torch.device("cpu")
GENERATOR = {
    "architecture": "compact",
    "z_dim": 6,
    "class_embedding_dim": 4,
    "channels": [8, 4],
    "strides": [2, 2],
    "upsampling": "transposed",
    "normalization": "none",
    "conditioning": "projection",
    "leak": 0.2,
    "noise": 0.0,
    "num_classes": 10,
    "image_size": 8,
}


def synthgain(*arguments):
    """The result of a command that ends well."""
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def tree(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture(scope="module")
def digits():
    """scikit-learn's 1797 digits, 8×8."""
    data = load_digits()
    images = (data.images[:, None] * 15.9).astype(np.uint8)
    return LabeledImages(images, data.target.astype(np.int64), tuple("0123456789"), {"kind": "real"})


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "generator.safetensors"
    save_generator(
        path, Generator(GeneratorDesign(**GENERATOR)).eval(), class_names=tuple("0123456789"), provenance={}
    )
    return path


@pytest.fixture
def study(tmp_path, digits):
    """(the train split on disk, the subset that a generator learned from, synthetic images of it on disk)"""
    train = tmp_path / "train.npz"
    digits.save(train)
    real = real_subset(digits, budget=50, replicate=1, seed=load_params(PARAMS).seed)
    made = {**real.provenance, "kind": "synthetic", "seed": 3, "generator_sha256": "a" * 64}
    synthetic = digits.subset(np.arange(300), made)
    synthetic.save(tmp_path / "synthetic.npz")
    return train, real, tmp_path / "synthetic.npz"


def test_with_real_puts_exactly_the_generators_own_images_beside(study, tmp_path):
    train, real, source = study
    out = tmp_path / "out"
    options = ("--format", "parquet,idx", "--out", out, "--workers", 1)
    synthgain("export", source, "--with-real", "--train", train, "--params", PARAMS, *options)
    assert verify(out / "parquet") == [] and verify(out / "idx") == []
    frame = pd.read_parquet(out / "parquet/train.parquet")
    marked = frame[~frame["synthetic"]]
    assert sorted(marked["pixel_sha256"]) == sorted(
        hashlib.sha256(image.tobytes()).hexdigest() for image in real.images
    )
    assert marked["id"].str.startswith("real-").all() and len(frame) == 350
    assert json.loads((out / "idx/manifest.json").read_text())["real_counts"] == real.counts().tolist()


def test_with_real_refuses_images_that_the_generator_has_not_seen(study, tmp_path, digits):
    _, _, source = study
    digits.subset(np.arange(1700), {"kind": "real"}).save(tmp_path / "other.npz")
    refuse(
        ("export", source, "--with-real", "--train", tmp_path / "other.npz", "--params", PARAMS),
        f"{source}: its generator learned from other real images than ",
        tmp_path,
    )


def test_filter_keeps_what_the_classifier_is_sure_of_and_says_so(study, tmp_path, digits):
    _, _, source = study
    # As sure of itself as a label filter needs it: no label smoothing.
    network = train_classifier(
        Recipe(digits.subset(np.arange(300, 1797)), seed=0),
        Training(
            channels=8,
            feature_dim=32,
            steps=200,
            batch_size=64,
            learning_rate=3e-3,
            weight_decay=0.01,
            label_smoothing=0.0,
        ),
        device=CPU,
        advance=lambda units, note="": None,
    )
    extractor = tmp_path / "extractor.safetensors"
    save_extractor(extractor, network, digits, CPU)
    images = LabeledImages.load(source)
    scores = load_label_scores(extractor, class_names=images.class_names)(images.images[:, 0], images.labels)
    kept = scores >= 0.9
    assert 0.2 < kept.mean() < 1, "the test needs both"
    out = tmp_path / "out"
    synthgain("export", source, "--filter", 0.9, "--extractor", extractor, "--out", out)
    assert verify(out / "parquet") == []
    frame = pd.read_parquet(out / "parquet/train.parquet")
    assert len(frame) == kept.sum() and (frame["label_score"] >= np.float32(0.9)).all()
    np.testing.assert_allclose(sorted(frame["label_score"]), np.sort(scores[kept]), rtol=1e-6)
    applied = json.loads((out / "parquet/manifest.json").read_text())["label_filter"]
    assert applied["of"] == images.counts().tolist() and sum(applied["accepted"]) == kept.sum()
    assert f"{kept.mean():.1%} of what was generated" in (out / "parquet/README.md").read_text()


def refuse(arguments, message, folder):
    """The command says one line that begins like that, and nothing below the folder changes."""
    before = tree(folder)
    result = CliRunner().invoke(
        app,
        [*map(str, arguments), *(() if arguments[0] == "verify" else ("--out", str(folder / "out.npz")))],
    )
    assert isinstance(result.exception, SynthGainError), (result.output, result.exception)
    assert str(result.exception).startswith(message) and "\n" not in str(result.exception), result.exception
    assert tree(folder) == before
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")], "half-written work"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--format", "tfrecord"), "format: found 'tfrecord'; allowed are idx, idx_gz, png, npz, parquet"),
        (("--format", ","), "format: none given; allowed are idx"),
        (("--filter", "0.9", "--extractor", "none.safetensors"), "none.safetensors: no such file"),
        (("--with-real", "--train", "none.npz"), "none.npz: no such file"),
    ],
)
def test_bad_export_options_are_one_line_and_write_nothing(study, tmp_path, options, message):
    refuse(("export", study[2], *options), message, tmp_path)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_generator_exports_what_the_file_of_its_images_does(model, tmp_path, workers):
    """Blocks of 250 images of a class, and shards of 1000 of all classes: neither begins where the other does."""
    options = ("--format", "idx,parquet,webdataset", "--shard-size", 1000, "--workers", workers, "--out")
    synthgain("generate", "--model", model, "--per-class", 320, "--seed", 5, "--out", tmp_path / "s.npz")
    synthgain("export", tmp_path / "s.npz", *options, tmp_path / "of_file")
    synthgain("export", model, "--per-class", 320, "--seed", 5, *options, tmp_path / "of_generator")
    assert tree(tmp_path / "of_generator") == tree(tmp_path / "of_file")
    assert len(tree(tmp_path / "of_file")) > 12 and not verify(tmp_path / "of_generator/parquet")


def test_a_killed_export_of_a_generator_does_not_go_on_with_other_kernels(model, monkeypatch):
    before = _images_of_generator(model, per_class=3, seed=0)
    assert _images_of_generator(model, per_class=3, seed=0).sha256 == before.sha256
    assert _images_of_generator(model, per_class=3, seed=1).sha256 != before.sha256
    monkeypatch.setattr(store, "cpu_capability", lambda: "another")
    assert _images_of_generator(model, per_class=3, seed=0).sha256 != before.sha256
    monkeypatch.undo()
    model.write_bytes(model.read_bytes() + b" ")
    with pytest.raises(SynthGainError, match="changed while images were drawn from it"):
        before.rows(np.arange(2))


def test_images_of_a_generator_are_counted_and_those_of_a_file_are_not(study, model, tmp_path):
    refuse(("export", model), f"{model}: of a generator, --per-class says how many", tmp_path)
    for option in ("--per-class", "--seed"):
        refuse(("export", study[2], option, 3), f"--per-class, --seed: {study[2]} is no generator", tmp_path)
    for option in (("--with-real",), ("--filter", 0.5)):
        said = f"{model}: --with-real and --filter need a file of images"
        refuse(("export", model, "--per-class", 3, *option), said, tmp_path)
    refuse(
        ("export", tmp_path / "no.safetensors", "--per-class", 3),
        f"{tmp_path}/no.safetensors: no such",
        tmp_path,
    )


def test_a_source_with_labels_outside_its_classes_is_one_line(study, tmp_path, digits):
    np.savez(
        tmp_path / "bad.npz",
        images=digits.images[:3],
        labels=np.array([0, 10, 1]),
        class_names=np.array(digits.class_names),
        provenance=np.array(json.dumps({"kind": "synthetic"})),
    )
    message = f"{tmp_path / 'bad.npz'}: found labels 0..10; its 10 classes allow 0..9"
    refuse(("export", tmp_path / "bad.npz"), message, tmp_path)


def test_max_per_class_takes_those_with_the_smallest_ids(study, tmp_path):
    _, _, source = study
    synthgain("export", source, "--max-per-class", 5, "--out", tmp_path / "few", "--workers", 1)
    synthgain("export", source, "--out", tmp_path / "all", "--workers", 1)
    few, whole = (pd.read_parquet(tmp_path / name / "parquet/train.parquet") for name in ("few", "all"))
    assert few["label"].value_counts().tolist() == [5] * 10
    smallest = whole.sort_values("id").groupby("label").head(5)
    assert sorted(few["pixel_sha256"]) == sorted(smallest["pixel_sha256"])


def test_force_moves_foreign_files_aside_and_keeps_them(study, tmp_path):
    folder = tmp_path / "out/parquet"
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("mine")
    synthgain("export", study[2], "--out", tmp_path / "out", "--workers", 1, "--force")
    assert verify(folder) == []
    assert (tmp_path / "out/parquet.before-1/mine.txt").read_text() == "mine"


def test_an_export_over_an_earlier_file_is_refused(study, tmp_path):
    (tmp_path / "out.npz/parquet").mkdir(parents=True)
    (tmp_path / "out.npz/parquet/mine.txt").write_text("mine")
    refuse(
        ("export", study[2]), f"{tmp_path}/out.npz/parquet: holds mine.txt, which no export wrote", tmp_path
    )


@pytest.mark.parametrize("damage", ["truncated", "foreign", "missing"])
def test_a_bad_model_replaces_nothing_even_with_force(model, tmp_path, damage):
    from safetensors.torch import save_file

    (tmp_path / "out.npz").write_text("mine")
    if damage == "truncated":
        model.write_bytes(model.read_bytes()[:200])
    elif damage == "foreign":
        save_file({"weight": torch.zeros(3)}, model)
    else:
        model.unlink()
    refuse(("generate", "--model", model, "--per-class", 1, "--force"), f"{model}: no", tmp_path)


def bytes_on_disk(folder):
    """What the files below a folder take, some of which may go while this looks."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += os.stat(f"{path}/{name}").st_blocks * 512
    return total


def run_killed(arguments, cwd, sizes=()):
    """Run a command of `synthgain` in `cwd`, killed when so much is on disk, and again; at last to its end."""
    command = [sys.executable, "-c", "import synthgain.app; synthgain.app.main()", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    kills = 0
    for size in (*sizes, math.inf):
        process = subprocess.Popen(
            command, cwd=cwd, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        # Not by the clock: a fast machine is through before, a slow one has not begun.
        while process.poll() is None and bytes_on_disk(cwd) < size:
            time.sleep(0.002)
        process.kill()
        code = process.wait()
        assert code in (0, -signal.SIGKILL)
        if code == 0:
            break
        kills += 1
    return kills


@pytest.mark.slow
@pytest.mark.soak
def test_generated_and_exported_with_kills_at_random_moments_it_ends_byte_equal(model, tmp_path):
    """SIGKILL anywhere while it writes, joins and puts in place; then the same command again."""
    generate = ("generate", "--model", model, "--per-class", 6000, "--out", "s.npz", "--force")
    export = ("export", "s.npz", "--format", "idx,parquet,webdataset", "--shard-size", 1000, "--out", "out")
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    moments = random.Random(0)
    kills = 0
    for command in (generate, export):
        for folder in (whole, killed):
            folder.mkdir(exist_ok=True)
        before = bytes_on_disk(whole)
        run_killed(command, whole)
        written = bytes_on_disk(whole) - before
        sizes = sorted(before + written * moments.uniform(0.05, 1) for _ in range(4))
        kills += run_killed(command, killed, sizes)
    assert kills >= 4, "the test interrupted little"
    assert tree(killed) == tree(whole)
    assert sorted(path.name for path in killed.iterdir()) == ["out", "s.npz"]


def start(arguments, cwd):
    """A command of `synthgain`, at work."""
    return subprocess.Popen(
        [sys.executable, "-c", "import synthgain.app; synthgain.app.main()", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("seconds", [0, pytest.param(0.7, marks=pytest.mark.slow)])
def test_of_two_generate_to_one_file_the_second_is_refused_before_it_works(model, tmp_path, seconds):
    first = start(("generate", "--model", model, "--per-class", 300, "--out", "s.npz"), tmp_path)
    time.sleep(seconds)
    second = start(("generate", "--model", model, "--per-class", 200, "--out", "s.npz"), tmp_path)
    outcomes = {}
    for process, count in ((second, 2000), (first, 3000)):
        said, complained = process.communicate(timeout=120)
        outcomes[count] = (process.returncode, said, complained)
    good = [count for count, (status, _, _) in outcomes.items() if status == 0]
    # One was done before the other came, or was refused: never do both say that they have written the file.
    assert len(good) == 1, outcomes
    ((status, said, complained),) = [outcomes[count] for count in outcomes if count not in good]
    assert status == 1 and said == ""
    assert "is writing it; wait for it" in complained or "is there already" in complained
    assert len(LabeledImages.load(tmp_path / "s.npz")) == good[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["generator.safetensors", "s.npz"]


# Linux's getrusage begins with the size of the process that started this one: pytest's own, at the end of a ring.
PEAK = """
import re, sys, synthgain.app
try: synthgain.app.main()
finally: print('peak', re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1], file=sys.stderr)
"""


def peak_megabytes(arguments, cwd):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *map(str, arguments)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stderr.rpartition("peak ")[2]) / 1024


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_number_of_images(model, tmp_path):
    """Four times as many images take no more than what their labels and their order do: their pixels are 94 MB."""
    large = Generator(GeneratorDesign(**(GENERATOR | {"image_size": 28}))).eval()
    save_generator(model, large, class_names=tuple("0123456789"), provenance={})
    peaks = {}
    for per_class in (4_000, 16_000):
        file = f"{per_class}.npz"
        peaks[per_class] = (
            peak_megabytes(("generate", "--model", model, "--per-class", per_class, "--out", file), tmp_path),
            peak_megabytes(
                ("export", file, "--format", "idx,parquet,webdataset", "--workers", 1, "--out", "out"),
                tmp_path,
            ),
        )
    grown = [large - small for small, large in zip(*peaks.values(), strict=True)]
    assert max(grown) < 60 and max(peaks[16_000]) < 1500, peaks
