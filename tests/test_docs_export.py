"""What docs/export.md shows works as it stands there."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from pipeline.export.dataset import export_dataset
from pipeline.export.samples import select_samples
from pipeline.export.source import open_images
from pipeline.images import LabeledImages
from pipeline.sources import digits

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/export.md").read_text()


def test_the_ten_lines_train_a_classifier_on_the_parquet(tmp_path):
    """In an empty folder and a process of its own; real digits stand in for synthetic ones."""
    code = re.search(r"scikit-learn:\n\n```python\n(.*?)```", TEXT, re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line]) <= 10
    digits.write_raw(tmp_path / "raw")
    train, _ = digits.load(tmp_path / "raw", image_size=8)
    chosen = np.arange(300)
    made = LabeledImages(train.images[chosen], train.labels[chosen], train.class_names, {"kind": "synthetic"})
    made.save(tmp_path / "digits.npz")
    samples = select_samples(open_images(tmp_path / "digits.npz"))
    export_dataset(samples, tmp_path / "digits", formats=["parquet"], source="digits")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    score, count = re.fullmatch(
        r"([\d.]+) on its own (\d+) synthetic training images\n", done.stdout
    ).groups()
    assert float(score) > 0.95 and int(count) == 300


def test_the_options_that_the_text_names_are_there():
    from typer.testing import CliRunner

    from synthgain.app import app

    for command in ("generate", "export", "inspect"):
        section = "".join(
            re.findall(rf"`synthgain {command}.*?(?=\n\n`synthgain |\n## |\Z)", TEXT, re.DOTALL)
        )
        shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output
        for option in set(re.findall(r"`(--[a-z-]+)", section)):
            assert option in shown, (command, option)
