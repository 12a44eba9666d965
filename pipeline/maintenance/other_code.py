"""Which results were made by other code than lies here: what `dvc repro` will run again after an update.

Only code and commands are compared, by DVC itself; data is not hashed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.maintenance.findings import Check, Finding, first_words
from pipeline.maintenance.stored_results import results_of_this_code
from pipeline.runtime.code import CODE
from pipeline.runtime.stage_inputs import read_yaml

if TYPE_CHECKING:
    from dvc.stage import Stage

_NAMED = 2  # stages that the line names; the others are counted


def code_of_results(root: Path) -> Check:
    """One finding where the stages of `dvc.lock` ran with other code or another command than dvc.yaml now names."""
    name = "code of the results"
    if not (root / "dvc.lock").is_file():
        return Check(name, "no dvc.lock: nothing was run here yet")
    try:
        stages = stages_of_other_code(root)
    except Exception as error:  # DVC raises its own kinds; what is wrong is found by the other checks
        return Check(name, f"not checked ({first_words(error)})")
    if not stages:
        return Check(name, "every stage of dvc.lock ran with the code that is here")
    named, others = stages[:_NAMED], len(stages) - _NAMED
    names = f"{', '.join(named)} and {others} more" if others > 0 else " and ".join(named)
    stored = results_of_this_code(root)
    store = f"the store holds {stored or 'no'} result{'s' if stored > 1 else ''} of this code"
    remedy = f"`dvc repro` runs {names} again ({store})"
    return Check(name, "", [Finding("made by another version of the code", "dvc.lock", remedy)])


def stages_of_other_code(root: Path) -> list[str]:
    """The stages that run again because of their code or command, in the order of dvc.yaml.

    Stages that `dvc.lock` does not know are counted only beside others that have changed: a new version has new stages,
    but so has a study with one ratio more.
    """
    from dvc.repo import Repo

    recorded = set(read_yaml(root / "dvc.lock")["stages"])
    with Repo(str(root)) as repo:
        stages = [stage for stage in repo.index.stages if not stage.frozen]
        names = [stage.name for stage in stages]
        changed = {stage.name for stage in stages if stage.name in recorded and _has_other_code(stage)}
    kinds = {name.partition("@")[0] for name in names}
    if not changed and all(name.partition("@")[0] in kinds for name in recorded):
        return []
    return [name for name in names if name in changed or name not in recorded]


def _has_other_code(stage: Stage) -> bool:
    if stage.cmd_changed:
        return True
    code = (dep for dep in stage.deps if Path(dep.def_path or "").parts[:1] in [(name,) for name in CODE])
    return any(dep.workspace_status() for dep in code)
