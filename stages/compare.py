"""Stage `compare`: paired differences, intervals and the verdict, from the table of cells."""

from pathlib import Path
from typing import Annotated

import typer

from stages.command import PARAMS_FILE, Collapsed, ParamsFile, run


def main(
    cells: Annotated[Path, typer.Option(help="One row per trained classifier (CSV).")],
    confusion: Annotated[Path, typer.Option(help="Test predictions counted per cell (CSV).")],
    collapsed: Collapsed,
    out: Annotated[Path, typer.Option(help="The comparison to write (JSON).")],
    params_file: ParamsFile = PARAMS_FILE,
) -> None:
    """Compare the arms replicate by replicate and say whether synthetic images helped.

    Example: python -m stages.compare --cells data/metrics/cells.csv
    --confusion data/metrics/confusion.csv --collapsed data/metrics/collapsed --out data/metrics/comparison.json
    """
    import json

    from rich.console import Console

    from pipeline.comparison.cells import count_test_images, load_cells, load_confusion
    from pipeline.comparison.rare_classes import with_imbalance
    from pipeline.comparison.verdict import compare_cells, verdict_table, verdicts
    from pipeline.params import load_params
    from pipeline.runtime.outputs import write_text
    from pipeline.study.grid import Grid
    from pipeline.study.trained_gans import trained_gans

    params = load_params(params_file)
    study = params.study
    grid = Grid.declared(study, trained_gans(collapsed, study.real_images))
    table, ignored = load_cells(cells, grid)
    counts = load_confusion(confusion, grid)
    comparison = with_imbalance(
        compare_cells(table, grid, test_images=count_test_images(counts)), table, counts, grid
    )
    write_text(out, json.dumps(comparison, indent=2, sort_keys=True) + "\n")
    if ignored:
        print(f"{cells}: {ignored} rows of cells that params.yaml does not declare were ignored")
    console = Console(markup=False, highlight=False)  # a class may hold brackets
    console.print(verdict_table(comparison))
    for sentence in (*verdicts(comparison), comparison.get("unequal_classes")):
        if sentence:
            console.print(sentence)


if __name__ == "__main__":
    run(main)
