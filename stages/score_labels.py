"""Stage `score_labels`: how sure classifiers of the real subset alone are of the labels of synthetic images."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from stages.command import PARAMS_FILE, Budget, Collapsed, ParamsFile, run


def main(
    budget: Budget,
    train: Annotated[Path, typer.Option(help="The real train split.")],
    synthetic: Annotated[
        Path, typer.Option(help="Folder of the synthetic images, <budget>/<replicate>.npz each.")
    ],
    collapsed: Collapsed,
    out: Annotated[
        Path, typer.Option(help="Folder for the scores of every synthetic image, <budget>.npz each.")
    ],
    metrics: Annotated[Path, typer.Option(help="Folder for the share of images that the filter accepts.")],
    params_file: ParamsFile = PARAMS_FILE,
) -> None:
    """Judge the label of each synthetic image with classifiers cross-fitted on its replicate's own real subset.

    While study.arms names no filtered arm, nothing is judged: both files are written without a replicate.

    Example: python -m stages.score_labels --budget 1000 --train data/prepared/train.npz --synthetic
    data/synthetic --collapsed data/metrics/collapsed --out data/label_scores --metrics data/metrics/label_scores
    """
    import json

    from pipeline.images import LabeledImages
    from pipeline.params import load_params
    from pipeline.runtime.outputs import write_text
    from pipeline.runtime.parallel import preload_workers
    from pipeline.runtime.seeds import derive_seed
    from pipeline.study.arms import arms_at
    from pipeline.study.label_filter import LabelAgreement, acceptance, save_agreements
    from pipeline.study.subsets import parse_budget, real_subset, replicate_number
    from pipeline.study.trained_gans import remaining_replicates

    params = load_params(params_file)
    real = LabeledImages.load(train)
    filtered = any(arm.filtered for arm in arms_at("augmented", params.study.arms))
    remaining = remaining_replicates(collapsed / f"{budget}.json", declared=params.study.replicates)
    agreements: dict[int, LabelAgreement] = {}
    shares = {}
    if filtered:
        preload_workers("pipeline.classifier.cross_fitting", params.execution, trainings=len(remaining))
        from pipeline.classifier.cross_fitting import (
            AgreementJob,
            cross_fitted_agreements,
        )  # torch: two seconds

        def jobs() -> Iterator[AgreementJob]:
            for replicate in remaining:
                yield AgreementJob(
                    real_subset(
                        real,
                        budget=parse_budget(budget),
                        replicate=replicate,
                        seed=params.seed,
                        imbalance=params.study.imbalance,
                    ),
                    LabeledImages.load(synthetic / budget / f"{replicate}.npz"),
                    derive_seed(params.seed, "label filter", budget, replicate),
                )

        for job, agreement in cross_fitted_agreements(
            jobs(),
            count=len(remaining),
            classifier=params.classifier.of_budget(parse_budget(budget)),
            augmentation=params.augmentation,
            folds=params.study.label_filter_folds,
            steps=params.study.label_filter_steps,
            least_probability=params.study.label_filter,
            execution=params.execution,
            label=f"label scores, {budget} real",
        ):
            replicate = job.real.provenance["replicate"]
            shares[str(replicate_number(replicate))] = acceptance(
                job.synthetic, agreement, least_probability=params.study.label_filter
            )
            agreements[replicate] = agreement
    save_agreements(out / f"{budget}.npz", agreements)
    facts = {"least_probability": params.study.label_filter, "replicates": shares}
    write_text(metrics / f"{budget}.json", json.dumps(facts, indent=2, sort_keys=True) + "\n")


if __name__ == "__main__":
    run(main)
