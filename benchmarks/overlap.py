"""How often intervals hold the truth when replicates draw their real images from a small train split.

A study is n replicates, each with a subset of --budget images of one train split, which is itself a draw of all images
there are. A replicate's difference is the mean of its images' values (the part of the subset: --share of the variance)
plus an error of its seeds. Subsets are really drawn, and `pipeline.statistics` gets the overlap as drawn. Beside the
coverage stands the width, in units of the ideal one: the interval of a t-test that knew the true correlation.

Where subset and split are the same, all replicates have the same images: the interval is about the seeds alone, and
what it holds is the mean of this split, not of all images.

python benchmarks/overlap.py [--budget 100] [--studies 4000] [--out docs/simulations/overlap.csv]
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from pipeline.scoring.subset_overlap import mean_shares
from pipeline.statistics import interval_ends

ROOT = Path(__file__).parents[1]
TRAIN_SPLITS = (100, 240, 400, 1000, 5000)
SHARES = (0.25, 0.5, 1.0)
REPLICATES = (4, 10)


def study_values(rng, *, train, budget, replicates, share, studies):
    """(studies, replicates) differences of mean 0, the truths of each split (studies,), and the overlap as drawn."""
    draws = [rng.permutation(train)[:budget] for _ in range(replicates)]
    overlap = np.mean(list(mean_shares(dict(enumerate(draws))).values()))
    images = rng.standard_normal((studies, train)) * np.sqrt(budget)  # a subset's mean has a variance of 1
    subsets = np.stack([images[:, draw].mean(axis=1) for draw in draws], axis=1)
    seeds = rng.standard_normal((studies, replicates))
    return (
        np.sqrt(share) * subsets + np.sqrt(1 - share) * seeds,
        np.sqrt(share) * images.mean(axis=1),
        float(overlap),
    )


def coverage_rows(*, budget, studies, batch=200):
    """A row per train split, share and number of replicates; every batch of studies draws its subsets anew."""
    rows = []
    for train in TRAIN_SPLITS:
        for share in SHARES if train > budget else SHARES[:-1]:  # without seeds, equal subsets have no spread
            for replicates in REPLICATES:
                rng = np.random.default_rng([train, int(100 * share), replicates])
                found = []
                for _ in range(studies // batch):
                    values, of_split, overlap = study_values(
                        rng, train=train, budget=budget, replicates=replicates, share=share, studies=batch
                    )
                    same = overlap == 1
                    truth = of_split if same else 0.0
                    # A t-test that knows the true correlation, share · overlap, of two replicates.
                    ends = {
                        "plain": interval_ends(values),
                        "used": interval_ends(values, overlap=overlap),
                        "ideal": interval_ends(values, overlap=0.0 if same else share * overlap),
                    }
                    found.append(
                        {
                            "overlap": overlap,
                            **{
                                f"{n}_coverage": np.mean((a <= truth) & (truth <= b))
                                for n, (a, b) in ends.items()
                            },
                            **{f"{n}_width": np.mean(b - a) for n, (a, b) in ends.items()},
                        }
                    )
                mean = pd.DataFrame(found).mean()
                rows.append(
                    {
                        "train_split": train,
                        "subset_share": share,
                        "replicates": replicates,
                        "overlap": mean["overlap"],
                        "plain_coverage": mean["plain_coverage"],
                        "coverage": mean["used_coverage"],
                        "ideal_coverage": mean["ideal_coverage"],
                        "width_to_ideal": mean["used_width"] / mean["ideal_width"],
                        "about": "seeds" if same else "subsets and seeds",
                    }
                )
    return pd.DataFrame(rows).round(4)


def main(budget, studies, out):
    """Print the table, and write it."""
    rows = coverage_rows(budget=budget, studies=studies)
    table = Table(*rows.columns)
    for row in rows.itertuples(index=False):
        table.add_row(*map(str, row))
    Console(width=140).print(table)
    if out:
        rows.to_csv(out, index=False, lineterminator="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=int, default=100)
    parser.add_argument("--studies", type=int, default=4000)
    parser.add_argument("--out", type=Path, help="a CSV file to write")
    arguments = parser.parse_args()
    main(arguments.budget, arguments.studies, arguments.out)
