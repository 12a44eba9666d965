"""A file of generated images: exact counts, the same bytes however it came about, nothing half-written."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from pipeline.errors import SynthGainError
from pipeline.gan import generation
from pipeline.gan.generation import counts_text, generate_file, parse_counts
from pipeline.gan.generators import load_generator, save_generator
from pipeline.gan.networks import Generator, GeneratorDesign
from pipeline.gan.sampling import BLOCK, latent_hashes, sample_z, synthetic_images
from pipeline.images import LabeledImages
from synthgain.app import app

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")

TINY = {
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
    "num_classes": 3,
    "image_size": 8,
}


@pytest.fixture(scope="module")
def generator():
    torch.manual_seed(0)
    return Generator(GeneratorDesign(**TINY)).eval()


def write(generator, out, counts, seed=7):
    generate_file(
        generator,
        out,
        class_names=("a", "b", "c"),
        counts=counts,
        seed=seed,
        provenance={"generator_sha256": "f" * 64},
        device=CPU,
    )


def test_holds_the_same_images_as_the_generate_stage_makes(generator, tmp_path):
    from pipeline.export.source import open_images

    write(generator, tmp_path / "s.npz", [30, 0, 300])
    images = LabeledImages.load(tmp_path / "s.npz")
    whole = synthetic_images(
        generator,
        class_names=("a", "b", "c"),
        images_per_class=300,
        seed=7,
        provenance={},
        device=CPU,
        advance=lambda units, note="": None,
    )
    assert images.counts().tolist() == [30, 0, 300]
    np.testing.assert_array_equal(images.images[:30], whole.images[:30])
    np.testing.assert_array_equal(images.images[30:], whole.images[600:900])
    assert images.provenance["counts"] == [30, 0, 300] and images.provenance["seed"] == 7
    opened = open_images(tmp_path / "s.npz")  # without all of it in memory
    chosen = np.array([329, 0, 31, 30, 2])
    np.testing.assert_array_equal(opened.rows(chosen), images.images[chosen, 0])


def test_the_hash_of_z_is_that_of_the_latent():
    import hashlib

    hashes = latent_hashes({"seed": 7, "z_dim": 6})(2, np.array([BLOCK + 3, 0]))
    for found, index in zip(hashes, (BLOCK + 3, 0), strict=True):
        assert found == hashlib.sha256(sample_z(7, 2, index, 1, 6).tobytes()).hexdigest()
    (spread,) = latent_hashes({"seed": 7, "z_dim": 6, "latent_std": 1.2})(2, np.array([4]))
    assert spread == hashlib.sha256((sample_z(7, 2, 4, 1, 6) * np.float32(1.2)).tobytes()).hexdigest()
    assert latent_hashes({"seed": 7}) is None


KILLED = """
import json, os, signal, sys
from pathlib import Path
import torch
from pipeline.gan import generation
from pipeline.gan.networks import Generator, GeneratorDesign

left = int(sys.argv[2])
sample = generation.sample_images

def dying(*arguments, **options):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return sample(*arguments, **options)

generation.sample_images = dying
generation._PART_BYTES = 2 * generation.BLOCK * 64
torch.manual_seed(0)
generator = Generator(GeneratorDesign(**json.loads(sys.argv[3]))).eval()
generation.generate_file(generator, Path(sys.argv[1]), class_names=("a", "b", "c"), counts=[600, 10, 700], seed=7,
    provenance={"generator_sha256": "f" * 64}, device=torch.device("cpu"))
"""


@pytest.fixture(scope="module")
def whole(generator, tmp_path_factory):
    """The bytes of a file that no kill disturbed."""
    path = tmp_path_factory.mktemp("whole") / "s.npz"
    write(generator, path, [600, 10, 700])
    return path.read_bytes()


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A folder in which the same file was being written, until a SIGKILL: to copy."""
    folder = tmp_path_factory.mktemp("killed")
    command = [sys.executable, "-c", KILLED, str(folder / "s.npz"), "3", json.dumps(TINY)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [path.name for path in folder.iterdir()] == [".s.npz.partial"]
    return folder


def test_killed_it_goes_on_says_so_and_ends_byte_equal(
    generator, whole, killed, tmp_path, monkeypatch, capsys
):
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    starts = []
    sample = generation.sample_images
    monkeypatch.setattr(
        generation,
        "sample_images",
        lambda *a, **k: (starts.append((k["label"], k["start"])), sample(*a, **k))[1],
    )
    write(generator, tmp_path / "s.npz", [600, 10, 700])
    # Its parts of two blocks were a 0, 500; b 0 and, killed then, c 0. The first one was noted down.
    assert starts == [(0, 500), (1, 0), (2, 0)]
    assert "500 of 1310 images are there already; going on" in capsys.readouterr().err
    assert (tmp_path / "s.npz").read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["s.npz"]


@pytest.mark.parametrize("note", ["", "many", "-5", "500"])
def test_a_damaged_note_of_a_killed_run_starts_anew_and_makes_no_black_images(
    generator, whole, killed, tmp_path, note
):
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    work = tmp_path / ".s.npz.partial"
    (work / "images_on_disk").write_text(note)
    os.truncate(work / "pixels", 1000)  # as after a power cut
    write(generator, tmp_path / "s.npz", [600, 10, 700])
    assert (tmp_path / "s.npz").read_bytes() == whole


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root mounts a tmpfs")
def test_a_full_disk_is_one_line_and_changes_nothing(generator, tmp_path):
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=100k", "none", str(tmp_path)], check=False
    ).returncode:
        pytest.skip("no tmpfs here")
    try:
        with pytest.raises(SynthGainError, match=r"the disk is full; 6000 images .* Nothing was changed"):
            write(generator, tmp_path / "s.npz", [2000, 2000, 2000])
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize(
    ("text", "counts"), [("a=5", [5, 0, 0]), ("2=1, b=7", [0, 7, 1]), ("=3,2=1", None), ("a=0", None)]
)
def test_counts_name_classes_or_labels(text, counts):
    if counts is None:
        with pytest.raises(SynthGainError):
            parse_counts(text, ("a", "b", "c"))
    else:
        assert parse_counts(text, ("a", "b", "c")) == counts


@pytest.mark.parametrize(
    ("text", "names", "counts"),
    [
        ("3=2", ("1", "2", "5", "26"), "unknown class '3'.*called by its name"),
        ("0=5", tuple(map(str, range(1, 13))), "unknown class '0'.*called by its name"),
        ("26=2", ("1", "2", "5", "26"), [0, 0, 0, 2]),
        ("1=2", ("cat", "7", "dog"), "unknown class '1'.*called by its name"),
        ("1=2,b=1", ("b", "a"), [1, 2]),
        ("a,b=3,=x=2", ("a,b", "=x"), [3, 2]),
        ("a=1,0=1", ("a", "b"), "class a stands there twice"),
        ("a=" + "9" * 5000, ("a", "b"), "CLASS=NUMBER"),
        ("9" * 5000 + "=1", ("a", "b"), "unknown class"),
        ("a=1,", ("a", "b"), "CLASS=NUMBER"),
    ],
)
def test_a_number_is_a_class_name_or_a_label_but_never_a_guess(text, names, counts):
    if isinstance(counts, str):
        with pytest.raises(SynthGainError, match=counts):
            parse_counts(text, names)
    else:
        assert parse_counts(text, names) == counts


def test_the_output_says_which_classes_were_made():
    assert counts_text([0, 1], ("1", "26")) == "1 synthetic image (26: 1)"
    assert counts_text([3, 2], ("a", "b")) == "5 synthetic images (a: 3, b: 2)"


@pytest.fixture
def model(generator, tmp_path):
    path = tmp_path / "generator.safetensors"
    save_generator(path, generator, class_names=("a", "b", "c"), provenance={"kind": "real", "budget": 60})
    return path


def synthgain(*arguments):
    """What a command that ends well has printed."""
    done = CliRunner().invoke(app, [*map(str, arguments)])
    assert done.exit_code == 0, (done.output, done.exception)
    return done.stdout


def test_the_commands_go_together(model, tmp_path, monkeypatch):
    """generate → export → verify → inspect."""
    monkeypatch.chdir(tmp_path)
    generate = ("generate", "--threads", 1, "--model", model, "--out", "s.npz")
    made = synthgain(*generate, "--counts", "b=20,0=10", "--seed", 3)
    assert made == "30 synthetic images (a: 10, b: 20): s.npz\n"
    options = ("--source", "mnist", "--workers", 1)
    synthgain("export", "s.npz", "--format", "parquet,idx", *options, "--out", "out")
    table = json.loads((tmp_path / "out/parquet/manifest.json").read_text())
    assert table["counts"] == [10, 20, 0] and table["provenance"]["z_dim"] == 6
    assert synthgain("verify", "out") == "out/idx: ok\nout/parquet: ok\n"
    for what in ("out", "s.npz"):
        shown = synthgain("inspect", what, "--sheet", f"{what}.png", "--per-class", 4)
        assert "30 synthetic and 0 real images of 8×8 pixels" in shown
        assert "    1  b             20     0" in shown and "seed: 3" in shown
    with Image.open(tmp_path / "out.png") as sheet, Image.open(tmp_path / "s.npz.png") as other:
        assert sheet.size == (4 * 10 + 2, 3 * 10 + 2)
        assert sheet.tobytes() == other.tobytes()
        images = LabeledImages.load(tmp_path / "s.npz").images
        np.testing.assert_array_equal(np.asarray(sheet)[12:20, 2:10], images[10, 0])


def test_like_a_file_takes_its_counts(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    real = LabeledImages(
        np.zeros((5, 1, 8, 8), np.uint8), np.array([0, 1, 1, 2, 2]), ("a", "b", "c"), {"kind": "real"}
    )
    real.save(tmp_path / "data/prepared/train.npz")
    synthgain("generate", "--threads", 1, "--model", model, "--like", "real", "--out", "s.npz")
    assert LabeledImages.load(tmp_path / "s.npz").counts().tolist() == [1, 2, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--per-class", "0"], "--per-class: found 0; at least 1 is needed"),
        (["--per-class", "-3"], "--per-class: found -3; at least 1 is needed"),
        (["--counts", "x=3"], "--counts: unknown class 'x'; this generator knows a, b, c"),
        (["--counts", "3=3"], "--counts: unknown class '3'"),
        (["--counts", "a=-1"], "--counts: found 'a=-1'; CLASS=NUMBER is needed"),
        (["--counts", "a=1,0=2"], "--counts: class a stands there twice"),
        ([], "counts: name one of --per-class, --counts and --like"),
        (["--per-class", "1", "--like", "real"], "counts: name one of"),
        (["--like", "nothing.npz"], "nothing.npz: no such file"),
    ],
)
def test_bad_counts_are_one_line_and_write_nothing(model, tmp_path, arguments, message):
    out = tmp_path / "s.npz"
    generate = ["generate", "--threads", "1", "--model", str(model), "--out", str(out)]
    result = CliRunner().invoke(app, [*generate, *arguments])
    assert isinstance(result.exception, SynthGainError), result.output
    assert str(result.exception).startswith(message) and "\n" not in str(result.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["generator.safetensors"]


def test_a_file_that_is_there_is_kept(model, tmp_path):
    (tmp_path / "s.npz").write_text("mine")
    arguments = ["generate", "--model", str(model), "--per-class", "1", "--out", "s.npz"]
    done = subprocess.run(
        [sys.executable, "-c", "import synthgain.app; synthgain.app.main()", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "error: s.npz: is there already; name another file, or pass --force to replace it\n"
    assert (tmp_path / "s.npz").read_text() == "mine"


def test_a_truncated_or_foreign_model_is_one_line(generator, model, tmp_path):
    from safetensors.torch import save_file

    content = model.read_bytes()
    truncated, foreign, other = (tmp_path / f"{name}.safetensors" for name in ("cut", "foreign", "other"))
    truncated.write_bytes(content[: len(content) // 2])
    save_file({"weight": torch.zeros(3)}, foreign)
    save_generator(other, generator, class_names=("a", "b", "c"), provenance={})
    other.write_bytes(other.read_bytes().replace(b'\\"channels\\": [8, 4]', b'\\"channels\\": [4, 8]'))
    for path, message in (
        (truncated, "not a readable SynthGain checkpoint"),
        (foreign, "not a readable SynthGain checkpoint"),
        (other, "not a generator of this version of SynthGain"),
        (tmp_path / "none.safetensors", "no such file"),
    ):
        with pytest.raises(SynthGainError, match=message) as error:
            load_generator(path, CPU)
        assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_loading_a_generator_does_not_load_the_compiler_of_torch(generator, tmp_path):
    """Two seconds of a command's start: initialisers on torch's meta device import it."""
    save_generator(tmp_path / "g.safetensors", generator, class_names=("a", "b", "c"), provenance={})
    load = (
        "import sys, pathlib, torch; from pipeline.gan.generators import load_generator;"
        " load_generator(pathlib.Path('g.safetensors'), torch.device('cpu'));"
        " print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", load],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"
