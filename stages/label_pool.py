"""Stage `label_pool`: what classifiers of the real subset alone take the images of the pool for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from stages.command import PARAMS_FILE, Budget, ParamsFile, run


def main(
    budget: Budget,
    train: Annotated[Path, typer.Option(help="The real train split.")],
    out: Annotated[Path, typer.Option(help="Folder for the pseudo-labels of the pools, <budget>.npz each.")],
    metrics: Annotated[Path, typer.Option(help="Folder for how many are sure enough, <budget>.json each.")],
    params_file: ParamsFile = PARAMS_FILE,
) -> None:
    """Give each image of a replicate's pool the class that a classifier of its real subset finds likeliest.

    While no arm and no generator needs pseudo-labels, both files are written without a replicate.

    Example: python -m stages.label_pool --budget 100 --train data/prepared/train.npz --out data/pseudo_labels
    --metrics data/metrics/pseudo_labels
    """
    import json

    from pipeline.images import Indices, LabeledImages
    from pipeline.params import load_params
    from pipeline.runtime.outputs import write_text
    from pipeline.runtime.parallel import preload_workers
    from pipeline.study.arms import ARMS
    from pipeline.study.pool import pool_indices, save_pseudo_labels
    from pipeline.study.subsets import parse_budget, real_subsets, replicate_number
    from pipeline.study.training_sets import needs_pseudo_labels

    params = load_params(params_file)
    size = parse_budget(budget)
    arms = [ARMS[name] for name in params.study.arms]
    needed = needs_pseudo_labels(arms, params.study.generators_train_on)
    count = params.study.replicates if needed else 0
    real = LabeledImages.load(train)

    def replicates() -> Iterator[tuple[LabeledImages, Indices]]:
        for subset in real_subsets(
            real, budget=size, replicates=range(count), seed=params.seed, imbalance=params.study.imbalance
        ):
            yield subset, pool_indices(real, subset, size=params.study.pool, seed=params.seed)

    found = {}
    if count:
        preload_workers("pipeline.classifier.replicates", params.execution, trainings=count)
        from pipeline.classifier.pseudo_labels import pseudo_labels  # torch: two seconds

        labelled = pseudo_labels(
            real,
            replicates(),
            count=count,
            classifier=params.classifier.of_budget(size),
            augmentation=params.augmentation,
            pool=params.pool,
            seed=params.seed,
            execution=params.execution,
            label=f"pseudo-labels, {budget} real",
        )
        for replicate, given in labelled:
            found[replicate] = given
            kept = f"{given.kept.sum()} of {len(given.labels)} pseudo-labels are sure enough"
            typer.echo(f"replicate {replicate_number(replicate)}: {given.collapse or kept}")
    save_pseudo_labels(out / f"{budget}.npz", found)
    facts = {
        str(replicate_number(replicate)): given.facts(real.class_names) for replicate, given in found.items()
    }
    write_text(metrics / f"{budget}.json", json.dumps(facts, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    run(main)
