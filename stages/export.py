"""Stage `export`: the synthetic images that are handed over, in each declared format."""

from pathlib import Path
from typing import Annotated

import typer

from stages.command import PARAMS_FILE, Collapsed, ParamsFile, run


def main(
    comparison: Annotated[Path, typer.Option(help="The comparison, which says what is recommended.")],
    metrics: Annotated[Path, typer.Option(help="Folder of the generative metrics, <budget>.json each.")],
    synthetic: Annotated[
        Path, typer.Option(help="Folder of the synthetic images, <budget>/<replicate>.npz each.")
    ],
    gan: Annotated[Path, typer.Option(help="Folder of the GANs, <budget>/<replicate>/ each.")],
    collapsed: Collapsed,
    out: Annotated[Path, typer.Option(help="Folder to write one folder per format into.")],
    force: Annotated[bool, typer.Option("--force", help="Move a folder with foreign files aside.")] = False,
    params_file: ParamsFile = PARAMS_FILE,
) -> None:
    """Write the synthetic images as a data set to take away: images, card, manifest, Croissant and checksums.

    Their generator goes along, with a card of its own.

    Example: python -m stages.export --comparison data/metrics/comparison.json --metrics data/metrics/synthetic
    --synthetic data/synthetic --gan data/gan --collapsed data/metrics/collapsed --out data/export
    """
    from pipeline.export.dataset import export_dataset
    from pipeline.export.generator import export_generator
    from pipeline.export.quality import memorization_refusal, read_quality
    from pipeline.export.samples import select_samples
    from pipeline.export.selection import select_budget
    from pipeline.export.source import open_study_images
    from pipeline.gan.generators import generator_path
    from pipeline.gan.sampling import latent_hashes
    from pipeline.params import load_params
    from pipeline.runtime.device import available_cores
    from pipeline.runtime.outputs import write_text
    from pipeline.runtime.progress import counted
    from pipeline.study.subsets import replicate_index
    from pipeline.study.trained_gans import load_trained_gans

    params = load_params(params_file)
    selection = select_budget(comparison, wanted=params.export.real_images, declared=params.study.real_images)
    budget, replicate = selection.budget, params.export.replicate
    refusal = load_trained_gans(collapsed / f"{budget}.json").refusal(
        replicate, declared=params.study.replicates
    )
    if refusal is None:
        quality_file = metrics / f"{budget}.json"
        quality = read_quality(quality_file, replicate=replicate)
        if not params.export.allow_memorized:
            refusal = memorization_refusal(quality, where=f"{quality_file}: replicate {replicate}")
    if refusal:
        # A finding, not a failure: the study's tables, report and runs are as good as ever, and go on.
        write_text(out / "REFUSED.md", f"No images were exported.\n\n{refusal}.\n")
        typer.echo(f"NOT exported: {refusal}", err=True)
        return
    (out / "REFUSED.md").unlink(missing_ok=True)
    index = replicate_index(replicate)
    images = open_study_images(synthetic / str(budget) / f"{index}.npz", budget=budget, replicate=index)
    export_dataset(
        select_samples(images, latent_hashes=latent_hashes(images.provenance)),
        out,
        formats=params.export.formats,
        source=params.data.source,
        study=selection.facts(),
        metrics=quality,
        workers=params.execution.threads or available_cores(),
        force=force,
    )
    export_generator(
        generator_path(gan / str(budget) / str(index), 0),
        out,
        images=images,
        source=params.data.source,
        study=selection.facts(),
        metrics=quality,
    )
    typer.echo(f"{counted(len(images), 'synthetic image')} of budget {budget}, replicate {replicate}: {out}")
    typer.echo(f"note: {selection.advice} The cards have the reasons.")


if __name__ == "__main__":
    run(main)
