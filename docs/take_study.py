"""Copy a finished study to docs/studies and docs/judgements.csv: `python docs/take_study.py STUDY WORKSPACE WHY`.

Then `python docs/result_tables.py` writes the pages anew.
"""

import csv
import json
import shutil
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
KEPT = ("cells.csv", "comparison.json", "pool.csv", "synthetic", "label_scores")


def take(study: str, workspace: Path, why: str) -> None:
    """Of the workspace of `studies/<study>.yaml`; `why` it was run, for the record of judgements on test."""
    metrics, target = workspace / "data/metrics", DOCS / "studies" / study
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in KEPT:
        if (metrics / name).is_dir():
            shutil.copytree(metrics / name, target / name)
        elif (metrics / name).exists():
            shutil.copyfile(metrics / name, target / name)
    with (workspace / "judgements.csv").open(encoding="utf-8", newline="") as file:
        *_, judged = csv.DictReader(file)
    comparison = json.loads((metrics / "comparison.json").read_text(encoding="utf-8"))
    images = json.loads((workspace / "data/prepared/splits.json").read_text(encoding="utf-8"))["splits"][
        "test"
    ]["images"]
    with (DOCS / "judgements.csv").open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for row in [*comparison.get("imbalance", {}).get("budgets", []), *comparison["budgets"]]:
            chosen = row["best_synthetic"]
            rival = row["best_remedy" if "best_remedy" in row else "best_classic"]
            writer.writerow(
                [
                    judged["date"],
                    judged["commit"],
                    study,
                    judged["seed"],
                    f"{judged['study'].partition(',')[0]} test, {images} images",
                    row["budget"],
                    comparison["replicates"],
                    row["code"],
                    f"{chosen['arm']} at {chosen['synthetic_per_real']}" if chosen else "",
                    rival["arm"],
                    row["mean_difference"],
                    row["low"],
                    row["high"],
                    why,
                ]
            )


if __name__ == "__main__":
    take(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
