"""Print the result tables of a page from its committed metrics: `python docs/result_tables.py README.md`.

tests/test_result_tables.py holds the pages against them.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# Page → its metrics: those of the default study, and copies of those of studies in workspaces.
PAGES = {
    "README.md": "docs/studies/full",
    "docs/low-data.md": "docs/studies/low_data",
}
ADDED = {
    "synthetic": "synthetic images",
    "synthetic_affine": "synthetic images, affine",
    "synthetic_affine_elastic": "synthetic images, affine + elastic",
    "synthetic_fresh_affine": "new ones in each pass, affine",
    "synthetic_fresh_affine_elastic": "new ones in each pass, affine + elastic",
    "synthetic_fresh_filtered_affine_elastic": "new ones, filtered, affine + elastic",
    "synthetic_only": "synthetic images in place of the real ones",
    "repeat": "control: the same real images again",
    "extra_real": "upper bound: other real images",
    "extra_real_affine_elastic": "upper bound, affine + elastic",
}
QUALITY = ("fid", "precision", "recall", "density", "coverage")


def results_table(comparison: Mapping[str, Any]) -> list[str]:
    """A row per arm with something added: what it is added to, and the paired difference at each ratio."""
    level = {(arm["arm"], arm["budget"]): arm for arm in comparison["arms"]}
    rows = [row for row in comparison["comparisons"] if row["metric"] == "test_accuracy"]
    ratios = sorted({row["synthetic_per_real"] for row in rows} - {0})
    lines = [
        f"| real images | added | without it, % [95 %] | {' | '.join(f'{ratio:g} per real one' for ratio in ratios)} |",
        "| ---: | --- | ---: |" + " ---: |" * len(ratios),
    ]
    for budget in dict.fromkeys(row["budget"] for row in rows):
        for arm, words in ADDED.items():
            found = {
                row["synthetic_per_real"]: row
                for row in rows
                if (row["candidate"], row["budget"]) == (arm, budget)
            }
            if not found:
                continue
            without = level[next(iter(found.values()))["baseline"], budget]
            low, high = (100 * without[f"test_accuracy_{end}"] for end in ("low", "high"))
            accuracy = f"{100 * without['test_accuracy']:.2f} [{low:.2f}, {high:.2f}]"
            cells = [difference(found[ratio]) if ratio in found else "" for ratio in ratios]
            lines.append(f"| {budget} | {words} | {accuracy} | {' | '.join(cells)} |")
    return lines


def difference(row: Mapping[str, Any]) -> str:
    """Points with their interval; bold where Holm's correction over the ratios leaves p below 0.05."""
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
        "floor: real train images": metrics["floor"],
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


def tables(page: str) -> list[list[str]]:
    """The tables of a page: the comparison, then the generative metrics of each budget."""
    metrics = ROOT / PAGES[page]
    comparison = json.loads((metrics / "comparison.json").read_text(encoding="utf-8"))
    budgets = [row["budget"] for row in comparison["budgets"]]
    files = [metrics / f"synthetic/{budget}.json" for budget in budgets]
    return [
        results_table(comparison),
        *(quality_table(json.loads(file.read_text(encoding="utf-8"))) for file in files),
    ]


if __name__ == "__main__":
    print("\n\n".join("\n".join(table) for table in tables(sys.argv[1])))
