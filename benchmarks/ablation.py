"""What each ingredient of the GAN's recipe gives: the shipped one with one thing changed, on the validation split.

Every row is trained on the whole train split for the same number of images, with several seeds; all rows of a seed
start alike. Label fidelity is the feature extractor's, CAS the validation accuracy of the study's classifier after
training on the row's images alone. Speed is relative to the first row, in the same run. No test image has a part in it.
Needs data/prepared and data/extractor (`dvc repro train_extractor`).

python benchmarks/ablation.py [--total-images 200000] [--seeds 2] [--only NAME]
"""

import argparse
import statistics
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.classifier.network import load_features_and_probabilities, predict
from pipeline.classifier.training import Recipe, train_classifier
from pipeline.errors import SynthGainError
from pipeline.gan.sampling import synthetic_images
from pipeline.gan.training import images_shown, train_gan
from pipeline.images import LabeledImages
from pipeline.params import Gan, load_params
from pipeline.progress import progress
from pipeline.runtime import configure, training_dtype, workers_for
from pipeline.side_by_side import side_by_side

ROOT = Path(__file__).parents[1]
IMAGES_PER_CLASS = 2000


def both(rate):
    """The same learning rate for both players."""
    return {"generator_learning_rate": rate, "discriminator_learning_rate": rate}


ROWS = {
    "as shipped": {},
    "no augmentation": {"augment_probability": 0.0},
    "learning rates 1.5e-3": both(1.5e-3),
    "learning rates 5e-3": both(5e-3),
    "penalty 0.3": {"penalty_weight": 0.3},
    "no penalty": {"penalty": "none", "penalty_weight": 0.0, "penalty_interval": 1},
    "non-saturating loss": {"loss": "non_saturating"},
    "hinge loss": {"loss": "hinge"},
    "labels concatenated": {"conditioning": "concatenate"},
    "no moving average": {"ema_decay": 0.0},
    "constant learning rates": {"schedule": "constant", "final_learning_rate_fraction": 1.0},
    "pixel shuffle": {"upsampling": "pixel_shuffle"},
    "spectral norm": {"spectral_norm": True},
}


@dataclass(frozen=True)
class Job:
    """One training."""

    row: str
    seed: int
    gan: Gan


def run(job, advance, *, params, device, dtype):
    """Label fidelity (mean, worst class), CAS on validation, images per second; or why there is none."""
    train, validation = (
        LabeledImages.load(ROOT / f"data/prepared/{name}.npz") for name in ("train", "validation")
    )
    try:
        trained = train_gan(
            train, job.gan, seed=job.seed, device=device, dtype=dtype, label=job.row, advance=advance
        )
    except SynthGainError as error:
        return str(error)
    images = synthetic_images(
        trained.generator.to(device),
        class_names=train.class_names,
        images_per_class=IMAGES_PER_CLASS,
        seed=job.seed,
        provenance={},
        device=device,
        advance=lambda units, note="": None,
    )
    judge = load_features_and_probabilities(ROOT / "data/extractor/extractor.safetensors", device)
    seen = judge(images.images)[1].argmax(axis=1) == images.labels
    network = train_classifier(
        Recipe(images, job.seed),
        params.classifier,
        device=device,
        dtype=dtype,
        advance=lambda units, note="": None,
    )
    worst = min(seen[images.labels == label].mean() for label in range(10))
    accuracy = (predict(network, validation.images, device) == validation.labels).mean()
    speed = statistics.median(row["images_per_second"] for row in trained.history)
    return np.array([100 * seen.mean(), 100 * worst, 100 * accuracy, speed])


def main(total_images, seeds, only):
    """Print a row as soon as all its seeds are done."""
    params = load_params(ROOT / "params.yaml")
    device = configure(params.execution)
    names = only or list(ROWS)
    changes = {name: {**ROWS[name], "total_images": total_images, "collapse_patience": 0} for name in names}
    jobs = [
        Job(name, seed, Gan.model_validate({**params.gan.model_dump(), **changes[name]}))
        for name in names
        for seed in range(seeds)
    ]
    work = partial(run, params=params, device=device, dtype=training_dtype(params.execution, device))
    workers = workers_for(params.execution, device, trainings=len(jobs))
    done = defaultdict(list)
    speed = None
    print("| change | label fidelity, % | worst class, % | CAS on validation, % | relative speed |")
    print("| --- | ---: | ---: | ---: | ---: |", flush=True)
    with progress("ablation", len(jobs) * images_shown(jobs[0].gan), "images") as advance:
        for job, result in side_by_side(work, jobs, workers=workers, advance=advance):
            done[job.row].append(result)
            if len(done[job.row]) < seeds:
                continue
            failed = [result for result in done[job.row] if isinstance(result, str)]
            if failed:
                print(f"| {job.row} | {failed[0]} | | | |", flush=True)
                continue
            fidelity, worst, cas, rate = np.transpose(done[job.row])
            speed = speed or rate.mean()
            cells = (_each(fidelity, 1), _each(worst, 1), _each(cas, 2), f"{rate.mean() / speed:.2f}")
            print(f"| {job.row} | {' | '.join(cells)} |", flush=True)


def _each(values, digits):
    return f"{values.mean():.{digits}f} ({', '.join(f'{value:.{digits}f}' for value in values)})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--total-images", type=int, default=200_000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", action="append", choices=list(ROWS))
    chosen = parser.parse_args()
    main(chosen.total_images, chosen.seeds, chosen.only)
