"""Another repository takes an export by `dvc get`, `dvc import` and `dvc artifacts get`, and checks it."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.export.dataset import export_dataset
from pipeline.export.samples import select_samples
from pipeline.export.source import open_images
from pipeline.export.verify import verify
from pipeline.images import LabeledImages

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
NAME = "synthetic-images"


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


def test_an_export_is_taken_by_another_repository(tmp_path):
    team, consumer, remote = (tmp_path / name for name in ("team", "consumer", "remote"))
    for folder in (team, consumer):
        folder.mkdir()
        run("git", "init", "-q", cwd=folder)
        run("dvc", "init", "-q", cwd=folder)
    run("dvc", "remote", "add", "-d", "storage", str(remote), cwd=team)
    run("dvc", "remote", "modify", "storage", "verify", "true", cwd=team)
    rng = np.random.default_rng(0)
    LabeledImages(
        rng.integers(0, 256, (40, 1, 8, 8), dtype=np.uint8),
        np.repeat(np.arange(2, dtype=np.int64), 20),
        ("a", "b"),
        {"kind": "synthetic", "seed": 1},
    ).save(team / "s.npz")
    samples = select_samples(open_images(team / "s.npz"))
    export_dataset(samples, team / "data/export", formats=["parquet", "idx"], source="mnist")
    (team / "s.npz").unlink()
    run("dvc", "add", "-q", "data/export", cwd=team)
    # The declaration of the real dvc.yaml.
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text())["artifacts"]
    assert declared[NAME]["path"] == "data/export"
    (team / "dvc.yaml").write_text(yaml.safe_dump({"artifacts": declared}))
    run("git", "add", "-A", cwd=team)
    run("git", "commit", "-qm", "export", cwd=team)
    run("git", "tag", "-a", "-m", "v1", f"{NAME}@v1.0.0", cwd=team)
    run("dvc", "push", "-q", cwd=team)
    shutil.rmtree(team / ".dvc/cache")  # all comes from the remote, as on another machine

    run("dvc", "get", str(team), "data/export/parquet", "-o", "got", "--rev", f"{NAME}@v1.0.0", cwd=consumer)
    run("dvc", "artifacts", "get", str(team), NAME, "-o", "named", cwd=consumer)
    (consumer / "data").mkdir()
    run("dvc", "import", str(team), "data/export/parquet", "-o", "data/digits", cwd=consumer)
    for folder in ("got", "named/parquet", "named/idx", "data/digits"):
        assert verify(consumer / folder) == [], folder
    stage = yaml.safe_load((consumer / "data/digits.dvc").read_text())
    head = run("git", "rev-parse", "HEAD", cwd=team).strip()
    assert stage["deps"][0]["repo"]["rev_lock"] == head

    # A damaged remote: `verify true` makes pull refuse it. `dvc get` does not look (DVC 3.67): our own check does.
    damaged = max(
        (path for path in remote.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )
    damaged.chmod(0o644)
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"X")
    run("git", "clone", "-q", str(team), str(tmp_path / "clone"), cwd=tmp_path)
    run("dvc", "pull", "-q", cwd=tmp_path / "clone", good=False)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    # Without --rev, a repository at a path gives the files of its working tree.
    run("dvc", "get", str(team), "data/export", "-o", "got", "--rev", f"{NAME}@v1.0.0", cwd=elsewhere)
    findings = [line for name in ("idx", "parquet") for line in verify(elsewhere / "got" / name)]
    assert any("changed (SHA-256" in line for line in findings)
