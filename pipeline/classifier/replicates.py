"""Train the cells of a stage: arms × replicates of one budget. What was trained before, with the same, is found."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipeline.augmentation.classic import Augment, Strengths, classic_augmentation
from pipeline.augmentation.mixup import Mix, mixing
from pipeline.augmentation.policies import POLICIES
from pipeline.checkpoints import load_checkpoint, save_checkpoint
from pipeline.classifier.batched import train_classifiers
from pipeline.classifier.network import Network
from pipeline.classifier.own_network import recipe_of
from pipeline.classifier.pool import PoolRecipe, train_with_pool
from pipeline.classifier.saved_cells import TrainedCell
from pipeline.classifier.training import DrawEpoch, Recipe, fresh_epochs, train_classifier
from pipeline.images import pixel_keys
from pipeline.params import Augmentation, Classifier, Execution, Pool
from pipeline.runtime.device import configure, training_dtype, workers_for
from pipeline.runtime.parallel import parallel_map
from pipeline.runtime.progress import Advance, counted, progress
from pipeline.runtime.seeds import derive_seed
from pipeline.runtime.store import Key, find_result, keep_result, result_key, stored_result, this_store
from pipeline.study.arms import Arm
from pipeline.study.grid import cell_key
from pipeline.study.training_sets import (
    ReplicateImages,
    ShownPool,
    TrainingSet,
    shown_pool,
    training_set,
)

_KIND, _FILE = "classifier", "classifier.safetensors"
# Networks in a batch of networks: the training images of all are in memory, at 55 000 real ones 43 MB of each.
_AT_ONCE = 32


@dataclass(frozen=True)
class CellTraining:
    """How every cell of a study trains, where, and into which store its classifier goes."""

    classifier: Classifier
    augmentation: Augmentation
    device: torch.device
    dtype: torch.dtype
    store: Path
    pool: Pool | None = None  # for arms that use the pool

    @property
    def as_one_batch(self) -> bool:
        """Whether several train as one batch of networks: a CPU has as much to compute for each as for one alone.

        Networks of one's own train one by one: batch normalisation, for one, cannot be stacked.
        """
        return self.device.type != "cpu" and self.classifier.network == "compact"

    def policy(self, arm: Arm) -> tuple[Augment | None, Mix | None]:
        """The arm's policy; arms of the same one share it, and a batch of networks draws for all of them at once."""
        return self.named_policy(arm.policy)

    def named_policy(self, policy: str) -> tuple[Augment | None, Mix | None]:
        """A row of `augmentation/policies.py` as functions."""
        return _policy(POLICIES[policy], self.augmentation)


@cache
def _policy(transforms: tuple[str, ...], augmentation: Augmentation) -> tuple[Augment | None, Mix | None]:
    """What it does to each image, and then to the images of a batch together."""
    how = Strengths(**augmentation.model_dump())
    return classic_augmentation(transforms, how), mixing(transforms, alpha=how.mixup_alpha)


def strengths_of(transforms: Sequence[str], augmentation: Augmentation) -> dict[str, Any]:
    """Those keys of the section that some transforms depend on: another value of the others retrains nothing."""
    own = tuple(f"{transform}_" for transform in transforms)
    facts = ("fill", "flips") if set(transforms) - {"mixup"} else ()
    return {
        name: value
        for name, value in augmentation.model_dump().items()
        if name in facts or name.startswith(own)
    }


def remedy_values(arm: Arm, classifier: Classifier) -> dict[str, Any]:
    """Those of the section that the arm's remedy depends on; its training set says the rest."""
    if arm.remedy == "logit_adjustment":
        return {"logit_adjustment": classifier.logit_adjustment}
    return {"reweighted_tail": classifier.reweighted_tail} if arm.remedy == "deferred_weights" else {}


@dataclass(frozen=True)
class CellJob:
    """A cell to train.

    Attributes:
        arm: its recipe.
        training: its images.
        seed: of weights, batch order and augmentation.
        facts: its key columns, and how it is trained (JSON values).
        real_pixels: `pixel_keys` of the real images that have a part in it, its generator's included.
        pool: what it is shown of the pool; None: nothing.
    """

    arm: Arm
    training: TrainingSet
    seed: int
    facts: Mapping[str, Any]
    real_pixels: npt.NDArray[np.int64]
    pool: ShownPool | None = None

    def recipe(self, how: CellTraining) -> Recipe:
        """What its classifier is shown."""
        training, settings = self.training, how.classifier
        augment, mix = how.policy(self.arm)
        adjusted, deferred = (
            self.arm.remedy == remedy for remedy in ("logit_adjustment", "deferred_weights")
        )
        shares = training.class_shares(synthetic_weight=settings.synthetic_weight) if adjusted else None
        tail = settings.reweighted_tail if deferred else settings.real_only_tail
        return Recipe(
            training=training.images,
            seed=self.seed,
            augment=augment,
            mix=mix,
            draw_epoch=_draw_epoch(training),
            weights=training.image_weights(synthetic_weight=settings.synthetic_weight),
            first_augmented=training.first_augmented,
            real_images=training.real_images,
            # In a tail, the shares that logits are adjusted to would be others.
            real_only_tail=tail if deferred or (training.mixed and not adjusted) else 0.0,
            tail_weights=training.tail_weights(),
            logit_shift=None if shares is None else settings.logit_adjustment * np.log(shares),
            replayable="trivial_augment" not in POLICIES[self.arm.policy],  # it asks which images to change
        )

    def key(self, how: CellTraining) -> Key:
        """Of its classifier in the store: values alone, so that another name of the arm is the same."""
        transforms = POLICIES[self.arm.policy]
        recipe = {
            "classifier": recipe_of(how.classifier),
            "transforms": list(transforms),
            "strengths": strengths_of(transforms, how.augmentation),
            "seed": self.seed,
            **remedy_values(self.arm, how.classifier),
        }
        data = self.training.sha256()
        if self.pool is None:
            train = train_classifiers if how.as_one_batch else train_classifier
            return result_key(_KIND, train, recipe=recipe, data=data, device=how.device, dtype=how.dtype)
        assert how.pool is not None
        pool: dict[str, Any] = {
            "images_per_labelled": how.pool.images_per_labelled,
            "weight": how.pool.weight,
        }
        if self.pool.labels is None:
            weak = POLICIES[how.pool.weak_policy]
            pool |= {"threshold": how.pool.consistency_threshold, "weak": list(weak)}
            pool |= {"weak_strengths": strengths_of(weak, how.augmentation)}
        return result_key(
            _KIND,
            train_with_pool,
            recipe=recipe | {"pool": pool},
            data=data + self.pool.sha256(),
            device=how.device,
            dtype=how.dtype,
        )

    def pool_recipe(self, how: CellTraining) -> PoolRecipe:
        """What its classifier is shown of the pool."""
        assert self.pool is not None and how.pool is not None
        return PoolRecipe(
            self.pool.images,
            self.pool.labels,
            per_step=how.pool.images_per_labelled * how.classifier.batch_size,
            weak=how.named_policy(how.pool.weak_policy)[0],
            threshold=how.pool.consistency_threshold,
            weight=how.pool.weight,
        )


def _draw_epoch(training: TrainingSet) -> DrawEpoch | None:
    """What an epoch of a training set shows; None: all of it."""
    if training.balanced:
        counts = training.images.counts()
        alike = np.where(counts > 0, -(-len(training.images) // np.count_nonzero(counts)), 0)
        return fresh_epochs(training.images, real_images=0, per_epoch=alike)
    if training.synthetic_per_epoch is None:
        return None
    return fresh_epochs(
        training.images, real_images=training.real_images, per_epoch=training.synthetic_per_epoch
    )


def cell_jobs(
    arms: Sequence[Arm],
    replicates: Iterable[ReplicateImages],
    *,
    synthetic_per_real: float,
    classifier: Classifier,
    seed: int,
    pool: Pool | None = None,
) -> Iterator[CellJob]:
    """The cells of a stage, all arms of a replicate after another.

    All arms of a replicate share the real subset, the classifier's initial weights, the seed of the batch order, the
    batch size and the number of optimiser steps: they can be compared in pairs.
    """
    for images in replicates:
        budget, replicate = images.real.provenance["budget"], images.real.provenance["replicate"]
        cell_seed = derive_seed(seed, "classifier", budget, replicate)
        for arm in arms:
            if arm.uses_extra and images.extra is None:
                continue
            beside = shown_pool(arm, images.pool)
            training = training_set(
                arm,
                images.real,
                synthetic=images.accepted if arm.filtered else images.synthetic,
                extra=images.extra,
                synthetic_per_real=synthetic_per_real,
                seed=cell_seed,
                fill_to=images.fill_to,
            )
            facts = {
                **cell_key(
                    budget=budget, arm=arm, synthetic_per_real=synthetic_per_real, replicate=replicate
                ),
                "real_images": len(images.real),
                "training_images": len(training.images),
                "optimizer_steps": classifier.steps,
                "batch_size": classifier.batch_size,
                "real_subset_sha256": images.real.provenance["real_subset_sha256"],
            }
            if beside is not None and pool is not None:
                facts |= {
                    "pool_images": len(beside.images),
                    "pool_batch_size": pool.images_per_labelled * classifier.batch_size,
                }
            yield CellJob(arm, training, cell_seed, facts, pixel_keys(_real_images(arm, images)), beside)


def train_cells(
    arms: Sequence[Arm],
    replicates: Iterable[ReplicateImages],
    *,
    count: int,
    synthetic_per_real: float,
    classifier: Classifier,
    augmentation: Augmentation,
    seed: int,
    execution: Execution,
    label: str,
    pool: Pool | None = None,
) -> tuple[list[TrainedCell], Mapping[str, Any]]:
    """Train every arm on every replicate; return the cells and the constructor arguments of their networks.

    On the CPU each classifier takes one thread, whatever there is, and as many as there are threads train at once: of
    a network this small two threads make little more than one, and the bytes are the same on any number of cores. On
    a GPU all train at once as one batch of networks. A classifier that is in the store is not trained again.

    Args:
        arms: what to train.
        replicates: the images of each.
        count: how many replicates these are.
        synthetic_per_real: images beyond the real ones for each of them.
        classifier, augmentation: their sections of the parameters.
        seed: of the whole study.
        execution: where and in what to compute.
        label: a name for the progress display.
        pool: its section of the parameters, for arms that use the pool.
    """
    device = configure(execution)
    how = CellTraining(
        classifier, augmentation, device, training_dtype(execution, device), this_store(), pool
    )
    jobs = cell_jobs(
        arms, replicates, synthetic_per_real=synthetic_per_real, classifier=classifier, seed=seed, pool=pool
    )
    cells, trained = [], 0
    seconds: dict[str, list[float]] = {}
    arguments: Mapping[str, Any] = {}
    with progress(label, len(arms) * count * classifier.steps, "steps") as advance:
        if how.as_one_batch:
            done = _train_batched(jobs, how=how, advance=advance)
        else:
            workers = workers_for(execution, device, trainings=len(arms) * count, threads_each=1)
            done = parallel_map(partial(_find_or_train, how=how), jobs, workers=workers, advance=advance)
        for job, (key, taken) in done:
            weights, metadata = load_checkpoint(stored_result(how.store, key) / _FILE, kind=_KIND)
            arguments = metadata["arguments"]
            cells.append(TrainedCell(job.facts, weights, job.real_pixels))
            trained += taken is not None
            if job.pool is not None and taken is not None:
                seconds.setdefault(job.arm.name, []).append(taken)
        # Arms that the train split is too small for.
        advance((len(arms) * count - len(cells)) * classifier.steps)
    found = len(cells) - trained
    print(f"{label}: {counted(trained, 'classifier')} trained, {found} found finished", flush=True)
    for cell in {cell.facts["arm"]: cell for cell in cells if cell.facts["arm"] in seconds}.values():
        print(_cost_line(cell.facts, seconds[cell.facts["arm"]]), flush=True)
    return cells, arguments


def _cost_line(facts: Mapping[str, Any], seconds: Sequence[float]) -> str:
    """What an arm with a pool costs: no file has it, for the minutes of a machine are no property of a result."""
    return (
        f"{facts['arm']}: {facts['batch_size']} labelled images a step and {facts['pool_batch_size']} of a pool of"
        f" {facts['pool_images']}; {sum(seconds) / len(seconds) / 60:.1f} minutes for each of"
        f" {counted(len(seconds), 'classifier')}"
    )


def train_cell(job: CellJob, how: CellTraining, advance: Advance) -> Network:
    """A cell's classifier, trained by itself."""
    if job.pool is not None:
        return train_with_pool(
            job.recipe(how),
            job.pool_recipe(how),
            how.classifier,
            device=how.device,
            dtype=how.dtype,
            advance=advance,
        )
    return train_classifier(
        job.recipe(how), how.classifier, device=how.device, dtype=how.dtype, advance=advance
    )


def _find_or_train(job: CellJob, advance: Advance, *, how: CellTraining) -> tuple[Key, float | None]:
    """The key of a cell's classifier, which is in the store then; and the seconds of its training, None if found."""
    key = job.key(how)
    if find_result(how.store, key) is not None:
        advance(how.classifier.steps)
        return key, None
    start = time.perf_counter()
    _keep(how.store, key, train_cell(job, how, advance))
    return key, time.perf_counter() - start


def _train_batched(
    jobs: Iterable[CellJob], *, how: CellTraining, advance: Advance
) -> Iterator[tuple[CellJob, tuple[Key, float | None]]]:
    """The classifiers of all jobs, so many at once; in the order of the jobs."""
    waiting = iter(jobs)
    while chosen := list(islice(waiting, _AT_ONCE)):
        keys = [job.key(how) for job in chosen]
        missing = [i for i, key in enumerate(keys) if find_result(how.store, key) is None]
        advance(how.classifier.steps * (len(chosen) - len(missing)))
        seconds: dict[int, float] = {}
        for i in [i for i in missing if chosen[i].pool is not None]:  # they have a loop of their own
            start = time.perf_counter()
            _keep(how.store, keys[i], train_cell(chosen[i], how, advance))
            seconds[i] = time.perf_counter() - start
        if together := [i for i in missing if chosen[i].pool is None]:
            start = time.perf_counter()
            recipes = [chosen[i].recipe(how) for i in together]
            networks = train_classifiers(
                recipes, how.classifier, device=how.device, dtype=how.dtype, advance=advance
            )
            for i, network in zip(together, networks, strict=True):
                _keep(how.store, keys[i], network)
                seconds[i] = (time.perf_counter() - start) / len(together)
        yield from ((job, (keys[i], seconds.get(i))) for i, job in enumerate(chosen))


def _keep(store: Path, key: Key, network: Network) -> None:
    with keep_result(store, key) as folder:
        save_checkpoint(
            folder / _FILE, network.state_dict(), {"kind": _KIND, "arguments": dict(network.arguments)}
        )


def _real_images(arm: Arm, images: ReplicateImages) -> npt.NDArray[np.uint8]:
    """Every real image that had a part in a cell: the generator's training images too, seen or not."""
    parts = [images.real.images]
    if arm.uses_extra and images.extra is not None:
        parts.append(images.extra.images)
    if images.pool is not None and (arm.pool or arm.uses_synthetic):
        parts.append(images.pool.images)
    return np.concatenate(parts) if len(parts) > 1 else parts[0]
