"""Another repository takes an export by `dvc get`, `dvc import` and `dvc artifacts get`, and checks it."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from sklearn.datasets import load_digits

from pipeline.export.dataset import export_dataset
from pipeline.export.samples import select_samples
from pipeline.export.shards import FORMATS
from pipeline.export.source import open_images
from pipeline.export.verify import verify
from pipeline.images import LabeledImages

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
NAME = "synthetic-images"
IMAGES = 300


def run(*command, cwd, good=True):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DVC", "GIT"))}
    environment |= {
        "DVC_NO_ANALYTICS": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "DVC_SITE_CACHE_DIR": tempfile.mkdtemp(
            dir=cwd.parent
        ),  # nothing remembered from one command to the next
        **{f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    command = [sys.executable, "-m", "dvc", *command[1:]] if command[0] == "dvc" else command
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == good, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture
def team(tmp_path):
    """A repository with an export in all formats, pushed to a remote and tagged, as another machine sees it."""
    folder, remote = tmp_path / "team", tmp_path / "remote"
    folder.mkdir()
    run("git", "init", "-q", cwd=folder)
    run("dvc", "init", "-q", cwd=folder)
    run("dvc", "remote", "add", "-d", "storage", str(remote), cwd=folder)
    run("dvc", "remote", "modify", "storage", "verify", "true", cwd=folder)
    real = load_digits()
    LabeledImages(
        (real.images[:IMAGES, None] * 15.9).astype(np.uint8),  # they stand in for synthetic ones
        real.target[:IMAGES].astype(np.int64),
        tuple("0123456789"),
        {"kind": "synthetic", "seed": 1},
    ).save(folder / "s.npz")
    samples = select_samples(open_images(folder / "s.npz"))
    export_dataset(samples, folder / "data/export", formats=FORMATS, source="digits")
    (folder / "s.npz").unlink()
    run("dvc", "add", "-q", "data/export", cwd=folder)
    # The declaration of the real dvc.yaml.
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text())["artifacts"]
    assert declared[NAME]["path"] == "data/export"
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"artifacts": declared}))
    run("git", "add", "-A", cwd=folder)
    run("git", "commit", "-qm", "export", cwd=folder)
    run("git", "tag", "-a", "-m", "v1", f"{NAME}@v1.0.0", cwd=folder)
    run("dvc", "push", "-q", cwd=folder)
    shutil.rmtree(folder / ".dvc/cache")  # all comes from the remote, as on another machine
    return folder


@pytest.fixture
def consumer(tmp_path):
    """An empty project."""
    folder = tmp_path / "consumer"
    folder.mkdir()
    run("git", "init", "-q", cwd=folder)
    run("dvc", "init", "-q", cwd=folder)
    return folder


# What the documentation's lines give, seen from the consumer's side.
COUNTS = """
import numpy as np

expected = np.bincount(frame["label"], minlength=10).tolist()
pixels = np.stack([np.asarray(Image.open(BytesIO(each["bytes"]))) for each in frame["image"]])
found = {
    "datasets": images["label"][:],
    "webdataset": [label for _, label, _ in samples],
    "croissant": [record["samples/label"] for record in records],
    "arrow": table["label"].to_pylist(),
    "numpy": arrays["labels"].tolist(),
    "png": [int(tree.classes[label]) for label in tree.targets],
}
from torchvision.datasets import MNIST

mnist = MNIST("root", train=True)
found["idx"] = mnist.targets.tolist()
for reader, labels in found.items():
    assert np.bincount(labels, minlength=10).tolist() == expected, reader
assert (mnist.data.numpy() == pixels).all() and (arrays["images"] == pixels).all()
assert (np.stack([np.asarray(each) for each in images["image"]]) == pixels).all()
print("all readers agree on", sum(expected))
"""


def test_an_empty_project_imports_the_export_and_reads_it_with_every_reader(team, consumer):
    run("dvc", "import", str(team), "data/export", "-o", "digits", "--rev", f"{NAME}@v1.0.0", cwd=consumer)
    text = (ROOT / "docs/export.md").read_text()
    ten_lines = re.search(r"scikit-learn:\n\n```python\n(.*?)```", text, re.DOTALL)[1]
    readers = re.search(r"## Reading the other formats\n\n```python\n(.*?)```", text, re.DOTALL)[1]
    raw = consumer / "root/MNIST/raw"
    raw.mkdir(parents=True)
    for path in (consumer / "digits/idx").glob("train-*"):
        shutil.copy(path, raw)
        shutil.copy(path, raw / path.name.replace("train", "t10k"))  # stands in for a real test split
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ten_lines + readers + COUNTS],
        cwd=consumer,
        env=os.environ | {"HF_HOME": str(consumer / "cache"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    trained, agreed = done.stdout.splitlines()
    assert float(trained.split()[0]) > 0.95 and trained.endswith(f"{IMAGES} synthetic training images")
    assert agreed == f"all readers agree on {IMAGES}"


def test_an_export_is_taken_by_another_repository(team, consumer, tmp_path):
    run("dvc", "get", str(team), "data/export/parquet", "-o", "got", "--rev", f"{NAME}@v1.0.0", cwd=consumer)
    run("dvc", "artifacts", "get", str(team), NAME, "-o", "named", cwd=consumer)
    (consumer / "data").mkdir()
    run("dvc", "import", str(team), "data/export/parquet", "-o", "data/digits", cwd=consumer)
    for folder in ("got", *(f"named/{name}" for name in FORMATS), "data/digits"):
        assert verify(consumer / folder) == [], folder
    stage = yaml.safe_load((consumer / "data/digits.dvc").read_text())
    head = run("git", "rev-parse", "HEAD", cwd=team).strip()
    assert stage["deps"][0]["repo"]["rev_lock"] == head

    # A damaged remote: `verify true` makes pull refuse it. `dvc get` does not look (DVC 3.67): our own check does.
    damaged = max(
        (path for path in (tmp_path / "remote").rglob("*") if path.is_file()),
        key=lambda path: path.stat().st_size,
    )
    damaged.chmod(0o644)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"X")
    run("git", "clone", "-q", str(team), str(tmp_path / "clone"), cwd=tmp_path)
    run("dvc", "pull", "-q", cwd=tmp_path / "clone", good=False)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    # Without --rev, a repository at a path gives the files of its working tree.
    run("dvc", "get", str(team), "data/export", "-o", "got", "--rev", f"{NAME}@v1.0.0", cwd=elsewhere)
    findings = [line for name in FORMATS for line in verify(elsewhere / "got" / name)]
    assert any("changed (SHA-256" in line for line in findings)
