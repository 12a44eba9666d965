"""What makes a GAN of few real images copy them, and which use of its images helps: measured on the validation split.

Each row is the shipped recipe with something changed, trained on the real subsets of several replicates, none of which
a study of the same seed draws. Label fidelity is the feature extractor's. The memorisation gate is the study’s,
with validation images in the place of test images. Each use is a classifier trained on real and synthetic images; its
gain is over the same classifier with affine and elastic augmentation alone, in pairs. No test image has a part in it.
Needs data/prepared and data/extractor (`dvc repro train_extractor`).

python benchmarks/small_budget.py [--real-images 100] [--replicates 4] [--gan NAME] [--use NAME] [--out FILE.csv]
"""

import argparse
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from pipeline.arms import ARMS, real_subset, subset_indices
from pipeline.classifier.cross_fitting import cross_fitted_agreement
from pipeline.classifier.network import load_features_and_probabilities, network_from, predict
from pipeline.classifier.study import train_cells
from pipeline.evaluation.budget import BudgetImages
from pipeline.evaluation.memorization import Gate, evaluate_memorization
from pipeline.evaluation.statistics import paired_difference
from pipeline.gan.sampling import interleaved, synthetic_images
from pipeline.gan.training import images_shown, train_gan
from pipeline.images import LabeledImages
from pipeline.label_filter import accepted_images
from pipeline.params import Classifier, Gan, Params, load_params
from pipeline.progress import progress
from pipeline.runtime import configure, derive_seed, training_dtype, workers_for
from pipeline.side_by_side import side_by_side

ROOT = Path(__file__).parents[1]
BASELINE = "real_affine_elastic"
AS_THEY_ARE = {"real_augmentation": 0.0}
AUGMENTED, BY_08, BY_07, BY_HALF = (
    {"real_augmentation": strength, "real_augmentation_up_to": 60_000} for strength in (1.0, 0.8, 0.7, 0.5)
)
EVERY_PAIR, NO_PAIR = {"augment_probability": 1.0}, {"augment_probability": 0.0}
WIDE = {"augment_rotation_degrees": 15.0, "augment_scale": 0.15}

GANS: Mapping[str, Mapping[str, Any]] = {
    "as shipped": {},
    "real images as they are": AS_THEY_ARE,
    "25 000 images": {**AS_THEY_ARE, "total_images": 25_000},
    "50 000 images": {**AS_THEY_ARE, "total_images": 50_000},
    "50 000 images, every pair augmented": {**AS_THEY_ARE, **EVERY_PAIR, "total_images": 50_000},
    "50 000 images, every pair augmented widely": {
        **AS_THEY_ARE,
        **EVERY_PAIR,
        **WIDE,
        "total_images": 50_000,
    },
    "100 000 images, every pair augmented": {**AS_THEY_ARE, **EVERY_PAIR, "total_images": 100_000},
    "50 000 images, penalty 1": {**AS_THEY_ARE, "penalty_weight": 1.0, "total_images": 50_000},
    "50 000 images, instance noise": {**AS_THEY_ARE, "instance_noise": 0.5, "total_images": 50_000},
    "50 000 images, real ones augmented": {**AUGMENTED, "total_images": 50_000},
    "100 000 images, real ones augmented": {**AUGMENTED, "total_images": 100_000},
    "100 000 images, real ones augmented by half": {**BY_HALF, "total_images": 100_000},
    "real images augmented": AUGMENTED,
    "real images augmented by 0.8": BY_08,
    "real images augmented by 0.7": BY_07,
    "real images augmented by 0.7, and nothing else": {**BY_07, **NO_PAIR},
    "real images augmented, and nothing else": {**AUGMENTED, **NO_PAIR},
}


@dataclass(frozen=True)
class Use:
    """How a classifier is trained on a generator's images."""

    arm: str = "synthetic_affine_elastic"
    synthetic_per_real: float = 3.0
    classifier: Mapping[str, Any] = field(default_factory=dict)
    latent_std: float = 1.0
    generators: int = 1


USES: Mapping[str, Use] = {
    "1 per real": Use(synthetic_per_real=1.0),
    "3 per real": Use(),
    "filtered": Use(arm="synthetic_filtered_affine_elastic"),
    "fresh": Use(arm="synthetic_fresh_affine_elastic"),
    "fresh, filtered": Use(arm="synthetic_fresh_filtered_affine_elastic"),
    "fresh, 1 per real": Use(arm="synthetic_fresh_affine_elastic", synthetic_per_real=1.0),
    "fresh, filtered, 1 per real": Use(arm="synthetic_fresh_filtered_affine_elastic", synthetic_per_real=1.0),
    "fresh, 1 per 2 real": Use(arm="synthetic_fresh_affine_elastic", synthetic_per_real=0.5),
    "latents × 0.8": Use(latent_std=0.8),
    "latents × 1.3": Use(latent_std=1.3),
    "weight 0.5": Use(classifier={"synthetic_weight": 0.5}),
    "last fifth on real images": Use(classifier={"real_only_tail": 0.2}),
    "two generators": Use(generators=2),
}


@dataclass(frozen=True)
class Job:
    """One replicate of a row; the row of the baseline has no GAN."""

    row: str
    replicate: int


@dataclass(frozen=True)
class Setting:
    """What all measures of a job share."""

    params: Params
    budget: int
    replicate: int
    seed: int
    train: LabeledImages
    validation: LabeledImages
    real: LabeledImages
    device: torch.device
    dtype: torch.dtype

    def quiet(self, units, note=""):
        """Progress is counted in the GAN's images."""


def run(job, advance, *, params, budget, uses, device, dtype):
    """The measures of a job: a mapping from name to number."""
    train, validation = (
        LabeledImages.load(ROOT / f"data/prepared/{name}.npz") for name in ("train", "validation")
    )
    # A seed of its own: what is chosen here must be confirmed on other subsets.
    seed = derive_seed(params.seed, "development")
    real = real_subset(train, budget=budget, replicate=job.replicate, seed=seed)
    setting = Setting(params, budget, job.replicate, seed, train, validation, real, device, dtype)
    if job.row == BASELINE:
        return {BASELINE: accuracy(setting, Use(arm=BASELINE, synthetic_per_real=0.0))}
    gan = Gan.model_validate({**params.gan.model_dump(), **GANS[job.row]})
    generators = [
        train_gan(
            real,
            gan,
            seed=derive_seed(seed, job.replicate, member),
            device=device,
            dtype=dtype,
            label=job.row,
            advance=advance,
        ).generator.to(device)
        for member in range(max((USES[use].generators for use in uses), default=1))
    ]
    result = quality(setting, images_for(setting, Use(), generators))
    for name in uses:
        use = USES[name]
        images = images_for(setting, use, generators)
        accepted = accepted_of(setting, images) if ARMS[use.arm].filtered else None
        if accepted is not None:
            result[f"accepted: {name}"] = len(accepted) / len(images)
        result[f"use: {name}"] = accuracy(setting, use, synthetic=images, accepted=accepted)
    return result


def images_for(setting, use, generators):
    """2000 images of each class: a large pool, so that fresh arms rarely see one twice."""
    return interleaved(
        [
            synthetic_images(
                network,
                class_names=setting.real.class_names,
                images_per_class=2000,
                seed=derive_seed(setting.seed, "images", setting.replicate),
                latent_std=use.latent_std,
                provenance={**setting.real.provenance, "gan_seed": member, "generator_sha256": str(member)},
                device=setting.device,
                advance=setting.quiet,
            )
            for member, network in enumerate(generators[: use.generators])
        ]
    )


def quality(setting, images):
    """Label fidelity, and what the memorisation gate says with validation images in the place of test images."""
    judge = load_features_and_probabilities(ROOT / "data/extractor/extractor.safetensors", setting.device)
    evaluation = setting.params.evaluation
    subset = subset_indices(
        setting.train, budget=setting.budget, replicate=setting.replicate, seed=setting.seed
    )
    found = evaluate_memorization(
        BudgetImages(
            budget=setting.budget,
            synthetic=[images],
            train=setting.train,
            subsets=[subset],
            test=setting.validation,
        ),
        lambda pixels: judge(pixels)[0],
        n=evaluation.images,
        gate=Gate(
            near_copies_margin=evaluation.memorization_near_copies_margin,
            authenticity_margin=evaluation.memorization_authenticity_margin,
        ),
        seed=setting.seed,
    )["replicates"]["0"]
    return {
        "label fidelity": float((judge(images.images)[1].argmax(axis=1) == images.labels).mean()),
        "passed": float(found["passed"]),
        **{
            f"{name}, {space}": found[space][name]
            for name in ("near_copies", "authenticity")
            for space in ("pixel", "feature")
        },
    }


def accepted_of(setting, images):
    """Those that the study's label filter keeps."""
    study = setting.params.study
    agreement = cross_fitted_agreement(
        setting.real,
        images,
        classifier=setting.params.classifier,
        folds=study.label_filter_folds,
        steps=study.label_filter_steps,
        least_probability=study.label_filter,
        seed=derive_seed(setting.seed, "filter", setting.replicate),
        device=setting.device,
        dtype=setting.dtype,
        advance=setting.quiet,
    )
    return accepted_images(images, agreement, least_probability=study.label_filter)


def accuracy(setting, use, *, synthetic=None, accepted=None):
    """That of a classifier on the validation split."""
    cells, arguments = train_cells(
        [ARMS[use.arm]],
        budget=setting.budget,
        synthetic_per_real=use.synthetic_per_real,
        replicates=1,
        real_of=lambda _: setting.real,
        synthetic_of=lambda _: synthetic,
        accepted_of=lambda _: accepted,
        classifier=Classifier.model_validate({**setting.params.classifier.model_dump(), **use.classifier}),
        seed=derive_seed(setting.seed, setting.replicate),
        execution=setting.params.execution.model_copy(update={"processes": 1, "threads": 1}),
        what="classifier",
    )
    network = network_from(arguments, cells[0].weights, setting.device)
    seen = predict(network, setting.validation.images, setting.device)
    return float((seen == setting.validation.labels).mean())


def main(budget, replicates, rows, uses, out):
    """Print a row as soon as all its replicates are done."""
    params = load_params(ROOT / "params.yaml")
    device = configure(params.execution)
    jobs = [Job(row, replicate) for row in (BASELINE, *rows) for replicate in range(replicates)]
    workers = workers_for(params.execution, device, trainings=len(jobs), threads_each=1)
    dtype = training_dtype(params.execution, device)
    work = partial(run, params=params, budget=budget, uses=uses, device=device, dtype=dtype)
    done, measured = [], []
    total = sum(
        images_shown(Gan.model_validate({**params.gan.model_dump(), **GANS[row]})) * replicates
        for row in rows
    )
    with progress("small budget", total, "images") as advance:
        for job, result in side_by_side(work, jobs, workers=workers, advance=advance):
            measured.append({"row": job.row, "replicate": job.replicate, **result})
            done.append(result)
            if len(done) == replicates:
                print_row(job.row, pd.DataFrame(done), measured[:replicates])
                done.clear()
    if out:
        pd.DataFrame(measured).to_csv(out, index=False, lineterminator="\n")


def print_row(row, table, baseline):
    """Means of a row's replicates, and of its gains the 95 % interval."""
    print(f"{row}:", flush=True)
    for name in table:
        values = table[name]
        if not name.startswith("use: "):
            each = ", ".join(f"{100 * value:.1f}" for value in values)
            print(f"    {name}: {100 * statistics.mean(values):.2f} % ({each})", flush=True)
            continue
        gain = paired_difference(baseline=[result[BASELINE] for result in baseline], candidate=list(values))
        spread = f" [{100 * gain.low:+.2f}, {100 * gain.high:+.2f}]" if gain.low is not None else ""
        print(
            f"    {name}: {100 * values.mean():.2f} %, gain {100 * gain.mean:+.2f} points{spread}", flush=True
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real-images", type=int, default=100)
    parser.add_argument("--replicates", type=int, default=4)
    parser.add_argument("--gan", action="append", choices=list(GANS))
    parser.add_argument("--use", action="append", choices=list(USES))
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    main(
        chosen.real_images, chosen.replicates, chosen.gan or list(GANS), chosen.use or list(USES), chosen.out
    )
