"""Write docs/reference.md, every parameter and every metric: `python docs/reference_page.py`.

Keys and bounds are those of the pydantic models, values and words those of params.yaml. The words for the metrics stand
here, and tests/test_reference_page.py holds them against the tables that the stages write.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline.params import Params

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/reference.md"
_INTRODUCTION = """# Every parameter and every metric

Made by `python docs/reference_page.py` from `params.yaml` and the models that check it. A test holds this page to them.

## Parameters

`params.yaml` holds every value. `synthgain workspace DIR --params OVERLAY.yaml` changes some of them for one study
([running](running.md)). A key that does not exist is refused in one line before anything runs, and so is a value that
is not allowed.
"""
_METRICS = """## Metrics

A share is a number from 0 to 1. *Better* says which direction is good. Except for the `validation_` columns, all are
about test images. How each is made: [the numbers](numbers.md).
"""

# File below data/metrics → column or key → (range, better, words). `<class>` stands for a class's name.
METRICS: Mapping[str, Mapping[str, tuple[str, str, str]]] = {
    "cells.csv": {
        "test_accuracy": ("share", "higher", "right labels among the test images"),
        "test_balanced_accuracy": ("share", "higher", "mean of the classes' recalls"),
        "test_macro_f1": ("share", "higher", "mean of the classes' F1"),
        "test_f1_<class>": ("share", "higher", "F1 of one class"),
        "validation_accuracy": ("share", "higher", "the same on validation images; the choice is made by it"),
        "validation_balanced_accuracy": ("share", "higher", "as on test"),
        "validation_macro_f1": ("share", "higher", "as on test"),
        "validation_few_accuracy": (
            "share",
            "higher",
            "on as many validation images as the budget has; what a choice with so few labels would see",
        ),
        "validation_few_balanced_accuracy": ("share", "higher", "the same by that metric"),
        "validation_few_macro_f1": ("share", "higher", "the same by that metric"),
    },
    "pool.csv": {
        "coverage": ("share", "higher", "pseudo-labels of the pool that are sure enough to be used"),
        "accuracy": ("share", "higher", "pseudo-labels that are right"),
        "kept_accuracy": ("share", "higher", "of those that are used, the right ones"),
        "kept_least_class_accuracy": ("share", "higher", "the same of the true class in which it is lowest"),
    },
    "comparison.json, comparisons": {
        "mean_difference": ("−1 to 1", "higher", "candidate minus baseline, mean of the paired replicates"),
        "low": ("−1 to 1", "above 0", "low end of its 95 % interval"),
        "high": ("−1 to 1", "", "high end"),
        "p": ("0 to 1", "", "of the paired t-test with the variance of overlapping subsets"),
        "p_holm": ("0 to 1", "", "the same after Holm over all rows of the family"),
        "p_sign_flip": (
            "0 to 1",
            "",
            "of the exact sign-flip test, without any assumption of a distribution",
        ),
        "probability_of_improvement": (
            "0 to 1",
            "above 0.5",
            "that a replicate of the candidate beats one of the baseline",
        ),
        "minimum_detectable_effect": ("≥ 0", "lower", "the effect that this study finds in 80 of 100 cases"),
        "replicates_to_settle": ("≥ 2", "lower", "replicates with which this difference would leave 0 out"),
        "standard_deviation": ("≥ 0", "lower", "of the paired differences"),
    },
    "synthetic/<budget>.json": {
        "fid": ("≥ 0", "lower", "Fréchet distance of the two sets in the features of the study's own CNN"),
        "fid_per_class": ("≥ 0", "lower", "the same within one class"),
        "kid": ("about 0 and up", "lower", "squared maximum mean discrepancy, cubic kernel, unbiased"),
        "inception_score": ("1 to classes", "higher", "clear and varied labels, by the study's own CNN"),
        "precision": ("share", "higher", "synthetic images that lie where real ones do"),
        "recall": ("share", "higher", "real images that lie where synthetic ones do"),
        "density": ("≥ 0", "higher", "precision that counts how many real neighbourhoods hold an image"),
        "coverage": ("share", "higher", "real images with a synthetic one in their neighbourhood"),
        "label_fidelity": (
            "share",
            "higher",
            "synthetic images in which the CNN sees the class that was asked for",
        ),
        "label_fidelity_per_class": ("share", "higher", "the same of one class"),
    },
    "synthetic/<budget>.json, memorization": {
        "near_copies": (
            "share",
            "lower",
            "images nearer to a training image than 99 % of held-out real images are, for its surroundings",
        ),
        "near_duplicates": (
            "share",
            "lower",
            "images nearer to another of the set than 99 % of real images are",
        ),
        "authenticity": (
            "share",
            "higher",
            "images farther from their nearest training image than that one is from the next training image",
        ),
        "c_t": (
            "any",
            "about 0",
            "z-score; far below 0: nearer to the training images than held-out ones are",
        ),
        "median_distance": ("≥ 0", "", "to the nearest training image"),
    },
    "gan/<budget>.csv": {
        "d_loss": ("any", "", "of the discriminator"),
        "g_loss": ("any", "", "of the generator"),
        "d_accuracy": ("share", "about 0.5 to 0.8", "pairs that the discriminator tells apart"),
        "label_fidelity_1nn": (
            "share",
            "higher",
            "labels that the nearest real image agrees with; for collapse only",
        ),
        "diversity": ("≥ 0", "about 1", "spread within a class, as a share of real images'"),
    },
    "summary.json": {
        "without": ("share", "higher", "the best arm without synthetic images, on test"),
        "with": ("share", "higher", "the best with them"),
        "gain": ("−1 to 1", "higher", "mean of the paired differences that the verdict is about"),
        "low": ("−1 to 1", "above 0", "low end of its 95 % interval"),
        "high": ("−1 to 1", "", "high end"),
        "ratio": ("≥ 0", "", "the recommended synthetic images per real one; 0: none"),
        "fid": ("≥ 0", "lower", "mean of the replicates' GANs"),
    },
}


def page() -> str:
    """The whole page."""
    parts = [_INTRODUCTION]
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    words = words_of_keys((ROOT / "params.yaml").read_text(encoding="utf-8"))
    schema = Params.model_json_schema()
    for section, content in values.items():
        of_section = resolved(schema["properties"][section], schema)
        keys = content if isinstance(content, Mapping) and "properties" in of_section else {section: content}
        rows = []
        for key, value in keys.items():
            of_key = of_section["properties"][key] if key != section else of_section
            rows.append(
                f"| `{key}` | `{shown(value)}` | {allowed(of_key, schema)} | {words.get((section, key), '')} |"
            )
        parts.append(table(section, ("key", "shipped", "allowed", "what"), rows))
    parts.append(_METRICS)
    for file, metrics in METRICS.items():
        rows = [
            f"| `{name}` | {scale} | {better} | {meaning} |"
            for name, (scale, better, meaning) in metrics.items()
        ]
        parts.append(table(file, ("metric", "range", "better", "what"), rows))
    return "\n".join(parts)


def table(heading: str, columns: Sequence[str], rows: Sequence[str]) -> str:
    """A table under a heading of its own."""
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}", *rows]
    return "\n".join([f"### {heading}\n", *lines, ""])


def words_of_keys(text: str) -> dict[tuple[str, str], str]:
    """(section, key) → the comment beside it."""
    words, section = {}, ""
    for line in text.splitlines():
        if found := re.match(r"(?P<indent> *)(?P<key>\w+):(?P<value>[^#]*)(#\s*(?P<words>.*))?$", line):
            if not found["indent"]:
                section = found["key"]
            comment = (found["words"] or "").replace("<", "&lt;")
            words[section, found["key"]] = re.sub(r"\(docs/(\S+?\.md)\)", r"([more](\1))", comment)
    return words


def resolved(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> Mapping[str, Any]:
    """A JSON schema, with the definition that it names in its place."""
    if "$ref" in schema:
        return whole["$defs"][schema["$ref"].rsplit("/", 1)[1]]  # type: ignore[no-any-return]
    return schema


def shown(value: Any) -> str:
    """A value as it may stand in params.yaml."""
    return (
        yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n").removesuffix("\n...")
    )


def allowed(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    """What a JSON schema allows, in words."""
    return " or ".join(dict.fromkeys(_allowed(resolved(schema, whole), whole)))


def _allowed(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> Iterator[str]:
    if [choice.get("type") for choice in schema.get("anyOf", [])] == ["integer", "number"]:
        yield ", ".join(["number", *_bounds(schema)])  # `1` and `1.0` are kept as written
    elif "anyOf" in schema:
        for choice in schema["anyOf"]:
            yield from _allowed(resolved(choice, whole), whole)
    elif "enum" in schema or "const" in schema:
        yield ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    elif schema.get("type") in ("integer", "number"):
        kind = "whole number" if schema["type"] == "integer" else "number"
        yield ", ".join([kind, *_bounds(schema)])
    elif schema.get("type") == "array":
        of_item = allowed(schema.get("items", {}), whole)
        yield f"list of {of_item}" if of_item else "list"
    elif schema.get("type") == "boolean":
        yield "`true`, `false`"
    elif schema.get("type") == "object":
        yield "mapping"
    elif schema.get("type") == "string":
        yield "text"


def _bounds(schema: Mapping[str, Any]) -> Iterator[str]:
    # Of a union, pydantic leaves its own names: JSON schema has no bound of a union.
    for names, sign in (
        (("minimum", "ge"), "≥"),
        (("exclusiveMinimum", "gt"), ">"),
        (("maximum", "le"), "≤"),
        (("exclusiveMaximum", "lt"), "<"),
    ):
        for name in names:
            if name in schema:
                yield f"{sign} {schema[name]:g}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
