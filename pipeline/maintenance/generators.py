"""Whether the code that is here can load the generators that are here: after an update, it may not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import SynthGainError
from pipeline.maintenance.findings import Check, Finding, first_words
from pipeline.params import Params

_REMEDY = "`dvc repro` trains it again"


def generators(root: Path, params: Params) -> Check:
    """Every generator of the declared study that is there, and the champion of MLflow's registry."""
    name = "generators"
    if params.generator.kind != "gan":
        return Check(name, f"generator.kind {params.generator.kind}: none of this project")
    try:
        import torch

        from pipeline.gan.generators import load_generator
    except Exception as error:  # a broken installation raises nearly anything; it has a finding above
        return Check(name, f"not checked: torch cannot be imported ({first_words(error)})")
    findings, count = [], 0
    for path in _declared_files(params):
        if not (root / path).is_file():
            continue
        count += 1
        try:
            load_generator(root / path, torch.device("cpu"))
        except SynthGainError as error:
            problem = str(error).removeprefix(f"{root / path}: ").removesuffix("; train it again")
            findings.append(Finding(problem, str(path), _REMEDY))
    seen, more = _champion(root, params)
    return Check(name, f"{count} of the declared study; {seen}", [*findings, *more])


def _declared_files(params: Params) -> Iterator[Path]:
    from pipeline.gan.generators import generator_path

    for budget in params.study.real_images:
        for replicate in range(params.study.replicates):
            for member in range(params.study.generators_per_replicate):
                yield generator_path(Path("data/gan") / str(budget) / str(replicate), member)


def _champion(root: Path, params: Params) -> tuple[str, list[Finding]]:
    """What was seen of the registry, and the finding if its champion cannot be loaded."""
    try:
        from pipeline.tracking.planned_runs import experiment_name
        from pipeline.tracking.registry import CHAMPION, unreadable_champion
        from pipeline.tracking.store import find_store
    except Exception as error:  # a broken installation raises nearly anything
        return f"MLflow cannot be imported ({first_words(error)})", []
    model = experiment_name(params)
    try:
        found = unreadable_champion(model, find_store(os.environ, root))
    except SynthGainError as error:  # the store, or the champion of somebody else
        return f"champion not checked: {first_words(error)}", []
    if found is None:
        return "the champion can be loaded, or there is none", []
    version, reason = found
    remedy = "`dvc repro` registers a generator of this version, and the alias moves to it"
    return "the champion cannot be loaded", [
        Finding(f"version {version}: {reason}", f"models:/{model}@{CHAMPION}", remedy)
    ]
