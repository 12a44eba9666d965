"""Stage `evaluate_classifiers`: every cell on the validation and on the test split, in one tidy table."""

from pathlib import Path
from typing import Annotated

import typer

from stages.command import PARAMS_FILE, ParamsFile, run


def main(
    classifiers: Annotated[Path, typer.Option(help="Folder of the trained classifiers.")],
    validation: Annotated[Path, typer.Option(help="The real validation split.")],
    test: Annotated[Path, typer.Option(help="The real test split.")],
    cells: Annotated[Path, typer.Option(help="CSV with a row per cell.")],
    confusion: Annotated[Path, typer.Option(help="CSV with the confusion counts of every cell on test.")],
    params_file: ParamsFile = PARAMS_FILE,
) -> None:
    """Measure the cells that the parameters declare, and only those.

    Example: python -m stages.evaluate_classifiers --classifiers data/classifier --validation
    data/prepared/validation.npz --test data/prepared/test.npz --cells data/metrics/cells.csv --confusion
    data/metrics/confusion.csv
    """
    import pandas as pd

    from pipeline.images import LabeledImages
    from pipeline.params import load_params
    from pipeline.runtime.outputs import write_text
    from pipeline.scoring.cell_rows import cell_row, confusion_rows
    from pipeline.scoring.prediction import predictions_of_cells
    from pipeline.scoring.subset_overlap import subset_overlaps
    from pipeline.study.grid import positive_ratios
    from pipeline.study.subsets import replicate_number

    params = load_params(params_file)
    held_out, unseen = LabeledImages.load(validation), LabeledImages.load(test)
    files = []
    overlaps = {}
    for budget in params.study.real_images:
        folder = classifiers / str(budget)
        overlaps[budget] = subset_overlaps(folder / "baselines.safetensors")
        files += [folder / "baselines.safetensors", folder / "fill.safetensors"]
        files += [
            folder / kind / f"{ratio}.safetensors"
            for ratio in positive_ratios(params.study.synthetic_per_real)
            for kind in ("augmented", "controls")
        ]
    rows, confusions = [], []
    splits = {"validation": held_out.images, "test": unseen.images}
    for facts, seen in predictions_of_cells(files, splits, execution=params.execution):
        rows.append(
            cell_row(
                facts,
                subset_overlap=overlaps[facts["budget"]][replicate_number(facts["replicate"])],
                validation=held_out,
                validation_predictions=seen["validation"],
                test=unseen,
                test_predictions=seen["test"],
            )
        )
        confusions += confusion_rows(facts, test=unseen, test_predictions=seen["test"])
    write_text(cells, pd.DataFrame(rows).round(6).to_csv(index=False, lineterminator="\n"))
    write_text(confusion, pd.DataFrame(confusions).to_csv(index=False, lineterminator="\n"))


if __name__ == "__main__":
    run(main)
