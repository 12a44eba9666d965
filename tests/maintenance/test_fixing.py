"""`synthgain doctor --fix`, and the doctor's look at the store and at what a kill left behind."""

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from pipeline.gan.training import train_gan
from pipeline.maintenance import stored_results as stored_results_module
from pipeline.maintenance.fixing import fix
from pipeline.maintenance.half_written import half_written_outputs
from pipeline.maintenance.stored_results import is_of_this_code, results_of_this_code, stored_results
from pipeline.runtime.store import finished_results, give_up, keep_result, result_key, unfinished
from synthgain.app import app

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A project with a store of its own."""
    monkeypatch.delenv("SYNTHGAIN_STORE")
    shutil.copyfile(PROJECT / "dvc.yaml", tmp_path / "dvc.yaml")
    (tmp_path / ".dvc/tmp").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def key(seed=1):
    return result_key(
        "gan", train_gan, recipe={"seed": seed}, data="d", device=torch.device("cpu"), dtype=torch.float32
    )


def keep(root, seed=1, content=b"12345"):
    with keep_result(root / ".work/store", key(seed)) as folder:
        (folder / "weights").write_bytes(content)
    return root / ".work/store" / key(seed).name


def cut_off(root, seed=1, code=None):
    """The state of a training that was cut off, by the present code or another."""
    with unfinished(root / ".work/store", key(seed)) as folder:
        (folder / "state.pt").write_bytes(b"12345")
        if code is not None:
            origin = folder / "computed_from.json"
            origin.write_text(origin.read_text().replace(key(seed).origin["code"], code))
    return folder


def listing(root):
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


@contextmanager
def held(path):
    """Another process is writing a path."""
    code = (
        "import sys; from pathlib import Path; from pipeline.runtime.outputs import only_writer\n"
        "with only_writer(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == b"held\n"
        yield
        process.stdin.close()


# --- the store ---


def test_nothing_is_said_and_done_where_nothing_is_wrong(root):
    keep(root)
    cut_off(root, seed=2)
    (root / "data/metrics").mkdir(parents=True)
    before = listing(root)
    assert list(fix(root)) == []
    assert listing(root) == before


def test_a_folder_that_is_no_project_has_nothing_to_fix(tmp_path):
    assert list(fix(tmp_path)) == []
    assert listing(tmp_path) == []


def test_a_damaged_result_is_found_and_removed_and_the_others_stay(root):
    damaged, sound = keep(root, 1), keep(root, 2)
    (damaged / "weights").write_bytes(b"1234?")
    check = stored_results(root)
    assert check.seen.startswith("2 results, ")
    (finding,) = check.findings
    assert finding.where == f".work/store/{damaged.name}" and "weights is missing, or not" in finding.problem
    assert list(fix(root)) == [f".work/store/{damaged.name}: damaged (weights); removed"]
    assert not damaged.exists() and sound.exists()
    assert not stored_results(root).findings and list(fix(root)) == []


def test_of_a_large_store_the_results_used_last_are_verified(root, monkeypatch):
    older, newer = keep(root, 1), keep(root, 2)
    for folder, time in ((older, 1000), (newer, 2000)):
        (folder / "weights").write_bytes(b"1234?")
        os.utime(folder, (time, time))
    size = sum(path.stat().st_size for path in newer.iterdir())
    monkeypatch.setattr(stored_results_module, "_MOST_HASHED_BYTES", size + 1)
    assert len(list(fix(root))) == 1
    assert older.exists() and not newer.exists()


def test_a_store_that_is_too_large_loses_what_was_not_used_for_longest(root, monkeypatch):
    folders = [keep(root, seed) for seed in (1, 2, 3)]
    for age, folder in enumerate(folders):
        os.utime(folder, (1000 - age, 1000 - age))
    size = sum(path.stat().st_size for path in folders[0].iterdir())
    monkeypatch.setattr(stored_results_module.shrink, "__defaults__", (size + 1,))
    assert list(fix(root)) == [".work/store: full; 2 results not used for longest removed"]
    assert finished_results(root / ".work/store") == [folders[0]]


def test_a_result_that_was_half_written_is_removed_unless_somebody_writes_it(root):
    temporary = root / ".work/store" / f".{key().name}.tmp"
    temporary.mkdir(parents=True)
    with held(root / ".work/store" / key().name):
        assert list(fix(root)) == [] and temporary.exists()
    (line,) = fix(root)
    assert line.startswith(f".work/store/{key().name}: a result that was half-written")
    assert not temporary.exists()


# --- trainings that were cut off ---


def test_the_present_code_goes_on_from_its_own_state(root):
    state = cut_off(root)
    assert is_of_this_code(state, root)
    check = stored_results(root)
    assert check.seen == "0 results, 0.0 MB; 1 unfinished training (gan)"
    (finding,) = check.findings
    assert finding.where == f".work/unfinished/{state.name}" and "of a gan training" in finding.problem
    assert "`dvc repro` goes on from it" in finding.remedy
    assert list(fix(root)) == [] and (state / "state.pt").exists()


def test_the_state_of_a_collapsed_gan_is_kept_and_no_fault_until_its_training_goes_on(root):
    state = cut_off(root)
    give_up(state, "the generator has collapsed")
    check = stored_results(root)
    assert check.findings == [] and check.seen.endswith("; 1 unfinished training (gan that collapsed)")
    assert list(fix(root)) == [] and (state / "state.pt").exists()
    assert cut_off(root) == state and len(stored_results(root).findings) == 1
    give_up(cut_off(root, code="0" * 64), "the generator has collapsed")
    assert len(stored_results(root).findings) == 1
    assert len(list(fix(root))) == 1 and not state.exists()


def test_a_state_of_other_code_is_removed_unless_somebody_works_on_it(root):
    state = cut_off(root, code="0" * 64)
    with held(state):
        assert not stored_results(root).findings
        assert list(fix(root)) == [] and state.exists()
    (finding,) = stored_results(root).findings
    assert "cannot go on from it" in finding.problem
    assert finding.remedy == "`synthgain doctor --fix` removes it"
    (line,) = fix(root)
    assert line.startswith(f".work/unfinished/{state.name}: ") and not state.exists()


def test_a_state_that_does_not_say_what_made_it_stays(root):
    state = cut_off(root)
    (state / "computed_from.json").write_text("{")
    assert is_of_this_code(state, root) is None
    assert list(fix(root)) == [] and state.exists()


def test_a_store_that_others_share_keeps_their_trainings(root, monkeypatch):
    state = cut_off(root, code="0" * 64)
    monkeypatch.setenv("SYNTHGAIN_STORE", str(root / ".work/store"))
    assert list(fix(root)) == [] and state.exists()
    (finding,) = stored_results(root).findings
    assert finding.remedy == f"`rm -r .work/unfinished/{state.name}`"


def test_a_workspace_is_judged_by_its_own_code(root):
    state, result = cut_off(root), keep(root, 2)
    shutil.copytree(PROJECT / "pipeline", root / "pipeline")
    assert is_of_this_code(state, root) and is_of_this_code(result, root)
    assert results_of_this_code(root) == 1
    with (root / "pipeline/gan/losses.py").open("a") as file:
        file.write("# other code\n")
    stored_results_module.code_sha256.cache_clear()
    assert is_of_this_code(state, root) is False
    assert results_of_this_code(root) == 0


def test_a_state_of_a_module_that_has_gone_is_removed_and_one_of_a_broken_file_stays(root):
    gone, broken = cut_off(root, 1), cut_off(root, 2)
    origin = gone / "computed_from.json"
    origin.write_text(origin.read_text().replace("pipeline.gan.training", "pipeline.gan.gone"))
    shutil.copytree(PROJECT / "pipeline", root / "pipeline")
    (root / "pipeline/gan/training.py").write_text("def train_gan(")
    assert is_of_this_code(gone, root) is False
    assert is_of_this_code(broken, root) is None
    assert len(list(fix(root))) == 1
    assert broken.exists() and not gone.exists()


def test_a_workspace_of_another_version_is_not_judged(root):
    """It may count other files: what looks like other code here may be its own."""
    state = cut_off(root, code="0" * 64)
    (root / "pipeline/runtime").mkdir(parents=True)
    (root / "pipeline/runtime/code.py").write_text("NO_INFLUENCE = frozenset()\n")
    assert is_of_this_code(state, root) is None
    assert list(fix(root)) == [] and state.exists()


def test_states_of_an_earlier_version_are_named(root):
    (root / ".work/gan-60-0123/0_45").mkdir(parents=True)
    (finding,) = stored_results(root).findings
    assert str(finding) == (
        ".work/gan-60-0123: kept by an earlier version; this one does not read it; `rm -r .work/gan-60-0123`"
    )
    assert list(fix(root)) == []


# --- half-written outputs ---


@pytest.mark.parametrize(
    "temporary, output",
    [
        ("data/gan/.60.tmp", "data/gan/60"),
        ("data/.raw.tmp", "data/raw"),
        ("data/synthetic/60/.0.npz.tmp", "data/synthetic/60/0.npz"),
        ("data/metrics/gan/.60.csv.tmp", "data/metrics/gan/60.csv"),
        ("data/classifier/60/controls/.1.0.safetensors.tmp", "data/classifier/60/controls/1.0.safetensors"),
    ],
)
def test_a_half_written_output_is_found_and_removed_unless_somebody_writes_it(root, temporary, output):
    path = root / temporary
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half")
    with held(root / output):
        assert not half_written_outputs(root).findings
        assert list(fix(root)) == [] and path.exists()
    (finding,) = half_written_outputs(root).findings
    assert finding.where == temporary
    assert list(fix(root)) == [f"{output}: a killed stage left it half-written; the rest of it is removed"]
    assert not path.exists() and not half_written_outputs(root).findings


def test_the_only_whole_output_is_put_back(root):
    aside = root / "data/gan/.60.before.tmp"
    aside.mkdir(parents=True)
    (aside / "whole").touch()
    (root / "data/gan/.60.tmp").mkdir()
    findings = half_written_outputs(root).findings
    assert "an earlier output" in findings[0].problem and "puts it back" in findings[0].remedy
    assert list(fix(root)) == ["data/gan/60: a killed stage had put it aside; put back"]
    assert listing(root / "data/gan") == ["60", "60/whole"]


def test_files_of_the_user_are_never_touched(root):
    for name in ("data/own/.cat.tmp", "data/own/cat/.1.png.tmp", "data/.notes.tmp", ".raw.tmp"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("mine")
    before = listing(root)
    assert list(fix(root)) == [] and not half_written_outputs(root).findings
    assert listing(root) == before


def test_part_of_an_output_from_which_a_command_goes_on_stays(root):
    (root / "data/.export.partial").mkdir(parents=True)
    (finding,) = half_written_outputs(root).findings
    assert finding.where == "data/.export.partial" and "goes on from it" in finding.remedy
    assert list(fix(root)) == [] and (root / "data/.export.partial").exists()


def test_while_something_runs_only_the_files_of_dvc_are_mended(root, monkeypatch):
    (root / "data/gan/.60.tmp").mkdir(parents=True)
    (root / ".dvc/tmp/rwlock").touch()
    monkeypatch.setattr("pipeline.maintenance.fixing.running_commands", lambda root: ["dvc (process 7)"])
    assert list(fix(root)) == [".dvc/tmp/rwlock: half-written by a killed DVC; removed"]
    assert (root / "data/gan/.60.tmp").exists()


def test_what_a_killed_writer_leaves_is_removed(root):
    """By SIGKILL within `atomic_output`: both agree on the names."""
    code = (
        "import os, sys; from pathlib import Path; from pipeline.runtime.outputs import atomic_output\n"
        "with atomic_output(Path(sys.argv[1])) as half: half.write_text('half'); os.kill(os.getpid(), 9)"
    )
    output = root / "data/synthetic/60/0.npz"
    killed = subprocess.run([sys.executable, "-c", code, str(output)], cwd=PROJECT, check=False)
    assert killed.returncode == -9 and len(listing(output.parent)) == 1
    assert len(list(fix(root))) == 1
    assert listing(output.parent) == []


# --- the command ---


def test_the_command_prints_a_line_for_each_thing_and_ends_well(root):
    damaged = keep(root)
    (damaged / "weights").unlink()
    (root / ".dvc/tmp/rwlock").touch()
    done = CliRunner().invoke(app, ["doctor", "--fix"])
    assert done.exit_code == 0
    assert done.output.splitlines() == [
        ".dvc/tmp/rwlock: half-written by a killed DVC; removed",
        f".work/store/{damaged.name}: damaged (weights); removed",
    ]
    again = CliRunner().invoke(app, ["doctor", "--fix"])
    assert (again.exit_code, again.output) == (0, "")


def test_json_has_no_place_beside_fix(root):
    done = CliRunner().invoke(app, ["doctor", "--fix", "--json"])
    assert done.exit_code == 2 and "--fix prints lines only" in done.output


def test_params_that_are_not_valid_keep_nothing_from_being_fixed(root):
    (root / "params.yaml").write_text("gan: 3\n")
    (root / ".dvc/tmp/rwlock").touch()
    assert CliRunner().invoke(app, ["doctor", "--fix"]).exit_code == 0
    assert not (root / ".dvc/tmp/rwlock").exists()
