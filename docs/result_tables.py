"""Write the figures of the pages from committed metrics and the table of arms: `python docs/result_tables.py`.

A figure's place on a page is between `<!-- made: NAME -->` and `<!-- end -->`. tests/test_result_tables.py holds the
pages to what this writes.
"""

import csv
import dataclasses
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.comparison.rare_classes import deciding_metric
from pipeline.comparison.texts import points
from pipeline.maintenance.measured import TABLE, Measured
from pipeline.params import Params, overlay_params
from pipeline.report.charts import gains
from pipeline.report.drawing import png
from pipeline.results import ResultFolders, Results
from pipeline.study.arms import ARMS, Arm, policy_words
from pipeline.study.grid import Grid
from pipeline.study.metric import WORDS, Metric

ROOT = Path(__file__).resolve().parents[1]
# The study that README shows: what it compares was fixed before it ran. Copies of metrics lie in docs/studies/.
ANSWER = "low_data_confirm"
_A_POLICY = "trivial_augment"  # stands for each of them
CHART = ROOT / "docs/images/answer.png"
# Rows of docs/when-it-helps.md: images, study, budget, arm, ratio (no arm: what the verdict is about), minutes on two
# cores.
SITUATIONS = (
    ("MNIST", "low_data", 100, "", None, 100),
    ("MNIST", "low_data_confirm", 100, "synthetic_fresh_affine_elastic", 2.0, 50),
    ("MNIST", "low_data", 100, "synthetic_fresh_affine", 0.5, 100),
    ("MNIST", "pool_100", 100, "", None, 90),
    ("MNIST", "full", 100, "synthetic", 2.0, 60),
    ("MNIST", "full", 1000, "", None, 60),
    ("MNIST", "full", 1000, "synthetic", 2.0, 60),
    ("solar cells", "solar_cells", 1000, "", None, 41),
    ("colour digits", "colour_digits_1000", 1000, "", None, 65),
    ("colour digits", "colour_digits_own", 1000, "", None, 32),
)
QUALITY = ("fid", "precision", "recall", "density", "coverage")


def answer_steps(
    comparison: Mapping[str, Any],
) -> list[tuple[str, Mapping[str, Any], Mapping[str, Any] | None]]:
    """From real images alone to those of the GAN: words, the arm's own row, and its comparison with the one before."""
    levels = {arm["arm"]: arm for arm in comparison["arms"]}
    changes = {row["candidate"]: row for row in comparison["comparisons"] if row["metric"] == "test_accuracy"}
    (added,) = (row for row in changes.values() if row["synthetic_per_real"])
    classic = ARMS[added["baseline"]]
    words = (
        "100 real images",
        f"and {policy_words(classic.policy)} augmentation",
        f"and {added['synthetic_per_real']:g} fresh synthetic images per real one",
    )
    names = ("real", classic.name, added["candidate"])
    return [(text, levels[name], changes.get(name)) for text, name in zip(words, names, strict=True)]


def answer_line(comparison: Mapping[str, Any]) -> str:
    """The answer in one line: what augmentation gave, and what the GAN gave beside it."""
    _, (_, _, classic), (_, _, added) = answer_steps(comparison)
    assert classic is not None and added is not None
    return (
        f"**{'Yes' if added['low'] > 0 else 'No'}**, not for 100 digits of MNIST beside good augmentation. Classic"
        f" augmentation gives {interval(classic)} points of test accuracy. Beside it, 2 synthetic images per real"
        f" one give {interval(added)}."
    )


def interval(row: Mapping[str, Any]) -> str:
    """A paired difference in points with its interval."""
    gain, low, high = (points(row[name]) for name in ("mean_difference", "low", "high"))
    return f"{gain} [{low}, {high}]"


def answer_table(comparison: Mapping[str, Any]) -> list[str]:
    """The same with the accuracies themselves."""
    lines = ["| trained on | test accuracy, % | change by the last step, points |", "| --- | ---: | ---: |"]
    for words, level, change in answer_steps(comparison):
        mean, low, high = (100 * level[f"test_accuracy{end}"] for end in ("", "_low", "_high"))
        lines.append(
            f"| {words} | {mean:.2f} [{low:.2f}, {high:.2f}] | {interval(change) if change else ''} |"
        )
    return lines


def answer_chart(comparison: Mapping[str, Any]) -> bytes:
    """The change by each step."""
    _, (_, _, classic), (_, _, added) = answer_steps(comparison)
    assert classic is not None and added is not None
    steps = [
        (f"classic augmentation: {interval(classic)}", classic),
        (f"GAN images beside it: {interval(added)}", added),
    ]
    return png(gains(steps, "What each step adds to 100 real digits of MNIST"))


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


def arms_of_study_table(comparison: Mapping[str, Any], metric: Metric = "accuracy") -> list[str]:
    """A row per arm of a study: what it reaches, and the paired difference to its baseline, with Holm's bold."""
    place = ("budget", "candidate", "synthetic_per_real")
    rows = [row for row in comparison["comparisons"] if row["metric"] == f"test_{metric}"]
    changes = {tuple(row[name] for name in place): row for row in rows}
    lines = [
        f"| trained on | test {WORDS[metric]}, % | change, points | against |",
        "| --- | ---: | ---: | --- |",
    ]
    for level in comparison["arms"]:
        mean, low, high = (100 * level[f"test_{metric}{end}"] for end in ("", "_low", "_high"))
        change = changes.get((level["budget"], level["arm"], level["synthetic_per_real"]))
        against = ARMS[change["baseline"]].words if change else ""
        lines.append(
            f"| {arm_with_ratio(level)} | {mean:.2f} [{low:.2f}, {high:.2f}]"
            f" | {difference(change) if change else ''} | {against} |"
        )
    return lines


def arm_with_ratio(row: Mapping[str, Any]) -> str:
    """The arm of a row of `comparison.json` for people: `real + synthetic, 2 per real one`."""
    ratio = f", {row['synthetic_per_real']:g} per real one" if row["synthetic_per_real"] else ""
    return f"{ARMS[row['arm']].words}{ratio}"


def rare_classes_table(comparison: Mapping[str, Any]) -> list[str]:
    """A row per arm of a study with rare classes: the recall of each of them on test."""
    section = comparison["imbalance"]
    classes = list(section["classes"])
    lines = [
        f"| recall on test, % | {' | '.join(classes)} | mean of these |",
        "| --- |" + " ---: |" * (len(classes) + 1),
    ]
    for row in section["arms"]:
        recalls = [row[f"test_recall_{name}"] for name in classes] + [row["test_rare_recall"]]
        shown = " | ".join(f"{100 * recall:.1f}" for recall in recalls)
        lines.append(f"| {arm_with_ratio(row)} | {shown} |")
    return lines


def pseudo_labels_table(pools: pd.DataFrame) -> list[str]:
    """A row per replicate: how many images of its pool keep their pseudo-label, and how many of these are right."""
    lines = [
        "| replicate | images of the pool | kept, % | right of these, % | in the worst class, % |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in pools.itertuples():
        shares = (row.coverage, row.kept_accuracy, row.kept_least_class_accuracy)
        shown = " | ".join(f"{100 * share:.2f}" for share in shares)
        lines.append(f"| {row.replicate} | {row.pool_images} | {shown} |")
    return lines


def difference(row: Mapping[str, Any]) -> str:
    """Points with their interval; bold where Holm's correction over the study's comparisons leaves p below 0.05."""
    return f"**{interval(row)}**" if row["p_holm"] < 0.05 else interval(row)


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


def image_quality_table(study: str) -> list[str]:
    """How good the images of each replicate's GAN are: what a classifier learns from them alone, and their metrics.

    The last column is that of real images: the arm on real images, and the floor.
    """
    metrics = committed_results(study).budgets[0].generative
    cells = pd.read_csv(ROOT / "docs/studies" / study / "cells.csv").set_index(["arm", "replicate"])
    replicates = {int(number): row for number, row in metrics["replicates"].items()}
    rows: list[tuple[str, list[float], float, str]] = []
    for split, words in (
        ("test", "accuracy on test"),
        ("validation", "accuracy on validation"),
    ):
        column = 100 * cells[f"{split}_accuracy"]
        made = [float(column["synthetic_only", number]) for number in replicates]
        rows.append(
            (
                f"{words} of a classifier that saw these images alone, %",
                made,
                float(column["real"].mean()),
                ".2f",
            )
        )
    fidelity = [100 * row["label_fidelity"] for row in replicates.values()]
    rows.append(("label fidelity, %", fidelity, 100 * metrics["floor"]["label_fidelity"], ".2f"))
    for name in ("fid", "recall", "coverage"):
        made = [row[name] for row in replicates.values()]
        rows.append(
            ({"fid": "FID"}.get(name, name), made, metrics["floor"][name], ".2f" if name == "fid" else ".3f")
        )
    head = [f"replicate {number}" for number in replicates]
    lines = [f"| | {' | '.join(head)} | mean | real images |", "| --- |" + " ---: |" * (len(head) + 2)]
    for words, made, real, form in rows:
        values = [*made, sum(made) / len(made), real]
        lines.append(f"| {words} | {' | '.join(format(value, form) for value in values)} |")
    return lines


def measured_rows() -> list[Measured]:
    """What was measured in each situation, from the committed comparisons."""
    rows = []
    for data, study, budget, name, ratio, _ in SITUATIONS:
        comparison = committed_results(study).comparison
        declared = study_params(study).study
        metric = declared.metric
        if name:
            (found,) = (
                row
                for row in comparison["comparisons"]
                if (row["candidate"], row["budget"], row["synthetic_per_real"], row["metric"])
                == (name, budget, ratio, "test_accuracy")
            )
            against = found["baseline"]
        else:
            section, rival = comparison, "best_classic"
            if "imbalance" in comparison:  # the verdict on rare classes comes first
                section, rival = comparison["imbalance"], "best_remedy"
                metric = deciding_metric(Grid.declared(declared))
            (found,) = (row for row in section["budgets"] if row["budget"] == budget)
            name, ratio = (found["best_synthetic"][key] for key in ("arm", "synthetic_per_real"))
            against = found[rival]["arm"]
        gain, low, high = (round(100 * found[key], 2) for key in ("mean_difference", "low", "high"))
        replicates = next(row["replicates"] for row in comparison["arms"] if row["budget"] == budget)
        arm = ARMS[name]
        rows.append(
            Measured(
                data=data,
                labels=budget,
                pool=declared.pool != "none",
                rare=arm.rare_only,
                classic=arm.policy,
                arm=name,
                ratio=ratio,
                against=against,
                metric=metric,
                gain=gain,
                low=low,
                high=high,
                replicates=replicates,
                study=study,
            )
        )
    return rows


def measured_csv() -> str:
    """The same as the table that `synthgain plan` reads."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(field.name for field in dataclasses.fields(Measured))
    for row in measured_rows():
        writer.writerow(
            "yes" if value is True else "no" if value is False else value
            for value in dataclasses.astuple(row)
        )
    return text.getvalue()


def measured_table() -> list[str]:
    """The same as a table for people."""
    lines = [
        "| images | labels | points on test [95 %] | added | compared with | minutes | data |",
        "| --- | ---: | ---: | --- | --- | ---: | --- |",
    ]
    for row, (*_, minutes) in zip(measured_rows(), SITUATIONS, strict=True):
        added = ARMS[row.arm].words.removeprefix("real + ").removesuffix(f", {policy_words(row.classic)}")
        many = f"{row.ratio:g} {added} per real one" if row.ratio else added
        metric = "" if row.metric == "accuracy" else f" of {WORDS[row.metric]}"
        lines.append(
            f"| {row.data} | {row.labels} | {row.interval}{metric} | {many} | {ARMS[row.against].words}"
            f" | {minutes} | [{row.study}](studies/{row.study}/comparison.json), {row.replicates} replicates |"
        )
    return lines


def arms_table(arms: Iterable[Arm]) -> list[str]:
    """A row per arm without a policy: its name, what it trains on, its baseline, and the same of those with one."""
    lines = [
        "| arm | trains on | compared with | with a policy | compared with |",
        "| --- | --- | --- | --- | --- |",
    ]
    for arm in arms:
        plain = arm if arm.own_name else dataclasses.replace(arm, policy="none")
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


def verdict_line(comparison: Mapping[str, Any]) -> list[str]:
    """The verdict as a paragraph."""
    return [f"**The answer**: {comparison['verdict']}"]


def of_study(study: str) -> dict[str, list[str]]:
    """The verdict, the comparison, and the generative metrics of each budget."""
    results = committed_results(study)
    quality = {f"quality {part.budget}": quality_table(part.generative) for part in results.budgets}
    return {
        f"verdict {study}": verdict_line(results.comparison),
        f"changes {study}": results_table(results.comparison),
        **quality,
    }


def made() -> dict[str, dict[str, list[str]]]:
    """Page → the name of a place on it → its lines."""
    answer = committed_results(ANSWER).comparison
    return {
        "README.md": {
            "answer": [answer_line(answer)],
            "steps": answer_table(answer),
        },
        "docs/low-data.md": {
            **of_study("low_data"),
            **{name: lines for name, lines in of_study("low_data_confirm").items() if "low_data" in name},
        },
        "docs/ratios.md": of_study("full"),
        "docs/gan.md": {"quality colour_digits": image_quality_table("colour_digits")},
        "docs/when-it-helps.md": {"measured": measured_table()},
        "docs/pool.md": {
            "arms": arms_table(arm for arm in ARMS.values() if arm.pool),
            **pool_study("pool_100"),
        },
        "docs/own-data.md": {
            **own_study("solar_cells", "balanced_accuracy"),
            **own_study("colour_digits_1000"),
            **own_study("colour_digits_own"),
            **{
                f"quality {study}": quality_table(committed_results(study).budgets[0].generative)
                for study in ("colour_digits_1000", "colour_digits_own")
            },
            "rare classes solar_cells": rare_classes_table(committed_results("solar_cells").comparison),
        },
        "docs/numbers.md": {
            "arms": arms_table(arm for arm in ARMS.values() if not arm.rare_only and not arm.pool),
            "arms for rare classes": arms_table(arm for arm in ARMS.values() if arm.rare_only),
            "overlap": overlap_table(),
            "no effect": no_effect_table(),
        },
    }


def with_made(text: str, places: Mapping[str, Sequence[str]]) -> str:
    """A page with the lines of its places, which all have to be there."""
    for name, lines in places.items():
        start, end = f"<!-- made: {name} -->\n", "<!-- end -->"
        before, found, rest = text.partition(start)
        if not found:
            raise SystemExit(f"no place {start.strip()}")
        text = "".join([before, start, "\n".join(lines), "\n", end, rest.partition(end)[2]])
    return text


def pool_study(study: str) -> dict[str, list[str]]:
    """As `of_study`, with all arms side by side, and how good the pseudo-labels are."""
    pools = pd.read_csv(ROOT / "docs/studies" / study / "pool.csv")
    return of_study(study) | {
        f"changes {study}": arms_of_study_table(committed_results(study).comparison),
        f"pseudo-labels {study}": pseudo_labels_table(pools),
    }


def own_study(study: str, metric: Metric = "accuracy") -> dict[str, list[str]]:
    """The verdict, and all arms side by side."""
    comparison = committed_results(study).comparison
    return {
        f"verdict {study}": verdict_line(comparison),
        f"changes {study}": arms_of_study_table(comparison, metric),
    }


def committed_results(study: str) -> Results:
    """The results of a study in studies/, of which docs/studies/ has the comparison and the generative metrics."""
    metrics = ROOT / "docs/studies" / study
    folders = ResultFolders(metrics, gan=metrics, synthetic=metrics, prepared=metrics)
    return Results(folders, Grid.declared(study_params(study).study))


def study_params(study: str) -> Params:
    """The parameters of a study in studies/."""
    return overlay_params(ROOT / "params.yaml", ROOT / f"studies/{study}.yaml")


if __name__ == "__main__":
    for name, places in made().items():
        page = ROOT / name
        page.write_text(with_made(page.read_text(encoding="utf-8"), places), encoding="utf-8")
    TABLE.write_text(measured_csv(), encoding="utf-8")
    CHART.write_bytes(answer_chart(committed_results(ANSWER).comparison))
