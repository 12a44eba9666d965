"""The record of judgements on test: one line for each, in a file at the workspace's root that no run removes.

A test split that is judged again and again is a validation split. So `evaluate_classifiers` writes down what it judges,
before it writes a result: the report says how often these test images have been judged, and earlier judgements stay.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pipeline.errors import SynthGainError
from pipeline.runtime.outputs import only_writer, write_text
from pipeline.study.arms import ARMS
from pipeline.study.metric import WORDS, Metric

COLUMNS = ("key", "date", "study", "params", "commit", "seed", "test", "cells", "result")
_WAIT_SECONDS = 0.02


def content_key(
    test_sha256: str, judged: Sequence[tuple[Mapping[str, Any], npt.NDArray[np.int64]]], metric: Metric
) -> str:
    """What was judged, as a hash: the test images, each cell's facts, what it said of each image, and by what.

    Args:
        test_sha256: of the test split's images.
        judged: the facts of each cell and its predictions (N,) on test, in any order.
        metric: by which the study judges: to judge the same cells by another one is another judgement.
    """
    cells = sorted(
        json.dumps([dict(facts), hashlib.sha256(predictions.tobytes()).hexdigest()], sort_keys=True)
        for facts, predictions in judged
    )
    by = [] if metric == "accuracy" else [metric]  # keys of earlier versions stay
    return hashlib.sha256("\n".join([test_sha256, *cells, *by]).encode()).hexdigest()


def judgement_line(
    cells: pd.DataFrame,
    *,
    key: str,
    metric: Metric,
    test_sha256: str,
    study: str,
    params_sha256: str,
    commit: str,
    seed: int,
) -> dict[str, str]:
    """The line of a judgement, column by column; the date is today's, in UTC.

    Its result is what this stage knows: of each budget the mean on test, by the study's metric, of the two arms,
    without and with synthetic images, that are best on validation. Intervals and the verdict are `comparison.json`'s.

    Args:
        cells: the rows of `cells.csv`.
        key: `content_key`.
        metric: of the study.
        test_sha256: of the test split's images.
        study: what it is, in words.
        params_sha256: of params.yaml.
        commit: of the project.
        seed: of the study: subsets and all else are drawn from it.
    """
    return {
        "key": key,
        "date": datetime.now(UTC).date().isoformat(),
        "study": study,
        "params": params_sha256,
        "commit": commit,
        "seed": str(seed),
        "test": test_sha256,
        "cells": str(len(cells)),
        "result": "; ".join(
            _result(budget, rows, metric) for budget, rows in cells.groupby("budget", sort=False)
        ),
    }


def record_judgement(path: Path, line: Mapping[str, str]) -> bool:
    """Append a judgement to the record, unless its key is there. Existing lines stay as they are, to the byte.

    Another process that writes it is waited for; a kill leaves the record as it was, or with the whole line.

    Returns:
        Whether it is new.

    Raises:
        SynthGainError: if the file is no such record.
    """
    with _after_other_writers(path):
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        if any(row["key"] == line["key"] for row in _rows(path, before)):
            return False
        added = io.StringIO()
        writer = csv.DictWriter(added, COLUMNS, lineterminator="\n")
        if not before:
            writer.writeheader()
        writer.writerow(line)
        end = "" if not before or before.endswith("\n") else "\n"
        write_text(path, before + end + added.getvalue())
    return True


def count_judgements(path: Path, test_sha256: str) -> int:
    """How often these test images were judged, by the record; 0 without a record.

    Raises:
        SynthGainError: if the file is no such record.
    """
    if not path.exists():
        return 0
    return sum(row["test"] == test_sha256 for row in _rows(path, path.read_text(encoding="utf-8")))


def _rows(path: Path, text: str) -> list[dict[str, str]]:
    reader = csv.DictReader(io.StringIO(text))
    if text and tuple(reader.fieldnames or ()) != COLUMNS:
        raise SynthGainError(
            f"{path}: its first line is not that of a record of judgements ({','.join(COLUMNS)}); move the file away"
        )
    return list(reader)


@contextmanager
def _after_other_writers(path: Path) -> Iterator[None]:
    """Hold the file's lock; wait while another process does."""
    with ExitStack() as held:
        while True:
            try:
                held.enter_context(only_writer(path))
                break
            except SynthGainError:
                time.sleep(_WAIT_SECONDS)
        yield


def _result(budget: Any, rows: pd.DataFrame, metric: Metric) -> str:
    """`100 real images: real_affine 0.9694, synthetic_fresh_affine at 2.0 0.9696`."""
    chooses, judges = f"validation_{metric}", f"test_{metric}"
    means = rows.groupby(["arm", "synthetic_per_real"], sort=False)[[chooses, judges]].mean()
    found = []
    for wanted in ("classic", "synthetic"):
        of_kind = [
            arm
            for arm in means.index
            if (ARMS[arm[0]].adds_synthetic if wanted == "synthetic" else ARMS[arm[0]].images == "real")
            and not ARMS[arm[0]].rare_only
        ]
        if of_kind:
            name, ratio = best = means.loc[of_kind, chooses].idxmax()
            found.append(f"{name}{f' at {ratio:g}' if ratio else ''} {means.loc[best, judges]:.4f}")
    by = "" if metric == "accuracy" else f" by {WORDS[metric]}"
    return f"{budget} real images{by}: {', '.join(found)}"
