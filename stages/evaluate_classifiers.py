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

    from pipeline.arms import positive_ratios
    from pipeline.classifier.cells import load_cells, refuse_leak
    from pipeline.classifier.network import network_from, predict
    from pipeline.evaluation.table import cell_row, confusion_rows
    from pipeline.images import LabeledImages, pixel_keys
    from pipeline.params import load_params
    from pipeline.progress import progress
    from pipeline.runtime import configure, write_text

    params = load_params(params_file)
    device = configure(params.execution)
    held_out, unseen = LabeledImages.load(validation), LabeledImages.load(test)
    held_out_pixels = {"validation": pixel_keys(held_out.images), "test": pixel_keys(unseen.images)}
    files = []
    for budget in params.study.real_images:
        folder = classifiers / str(budget)
        files += [folder / "baselines.safetensors", folder / "fill.safetensors"]
        files += [
            folder / kind / f"{ratio}.safetensors"
            for ratio in positive_ratios(params.study.synthetic_per_real)
            for kind in ("augmented", "controls")
        ]
    rows, confusions = [], []
    with progress("evaluating classifiers", len(files), "files") as advance:
        for file in files:
            trained, arguments = load_cells(file)
            for cell in trained:
                for split, keys in held_out_pixels.items():
                    refuse_leak(cell, keys, split=split)
                network = network_from(arguments, cell.weights, device)
                on_test = predict(network, unseen.images, device)
                rows.append(
                    cell_row(
                        cell.facts,
                        validation=held_out,
                        validation_predictions=predict(network, held_out.images, device),
                        test=unseen,
                        test_predictions=on_test,
                    )
                )
                confusions += confusion_rows(cell.facts, test=unseen, test_predictions=on_test)
            advance(1)
    write_text(cells, pd.DataFrame(rows).round(6).to_csv(index=False, lineterminator="\n"))
    write_text(confusion, pd.DataFrame(confusions).to_csv(index=False, lineterminator="\n"))


if __name__ == "__main__":
    run(main)
