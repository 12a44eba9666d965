"""How many steps are enough for the best classic arm: its validation accuracy after trainings of several lengths.

All arms of a budget train for the same number of steps (`classifier.steps`). With too few, the best arm without a
generator looks worse than it is, and synthetic images seem to help. So the number is chosen for that arm, on validation
images, and on real subsets that no study draws.

The rule: the fewest steps whose mean is at most one standard error (of the paired difference) below that of the best.

python benchmarks/classifier_steps.py [--real-images 100 1000] [--steps 500 1000 2000 3000 5000] [--replicates 8]
"""

import argparse
from functools import partial
from pathlib import Path

import matplotlib
import pandas as pd
from rich.console import Console
from rich.table import Table

from pipeline.augmentation.classic import Strengths, classic_augmentation
from pipeline.augmentation.mixup import mixing
from pipeline.augmentation.policies import POLICIES
from pipeline.classifier.network import predict
from pipeline.classifier.training import Recipe, train_classifier
from pipeline.images import LabeledImages
from pipeline.params import load_params
from pipeline.runtime.device import configure, training_dtype, workers_for
from pipeline.runtime.parallel import parallel_map
from pipeline.runtime.progress import progress
from pipeline.runtime.seeds import derive_seed
from pipeline.study.subsets import parse_budget, real_subset

ROOT = Path(__file__).parents[1]
COLUMNS = ["real_images", "policy", "steps", "replicate", "validation_accuracy"]
SUBSETS = 190_000  # seed of subsets that no study draws


def train_one(job, advance, *, policy, prepared, params_file, device):
    """The validation accuracy of one training, with the threads that its process was given."""
    budget, steps, replicate = job
    params = load_params(params_file)
    train, validation = (LabeledImages.load(prepared / f"{name}.npz") for name in ("train", "validation"))
    subset = real_subset(train, budget=budget, replicate=replicate, seed=SUBSETS, imbalance={})
    how = Strengths(**params.augmentation.model_dump())
    augment = classic_augmentation(POLICIES[policy], how)
    mix = mixing(POLICIES[policy], alpha=how.mixup_alpha)
    network = train_classifier(
        Recipe(subset, derive_seed(SUBSETS, "classifier", budget, replicate), augment, mix),
        params.classifier.of_budget(params.study.real_images[0]).model_copy(update={"steps": steps}),
        device=device,
        dtype=training_dtype(params.execution, device),
        advance=advance,
    )
    return float((predict(network, validation.images, device) == validation.labels).mean())


def measure(budgets, steps, replicates, *, policy, prepared, out):
    """The table of accuracies; rows that `out` has already are not trained again."""
    params_file = ROOT / "params.yaml"
    known = pd.read_csv(out, dtype={"real_images": str}) if out.is_file() else pd.DataFrame(columns=COLUMNS)
    done = set(map(tuple, known[["real_images", "policy", "steps", "replicate"]].to_numpy()))
    jobs = [
        (budget, count, replicate)
        for replicate in range(replicates)
        for budget in budgets
        for count in steps
        if (str(budget), policy, count, replicate + 1) not in done
    ]
    execution = load_params(params_file).execution
    device = configure(execution)
    workers = workers_for(execution, device, trainings=len(jobs), threads_each=1)
    work = partial(train_one, policy=policy, prepared=prepared, params_file=params_file, device=device)
    with progress("classifiers", sum(count for _, count, _ in jobs), "steps") as advance:
        for (budget, count, replicate), accuracy in parallel_map(
            work, jobs, workers=workers, advance=advance
        ):
            row = [str(budget), policy, count, replicate + 1, round(accuracy, 6)]
            known.loc[len(known)] = row
            known.sort_values(COLUMNS[:-1]).to_csv(out, index=False, lineterminator="\n")
    return known[known["policy"] == policy]


def chosen_steps(accuracies):
    """The rule of this file, of one budget's accuracies (a column per number of steps, a row per replicate)."""
    best = accuracies.mean().idxmax()
    below = -accuracies.sub(accuracies[best], axis=0)
    enough = below.mean() <= below.std(ddof=1) / len(below) ** 0.5
    return int(min(enough[enough].index))


def show(rows, picture):
    """The curve of each budget, as a table and as a picture."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    table = Table(
        "real images", "steps", "validation accuracy", "to the best", "", title="mean of replicates"
    )
    figure, axes = pyplot.subplots(1, rows["real_images"].nunique(), figsize=(8, 3), squeeze=False)
    for axis, (budget, part) in zip(axes[0], rows.groupby("real_images", sort=False), strict=True):
        values = (
            100 * part.pivot_table(index="replicate", columns="steps", values="validation_accuracy").dropna()
        )
        chosen = chosen_steps(values)
        best = values.mean().idxmax()
        error = values.sem()
        for count in values.columns:
            gap = values[count] - values[best]
            table.add_row(
                budget,
                str(count),
                f"{values[count].mean():.2f} ± {error[count]:.2f}",
                f"{gap.mean():+.2f} ± {gap.sem():.2f}",
                "chosen" if count == chosen else "",
            )
        axis.errorbar(values.columns, values.mean(), yerr=error, marker="o", color="#1f77b4", capsize=3)
        axis.axvline(chosen, color="0.6", linestyle=":")
        axis.set(
            title=f"{budget} real images",
            xlabel="optimiser steps",
            ylabel="validation accuracy, %",
            xlim=(0, None),
        )
    figure.tight_layout()
    figure.savefig(picture, dpi=120, metadata={"Software": None})
    Console().print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--real-images", type=parse_budget, nargs="+", default=[100, 1000])
    parser.add_argument("--steps", type=int, nargs="+", default=[500, 1000, 2000, 3000, 5000])
    parser.add_argument("--replicates", type=int, default=8)
    parser.add_argument("--policy", default="affine_elastic", choices=tuple(POLICIES))
    parser.add_argument("--prepared", type=Path, default=ROOT / "data/prepared")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/studies/classifier_steps.csv")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs/images/classifier_steps.png")
    options = parser.parse_args()
    rows = measure(
        options.real_images,
        options.steps,
        options.replicates,
        policy=options.policy,
        prepared=options.prepared,
        out=options.out,
    )
    show(rows, options.picture)
