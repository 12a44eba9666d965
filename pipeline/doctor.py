"""What can be wrong with an installation and with the results of a study, found by looking and mended by the reader.

Nothing is changed here. Each check gives what it looked at in a few words, and its findings.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pipeline.dvc_state import half_written
from pipeline.errors import SynthGainError
from pipeline.params import Params, load_params
from pipeline.progress import Advance, progress
from pipeline.redaction import without_secrets
from pipeline.runtime import available_cores

if TYPE_CHECKING:
    import psutil

_LEAST_FREE_BYTES = 2_000_000_000  # what a study of MNIST and its cache take, with room for the export
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Finding:
    """What is wrong, where, and how to mend it."""

    what: str
    where: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.remedy}"


@dataclass(frozen=True)
class Check:
    """One look: its name, what was seen in a few words, and what is wrong."""

    name: str
    seen: str
    findings: Sequence[Finding] = ()


def examine(root: Path, params_file: Path) -> Iterator[Check]:
    """Every check on the project or workspace in `root`, one after another as they are done.

    Parameters that are not valid are a finding; what cannot be judged without them is left out then.
    """
    params: Params | None = None
    try:
        params = load_params(params_file)
        yield Check("params", f"{params_file} is valid")
    except SynthGainError as error:
        findings = []
        for line in str(error).splitlines():
            where, _, what = line.partition(": ")
            findings.append(Finding(what, where, "mend it (docs/running.md)"))
        yield Check("params", "", findings)
    yield environment(params, root)
    running = running_stages(root)
    yield orphans(root, running)
    yield left_behind(root, running)
    yield dvc_files(root)
    if params is not None:
        yield raw_data(root, params)
    yield dvc_objects(root, is_running=bool(running))
    if params is not None:
        yield stale_cells(root, params)
        yield mirrored_results(root, params, params_file)
    yield unfinished_runs(root)


def environment(params: Params | None, root: Path) -> Check:
    """Versions that belong together, the device and the threads asked for, room on the disk."""
    findings = []
    seen = [f"Python {platform.python_version()}"]
    try:
        import torch

        seen.append(f"torch {torch.__version__}")
    except Exception as error:  # a broken installation raises nearly anything
        findings.append(Finding(f"cannot be imported ({_words(error)})", "torch", "`make install`"))
        return Check("environment", ", ".join(seen), findings)
    findings += torch_pair(torch.__version__, _torchvision_version())
    try:
        import torchvision

        seen.append(f"torchvision {torchvision.__version__}")
    except Exception as error:
        findings.append(
            Finding(
                f"cannot be imported beside torch {torch.__version__} ({_words(error)})",
                "torchvision",
                "install both from one build family, as requirements.lock has them: `make install`",
            )
        )
    cores = available_cores()
    threads = cores
    if params is not None:
        threads = params.execution.threads or cores
        if params.execution.device == "cuda" and not torch.cuda.is_available():
            findings.append(
                Finding(
                    "found cuda, but torch sees no CUDA device here",
                    "execution.device",
                    "set it to auto or cpu",
                )
            )
        if threads > cores:
            findings.append(
                Finding(
                    f"found {threads}, but this process may use {cores} cores: threads that wait for each other"
                    " are many times slower",
                    "execution.threads",
                    f"set it to 0 (every core) or to at most {cores}",
                )
            )
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device"
    seen += [device, f"{threads} threads on {cores} cores ({torch.backends.cpu.get_cpu_capability()})"]
    free = shutil.disk_usage(root).free
    seen.append(f"{free / 1e9:.0f} GB free")
    if free < _LEAST_FREE_BYTES:
        findings.append(
            Finding(
                f"{free / 1e9:.1f} GB free; a study and its cache need about {_LEAST_FREE_BYTES / 1e9:.0f} GB",
                f"disk of {root}",
                "make room (`dvc gc --workspace` drops what no present result needs)",
            )
        )
    return Check("environment", ", ".join(seen), findings)


def torch_pair(torch_version: str, torchvision_version: str) -> list[Finding]:
    """Whether two versions were built for each other: torchvision 0.x belongs to torch 2.(x − 15), build to build."""
    torch_release, _, torch_build = torch_version.partition("+")
    vision_release, _, vision_build = torchvision_version.partition("+")
    try:
        torch_numbers = [int(part) for part in torch_release.split(".")[:2]]
        vision_numbers = [int(part) for part in vision_release.split(".")[:2]]
    except ValueError:  # a build of their own makes its own rules
        return []
    pair = f"torch {torch_version} beside torchvision {torchvision_version}"
    if torch_numbers[0] == 2 and vision_numbers[0] == 0 and vision_numbers[1] != torch_numbers[1] + 15:
        wanted = f"torch 2.{vision_numbers[1] - 15}"
        return [Finding(f"{pair}, which was built for {wanted}", "torchvision", "`make install`")]
    if torch_build and vision_build and torch_build != vision_build:
        return [
            Finding(f"{pair}: builds of different families", "torchvision", "install both from one index")
        ]
    return []


def _torchvision_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("torchvision")
    except PackageNotFoundError:
        return ""


def raw_data(root: Path, params: Params) -> Check:
    """The raw files of a published data set against the published checksums."""
    raw, source = root / "data/raw", params.data.source
    if not raw.is_dir():
        return Check("raw data", "data/raw is not there yet: the download stage makes it")
    if source in ("digits", "folder"):
        return Check("raw data", f"{source}: nothing is published; DVC's hash of data/raw is checked below")
    try:
        from pipeline.sources.published import DATASETS
    except Exception as error:  # torchvision, which knows the checksums; the environment has its finding
        return Check("raw data", f"not checked: torchvision cannot be imported ({_words(error)})")
    findings = []
    files = DATASETS[source].files
    for file in files:
        path = raw / file.name
        remedy = "`dvc repro -f download` fetches it again"
        if not path.is_file():
            findings.append(Finding("not there", f"data/raw/{file.name}", remedy))
        elif (found := _md5(path)) != file.md5:
            what = f"altered or truncated (md5 expected {file.md5}, found {found})"
            findings.append(Finding(what, f"data/raw/{file.name}", remedy))
    return Check("raw data", f"{source}: {len(files)} files against their published checksums", findings)


@dataclass(frozen=True)
class _Object:
    """One file that a stage made: DVC's name of it in the cache, and its place in the workspace."""

    md5: str
    path: str
    stage: str


def dvc_objects(root: Path, *, is_running: bool = False) -> Check:
    """Every output that `dvc.lock` names, in the cache and in the workspace, hashed anew.

    DVC trusts a cache object that is read-only, as it left it: damaged on the disk, it is handed out silently
    and `dvc status` calls it up to date.
    """
    lock = root / "dvc.lock"
    name = "DVC objects"
    if not lock.is_file():
        return Check(name, "no dvc.lock: nothing was run here yet")
    try:
        cache = _cache_folder(root)
    except Exception as error:  # DVC raises its own kinds, and what a broken installation raises
        return Check(
            name, "", [Finding(f"DVC cannot open it ({_words(error)})", str(root), "`dvc doctor` says more")]
        )
    try:
        outputs = list(_outputs(lock))
    except (yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        where, what = str(lock), f"not readable as DVC's lock file ({_words(error)})"
        return Check(name, "", [Finding(what, where, "`synthgain mend`")])
    findings: list[Finding] = []
    objects: list[_Object] = []
    for output in outputs:
        if not output.md5.endswith(".dir"):
            objects.append(output)
            continue
        listing = _in_cache(cache, output.md5)
        entries = _entries(listing, output.md5) if listing.is_file() else None
        if listing.is_file() and entries is None:
            findings.append(_damaged(root, listing, output))
        if entries is None:
            entries = _listed_in_workspace(root / output.path, output)
            if entries is None or is_running:
                continue
            if _dir_md5(entries) != output.md5:
                findings.append(_changed(output, is_in_cache=False))
                continue
        objects += [
            _Object(entry["md5"], f"{output.path}/{entry['relpath']}", output.stage) for entry in entries
        ]
    work = []
    for one in objects:
        work += [(path, one) for path in (_in_cache(cache, one.md5), root / one.path) if path.is_file()]
    total = sum(path.stat().st_size for path, _ in work)
    seen_paths: set[Path] = set()
    damaged: set[str] = set()
    hashed = {"cache": 0, "workspace": 0}
    with progress("hashing what dvc.lock names", total / 1e6, "MB") as advance:
        for path, one in work:  # an object before the file that came out of it
            if path in seen_paths:
                continue
            seen_paths.add(path)
            is_object = path.is_relative_to(cache)
            hashed["cache" if is_object else "workspace"] += 1
            if _md5(path, advance) == one.md5:
                continue
            if is_object:
                damaged.add(one.md5)
                findings.append(_damaged(root, path, one))
            # A file of a damaged object is mended with it; what a running stage writes is not in the lock yet.
            elif one.md5 not in damaged and not is_running:
                findings.append(_changed(one, is_in_cache=_in_cache(cache, one.md5).is_file()))
    missing = sum(not (root / one.path).exists() for one in outputs)
    seen = f"{hashed['cache']} cache objects and {hashed['workspace']} files of {len(outputs)} outputs hashed"
    if missing:
        seen += f"; {missing} outputs are not here: `dvc pull` or `dvc repro` brings them"
    return Check(name, seen, findings)


def _cache_folder(root: Path) -> Path:
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        return Path(repo.cache.local.path)


def _outputs(lock: Path) -> Iterator[_Object]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    content = yaml.load(lock.read_text(encoding="utf-8"), Loader=loader)
    for stage, entry in content["stages"].items():
        for out in entry.get("outs", []):
            yield _Object(str(out["md5"]), str(out["path"]), str(stage))


def _in_cache(cache: Path, md5: str) -> Path:
    """DVC's layout: the first two digits are a folder."""
    return cache / md5[:2] / md5[2:]


def _entries(listing: Path, md5: str) -> list[dict[str, str]] | None:
    """The files of a folder that the cache keeps as a list; None if the list is not what its name says."""
    content = listing.read_bytes()
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5.removesuffix(".dir"):
        return None
    entries: list[dict[str, str]] = json.loads(content)
    return entries


def _listed_in_workspace(folder: Path, output: _Object) -> list[dict[str, str]] | None:
    if not folder.is_dir():
        return None
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [{"md5": _md5(path), "relpath": path.relative_to(folder).as_posix()} for path in files]


def _dir_md5(entries: Sequence[dict[str, str]]) -> str:
    """DVC's hash of a folder: of the JSON list of its files, sorted by their paths."""
    ordered = sorted(entries, key=lambda entry: entry["relpath"])
    text = json.dumps(ordered, sort_keys=True)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + ".dir"


def _damaged(root: Path, path: Path, one: _Object) -> Finding:
    return Finding(
        f"damaged: its bytes are not those of its name (it is {one.path} of {one.stage})",
        str(path),
        f"`rm -f {path} {root / one.path}`, then `dvc pull` if there is a remote, else `dvc repro`",
    )


def _changed(one: _Object, *, is_in_cache: bool) -> Finding:
    back = f"`dvc checkout --force {one.path}` brings it back, " if is_in_cache else ""
    return Finding(
        f"not what {one.stage} made (dvc.lock has another hash)",
        one.path,
        f"{back}`dvc repro` makes it again",
    )


def _md5(path: Path, advance: Advance | None = None) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            if advance:
                advance(len(chunk) / 1e6)
    return digest.hexdigest()


@dataclass(frozen=True)
class RunningStage:
    """A process of a stage of this folder.

    Attributes:
        module: `stages.train_gan`.
        pid: of the process.
        has_dvc: whether DVC is among its parents.
        by_dvc: whether DVC started it.
    """

    module: str
    pid: int
    has_dvc: bool
    by_dvc: bool


def running_stages(root: Path) -> list[RunningStage]:
    """The stages that run in a folder, whoever started them; processes of other users are not seen into."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            module = _stage_module(process.cmdline())
            if module is None or Path(process.cwd()).resolve() != root.resolve():
                continue
            if process.status() == psutil.STATUS_ZOMBIE:  # it has ended, and nobody has collected it
                continue
            by_dvc = "DVC_STAGE" in process.environ()
            has_dvc = any(_is_dvc(parent) for parent in process.parents())
        except (psutil.Error, OSError):  # ended meanwhile, or somebody else's
            continue
        found.append(RunningStage(module, process.pid, has_dvc, by_dvc))
    return found


def _stage_module(command: Sequence[str]) -> str | None:
    """`stages.train_gan` of `python -m stages.train_gan …`."""
    for flag, module in itertools.pairwise(command):
        if flag == "-m" and module.startswith("stages."):
            return module
    return None


def _is_dvc(process: psutil.Process) -> bool:
    command = process.cmdline()
    return any(Path(part).name == "dvc" for part in command[:3])


def orphans(root: Path, running: Sequence[RunningStage]) -> Check:
    """Stages whose DVC has ended: they would overwrite the outputs of the next run."""
    findings = [
        Finding(
            f"process {stage.pid} runs on though its DVC has ended; it would overwrite a new run's outputs",
            stage.module,
            f"`kill {stage.pid}`",
        )
        for stage in running
        if stage.by_dvc and not stage.has_dvc
    ]
    if not running:
        return Check("processes", "no stage runs here")
    names = ", ".join(f"{stage.module} (process {stage.pid})" for stage in running)
    return Check("processes", f"running here: {names}", findings)


def dvc_files(root: Path) -> Check:
    """DVC's own files that a kill cut short: it would not start."""
    name = "DVC files"
    findings = [
        Finding("half-written by a killed DVC, which refuses to start now", str(path), "`synthgain mend`")
        for path in half_written(root)
    ]
    return Check(name, "whole", findings)


def left_behind(root: Path, running: Sequence[RunningStage]) -> Check:
    """States of trainings that were cut off, and half-written outputs, that nobody works on."""
    name = "scratch"
    findings = []
    work = root / ".work"
    kept = 0
    for folder in sorted(path for path in work.glob("*") if path.is_dir()) if work.is_dir() else []:
        kept += 1
        if _is_locked(work / f"{folder.name}.lock"):
            continue
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        findings.append(
            Finding(
                f"the state of a training that was cut off ({size / 1e6:.1f} MB)",
                f".work/{folder.name}",
                "`dvc repro` goes on from it and removes it, unless code, data or parameters have changed"
                f" since: then `rm -r .work/{folder.name}*`",
            )
        )
    if not running:
        data = root / "data"
        for path in sorted([*data.rglob(".*.tmp"), *data.rglob(".*.partial")]):
            where = str(path.relative_to(root))
            what = "half-written, left by a stage that was killed"
            remedy = f"the stage's next run removes it, or `rm -r {where}`"
            if path.name.endswith(".before.tmp"):  # see `runtime.atomic_output`: it may be the only whole one
                what = "an earlier output, left by a stage that was killed while it put the next in its place"
                remedy = "the stage's next run puts it back or removes it"
            findings.append(Finding(what, where, remedy))
    return Check(name, f"{kept} kept states of trainings" if kept else "nothing left behind", findings)


def _is_locked(lock: Path) -> bool:
    """Whether a process holds a lock of `runtime.scratch_folder`."""
    try:
        import fcntl
    except ImportError:
        return False
    if not lock.is_file():
        return False
    with lock.open() as file:
        try:  # shared, and given back at once: a stage that starts in this microsecond would be refused
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def stale_cells(root: Path, params: Params) -> Check:
    """Rows of the table, and files, of budgets and ratios that the parameters no longer declare."""
    from pipeline.evaluation.cells import Grid

    findings = []
    table = root / "data/metrics/cells.csv"
    rows = 0
    if table.is_file():
        declared = set(Grid.declared(params.study).cells())
        undeclared: dict[str, int] = {}
        try:
            with table.open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    rows += 1
                    ratio = float(row["synthetic_per_real"])
                    if (row["budget"], row["arm"], ratio, int(row["replicate"])) not in declared:
                        cell = f"budget {row['budget']}, {row['arm']} at {ratio:g}"
                        undeclared[cell] = undeclared.get(cell, 0) + 1
        except (KeyError, ValueError, TypeError, OSError) as error:
            what = f"not a readable table ({_words(error)})"
            findings.append(Finding(what, "data/metrics/cells.csv", "`dvc repro` makes it again"))
        findings += [
            Finding(
                f"{count} rows of {cell}, which params.yaml does not declare",
                "data/metrics/cells.csv",
                "`dvc repro` makes the table of what is declared",
            )
            for cell, count in undeclared.items()
        ]
    try:
        undeclared_files = [path.relative_to(root.resolve()) for path in _undeclared_files(root)]
    except Exception as error:  # DVC raises its own kinds; that it cannot open the project is found above
        return Check(
            "cells", f"{rows} rows of data/metrics/cells.csv; files not checked ({_words(error)})", findings
        )
    findings += [
        Finding(
            "of a budget or ratio that params.yaml no longer declares; no table reads it",
            str(path),
            f"keep it for when it comes back, or `rm -r {path}`",
        )
        for path in undeclared_files
    ]
    return Check("cells", f"{rows} rows of data/metrics/cells.csv, and the folders of each budget", findings)


def _undeclared_files(root: Path) -> list[Path]:
    """What lies in the folders of the declared outputs (but for `data` itself) and belongs to none of them."""
    from dvc.repo import Repo

    data = root.resolve() / "data"
    with Repo(str(root)) as repo:
        declared = {Path(out.fs_path) for out in repo.index.outs}
    above = {folder for out in declared for folder in out.parents if data in folder.parents}
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
        from pipeline.runs import experiment_name, plan_runs
        from pipeline.store import find_store
        from pipeline.tracking import compare_with_store
    except Exception as error:  # a broken installation raises nearly anything; it has a finding below
        return Check(name, f"not checked: MLflow cannot be imported ({_words(error)})")
    params_file = params_file.resolve()
    try:
        with chdir(root):  # a run names its images by their paths from here
            runs = plan_runs(
                params,
                params_file=params_file,
                metrics=Path("data/metrics"),
                gan=Path("data/gan"),
                synthetic=Path("data/synthetic"),
                prepared=Path("data/prepared"),
                report=Path("data/report"),
            )
            store = find_store(os.environ, root)
            comparison = compare_with_store(runs, experiment=experiment_name(params), store=store)
    except SynthGainError as error:  # no results here yet, or no store, which has a finding below
        return Check(name, f"not checked: {_words(error)}")
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
        from pipeline.store import find_store
        from pipeline.tracking import runs_left_running
    except Exception as error:  # a broken installation raises nearly anything
        return Check(name, "", [Finding(f"cannot be imported ({_words(error)})", "mlflow", "`make install`")])
    try:
        store = find_store(os.environ, root)
        if store.database is not None and not store.database.exists():
            return Check(name, f"no store at {store} yet")
        left = runs_left_running(store)
    except SynthGainError as error:
        where, _, what = str(error).partition(": ")
        return Check(name, "", [Finding(what, where, "the results themselves are files and not affected")])
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


def _words(error: BaseException) -> str:
    return without_secrets(" ".join(str(error).split()) or type(error).__name__)[:200]


def as_json(checks: Sequence[Check]) -> dict[str, Any]:
    """The checks for a machine: each finding with its check, what, where and remedy."""
    return {
        "python": sys.version.split()[0],
        "checks": [{"name": check.name, "seen": check.seen} for check in checks],
        "findings": [
            {"check": check.name, "what": one.what, "where": one.where, "remedy": one.remedy}
            for check in checks
            for one in check.findings
        ],
    }
