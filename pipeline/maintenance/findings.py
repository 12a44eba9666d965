"""What a look at a project finds: checks, and findings with their remedies."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.redaction import without_secrets


@dataclass(frozen=True)
class Finding:
    """A fault, where it is, and how to repair it."""

    problem: str
    where: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}; {self.remedy}"


@dataclass(frozen=True)
class Check:
    """A look at a part of the project: its name, what was seen in a few words, and the faults."""

    name: str
    seen: str
    findings: Sequence[Finding] = ()


def first_words(error: BaseException) -> str:
    """An error's message on one line, shortened, without passwords."""
    return without_secrets(" ".join(str(error).split()) or type(error).__name__)[:200]


def as_json(checks: Sequence[Check]) -> dict[str, Any]:
    """The checks for a machine: every finding with its check, what, where and remedy."""
    return {
        "python": sys.version.split()[0],
        "checks": [{"name": check.name, "seen": check.seen} for check in checks],
        "findings": [
            {
                "check": check.name,
                "what": finding.problem,
                "where": finding.where,
                "remedy": finding.remedy,
            }
            for check in checks
            for finding in check.findings
        ],
    }
