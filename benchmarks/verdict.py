"""How often a verdict is wrong: studies in which synthetic images change nothing, drawn with a real study's noise.

The cells of a finished study say how accuracies vary over replicates, together over arms and over both splits. Studies
are drawn from a normal distribution with these covariances, in which an arm with synthetic images is on average exactly
as good as the same training without (or better by --effect); the project's rule judges each. Beside it stands the rule
that lets the replicates that chose judge as well. Wanted: of 100 studies without an effect, 2.5 intervals above 0.

python benchmarks/verdict.py [--study build/low_data ...] [--replicates 5] [--effect 0.002] [--draws 4000]
"""

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from pipeline.comparison.cells import cell_values, load_cells
from pipeline.comparison.cross_fitted_choice import best_rows
from pipeline.params import load_params
from pipeline.runtime.progress import progress
from pipeline.statistics import mean_interval
from pipeline.study.grid import Grid

ROOT = Path(__file__).parents[1]


class Noise:
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
        self.classic, self.added = len(grid.classic_arms()), len(grid.added_arms())
        baseline = [arms.index(arm.baseline or arm) if i >= self.classic else i for i, arm in enumerate(arms)]
        self.means = values.mean(2)[:, baseline]  # (splits, arms)
        scales, axes = np.linalg.eigh(np.cov(values.reshape(-1, self.replicates)))
        self.factor = axes * np.sqrt(np.clip(scales, 0, None))

    def draw(self, rng, replicates, effect):
        """(splits, arms, replicates) accuracies of one study."""
        noise = rng.standard_normal((replicates, len(self.factor))) @ self.factor.T
        means = self.means + effect * (np.arange(self.shape[1]) >= self.classic)
        return noise.T.reshape(*self.shape, replicates) + means[:, :, None]


def judge(values, classic, *, cross_fitted):
    """The differences on validation and on test of the arms that validation chooses, a mean interval each."""
    replicate = np.arange(values.shape[2])
    best, without = best_rows(values[0, :classic])
    added, added_without = best_rows(values[0, classic:])
    before = without if cross_fitted else best
    after = classic + np.array(added_without if cross_fitted else added)
    return [mean_interval(split[after, replicate] - split[before, replicate]) for split in values]


def main(studies, replicates, effect, draws):
    """Print a row per study, budget and rule."""
    table = Table(
        "study", "real", "replicates", "arms", "judged by", "mean, points", "above 0", "below 0", "gain"
    )
    for folder in studies:
        for budget in load_params(folder / "params.yaml").study.real_images:
            noise = Noise(folder, budget)
            count = replicates or noise.replicates
            for cross_fitted in (False, True):
                rng = np.random.default_rng(0)
                rule = "the others" if cross_fitted else "the same"
                found = []
                with progress(f"{folder.name}, {budget} real, judged by {rule}", draws, "studies") as advance:
                    for _ in range(draws):
                        values = noise.draw(rng, count, effect)
                        validation, test = judge(values, noise.classic, cross_fitted=cross_fitted)
                        above = test.low > 0
                        found.append((100 * test.mean, above, test.high < 0, above and validation.low > 0))
                        advance(1)
                mean, *shares = np.mean(found, axis=0)
                table.add_row(
                    folder.resolve().name,
                    str(budget),
                    str(count),
                    str(noise.added),
                    rule,
                    f"{mean:+.2f}",
                    *(f"{100 * share:.1f} %" for share in shares),
                )
    Console().print(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--study", type=Path, action="append", help="a workspace that has been run; default: this one"
    )
    parser.add_argument("--replicates", type=int, help="default: those of the study")
    parser.add_argument("--effect", type=float, default=0.0, help="of all arms with synthetic images, 0..1")
    parser.add_argument("--draws", type=int, default=4000)
    arguments = parser.parse_args()
    main(arguments.study or [ROOT], arguments.replicates, arguments.effect, arguments.draws)
