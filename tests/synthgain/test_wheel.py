"""An installed wheel runs the pipeline in an empty folder: no clone, no network."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.test_faults import TINY

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy of what Git knows, so that nothing else gets in, and no `build` is left here."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(out), str(source)], check=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_has_the_projects_files_byte_for_byte(wheel):
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if name.startswith("synthgain/project/")}
        for name in ("dvc.yaml", ".dvcignore", "params.yaml", "studies/demo.yaml", "data/own/README.md"):
            assert archive.read(f"synthgain/project/{name}") == (ROOT / name).read_bytes()
        assert {f"synthgain/project/own/{name}/README.md" for name in ("generator", "classifier")} <= inside
        assert not [name for name in archive.namelist() if name.startswith(("tests/", "data/"))]


@pytest.mark.slow
@pytest.mark.soak  # two minutes
def test_an_installed_wheel_runs_the_pipeline_in_an_empty_folder(wheel, tmp_path):
    environment = tmp_path / "venv"
    venv.create(environment, with_pip=False, symlinks=True)
    python = environment / "bin/python"
    # The packages that the tests run with are at hand; those of this project come from the wheel alone.
    purelib = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    (purelib / "at_hand.pth").write_text(sysconfig.get_path("purelib"))
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True)
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    outside = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "DVC_ROOT")}

    def run(*words):
        return subprocess.run(
            [environment / "bin/synthgain", *words], cwd=empty, env=outside, capture_output=True, text=True
        )

    done = run("workspace", "made", "--params", "tiny.yaml", "--repro")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (empty / "made/data/report/index.html").is_file()
    assert (empty / "made/.synthgain-workspace").read_text().startswith("version ")
    # The demo's parameters are found too; it is the same command with these.
    code = (
        "from pipeline.maintenance.workspace import PROJECT; from pipeline.params import overlay_params\n"
        "print(overlay_params(PROJECT / 'params.yaml', PROJECT / 'studies/demo.yaml').data.source)"
    )
    found = subprocess.run([python, "-c", code], cwd=empty, env=outside, capture_output=True, text=True)
    assert found.stdout == "digits\n", found.stderr
