"""Print the result tables of the README from data/metrics: `python docs/readme_tables.py`.

tests/test_readme.py holds the README against them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TRAINED_ON = {
    "real": "real only",
    "repeat": "real, repeated",
    "synthetic": "real + synthetic",
    "synthetic_only": "synthetic only",
    "extra_real": "real + extra real",
}
QUALITY = ("fid", "precision", "recall", "density", "coverage")


def arm_name(arm: str) -> str:
    """`synthetic_affine_elastic` as a reader says it."""
    for suffix, words in (("_affine_elastic", ", affine + elastic"), ("_affine", ", affine")):
        if arm.endswith(suffix):
            return TRAINED_ON[arm.removesuffix(suffix)] + words
    return TRAINED_ON[arm]


def results_table(comparison: Mapping[str, Any]) -> list[str]:
    """A row per arm: accuracy and the paired difference to the same training without what the arm adds."""
    found = {
        (row["candidate"], row["budget"], row["synthetic_per_real"]): row
        for row in comparison["comparisons"]
        if row["metric"] == "test_accuracy"
    }
    lines = [
        "| real images | trained on | ratio | test accuracy, % [95 %] | paired difference, points [95 %] | p (Holm) |",
        "| ---: | --- | ---: | --- | --- | ---: |",
    ]
    for arm in comparison["arms"]:
        key = (arm["arm"], arm["budget"], arm["synthetic_per_real"])
        low, high = 100 * arm["test_accuracy_low"], 100 * arm["test_accuracy_high"]
        accuracy = f"{100 * arm['test_accuracy']:.2f} [{low:.2f}, {high:.2f}]"
        difference = p = ""
        if row := found.get(key):
            points = [signed(row[name]) for name in ("mean_difference", "low", "high")]
            difference = f"{points[0]} [{points[1]}, {points[2]}]"
            p = f"{row['p_holm']:.2g}"
        ratio = f"{arm['synthetic_per_real']:g}" if arm["synthetic_per_real"] else ""
        lines.append(
            f"| {arm['budget']} | {arm_name(arm['arm'])} | {ratio} | {accuracy} | {difference} | {p} |"
        )
    return lines


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


def tables() -> list[list[str]]:
    """The tables of the committed results: the comparison, then the generative metrics of each budget."""
    metrics = ROOT / "data/metrics"
    comparison = json.loads((metrics / "comparison.json").read_text(encoding="utf-8"))
    budgets = [row["budget"] for row in comparison["budgets"]]
    files = [metrics / f"synthetic/{budget}.json" for budget in budgets]
    return [
        results_table(comparison),
        *(quality_table(json.loads(file.read_text(encoding="utf-8"))) for file in files),
    ]


if __name__ == "__main__":
    print("\n\n".join("\n".join(table) for table in tables()))
