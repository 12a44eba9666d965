"""The commands of the pages, run as they stand there; only sizes and steps are smaller."""

import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_sample_images

from pipeline.maintenance.workspace import create_workspace
from tests.test_tracking_experiments import TINY

ROOT = Path(__file__).parents[1]
SMALLER = {
    "gan": {
        "total_images": 1280,
        "batch_size": 32,
        "generator_channels": [16, 8],
        "discriminator_channels": [8, 16, 16],
        "discriminator_features": 16,
        "collapse_patience_images": 0,  # it has no time to learn
        "history_points": 2,
    },
    "generation": {"images_per_class": 150},
    "extractor": {"channels": 8, "steps": 60},
    "classifier": {"channels": 8, "feature_dim": 32, "steps": 40, "batch_size": 32},
    "export": {"allow_memorized": True},
}


def section(page, title):
    """The blocks of a section of a page, without their fences: (language, text) each."""
    text = (ROOT / page).read_text(encoding="utf-8").partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.S | re.M)
    assert blocks, title
    return blocks


def write_pictures(folder, counts):
    """Patches of scikit-learn's two photographs, bright or turned over: in colour, and larger than asked for."""
    rng = np.random.default_rng(1)
    china, flower = load_sample_images().images
    for (name, count), photograph in zip(counts.items(), (china, flower, 255 - china), strict=False):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            top, left = (int(rng.integers(0, side - 40)) for side in photograph.shape[:2])
            Image.fromarray(photograph[top : top + 40, left : left + 40]).save(folder / name / f"{i:04}.png")


def run(command, *, folder, code):
    """What a person's command prints, typed in a folder, with the code of another one; it has to end well."""
    others = ("MLFLOW_TRACKING_URI", "RAY_ADDRESS", "SYNTHGAIN_STORE")
    environment = {name: value for name, value in os.environ.items() if name not in others}
    environment |= {"PYTHONPATH": str(code), "DVC_NO_ANALYTICS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-e", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "title", "counts"),
    [
        ("README.md", "Your own pictures", {"bolt": 180, "nut": 180}),
        # The fewest that the page names, and its rare class.
        pytest.param(
            "docs/own-data.md",
            "In short: a folder of colour pictures",
            {"bolt": 150, "nut": 145, "washer": 30},
            marks=pytest.mark.soak,
        ),
    ],
    ids=["README", "own-data"],
)
def test_own_pictures_reach_a_verdict_by_the_commands_of_the_page(tmp_path, page, title, counts):
    blocks = section(page, title)
    write_pictures(tmp_path / "parts", counts)
    study = dict(SMALLER)
    for block in (text for language, text in blocks if language == "yaml"):
        for key, values in yaml.safe_load(block.replace("/data/parts", str(tmp_path / "parts"))).items():
            study[key] = study.get(key, {}) | values
    study["study"] |= {"replicates": 2}
    study["classifier"] |= SMALLER["classifier"]  # the pages' own 3000 steps take minutes
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(study))
    # The clone stands in for the reader's folder; the test runs in its environment already, and opens no browser.
    commands = next(text for language, text in blocks if not language and "synthgain" in text)
    lines = [line for line in commands.splitlines() if not re.match(r"make |\. ", line)]
    typed = "\n".join(lines).replace("my.yaml", str(tmp_path / "my.yaml"))
    said = run(typed.replace("build/mine", str(tmp_path / "mine")), folder=ROOT, code=ROOT)
    assert "GANs       2 of" in said and "time       about" in said  # of plan
    assert "100 real images\n" in said  # the text chart of the verdict
    assert (tmp_path / "mine/data/report/index.html").is_file()
    assert list((tmp_path / "mine/data/export/parquet").glob("*.parquet"))


# What each page says to type in a finished study. `build/demo` and the names of
# MNIST's runs stand for this study.
IN_A_STUDY = [
    ("docs/running.md", "synthgain plan build/demo"),
    ("docs/running.md", "synthgain doctor"),
    ("docs/running.md", "dvc status"),
    ("docs/reproducibility.md", "synthgain reproduce-check --classifier"),
    ("docs/mlflow.md", "synthgain stage track --check"),
    ("docs/mlflow.md", "synthgain stage track"),
    (
        "docs/export.md",
        "synthgain generate --model data/gan/1000/0/generator.safetensors --per-class 1000",
    ),
    ("docs/export.md", "synthgain export digits.npz --format parquet,idx --source mnist --out digits"),
    ("docs/export.md", "synthgain verify digits"),
    ("docs/running.md", "dvc exp run -S 'study.synthetic_per_real=[0,1]'"),
    ("docs/running.md", "dvc params diff"),
    ("docs/running.md", "dvc metrics diff"),
    ("docs/running.md", "dvc exp show --only-changed --drop Created"),
    ("docs/running.md", "dvc plots show"),
    ("docs/running.md", "dvc remote add --default storage /mnt/shared/synthgain"),
    ("docs/running.md", "dvc remote modify storage verify true"),
    ("docs/running.md", "dvc push"),
]


@pytest.mark.slow
@pytest.mark.soak
def test_the_pages_commands_work_in_a_finished_study(tmp_path):
    study = tmp_path / "study"
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    create_workspace(study, changes=tmp_path / "tiny.yaml")
    shutil.copyfile(ROOT / ".gitignore", study / ".gitignore")
    (study / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    typed = partial(run, folder=study, code=study)
    typed(
        "git init -q && git config user.name A && git config user.email a@b && dvc config --unset core.no_scm"
    )
    typed("git add --all && git commit -qm code && dvc repro && git add --all && git commit -qm results")
    for page, command in IN_A_STUDY:
        lines = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
        (line, *_) = (line for line in lines if line.removeprefix("$ ").startswith(command))
        line = line.removeprefix("$ ").partition("  #")[0]
        for shown, here in {
            "build/demo": ".",
            "/1000/": "/60/",
            "--per-class 1000": "--per-class 20",
            "/mnt/shared": str(tmp_path),
        }.items():
            line = line.replace(shown, here)
        typed(line)
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/mlflow.md").read_text(), flags=re.S | re.M)
    assert len(blocks) == 2
    for block in blocks:
        (study / "block.py").write_text(block.replace("synthgain-mnist", "synthgain-digits"))
        typed("python block.py")
