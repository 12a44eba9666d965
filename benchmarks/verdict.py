"""How often a verdict is wrong: studies in which synthetic images change nothing, judged by the project's own rule.

An arm with synthetic images is, on average, exactly as good as the same training without (or better by --effect). The
noise is that of a finished study (--study): the covariances of its cells over arms and both splits. Without one it is
made up: what all arms of a replicate share, what those with synthetic images share, and each arm's own, of which both
splits see the same and, in addition, an error of their own. `choice` and `judgement` judge each study.

Wanted: of 100 studies without an effect, 2.5 in which validation recommends synthetic images. Beside the rule stand two
others: the replicates that chose judge as well, and each is judged by the choice of all others (leave one out).

python benchmarks/verdict.py [--study build/low_data ...] [--replicates 5] [--effect 0.002] [--draws 4000]
    [--out docs/simulations/no_effect.csv]
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from pipeline.comparison.cells import cell_values, load_cells
from pipeline.comparison.choice import NOTHING, best_row, rows_before
from pipeline.comparison.judgement import place_of, rule_for
from pipeline.params import load_params
from pipeline.statistics import interval_ends
from pipeline.study.grid import Grid

# Made-up studies: how many arms with synthetic images, and how much of their noise they share.
MADE_UP = [(arms, shared) for arms in (3, 10) for shared in (0.0, 0.5, 0.8)]
MADE_UP_CLASSIC = 3


class StudyNoise:
    """How the accuracies of a study's budget vary, and around which means."""

    def __init__(self, folder, budget):
        grid = Grid.declared(load_params(folder / "params.yaml").study)
        cells, _ = load_cells(folder / "data/metrics/cells.csv", grid)
        arms = [*grid.classic_arms(), *grid.added_arms()]
        values = np.stack(
            [
                [cell_values(cells, budget, arm, f"{split}_accuracy") for arm in arms]
                for split in ("validation", "test")
            ]
        )  # (splits, arms, replicates)
        self.shape, self.replicates = values.shape[:2], values.shape[2]
        self.classic = len(grid.classic_arms())
        baseline = [arms.index(arm.baseline or arm) if i >= self.classic else i for i, arm in enumerate(arms)]
        self.means = values.mean(2)[:, baseline]  # (splits, arms)
        scales, axes = np.linalg.eigh(np.cov(values.reshape(-1, self.replicates)))
        self.factor = axes * np.sqrt(np.clip(scales, 0, None))

    def draw(self, rng, studies, replicates, effect):
        """(studies, splits, arms, replicates) accuracies."""
        noise = rng.standard_normal((studies, replicates, len(self.factor))) @ self.factor.T
        means = self.means + effect * (np.arange(self.shape[1]) >= self.classic)
        return np.moveaxis(noise, 1, 2).reshape(studies, *self.shape, replicates) + means[:, :, None]


class MadeUpNoise:
    """Arms with synthetic images on top of the best of a few classic ones; standard deviations of 0.2 points.

    Args:
        added: how many arms with synthetic images.
        shared: 0..1, the part of their own variance that they have in common.
    """

    classic = MADE_UP_CLASSIC

    def __init__(self, added, shared):
        self.added, self.shared = added, shared

    def draw(self, rng, studies, replicates, effect):
        """(studies, splits, arms, replicates) accuracies."""
        arms = self.classic + self.added

        def normal(splits, arms):
            return 0.002 * rng.standard_normal((studies, splits, arms, replicates))

        own = normal(1, arms)
        own[:, :, self.classic :] *= np.sqrt(1 - self.shared)
        own[:, :, self.classic :] += np.sqrt(self.shared) * normal(1, 1)
        means = np.array([-0.08, -0.01, *[0.0] * (self.added + 1)])
        means[self.classic :] += effect
        return 0.97 + means[:, None] + normal(1, 1) + own + 0.3 * normal(2, arms)


def leave_one_out(values):
    """(..., replicates): for each replicate the row that all others choose."""
    replicates = range(values.shape[-1])
    return np.stack([best_row(np.delete(values, i, axis=-1)) for i in replicates], axis=-1)


def all_choose(values):
    """(..., replicates): the row that all choose."""
    return np.repeat(best_row(values)[..., None], values.shape[-1], axis=-1)


RULES = {"all": all_choose, "all others": leave_one_out, "those before": rows_before}


def judge(values, classic, chosen_by=rows_before):
    """Judge studies (studies, splits, arms, replicates), of which the first `classic` arms have no synthetic images.

    Returns:
        A row per study: `mean` on test, `validation` and `test` (where the interval lies), `code`, `recommends`.
    """
    validation = values[:, 0]
    before, after = chosen_by(validation[:, :classic]), chosen_by(validation[:, classic:])
    judged = (before[0] != NOTHING) & (after[0] != NOTHING)  # alike in all studies: the first only chooses
    chosen = [np.where(rows == NOTHING, 0, rows)[:, None, None] for rows in (before, after)]
    baseline, candidate = (
        np.take_along_axis(part, rows, axis=2)[:, :, 0, judged]
        for part, rows in zip((values[:, :, :classic], values[:, :, classic:]), chosen, strict=True)
    )
    differences = candidate - baseline  # (studies, splits, judged)
    places = [[place_of(*ends) for ends in zip(*split, strict=True)] for split in _ends(differences)]
    rules = [rule_for(*pair) for pair in zip(*places, strict=True)]
    return pd.DataFrame(
        {
            "mean": differences[:, 1].mean(axis=-1),
            "validation": places[0],
            "test": places[1],
            "code": [rule.code for rule in rules],
            "recommends": [rule.recommends for rule in rules],
        }
    )


def _ends(differences):
    low, high = interval_ends(differences)
    return [(low[:, split], high[:, split]) for split in range(2)]


def main(studies, replicates, effect, draws, out):
    """Print a row per study, budget and rule, and write them."""
    rows = []
    table = Table(
        "study", "replicates", "chosen by", "mean, points", "test above 0", "below 0", "recommended", "gain"
    )
    noises = [
        (f"{folder.resolve().name}, {budget}", noise, replicates or noise.replicates)
        for folder in studies
        for budget in load_params(folder / "params.yaml").study.real_images
        for noise in [StudyNoise(folder, budget)]
    ] or [
        (f"{added} arms, {100 * shared:.0f} % shared", MadeUpNoise(added, shared), count)
        for added, shared in MADE_UP
        for count in ([replicates] if replicates else (4, 5, 10))
    ]
    for name, noise, count in noises:
        values = noise.draw(np.random.default_rng(0), draws, count, effect)
        for rule, chosen_by in RULES.items():
            found = judge(values, noise.classic, chosen_by)
            shares = {
                "test_above": (found["test"] == "above").mean(),
                "test_below": (found["test"] == "below").mean(),
                "recommended": found["recommends"].mean(),
                "gain": (found["code"] == "gain").mean(),
            }
            mean = found["mean"].mean()
            rows.append(
                {
                    "study": name,
                    "replicates": count,
                    "chosen_by": rule,
                    "effect": effect,
                    "mean": mean,
                    **shares,
                }
            )
            percents = (f"{100 * share:.1f} %" for share in shares.values())
            table.add_row(name, str(count), rule, f"{100 * mean:+.2f}", *percents)
    Console(width=120).print(table)
    if out:
        pd.DataFrame(rows).round(5).to_csv(out, index=False, lineterminator="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--study", type=Path, action="append", help="a workspace that has been run; default: made-up noise"
    )
    parser.add_argument("--replicates", type=int, help="default: those of the study; 4, 5 and 10")
    parser.add_argument("--effect", type=float, default=0.0, help="of all arms with synthetic images, 0..1")
    parser.add_argument("--draws", type=int, default=4000)
    parser.add_argument("--out", type=Path, help="a CSV file to write")
    arguments = parser.parse_args()
    main(arguments.study or [], arguments.replicates, arguments.effect, arguments.draws, arguments.out)
