"""What the registry is to hold of a finished study: the generator whose images are exported, with its card."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.export.generator import describe_generator
from pipeline.export.quality import read_quality
from pipeline.export.selection import select_budget
from pipeline.export.source import open_images
from pipeline.params import Params
from pipeline.results import ResultFolders
from pipeline.study.subsets import replicate_index
from pipeline.study.trained_gans import load_trained_gans
from pipeline.tracking.champion import Candidate, find_candidate, reason_without_candidate


@dataclass(frozen=True)
class Registration:
    """A generator to register.

    Attributes:
        candidate: its file and its score.
        run_key: of the run that shows its training (`PlannedRun.key`).
        card: its model card, in Markdown.
    """

    candidate: Candidate
    run_key: str
    card: str


def plan_registration(params: Params, folders: ResultFolders) -> Registration | str:
    """The generator to register, or in words why there is none.

    Args:
        params: the parameters.
        folders: where the results lie.

    Raises:
        SynthGainError: if a file that is needed is missing or damaged.
    """
    metrics = folders.metrics
    selection = select_budget(
        metrics / "comparison.json", wanted=params.export.real_images, declared=params.study.real_images
    )
    budget, replicate = str(selection.budget), params.export.replicate
    index = replicate_index(replicate)
    gans = load_trained_gans(metrics / f"collapsed/{budget}.json")
    refusal = gans.refusal(replicate, declared=params.study.replicates) or reason_without_candidate(params)
    if refusal:
        return refusal
    candidate = find_candidate(
        params,
        cells=metrics / "cells.csv",
        splits=folders.prepared / "splits.json",
        generator=folders.gan / budget / str(index) / "generator.safetensors",
        budget=budget,
    )
    card = describe_generator(
        open_images(folders.synthetic / budget / f"{index}.npz"),
        source=params.data.source,
        study=selection.facts(),
        metrics=read_quality(metrics / f"synthetic/{budget}.json", replicate=replicate),
    )
    return Registration(candidate, f"gan/{budget}/{replicate}", card)
