"""Stage `evaluate_classifiers`: every cell on the validation and on the test split, in one tidy table."""

from pathlib import Path
from typing import Annotated

import typer

from stages.command import PARAMS_FILE, ParamsFile, run


def main(
    classifiers: Annotated[Path, typer.Option(help="Folder of the trained classifiers.")],
    validation: Annotated[Path, typer.Option(help="The real validation split.")],
    test: Annotated[Path, typer.Option(help="The real test split.")],
    train: Annotated[Path, typer.Option(help="The real train split: the true labels of the pools.")],
    labels: Annotated[Path, typer.Option(help="Folder of the pseudo-labels, <budget>.npz each.")],
    pool: Annotated[Path, typer.Option(help="CSV with a row per pool: how many pseudo-labels are right.")],
    cells: Annotated[Path, typer.Option(help="CSV with a row per cell.")],
    confusion: Annotated[Path, typer.Option(help="CSV with the confusion counts of every cell on test.")],
    judgements: Annotated[Path, typer.Option(help="The record of judgements on test (CSV), to be added to.")],
    params_file: ParamsFile = PARAMS_FILE,
) -> None:
    """Measure the cells that the parameters declare, and only those.

    Example: python -m stages.evaluate_classifiers --classifiers data/classifier --validation
    data/prepared/validation.npz --test data/prepared/test.npz --train data/prepared/train.npz --labels
    data/pseudo_labels --pool data/metrics/pool.csv --cells data/metrics/cells.csv --confusion
    data/metrics/confusion.csv --judgements judgements.csv
    """
    import hashlib

    from pipeline.params import load_params
    from pipeline.runtime.parallel import preload_workers

    params = load_params(params_file)
    preload_workers(
        "pipeline.scoring.prediction", params.execution, trainings=2
    )  # files of classifiers, or more

    from pipeline.images import LabeledImages, pixel_sha256
    from pipeline.runtime.commit import project_commit
    from pipeline.runtime.outputs import write_text
    from pipeline.scoring.judgements import content_key, judgement_line, record_judgement
    from pipeline.scoring.pool_rows import score_pools
    from pipeline.scoring.scored_cells import score_cells
    from pipeline.sources.splits import all_pixels_sha256

    unseen = LabeledImages.load(test)
    pools = score_pools(
        LabeledImages.load(train),
        labels,
        budgets=params.study.real_images,
        size=params.study.pool,
        seed=params.seed,
        imbalance=params.study.imbalance,
    )
    scored = score_cells(
        classifiers,
        budgets=params.study.real_images,
        ratios=params.study.synthetic_per_real,
        metric=params.study.metric,
        validation=LabeledImages.load(validation),
        test=unseen,
        seed=params.seed,
        execution=params.execution,
    )
    test_sha256 = all_pixels_sha256(pixel_sha256(unseen.images))
    budgets = " and ".join(str(budget) for budget in params.study.real_images)
    line = judgement_line(
        scored.cells,
        key=content_key(test_sha256, scored.judged, params.study.metric),
        metric=params.study.metric,
        test_sha256=test_sha256,
        study=f"{params.data.source}, {budgets} real images, {params.study.replicates} replicates",
        params_sha256=hashlib.sha256(params_file.read_bytes()).hexdigest(),
        commit=project_commit(),
        seed=params.seed,
    )
    if record_judgement(judgements, line):  # before the results: none is seen that is not on record
        print(f"{judgements}: this judgement on test is on record")
    for file, table in ((pool, pools), (cells, scored.cells), (confusion, scored.confusion)):
        write_text(file, table.to_csv(index=False, lineterminator="\n"))


if __name__ == "__main__":
    run(main)
