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

    import pandas as pd

    from pipeline.images import LabeledImages, pixel_sha256
    from pipeline.params import load_params
    from pipeline.runtime.commit import project_commit
    from pipeline.runtime.outputs import write_text
    from pipeline.scoring.cell_rows import cell_row, confusion_rows, few_of_validation
    from pipeline.scoring.judgements import content_key, judgement_line, record_judgement
    from pipeline.scoring.pool_rows import pool_rows, pool_table
    from pipeline.scoring.prediction import predictions_of_cells
    from pipeline.scoring.subset_overlap import subset_overlaps
    from pipeline.sources.splits import all_pixels_sha256
    from pipeline.study.grid import positive_ratios
    from pipeline.study.subsets import replicate_number

    params = load_params(params_file)
    held_out, unseen = LabeledImages.load(validation), LabeledImages.load(test)
    real = LabeledImages.load(train)
    files, rows_of_pools = [], []
    overlaps, few = {}, {}
    for budget in params.study.real_images:
        folder = classifiers / str(budget)
        few[budget] = few_of_validation(held_out, budget, seed=params.seed)
        overlaps[budget] = subset_overlaps(folder / "baselines.safetensors")
        files += [folder / f"{kind}.safetensors" for kind in ("baselines", "fill", "pool")]
        files += [
            folder / kind / f"{ratio}.safetensors"
            for ratio in positive_ratios(params.study.synthetic_per_real)
            for kind in ("augmented", "controls")
        ]
        rows_of_pools += pool_rows(
            real,
            labels / f"{budget}.npz",
            budget=budget,
            size=params.study.pool,
            seed=params.seed,
            imbalance=params.study.imbalance,
        )
    rows, confusions, judged = [], [], []
    splits = {"validation": held_out.images, "test": unseen.images}
    for facts, seen in predictions_of_cells(files, splits, execution=params.execution):
        rows.append(
            cell_row(
                facts,
                metric=params.study.metric,
                subset_overlap=overlaps[facts["budget"]][replicate_number(facts["replicate"])],
                few=few[facts["budget"]],
                validation=held_out,
                validation_predictions=seen["validation"],
                test=unseen,
                test_predictions=seen["test"],
            )
        )
        confusions += confusion_rows(facts, test=unseen, test_predictions=seen["test"])
        judged.append((facts, seen["test"]))
    table = pd.DataFrame(rows).round(6)
    test_sha256 = all_pixels_sha256(pixel_sha256(unseen.images))
    budgets = " and ".join(str(budget) for budget in params.study.real_images)
    line = judgement_line(
        table,
        key=content_key(test_sha256, judged, params.study.metric),
        metric=params.study.metric,
        test_sha256=test_sha256,
        study=f"{params.data.source}, {budgets} real images, {params.study.replicates} replicates",
        params_sha256=hashlib.sha256(params_file.read_bytes()).hexdigest(),
        commit=project_commit(),
        seed=params.seed,
    )
    if record_judgement(judgements, line):  # before the results: none is seen that is not on record
        print(f"{judgements}: this judgement on test is on record")
    write_text(pool, pool_table(rows_of_pools).to_csv(index=False, lineterminator="\n"))
    write_text(cells, table.to_csv(index=False, lineterminator="\n"))
    write_text(confusion, pd.DataFrame(confusions).to_csv(index=False, lineterminator="\n"))


if __name__ == "__main__":
    run(main)
