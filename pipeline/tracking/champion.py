"""Which generator is the champion: decided on validation CAS, and said in a sentence. No MLflow here."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.checkpoints import file_sha256
from pipeline.errors import SynthGainError
from pipeline.params import Params
from pipeline.study.grid import positive_ratios
from pipeline.study.metric import WORDS
from pipeline.study.subsets import parse_budget


@dataclass(frozen=True)
class Candidate:
    """A generator that may become the champion.

    Attributes:
        generator: its file.
        generator_sha256: of the file.
        budget, replicate: of the study.
        cas: classification score on validation by `study.metric`, in 0..1 (of accuracy, the classification accuracy
            score): of the classifier that was trained on its images alone, at the largest ratio.
        synthetic_per_real: that ratio.
        protocol: hash of what else the score depends on: validation images, classifier, budget, ratio, metric.
            Scores of different protocols cannot be compared.
    """

    generator: Path
    generator_sha256: str
    budget: str
    replicate: int
    cas: float
    synthetic_per_real: float
    protocol: str


@dataclass(frozen=True)
class Holder:
    """The champion so far, as the registry knows it."""

    version: str
    generator_sha256: str
    cas: float
    protocol: str


def reason_without_candidate(params: Params) -> str | None:
    """Why the exported replicate's generator has no score of its own, in a study of such parameters; None: it has."""
    if params.generator.kind != "gan":
        return f"generator.kind is {params.generator.kind}: its images are not of a GAN of this project"
    if "synthetic_only" not in params.study.arms or not positive_ratios(params.study.synthetic_per_real):
        return "its score is that of the arm synthetic_only, which this study does not train"
    if params.study.generators_per_replicate > 1:
        return "study.generators_per_replicate is above 1: the study's images are of several generators"
    if params.generation.latent_std != 1:
        return "generation.latent_std is not 1, at which a registered model draws"
    return None


def find_candidate(params: Params, *, cells: Path, splits: Path, generator: Path, budget: str) -> Candidate:
    """The generator of the exported replicate, with its validation CAS.

    Args:
        params: the parameters, of a study that has a candidate (`reason_without_candidate`).
        cells: `cells.csv`.
        splits: `splits.json`, which identifies the validation images.
        generator: its file.
        budget: the exported one.

    Raises:
        SynthGainError: if the tables lack what is needed.
    """
    replicate = params.export.replicate
    try:
        table = pd.read_csv(cells, dtype={"budget": str})
        rows = table[
            (table["arm"] == "synthetic_only")
            & (table["budget"] == budget)
            & (table["replicate"] == replicate)
            & table["synthetic_per_real"].isin(params.study.synthetic_per_real)
        ]
        row = rows.sort_values("synthetic_per_real").iloc[-1]
        validation = json.loads(splits.read_text(encoding="utf-8"))["splits"]["validation"]["pixels_sha256"]
        cas, ratio = float(row[f"validation_{params.study.metric}"]), float(row["synthetic_per_real"])
    except FileNotFoundError as error:
        raise SynthGainError(f"{error.filename}: no such file; `dvc repro` makes it") from None
    except (ValueError, LookupError, TypeError) as error:
        raise SynthGainError(
            f"{cells}, {splits}: no validation {WORDS[params.study.metric]} of arm synthetic_only for budget {budget},"
            f" replicate {replicate} ({error}); `dvc repro` makes them again"
        ) from None
    # Both sections as one, and of augmentation what the first version had: the scores of earlier studies can still be
    # compared. The scored arm has no augmentation.
    settings = {
        **params.classifier.of_budget(parse_budget(budget)).model_dump(),
        **{
            name: value
            for name, value in params.augmentation.model_dump().items()
            if name.startswith(("affine_", "elastic_"))
        },
    }
    content = [validation, settings, budget, ratio]
    if params.study.metric != "accuracy":
        content.append(params.study.metric)
    protocol = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    if not generator.is_file():
        raise SynthGainError(f"{generator}: no such file; `dvc repro` makes it")
    return Candidate(generator, file_sha256(generator), budget, replicate, cas, ratio, protocol)


def decide(candidate: Candidate, holder: Holder | None, *, unreadable: str | None = None) -> tuple[bool, str]:
    """Whether the candidate becomes the champion, and why; `unreadable`: why the holder cannot be loaded any more."""
    if holder is None:
        return True, f"first generator, validation CAS {candidate.cas:.4f}"
    if holder.generator_sha256 == candidate.generator_sha256:
        return False, f"version {holder.version} is this generator, validation CAS {holder.cas:.4f}"
    if unreadable is not None:
        return True, (
            f"this version of SynthGain cannot load version {holder.version} ({unreadable}), which had validation CAS"
            f" {holder.cas:.4f}; this one has {candidate.cas:.4f}"
        )
    if holder.protocol != candidate.protocol:
        return False, (
            f"version {holder.version} was scored under another protocol (validation images, classifier, budget,"
            f" ratio or metric), so its CAS {holder.cas:.4f} and {candidate.cas:.4f} cannot be compared; move the alias"
            " by hand if this one is to replace it"
        )
    if candidate.cas > holder.cas:
        return True, f"validation CAS {candidate.cas:.4f}, version {holder.version} has {holder.cas:.4f}"
    return False, (
        f"validation CAS {candidate.cas:.4f} is no better than {holder.cas:.4f} of version {holder.version}"
    )
