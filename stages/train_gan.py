"""Stage `train_gan`: one conditional GAN per replicate of a budget."""

from pathlib import Path
from typing import Annotated

import typer

from stages.command import PARAMS_FILE, ParamsFile, run


def main(
    budget: Annotated[str, typer.Option(help="Real images per replicate, one of study.real_images.")],
    train: Annotated[Path, typer.Option(help="The real train split.")],
    out: Annotated[Path, typer.Option(help="Folder for the generators, one folder per replicate.")],
    history: Annotated[Path, typer.Option(help="CSV of each replicate's (first) training history.")],
    params_file: ParamsFile = PARAMS_FILE,
) -> None:
    """Train a conditional GAN, or several, on each replicate's own real subset.

    Example: python -m stages.train_gan --budget 1000 --train data/prepared/train.npz --out data/gan/1000
    --history data/metrics/gan/1000.csv
    """
    import pandas as pd
    import torch

    from pipeline.arms import parse_budget, real_subset
    from pipeline.checkpoints import code_sha256, file_sha256
    from pipeline.gan.film import save_film_strip
    from pipeline.gan.generators import generator_path, save_generator
    from pipeline.gan.training import train_gan
    from pipeline.images import LabeledImages
    from pipeline.params import load_params
    from pipeline.runtime import (
        atomic_output,
        configure,
        derive_seed,
        scratch_folder,
        training_dtype,
        write_text,
    )

    params = load_params(params_file)
    device = configure(params.execution)
    dtype = training_dtype(params.execution, device)
    real = LabeledImages.load(train)
    rows = []
    fingerprint = {
        "gan": params.gan.model_dump(),
        "imbalance": params.study.imbalance,
        "seed": params.seed,
        "train": file_sha256(train),
        "code": code_sha256("pipeline/gan"),
        "torch": torch.__version__,
        "computed": [device.type, str(dtype), torch.get_num_threads()],
    }
    # Every replicate's state is kept until all are done: a killed stage goes on where it was.
    with scratch_folder("gan", budget, fingerprint=fingerprint) as scratch, atomic_output(out) as folder:
        for replicate in range(params.study.replicates):
            subset = real_subset(
                real,
                budget=parse_budget(budget),
                replicate=replicate,
                seed=params.seed,
                imbalance=params.study.imbalance,
            )
            target = folder / str(replicate)
            target.mkdir(parents=True)
            for member in range(params.study.generators_per_replicate):
                # What stands beside the first generator of a replicate is named after its number.
                number = (member,) if member else ()
                suffix = "".join(f"_{one}" for one in number)
                seed = derive_seed(params.seed, "gan", budget, replicate, *number)
                what = f"GAN {budget}{suffix}, replicate {replicate + 1} of {params.study.replicates}"
                result = train_gan(
                    subset,
                    params.gan,
                    seed=seed,
                    device=device,
                    dtype=dtype,
                    scratch=scratch / f"{replicate}{suffix}",
                    what=what,
                )
                save_generator(
                    generator_path(target, member),
                    result.generator,
                    class_names=subset.class_names,
                    provenance={**subset.provenance, "gan_seed": seed},
                )
                save_film_strip(target / f"film_strip{suffix}.png", result.film_strip)
                if member:
                    table = pd.DataFrame(result.history).round(6)
                    write_text(
                        target / f"history{suffix}.csv", table.to_csv(index=False, lineterminator="\n")
                    )
                else:
                    rows += [{"replicate": replicate, **row} for row in result.history]
    write_text(history, pd.DataFrame(rows).round(6).to_csv(index=False, lineterminator="\n"))


if __name__ == "__main__":
    run(main)
