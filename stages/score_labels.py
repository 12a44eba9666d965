"""Stage `score_labels`: how sure classifiers of the real subset alone are of the labels of synthetic images."""

from pathlib import Path
from typing import Annotated

import typer

from stages.command import PARAMS_FILE, ParamsFile, run


def main(
    budget: Annotated[str, typer.Option(help="Real images per replicate, one of study.real_images.")],
    train: Annotated[Path, typer.Option(help="The real train split.")],
    synthetic: Annotated[Path, typer.Option(help="Folder of the budget's synthetic images.")],
    out: Annotated[Path, typer.Option(help="File for the scores of every synthetic image.")],
    metrics: Annotated[Path, typer.Option(help="JSON with the share of images that the filter accepts.")],
    params_file: ParamsFile = PARAMS_FILE,
) -> None:
    """Judge the label of each synthetic image with classifiers cross-fitted on its replicate's own real subset.

    While study.arms names no filtered arm, nothing is judged: both files are written without a replicate.

    Example: python -m stages.score_labels --budget 1000 --train data/prepared/train.npz --synthetic
    data/synthetic/1000 --out data/label_scores/1000.npz --metrics data/metrics/label_scores/1000.json
    """
    import json

    from pipeline.arms import AUGMENTED_ARMS, declared_arms, parse_budget, real_subset
    from pipeline.classifier.cross_fitting import cross_fitted_agreement
    from pipeline.images import LabeledImages
    from pipeline.label_filter import acceptance, save_agreements
    from pipeline.params import load_params
    from pipeline.progress import progress
    from pipeline.runtime import configure, derive_seed, training_dtype, write_text

    params = load_params(params_file)
    device = configure(params.execution)
    real = LabeledImages.load(train)
    filtered = any(arm.filtered for arm in declared_arms(AUGMENTED_ARMS, params.study.arms))
    agreements, shares = [], {}
    steps = params.study.label_filter_folds * params.study.label_filter_steps
    for replicate in range(params.study.replicates if filtered else 0):
        images = LabeledImages.load(synthetic / f"{replicate}.npz")
        with progress(f"label scores {budget}, replicate {replicate + 1}", steps, "steps") as advance:
            agreement = cross_fitted_agreement(
                real_subset(
                    real,
                    budget=parse_budget(budget),
                    replicate=replicate,
                    seed=params.seed,
                    imbalance=params.study.imbalance,
                ),
                images,
                classifier=params.classifier,
                folds=params.study.label_filter_folds,
                steps=params.study.label_filter_steps,
                least_probability=params.study.label_filter,
                seed=derive_seed(params.seed, "label filter", budget, replicate),
                device=device,
                dtype=training_dtype(params.execution, device),
                advance=advance,
            )
        agreements.append(agreement)
        shares[str(replicate)] = acceptance(images, agreement, least_probability=params.study.label_filter)
    save_agreements(out, agreements)
    facts = {"least_probability": params.study.label_filter, "replicates": shares}
    write_text(metrics, json.dumps(facts, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    run(main)
