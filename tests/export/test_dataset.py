"""A whole export: the same bytes every time, nothing foreign touched, nothing half-written, nothing real."""

import hashlib
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import psutil
import pytest

from pipeline.errors import SynthGainError
from pipeline.export import dataset
from pipeline.export.dataset import export_dataset
from pipeline.export.manifest import Facts
from pipeline.export.shards import FORMATS, prepare, write_shard
from pipeline.export.source import open_images, open_study_images
from pipeline.export.table import cut_shard
from pipeline.images import LabeledImages
from pipeline.runtime.outputs import only_writer

from .conftest import samples_of, synthetic_images, tree

ROOT = Path(__file__).parents[2]


def test_exporting_again_gives_the_same_bytes_in_place_and_elsewhere(export, monkeypatch):
    first = tree(export(formats=FORMATS))
    monkeypatch.setattr("time.time", lambda: 4e9)  # another day
    assert tree(export(formats=FORMATS)) == first
    time.sleep(
        2
    )  # to the clocks that a test cannot set: of a zip archive's steps of two seconds, another one
    assert tree(export(formats=FORMATS, out="elsewhere/deep")) == first
    today = {f"{datetime.now(zone):%Y-%m-%d}".encode() for zone in (None, UTC)}
    assert not [path for path, content in first.items() if any(day in content for day in today)]
    assert {name.split("/")[0] for name in first} == set(FORMATS)


def test_several_workers_give_the_same_bytes(export):
    one = tree(export(formats=FORMATS, shard_size=4))
    assert tree(export(formats=FORMATS, shard_size=4, workers=2, out="workers")) == one


@pytest.mark.skipif(sys.platform == "win32", reason="no folder is synced there")
def test_each_file_is_on_the_disk_before_the_export_takes_its_place(export, monkeypatch):
    """Renamed before that, an image may be empty after a power cut, and its name in place."""
    on_disk, renamed = [], []
    sync, rename = os.fsync, os.replace

    def synced(descriptor):
        on_disk.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        sync(descriptor)

    def noted(source, target):
        if Path(target).name == "png":
            renamed.extend(path for path in Path(source).rglob("*") if path not in on_disk)
            renamed.append(Path(source))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", noted)
    out = export(formats=["png"])
    assert len(renamed) == 1 and renamed[0].name == "png"  # and no file that was not synced
    assert on_disk[-1] == out


def test_shards_in_another_order_give_the_same_bytes(tmp_path):
    samples = samples_of(synthetic_images(), tmp_path / "source.npz")
    for folder, before in (("forward", []), ("mixed", [5, 2])):
        work = tmp_path / folder
        work.mkdir()
        prepare(FORMATS, work, samples=len(samples), image_size=(8, 8))
        for number in before:
            write_shard(cut_shard(samples, number, 4), lambda _: None, formats=FORMATS, work=work)
        dataset.write_shards(samples, work, list(FORMATS), 4, 1)
        dataset.finish(samples, work, list(FORMATS), Facts("mnist", shard_size=4))
    assert tree(tmp_path / "forward") == tree(tmp_path / "mixed")


def test_the_pixel_hash_and_the_ids_do_not_depend_on_the_shard_size(export):
    hashes = set()
    for size in (3, 8, 100):
        manifest = json.loads((export(shard_size=size) / "png/manifest.json").read_text())
        hashes.add(manifest["pixel_sha256"])
    assert len(hashes) == 1


def test_each_shard_has_the_shares_of_the_whole(export, tmp_path):
    images = synthetic_images(counts=(40, 20, 10))
    samples = samples_of(images, tmp_path / "s.npz")
    for start in range(0, 70, 14):
        assert np.bincount(samples.labels[start : start + 14]).tolist() == [8, 4, 2]


def test_a_limit_takes_the_first_of_each_class_and_changes_no_id(export, tmp_path):
    samples = samples_of(synthetic_images(), tmp_path / "s.npz", max_per_class=2)
    assert sorted(samples.ids(0, 6)) == [f"{label}-00000{place}" for label in range(3) for place in range(2)]


def test_a_filter_leaves_gaps_in_the_ids_and_says_what_it_did(tmp_path):
    images = synthetic_images(counts=(4, 3))
    scores = np.array([0.95, 0.2, 0.9, 0.99, 0.5, 0.91, 0.99], dtype=np.float32)
    samples = samples_of(images, tmp_path / "s.npz", scores=scores, threshold=0.9, scored_by="c" * 64)
    # The float32 nearest to 0.9 is not below the threshold as it is compared in float32.
    assert sorted(samples.ids(0, len(samples))) == [
        "0-000000",
        "0-000002",
        "0-000003",
        "1-000001",
        "1-000002",
    ]
    assert samples.label_filter["accepted"] == [3, 2] and samples.label_filter["of"] == [4, 3]
    with pytest.raises(SynthGainError, match=r"--filter: found 0.995; no image of class cat\|s"):
        samples_of(images, tmp_path / "s.npz", scores=scores, threshold=0.995)


def test_real_images_stand_beside_synthetic_ones_and_are_marked(export, tmp_path):
    import pandas as pd

    real = synthetic_images(counts=(2, 3, 1), seed=9, kind="real")
    out = export(formats=["parquet"], real=real)
    frame = pd.read_parquet(out / "parquet/train.parquet")
    marked = frame[~frame["synthetic"]]
    assert sorted(marked["id"]) == [
        *("real-0-000000", "real-0-000001", "real-1-000000", "real-1-000001", "real-1-000002"),
        "real-2-000000",
    ]
    assert marked["generator_sha256"].isna().all() and marked["seed"].isna().all()
    first = marked[marked["id"] == "real-1-000000"]["pixel_sha256"].item()
    assert first == hashlib.sha256(real.images[2].tobytes()).hexdigest()
    manifest = json.loads((out / "parquet/manifest.json").read_text())
    assert manifest["real_counts"] == [2, 3, 1] and manifest["counts"] == [9, 5, 7]
    card = (out / "parquet/README.md").read_text()
    title = "# Synthetic images, made by a generator: 21 of 3 classes, beside 6 real ones"
    assert card.partition("\n---\n")[2].strip().splitlines()[0] == title  # after the hub's header
    assert "6 of the 27 images are real" in card


def test_latent_hashes_go_into_the_table(export, tmp_path):
    import pandas as pd

    out = export(
        formats=["parquet"],
        latent_hashes=lambda label, places: [f"{label}:{place}" for place in places.tolist()],
    )
    frame = pd.read_parquet(out / "parquet/train.parquet")
    for sample_id, found in zip(frame["id"], frame["z_sha256"], strict=True):
        label, place = sample_id.split("-")
        assert found == f"{label}:{int(place)}"


def test_a_smaller_export_leaves_no_file_of_the_earlier_one(export):
    export()
    out = export(synthetic_images(counts=(1, 1, 1)))
    assert sorted(path.name for path in (out / "png").rglob("*.png")) == [
        "0-000000.png",
        "1-000000.png",
        "2-000000.png",
    ]


# Whoever asks for something else than `kill_after` shards gets all of them.
KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.export import dataset
from pipeline.export.samples import select_samples
from pipeline.export.source import open_images
from pipeline.export.shards import FORMATS, write_shard

left = int(sys.argv[3])

def dying(shard, advance, *, formats, work, place):
    global left
    if left == 0:
        # Half of the shard is written when the end comes.
        write_shard(shard, advance, formats=formats[:3], work=work)
        (work / "records" / f"{shard.number}.json").unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    write_shard(shard, advance, formats=formats, work=work)

dataset.write_shard = dying
samples = select_samples(open_images(Path(sys.argv[1])))
dataset.export_dataset(samples, Path(sys.argv[2]), formats=FORMATS, source="mnist", shard_size=4)
"""


def test_a_killed_export_goes_on_after_the_last_complete_shard_and_ends_byte_equal(
    tmp_path, monkeypatch, capsys
):
    samples = samples_of(synthetic_images(), tmp_path / "s.npz")

    def run(out):
        export_dataset(samples, out, formats=FORMATS, source="mnist", shard_size=4)

    run(tmp_path / "whole")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "s.npz"), str(tmp_path / "out"), "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "out").exists()
    written = []

    def noted(shard, advance, **options):
        written.append(shard.number)
        write_shard(shard, advance, **options)

    monkeypatch.setattr(dataset, "write_shard", noted)
    run(tmp_path / "out")
    assert written == [3, 4, 5]
    assert "3 of 6 shards are there already" in capsys.readouterr().err
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "s.npz", "whole"]


class Killed(BaseException):
    """No `except Exception` hears of it, as of a SIGKILL."""


@pytest.mark.parametrize("outputs", ["kept", "removed, as DVC does before it starts a stage again"])
@pytest.mark.parametrize("exported_before", [False, True])
@pytest.mark.parametrize(
    ("where", "call"),
    [
        *(("assemble", call) for call in (1,)),
        *(("write_manifest", call) for call in (1, 2)),
        *(("_replace", call) for call in (1, 2, 3)),
        ("rmtree", -1),
    ],
)
def test_cut_off_after_any_step_of_the_end_it_ends_with_the_same_bytes(
    tmp_path, monkeypatch, where, call, exported_before, outputs
):
    samples, formats = samples_of(synthetic_images(), tmp_path / "s.npz"), ["idx", "png", "npz"]

    def run(out):
        export_dataset(samples, out, formats=formats, source="mnist", shard_size=8)

    run(tmp_path / "whole")
    if exported_before:
        run(tmp_path / "out")
    owner = dataset.shutil if where == "rmtree" else dataset
    do, calls = getattr(owner, where), []

    def cut_off(*arguments, **more):
        calls.append(arguments)
        last = where == "rmtree" and Path(arguments[0]).name == ".out.partial"
        if last:
            raise Killed  # everything is in place, and nothing of the work is removed
        done = do(*arguments, **more)
        if len(calls) == call:
            raise Killed
        return done

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(owner, where, cut_off)
        run(tmp_path / "out")
    if outputs != "kept" and (tmp_path / "out").exists():
        shutil.rmtree(tmp_path / "out")
    run(tmp_path / "out")
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "s.npz", "whole"]


def test_what_was_left_of_another_export_is_not_used(tmp_path):
    samples = samples_of(synthetic_images(seed=1), tmp_path / "s.npz")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "s.npz"), str(tmp_path / "out"), "3"]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    other = samples_of(synthetic_images(seed=2), tmp_path / "s2.npz")
    assert samples.digest() != other.digest()
    for out in ("out", "fresh"):
        export_dataset(other, tmp_path / out, formats=FORMATS, source="mnist", shard_size=4)
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


@pytest.mark.slow
def test_killed_at_any_moment_with_workers_it_ends_byte_equal_and_leaves_no_worker(tmp_path):
    """SIGKILL at random moments of a real export with two workers, then again until it ends."""
    images = synthetic_images(counts=(4000, 4000, 4000), size=28)
    samples = samples_of(images, tmp_path / "s.npz")
    export_dataset(samples, tmp_path / "whole", formats=FORMATS, source="unknown", shard_size=1000)
    command = [
        *(
            sys.executable,
            "-c",
            "import synthgain.app; synthgain.app.main()",
            "export",
            str(tmp_path / "s.npz"),
        ),
        *(
            "--out",
            str(tmp_path / "out"),
            "--format",
            ",".join(FORMATS),
            "--shard-size",
            "1000",
            "--workers",
            "2",
        ),
    ]

    # Not by the clock: a fast machine is through before, a slow one has not begun. The folder tells.
    def files_written():
        walk = os.walk(tmp_path)  # unlike rglob, it takes no offence at a folder that goes while it looks
        return sum(len(files) for folder, _, files in walk if "whole" not in Path(folder).parts)

    for files in (2, 6, 12):
        process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while process.poll() is None and files_written() < files:
            time.sleep(0.002)
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        _, left = psutil.wait_procs(family, timeout=60)
        assert [each for each in left if each.is_running() and each.status() != psutil.STATUS_ZOMBIE] == []
    process = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert process.returncode == 0
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


@pytest.mark.skipif(sys.platform == "win32", reason="no file locks there")
def test_a_second_export_to_the_same_place_is_refused_and_leaves_the_first_ones_work(export, tmp_path):
    unfinished = tmp_path / ".out.partial"
    (unfinished / "records").mkdir(parents=True)
    with ThreadPoolExecutor(1) as another:
        lock = only_writer(tmp_path / "out")
        another.submit(lock.__enter__).result()
        with pytest.raises(SynthGainError, match=r"out: another process \(\d+\) is writing it; wait for it"):
            export()
        assert not (tmp_path / "out").exists() and list(unfinished.iterdir()) == [unfinished / "records"]
        another.submit(lock.__exit__, None, None, None).result()
    assert sorted(path.name for path in export().iterdir()) == ["idx", "parquet", "png"]


@pytest.mark.parametrize("foreign", ["notes.txt", "cats/mine.png", "manifest.json", "README.md"])
def test_a_foreign_folder_is_refused_before_anything_is_written(export, tmp_path, foreign):
    path = tmp_path / "out/png" / foreign
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(SynthGainError, match=rf"png: holds {foreign}, which no export wrote; .* --force"):
        export()
    assert tree(tmp_path / "out") == {f"png/{foreign}": b"mine"}


def test_a_foreign_file_in_an_earlier_export_is_refused(export):
    out = export()
    (out / "idx/mine.txt").write_text("mine")
    before = tree(out)
    with pytest.raises(SynthGainError, match=r"idx: holds mine\.txt, which no export wrote"):
        export(synthetic_images(seed=1))
    assert tree(out) == before


def test_force_moves_foreign_folders_aside_and_deletes_nothing(export, tmp_path):
    for content in ("first", "second"):
        (tmp_path / "out/png").mkdir(exist_ok=True, parents=True)
        (tmp_path / "out/png/mine.txt").write_text(content)
        out = export(formats=["png"], force=True)
    assert (out / "png.before-1/mine.txt").read_text() == "first"
    assert (out / "png.before-2/mine.txt").read_text() == "second"
    assert not (out / "png/mine.txt").exists()


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_file_or_a_link_in_the_folders_place_is_refused(export, tmp_path, kind):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    if kind == "file":
        (tmp_path / "out/idx").write_text("mine")
    else:
        (tmp_path / "out/idx").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SynthGainError, match="idx: holds idx, which no export wrote"):
        export()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_failure_leaves_the_earlier_export_and_no_rubbish(export, tmp_path, monkeypatch):
    before = tree(export())
    monkeypatch.setattr(dataset, "write_shard", lambda *_, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export(synthetic_images(seed=1))
    assert tree(tmp_path / "out") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source.npz"]


# A file of its own: workers have to find the function by the name of its module.
FAILING = """
import os, signal, time
from pathlib import Path
from pipeline.errors import SynthGainError

def refused(shard, advance, **options):
    if shard.number == 2:
        raise SynthGainError("shard 2 is not allowed")
    time.sleep(0.1)
    Path(__file__).with_name(f"{shard.number}.written").touch()

def killed(shard, advance, **options):
    if shard.number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    refused(shard, advance)
"""


@pytest.mark.parametrize(
    ("failing", "message"),
    [("refused", "shard 2 is not allowed"), ("killed", r"a worker was killed.*--workers")],
)
def test_a_failure_in_one_worker_stops_the_others(
    export, tmp_path, tmp_path_factory, monkeypatch, failing, message
):
    folder = tmp_path_factory.mktemp("work")
    (folder / f"{failing}_shards.py").write_text(FAILING)
    monkeypatch.syspath_prepend(folder)
    module = importlib.import_module(f"{failing}_shards")
    before = tree(export())
    monkeypatch.setattr(dataset, "write_shard", getattr(module, failing))
    with pytest.raises(SynthGainError, match=message):
        export(synthetic_images(seed=1), shard_size=1, workers=2)
    written = len(list(folder.glob("*.written")))
    assert 0 < written < 20
    time.sleep(0.3)
    assert len(list(folder.glob("*.written"))) == written
    assert tree(tmp_path / "out") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source.npz"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root mounts a tmpfs")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_one_line_and_changes_nothing(tmp_path, workers):
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "none", str(small)], check=False)
    if mounted.returncode:
        pytest.skip("no tmpfs here")
    try:
        few = samples_of(synthetic_images(counts=(2, 2)), tmp_path / "few.npz")
        export_dataset(few, small / "out", formats=["parquet"], source="mnist")
        before = tree(small)
        many = samples_of(synthetic_images(counts=(400, 400), size=28), tmp_path / "many.npz")
        with pytest.raises(SynthGainError, match=r"out: the disk is full; make room .* Nothing was changed"):
            export_dataset(
                many,
                small / "out",
                formats=["parquet", "idx"],
                source="mnist",
                shard_size=100,
                workers=workers,
            )
        assert tree(small) == before
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_an_unknown_format_is_refused(export, tmp_path):
    with pytest.raises(SynthGainError, match=r"format: found 'tfrecord'; allowed are idx, idx_gz, png"):
        export(formats=["png", "tfrecord"])
    assert not (tmp_path / "out").exists()


def test_of_more_classes_than_a_label_byte_can_say_idx_is_left_out_with_one_line(export, capsys):
    images = synthetic_images(counts=(1,) * 257, class_names=[str(i) for i in range(257)])
    assert sorted(path.name for path in export(images, formats=FORMATS).iterdir()) == sorted(
        set(FORMATS) - {"idx", "idx_gz"}
    )
    line = "idx and idx_gz: left out; IDX holds at most 256 classes, and there are 257\n"
    assert capsys.readouterr().err.startswith(line)
    with pytest.raises(
        SynthGainError, match="idx: IDX holds at most 256 classes, and there are 257; take parquet"
    ):
        export(images, formats=["idx"])


@pytest.mark.parametrize(
    ("provenance", "message"),
    [
        ({"kind": "real"}, "its kind is real, only synthetic may be exported"),
        ({"budget": "all"}, "its budget is all, only 1000 may be exported"),
        ({"replicate": 1}, "its replicate is 1, only 0 may be exported"),
    ],
)
def test_only_the_synthetic_images_asked_for_are_let_out(tmp_path, provenance, message):
    synthetic_images(**provenance).save(tmp_path / "0.npz")
    with pytest.raises(SynthGainError, match=message):
        open_study_images(tmp_path / "0.npz", budget=1000, replicate=0)


def test_real_images_are_not_exported_as_synthetic(export):
    with pytest.raises(SynthGainError, match="its kind is real, only synthetic images may be exported"):
        export(synthetic_images(kind="real"))


def damaged_npz(path, damage):
    images = synthetic_images()
    if damage == "labels":
        np.savez(
            path,
            images=images.images,
            labels=images.labels + 2,
            class_names=np.array(images.class_names),
            provenance=np.array(json.dumps(dict(images.provenance))),
        )
        return
    if damage == "empty":
        images = images.subset(np.array([], dtype=np.int64))
    images.save(path)
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        at = content.index(b"images.npy") + 200
        path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
    elif damage == "other":
        np.savez(path, x=np.arange(3))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("truncated", "not a readable file of labelled images"),
        ("flipped", "not a readable file of labelled images"),
        ("other", "not a readable file of labelled images"),
        ("empty", "holds no image"),
        ("labels", r"found labels 2\.\.4; its 3 classes allow 0\.\.2"),
    ],
)
def test_a_bad_source_is_one_line(tmp_path, damage, message):
    damaged_npz(tmp_path / "s.npz", damage)
    with pytest.raises(SynthGainError, match=message) as error:
        open_images(tmp_path / "s.npz")
    assert re.match(rf"{tmp_path}/s\.npz: ", str(error.value)) and "\n" not in str(error.value)


def test_a_source_may_carry_measurements(tmp_path):
    images = synthetic_images(counts=(2, 2))
    arrays = {"label_score": np.array([0.1, 0.2, 0.3, 0.4]), "nearest_real_distance": np.arange(4.0)}
    np.savez_compressed(
        tmp_path / "s.npz",
        images=images.images,
        labels=images.labels,
        class_names=np.array(images.class_names),
        provenance=np.array(json.dumps(dict(images.provenance))),
        **arrays,
    )
    opened = open_images(tmp_path / "s.npz")
    assert opened.measurements["nearest_real_distance"].tolist() == [0, 1, 2, 3]
    assert LabeledImages.load(tmp_path / "s.npz").labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("class_names", "message"),
    [
        (("a", "b\nc", "d"), r"class_names: found 'b\\nc'; a name of printable"),
        (("a", "\udc80", "d"), r"class_names: found '\\udc80'; a name of printable"),
        (("a", "\u202eb", "d"), r"class_names: found '\\u202eb'; a name of printable"),
        (("a", "b", "a"), "class_names: a stands there 2 times"),
    ],
)
def test_class_names_that_no_file_of_text_holds_are_refused(tmp_path, class_names, message):
    with pytest.raises(SynthGainError, match=message):
        samples_of(synthetic_images(class_names=class_names), tmp_path / "images.npz")
