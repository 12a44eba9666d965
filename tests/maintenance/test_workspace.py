import configparser
import signal

import pytest
import yaml

from pipeline.errors import SynthGainError
from pipeline.maintenance.workspace import PROJECT, create_workspace, dvc
from pipeline.params import load_params


@pytest.fixture
def changes(tmp_path):
    path = tmp_path / "changes.yaml"
    path.write_text("seed: 11\nstudy: {replicates: 2}\n")
    return path


def test_it_has_the_same_pipeline_with_params_of_its_own(tmp_path, changes):
    create_workspace(tmp_path / "w", changes=changes)
    params = load_params(tmp_path / "w/params.yaml")
    assert (params.seed, params.study.replicates) == (11, 2)
    assert params.gan == load_params(PROJECT / "params.yaml").gan
    config = configparser.ConfigParser()
    config.read(tmp_path / "w/.dvc/config")
    core = {"no_scm": "True", "analytics": "false", "check_update": "false"}
    assert config.sections() == ["core"] and dict(config["core"]) == core
    assert (tmp_path / "w/dvc.yaml").read_text() == (PROJECT / "dvc.yaml").read_text()
    stages = yaml.safe_load((tmp_path / "w/dvc.yaml").read_text())["stages"]
    code = {dep for stage in stages.values() for dep in stage["deps"] if dep.endswith((".py", ".html"))}
    assert all((tmp_path / "w" / path).is_file() for path in code)


def test_making_it_again_refreshes_the_code_and_keeps_the_results(tmp_path, changes):
    folder = tmp_path / "w"
    create_workspace(folder, changes=changes)
    (folder / "data/result.txt").write_text("kept")
    (folder / "pipeline/gan/old.py").write_text("a file that the project no longer has")
    before = (folder / "params.yaml").stat().st_mtime_ns
    create_workspace(folder, changes=changes)
    assert (folder / "data/result.txt").read_text() == "kept"
    assert not (folder / "pipeline/gan/old.py").exists()
    assert (folder / "params.yaml").stat().st_mtime_ns == before


def test_a_folder_of_somebody_else_is_left_alone(tmp_path, changes):
    (tmp_path / "w").mkdir()
    (tmp_path / "w/thesis.txt").write_text("mine")
    with pytest.raises(SynthGainError, match="not empty and no workspace of ours"):
        create_workspace(tmp_path / "w", changes=changes)
    assert [path.name for path in (tmp_path / "w").iterdir()] == ["thesis.txt"]


REFUSED = r"data\.folder: found .*(write it without|write the whole|is what a stage writes)"


@pytest.mark.parametrize("name", ["it's mine", "$HOME", "a/b/../c", "~/own", "data/raw", "own;touch PWNED"])
def test_the_folder_for_own_images_is_made_as_it_is_called_or_refused(tmp_path, changes, name):
    changes.write_text(yaml.safe_dump({"data": {"folder": name}}))
    if ".." in name or "~" in name or name == "data/raw":
        with pytest.raises(
            SynthGainError,
            match=REFUSED,
        ):
            create_workspace(tmp_path / "w", changes=changes)
        assert not (tmp_path / "w").exists()
    else:
        create_workspace(tmp_path / "w", changes=changes)
        assert (tmp_path / "w" / name / "README.md").is_file()


def test_a_folder_outside_must_be_there_and_is_left_alone(tmp_path, changes):
    changes.write_text("data: {folder: ../images}\n")
    with pytest.raises(SynthGainError, match=r"data\.folder: found \.\./images, which is no folder"):
        create_workspace(tmp_path / "w", changes=changes)
    assert not (tmp_path / "w").exists()
    (tmp_path / "images").mkdir()
    create_workspace(tmp_path / "w", changes=changes)
    assert list((tmp_path / "images").iterdir()) == []


def test_bad_values_make_no_folder(tmp_path, changes):
    changes.write_text("gan: {z_dim: -1}\n")
    with pytest.raises(SynthGainError, match=r"gan\.z_dim: found -1"):
        create_workspace(tmp_path / "w", changes=changes)
    assert not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (1, "dvc repro failed; the lines above say why. Finished stages are kept"),
        (-signal.SIGTERM, r"dvc repro was ended by a signal \(SIGTERM\)\. Finished stages are kept"),
        (128 + signal.SIGKILL, r"dvc repro was ended by a signal \(SIGKILL\)\. Finished stages are kept"),
    ],
)
def test_how_dvc_ended_is_said(tmp_path, monkeypatch, status, said):
    """Ended by a signal it says nothing, so that nothing stands in the lines above."""
    ending = f"os.kill(os.getpid(), {-status})" if status < 0 else f"os._exit({status})"
    (tmp_path / "dvc.py").write_text(f"import os\n{ending}\n")  # `python -m dvc` finds it first
    with pytest.raises(SynthGainError, match=said):
        dvc(tmp_path, "repro")
