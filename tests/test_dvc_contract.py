"""dvc.yaml tells the truth: what a stage imports, reads and writes is what it declares."""

import ast
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from pipeline.runtime.code import NO_INFLUENCE, TABLES, import_closure

ROOT = Path(__file__).parents[1]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
SECTIONS = yaml.safe_load((ROOT / "params.yaml").read_text())

# `execution` says where to compute, not what.
UNTRACKED_SECTIONS = {"execution"}
# The one file that a stage writes and that is no output: DVC would delete it before each run. A record only grows.
RECORD = "judgements.csv"
# Rooms that a stage depends on as a whole. Of the shared ones (runtime, augmentation, study) it names single files.
ROOMS = ("gan", "classifier", "sources", "export", "report", "tracking", "scoring", "comparison")


def stage_file(name: str) -> Path:
    return ROOT / "stages" / f"{name}.py"


def declared(stage: dict, *keys: str) -> set[str]:
    return {
        path if isinstance(path, str) else next(iter(path)) for key in keys for path in stage.get(key, [])
    }


def read_params(name: str) -> set[str]:
    """`section[.key]` for every `params.section[.key]` of a stage's file; `*` if it hands on params whole."""
    tree = ast.parse(stage_file(name).read_text())
    found, inner = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name) and node.value.id == "params":
                found.add((node.attr, None, node))
                inner.add(node.value)
            elif (
                isinstance(node.value, ast.Attribute)
                and isinstance(node.value.value, ast.Name)
                and node.value.value.id == "params"
            ):
                found.add((node.value.attr, node.attr, node))
                inner.add(node.value)
    result = set()
    for section, key, node in found:
        if key is None and node in inner:
            continue  # part of a longer one
        result.add(section if key is None else f"{section}.{key}")
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Name)
            and node.id == "params"
            and isinstance(node.ctx, ast.Load)
            and node not in inner
        ):
            result.add("*")
    return result


@pytest.mark.parametrize("name", STAGES)
def test_deps_are_the_import_closure(name):
    """In both directions: every imported file is declared, itself or its room, and each declaration is imported."""
    declared_code = {
        path for path in declared(STAGES[name], "deps") if path.startswith(("pipeline/", "stages/"))
    }
    declared_code -= {path for path in declared_code if "/templates/" in path}
    imported = import_closure(stage_file(name))
    rooms = {path for path in declared_code if not path.endswith(".py")}
    undeclared = {
        path for path in imported if path not in declared_code and str(Path(path).parent) not in rooms
    }
    not_imported = {
        path
        for path in declared_code
        if not any(file == path or str(Path(file).parent) == path for file in imported)
    }
    assert (undeclared, not_imported) == (set(), set())
    # A file of a room that is declared as a whole is not declared again.
    assert not {path for path in declared_code - rooms if str(Path(path).parent) in rooms}


def test_rooms_are_deps_as_a_whole_and_shared_rooms_by_file():
    rooms = {
        Path(path).name
        for stage in STAGES.values()
        for path in declared(stage, "deps")
        if path.startswith("pipeline/") and not path.endswith(".py") and "/templates/" not in path
    }
    assert rooms == {*ROOMS, "generative_metrics"}


def test_what_trains_a_gan_knows_no_arm_and_no_policy():
    for name in ("train_gan", "generate", "evaluate_synthetic", "download", "prepare"):
        assert not set(TABLES) & import_closure(stage_file(name)), name


def test_what_changes_no_byte_is_no_dep():
    deps = {path for stage in STAGES.values() for path in declared(stage, "deps")}
    assert not deps & NO_INFLUENCE
    assert all((ROOT / path).is_file() for path in NO_INFLUENCE)


@pytest.mark.parametrize("name", STAGES)
def test_params_are_the_sections_read(name):
    wanted = {entry for entry in read_params(name) if entry.split(".")[0] not in UNTRACKED_SECTIONS}
    if "*" in wanted:
        wanted = set(SECTIONS) - UNTRACKED_SECTIONS
    covered = set(STAGES[name].get("params", []))
    uncovered = {entry for entry in wanted if entry not in covered and entry.split(".")[0] not in covered}
    unread = {
        entry
        for entry in covered
        if not any(read == entry or read.startswith(f"{entry}.") for read in wanted)
    }
    assert (uncovered, unread) == (set(), set())


@pytest.mark.parametrize("name", STAGES)
def test_every_path_of_cmd_is_a_dep_or_an_output(name):
    stage = STAGES[name]
    known = declared(stage, "deps", "outs", "metrics", "plots") | {RECORD}
    for option, value in re.findall(r"--([a-z-]+)[ =](\S+)", stage["cmd"]):
        below = [path for path in known if path == value or path.startswith(f"{value}/")]
        assert below, f"--{option} {value} is neither a dep nor an output of {name}"


@pytest.mark.parametrize("name", STAGES)
def test_cmd_runs_the_stage_of_the_same_name(name):
    assert re.match(rf"python -m stages\.{name}( |$)", STAGES[name]["cmd"])
    assert stage_file(name).is_file()


@pytest.mark.parametrize("name", STAGES)
def test_no_value_of_the_parameters_stands_in_cmd(name):
    """A shell reads it. DVC quotes ${item}, the coordinates of the matrix as options, and nothing else."""
    values = re.findall(r"\$\{[^}]*\}", STAGES[name]["cmd"])
    assert values == (["${item}"] if "matrix" in STAGES[name] else [])


def test_what_git_holds_stays_in_place_until_it_is_replaced():
    """DVC removes outs before it runs a stage, even one whose inputs are missing: of these, it must not."""
    options = {
        path: values
        for stage in STAGES.values()
        for out in (*stage.get("outs", []), *stage.get("metrics", []))
        if isinstance(out, dict)
        for path, values in out.items()
    }
    held = {path for path, values in options.items() if values.get("cache") is False}
    assert {"data/metrics/cells.csv", "data/metrics/comparison.json", "data/prepared/splits.json"} <= held
    # That takes DVC's run cache from their stages. What takes long is in the store.
    assert {path for path in held if not options[path].get("persist")} == set()


def test_a_clone_has_no_folder_of_an_output_that_it_has_not():
    """DVC takes a folder that holds a .gitignore of its own, and nothing else, for an input that has changed."""
    outputs = {path.split("/${")[0] for stage in STAGES.values() for path in declared(stage, "outs")}
    tracked = subprocess.run(["git", "ls-files", "data"], cwd=ROOT, capture_output=True, text=True).stdout
    if not tracked:
        pytest.skip("no Git clone")
    held = {path for path in tracked.splitlines() if Path(path).name == ".gitignore"}
    assert held == set()
    ignored = subprocess.run(
        ["git", "check-ignore", "--no-index", *(f"{path}/x.npz" for path in outputs if "." not in path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout.split()
    assert {path.removesuffix("/x.npz") for path in ignored} == {
        path for path in outputs if "." not in path and not path.startswith("data/metrics/")
    }


def test_stages_that_run_code_of_ones_own_depend_on_it():
    """Its paths are parameters; without any, they lead to folders that a clone has."""
    users = {
        path: {name for name, stage in STAGES.items() if f"${{{path}}}" in declared(stage, "deps")}
        for path in ("generator.code", "generator.folder", "classifier.code")
    }
    trains = {name for name, stage in STAGES.items() if "classifier" in stage.get("params", [])}
    assert users == {
        "generator.code": {"train_gan"},
        "generator.folder": {"train_gan"},
        "classifier.code": trains - {"report", "track"} | {"prepare", "evaluate_classifiers"},
    }
    for path in users:
        section, _, key = path.partition(".")
        assert (ROOT / SECTIONS[section][key] / "README.md").is_file(), path


def test_only_evaluating_stages_see_the_test_split():
    """Nothing that trains, generates or chooses depends on the test split, nor on a folder that holds it."""
    readers = {
        name
        for name, stage in STAGES.items()
        if declared(stage, "deps") & {"data/prepared/test.npz", "data/prepared", "data/raw", "data"}
    }
    assert readers == {"prepare", "evaluate_synthetic", "evaluate_classifiers"}


def test_only_generate_may_see_the_keys_of_held_out_images():
    """Hashes of pixels, by which it refuses copies of them; no image, and nothing to train or to choose on."""
    readers = {
        name for name, stage in STAGES.items() if "data/prepared/held_out_keys.npz" in declared(stage, "deps")
    }
    assert readers <= {"generate"}


def test_the_record_of_judgements_is_written_by_one_stage_and_is_no_output_of_any():
    assert {name for name, stage in STAGES.items() if f" {RECORD}" in stage["cmd"]} == {
        "evaluate_classifiers",
        "report",
    }
    for stage in STAGES.values():
        assert RECORD not in declared(stage, "deps", "outs", "metrics", "plots")
    writers = {name for name in STAGES if "record_judgement" in stage_file(name).read_text()}
    assert writers == {"evaluate_classifiers"}


def test_every_stage_file_is_a_stage():
    files = {path.stem for path in (ROOT / "stages").glob("*.py")}
    assert files - {"__init__", "command"} == set(STAGES)


@pytest.mark.parametrize("name", STAGES)
def test_every_stage_has_help_with_an_example(name):
    functions = {
        node.name: node
        for node in ast.parse(stage_file(name).read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    text = ast.get_docstring(functions["main"]) or ""
    assert f"Example: python -m stages.{name}" in text
    example = text.split("Example:")[1]
    options = {argument.arg for argument in functions["main"].args.args} - {"params_file", "force"}
    assert options == {option.replace("-", "_") for option in re.findall(r"--([a-z-]+)", example)}
