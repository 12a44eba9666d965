import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from synthgain.app import app, stage_app
from tests.test_faults import run_command

ROOT = Path(__file__).parents[2]
COMMANDS = sorted(info.callback.__name__.replace("_", "-") for info in app.registered_commands)
STAGES = sorted(info.name for info in stage_app.registered_commands)
HEAVY = {
    "torch",
    "numpy",
    "pandas",
    "scipy",
    "sklearn",
    "mlflow",
    "matplotlib",
    "dvc",
    "pyarrow",
    "PIL",
    "torchvision",
    "pydantic",
}


def synthgain(*arguments, cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-c", "import synthgain.app; synthgain.app.main()", *arguments],
        cwd=cwd,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_imports_nothing_heavy():
    """Half a second for `--help` is a matter of what it imports, and that is no matter of the machine."""
    code = "import sys, synthgain.app; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


@pytest.mark.parametrize("command", [*([name] for name in COMMANDS), *(["stage", name] for name in STAGES)])
def test_every_command_has_help_with_an_example(command):
    result = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "Example:" in result.output


def test_the_hand_over_commands_stand_at_the_top():
    assert {
        "generate",
        "export",
        "verify",
        "inspect",
        "demo",
        "doctor",
        "literature",
        "plan",
        "reproduce-check",
        "ui",
        "verdict",
        "workspace",
    } == set(COMMANDS)


@pytest.mark.parametrize("command", [[], ["verdict"], ["stage"], ["stage", "track"]])
def test_h_is_help(command):
    asked = [CliRunner().invoke(app, [*command, flag], env={"COLUMNS": "200"}) for flag in ("-h", "--help")]
    assert asked[0].exit_code == 0 and "Usage:" in asked[0].output and asked[0].output == asked[1].output


def test_versions_for_a_report_of_a_fault():
    from importlib.metadata import version

    output = CliRunner().invoke(app, ["--version"]).output
    assert output.split() == [
        word for name in ("synthgain", "torch", "dvc", "mlflow") for word in (name, version(name))
    ]


def test_the_verdict_of_a_study_has_table_chart_sentence_and_what_to_look_at_next(write_study, monkeypatch):
    import json

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    files = write_study()
    shown = CliRunner().invoke(app, ["verdict", str(files.root)], env={"COLUMNS": "80"}).output
    for part in ("recommended", "●", "report:  ", "MLflow:  synthgain ui ", "images:  synthgain inspect "):
        assert part in shown
    (budget,) = json.loads(files.comparison.read_text())["budgets"]
    assert " ".join(budget["verdict"].split()) in " ".join(shown.split())


def test_the_stages_of_dvc_yaml_are_commands_below_stage():
    import yaml

    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert set(stages) | {name.replace("_", "-") for name in stages} == set(STAGES)


COMPARE = "stage compare --cells c --confusion d --collapsed e --synthetic s --out o --summary u".split()
GENERATE = "stage generate --budget 1000 --gan a --collapsed c --held-out h --out b".split()


def test_bad_params_end_in_one_line_and_status_1(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(re.sub("z_dim: 64", "z_dim: many", text))
    said = "error: params.yaml: gan.z_dim: found 'many'; allowed: a whole number\n"
    assert run_command(GENERATE, monkeypatch) == (1, said)
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_a_missing_params_file_says_where_it_is_looked_for(tmp_path):
    done = synthgain(*COMPARE, cwd=tmp_path)
    assert done.returncode == 1
    assert (
        done.stderr == "error: params.yaml: no such file; run this where params.yaml is, or pass --params\n"
    )


def test_a_missing_input_is_named_and_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    command = ["stage", "generate", "--budget", "1000", "--gan", "data/gan"]
    command += ["--collapsed", "data/metrics/collapsed", "--held-out", "data/keys.npz", "--out", "out"]
    said = "error: data/keys.npz: no such file; `dvc repro` makes it\n"
    assert run_command(command, monkeypatch) == (1, said)
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


def test_an_unknown_option_is_a_usage_error():
    done = synthgain("stage", "compare", "--sells", "x")
    assert done.returncode == 2
    assert "--sells" in done.stderr and "Traceback" not in done.stderr
