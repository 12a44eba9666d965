"""The record of judgements: a line for each new one, none lost, by two processes or a kill."""

import csv
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import SynthGainError
from pipeline.runtime.commit import WORKSPACE_MARK, project_commit
from pipeline.scoring.judgements import (
    COLUMNS,
    content_key,
    count_judgements,
    judgement_line,
    record_judgement,
)


def line(key="a", test="t"):
    return {**dict.fromkeys(COLUMNS, "x, y"), "key": key, "test": test}


def keys(path):
    with path.open(newline="") as file:
        return [row["key"] for row in csv.DictReader(file)]


def test_a_judgement_is_recorded_once_and_earlier_ones_stay_to_the_byte(tmp_path):
    record = tmp_path / "judgements.csv"
    assert count_judgements(record, "t") == 0
    assert record_judgement(record, line("a"))
    record.write_text(record.read_text() + 'b,"by, hand",x,x,x,x,other,x,x')  # and no line's end
    before = record.read_text()
    assert not record_judgement(record, line("a")) and not record_judgement(record, line("b"))
    assert record.read_text() == before
    assert record_judgement(record, line("c"))
    assert record.read_text().startswith(before + "\n") and keys(record) == ["a", "b", "c"]
    assert (count_judgements(record, "t"), count_judgements(record, "other")) == (2, 1)


def test_a_file_of_something_else_is_left_alone(tmp_path):
    record = tmp_path / "judgements.csv"
    record.write_text("my,own,table\n1,2,3\n")
    with pytest.raises(SynthGainError, match=r"not that of a record of judgements .*; move the file away"):
        record_judgement(record, line())
    assert record.read_text() == "my,own,table\n1,2,3\n"


WRITER = """
import sys, pathlib
from pipeline.scoring.judgements import COLUMNS, record_judgement
record, first, count = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
for i in range(first, first + count):
    record_judgement(record, {**dict.fromkeys(COLUMNS, "x"), "key": str(i)})
    print(i, flush=True)
"""


def start_writer(record, first, count):
    command = [sys.executable, "-c", WRITER, str(record), str(first), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_and_a_kill_lose_no_line_and_write_none_twice(tmp_path):
    record = tmp_path / "judgements.csv"
    record_judgement(record, line("before"))
    killed, other = start_writer(record, 0, 10_000), start_writer(record, 20, 30)
    for _ in range(12):  # it is in the middle of its work
        killed.stdout.readline()
    os.kill(killed.pid, signal.SIGKILL)
    said = killed.stdout.read().split()
    killed.wait(), other.wait()
    other.stdout.close(), killed.stdout.close()
    found = keys(record)
    assert len(found) == len(set(found)) and found[0] == "before"
    assert {str(i) for i in range(20, 50)} <= set(found)
    assert {str(i) for i in range(11)} | {word for word in said if word.isdecimal()} <= set(found)
    assert record_judgement(record, line("after"))  # nothing of the killed one is in the way


def test_what_is_judged_is_named_by_its_content():
    facts, seen = {"arm": "real", "replicate": 0}, np.array([1, 2, 3])
    other = {"arm": "real", "replicate": 1}
    key = content_key("t", [(facts, seen), (other, seen)], "accuracy")
    assert key != content_key(
        "t", [(facts, seen), (other, seen)], "macro_f1"
    )  # judged again, by another measure
    assert key == content_key("t", [(other, seen), (facts, seen)], "accuracy")  # in any order
    assert key != content_key("u", [(facts, seen), (other, seen)], "accuracy")
    assert key != content_key("t", [(facts, seen), (other, seen + 1)], "accuracy")
    assert key != content_key("t", [(facts, seen)], "accuracy")


def test_the_result_is_that_of_the_arms_which_validation_chooses():
    rows = [
        ("100", "real", 0.0, 0.90, 0.91),
        ("100", "real_affine", 0.0, 0.95, 0.94),
        ("100", "synthetic_affine", 0.5, 0.96, 0.93),
        ("100", "synthetic_affine", 1.0, 0.94, 0.99),
        ("100", "extra_real", 1.0, 0.99, 0.99),
        ("all", "real", 0.0, 0.99, 0.985),
    ]
    columns = ["budget", "arm", "synthetic_per_real", "validation_accuracy", "test_accuracy"]
    told = judgement_line(
        pd.DataFrame(rows, columns=columns),
        key="k",
        metric="accuracy",
        test_sha256="t",
        study="s",
        params_sha256="p",
        commit="c",
        seed=7,
    )
    assert told["result"] == (
        "100 real images: real_affine 0.9400, synthetic_affine at 0.5 0.9300; all real images: real 0.9850"
    )
    by_f1 = judgement_line(
        pd.DataFrame(rows, columns=[name.replace("accuracy", "macro_f1") for name in columns]),
        key="k",
        metric="macro_f1",
        test_sha256="t",
        study="s",
        params_sha256="p",
        commit="c",
        seed=7,
    )
    assert by_f1["result"].startswith(
        "100 real images by macro-F1: real_affine 0.9400, synthetic_affine at 0.5"
    )
    assert tuple(told) == COLUMNS and told["cells"] == "6" and told["seed"] == "7"
    assert time.strptime(told["date"], "%Y-%m-%d")


def test_the_commit_is_that_of_the_code(tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        return subprocess.run(
            ["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "-q")
    (tmp_path / "params.yaml").write_text("seed: 1\n")
    git("add", "."), git("commit", "-qm", "one")
    head = git("rev-parse", "HEAD")
    assert project_commit(tmp_path) == head
    (tmp_path / "params.yaml").write_text("seed: 2\n")
    assert project_commit(tmp_path) == f"{head}+changes"
    workspace = tmp_path / "build/one"  # in a clone, and no part of it
    workspace.mkdir(parents=True)
    assert project_commit(workspace).startswith("version ")
    (workspace / WORKSPACE_MARK).write_text("abc\n")
    assert project_commit(workspace) == "abc"
    (workspace / WORKSPACE_MARK).write_text("")  # of an earlier version
    assert project_commit(workspace) == "unknown"
