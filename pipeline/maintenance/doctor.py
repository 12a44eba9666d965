"""What can be wrong with an installation and with the results of a study.

Nothing is changed here: `fixing.py` repairs what needs no decision. Every check gives what it looked at in a few words,
and its findings.
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

from pipeline.errors import SynthGainError
from pipeline.maintenance.dvc_objects import dvc_objects
from pipeline.maintenance.dvc_state import dvc_files
from pipeline.maintenance.environment import environment
from pipeline.maintenance.findings import Check, Finding, first_words
from pipeline.maintenance.generators import generators
from pipeline.maintenance.half_written import half_written_outputs, held_locks
from pipeline.maintenance.other_code import code_of_results
from pipeline.maintenance.processes import orphans, running_stages
from pipeline.maintenance.stored_results import stored_results
from pipeline.params import Params, load_params
from pipeline.runtime.home import require_home

_TABLE = "data/metrics/cells.csv"


def examine(root: Path, params_file: Path) -> Iterator[Check]:
    """Every check on the project or workspace in `root`, one after another as they are done.

    Parameters that are not valid are findings; what cannot be judged without them is left out then.
    """
    params, check = read_params(params_file)
    yield check
    yield environment(params, root)
    running = running_stages(root)
    yield orphans(running, held_locks(root))
    if not running:
        yield half_written_outputs(root)
    yield stored_results(root)
    yield dvc_files(root)
    yield code_of_results(root)
    if params is not None:
        yield raw_data(root, params)
        yield generators(root, params)
    yield dvc_objects(root, is_running=bool(running))
    if params is not None:
        yield stale_cells(root, params)
        yield mirrored_results(root, params, params_file)
    yield unfinished_runs(root)


def read_params(params_file: Path) -> tuple[Params | None, Check]:
    """The parameters, None if they are not valid.

    Every bad key is a finding; that of a key that has moved names its new place.
    """
    try:
        params = load_params(params_file)
        return params, Check("params", "; ".join([f"{params_file} is valid", *params.code_of_its_own()]))
    except SynthGainError as error:
        findings = []
        for line in str(error).splitlines():
            where, _, problem = line.partition(": ")
            findings.append(Finding(problem, where, "docs/running.md"))
        return None, Check("params", "", findings)


def raw_data(root: Path, params: Params) -> Check:
    """The raw files of a published data set against the published checksums."""
    name = "raw data"
    raw, source = root / "data/raw", params.data.source
    if not raw.is_dir():
        return Check(name, "data/raw is not there yet: the download stage makes it")
    if source in ("digits", "folder"):
        return Check(name, f"{source}: nothing is published; DVC's hash of data/raw is checked below")
    try:
        from pipeline.sources.mirrors import checksum_of
        from pipeline.sources.published import DATASETS
    except Exception as error:  # torchvision, which knows the checksums; the environment has its finding
        return Check(name, f"not checked: torchvision cannot be imported ({first_words(error)})")
    findings = []
    files = DATASETS[source].files
    for file in files:
        path = raw / file.name
        remedy = "`dvc repro -f download` fetches it again"
        if not path.is_file():
            findings.append(Finding("not there", f"data/raw/{file.name}", remedy))
        elif problem := file.difference(checksum_of(path, file), path.stat().st_size):
            findings.append(Finding(problem, f"data/raw/{file.name}", remedy))
    return Check(name, f"{source}: {len(files)} files against their published checksums", findings)


def stale_cells(root: Path, params: Params) -> Check:
    """Rows of the table, and files, of budgets and ratios that the parameters no longer declare."""
    rows, findings = _stale_rows(root / _TABLE, params)
    try:
        undeclared = [path.relative_to(root.resolve()) for path in _undeclared_files(root)]
    except Exception as error:  # DVC raises its own kinds; that it cannot open the project is found above
        seen = f"{rows} rows of {_TABLE}; files not checked ({first_words(error)})"
        return Check("cells", seen, findings)
    findings += [
        Finding(
            "of a budget or ratio that params.yaml no longer declares; no table reads it",
            str(path),
            f"keep it for when it comes back, or `rm -r {path}`",
        )
        for path in undeclared
    ]
    return Check("cells", f"{rows} rows of {_TABLE}, and the folders of each budget", findings)


def _stale_rows(table: Path, params: Params) -> tuple[int, list[Finding]]:
    """How many rows the table has, and which cells of it the parameters do not declare."""
    from pipeline.study.grid import Grid

    if not table.is_file():
        return 0, []
    declared = set(Grid.declared(params.study).cells())
    findings = []
    rows = 0
    undeclared: Counter[str] = Counter()
    try:
        with table.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                rows += 1
                ratio = float(row["synthetic_per_real"])
                if (row["budget"], row["arm"], ratio, int(row["replicate"])) not in declared:
                    undeclared[f"budget {row['budget']}, {row['arm']} at {ratio:g}"] += 1
    except (KeyError, ValueError, TypeError, OSError) as error:
        problem = f"not a readable table ({first_words(error)})"
        findings.append(Finding(problem, _TABLE, "`dvc repro` makes it again"))
    for cell, count in undeclared.items():
        problem = f"{count} rows of {cell}, which params.yaml does not declare"
        findings.append(Finding(problem, _TABLE, "`dvc repro` makes the table of what is declared"))
    return rows, findings


def _undeclared_files(root: Path) -> list[Path]:
    """What lies in the folders of the declared outputs (but for `data` itself) and belongs to none of them."""
    from dvc.repo import Repo

    data = root.resolve() / "data"
    with Repo(str(root)) as repo:
        declared = {Path(output.fs_path) for output in repo.index.outs}
    above = {folder for output in declared for folder in output.parents if data in folder.parents}
    return sorted(
        path
        for folder in above
        if folder.is_dir()
        for path in folder.iterdir()
        if path not in declared | above and not path.name.startswith(".")
    )


def mirrored_results(root: Path, params: Params, params_file: Path) -> Check:
    """Whether MLflow shows the results that lie here: DVC restores those of another commit, and tells nobody."""
    name = "MLflow study"
    try:
        from pipeline.results import ResultFolders
        from pipeline.tracking.mirror import compare_with_store
        from pipeline.tracking.planned_runs import experiment_name, plan_runs
        from pipeline.tracking.store import find_store
    except Exception as error:  # a broken installation raises nearly anything; it has a finding below
        return Check(name, f"not checked: MLflow cannot be imported ({first_words(error)})")
    params_file = params_file.resolve()
    try:
        with chdir(root):  # a run names its images by their paths from here
            folders = ResultFolders.within(Path("data"))
            runs = plan_runs(params, folders, params_file=params_file, report=Path("data/report"))
            store = find_store(os.environ, root)
            comparison = compare_with_store(runs, experiment=experiment_name(params), store=store)
    except SynthGainError as error:  # no results here yet, or no store, which has a finding below
        return Check(name, f"not checked: {first_words(error)}")
    if comparison is None:
        return Check(name, f"not checked: a `track` is at work on {store}")
    seen = f"{experiment_name(params)} in {store}"
    if comparison.differing:
        return Check(name, seen, [Finding(str(comparison), "MLflow", "`synthgain stage track` mends it")])
    return Check(name, f"{seen}: {comparison}")


def unfinished_runs(root: Path) -> Check:
    """Runs that MLflow shows as RUNNING and that nobody will end."""
    name = "MLflow runs"
    try:
        require_home()
        from pipeline.tracking.mirror import runs_left_running
        from pipeline.tracking.store import find_store
    except SynthGainError as error:
        problem, _, remedy = str(error).partition("; ")
        return Check(name, "", [Finding(problem, "HOME", remedy)])
    except Exception as error:  # a broken installation raises nearly anything
        problem = f"cannot be imported ({first_words(error)})"
        return Check(name, "", [Finding(problem, "mlflow", "`make install`")])
    try:
        store = find_store(os.environ, root)
        if store.database is not None and not store.database.exists():
            return Check(name, f"no store at {store} yet")
        left = runs_left_running(store)
    except SynthGainError as error:
        where, _, problem = str(error).partition(": ")
        remedy = "the results themselves are files and not affected"
        return Check(name, "", [Finding(problem, where, remedy)])
    if left is None:
        return Check(name, f"{store}: a `track` is at work, so running runs are its own")
    findings = [
        Finding(
            f"run {run.name} of experiment {run.experiment} is left RUNNING since {run.since}",
            f"{store}, run {run.run_id}",
            "the next `dvc repro track` closes and redoes it"
            if run.is_ours
            else f'`MlflowClient("{store}").set_terminated("{run.run_id}", "KILLED")` closes it',
        )
        for run in left
    ]
    return Check(name, str(store), findings)
