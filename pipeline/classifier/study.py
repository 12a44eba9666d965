"""Train the cells of a stage: arms × replicates of one budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import torch

from pipeline.arms import Arm, Budget, Classic, cell_key, training_set
from pipeline.augmentation import random_affine, random_affine_elastic
from pipeline.classifier.batched import train_classifiers
from pipeline.classifier.cells import TrainedCell
from pipeline.classifier.network import ConvNet
from pipeline.classifier.training import Augment, Recipe, fresh_passes, train_classifier
from pipeline.images import LabeledImages, pixel_keys
from pipeline.mixing import TrainingSet
from pipeline.params import Classifier, Execution
from pipeline.progress import Advance, progress
from pipeline.runtime import configure, derive_seed, training_dtype, workers_for
from pipeline.side_by_side import side_by_side

# Constructor arguments and weights of a network, as arrays: tensors cannot outlive a worker.
_Trained = tuple[Mapping[str, Any], dict[str, npt.NDArray[Any]]]

# Networks in a batch of networks: the training images of all are in memory, at 55 000 real ones 43 MB of each.
_AT_ONCE = 32


def train_cells(
    arms: Sequence[Arm],
    *,
    budget: Budget,
    synthetic_per_real: int | float,
    replicates: int,
    real_of: Callable[[int], LabeledImages],
    synthetic_of: Callable[[int], LabeledImages] | None = None,
    accepted_of: Callable[[int], LabeledImages] | None = None,
    extra_of: Callable[[int], LabeledImages | None] | None = None,
    classifier: Classifier,
    seed: int,
    execution: Execution,
    what: str,
) -> tuple[list[TrainedCell], Mapping[str, Any]]:
    """Train every arm on every replicate; return the cells and the constructor arguments of their networks.

    All arms of a replicate share the real subset, the classifier's initial weights, the seed of the batch order,
    the batch size and the number of optimiser steps: they can be compared in pairs. On the CPU each classifier
    takes one thread, whatever there is, and as many as there are threads train at once: of a network this small two
    threads make little more than one, and the bytes are the same on any number of cores. On a GPU all train at once as
    one batch of networks.

    Args:
        arms: what to train.
        budget, synthetic_per_real, replicates: the coordinates of the cells.
        real_of: replicate → its real subset.
        synthetic_of: replicate → its synthetic images; not given where no arm needs them.
        accepted_of: replicate → those of them that the label filter accepts, likewise.
        extra_of: replicate → its extra real images, likewise; where there are too few (None), the arms that
            need them are left out.
        classifier: its section of the parameters.
        seed: of the whole study.
        execution: where and in what to compute.
        what: a name for the progress display.
    """
    device = configure(execution)
    count = len(arms) * replicates
    dtype = training_dtype(execution, device)
    cells = []
    arguments: Mapping[str, Any] = {}

    def jobs() -> Iterator[_Job]:
        for replicate in range(replicates):
            real = real_of(replicate)
            synthetic = synthetic_of(replicate) if synthetic_of else None
            filtered = any(arm.filtered for arm in arms)
            accepted = accepted_of(replicate) if accepted_of and filtered else None
            extra = extra_of(replicate) if extra_of and any(arm.uses_extra for arm in arms) else None
            cell_seed = derive_seed(seed, "classifier", budget, replicate)
            for arm in arms:
                if arm.uses_extra and extra is None:
                    advance(classifier.steps)
                    continue
                training = training_set(
                    arm,
                    real,
                    synthetic=accepted if arm.filtered else synthetic,
                    extra=extra,
                    synthetic_per_real=synthetic_per_real,
                    seed=cell_seed,
                )
                key = cell_key(
                    budget=budget, arm=arm, synthetic_per_real=synthetic_per_real, replicate=replicate
                )
                facts = {
                    **key,
                    "real_images": len(real),
                    "training_images": len(training.images),
                    "optimizer_steps": classifier.steps,
                    "batch_size": classifier.batch_size,
                    "real_subset_sha256": real.provenance["real_subset_sha256"],
                }
                yield _Job(arm, training, cell_seed, facts, pixel_keys(_real_images(arm, real, extra)))

    with progress(what, count * classifier.steps, "steps") as advance:
        if not _as_one_batch(device):
            workers = workers_for(execution, device, trainings=count, threads_each=1)
            train = partial(_train, classifier=classifier, device=device, dtype=dtype)
            done = side_by_side(train, jobs(), workers=workers, advance=advance)
        else:
            done = _train_batched(jobs(), classifier=classifier, device=device, dtype=dtype, advance=advance)
        for job, trained in done:
            arguments, weights = trained
            tensors = {name: torch.from_numpy(values) for name, values in weights.items()}
            cells.append(TrainedCell(job.facts, tensors, job.real_pixels))
    return cells, arguments


@dataclass(frozen=True)
class _Job:
    arm: Arm
    training: TrainingSet
    seed: int
    facts: Mapping[str, Any]
    real_pixels: npt.NDArray[np.int64]

    def recipe(self, classifier: Classifier, augment: Augment | None) -> Recipe:
        """How to train its classifier."""
        training, per_pass = self.training, self.training.synthetic_per_pass
        return Recipe(
            training=training.images,
            seed=self.seed,
            augment=augment,
            draw_pass=None
            if per_pass is None
            else fresh_passes(training.images, real_images=training.real_images, per_pass=per_pass),
            weights=training.image_weights(synthetic_weight=classifier.synthetic_weight),
            first_augmented=training.first_augmented,
            real_images=training.real_images,
            real_only_tail=classifier.real_only_tail if training.mixed else 0.0,
        )


def _train(
    job: _Job, advance: Advance, *, classifier: Classifier, device: torch.device, dtype: torch.dtype
) -> _Trained:
    """A job's classifier, trained by itself."""
    recipe = job.recipe(classifier, classic_augmentation(classifier, job.arm.classic_augmentation))
    return _trained(train_classifier(recipe, classifier, device=device, dtype=dtype, advance=advance))


def _as_one_batch(device: torch.device) -> bool:
    """A CPU has as much to compute for a network of a batch of networks as for one alone."""
    return device.type != "cpu"


def _train_batched(
    jobs: Iterable[_Job],
    *,
    classifier: Classifier,
    device: torch.device,
    dtype: torch.dtype,
    advance: Advance,
) -> Iterator[tuple[_Job, _Trained]]:
    """The classifiers of all jobs, so many at once; in the order of the jobs."""
    augmentations = {name: classic_augmentation(classifier, name) for name in get_args(Classic)}
    waiting = iter(jobs)
    while chosen := list(islice(waiting, _AT_ONCE)):
        recipes = [job.recipe(classifier, augmentations[job.arm.classic_augmentation]) for job in chosen]
        networks = train_classifiers(recipes, classifier, device=device, dtype=dtype, advance=advance)
        yield from zip(chosen, map(_trained, networks), strict=True)


def _trained(network: ConvNet) -> _Trained:
    weights = {name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()}
    return network.arguments, weights


def classic_augmentation(classifier: Classifier, name: Classic) -> Augment | None:
    """The classic augmentation of an arm, with the bounds that the parameters give."""
    bounds = {
        "rotation_degrees": classifier.affine_rotation_degrees,
        "translation": classifier.affine_translation,
        "scale": classifier.affine_scale,
        "shear_degrees": classifier.affine_shear_degrees,
    }
    if name == "affine":
        return lambda images, generator: random_affine(images, **bounds, generator=generator)
    if name == "affine_elastic":
        return lambda images, generator: random_affine_elastic(
            images,
            **bounds,
            elastic_alpha=classifier.elastic_alpha,
            elastic_sigma=classifier.elastic_sigma,
            generator=generator,
        )
    return None


def _real_images(arm: Arm, real: LabeledImages, extra: LabeledImages | None) -> npt.NDArray[np.uint8]:
    """Every real image that had a part in a cell: the generator's training images too, seen or not."""
    if arm.uses_extra and extra is not None:
        return np.concatenate([real.images, extra.images])
    return real.images
