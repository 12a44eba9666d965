"""Stage `report`: one self-contained HTML page, and its pictures as files."""

from pathlib import Path
from typing import Annotated

import typer

from stages.command import PARAMS_FILE, ParamsFile, run


def main(
    metrics: Annotated[Path, typer.Option(help="Folder of the metrics: cells, comparison, histories.")],
    gan: Annotated[Path, typer.Option(help="Folder of the GANs: their film strips.")],
    synthetic: Annotated[Path, typer.Option(help="Folder of the synthetic images.")],
    prepared: Annotated[Path, typer.Option(help="Folder of the real splits; test is not read.")],
    judgements: Annotated[Path, typer.Option(help="The record of judgements on test (CSV); may be missing.")],
    out: Annotated[Path, typer.Option(help="Folder to write: index.html and figures/.")],
    params_file: ParamsFile = PARAMS_FILE,
) -> None:
    """Write the report: the verdict first, then curves, tables and pictures; it opens without a network.

    Example: python -m stages.report --metrics data/metrics --gan data/gan --synthetic data/synthetic
    --prepared data/prepared --judgements judgements.csv --out data/report
    """
    from pipeline.machine_paths import without_machine_paths
    from pipeline.params import load_params
    from pipeline.report.page import write_report
    from pipeline.results import ResultFolders, load_results
    from pipeline.scoring.judgements import count_judgements

    params = load_params(params_file)
    results = load_results(ResultFolders(metrics, gan, synthetic, prepared), params.study)
    write_report(
        results,
        out,
        settings={
            "seed": params.seed,
            "data": without_machine_paths(params.data.model_dump()),
            "study": params.study.model_dump(),
            "generator": without_machine_paths(params.generator.model_dump()),
            "gan": params.gan.model_dump(),
            "generation": params.generation.model_dump(),
            "extractor": params.extractor.model_dump(),
            "augmentation": params.augmentation.model_dump(),
            "classifier": params.classifier.model_dump(),
            "evaluation": params.evaluation.model_dump(),
            "report": params.report.model_dump(),
        },
        grid_images_per_class=params.report.grid_images_per_class,
        times_judged=count_judgements(judgements, results.splits["splits"]["test"]["pixels_sha256"]),
    )
    print(f"{out / 'index.html'}: open it in a browser")


if __name__ == "__main__":
    run(main)
