"""A stage whose inputs change while it runs fails, and loses nothing: what it finished is there for the old inputs."""

from pathlib import Path

import pytest
import yaml

from pipeline.errors import SynthGainError
from pipeline.runtime.outputs import atomic_output, write_text
from pipeline.runtime.stage_inputs import declared_inputs, same_inputs

DVC = {
    "stages": {
        "train": {
            "matrix": {"budget": "${study.real_images}"},
            "cmd": "python -m stages.train ${item}",
            "params": ["seed", "gan", "study.replicates"],
            "deps": ["pipeline/loop.py", "pipeline/gan", "data/train.npz", "${data.folder}"],
            "outs": ["data/gan/${item.budget}", {"data/history/${item.budget}.csv": {"cache": False}}],
        }
    }
}
PARAMS = {
    "seed": 7,
    "data": {"folder": "my images"},
    "study": {"replicates": 2, "real_images": [60]},
    "gan": {"steps": 200, "channels": [8, 4]},
    "report": {"rows": 3},
}


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_text(yaml.safe_dump(DVC))
    params()
    for name in ("pipeline/loop.py", "pipeline/gan/a.py", "data/train.npz", "my images/cat/1.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(name)


def params(**changes):
    values = {**PARAMS, **{name: {**PARAMS[name], **own} for name, own in changes.items()}}
    Path("params.yaml").write_text(yaml.safe_dump(values))


def inputs(name="train@60"):
    return declared_inputs(
        "train", name=name, params_file=Path("params.yaml"), arguments=["x.py", "--budget", "60"]
    )


def work(text="made"):
    with atomic_output(Path("data/gan/60")) as folder:
        folder.mkdir()
        (folder / "generator").write_text(text)
    write_text(Path("data/history/60.csv"), text)


def run(change=lambda: None, *, late=lambda: None, text="made"):
    """A stage in which something is edited before, or after, its outputs are finished."""
    with same_inputs(inputs()):
        change()
        work(text)
        late()


def made():
    return {path.name: path.read_text() for path in Path("data").rglob("*") if path.is_file()}


def test_the_entry_is_read_with_its_templates_filled_in():
    found = inputs()
    assert found.deps == ("pipeline/loop.py", "pipeline/gan", "data/train.npz", "my images")
    assert found.outs == ("data/gan/60", "data/history/60.csv")
    assert declared_inputs("other", name="other", params_file=Path("params.yaml"), arguments=[]) is None


def test_without_a_change_the_outputs_are_in_place():
    run()
    assert made() == {"train.npz": "data/train.npz", "generator": "made", "60.csv": "made"}


@pytest.mark.parametrize("when", ["change", "late"])
@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda: params(gan={"steps": 1000}), "gan.steps in params.yaml went from 200 to 1000"),
        (lambda: params(study={"replicates": 3}), "study.replicates in params.yaml went from 2 to 3"),
        (lambda: Path("pipeline/loop.py").write_text("new"), "pipeline/loop.py changed"),
        (lambda: Path("pipeline/gan/b.py").write_text("new"), "pipeline/gan/b.py changed"),
        (lambda: Path("data/train.npz").write_text("other"), "data/train.npz changed"),
        (lambda: Path("my images/cat/2.png").write_text("other"), "my images changed"),
        (
            lambda: Path("params.yaml").unlink(),
            r"gan.channels in params.yaml went from \[8, 4\] to not there \(and 3 more\)",
        ),
    ],
    ids=["params", "study", "file", "folder", "data", "own images", "no params"],
)
def test_what_changed_is_named_and_no_output_takes_its_place(edit, words, when):
    with pytest.raises(
        SynthGainError, match=f"train@60: {words} .*put it back first: what was trained is kept"
    ):
        run(**({"change": edit} if when == "change" else {"late": edit}))
    if when == "change":
        assert set(made()) <= {"train.npz"}


def test_an_edit_of_what_the_stage_does_not_read_stops_nothing():
    def edit():
        params(report={"rows": 9})
        Path("pipeline/other.py").write_text("new")
        Path("pipeline/gan/__pycache__").mkdir()
        Path("pipeline/gan/__pycache__/a.pyc").write_text("new")

    run(edit)
    assert made()["generator"] == "made"
