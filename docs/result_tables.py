"""Print the tables of a page from committed metrics and the table of arms: `python docs/result_tables.py README.md`.

tests/test_result_tables.py holds the pages against them.
"""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.params import overlay_params
from pipeline.results import ResultFolders, Results
from pipeline.study.arms import ARMS, Arm
from pipeline.study.grid import Grid

ROOT = Path(__file__).resolve().parents[1]
# Page → the study in studies/ whose metrics it shows; copies of these lie in docs/studies/.
PAGES = {"README.md": "full", "docs/low-data.md": "low_data"}
ARMS_PAGE, POOL_PAGE = "docs/numbers.md", "docs/pool.md"
_A_POLICY = "trivial_augment"  # stands for each of them
QUALITY = ("fid", "precision", "recall", "density", "coverage")


def results_table(comparison: Mapping[str, Any]) -> list[str]:
    """A row per arm with a ratio: the same training without what it adds, and the paired difference at each ratio."""
    level = {(arm["arm"], arm["budget"]): arm for arm in comparison["arms"]}
    rows = [row for row in comparison["comparisons"] if row["metric"] == "test_accuracy"]
    ratios = sorted({row["synthetic_per_real"] for row in rows} - {0})
    headings = " | ".join(f"{ratio:g} per real one" for ratio in ratios)
    lines = [
        f"| real images | arm | without what it adds, % [95 %] | {headings} |",
        "| ---: | --- | ---: |" + " ---: |" * len(ratios),
    ]
    for budget in dict.fromkeys(row["budget"] for row in rows):
        for arm in ARMS.values():
            found = {
                row["synthetic_per_real"]: row
                for row in rows
                if (row["candidate"], row["budget"]) == (arm.name, budget) and row["synthetic_per_real"]
            }
            if not found:
                continue
            without = level[next(iter(found.values()))["baseline"], budget]
            low, high = (100 * without[f"test_accuracy_{end}"] for end in ("low", "high"))
            accuracy = f"{100 * without['test_accuracy']:.2f} [{low:.2f}, {high:.2f}]"
            cells = [difference(found[ratio]) if ratio in found else "" for ratio in ratios]
            lines.append(f"| {budget} | {arm.words} | {accuracy} | {' | '.join(cells)} |")
    return lines


def difference(row: Mapping[str, Any]) -> str:
    """Points with their interval; bold where Holm's correction over the study's comparisons leaves p below 0.05."""
    points = [signed(row[name]) for name in ("mean_difference", "low", "high")]
    text = f"{points[0]} [{points[1]}, {points[2]}]"
    return f"**{text}**" if row["p_holm"] < 0.05 else text


def signed(share: float) -> str:
    """A difference of shares in points, with its sign."""
    return f"{100 * share:+.2f}".replace("-", "−")


def quality_table(metrics: Mapping[str, Any]) -> list[str]:
    """The generative metrics of one budget: mean of the replicates, floor and copycat."""
    replicates = list(metrics["replicates"].values())
    mean = {
        name: sum(row[name] for row in replicates) / len(replicates) for name in (*QUALITY, "label_fidelity")
    }
    rows = {
        "synthetic, mean of replicates": mean,
        f"floor: real {metrics.get('floor_split', 'train')} images": metrics["floor"],
        "copycat: the GAN's training images + noise": metrics["copycat"],
    }
    lines = [
        f"| images | {' | '.join(('FID', *QUALITY[1:]))} | label fidelity, % |",
        "| --- |" + " ---: |" * 6,
    ]
    for name, row in rows.items():
        values = [f"{row['fid']:.2f}", *(f"{row[metric]:.3f}" for metric in QUALITY[1:])]
        lines.append(f"| {name} | {' | '.join(values)} | {100 * row['label_fidelity']:.2f} |")
    return lines


def arms_table(arms: Iterable[Arm]) -> list[str]:
    """A row per arm without a policy: its name, what it trains on, its baseline, and the same of those with one."""
    lines = [
        "| arm | trains on | compared with | with a policy | compared with |",
        "| --- | --- | --- | --- | --- |",
    ]
    for arm in arms:
        plain = arm if arm.own_name else replace(arm, policy="none")
        twin = ARMS.get(f"{plain.name}_{_A_POLICY}")
        if arm != (plain if plain.name in ARMS else twin):
            continue
        own, baseline = (
            f"`{name}`" if name and plain.name in ARMS else "" for name in (plain.name, plain.baseline)
        )
        with_policy, its_baseline = (
            f"`{name.replace(_A_POLICY, '<policy>')}`" if name else ""
            for name in ((twin.name, twin.baseline) if twin else ("", ""))
        )
        lines.append(f"| {own} | {plain.words} | {baseline} | {with_policy} | {its_baseline} |")
    return lines


def overlap_table() -> list[str]:
    """Ten replicates that share images: how often intervals hold the truth, and how wide they are."""
    rows = pd.read_csv(ROOT / "docs/simulations/overlap.csv")
    rows = rows[(rows["replicates"] == 10) & (rows["about"] == "subsets and seeds")]
    lines = [
        "| train split | share of the variance that is the subset's | replicates | plain interval holds"
        " | this one holds | its width to the ideal one |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows.itertuples():
        lines.append(
            f"| {row.train_split} | {100 * row.subset_share:.0f} % | {row.replicates}"
            f" | {100 * row.plain_coverage:.1f} % | {100 * row.coverage:.1f} % | {row.width_to_ideal:.2f} |"
        )
    return lines


def no_effect_table() -> list[str]:
    """How often synthetic images that change nothing are recommended, by who chooses."""
    rows = pd.read_csv(ROOT / "docs/simulations/no_effect.csv")
    rates = rows.pivot(index=["study", "replicates"], columns="chosen_by", values="recommended")
    lines = [
        "| arms with synthetic images, and how much of their noise they share | replicates | all choose and judge"
        " | judged by the choice of all others | **judged by the choice of those before** |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for (study, replicates), row in rates.sort_index().iterrows():
        lines.append(
            f"| {study} | {replicates} | {100 * row['all']:.1f} % | {100 * row['all others']:.1f} %"
            f" | **{100 * row['those before']:.1f} %** |"
        )
    return lines


def tables(page: str) -> list[list[str]]:
    """The tables of a page: arms and simulations; or the comparison, then the generative metrics of each budget."""
    if page == ARMS_PAGE:
        rare = [arm for arm in ARMS.values() if arm.rare_only]
        others = [arm for arm in ARMS.values() if not arm.rare_only and not arm.pool]
        return [arms_table(others), arms_table(rare), overlap_table(), no_effect_table()]
    if page == POOL_PAGE:
        return [arms_table(arm for arm in ARMS.values() if arm.pool)]
    results = committed_results(PAGES[page])
    return [results_table(results.comparison), *(quality_table(part.generative) for part in results.budgets)]


def committed_results(study: str) -> Results:
    """The results of a study in studies/, of which docs/studies/ has the comparison and the generative metrics."""
    metrics = ROOT / "docs/studies" / study
    params = overlay_params(ROOT / "params.yaml", ROOT / f"studies/{study}.yaml")
    folders = ResultFolders(metrics, gan=metrics, synthetic=metrics, prepared=metrics)
    return Results(folders, Grid.declared(params.study))


if __name__ == "__main__":
    print("\n\n".join("\n".join(table) for table in tables(sys.argv[1])))
