"""Independent trainings side by side, against one after another in one process; on the CPU.

One after another, a GAN has every thread and a classifier one (with two it is hardly faster, and its bytes would depend
on the machine). Both ways train the same networks on the same images; starting the processes counts.

python benchmarks/parallel.py [--steps 400]
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from result import Result, show

from pipeline.classifier.replicates import train_cells
from pipeline.gan.replicates import GanJob, train_generators
from pipeline.images import LabeledImages
from pipeline.params import load_params
from pipeline.runtime.device import available_cores
from pipeline.study.arms import ARMS
from pipeline.study.subsets import real_subsets
from pipeline.study.training_sets import ReplicateImages

REPLICATES = 4


def images(count=1000, seed=0):
    """Noise: the time of a step does not depend on what the images show."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, 1, 28, 28), dtype=np.uint8)
    return LabeledImages(pixels, np.arange(count, dtype=np.int64) % 10, tuple("0123456789"))


def cells(params, real, *, processes):
    """Seconds of plain and elastic classifiers of each replicate."""
    start = time.perf_counter()
    subsets = real_subsets(real, budget=500, replicates=range(REPLICATES), seed=0, imbalance={})
    with tempfile.TemporaryDirectory() as store:
        os.environ["SYNTHGAIN_STORE"] = store  # nothing is found there
        train_cells(
            [ARMS["real"], ARMS["real_affine_elastic"]],
            map(ReplicateImages, subsets),
            count=REPLICATES,
            synthetic_per_real=0,
            classifier=params.classifier.of_budget(500),
            augmentation=params.augmentation,
            seed=0,
            execution=params.execution.model_copy(update={"processes": processes}),
            label="cells",
        )
    return time.perf_counter() - start


def generators(params, real, *, processes):
    """Seconds of a GAN of each replicate."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        jobs = [
            GanJob(
                replicate=replicate,
                member=0,
                real=real,
                seed=replicate,
                folder=Path(folder) / f"out{replicate}",
                label="GAN",
            )
            for replicate in range(REPLICATES)
        ]
        list(
            train_generators(
                jobs,
                count=REPLICATES,
                gan=params.gan,
                execution=params.execution.model_copy(update={"processes": processes}),
                label="GANs",
            )
        )
    return time.perf_counter() - start


def measure(steps=400):
    """Both, in turns."""
    params = load_params(Path(__file__).parents[1] / "params.yaml")
    gan = {"total_images": steps * params.gan.batch_size, "collapse_patience_images": 0}
    params = params.model_copy(
        update={
            "classifier": params.classifier.model_copy(update={"steps": steps}),
            "gan": params.gan.model_copy(update=gan),
        }
    )
    real = images()
    results = []
    for what, count, train in (
        (f"{2 * REPLICATES} classifiers of {steps} steps", 2 * REPLICATES, cells),
        (f"{REPLICATES} GANs of {steps} steps", REPLICATES, generators),
    ):
        reference, ours = train(params, real, processes=1), train(params, real, processes=0)
        results.append(
            Result(
                what=f"{what}, {min(count, available_cores())} at once",
                ours=ours,
                reference=reference,
                unit="s",
                ratio=reference / ours,
                wanted="",
                against="one after another",
            )
        )
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=400)
    show(measure(parser.parse_args().steps))
