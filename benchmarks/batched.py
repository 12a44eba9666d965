"""All classifiers of one budget on a GPU: trained as batches of networks, against one after another.

1000 real images, five replicates; real images alone under three augmentations, and five ratios of three arms with
synthetic ones. Both ways take the same steps on the same images; putting the training sets together counts.

python benchmarks/batched.py [--steps 300]
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import torch
from parallel import images
from result import Result, show

from pipeline.classifier import replicates
from pipeline.images import LabeledImages
from pipeline.params import load_params
from pipeline.study.arms import ARMS
from pipeline.study.subsets import real_subsets
from pipeline.study.training_sets import ReplicateImages

BUDGET, REPLICATES, RATIOS = 1000, 5, (0.25, 0.5, 1.0, 2.0, 4.0)
BASELINES = ("real", "real_affine", "real_affine_elastic")
AUGMENTED = ("synthetic", "synthetic_affine", "synthetic_affine_elastic")


def seconds(params, steps, execution, *, as_one_batch):
    """Of all cells."""
    replicates.CellTraining.as_one_batch = as_one_batch
    real, synthetic = images(2 * BUDGET), images(4 * BUDGET, seed=1)

    def of_replicates():
        for subset in real_subsets(real, budget=BUDGET, replicates=range(REPLICATES), seed=0, imbalance={}):
            made = LabeledImages(synthetic.images, synthetic.labels, synthetic.class_names, subset.provenance)
            yield ReplicateImages(subset, made)

    start = time.perf_counter()
    for ratio, names in ((0, BASELINES), *((ratio, AUGMENTED) for ratio in RATIOS)):
        replicates.train_cells(
            [ARMS[name] for name in names],
            of_replicates(),
            count=REPLICATES,
            synthetic_per_real=ratio,
            classifier=params.classifier.of_budget(BUDGET).model_copy(update={"steps": steps}),
            augmentation=params.augmentation,
            seed=0,
            execution=execution,
            label=f"{ratio:g} synthetic per real, {'one batch' if as_one_batch else 'one after another'}",
        )
    return time.perf_counter() - start


def measure(steps=300, device="cuda"):
    """Both, after a short warm-up of each."""
    params = load_params(Path(__file__).parents[1] / "params.yaml")
    execution = params.execution.model_copy(update={"device": device, "processes": 1})
    times = {}
    for as_one_batch in (True, False):
        for count in (5, steps):
            with tempfile.TemporaryDirectory() as store:
                os.environ["SYNTHGAIN_STORE"] = store  # nothing is found there
                times[as_one_batch] = seconds(params, count, execution, as_one_batch=as_one_batch)
    cells = REPLICATES * (len(BASELINES) + len(RATIOS) * len(AUGMENTED))
    return [
        Result(
            what=f"{cells} classifiers of {steps} steps as batches of networks",
            ours=times[True],
            reference=times[False],
            unit="s",
            ratio=times[False] / times[True],
            wanted="5",
            against=f"one after another, {torch.cuda.get_device_name() if device == 'cuda' else device}",
        )
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    arguments = parser.parse_args()
    show(measure(arguments.steps, arguments.device))
