"""What a study will train, and about how long that takes on this machine: counted, and measured for a second or two."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline.classifier.replicates import CellTraining
from pipeline.classifier.training import Recipe, train_classifier
from pipeline.errors import SynthGainError
from pipeline.gan.training import train_gan
from pipeline.images import LabeledImages
from pipeline.params import CLASSES_OF_SOURCE, SIDE_OF_COLOUR, Gan, Params, Training
from pipeline.runtime.device import configure, training_dtype, workers_for
from pipeline.runtime.stage_inputs import read_yaml
from pipeline.runtime.store import this_store
from pipeline.study.arms import ARMS, Arm
from pipeline.study.grid import Grid

_FEW, _MORE = (
    4,
    12,
)  # GAN steps, multiples of the usual penalty interval: their difference is free of the set-up
_CLASSIFIER_STEPS = 4  # times these
_SECONDS_OF_A_STAGE = 6  # its start, its reading and writing, DVC's own work; two cores, the demo
_EXTRACTOR = Arm("real")


@dataclass(frozen=True)
class Plan:
    """What a workspace's parameters ask for.

    Attributes:
        shape: (C, H, W) of the images.
        classes: how many.
        stages: nodes of `dvc repro`.
        gans, cells: trainings; of a generator of one's own, its runs.
        synthetic_images: of all generators together.
        seconds: estimated, by what takes them; nobody knows what a generator of one's own takes.
        bytes: on the disk, about: what is drawn and trained, and DVC's and the store's copies of it.
    """

    shape: tuple[int, int, int]
    classes: int
    stages: int
    gans: int
    cells: int
    synthetic_images: int
    seconds: dict[str, float]
    bytes: int


def plan(workspace: Path, params: Params) -> Plan:
    """Count what a study trains, and estimate how long it takes if nothing is in the store yet.

    To be called in the workspace: code of one's own is found from there.

    A few real steps of the GAN, and of a classifier with each policy, are timed here, on random images.

    Raises:
        SynthGainError: as `images_of`.
    """
    classes, shape = images_of(workspace, params)
    study = params.study
    cells = Counter((key[0], key[1]) for key in Grid.declared(study).cells())
    gans_of_a_budget = study.replicates * study.generators_per_replicate
    budgets = len(study.real_images)
    images = budgets * study.replicates * params.generation.images_per_class * classes
    stages = count_stages(workspace, params)
    timed = _Timed(params, _random_images(shape, classes, params.gan.batch_size))
    seconds = {
        **({"GANs": budgets * timed.gans(gans_of_a_budget)} if params.generator.kind == "gan" else {}),
        "classifiers": timed.classifiers(cells),
        "the rest": timed.extractor() + stages * _SECONDS_OF_A_STAGE,
    }
    drawn = images * math.prod(shape) * (2 + len(params.export.formats) / max(1, budgets * study.replicates))
    weights = (
        3 * 4 * (timed.classifier_weights * cells.total() + timed.gan_weights * budgets * gans_of_a_budget)
    )
    return Plan(
        shape=shape,
        classes=classes,
        stages=stages,
        gans=budgets * gans_of_a_budget,
        cells=cells.total(),
        synthetic_images=images,
        seconds=seconds,
        bytes=round(drawn + weights),
    )


def images_of(workspace: Path, params: Params) -> tuple[int, tuple[int, int, int]]:
    """How many classes there are, and (C, H, W): as prepared, or as published.

    Raises:
        SynthGainError: if the classes of own images are not known yet.
    """
    side, source = params.data.image_size, params.data.source
    manifest = workspace / "data/prepared/splits.json"
    if manifest.is_file():
        splits = json.loads(manifest.read_text(encoding="utf-8"))
        if splits.get("source") == source and splits.get("image_size") == side:
            return len(splits["class_names"]), (int(splits.get("channels", 1)), side, side)
    if source == "folder":
        raise SynthGainError(
            f"{manifest}: not of these parameters, or not there; `dvc repro prepare` makes it in seconds, and then the"
            " classes of your images are known"
        )
    return CLASSES_OF_SOURCE[source], (3 if source in SIDE_OF_COLOUR else 1, side, side)


def count_stages(workspace: Path, params: Params) -> int:
    """The nodes of `dvc repro`: each stage once for each combination of its matrix."""
    stages = read_yaml(workspace / "dvc.yaml")["stages"]
    values = params.model_dump()

    def length(reference: str) -> int:
        section, _, key = reference.strip("${} ").partition(".")
        return len(values[section][key])

    return sum(math.prod(map(length, stage.get("matrix", {}).values())) for stage in stages.values())


def _random_images(shape: tuple[int, int, int], classes: int, batch_size: int) -> LabeledImages:
    labels = np.resize(np.arange(classes, dtype=np.int64), max(2 * classes, 2 * batch_size))
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), *shape), dtype=np.uint8)
    return LabeledImages(pixels, labels, tuple(map(str, range(classes))))


class _Timed:
    """Steps of real trainings on some images, timed once each."""

    def __init__(self, params: Params, images: LabeledImages) -> None:
        self.params, self.images = params, images
        self.device = configure(params.execution)
        self.dtype = training_dtype(params.execution, self.device)
        self.how = CellTraining(
            params.classifier.of_budget(params.study.real_images[0]),
            params.augmentation,
            self.device,
            self.dtype,
            this_store(),
        )
        self.seconds_of_a_step: dict[str, float] = {}
        self.classifier_weights = self.gan_weights = 0

    def gans(self, count: int) -> float:
        """Seconds for so many GANs of one budget."""
        gan = self.params.gan
        workers = workers_for(self.params.execution, self.device, trainings=count)
        torch.set_num_threads(workers.threads)
        step = _per_step(self._gan_steps)
        steps = gan.total_images // (gan.batch_size * gan.discriminator_steps)
        return math.ceil(count / workers.processes) * steps * step

    def _gan_steps(self, steps: int) -> None:
        gan = self.params.gan
        images = steps * gan.batch_size * gan.discriminator_steps
        short = Gan(
            **{**gan.model_dump(), "total_images": images, "history_points": 1, "film_strip_frames": 2}
        )
        run = train_gan(
            self.images, short, seed=0, device=self.device, dtype=self.dtype, label="plan", advance=_unheard
        )
        self.gan_weights = sum(each.numel() for each in run.generator.parameters())

    def classifiers(self, cells: Counter[tuple[str, str]]) -> float:
        """Seconds for the cells of (budget, arm) and the judges of the label filter, one on each thread."""
        params = self.params
        torch.set_num_threads(1)
        total = 0.0
        for (budget, name), count in cells.items():
            steps = params.classifier.of_budget("all" if budget == "all" else int(budget)).steps
            total += count * steps * self._classifier_step(ARMS[name]) * self._share_of_pool(ARMS[name])
        if any(arm.filtered for arm in params.study.recipes()):
            judges = len(params.study.real_images) * params.study.replicates * params.study.label_filter_folds
            total += judges * params.study.label_filter_steps * self._classifier_step(ARMS["real_affine"])
        workers = workers_for(params.execution, self.device, trainings=cells.total(), threads_each=1)
        return total / workers.processes

    def _share_of_pool(self, arm: Arm) -> float:
        """How many times the images of a batch a step sees; to label an image takes a third of learning from it."""
        beside = self.params.pool.images_per_labelled
        return 1 + beside * {"": 0.0, "consistency": 4 / 3}.get(arm.pool, 1.0)

    def extractor(self) -> float:
        """Seconds for the feature extractor, about: that of as many steps of a classifier without augmentation."""
        return self.params.extractor.steps * self._classifier_step(_EXTRACTOR)

    def _classifier_step(self, arm: Arm) -> float:
        if arm.policy not in self.seconds_of_a_step:
            recipe = Recipe(self.images, 0, *self.how.policy(arm))

            def train(steps: int) -> None:
                settings = self.how.classifier.model_copy(update={"steps": _CLASSIFIER_STEPS * steps})
                self._train(recipe, settings)

            self.seconds_of_a_step[arm.policy] = _per_step(train) / _CLASSIFIER_STEPS
        return self.seconds_of_a_step[arm.policy]

    def _train(self, recipe: Recipe, settings: Training) -> None:
        network = train_classifier(recipe, settings, device=self.device, dtype=self.dtype, advance=_unheard)
        self.classifier_weights = sum(each.numel() for each in network.parameters())


def _per_step(train: Callable[[int], None]) -> float:
    """Seconds of one more step, by two trainings of different length; a first one warms up."""
    train(_FEW)
    ends = []
    for steps in (_FEW, _MORE):
        start = time.perf_counter()
        train(steps)
        ends.append(time.perf_counter() - start)
    # On a busy machine the longer one may even be the faster one.
    return max(ends[1] - ends[0], 0.1 * ends[1]) / (_MORE - _FEW)


def _unheard(units: float, note: str = "") -> None:
    """Nobody waits for the progress of a second."""
