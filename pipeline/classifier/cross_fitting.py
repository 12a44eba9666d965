"""Classifiers that judge labels fairly: cross-fitted on a replicate's own real subset, and on nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from pipeline.augmentation.classic import Augment, Strengths, classic_augmentation
from pipeline.augmentation.policies import POLICIES
from pipeline.classifier.network import Network, class_probabilities
from pipeline.classifier.own_network import recipe_of
from pipeline.classifier.training import Recipe, train_classifier
from pipeline.images import Indices, LabeledImages, concatenate, images_sha256
from pipeline.params import Augmentation, Classifier, Execution
from pipeline.runtime.device import configure, training_dtype, workers_for
from pipeline.runtime.parallel import parallel_map
from pipeline.runtime.progress import Advance, progress
from pipeline.runtime.seeds import derive_seed
from pipeline.runtime.store import find_result, keep_result, result_key, this_store
from pipeline.study.label_filter import LabelAgreement, accepts, load_agreement, save_agreements
from pipeline.study.subsets import missing_counts
from pipeline.study.training_sets import copies

_FILE = "agreement.npz"


def cross_fitted_agreement(
    real: LabeledImages,
    synthetic: LabeledImages,
    *,
    classifier: Classifier,
    augmentation: Augmentation,
    folds: int,
    steps: int,
    least_probability: float,
    seed: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    advance: Advance,
) -> LabelAgreement:
    """Judge the labels of synthetic images with `folds` classifiers, each trained on the real subset without a fold.

    They know what a study with this many labels can know, no more: neither validation images nor the feature
    extractor have a part in it. A synthetic image gets the mean of their probabilities. A real image is judged
    by the classifier that has not seen it: what it accepts of real images is the anchor beside what they accept
    of synthetic ones (a single judge, so rather less than the mean of all).

    Args:
        real: the replicate's real subset.
        synthetic: images of the generator that was trained on it.
        classifier, augmentation: their sections of the parameters; the judges see images under policy affine.
        folds: how many judges, at least 2.
        steps: optimiser steps of each.
        least_probability: of the filter; here it counts for the real images' anchor only.
        seed: of the folds and the judges.
        device, dtype: where and in what to compute.
        advance: told about each step done.
    """
    fold_of = stratified_folds(real, folds, seed=derive_seed(seed, "folds"))
    total = np.zeros((len(synthetic), real.num_classes), dtype=np.float32)
    on_real = np.full((len(real), real.num_classes), np.nan, dtype=np.float32)
    for fold in range(folds):
        part = real.subset(np.flatnonzero(fold_of != fold))
        # A class that study.imbalance made rare is repeated: judges that hardly see it are never sure of it.
        missing = missing_counts(part)
        judge = _judge(
            concatenate([part, copies(part, missing)], part.provenance) if missing.any() else part,
            classifier,
            classic_augmentation(POLICIES["affine"], Strengths(**augmentation.model_dump())),
            steps=steps,
            seed=derive_seed(seed, "judge", fold),
            device=device,
            dtype=dtype,
            advance=advance,
        )
        total += class_probabilities(judge, synthetic.images, device)
        held_out = np.flatnonzero(fold_of == fold)
        if len(held_out):
            on_real[held_out] = class_probabilities(judge, real.images[held_out], device)
    mean = total / np.float32(folds)
    judged = np.flatnonzero(fold_of >= 0)
    labels, seen = real.labels[judged], on_real[judged]
    predictions = seen.argmax(axis=1).astype(np.int64)
    kept = accepts(
        predictions, seen[np.arange(len(judged)), labels], labels, least_probability=least_probability
    )
    return LabelAgreement(
        predictions=mean.argmax(axis=1).astype(np.int64),
        probabilities=mean[np.arange(len(synthetic)), synthetic.labels],
        images_sha256=images_sha256(synthetic),
        real_accuracy=float((predictions == labels).mean()) if len(judged) else float("nan"),
        real_accepted=np.array(
            [kept[labels == c].mean() if (labels == c).any() else np.nan for c in range(real.num_classes)]
        ),
    )


@dataclass(frozen=True)
class AgreementJob:
    """Labels to judge: `cross_fitted_agreement` says what of."""

    real: LabeledImages
    synthetic: LabeledImages
    seed: int


def cross_fitted_agreements(
    jobs: Iterable[AgreementJob],
    *,
    count: int,
    classifier: Classifier,
    augmentation: Augmentation,
    folds: int,
    steps: int,
    least_probability: float,
    execution: Execution,
    label: str,
) -> Iterator[tuple[AgreementJob, LabelAgreement]]:
    """`cross_fitted_agreement` of each job; on the CPU as many at once as there are threads, each on one.

    What was judged before, with the same, is found in the store.

    Args:
        jobs: the labels to judge.
        count: how many jobs these are.
        classifier, augmentation, folds, steps, least_probability: as there.
        execution: where and in what to compute.
        label: a name for the progress display.
    """
    device = configure(execution)
    judge = partial(
        _find_or_judge,
        classifier=classifier,
        augmentation=augmentation,
        folds=folds,
        steps=steps,
        least_probability=least_probability,
        device=device,
        dtype=training_dtype(execution, device),
        store=this_store(),
    )
    with progress(label, count * folds * steps, "steps") as advance:
        yield from parallel_map(
            judge,
            jobs,
            workers=workers_for(execution, device, trainings=count, threads_each=1),
            advance=advance,
        )


def _find_or_judge(
    job: AgreementJob,
    advance: Advance,
    *,
    classifier: Classifier,
    augmentation: Augmentation,
    folds: int,
    steps: int,
    least_probability: float,
    device: torch.device,
    dtype: torch.dtype,
    store: Path,
) -> LabelAgreement:
    key = result_key(
        "label_scores",
        cross_fitted_agreement,
        recipe={
            "classifier": recipe_of(classifier),
            "augmentation": augmentation.model_dump(),
            "folds": folds,
            "steps": steps,
            "least_probability": least_probability,
            "seed": job.seed,
            "rare": job.real.provenance.get("imbalance", {}),
        },
        data=images_sha256(job.real) + images_sha256(job.synthetic),
        device=device,
        dtype=dtype,
    )
    if found := find_result(store, key):
        advance(folds * steps)
        return load_agreement(found / _FILE, 0)
    agreement = cross_fitted_agreement(
        job.real,
        job.synthetic,
        classifier=classifier,
        augmentation=augmentation,
        folds=folds,
        steps=steps,
        least_probability=least_probability,
        seed=job.seed,
        device=device,
        dtype=dtype,
        advance=advance,
    )
    with keep_result(store, key) as folder:
        save_agreements(folder / _FILE, {0: agreement})
    return agreement


def stratified_folds(real: LabeledImages, folds: int, *, seed: int) -> Indices:
    """(N,) int64: the fold that holds an image out, each class dealt out evenly in random order.

    −1 for the only image of a class: held out, it would leave a judge that has never seen the class.
    """
    rng = np.random.default_rng(seed)
    fold_of = np.full(len(real), -1, dtype=np.int64)
    dealt = (
        0  # one class goes on where the last one ended: small classes do not all fall into the first folds
    )
    for label in range(real.num_classes):
        members = rng.permutation(np.flatnonzero(real.labels == label))
        if len(members) > 1:
            fold_of[members] = (np.arange(len(members)) + dealt) % folds
            dealt += len(members)
    return fold_of


def _judge(
    training: LabeledImages,
    classifier: Classifier,
    augment: Augment | None,
    *,
    steps: int,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
    advance: Advance,
) -> Network:
    return train_classifier(
        Recipe(training, seed, augment),
        classifier.model_copy(update={"steps": steps}),
        device=device,
        dtype=dtype,
        advance=advance,
    )
