"""Stage `generate`: labelled synthetic images from every generator of a budget."""

from pathlib import Path
from typing import Annotated

import typer

from stages.command import PARAMS_FILE, Budget, Collapsed, ParamsFile, run


def main(
    gan: Annotated[Path, typer.Option(help="Folder of the GANs, <budget>/<replicate> each.")],
    budget: Budget,
    collapsed: Collapsed,
    held_out: Annotated[Path, typer.Option(help="The keys of validation and test images.")],
    out: Annotated[
        Path, typer.Option(help="Folder for the synthetic images, <budget>/<replicate>.npz each.")
    ],
    params_file: ParamsFile = PARAMS_FILE,
) -> None:
    """Generate the same number of images of each class from each replicate's generator, or generators.

    Those of a generator of your own are there already: none may be a copy of a validation or test image.

    Example: python -m stages.generate --budget 1000 --gan data/gan --collapsed data/metrics/collapsed
    --held-out data/prepared/held_out_keys.npz --out data/synthetic
    """
    from pipeline.checkpoints import file_sha256
    from pipeline.foreign.kept import checked_images, generated_file
    from pipeline.gan.generators import generator_path, load_generator
    from pipeline.gan.sampling import interleaved, synthetic_images
    from pipeline.held_out import read_held_out_keys
    from pipeline.params import load_params
    from pipeline.runtime.device import configure
    from pipeline.runtime.outputs import atomic_output
    from pipeline.runtime.progress import progress
    from pipeline.runtime.seeds import derive_seed
    from pipeline.study.subsets import replicate_number
    from pipeline.study.trained_gans import remaining_replicates

    params = load_params(params_file)
    device = configure(params.execution)
    replicates = remaining_replicates(collapsed / f"{budget}.json", declared=params.study.replicates)
    keys = read_held_out_keys(held_out)
    with atomic_output(out / budget) as folder:
        folder.mkdir()
        for replicate in replicates:
            name = f"images {budget}, replicate {replicate_number(replicate)}"
            parts = []
            for member in range(params.study.generators_per_replicate):
                if params.generator.kind != "gan":
                    file = generated_file(gan / budget / str(replicate), member)
                    parts.append(checked_images(file, keys, name=name))
                    continue
                path = generator_path(gan / budget / str(replicate), member)
                generator, class_names, provenance = load_generator(path, device)
                total = params.generation.images_per_class * len(class_names)
                with progress(name, total, "images") as advance:
                    images = synthetic_images(
                        generator,
                        class_names=class_names,
                        images_per_class=params.generation.images_per_class,
                        seed=derive_seed(params.seed, "generate", budget, replicate),
                        latent_std=params.generation.latent_std,
                        provenance={**provenance, "generator_sha256": file_sha256(path)},
                        device=device,
                        advance=advance,
                    )
                parts.append(images)
            interleaved(parts).save(folder / f"{replicate}.npz")


if __name__ == "__main__":
    run(main)
