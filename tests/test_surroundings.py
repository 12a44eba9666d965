"""Terminals and settings of the environment that our own tests do not have: no symbol and no setting ends a command."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipeline.export.verify import verify
from stages.command import _PLAIN
from synthgain.verdict import verdict
from tests.test_dvc_behaviour import TINY

ROOT = Path(__file__).parents[1]
EXPORT = "tests/data/v0.1.0/export/png"
# What notebooks, IDEs, hooks, build tools and other experiments leave.
LEFT_BY_OTHERS = {
    "PYTHONWARNINGS": "error",
    "PYTHONOPTIMIZE": "2",
    "PYTHONDEVMODE": "1",
    "PYTHONWARNDEFAULTENCODING": "1",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline_of_a_notebook",
    "MATPLOTLIBRC": "/nonexistent/matplotlibrc",
    "NPY_PROMOTION_STATE": "legacy",
    "GIT_DIR": "/nonexistent/.git",
    "GIT_WORK_TREE": "/nonexistent",
    "GIT_INDEX_FILE": "/nonexistent/index",
    "FORCE_COLOR": "1",
    "NO_COLOR": "1",
    "COLUMNS": "wide",
    "TERM": "unknown",
    "PYTHONSAFEPATH": "1",
    "PYTHONIOENCODING": "ascii",
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "MLFLOW_RUN_ID": "0" * 32,
    "MLFLOW_EXPERIMENT_ID": "77",
    "MLFLOW_EXPERIMENT_NAME": "other",
    "MLFLOW_REGISTRY_URI": "http://127.0.0.1:9",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def command(*arguments, **environment):
    """A command of the console app in a process of its own: status, stdout and stderr as bytes."""
    done = subprocess.run(
        [sys.executable, "-c", "from synthgain.app import main; main()", *arguments],
        capture_output=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    return done.returncode, done.stdout, done.stderr


def run_here(program, **environment):
    """A Python program that ends as our commands do."""
    text = f"from stages.command import report_errors\ndef app():\n    {program}\nreport_errors(app)"
    return subprocess.run(
        [sys.executable, "-c", text],
        capture_output=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437", "iso-8859-1", "ascii:strict"])
def test_no_symbol_ends_a_command(encoding):
    signs = "".join(_PLAIN) + "手"
    done = run_here(
        f"import sys; print({signs!r}); print({signs!r}, file=sys.stderr)", PYTHONIOENCODING=encoding
    )
    assert (done.returncode, done.stdout) == (0, done.stderr)
    assert done.stdout.decode(encoding.partition(":")[0]).strip().endswith("\\u624b")


def test_a_terminal_of_utf_8_shows_every_sign():
    done = run_here("print('✓ Δ 手')", PYTHONIOENCODING="utf-8")
    assert done.stdout.decode() == "✓ Δ 手\n"


def test_inspect_speaks_to_an_old_console():
    status, said, _ = command("inspect", EXPORT, PYTHONIOENCODING="cp437")
    assert status == 0 and b"8x8 pixels" in said


def test_a_locale_without_utf_8_names_files_all_the_same(tmp_path):
    """It was UnicodeEncodeError, or a class of other letters."""
    program = r"import os, sys; os.mkdir(sys.argv[1] + '/\u624b'); print('\u624b', sys.argv[2])"
    text = f"from stages.command import report_errors\ndef app():\n    {program}\nreport_errors(app)"
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", text, str(tmp_path), "é"],
        capture_output=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **locale},
    )
    assert (done.returncode, done.stdout) == (0, b"\\u624b \\xe9\n"), done.stderr
    assert os.listdir(os.fsencode(tmp_path)) == ["手".encode()]


def test_what_others_left_in_the_environment_stops_no_command():
    status, said, problems = command("verify", EXPORT, **LEFT_BY_OTHERS)
    assert (status, said.decode().strip()) == (0, f"{EXPORT}: ok"), problems.decode()
    program = (
        "import warnings; warnings.warn('old', DeprecationWarning); import pipeline.report.drawing; print(1)"
    )
    done = run_here(program, **LEFT_BY_OTHERS)
    assert (done.returncode, done.stdout) == (0, b"1\n"), done.stderr.decode()


# One ratio, and the one format that `verify` reads here.
ONE_RATIO = {
    **TINY,
    "study": {**TINY["study"], "synthetic_per_real": [0.5]},
    "export": {**TINY["export"], "formats": ["png"]},
}


@pytest.mark.slow
@pytest.mark.soak  # the one above runs each command; four minutes more for all stages through DVC
def test_what_others_left_in_the_environment_stops_no_study(tmp_path, monkeypatch):
    """Every stage through DVC: hours of training must not end at the report or at MLflow."""
    for name in ("MLFLOW_TRACKING_URI", "SYNTHGAIN_STORE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(ONE_RATIO))
    folder = tmp_path / "study"
    changes = ("--params", str(tmp_path / "tiny.yaml"))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    status, said, problems = command(
        "workspace", str(folder), *changes, "--repro", PATH=path, DVC_NO_ANALYTICS="1", **LEFT_BY_OTHERS
    )
    assert status == 0, f"{said.decode()[-2000:]}\n{problems.decode()[-3000:]}"
    assert (folder / "data/report/index.html").is_file() and (folder / "mlflow.db").is_file()
    assert verify(folder / "data/export/png") == []


def test_a_hook_of_git_does_not_lend_its_repository_to_a_study():
    done = run_here("import os; print('GIT_DIR' in os.environ, 'MPLBACKEND' in os.environ)", **LEFT_BY_OTHERS)
    assert done.stdout == b"False False\n"


def test_brackets_in_the_path_of_a_workspace_are_printed_as_they_are(
    tmp_path, write_study, capsys, monkeypatch
):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    files = write_study()
    folder = tmp_path / "[/bold]" / "[red]"
    shutil.copytree(files.root, folder, ignore=shutil.ignore_patterns("*]"))
    verdict(folder)
    assert f"report:  {folder}/data/report/index.html" in capsys.readouterr().out


def test_a_python_without_the_packages_is_told_to_activate_the_environment():
    """`dvc` of the environment, called by its path, starts stages with whatever `python` the shell finds."""
    done = subprocess.run(
        [sys.executable, "-S", "-m", "stages.prepare", "--raw", "data/raw", "--out", "data/prepared"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ") and ".venv/bin/activate" in done.stderr
