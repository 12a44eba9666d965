"""Edited while it runs, hostile values, a bare clone: the real DVC writes nothing wrong down, and loses nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from pipeline.errors import SynthGainError
from pipeline.maintenance.workspace import create_workspace
from tests.test_dvc_recovery import environment, project, run, start_repro

__all__ = ["project"]  # a fixture
pytestmark = pytest.mark.slow
LONG = {"total_images": 24_000}


def change(folder: Path, section: str, /, **values: object) -> str:
    """Another value in params.yaml; the text before."""
    before = (folder / "params.yaml").read_text()
    params = yaml.safe_load(before)
    params[section] |= values
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False, allow_unicode=True))
    return before


def wait_for_training(folder: Path, process: subprocess.Popen[str]) -> None:
    """Until a GAN trains: its stage has read its inputs by then."""
    deadline = time.monotonic() + 120
    while not list((folder / ".work/unfinished").glob("gan-*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)


def repro(folder: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro", *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def locked(folder: Path, stage: str) -> dict[str, object]:
    """The parameters that dvc.lock has for a stage."""
    stages = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]
    return dict(stages.get(stage, {}).get("params", {}).get("params.yaml", {}))


def test_params_edited_while_a_gan_trains_stand_over_no_result_and_put_back_it_is_there(project):
    run(project, "dvc", "repro", "prepare")
    change(project, "gan", **LONG)
    process = start_repro(project, "train_gan")
    wait_for_training(project, process)
    before = change(project, "gan", beta2=0.5)
    said = process.communicate(timeout=300)[0]
    assert process.returncode != 0, said
    assert "error: train_gan@60: gan.beta2 in params.yaml went from 0.95 to 0.5 while this stage ran" in said
    assert "Traceback" not in said
    assert locked(project, "train_gan@60") == {} and not (project / "data/gan/60").exists()

    (project / "params.yaml").write_text(before)
    start = time.monotonic()
    status, said = repro(project, "train_gan")
    assert status == 0 and "GANs of 60 real images: 0 trained, 1 found finished" in said, said
    assert time.monotonic() - start < 60
    assert locked(project, "train_gan@60")["gan"]["beta2"] == 0.95
    assert (project / "data/gan/60/0/generator.safetensors").is_file()
    assert list((project / ".work/unfinished").iterdir()) == []
    generator = (project / "data/gan/60/0/generator.safetensors").read_bytes()
    run(
        project, "dvc", "repro", "--force", "--single-item", "train_gan"
    )  # the same bytes as without the edit
    assert (project / "data/gan/60/0/generator.safetensors").read_bytes() == generator


def test_edits_of_other_sections_stop_nothing_and_an_edit_of_the_code_does(project):
    run(project, "dvc", "repro", "prepare")
    change(project, "gan", **LONG)
    process = start_repro(project, "train_gan")
    wait_for_training(project, process)
    change(project, "report", grid_images_per_class=3)
    (project / "pipeline/report/page.py").write_text("# edited\n")
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 0, said

    change(project, "gan", beta2=0.9)
    process = start_repro(project, "train_gan")
    wait_for_training(project, process)
    with (project / "pipeline/gan/losses.py").open("a") as file:
        file.write("\n")
    said = process.communicate(timeout=300)[0]
    assert process.returncode != 0, said
    assert "error: train_gan@60: pipeline/gan/losses.py changed while this stage ran" in said
    assert locked(project, "train_gan@60")["gan"]["beta2"] == 0.95  # the run before


def test_a_running_workspace_is_refused_and_unchanged(tmp_path):
    changes = tmp_path / "changes.yaml"
    digits = {"data": {"source": "digits", "image_size": 8, "validation_images": 100}}
    small = {"study": {"real_images": [60], "replicates": 1}, "generation": {"images_per_class": 30}}
    channels = {"generator_channels": [8, 4], "discriminator_channels": [4, 8, 8]}
    changes.write_text(yaml.safe_dump({**digits, **small, "gan": {**channels, "total_images": 640_000}}))
    create_workspace(tmp_path / "w", changes=changes)
    process = start_repro(tmp_path / "w", "train_gan")
    try:
        wait_for_training(tmp_path / "w", process)
        before = (tmp_path / "w/params.yaml").read_text()
        changes.write_text(yaml.safe_dump({**digits, "seed": 8}))
        with pytest.raises(SynthGainError, match=r"w: .* \(process \d+\) is running in it; wait for its end"):
            create_workspace(tmp_path / "w", changes=changes)
        assert (tmp_path / "w/params.yaml").read_text() == before
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    create_workspace(tmp_path / "w", changes=changes)
    assert yaml.safe_load((tmp_path / "w/params.yaml").read_text())["seed"] == 8


FOLDERS = (
    "own;touch PWNED",
    "it's `touch PWNED`",
    'a"b\\c $HOME',
    "# x: *",
    "-x",
    "../ü 图",
)


def test_a_folder_for_own_images_may_be_called_anything(project):
    pixels = np.random.default_rng(0)
    for name in FOLDERS:
        for label in "ab":
            (project / name / label).mkdir(parents=True)
            for number in range(8):
                image = Image.fromarray(pixels.integers(0, 255, (8, 8), dtype=np.uint8))
                image.save(project / name / label / f"{number}.png")
        change(project, "data", source="folder", folder=name, validation_images=4)
        said = run(project, "dvc", "repro", "download")
        assert f"{name}: 16 train images" in said
        stages = yaml.safe_load((project / "dvc.lock").read_text())["stages"]
        assert name in {dep["path"] for dep in stages["download"]["deps"]}
        assert "up to date" in run(project, "dvc", "status", "download")
    assert not list(project.rglob("PWNED"))


def test_coordinates_of_the_matrix_reach_no_shell(project):
    """Stages that are up to date are skipped, so the next one is the first to read the value."""
    run(project, "dvc", "repro", "prepare")
    change(project, "study", real_images=[60, "60; touch PWNED"], synthetic_per_real=[1.0, "$(touch PWNED)"])
    for target in ("label_pool@60; touch PWNED", "train_controls@60-$(touch PWNED)"):
        status, said = repro(project, "--single-item", target)
        assert status != 0 and "Traceback" not in said, said
        assert "error: --budget: found 60; touch PWNED; a whole number" in said or "found '$(touch" in said
    assert not list(project.rglob("PWNED"))
