"""The arms of a stage, from their training to the file of their classifiers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.classifier.saved_cells import save_cells
from pipeline.runtime.parallel import preload_workers

if TYPE_CHECKING:
    from pipeline.params import Augmentation, Classifier, Execution, Pool
    from pipeline.study.arms import Arm
    from pipeline.study.training_sets import ReplicateImages


def train_declared_arms(
    path: Path,
    arms: Sequence[Arm],
    replicates: Iterable[ReplicateImages],
    *,
    count: int,
    synthetic_per_real: float,
    classifier: Classifier,
    augmentation: Augmentation,
    seed: int,
    execution: Execution,
    label: str,
    pool: Pool | None = None,
) -> None:
    """Train every arm on every replicate (`train_cells`) and write all classifiers to `path`; no arm, no classifiers.

    torch is imported here, by the workers while this process does it too: with no arm, not at all.
    """
    if not arms:
        print(f"{label}: no such arm is declared, nothing to train", flush=True)
        save_cells(path, [], arguments={})
        return
    preload_workers("pipeline.classifier.replicates", execution, trainings=len(arms) * count)
    from pipeline.classifier.replicates import train_cells

    cells, arguments = train_cells(
        arms,
        replicates,
        count=count,
        synthetic_per_real=synthetic_per_real,
        classifier=classifier,
        augmentation=augmentation,
        seed=seed,
        execution=execution,
        label=label,
        pool=pool,
    )
    save_cells(path, cells, arguments=arguments)
