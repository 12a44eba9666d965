"""A generator of one's own in the place of the GANs of a budget, as the stages run it."""

import json
import shlex
from collections import Counter

import numpy as np
import pytest

from pipeline.errors import SynthGainError
from pipeline.foreign.kept import checked_images, generated_file
from pipeline.foreign.replicates import generated_replicates
from pipeline.held_out import read_held_out_keys, write_held_out_keys
from pipeline.images import LabeledImages
from pipeline.params import Generator
from pipeline.study.subsets import real_subset
from pipeline.study.trained_gans import Collapse, GanStudy

NAMES = ("a/b", "dog", "train")
# Notes that it ran, makes noise as IDX files, and does what it is told. Nothing but Python: NumPy would take a second.
PROGRAM = """
import random, struct, sys
from pathlib import Path
real, out, n, seed, ran, extra = sys.argv[1:]
with open(ran, "a") as file:
    print(seed, file=file)
shape = (8, 8)
labels = bytes(label for label in range(3) for _ in range(int(n)))
pixels = random.Random(int(seed)).randbytes(64 * len(labels))
exec(extra)
Path(out, "train-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, len(labels), *shape) + pixels)
Path(out, "train-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, len(labels)) + labels)
"""


@pytest.fixture
def train():
    rng = np.random.default_rng(0)
    labels = np.arange(60, dtype=np.int64) % 3
    return LabeledImages(
        rng.integers(0, 256, (60, 1, 8, 8), dtype=np.uint8), labels, NAMES, {"split": "train"}
    )


@pytest.fixture
def run(train, tmp_path, monkeypatch):
    """A function that has the program make the images of a budget of 12."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_gan.py").write_text(PROGRAM)

    def run(extra="", *, replicates=2, members=1, folder="gan", n=5, **changes):
        words = ["python", "my_gan.py", "{real}", "{out}", "{n}", "{seed}", str(tmp_path / "ran"), extra]
        values = {
            "kind": "command",
            "command": shlex.join(words),
            "code": "my_gan.py",
            "minutes": 1,
            "folder": "ready",
            "trained_on": "subset",
            "name": "My GAN",
            "author": "Me",
            "licence": "CC0-1.0",
        }
        study = GanStudy(12, replicates, members, {}, seed=1)
        generator = Generator.model_validate(values | changes)
        return generated_replicates(train, study, generator, images_per_class=n, folder=tmp_path / folder)

    run.times = lambda: len((tmp_path / "ran").read_text().splitlines()) if (tmp_path / "ran").exists() else 0
    return run


def images_of(tmp_path, replicate, member=0, folder="gan"):
    return LabeledImages.load(generated_file(tmp_path / folder / str(replicate), member))


def test_each_replicate_has_its_own_images_with_their_origin(run, train, tmp_path):
    gans = run(replicates=3)
    assert gans.facts() == {"gans": 3, "collapsed": [], "trained_on": "subset"}
    kept = [images_of(tmp_path, replicate) for replicate in range(3)]
    assert len({images.images.tobytes() for images in kept}) == 3
    for replicate, images in enumerate(kept):
        real = real_subset(train, budget=12, replicate=replicate, seed=1)
        assert images.counts().tolist() == [5, 5, 5]
        assert images.class_names == NAMES and images.images.shape[1:] == (1, 8, 8)
        assert images.provenance["real_subset_sha256"] == real.provenance["real_subset_sha256"]
        assert images.provenance["replicate"] == replicate
        assert images.provenance["kind"] == "synthetic"
        origin = images.provenance["generator"]
        assert {key: origin[key] for key in ("kind", "name", "author", "licence", "trained_on")} == {
            "kind": "command",
            "name": "My GAN",
            "author": "Me",
            "licence": "CC0-1.0",
            "trained_on": "subset",
        }
        assert origin["copies_of_real_images"] == 0


@pytest.mark.parametrize("given", ["{real}", "{real_npz}"])
def test_the_program_sees_the_real_subset_and_no_other_image(run, train, tmp_path, given):
    """What it was given is what it gives back: exactly the replicate's images, which are counted."""
    code = "import sys, shutil; shutil.copytree(*sys.argv[1:], dirs_exist_ok=True)"
    if given == "{real_npz}":
        code = "import sys, shutil; shutil.copy(*sys.argv[1:])"
    run(command=shlex.join(["python", "-c", code, given, "{out}"]), n=4)
    for replicate in range(2):
        real = real_subset(train, budget=12, replicate=replicate, seed=1)
        images = images_of(tmp_path, replicate)
        assert Counter(map(bytes, images.images)) == Counter(map(bytes, real.images))
        assert images.provenance["generator"]["copies_of_real_images"] == 12


def test_copies_of_real_images_are_said(run, train, capsys):
    first = real_subset(train, budget=12, replicate=0, seed=1).images[0].tobytes()
    run(f"pixels = bytes.fromhex('{first.hex()}') * 2 + pixels[128:]")
    assert (
        "replicate 1 of 2: 2 of 15 images are copies of its real images, pixel for pixel"
        in capsys.readouterr().err
    )


def test_the_folder_of_real_images_has_one_png_each_under_safe_names(run, tmp_path):
    code = "import sys, shutil; shutil.copytree(sys.argv[1], sys.argv[3]); sys.exit(1)"
    command = shlex.join(["python", "-c", code, "{real}", "{out}", str(tmp_path / "seen")])
    with pytest.raises(SynthGainError):
        run(replicates=1, command=command)
    seen = tmp_path / "seen"
    assert sorted(path.name for path in seen.iterdir()) == ["a_b", "class_2", "classes.txt", "dog"]
    assert (seen / "classes.txt").read_text().splitlines() == list(NAMES)
    assert len(list(seen.rglob("*.png"))) == 12


def test_a_run_is_found_until_code_command_or_number_changes(run, tmp_path):
    run()
    assert run.times() == 2
    run(folder="again", minutes=2, name="Another name")
    assert run.times() == 2
    assert np.array_equal(images_of(tmp_path, 1).images, images_of(tmp_path, 1, folder="again").images)
    run(folder="again", n=6)
    assert run.times() == 4
    (tmp_path / "my_gan.py").write_text(PROGRAM + "# edited\n")
    run(folder="again")
    assert run.times() == 6
    run("labels = labels", folder="again")
    assert run.times() == 8


def test_compiled_code_is_no_edit_and_a_file_of_a_folder_is_one(run, tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code/helper.py").write_text("x = 1")
    run(code="code")
    (tmp_path / "code/__pycache__").mkdir()
    (tmp_path / "code/__pycache__/helper.pyc").write_bytes(b"x")
    run(code="code", folder="again")
    assert run.times() == 2
    (tmp_path / "code/helper.py").write_text("x = 2")
    run(code="code", folder="again")
    assert run.times() == 4


def test_further_generators_of_a_replicate_have_seeds_of_their_own(run, tmp_path):
    run(replicates=2, members=2)
    assert run.times() == 4
    seeds = [images_of(tmp_path, r, m).provenance["seed"] for r in range(2) for m in range(2)]
    assert len(set(seeds)) == 4


def test_a_run_that_fails_leaves_its_replicate_out_and_the_others_stay(run, tmp_path, capsys):
    fails = "sys.exit('no memory') if len(open(ran).readlines()) == 2 else None"
    gans = run(fails, replicates=3)
    assert gans.left_out == [2]
    assert gans.collapsed[0].reason.startswith('ended with exit status 1; its last line: "no memory"')
    assert gans.words == "1 of 3 runs of the generator failed"
    assert sorted(path.name for path in (tmp_path / "gan").iterdir()) == ["0", "2"]
    said = capsys.readouterr()
    assert "replicate 2 of 3: ended with exit status 1" in said.err
    assert "to try the failed ones again: dvc repro --force train_gan@" in said.out
    assert not list((tmp_path / ".work").rglob("real.npz"))  # what it read and wrote is gone


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ("labels, pixels = labels[:-1], pixels[:-64]", "too few images"),
        ("labels = bytes(label + 1 for label in labels)", r"labels 1\.\.3"),
        ("shape = (16, 4)", r"has images \(15, 16, 4\)"),
        ("open(Path(out) / 'x', 'wb').truncate(20_000_000_000)", "wrote 20,000 MB"),
    ],
)
def test_wrong_images_of_a_study_that_cannot_go_on_are_one_line(run, tmp_path, extra, words):
    with pytest.raises(SynthGainError, match=f"2 of 2 runs|1 of 2 runs.*replicate 1: .*{words}") as error:
        run(extra)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / ".work").rglob("x"))  # the 20 GB are gone


def test_what_other_runs_made_is_found_when_the_program_is_mended(run, tmp_path):
    fails = "sys.exit(1) if len(open(ran).readlines()) == 2 and not Path('mended').exists() else None"
    with pytest.raises(SynthGainError, match="what other runs made is kept"):
        run(fails)
    (tmp_path / "mended").touch()
    run(fails)
    assert run.times() == 3


def test_ready_images_of_each_replicate(run, tmp_path):
    rng = np.random.default_rng(0)
    for number in (1, 2):
        place = tmp_path / f"ready/12/{number}"
        place.mkdir(parents=True)
        np.savez(
            place / "x.npz",
            images=rng.integers(0, 256, (15, 1, 8, 8), dtype=np.uint8),
            labels=np.repeat(np.arange(3), 5),
        )
    gans = run(kind="folder", trained_on="unknown")
    assert gans.facts()["trained_on"] == "unknown" and "leakage cannot be excluded" in gans.caveat
    assert "code_sha256" not in images_of(tmp_path, 0).provenance["generator"]
    assert run.times() == 0
    with pytest.raises(SynthGainError, match=r"no folder ready/12/3; put the images of replicate 3 there"):
        run(kind="folder", replicates=3)
    with pytest.raises(SynthGainError, match=r"^generator\.folder: ready/12/1: too few images"):
        run(kind="folder", n=6)


def test_code_that_is_not_there(run):
    with pytest.raises(SynthGainError, match=r"^generator\.code: found other\.py, which is not there"):
        run(code="other.py")


@pytest.mark.parametrize("split", ["validation", "test"])
def test_copies_of_held_out_images_are_refused(run, tmp_path, split):
    run(replicates=2)
    images = images_of(tmp_path, 0)
    none = images.subset(np.arange(0, dtype=np.int64))
    splits = {"validation": none, "test": none}
    write_held_out_keys(tmp_path / "keys.npz", splits)
    file = generated_file(tmp_path / "gan/0", 0)
    checked = checked_images(file, read_held_out_keys(tmp_path / "keys.npz"), name="images")
    assert len(checked.provenance["generator_sha256"]) == 64
    assert np.array_equal(checked.images, images.images)
    write_held_out_keys(tmp_path / "keys.npz", splits | {split: images.subset(np.array([7]))})
    with pytest.raises(
        SynthGainError,
        match=rf"^images: 1 of 15 images are {split} images, pixel for pixel \(the first is image 2 of class dog\)",
    ):
        checked_images(file, read_held_out_keys(tmp_path / "keys.npz"), name="images")


def test_failed_runs_are_counted_in_words_of_their_own():
    from pipeline.study.trained_gans import TrainedGans

    failed = (Collapse(1, 1, "x"),)
    assert TrainedGans(3, failed).words == "1 of 3 GANs collapsed"
    assert json.loads(json.dumps(TrainedGans(3, failed).facts())) == {
        "gans": 3,
        "collapsed": [{"replicate": 1, "generator": 1, "reason": "x"}],
    }
