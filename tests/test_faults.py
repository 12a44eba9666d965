"""The table of faults: what is wrong, the exit status, and the message, word for word. No traceback in any.

docs/faults.md is this table (`python tests/test_faults.py > docs/faults.md`), and a test holds one against the other.
"""

import contextlib
import gzip
import hashlib
import http.server
import io
import os
import re
import shutil
import socket
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.runtime.outputs import only_writer

ROOT = Path(__file__).parents[1]
TINY = {
    "data": {"source": "digits", "image_size": 8, "validation_images": 100},
    "study": {
        "real_images": [60],
        "replicates": 1,
        "synthetic_per_real": [1.0],
        "arms": ["real", "real_affine", "synthetic", "synthetic_only", "extra_real"],
    },
    "gan": {
        "z_dim": 8,
        "generator_channels": [8, 4],
        "discriminator_channels": [4, 8, 8],
        "total_images": 320,
        "batch_size": 32,
        "history_points": 4,
        "film_strip_frames": 2,
    },
    "generation": {"images_per_class": 12},
    "extractor": {"channels": 4, "feature_dim": 8, "steps": 8, "batch_size": 32},
    "classifier": {"channels": 4, "feature_dim": 8, "steps": 4, "batch_size": 16},
    "evaluation": {"images": 100},
    "report": {"grid_images_per_class": 2},
    "export": {"formats": ["idx"], "allow_memorized": True},
    "execution": {"device": "cpu", "precision": "float32", "threads": 1},
}
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def command_of(stage: str) -> list[str]:
    """The command of dvc.yaml, as an argument list of the console app."""
    text = STAGES[stage]["cmd"]
    item = "--budget 60"
    if "synthetic_per_real" in STAGES[stage].get("matrix", {}):
        item += " --synthetic_per_real 1.0"
    text = text.replace("${item}", item)
    return ["stage", stage.replace("_", "-"), *text.split()[3:]]


@dataclass
class Bench:
    """An empty folder to go wrong in, which is the current one."""

    folder: Path
    study: Path
    patch: pytest.MonkeyPatch
    closing: contextlib.ExitStack

    def params(self, **changes: object) -> None:
        """params.yaml: the shipped one, tiny; `gan__z_dim=3` changes a value, `gan=3` a section, None removes."""
        values = yaml.safe_load((ROOT / "params.yaml").read_text())
        for section, own in TINY.items():
            values[section] |= own
        for place, value in changes.items():
            section, _, key = place.partition("__")
            target, name = (values[section], key) if key else (values, section)
            if value is None:
                del target[name]
            else:
                target[name] = value
        Path("params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))

    def results(self, *paths: str) -> None:
        """These results of a tiny study, and its params.yaml."""
        self.params()
        for path in paths or ("data",):
            source = self.study / path
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, path)
            else:
                shutil.copyfile(source, path)


Act = Callable[[Bench], list[str]]


@dataclass(frozen=True)
class Fault:
    """A row of the table.

    Attributes:
        area: the section of the document.
        given: what is wrong, in words.
        act: makes it so in an empty folder; the command line that meets it.
        message: what is printed, "…" for what differs from machine to machine.
        status: of the exit.
    """

    area: str
    given: str
    act: Act
    message: str
    status: int = 1


def run_command(arguments: list[str], patch: pytest.MonkeyPatch) -> tuple[int, str]:
    """The console app in this process: its exit status, and what it said (on stderr, else on stdout)."""
    from synthgain import app as cli

    said, shown = io.StringIO(), io.StringIO()
    patch.setattr(sys, "argv", ["synthgain", *arguments])
    status = 0
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(shown):
        try:
            cli.main()
        except SystemExit as ending:
            status = ending.code or 0
    return status, said.getvalue() or shown.getvalue()


# --- what goes wrong ---


def with_params(**changes: object) -> Act:
    """A value of params.yaml; every command reads all of it first."""

    def act(bench: Bench) -> list[str]:
        bench.params(**changes)
        return command_of("compare")

    return act


def with_file(text: str | None) -> Act:
    def act(bench: Bench) -> list[str]:
        if text is not None:
            Path("params.yaml").write_text(text)
        return command_of("compare")

    return act


def device_as_params(bench: Bench) -> list[str]:
    return [*command_of("compare"), "--params", "/dev/zero"]


def with_text(old: str, new: str) -> Act:
    """params.yaml as somebody types it."""

    def act(bench: Bench) -> list[str]:
        bench.params()
        text = Path("params.yaml").read_text()
        assert old in text
        Path("params.yaml").write_text(text.replace(old, new))
        return command_of("compare")

    return act


def idx_file(array: np.ndarray, *, kind: int = 8) -> bytes:
    header = bytes([0, 0, kind, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + array.tobytes()


def own_idx(damage: Callable[[dict[str, bytes]], None]) -> Act:
    """Own images as IDX files of which one is damaged."""

    def act(bench: Bench) -> list[str]:
        bench.params(data__source="folder")
        rng = np.random.default_rng(0)
        files = {
            "train-images-idx3-ubyte": idx_file(rng.integers(0, 255, (12, 8, 8), dtype=np.uint8)),
            "train-labels-idx1-ubyte": idx_file(np.arange(12, dtype=np.uint8) % 3),
        }
        damage(files)
        Path("data/own").mkdir(parents=True)
        for name, content in files.items():
            Path("data/own", name).write_bytes(content)
        return command_of("download")

    return act


def truncate_gzip(files: dict[str, bytes]) -> None:
    packed = gzip.compress(files.pop("train-images-idx3-ubyte"))
    files["train-images-idx3-ubyte.gz"] = packed[: len(packed) // 2]


def wrong_magic(files: dict[str, bytes]) -> None:
    files["train-images-idx3-ubyte"] = b"PK\3\4" + files["train-images-idx3-ubyte"][4:]


def swapped(files: dict[str, bytes]) -> None:
    images, labels = sorted(files)
    files[images], files[labels] = files[labels], files[images]


def no_bytes(files: dict[str, bytes]) -> None:
    files["train-labels-idx1-ubyte"] = b""


def own_folder(change: Callable[[Path, Bench], None], stage: str = "download", unusable: str = "stop") -> Act:
    """Own images, two classes of four PNG files each, with something wrong about them."""

    def act(bench: Bench) -> list[str]:
        from PIL import Image

        bench.params(data__source="folder", data__validation_images=2, data__unusable_images=unusable)
        folder = Path("data/own")
        rng = np.random.default_rng(0)
        for name in ("cat", "dog"):
            (folder / name).mkdir(parents=True)
            for number in range(4):
                pixels = rng.integers(0, 255, (8, 8), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / name / f"{number}.png")
        change(folder, bench)
        if stage == "prepare":
            status, said = run_command(command_of("download"), bench.patch)
            assert status == 0, said
        return command_of(stage)

    return act


def one_image(folder: Path, bench: Bench) -> None:
    for number in range(1, 4):
        (folder / f"cat/{number}.png").unlink()


def too_few_to_generate(folder: Path, bench: Bench) -> None:
    bench.params(
        data__source="folder",
        data__validation_images=2,
        study__real_images=["all"],
        generation__images_per_class=1,
    )


def one_image_of_a_class_is_trained(folder: Path, bench: Bench) -> None:
    bench.params(
        data__source="folder",
        data__validation_images=2,
        data__folder_test_fraction=0.3,
        study__real_images=["all"],
        study__fill_to="largest",
        study__arms=["real", "logit_adjustment"],
    )
    (folder / "cat/3.png").unlink()


def class_missing_from_test(folder: Path, bench: Bench) -> None:
    for split, names in (("train", ("cat", "dog")), ("test", ("cat",))):
        for name in names:
            shutil.copytree(folder / name, folder / split / name)
    for name in ("cat", "dog"):
        shutil.rmtree(folder / name)


def name_that_turns_the_line(folder: Path, bench: Bench) -> None:
    (folder / "cat").rename(folder / "c\u202eat")


def all_identical(folder: Path, bench: Bench) -> None:
    for path in folder.rglob("*.png"):
        if path != folder / "cat/0.png":
            shutil.copyfile(folder / "cat/0.png", path)


def nan_pixels(folder: Path, bench: Bench) -> None:
    from PIL import Image

    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(folder / "cat/nan.tiff")


def deep_picture(folder: Path, bench: Bench) -> None:
    from PIL import Image

    Image.fromarray(np.full((8, 8), 1 << 20, np.int32)).save(folder / "cat/deep.tiff")


def all_of_a_class_empty(folder: Path, bench: Bench) -> None:
    for path in (folder / "cat").iterdir():
        path.write_bytes(b"")


def two_unicode_forms(folder: Path, bench: Bench) -> None:
    shutil.copytree(folder / "cat", folder / "caf\u00e9")
    (folder / "cat").rename(folder / "cafe\u0301")


def empty_image(folder: Path, bench: Bench) -> None:
    (folder / "cat/0.png").write_bytes(b"")


def link_to_itself(folder: Path, bench: Bench) -> None:
    (folder / "cat/5.png").symlink_to("5.png")


def folder_loop(folder: Path, bench: Bench) -> None:
    (folder / "cat/again").symlink_to("..")


def unreadable(folder: Path, bench: Bench) -> None:
    """As for another user: root may read what it likes."""
    from PIL import Image

    really = Image.open

    def opened(path, *arguments, **options):
        if Path(path).name == "2.png":
            raise PermissionError(13, "Permission denied", str(path))
        return really(path, *arguments, **options)

    bench.patch.setattr(Image, "open", opened)


def no_folder(bench: Bench) -> list[str]:
    bench.params(data__source="folder")
    return command_of("download")


def mirror_with(content: bytes | None) -> Act:
    """MNIST from one local mirror that holds other bytes, or nothing."""

    def act(bench: Bench) -> list[str]:
        from pipeline.sources.published import PublishedDataset

        bench.params(data__source="mnist", data__image_size=28, data__mirrors=["mirror"])
        bench.patch.delenv("SYNTHGAIN_MIRROR", raising=False)
        bench.patch.setattr(PublishedDataset, "addresses", ())  # the published ones are not asked here
        if content is not None:
            Path("mirror").mkdir()
            Path("mirror/train-images-idx3-ubyte.gz").write_bytes(content)
        return command_of("download")

    return act


def raw_altered(bench: Bench) -> list[str]:
    from torchvision import datasets

    bench.params(data__source="mnist", data__image_size=28)
    Path("data/raw").mkdir(parents=True)
    for name, _ in datasets.MNIST.resources:
        Path("data/raw", name).write_bytes(b"altered")
    return command_of("prepare")


def train_file(change: Callable[[Path], None], stage: str = "train_gan") -> Act:
    def act(bench: Bench) -> list[str]:
        bench.results("data/prepared")
        change(Path("data/prepared/train.npz"))
        return command_of(stage)

    return act


def labels_out_of_range(path: Path) -> None:
    with np.load(path) as arrays:
        content = dict(arrays)
    content["labels"][0] = 77
    np.savez(path, **content)


def no_image_of_a_class(path: Path) -> None:
    from pipeline.images import LabeledImages

    images = LabeledImages.load(path)
    images.subset(np.flatnonzero(images.labels != 4)).save(path)


def halve(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def gan_with(**changes: object) -> Act:
    """A GAN training with these values."""

    def act(bench: Bench) -> list[str]:
        bench.results("data/prepared")
        bench.params(**changes)
        return command_of("train_gan")

    return act


def larger_than_the_data(bench: Bench) -> list[str]:
    bench.results("data/prepared")
    command = command_of("train_gan")
    command[command.index("--budget") + 1] = "9000"
    return command


def larger_pool_than_the_rest(bench: Bench) -> list[str]:
    bench.results("data/raw")
    bench.params(study__pool=9000)
    return command_of("prepare")


def no_pseudo_label_that_is_sure(bench: Bench) -> list[str]:
    bench.results("data/prepared")
    bench.params(study__pool=40, study__generators_train_on="pool", pool__pseudo_label_threshold=1.0)
    assert run_command(command_of("label_pool"), bench.patch)[0] == 0
    return command_of("train_gan")


def budget_in_words(bench: Bench) -> list[str]:
    bench.results("data/prepared")
    command = command_of("train_gan")
    command[command.index("--budget") + 1] = "many"
    return command


def collapse_of(replicates: int) -> Act:
    """Generators that never learn."""

    def act(bench: Bench) -> list[str]:
        from pipeline.gan import training

        bench.patch.setattr(training, "generator_loss", lambda *_, real, fake: 0 * (real.sum() + fake.sum()))
        return gan_with(
            study__replicates=replicates,
            gan__total_images=960,
            gan__history_points=10,
            gan__warmup_steps=2,
            gan__collapse_patience_images=300,
        )(bench)

    return act


@contextmanager
def files_of_at_most(size: int):
    """Writes beyond this many bytes fail, as on a full disk: the system's limit, for root as well."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def full_disk(stage: str) -> Act:
    """The first file of a stage is its checkpoint (GAN), its network (extractor) or its images."""

    def act(bench: Bench) -> list[str]:
        bench.results()
        bench.closing.enter_context(files_of_at_most(2000))
        return command_of(stage)

    return act


def cut_off_then(change: Callable[[Path], None]) -> Act:
    """A GAN training that was cut off after its first save, whose state is then changed."""

    def act(bench: Bench) -> list[str]:
        from pipeline.gan import training

        command = gan_with()(bench)
        really = training.save_state

        def once(state, folder):
            really(state, folder)
            raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training, "save_state", once)
            status, said = run_command(command, bench.patch)
            assert status == 130, said
        (kept,) = Path(".work").rglob("state.pt")
        change(kept)
        return command

    return act


def of_other_params(kept: Path) -> None:
    import torch

    def change(content: dict[str, Any]) -> None:
        name = next(iter(content["generator"]))
        content["generator"][name] = torch.zeros(3, 5)

    rewrite_state(kept, change)


def of_a_newer_version(kept: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content["second_moments"] = content.pop("d_optimizer")

    rewrite_state(kept, change)


def rewrite_state(kept: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """With the checksum that it begins with."""
    import torch

    content = torch.load(io.BytesIO(kept.read_bytes()[32:]), weights_only=True)
    change(content)
    packed = io.BytesIO()
    torch.save(content, packed)
    kept.write_bytes(hashlib.sha256(packed.getvalue()).digest() + packed.getvalue())


def at_the_same_work(bench: Bench) -> list[str]:
    """Somebody else holds the lock of this training's state."""
    command = cut_off_then(lambda kept: None)(bench)
    (state,) = Path(".work/unfinished").iterdir()
    at_work, done = threading.Event(), threading.Event()

    def other() -> None:
        with only_writer(state):
            at_work.set()
            done.wait(60)

    thread = threading.Thread(target=other)
    thread.start()
    at_work.wait(60)
    bench.closing.callback(thread.join)
    bench.closing.callback(done.set)
    return command


def classifier_diverges(bench: Bench) -> list[str]:
    bench.results("data/prepared")
    bench.params(classifier__learning_rate=1.0e30)
    return command_of("train_baselines")


def without(stage: str, *paths: str) -> Act:
    """A stage whose inputs are not all there."""

    def act(bench: Bench) -> list[str]:
        bench.results()
        for path in paths:
            shutil.rmtree(path) if Path(path).is_dir() else Path(path).unlink()
        return command_of(stage)

    return act


def with_changed(stage: str, path: str, change: Callable[[Path], None]) -> Act:
    def act(bench: Bench) -> list[str]:
        bench.results()
        change(Path(path))
        return command_of(stage)

    return act


def newer_generator(path: Path) -> None:
    from pipeline.checkpoints import load_checkpoint, save_checkpoint

    tensors, metadata = load_checkpoint(path, kind="generator")
    metadata["arguments"]["attention"] = True
    save_checkpoint(path, tensors, metadata)


def edited_generator(change: Callable[[dict, dict], None]) -> Callable[[Path], None]:
    """Weights and metadata that somebody has changed."""

    def edit(path: Path) -> None:
        from pipeline.checkpoints import load_checkpoint, save_checkpoint

        tensors, metadata = load_checkpoint(path, kind="generator")
        change(tensors, metadata)
        save_checkpoint(path, tensors, metadata)

    return edit


def all_weights(value: float) -> Callable[[dict, dict], None]:
    def change(tensors: dict, metadata: dict) -> None:
        for tensor in tensors.values():
            tensor.fill_(value)

    return change


def other_kind(path: Path) -> None:
    from pipeline.checkpoints import load_checkpoint, save_checkpoint

    tensors, metadata = load_checkpoint(path, kind="generator")
    save_checkpoint(path, tensors, metadata | {"kind": "feature_extractor"})


def drop_first_row(path: Path) -> None:
    header, _, *rows = path.read_text().splitlines(keepends=True)
    path.write_text("".join([header, *rows]))


def interface_without_store(bench: Bench) -> list[str]:
    bench.params()
    bench.patch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return ["ui"]


def store_at(uri: str) -> Act:
    """`track` with this MLFLOW_TRACKING_URI."""

    def act(bench: Bench) -> list[str]:
        bench.results()
        bench.patch.setenv("MLFLOW_TRACKING_URI", uri)
        return command_of("track")

    return act


def server_that(kind: str) -> Act:
    """`track` against a server on loopback that is down, silent, failing, very slow or too busy."""

    def act(bench: Bench) -> list[str]:
        listening = socket.create_server(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        if kind == "hangs":
            bench.closing.enter_context(listening)
        else:
            listening.close()
        if kind in ("fails", "sends a byte a second", "asks to wait"):

            class Answering(http.server.BaseHTTPRequestHandler):
                def do_GET(self):
                    if kind == "fails":
                        self.send_error(500)
                    elif self.path == "/health":
                        self.send_response(200)
                        self.end_headers()
                    elif kind == "asks to wait":
                        self.send_response(429)
                        self.send_header("Retry-After", "3600")
                        self.end_headers()
                    else:
                        with contextlib.suppress(OSError):
                            self.send_response(200)
                            self.send_header("Content-Length", "1000")
                            self.end_headers()
                            while not ending.wait(0.1):
                                self.wfile.write(b" ")
                                self.wfile.flush()

                do_POST = do_GET

                def log_message(self, *args):
                    pass

            from pipeline.tracking import deadline

            bench.patch.setattr(deadline, "SECONDS", 1.0)  # the test's patience
            ending = threading.Event()
            server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Answering)
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            bench.closing.callback(thread.join)
            bench.closing.callback(server.server_close)
            bench.closing.callback(server.shutdown)
            bench.closing.callback(ending.set)
        return store_at(f"http://user:secret@127.0.0.1:{port}")(bench)

    return act


def database_with(*statements: str) -> Act:
    def act(bench: Bench) -> list[str]:
        bench.results()
        bench.patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with closing(sqlite3.connect("mlflow.db")) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()
        return command_of("track")

    return act


def read_only_store(bench: Bench) -> list[str]:
    """`mirror` runs as another user: root may write what it likes."""
    import tempfile

    import pipeline.tracking.mirror as tracking
    from pipeline.tracking.planned_runs import PlannedRun
    from pipeline.tracking.store import find_store

    folder = Path(bench.closing.enter_context(tempfile.TemporaryDirectory()))
    command = store_at(f"sqlite:///{folder}/mlflow.db")(bench)
    store = find_store(os.environ, Path())
    tracking.mirror([PlannedRun("study", "study", "s")], experiment="other", store=store, root=Path())
    folder.chmod(0o755)
    (folder / "mlflow.db").chmod(0o444)
    (folder / "mlflow.db.lock").chmod(0o666)
    bench.folder.chmod(0o755)
    really, user = tracking.mirror, os.geteuid()

    def as_nobody(*arguments, **options):
        try:
            if user == 0:
                os.seteuid(65534)
            return really(*arguments, **options)
        finally:
            os.seteuid(user)

    bench.patch.setattr(tracking, "mirror", as_nobody)
    return command


def not_a_database(bench: Bench) -> list[str]:
    bench.results()
    bench.patch.delenv("MLFLOW_TRACKING_URI", raising=False)
    Path("mlflow.db").write_text("hello " * 1000)
    return command_of("track")


def generate_with(*arguments: str, there: str = "") -> Act:
    def act(bench: Bench) -> list[str]:
        bench.results("data/gan")
        if there:
            Path(there).write_text("mine")
        model = "data/gan/60/0/generator.safetensors"
        return ["generate", "--model", model, "--threads", "1", *arguments]

    return act


def export_with(*arguments: str, foreign: bool = False) -> Act:
    def act(bench: Bench) -> list[str]:
        bench.results("data/synthetic")
        if foreign:
            Path("out/idx").mkdir(parents=True)
            Path("out/idx/thesis.txt").write_text("mine")
        return ["export", "data/synthetic/60/0.npz", "--out", "out", "--workers", "1", *arguments]

    return act


def full_disk_at_the_export(bench: Bench) -> list[str]:
    import errno

    from pipeline.export import dataset

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device", "out/.part")

    bench.patch.setattr(dataset, "write_shard", full)
    return export_with("--format", "idx")(bench)


def export_beside_another(bench: Bench) -> list[str]:
    from concurrent.futures import ThreadPoolExecutor

    from pipeline.runtime.outputs import only_writer

    another, lock = bench.closing.enter_context(ThreadPoolExecutor(1)), only_writer(Path("out"))
    another.submit(lock.__enter__).result()
    bench.closing.callback(lambda: another.submit(lock.__exit__, None, None, None).result())
    return export_with("--format", "idx")(bench)


def verify_altered(bench: Bench) -> list[str]:
    bench.results("data/export")
    Path("data/export/idx/classes.txt").write_text("one\n")
    return ["verify", "data/export"]


def verify_after(change: Callable[[Path], None], command: str = "verify") -> Act:
    """An export as it arrives from elsewhere."""

    def act(bench: Bench) -> list[str]:
        bench.results("data/export")
        change(Path("data/export/idx"))
        return [command, "data/export"]

    return act


def card_is_a_pipe(folder: Path) -> None:
    (folder / "README.md").unlink()
    os.mkfifo(folder / "README.md")


def labels_are_zeros(folder: Path) -> None:
    (folder / "train-labels-idx1-ubyte").unlink()
    (folder / "train-labels-idx1-ubyte").symlink_to("/dev/zero")


def links_into_the_cache(folder: Path) -> None:
    """As DVC checks out a folder where `cache.type` is symlink."""
    for number, path in enumerate(sorted(folder.iterdir())):
        kept = Path(f".dvc/cache/files/md5/{number:02}/{'0' * 30}").absolute()
        kept.parent.mkdir(parents=True)
        path.rename(kept)
        path.symlink_to(kept)


def a_key_twice(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace('"counts"', '"images": 3, "counts"'))


def a_line_twice(folder: Path) -> None:
    text = (folder / "SHA256SUMS").read_text()
    (folder / "SHA256SUMS").write_text(text + text.splitlines(keepends=True)[0])


def in_any(*arguments: str) -> Act:
    def act(bench: Bench) -> list[str]:
        bench.params()
        return list(arguments)

    return act


def with_table_of_nothing(*arguments: str) -> Act:
    def act(bench: Bench) -> list[str]:
        bench.params()
        table = Path("build/literature/rows.csv")
        table.parent.mkdir(parents=True)
        table.write_text("nothing\n")
        return list(arguments)

    return act


def without_home(*arguments: str) -> Act:
    """As for a user id that the machine does not know."""

    def act(bench: Bench) -> list[str]:
        import pwd

        bench.params()

        def unknown(number: int) -> None:
            raise KeyError(f"getpwuid(): uid not found: {number}")

        bench.patch.delenv("HOME")
        bench.patch.setattr(pwd, "getpwuid", unknown)
        return list(arguments)

    return act


def fault_of_ours(bench: Bench) -> list[str]:
    from pipeline.comparison import cells

    def broken(*arguments, **options):
        return 1 / 0

    bench.results("data/metrics")
    bench.patch.setattr(cells, "load_cells", broken)
    return command_of("compare")


OWN_GENERATOR = {
    "kind": "command",
    "command": "python my_gan.py {real} {out} {n}",
    "code": "my_gan.py",
    "minutes": 1,
    "folder": "data/generated",
    "trained_on": "subset",
    "name": "My GAN",
    "author": "Me",
    "licence": "CC0-1.0",
}
# Noise as IDX files, by Python alone. What goes wrong stands before it is written.
OWN_PROGRAM = """
import random, shutil, struct, sys, time
from pathlib import Path
real, out, n = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
labels = bytes(label for label in range(10) for _ in range(n))
pixels, side = random.Random(len(list(real.rglob("*.png")))).randbytes(64 * len(labels)), 8
{wrong}
(out / "train-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, len(labels), side, side) + pixels)
(out / "train-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, len(labels)) + labels)
"""


def own_params(**changes: object) -> Act:
    return with_params(generator=OWN_GENERATOR | changes)


def own_generator(
    wrong: str = "", *, stage: str = "train_gan", replicates: int = 2, **changes: object
) -> Act:
    """A generator of one's own with something wrong about it."""

    def act(bench: Bench) -> list[str]:
        bench.results("data/prepared")
        bench.params(generator=OWN_GENERATOR | changes, study=STUDY_OF_TINY | {"replicates": replicates})
        Path("my_gan.py").write_text(OWN_PROGRAM.format(wrong=wrong))
        if stage == "generate":
            status, said = run_command(command_of("train_gan"), bench.patch)
            assert status == 0, said
        return command_of(stage)

    return act


def ready_images(bench: Bench) -> list[str]:
    return own_generator(kind="folder")(bench)


def own_classifier(network: str, text: str = "") -> Act:
    """A classifier of one's own with something wrong about it: found before anything is trained."""

    def act(bench: Bench) -> list[str]:
        bench.results("data/raw")
        own = {"network": network, "code": "faulty_net.py"}
        bench.params(**{f"classifier__{key}": value for key, value in own.items()})
        bench.patch.setattr(sys, "path", list(sys.path))
        bench.patch.setattr(sys, "dont_write_bytecode", True)
        sys.modules.pop("faulty_net", None)
        Path("faulty_net.py").write_text(f"from torch import nn\n\n\ndef make(**sizes):\n    return {text}\n")
        return command_of("prepare")

    return act


STUDY_OF_TINY = yaml.safe_load((ROOT / "params.yaml").read_text())["study"] | TINY["study"]
GIVES_BACK = (
    "[(out / f.parent.name).mkdir(exist_ok=True) or shutil.copy(f, out / f.parent.name / f'{k}-{f.name}')"
    " for f in real.rglob('*.png') for k in range(3)]; sys.exit()"
)
GIVES_VALIDATION = (
    "import numpy as np; held = np.load('data/prepared/validation.npz');"
    " order = np.argsort(held['labels'], kind='stable'); own = held['labels'][order];"
    " keep = np.concatenate([np.resize(np.flatnonzero(own == label), n) for label in range(10)]);"
    " labels, pixels = own[keep].astype(np.uint8).tobytes(), held['images'][order][keep].tobytes()"
)
PARAMS, DATA, TRAINING, OWN = "params.yaml", "Data", "Training", "A generator or classifier of your own"
TRACKING, RESULTS, HAND_OVER, ANY = (
    "Tracking",
    "Results of earlier stages",
    "Generating and exporting",
    "Any command",
)
FAULTS = [
    Fault(
        PARAMS,
        "a generator of one's own without a word on its origin",
        own_params(author="", trained_on=""),
        "error: params.yaml: generator.trained_on: found ''; generator.kind command needs subset (it saw the"
        " real images of its"
        " replicate and no others), or unknown (verdict and card then say that it may have seen test images)\n"
        "error: params.yaml: generator.author: found ''; generator.kind command needs one line of up to 200"
        " characters, which"
        " reports and data cards show",
    ),
    Fault(
        PARAMS,
        "a command that would not say where to write",
        own_params(command="python my_gan.py"),
        "error: params.yaml: generator.command: has no {out}, the folder that the program must write into",
    ),
    Fault(
        PARAMS,
        "a command with a value that nobody fills in",
        own_params(command="python my_gan.py {out} {count}"),
        "error: params.yaml: generator.command: found {count}; what is filled in is {real}, {real_npz}, {out},"
        " {n}, {seed}",
    ),
    Fault(
        PARAMS,
        "a command with half a quote",
        own_params(command="python 'my_gan.py {out}"),
        'error: params.yaml: generator.command: found "python \'my_gan.py {out}"; its quotes do not match (No closing'
        " quotation)",
    ),
    Fault(
        PARAMS,
        "code outside of the folder",
        own_params(code="../my_gan.py"),
        "error: params.yaml: generator.code: found '../my_gan.py'; a path within the folder of params.yaml is"
        " needed, such as"
        " my_gan.py: a workspace has a copy of it",
    ),
    Fault(
        PARAMS,
        "code in the place of the pipeline's",
        own_params(code="stages/my_gan.py"),
        "error: params.yaml: generator.code: found 'stages/my_gan.py'; stages belongs to the pipeline: give your"
        " code a name of its"
        " own, such as my_gan.py",
    ),
    Fault(
        PARAMS,
        "a network that is no name of one",
        with_params(classifier__network="resnet18"),
        "error: params.yaml: classifier.network: found 'resnet18'; allowed: 'compact' or torchvision:<name> or"
        " <package.module>:<factory>",
    ),
    Fault(
        PARAMS,
        "a factory that is not in the code",
        with_params(classifier__network="timm.models:resnet18"),
        "error: params.yaml: classifier.network: found 'timm.models:resnet18' with classifier.code 'own/classifier';"
        " the module must be that file, or in that folder, as in my_net:make with my_net.py",
    ),
    Fault(
        OWN,
        "a network that torchvision has not",
        own_classifier("torchvision:resnet19"),
        "error: classifier.network: torchvision has no classifier resnet19; perhaps resnet…"
        " (torchvision.models.list_models)",
    ),
    Fault(
        OWN,
        "a factory that fails",
        own_classifier("faulty_net:make", "nn.Linear(sizes['width'], 10)"),
        "error: classifier.network: faulty_net:make: KeyError: 'width'",
    ),
    Fault(
        OWN,
        "a network of other classes",
        own_classifier("faulty_net:make", "nn.Sequential(nn.Flatten(), nn.Linear(64, 7))"),
        "error: classifier.network: faulty_net:make: TypeError: it gives (2, 7) for (2, 1, 8, 8), and logits (2, 10)"
        " are needed",
    ),
    Fault(
        OWN,
        "a program that fails in every replicate",
        own_generator("sys.exit('CUDA out of memory')"),
        "error: generator of 60 real images: 1 of 2 runs of the generator failed, and too few"
        ' replicates remain (2 are needed); replicate 1: ended with exit status 1; its last line: "CUDA out of memory";'
        " its output is in .work/generator/60-1-1.log; what other runs made is kept: mend the program, and `dvc"
        " repro`"
        " goes on",
    ),
    Fault(
        OWN,
        "a program that fails in one of three replicates",
        own_generator(
            "count = Path('.work/count'); count.open('a').write('.'); len(count.read_text()) == 2 and sys.exit(9)",
            replicates=3,
        ),
        "generator, 60 real images, replicate 2 of 3: ended with exit status 9; it printed"
        " nothing; its output is in .work/generator/60-2-1.log; its replicate is left out",
        0,
    ),
    Fault(
        OWN,
        "a program that hangs",
        own_generator("print('epoch 1', flush=True); time.sleep(600)", minutes=0.02),
        "…replicate 1: was still running after 0.02 minutes (generator.minutes), and was ended; its last line:"
        ' "epoch 1"; …',
    ),
    Fault(
        OWN,
        "a program that is not installed",
        own_generator(command="my_gan {out}"),
        "…replicate 1: cannot be started: my_gan: No such file or directory; …",
    ),
    Fault(
        OWN,
        "a program that prints megabytes and fails",
        own_generator("print('x' * 5_000_000); sys.exit(1)"),
        '…replicate 1: ended with exit status 1; its last line: "xxx…"; its output is in .work/generator/60-1-1.log; …',
    ),
    Fault(
        OWN,
        "a program that writes nothing",
        own_generator("sys.exit()"),
        "…replicate 1: no images; a folder for each class with PNG files, .npz files with images and labels, .parquet"
        " files with image and label, or IDX files with MNIST's names are read; …",
    ),
    Fault(
        OWN,
        "a program that writes too few images",
        own_generator("labels, pixels = labels[3:], pixels[192:]"),
        "…replicate 1: too few images: 12 of each class are needed, 0 has 9; …",
    ),
    Fault(
        OWN,
        "labels of classes that there are not",
        own_generator("labels = bytes(label + 7 for label in labels)"),
        "…replicate 1: train-labels-idx1-ubyte has labels 7..16; 0..9 are the classes; …",
    ),
    Fault(
        OWN,
        "images of another size",
        own_generator("labels, side = labels[: len(labels) // 4], 16"),
        "…replicate 1: train-images-idx3-ubyte has images (30, 16, 16); (N, 1, 8, 8) or (N, 8, 8, 1) are needed; …",
    ),
    Fault(
        OWN,
        "a file of 20 GB",
        own_generator("(out / 'x.npz').open('wb').truncate(20_000_000_000); sys.exit()"),
        "…replicate 1: wrote 20,000 MB, and 64 MB are allowed for these images…",
    ),
    Fault(
        OWN,
        "the real images themselves",
        own_generator(GIVES_BACK),
        "generator, 60 real images, replicate 1 of 2: 120 of 120 images are copies of its real images, pixel for"
        " pixel; the memorisation gate"
        " judges that…",
        0,
    ),
    Fault(
        OWN,
        "validation images",
        own_generator(GIVES_VALIDATION, stage="generate"),
        "error: images 60, replicate 1: 120 of 120 images are validation images, pixel for pixel (the first is"
        " image 0 of"
        " class 0); a generator may see the real images of its replicate alone: nothing is judged on images that"
        " leaked",
    ),
    Fault(
        OWN,
        "code that is not there",
        own_generator(code="other.py"),
        "error: generator.code: found other.py, which is not there; name the file or folder of your code",
    ),
    Fault(
        OWN,
        "ready images of which a replicate has none",
        ready_images,
        "…error: generator.folder: no folder data/generated/60/1; put the images of replicate 1 there"
        " (docs/own-generator.md)",
    ),
    Fault(
        PARAMS,
        "a key that there is not",
        with_params(gan__bathc_size=3),
        "error: params.yaml: gan.bathc_size: unknown key; remove it or mend its spelling",
    ),
    Fault(
        PARAMS,
        "a section that there is not",
        with_params(trainer={}),
        "error: params.yaml: trainer: unknown key; remove it or mend its spelling",
    ),
    Fault(
        PARAMS,
        "a section that is no section",
        with_params(classifier="x"),
        "error: params.yaml: classifier: found 'x'; allowed: a section of keys and values",
    ),
    Fault(
        PARAMS,
        "a key left out",
        with_params(gan__z_dim=None),
        "error: params.yaml: gan.z_dim: missing; every value stands in params.yaml",
    ),
    Fault(
        PARAMS,
        "a key of an earlier version",
        with_params(classifier__elastic_sigma=4.0),
        "error: params.yaml: classifier.elastic_sigma: now called augmentation.elastic_sigma; move its value there",
    ),
    Fault(
        PARAMS,
        "an augmentation without smoothness",
        with_params(augmentation__elastic_sigma=0),
        "error: params.yaml: augmentation.elastic_sigma: found 0; allowed: greater than 0",
    ),
    Fault(
        PARAMS,
        "mixup that mixes nothing",
        with_params(augmentation__mixup_alpha=0),
        "error: params.yaml: augmentation.mixup_alpha: found 0; allowed: greater than 0",
    ),
    Fault(
        PARAMS,
        "logits that are adjusted by nothing",
        with_params(classifier__logit_adjustment=0),
        "error: params.yaml: classifier.logit_adjustment: found 0; allowed: greater than 0",
    ),
    Fault(
        PARAMS,
        "an arm for rare classes where none is rare",
        with_params(study__arms=["real", "logit_adjustment"]),
        "error: params.yaml: study.arms: found logit_adjustment, but study.imbalance names no rare class whose gap it "
        "could fill; name one, set study.fill_to to largest or to a count where classes are unequal by nature, or "
        "remove logit_adjustment",
    ),
    Fault(
        PARAMS,
        "a study without labels, as the papers' systems are",
        with_params(gan__conditioning="none"),
        "error: params.yaml: gan.conditioning: found 'none'; allowed: 'projection' or 'concatenate'",
    ),
    Fault(
        PARAMS,
        "an option that only the papers' systems have",
        with_params(gan__weight_clipping=0.01),
        "error: params.yaml: gan.weight_clipping: unknown key; remove it or mend its spelling",
    ),
    Fault(
        PARAMS,
        "a negative seed",
        with_params(seed=-1),
        "error: params.yaml: seed: found -1; allowed: greater than or equal to 0",
    ),
    Fault(
        PARAMS,
        "an unknown source",
        with_params(data__source="mnits"),
        "error: params.yaml: data.source: found 'mnits'; allowed: 'mnist', 'fashion_mnist', 'kmnist', "
        "'emnist_balanced', 'emnist_digits', 'emnist_letters', 'cifar10', 'svhn', 'digits' or "
        "'folder'",
    ),
    Fault(
        PARAMS,
        "own images in what a stage writes",
        with_params(data__folder="data/raw"),
        "error: params.yaml: data.folder: found 'data/raw'; data/raw is what a stage writes, and removes: name a"
        " folder of your own, such as data/own",
    ),
    Fault(
        PARAMS,
        "own images in a home folder that nobody expands",
        with_params(data__folder="~/own"),
        "error: params.yaml: data.folder: found '~/own'; nobody expands ~ here: write the whole path, or one from"
        " the folder of params.yaml",
    ),
    Fault(
        PARAMS,
        "own images by a detour",
        with_params(data__folder="data/../../own"),
        "error: params.yaml: data.folder: found 'data/../../own'; write it without detours: ../own",
    ),
    Fault(
        PARAMS,
        "own images at an address",
        with_params(data__folder="s3://bucket/own"),
        "error: params.yaml: data.folder: found 's3://bucket/own'; a local folder is needed, not an address",
    ),
    Fault(
        PARAMS,
        "a mirror with a password",
        with_params(data__mirrors=["https://user:secret@host/mnist"]),
        "error: params.yaml: data.mirrors.0: an address with a user, a password or a query; params.yaml is no place"
        " for secrets: set the environment variable SYNTHGAIN_MIRROR to it instead",
    ),
    Fault(
        PARAMS,
        "no validation images",
        with_params(data__validation_images=0),
        "error: params.yaml: data.validation_images: found 0; allowed: greater than or equal to 1",
    ),
    Fault(
        PARAMS,
        "an image size that no network here fits",
        with_params(data__image_size=30),
        "error: params.yaml: data.image_size: found 30; allowed: 4, 5, 6 or 7 doubled once or more, 8 to 128; nearest:"
        " 28 or 32",
    ),
    Fault(
        PARAMS,
        "colour asked of a grey data set",
        with_params(data__channels="colour"),
        "error: params.yaml: data.channels: found colour; digits is grey: auto or grey",
    ),
    Fault(
        PARAMS,
        "an empty list of budgets",
        with_params(study__real_images=[]),
        "error: params.yaml: study.real_images: found []; allowed: a list of at least 1 item",
    ),
    Fault(
        PARAMS,
        "a budget smaller than the number of classes",
        with_params(study__real_images=[5]),
        "error: params.yaml: study.real_images: found 5; digits has 10 classes, so a budget needs at "
        "least one image of each",
    ),
    Fault(
        PARAMS,
        "a ratio twice",
        with_params(study__synthetic_per_real=[1, 1.0]),
        "error: params.yaml: study.synthetic_per_real: found [1, 1.0]; each value may stand once (1 "
        "and 1.0 are the same)",
    ),
    Fault(
        PARAMS,
        "a ratio that is not a number",
        with_params(study__synthetic_per_real=[float("nan")]),
        "error: params.yaml: study.synthetic_per_real.0: found nan; allowed: a finite number",
    ),
    Fault(
        PARAMS,
        "a ratio that needs more images than are generated",
        with_params(study__synthetic_per_real=[9.0]),
        "error: params.yaml: generation.images_per_class: found 12; the largest "
        "study.synthetic_per_real (9.0) at 60 real images needs 54",
    ),
    Fault(
        PARAMS,
        "yes in the place of a number",
        with_params(study__replicates=True),
        "error: params.yaml: study.replicates: found True; allowed: a whole number",
    ),
    Fault(
        PARAMS,
        "an arm without the one it is compared with",
        with_params(study__arms=["real", "synthetic_affine"]),
        "error: params.yaml: study.arms: found synthetic_affine without real_affine, which it is "
        "compared with; add real_affine, or remove synthetic_affine",
    ),
    Fault(
        PARAMS,
        "an arm with a pool, and no pool",
        with_params(study__arms=["real", "real_affine", "consistency_affine"]),
        "error: params.yaml: study.arms: found consistency_affine, but study.pool is none; set it to rest, or to a"
        " count of images of the train split, or remove consistency_affine",
    ),
    Fault(
        PARAMS,
        "GANs of a pool, and no pool",
        with_params(study__generators_train_on="pool"),
        "error: params.yaml: study.generators_train_on: found pool, but study.pool is none; set study.pool to rest or"
        " to a count, or this to subset",
    ),
    Fault(
        PARAMS,
        "a weak policy that is none",
        with_params(pool__weak_policy="weak"),
        "error: params.yaml: pool.weak_policy: found 'weak'; allowed: a policy: none, affine, affine_elastic, shift,"
        " flip_crop, color, trivial_augment, mixup, affine_elastic_mixup",
    ),
    Fault(
        PARAMS,
        "a weak policy that blends images",
        with_params(pool__weak_policy="mixup"),
        "error: params.yaml: pool.weak_policy: found mixup, which blends images, so that they have no label to find;"
        " take one without mixup, such as affine",
    ),
    Fault(
        PARAMS,
        "a policy that mirrors images of which no mirror image is of the same class",
        with_params(study__arms=["real", "real_flip_crop"]),
        "error: params.yaml: study.arms: found real_flip_crop, whose policy mirrors images, but augmentation.flips is"
        " none; set it to horizontal or both if mirror images are of the same class (digits' are not), or take a policy"
        " without flips, such as shift",
    ),
    Fault(
        PARAMS,
        "a number that YAML reads as text",
        with_params(gan__generator_learning_rate="2e-4"),
        "error: params.yaml: gan.generator_learning_rate: found '2e-4'; allowed: a number (YAML reads "
        "2e-4 as text: write it with a decimal point, as in 2.0e-4)",
    ),
    Fault(
        PARAMS,
        "an infinite learning rate",
        with_params(gan__generator_learning_rate=float("inf")),
        "error: params.yaml: gan.generator_learning_rate: found inf; allowed: a finite number",
    ),
    Fault(
        PARAMS,
        "options that do nothing together",
        with_params(gan__label_smoothing=0.1),
        "error: params.yaml: gan.label_smoothing: found 0.1; loss relativistic has no target to "
        "smooth: set it to 0.0, or the loss to non_saturating, saturating or least_squares",
    ),
    Fault(
        PARAMS,
        "no image of each class to generate",
        with_params(generation__images_per_class=0),
        "error: params.yaml: generation.images_per_class: found 0; allowed: greater than or equal to 1",
    ),
    Fault(
        PARAMS,
        "a batch of one",
        with_params(extractor__batch_size=1),
        "error: params.yaml: extractor.batch_size: found 1; allowed: greater than or equal to 2",
    ),
    Fault(
        PARAMS,
        "text in the place of a number",
        with_params(classifier__steps="many"),
        "error: params.yaml: classifier.steps: found 'many'; allowed: a whole number from 1 on, or one for each budget,"
        ' as in {"100": 3000, "1000": 2000}',
    ),
    Fault(
        PARAMS,
        "a budget without steps",
        with_params(classifier__steps={"7": 100}),
        "error: params.yaml: classifier.steps: names 7, but not the budget 60 of study.real_images; add its steps, or"
        " write one number for all budgets",
    ),
    Fault(
        PARAMS,
        "a class called 3 beside one called cat, without quotes",
        with_text("  imbalance: {}", "  imbalance: {3: 0.1, cat: 0.2}"),
        'error: params.yaml: study.imbalance.3: line …: a number beside keys that are text; put it in quotes: "3"',
    ),
    Fault(
        PARAMS,
        "too few images for a metric",
        with_params(evaluation__images=10),
        "error: params.yaml: evaluation.images: found 10; allowed: greater than or equal to 100",
    ),
    Fault(
        PARAMS,
        "an empty grid of samples",
        with_params(report__grid_images_per_class=0),
        "error: params.yaml: report.grid_images_per_class: found 0; allowed: greater than or equal to 1",
    ),
    Fault(
        PARAMS,
        "an experiment without a name",
        with_params(tracking__experiment=""),
        "error: params.yaml: tracking.experiment: found ''; allowed: text, and not an empty one",
    ),
    Fault(
        PARAMS,
        "an unknown export format",
        with_params(export__formats=["zip"]),
        "error: params.yaml: export.formats.0: found 'zip'; allowed: 'idx', 'idx_gz', 'png', 'npz', "
        "'parquet', 'webdataset' or 'arrow'",
    ),
    Fault(
        PARAMS,
        "a replicate that there is not",
        with_params(export__replicate=4),
        "error: params.yaml: export.replicate: found 4; replicates are counted from 1, and study.replicates is 1",
    ),
    Fault(
        PARAMS,
        "an unknown device",
        with_params(execution__device="gpu"),
        "error: params.yaml: execution.device: found 'gpu'; allowed: 'auto', 'cpu' or 'cuda'",
    ),
    Fault(
        PARAMS,
        "two mistakes",
        with_params(gan__beta1=2, classifier__steps=0),
        "error: params.yaml: gan.beta1: found 2; allowed: less than 1\nerror: params.yaml: "
        "classifier.steps: found 0; allowed: a whole number from 1 on, or one for each budget, as in"
        ' {"100": 3000, "1000": 2000}',
    ),
    Fault(
        PARAMS,
        "a class called no without quotes",
        with_text("  imbalance: {}", "  imbalance: {no: 0.1, 010: 0.2}"),
        'error: params.yaml: study.imbalance.no: line …: YAML reads this key as true or false; put it in quotes: "no"\n'
        "error: params.yaml: study.imbalance.010: line …: YAML reads this key as another number; put it in "
        'quotes: "010"',
    ),
    Fault(
        PARAMS,
        "no file",
        with_file(None),
        "error: params.yaml: no such file; run this where params.yaml is, or pass --params",
    ),
    Fault(
        PARAMS,
        "an empty file",
        with_file(""),
        "error: params.yaml: expected sections of keys and values, found NoneType",
    ),
    Fault(
        PARAMS,
        "a file that is no YAML",
        with_file("a: [1"),
        'error: params.yaml: not valid YAML (while parsing a flow sequence in "<unicode string>", '
        "line 1, column 4: a: [1 ^ expected ',' or ']', but got '<stream end>' in \"<unicode "
        'string>", line 1, column 6: a: [1 ^)',
    ),
    Fault(
        PARAMS,
        "a key that stands twice",
        with_file("seed: 7\ngan:\n  z_dim: 64\n  dropout: 0.0\n  z_dim: 32\n"),
        "error: params.yaml: z_dim stands twice, in line 3 and in line 5; remove one of them",
    ),
    Fault(
        PARAMS,
        "a class that is named twice, as a number and as text",
        with_file('study:\n  imbalance: {3: 0.1, "3": 0.5}\n'),
        "error: params.yaml: 3 stands twice, in line 2 and in line 2; remove one of them",
    ),
    Fault(
        PARAMS,
        "20 000 levels",
        with_file("seed: " + 20_000 * "["),
        "error: params.yaml: nested too deeply; sections of keys and values are expected",
    ),
    Fault(
        PARAMS,
        "aliases that stand for a hundred million values",
        with_file(
            f"a: &a [{9 * 'x, '}]\n"
            + "".join(f"{b}: &{b} [{9 * f'*{a}, '}]\n" for a, b in pairwise("abcdefgh"))
        ),
        "error: params.yaml: its aliases (*name) stand for over 10,000 values; write the values instead",
    ),
    Fault(
        PARAMS,
        "an alias of what holds it",
        with_file("seed: &a [*a]\n"),
        "error: params.yaml: its aliases (*name) stand for over 10,000 values; write the values instead",
    ),
    Fault(
        PARAMS,
        "a device in its place",
        device_as_params,
        "error: /dev/zero: over 1,000,000 bytes; a file of parameters is needed",
    ),
    Fault(
        PARAMS,
        "an experiment whose name no model may have",
        with_params(tracking__experiment="team/run:1"),
        "error: params.yaml: tracking.experiment: found 'team/run:1'; allowed: text of up to 200 printable "
        "characters without / and : and without dots or blanks around it, for it names an MLflow model too",
    ),
    Fault(
        DATA,
        "own images: no such folder",
        no_folder,
        "error: data/own: no such folder; put one folder per class there (<class name>/*.png), "
        "optionally under train/ and test/, or IDX files with MNIST's names (docs/own-data.md)",
    ),
    Fault(
        DATA,
        "own images: a truncated gzip file",
        own_idx(truncate_gzip),
        "error: data/own: 1 problem; nothing was packed\nerror:   train-images-idx3-ubyte.gz: cannot "
        "be read, damaged or truncated (Compressed file ended before the end-of-stream marker was "
        "reached)",
    ),
    Fault(
        DATA,
        "own images: a wrong magic number",
        own_idx(wrong_magic),
        "error: data/own: 1 problem; nothing was packed\nerror:   train-images-idx3-ubyte: not an IDX "
        "file (it begins with 504b0304)",
    ),
    Fault(
        DATA,
        "own images: images and labels swapped",
        own_idx(swapped),
        "error: data/own: 1 problem; nothing was packed\nerror:   train-images-idx3-ubyte: IDX of type "
        "8 with 1 dimensions; unsigned bytes (type 8) with 3 are needed",
    ),
    Fault(
        DATA,
        "own images: an IDX file of 0 bytes",
        own_idx(no_bytes),
        "error: data/own: 1 problem; nothing was packed\nerror:   train-labels-idx1-ubyte: not an IDX "
        "file (it begins with nothing)",
    ),
    Fault(
        DATA,
        "own images: a picture of 0 bytes",
        own_folder(empty_image),
        "error: data/own: 1 problem; nothing was packed\nerror:   cat/0.png: empty file"
        "\nerror:   mend or remove these files; or set data.unusable_images to leave_out, and the others are used",
    ),
    Fault(
        DATA,
        "own images: NaN pixels",
        own_folder(nan_pixels),
        "error: data/own: 1 problem; nothing was packed\nerror:   cat/nan.tiff: floating-point values; "
        "8 or 16 bits are needed"
        "\nerror:   mend or remove these files; or set data.unusable_images to leave_out, and the others are used",
    ),
    Fault(
        DATA,
        "own images: a picture of 32 bits",
        own_folder(deep_picture),
        "error: data/own: 1 problem; nothing was packed\nerror:   cat/deep.tiff: signed 32-bit values; 8 or 16 bits "
        "from 0 are needed"
        "\nerror:   mend or remove these files; or set data.unusable_images to leave_out, and the others are used",
    ),
    Fault(
        DATA,
        "own images: a class whose every picture is bad, and bad ones left out",
        own_folder(all_of_a_class_empty, unusable="leave_out"),
        "error: data/own: 6 problems; nothing was packed\nerror:   cat/0.png: empty file…class cat: none of its files "
        "can be used; remove its folder, or mend them",
    ),
    Fault(
        DATA,
        "own images: a class name in two Unicode forms",
        own_folder(two_unicode_forms),
        "error: data/own: 1 problem; nothing was packed\nerror:   class café: folders have this name in different "
        "Unicode forms, as macOS and other systems write it ('cafe\\u0301', 'caf\\xe9'); put their images into one "
        "folder, and give that folder one form in train and test",
    ),
    Fault(
        DATA,
        "own images: a link to itself",
        own_folder(link_to_itself),
        "error: data/own: 1 problem; nothing was packed\nerror:   cat/5.png: a link that leads to itself"
        "\nerror:   mend or remove these files; or set data.unusable_images to leave_out, and the others are used",
    ),
    Fault(
        DATA,
        "own images: a folder that holds itself",
        own_folder(folder_loop),
        "error: data/own: 1 problem; nothing was packed\nerror:   cat/again: a link to a folder that "
        "is read already",
    ),
    Fault(
        DATA,
        "own images: a file that may not be read",
        own_folder(unreadable),
        "error: data/own: 2 problems; nothing was packed\nerror:   cat/2.png: no permission to read "
        "it\nerror:   dog/2.png: no permission to read it"
        "\nerror:   mend or remove these files; or set data.unusable_images to leave_out, and the others are used",
    ),
    Fault(
        DATA,
        "own images: a class with too few images",
        own_folder(one_image),
        "error: data/own: 1 problem; nothing was packed\nerror:   class cat: 1 usable train images; at "
        "least 3 are needed (train, validation and test)",
    ),
    Fault(
        DATA,
        "own images: a class missing from test",
        own_folder(class_missing_from_test),
        "error: data/own: 1 problem; nothing was packed\nerror:   class dog: no test image",
    ),
    Fault(
        DATA,
        "own images: a class name that is written from right to left",
        own_folder(name_that_turns_the_line),
        "error: data/own: 1 problem; nothing was packed\nerror:   class 'c\\u202eat': a class name of printable "
        "characters is needed",
    ),
    Fault(
        DATA,
        "own images: all identical",
        own_folder(all_identical, stage="prepare"),
        "error: all 6 images of the published train split are identical",
    ),
    Fault(
        DATA,
        "too few test images for the metrics of synthetic ones",
        own_folder(lambda folder, bench: None, stage="prepare"),
        "error: study.real_images: found 60; the train split has 4 images of 2 classes: 2 to 4, or all\n"
        "error: the test split: in the shares of the test split's classes, the splits offer 2 images to evaluate "
        "(test 2, data.validation_images 2, evaluation.images 100, generation.images_per_class 12); more than the 8 "
        "features of the extractor are needed: raise data.validation_images to about 9, and the test split to 9 images "
        "(bring more, or raise data.folder_test_fraction), or lower extractor.feature_dim to at most 1\n"
        "error: class cat: …; at least 2 of each class are needed: raise data.validation_images to about 4, and the "
        "test split to 4 images (…)\nerror: evaluation.neighbors: found 5; …, so 1..1 is allowed",
    ),
    Fault(
        DATA,
        "own images: a ratio that needs more images of a class than are generated",
        own_folder(too_few_to_generate, stage="prepare"),
        "error: generation.images_per_class: found 1; class cat has 2 images in a real subset (study.real_images all),"
        " so study.synthetic_per_real 1.0 needs 2 synthetic ones: set it to at least 2, or lower the ratio"
        " to at most 0.5\nerror: …",
    ),
    Fault(
        DATA,
        "own images: an arm for rare classes where a class has one image to train on",
        own_folder(one_image_of_a_class_is_trained, stage="prepare"),
        "error: study.real_images: found all, which leaves 1 image of class cat; arms for rare classes, such as "
        "logit_adjustment, need at least 2 of each: bring more images of this class, or remove these arms\nerror: …",
    ),
    Fault(
        DATA,
        "MNIST: no mirror gives it",
        mirror_with(None),
        "error: train-images-idx3-ubyte.gz: not to be had; places tried, in order:\nerror:   mirror: "
        "no such folder\nerror:   data/own: no such folder\nerror: three ways out:\nerror:   1. a "
        "mirror: set SYNTHGAIN_MIRROR, or data.mirrors in params.yaml, to a base URL or a local folder "
        "that holds the files\nerror:   2. by hand: put train-images-idx3-ubyte.gz, "
        "train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz into "
        "data/own\nerror:   3. no data set at all: `make demo` runs everything on the digits embedded "
        "in scikit-learn",
    ),
    Fault(
        DATA,
        "MNIST: a mirror with a wrong checksum",
        mirror_with(b"altered"),
        "error: train-images-idx3-ubyte.gz: not to be had; places tried, in order:\nerror:   mirror: "
        "altered or truncated (md5 expected f68b3c2dcbeaaa9fbdd348bbdeb94873, found "
        "32e4306ff72b73fda27df65692e29975, 7 bytes)\nerror:   data/own: no such folder\nerror: three "
        "ways out:\nerror:   1. a mirror: set SYNTHGAIN_MIRROR, or data.mirrors in params.yaml, to a "
        "base URL or a local folder that holds the files\nerror:   2. by hand: put "
        "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, "
        "t10k-labels-idx1-ubyte.gz into data/own\nerror:   3. no data set at all: `make demo` runs "
        "everything on the digits embedded in scikit-learn",
    ),
    Fault(
        DATA,
        "MNIST: raw files altered after the download",
        raw_altered,
        "error: data/raw/train-images-idx3-ubyte.gz: altered or truncated, or of another data set (md5 "
        "expected f68b3c2dcbeaaa9fbdd348bbdeb94873, found 32e4306ff72b73fda27df65692e29975); run the "
        "`download` stage again",
    ),
    Fault(
        DATA,
        "a truncated train split",
        train_file(halve),
        "error: data/prepared/train.npz: not a readable labelled image file (File is not a zip file); "
        "make it again",
    ),
    Fault(
        DATA,
        "a train split without labels in range",
        train_file(labels_out_of_range),
        "error: data/prepared/train.npz: labels: found 0..77; 10 classes allow 0..9; make it again",
    ),
    Fault(
        DATA,
        "a train split without one class",
        train_file(no_image_of_a_class),
        "error: class 4 has no image among 1166; at least one of each is needed: make the splits again "
        "(`dvc repro prepare`)",
    ),
    Fault(
        DATA,
        "no train split",
        train_file(Path.unlink, stage="train_extractor"),
        "error: data/prepared/train.npz: no such file; `dvc repro` makes it",
    ),
    Fault(
        TRAINING,
        "a budget larger than the data",
        larger_than_the_data,
        "error: study.real_images: found 9000; the train split has 1297 images",
    ),
    Fault(
        TRAINING,
        "a larger pool than the train split leaves",
        larger_pool_than_the_rest,
        "error: study.pool: found 9000; beside 60 real images (study.real_images) the train split has 1237 others: take"
        " 1237, or rest",
    ),
    Fault(
        TRAINING,
        "no pseudo-label that is sure enough for a GAN of the pool",
        no_pseudo_label_that_is_sure,
        "error: study.generators_train_on: found pool, but in replicate 1 self-training collapsed: none of 40"
        " pseudo-labels has a probability of 0.91 (the highest: …); lower pool.pseudo_label_threshold, or set it to"
        " subset",
    ),
    Fault(
        TRAINING,
        "a budget in words",
        budget_in_words,
        "error: --budget: found many; a whole number of images, or all",
    ),
    Fault(
        TRAINING,
        "a GAN loss that is not a number",
        gan_with(
            gan__generator_learning_rate=1e30, gan__discriminator_learning_rate=1e30, gan__warmup_steps=0
        ),
        "error: GAN 60, replicate 1 of 1: the training diverged by step … (D loss nan, G loss …); "
        "lower gan.generator_learning_rate (now 1e+30) and gan.discriminator_learning_rate (now "
        "1e+30), or raise gan.penalty_weight (now 0.1)",
    ),
    Fault(
        TRAINING,
        "a collapsed generator",
        collapse_of(1),
        "error: GAN 60, replicate 1 of 1: the generator has collapsed (diversity … of the real "
        "images', label fidelity …, for … images); lower the learning rates, raise "
        "gan.penalty_weight or gan.augment_probability, or set gan.collapse_patience_images to 0 to train on "
        "all the same; the last state before it is kept in .work/unfinished/gan-…",
    ),
    Fault(
        TRAINING,
        "so many collapsed generators that fewer than two replicates remain",
        collapse_of(3),
        "GAN 60, replicate 1 of 3: the generator has collapsed (diversity … of the real images', label fidelity …, for"
        " … images); its replicate is left out\n"
        "GAN 60, replicate 2 of 3: the generator has collapsed (diversity … of the real images', label fidelity …, for"
        " … images); its replicate is left out\n"
        "error: 60 real images: 2 of 3 GANs collapsed, and a study goes on with 2 replicates at least (replicate 1:"
        " the generator has collapsed (diversity …, for … images); replicate 2: the generator has collapsed (diversity"
        " …, for … images)); lower the learning rates, raise gan.penalty_weight, gan.augment_probability or"
        " study.replicates, or set gan.collapse_patience_images to 0 to train on after a collapse",
    ),
    Fault(
        TRAINING,
        "a classifier loss that is not a number",
        classifier_diverges,
        "error: the classifier diverged (loss nan); lower its learning_rate",
    ),
    Fault(
        TRAINING,
        "a network too large for the memory",
        gan_with(gan__class_embedding_dim=10**12),
        "error: out of memory; lower the batch sizes or the number of images in params.yaml, or end "
        "what else runs here",
    ),
    Fault(
        TRAINING,
        "a full disk while a checkpoint is written",
        full_disk("train_gan"),
        "error: the disk is full, or a quota reached ([Errno 27] File too large); make room and give "
        "the same command again, nothing half-written is left behind",
    ),
    Fault(
        TRAINING,
        "a full disk while a network is written",
        full_disk("train_extractor"),
        "error: the disk is full, or a quota reached ([Errno 27] File too large); make room and give "
        "the same command again, nothing half-written is left behind",
    ),
    Fault(
        TRAINING,
        "a full disk while images are written",
        full_disk("generate"),
        "error: the disk is full, or a quota reached ([Errno 27] File too large); make room and give "
        "the same command again, nothing half-written is left behind",
    ),
    Fault(
        TRAINING,
        "a truncated checkpoint",
        cut_off_then(halve),
        ".work/unfinished/gan-…/state.pt: not a readable state of this training (…); set aside as "
        "state.pt.damaged, this training starts anew…",
        status=0,
    ),
    Fault(
        TRAINING,
        "a checkpoint of other params under this name",
        cut_off_then(of_other_params),
        ".work/unfinished/gan-…/state.pt: not a readable state of this training (RuntimeError); set aside as "
        "state.pt.damaged, this training starts anew…",
        status=0,
    ),
    Fault(
        TRAINING,
        "a checkpoint of a newer version",
        cut_off_then(of_a_newer_version),
        ".work/unfinished/gan-…/state.pt: not a readable state of this training (KeyError); set aside as "
        "state.pt.damaged, this training starts anew…",
        status=0,
    ),
    Fault(
        TRAINING,
        "another process at the same training",
        at_the_same_work,
        "error: .work/unfinished/gan-…: another process (…) is writing it; wait for it, or stop it",
    ),
    Fault(
        RESULTS,
        "no generator",
        without("generate", "data/gan"),
        "error: data/gan/60/0/generator.safetensors: no such file; `dvc repro` makes it",
    ),
    Fault(
        RESULTS,
        "a truncated generator",
        with_changed("generate", "data/gan/60/0/generator.safetensors", halve),
        "error: data/gan/60/0/generator.safetensors: not a readable SynthGain checkpoint (Error while "
        "deserializing header: incomplete metadata, file not fully covered)",
    ),
    Fault(
        RESULTS,
        "a generator of a newer version",
        with_changed("generate", "data/gan/60/0/generator.safetensors", newer_generator),
        "error: data/gan/60/0/generator.safetensors: not a generator of this version of SynthGain "
        "(GeneratorDesign.__init__() got an unexpected keyword argument 'attention'); train it again",
    ),
    Fault(
        RESULTS,
        "a generator with an edited size",
        with_changed(
            "generate",
            "data/gan/60/0/generator.safetensors",
            edited_generator(lambda tensors, metadata: metadata["arguments"].update(z_dim=-3)),
        ),
        "error: data/gan/60/0/generator.safetensors: not a generator of this version of SynthGain (…); train it again",
    ),
    Fault(
        RESULTS,
        "a generator without the names of its classes",
        with_changed(
            "generate",
            "data/gan/60/0/generator.safetensors",
            edited_generator(lambda tensors, metadata: metadata.pop("class_names")),
        ),
        "error: data/gan/60/0/generator.safetensors: not a generator of this version of SynthGain ('class_names'); "
        "train it again",
    ),
    Fault(
        RESULTS,
        "a generator whose weights are NaN",
        with_changed(
            "generate",
            "data/gan/60/0/generator.safetensors",
            edited_generator(all_weights(float("nan"))),
        ),
        "error: data/gan/60/0/generator.safetensors: not a generator of this version of SynthGain (… holds values "
        "that are no finite numbers); train it again",
    ),
    Fault(
        RESULTS,
        "a generator whose weights are 3e38",
        with_changed("generate", "data/gan/60/0/generator.safetensors", edited_generator(all_weights(3e38))),
        "error: generator: its values for label 0 are all at the ends of their range (-1 or 1) in 250 of 250 "
        "images, so they are no images; its weights are damaged or the training diverged: train it again with lower "
        "learning rates",
    ),
    Fault(
        RESULTS,
        "another network in the place of a generator",
        with_changed("generate", "data/gan/60/0/generator.safetensors", other_kind),
        "error: data/gan/60/0/generator.safetensors: holds a feature_extractor, a generator is needed",
    ),
    Fault(
        RESULTS,
        "synthetic images missing",
        without("train_augmented", "data/synthetic/60/0.npz"),
        "error: data/synthetic/60/0.npz: no such file; `dvc repro` makes it",
    ),
    Fault(
        RESULTS,
        "a classifier missing",
        without("evaluate_classifiers", "data/classifier/60/augmented/1.0.safetensors"),
        "error: data/classifier/60/augmented/1.0.safetensors: no such file; `dvc repro` makes it",
    ),
    Fault(
        RESULTS,
        "the test split among the training images",
        with_changed(
            "evaluate_classifiers",
            "data/prepared/test.npz",
            lambda path: shutil.copyfile("data/prepared/train.npz", path),
        ),
        "error: 60 images of the test split are among the real training images of the cell budget 60, "
        "arm real, synthetic_per_real 0, replicate 1: its scores there would be worth nothing; make "
        "the splits again (`dvc repro prepare`) and train again",
    ),
    Fault(
        RESULTS,
        "a row of the table missing",
        with_changed("compare", "data/metrics/cells.csv", drop_first_row),
        "error: data/metrics/cells.csv: no row for the cell budget 60, arm real, synthetic_per_real 0, "
        "replicate 1; `dvc repro` makes it",
    ),
    Fault(
        RESULTS,
        "a table that is none",
        with_changed("compare", "data/metrics/cells.csv", lambda path: path.write_text("hello")),
        "error: data/metrics/cells.csv: no column budget, arm, synthetic_per_real, replicate, "
        "classic_augmentation, real_images, training_images, optimizer_steps, batch_size, "
        "real_subset_sha256, validation_accuracy, validation_macro_f1, test_accuracy, test_macro_f1; "
        "make it again",
    ),
    Fault(
        RESULTS,
        "a damaged file that says which GANs collapsed",
        with_changed("generate", "data/metrics/collapsed/60.json", halve),
        "error: data/metrics/collapsed/60.json: does not say which GANs collapsed (JSONDecodeError); `dvc repro` makes"
        " it again",
    ),
    Fault(
        RESULTS,
        "no comparison for the report",
        without("report", "data/metrics/comparison.json"),
        "error: data/metrics/comparison.json: no such file; `dvc repro` makes it",
    ),
    Fault(
        RESULTS,
        "no comparison for the export",
        without("export", "data/metrics/comparison.json"),
        "error: data/metrics/comparison.json: no such file; `dvc repro compare` makes it",
    ),
    Fault(
        RESULTS,
        "truncated metrics for the export",
        with_changed("export", "data/metrics/synthetic/60.json", halve),
        "error: data/metrics/synthetic/60.json: not readable metrics of replicate 1 (…); `dvc repro` makes them"
        " again",
    ),
    Fault(
        TRACKING,
        "a server that is down",
        server_that("is down"),
        "error: MLflow server http://127.0.0.1:… (MLFLOW_TRACKING_URI): connection refused. Nothing "
        "else is lost: all results are files, and `dvc repro` (or `synthgain stage track`) mirrors "
        "them later",
    ),
    Fault(
        TRACKING,
        "a server that says nothing",
        server_that("hangs"),
        "error: MLflow server http://127.0.0.1:… (MLFLOW_TRACKING_URI): no answer in time. Nothing "
        "else is lost: all results are files, and `dvc repro` (or `synthgain stage track`) mirrors "
        "them later",
    ),
    Fault(
        TRACKING,
        "a server that fails",
        server_that("fails"),
        "error: MLflow server http://127.0.0.1:…: /health has status 500 (MLFLOW_TRACKING_URI). "
        "Nothing else is lost: all results are files, and `dvc repro` (or `synthgain stage track`) "
        "mirrors them later",
    ),
    Fault(
        TRACKING,
        "a server that sends a byte a second",
        server_that("sends a byte a second"),
        "error: MLflow at http://127.0.0.1:…: no whole answer within 15 seconds. Nothing else is lost: all "
        "results are files, and `dvc repro` (or `synthgain stage track`) mirrors them later",
    ),
    Fault(
        TRACKING,
        "a server that asks to try again in an hour",
        server_that("asks to wait"),
        "error: MLflow at http://127.0.0.1:…: it has too many requests and asks to try again later (status "
        "429). Nothing else is lost: all results are files, and `dvc repro` (or `synthgain stage track`) "
        "mirrors them later",
    ),
    Fault(
        TRACKING,
        "a URI that cannot hold runs",
        store_at("ftp://user:secret@host"),
        "error: MLFLOW_TRACKING_URI: found ftp://…; allowed are http://host:port, https://host "
        "and sqlite:///folder/mlflow.db; unset it for mlflow.db of this project",
    ),
    Fault(
        TRACKING,
        "a password that cuts the address in two",
        store_at("http://user:sec/ret@host:5000"),
        "error: MLFLOW_TRACKING_URI: a user or password in it holds one of / ? # \\; write it percent-encoded "
        "(%2F %3F %23 %5C), or set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead",
    ),
    Fault(
        TRACKING,
        "a token in the address",
        store_at("http://host:5000/?token=secret"),
        "error: MLFLOW_TRACKING_URI: it has a query or a fragment (what follows ? or #), which cannot be used; "
        "allowed is http(s)://host:port/path, and a token goes into MLFLOW_TRACKING_TOKEN",
    ),
    Fault(
        TRACKING,
        "a store that may not be written",
        read_only_store,
        "error: MLflow at sqlite:///…/mlflow.db: (sqlite3.OperationalError) attempt to write a "
        "readonly database. Nothing else is lost: all results are files, and `dvc repro` (or "
        "`synthgain stage track`) mirrors them later",
    ),
    Fault(
        TRACKING,
        "a store of a newer MLflow",
        database_with(
            "CREATE TABLE alembic_version (version_num TEXT)",
            "INSERT INTO alembic_version VALUES ('ffffffffffff')",
        ),
        "error: ./mlflow.db: made by a newer MLflow than the … here (schema ffffffffffff); install "
        "that one, or name another store in MLFLOW_TRACKING_URI. Nothing else is lost: all results are "
        "files, and `dvc repro` (or `synthgain stage track`) mirrors them later",
    ),
    Fault(
        TRACKING,
        "a store that MLflow was killed making",
        database_with(
            "CREATE TABLE alembic_version (version_num TEXT)", "CREATE TABLE _alembic_tmp_metrics (key TEXT)"
        ),
        "error: ./mlflow.db: MLflow was killed while it made or upgraded this store; remove the file if only "
        "this project's runs were in it, else bring back a copy. Nothing else is lost: all results are files, and "
        "`dvc repro` (or `synthgain stage track`) mirrors them later",
    ),
    Fault(
        TRACKING,
        "a database of something else",
        database_with("CREATE TABLE customers (name TEXT)"),
        "error: ./mlflow.db: an SQLite file, but no MLflow store (its tables: customers); name another "
        "file in MLFLOW_TRACKING_URI",
    ),
    Fault(
        TRACKING,
        "a study of which nothing is finished yet",
        without("track", "data/metrics/comparison.json", "data/metrics/gan"),
        "error: data/metrics/comparison.json: no such file, and no budget's GANs are trained yet: there is nothing to"
        " show; `dvc repro` makes both",
    ),
    Fault(
        TRACKING,
        "an interface without a store",
        interface_without_store,
        "error: ./mlflow.db: no such file; `dvc repro` or `synthgain stage track` makes it, or name the folder of"
        " another study",
    ),
    Fault(
        TRACKING,
        "a file that is no database",
        not_a_database,
        "error: ./mlflow.db: cannot be used as an MLflow store (file is not a database). Nothing else "
        "is lost: all results are files, and `dvc repro` (or `synthgain stage track`) mirrors them "
        "later",
    ),
    Fault(
        HAND_OVER,
        "no image to generate",
        generate_with("--per-class", "0", "--out", "s.npz"),
        "error: --per-class: found 0; at least 1 is needed",
    ),
    Fault(
        HAND_OVER,
        "no count",
        generate_with("--out", "s.npz"),
        "error: counts: name one of --per-class, --counts and --like",
    ),
    Fault(
        HAND_OVER,
        "a class that the generator does not know",
        generate_with("--counts", "x=3", "--out", "s.npz"),
        "error: --counts: unknown class 'x'; this generator knows 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
    ),
    Fault(
        HAND_OVER,
        "like real images that are not there",
        generate_with("--like", "real", "--out", "s.npz"),
        "error: --like real: data/prepared/train.npz is missing; `dvc repro prepare` makes it, or name a "
        "file",
    ),
    Fault(
        HAND_OVER,
        "a registered model where no store is",
        in_any("generate", "--model", "models:/m@champion", "--per-class", "1", "--out", "s.npz"),
        "error: models:/m@champion: no MLflow store at sqlite:///…/mlflow.db; run this in the study's folder, or "
        "set MLFLOW_TRACKING_URI",
    ),
    Fault(
        HAND_OVER,
        "a file that is there already",
        generate_with("--per-class", "3", "--out", "s.npz", there="s.npz"),
        "error: s.npz: is there already; name another file, or pass --force to replace it",
    ),
    Fault(
        HAND_OVER,
        "an unknown format",
        export_with("--format", "zip"),
        "error: format: found 'zip'; allowed are idx, idx_gz, png, npz, parquet, webdataset, arrow",
    ),
    Fault(
        HAND_OVER,
        "a folder with foreign files",
        export_with("--format", "idx", foreign=True),
        "error: out/idx: holds thesis.txt, which no export wrote; choose another --out, or pass "
        "--force to move it aside",
    ),
    Fault(
        HAND_OVER,
        "another process at the same export",
        export_beside_another,
        "error: out: another process (…) is writing it; wait for it, or stop it",
    ),
    Fault(
        HAND_OVER,
        "a full disk",
        full_disk_at_the_export,
        "error: out: the disk is full; make room or name another --out. Nothing was changed",
    ),
    Fault(
        HAND_OVER,
        "verify where no export is",
        in_any("verify", "."),
        "error: .: holds no export (no manifest.json); name what `synthgain export` wrote, or a "
        "format's folder in it",
    ),
    Fault(
        HAND_OVER,
        "verify of an altered export",
        verify_altered,
        "data/export/idx: classes.txt: 4 bytes, 20 were written",
    ),
    Fault(
        HAND_OVER,
        "verify of an export whose card is a pipe",
        verify_after(card_is_a_pipe),
        "data/export/idx: 'README.md': a pipe, not a plain file; it was not opened\n"
        "data/export/idx: README.md: cannot be read (a pipe, not a plain file)",
    ),
    Fault(
        HAND_OVER,
        "verify of an export with a link out of it",
        verify_after(labels_are_zeros),
        "data/export/idx: 'train-labels-idx1-ubyte': a link, or behind one; it was not opened",
    ),
    Fault(
        HAND_OVER,
        "inspect of an export with a link out of it",
        verify_after(labels_are_zeros, "inspect"),
        "error: data/export/idx: train-labels-idx1-ubyte: a link, or behind one; `synthgain verify` says more",
    ),
    Fault(
        HAND_OVER,
        "verify of an export in a DVC cache of type symlink",
        verify_after(links_into_the_cache),
        "data/export/idx: its files are links into DVC's cache (cache.type symlink), and no link is followed: `dvc "
        "unprotect data/export/idx` makes plain files of them; or check a copy: `cp -rL data/export/idx COPY`, "
        "`synthgain verify COPY`",
    ),
    Fault(
        HAND_OVER,
        "verify of a manifest in which a key stands twice",
        verify_after(a_key_twice),
        "data/export/idx: manifest.json: cannot be read (the key 'images' stands there twice)",
    ),
    Fault(
        HAND_OVER,
        "verify of checksums in which a line stands twice",
        verify_after(a_line_twice),
        "data/export/idx: SHA256SUMS: 'README.md' stands there twice",
    ),
    Fault(
        HAND_OVER,
        "inspect of a device",
        in_any("inspect", "/dev/zero"),
        "error: /dev/zero: not a readable file of labelled images (not a plain file); make it again with "
        "`synthgain generate`",
    ),
    Fault(
        ANY,
        "a system that no paper has",
        in_any("literature", "--only", "biggan"),
        "error: --only: found biggan; allowed: minimal, mlp, vanilla, dcgan, wgan, proposed, learning_rates, balance, "
        "noisy_dcgan, compact, real, copycat, class_mixup, class_kernel_density, class_gaussian",
    ),
    Fault(
        ANY,
        "a system of no paper at the paper's length",
        in_any("literature", "--only", "compact"),
        "error: --only: found compact with --length paper, which no paper has; use --length equal",
    ),
    Fault(
        ANY,
        "a damaged table of the papers' systems",
        with_table_of_nothing("literature", "--only", "minimal"),
        "error: build/literature/rows.csv: not a table of this command (…); remove it, and the same command writes it "
        "anew from what is finished",
    ),
    Fault(
        ANY, "an unknown option", in_any("stage", "compare", "--sells", "x"), "…No such option: --sells…", 2
    ),
    Fault(ANY, "an option left out", in_any("stage", "compare"), "…Missing option '--cells'.…", 2),
    Fault(
        ANY,
        "an account without a home folder, as in a container: demo and workspace",
        without_home("demo", "w"),
        "error: HOME is not set, and user id … is no account of this machine: DVC and MLflow need a home folder; "
        "set HOME to a folder that you may write, as in `export HOME=/tmp`",
    ),
    Fault(
        ANY,
        "an account without a home folder: track",
        without_home(*command_of("track")),
        "error: HOME is not set, and user id … is no account of this machine: DVC and MLflow need a home folder; "
        "set HOME to a folder that you may write, as in `export HOME=/tmp`",
    ),
    Fault(
        ANY,
        "a fault of the program",
        fault_of_ours,
        "error: a fault of the program: ZeroDivisionError at …: division by zero; give the same "
        "command with --debug for the traceback, and report it",
        70,
    ),
]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The results of a whole study, each stage in this process."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("SYNTHGAIN_STORE")
        Bench(folder, folder, patch, stack).params()
        for stage in STAGES:
            if stage != "track":  # the tests of tracking have stores of their own
                status, said = run_command(command_of(stage), patch)
                assert status == 0, f"{stage}: {said}"
    return folder


@pytest.fixture
def bench(tmp_path, study, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "110")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("SYNTHGAIN_DEBUG", raising=False)
    monkeypatch.delenv("SYNTHGAIN_STORE")  # as a person has it: in the folder
    with contextlib.ExitStack() as stack:
        yield Bench(tmp_path, study, monkeypatch, stack)


def matches(message: str, said: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in message.split("…"))
    return re.fullmatch(pattern, said, re.DOTALL) is not None


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, but for locks and the kept states of what was cut off."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
        and not path.is_symlink()
        and path.suffix != ".lock"
        and not {".work"} & set(path.relative_to(folder).parts)
    }


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.area}: {fault.given}")
def test_a_fault_ends_in_its_message_and_leaves_nothing_half_written(fault, bench):
    arguments = fault.act(bench)
    before = contents(bench.folder)
    with bench.closing:  # a limit on files holds for the command, not for pytest's own log
        status, said = run_command(arguments, bench.patch)
    said = said.strip().replace(str(bench.folder), ".")
    assert status == fault.status, said
    assert "Traceback" not in said
    assert matches(fault.message, said), f"{fault.given}: {said!r}"
    if status:
        assert contents(bench.folder) == before


@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_in_a_stage_leaves_one_line_and_its_outputs_as_they_were(stage, bench):
    """Interrupted when the first output is about to be put in place; the same command then ends well."""
    bench.results()
    before = contents(bench.folder)
    bench.patch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        if stage == "track":
            from mlflow import MlflowClient

            patch.setattr(MlflowClient, "create_run", interrupted)
        else:
            patch.setattr(os, "replace", interrupted)
        status, said = run_command(command_of(stage), patch)
    assert status == 130
    assert said.splitlines()[-1].startswith("interrupted: nothing half-written is left behind")
    assert "Traceback" not in said
    if stage != "track":
        after = {name: content for name, content in contents(bench.folder).items() if ".partial" not in name}
        assert after == before


def document() -> str:
    """docs/faults.md."""
    lines = [
        "# What can go wrong, and what is said then",
        "",
        "This page is printed from the table that the tests run, row by row (`python tests/test_faults.py >",
        "docs/faults.md`); … stands for what differs from machine to machine. After each that ends with "
        "another status than",
        "0, the files are what they were before: an output is there whole or not at all.",
        "",
        "| exit status | means |",
        "| ---: | --- |",
        "| 0 | done, with a word on what was amiss |",
        "| 1 | what the message tells how to mend; of `doctor`, `verify` and `reproduce-check` also "
        "findings |",
        "| 2 | wrong usage of the command |",
        "| 70 | a fault of the program: please report it |",
        "| 130 | Ctrl-C |",
        "| 143 | SIGTERM |",
        "",
        "No message is a traceback. `--debug` anywhere on the line, or `SYNTHGAIN_DEBUG=1`, shows it "
        "as well.",
    ]
    for area in dict.fromkeys(fault.area for fault in FAULTS):
        lines += ["", f"## {area}", "", "| given | exit | message |", "| --- | ---: | --- |"]
        for fault in FAULTS:
            if fault.area == area:
                message = "<br>".join(
                    f"`` {line} ``" if "`" in line else f"`{line}`"
                    for line in fault.message.replace("|", "\\|").splitlines()
                )
                lines.append(f"| {fault.given} | {fault.status} | {message} |")
    return "\n".join(lines) + "\n"


def test_the_document_is_this_table():
    assert (ROOT / "docs/faults.md").read_text(encoding="utf-8") == document(), (
        "run: python tests/test_faults.py > docs/faults.md"
    )


def test_there_are_faults_of_every_kind():
    assert len(FAULTS) >= 40
    assert len({fault.given for fault in FAULTS}) == len(FAULTS)
    sections = {
        line.partition(": ")[2].partition(".")[0].partition(":")[0]
        for fault in FAULTS
        if fault.area == PARAMS
        for line in fault.message.removeprefix("error: ").splitlines()
    }
    assert sections >= set(yaml.safe_load((ROOT / "params.yaml").read_text()))


if __name__ == "__main__":
    print(document(), end="")
