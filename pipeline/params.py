"""Typed, frozen mirror of `params.yaml`: types, bounds and cross-field rules, and not one default.

`load_params` is the only reader of the file. It validates the whole of it, so that a typo in `classifier`
fails `download` in a second and not `train_classifier` after an hour.
"""

from __future__ import annotations

import math
import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_serializer,
    model_validator,
)

from pipeline.augmentation.policies import POLICIES
from pipeline.errors import SynthGainError
from pipeline.images import SIDES
from pipeline.study.arms import ARMS, Arm
from pipeline.study.metric import Metric

# The classes of each published data set; digits has ten as well, a folder says it for itself.
CLASSES_OF_SOURCE = {
    "cifar10": 10,
    "svhn": 10,
    "mnist": 10,
    "fashion_mnist": 10,
    "kmnist": 10,
    "emnist_balanced": 47,
    "emnist_digits": 10,
    "emnist_letters": 26,
    "digits": 10,
}
SIDE_OF_COLOUR = {"cifar10": 32, "svhn": 32}  # the other published ones are grey and have 28 pixels


def _no_bool(value: Any) -> Any:
    """YAML's `yes` and `true` are no numbers, though Python would count them as 1."""
    if isinstance(value, bool):
        raise ValueError("a number is needed, not true/false")
    return value


# `int | float` keeps 1 and 1.0 as written: DVC puts the written form into paths (`augmented/1.0`).
Number = Annotated[int | float, BeforeValidator(_no_bool), Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
NonNegative = Annotated[Number, Field(ge=0)]
Fraction = Annotated[Number, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Stride = Annotated[int, Field(ge=1, le=2)]
# YAML reads a class called 3 as a number: both forms name the same class.
ClassName = Annotated[str, BeforeValidator(lambda name: str(name) if type(name) is int else name)]
Budget = Count | Literal["all"]


def _known_arm(name: str) -> str:
    if name not in ARMS:
        plain = [arm.name for arm in ARMS.values() if not arm.augmented or arm.own_name]
        policies = [f"_{policy}" for policy in POLICIES if policy != "none"]
        raise ValueError(f"{', '.join(plain)}; most also with {', '.join(policies)} after the name")
    return name


def _experiment(name: str) -> str:
    """What MLflow would refuse when all is trained: the name, `-` and the source are a registered model's name."""
    if not name.isprintable() or set(name) & set("/:") or len(name) > 200 or name != name.strip(" ."):
        raise ValueError(
            "text of up to 200 printable characters without / and : and without dots or blanks around it, for it"
            " names an MLflow model too"
        )
    return name


def _steps(value: Any) -> Any:
    """A number, or one for each budget (a number as text too: DVC's `-S` finds such keys only)."""
    steps: dict[Any, Any] = {"all": value}
    if isinstance(value, dict):
        steps = {int(key) if str(key).isdecimal() else key: number for key, number in value.items()}
    budgets = all(budget == "all" or (type(budget) is int and budget > 0) for budget in steps)
    if not (steps and budgets and all(type(number) is int and number > 0 for number in steps.values())):
        allowed = 'a whole number from 1 on, or one for each budget, as in {"100": 3000, "1000": 2000}'
        found = f"classifier.steps: found {value}; allowed: " if isinstance(value, dict) else ""
        raise ValueError(found + allowed)
    return steps if isinstance(value, dict) else value


def _network(name: str) -> str:
    if name != "compact" and not re.fullmatch(r"torchvision:\w+|[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", name):
        raise ValueError("'compact' or torchvision:<name> or <package.module>:<factory>")
    return name


def _side(side: int) -> int:
    """One that the networks can grow to and shrink from; else the two nearest."""
    if side not in SIDES:
        below, above = (
            [each for each in SIDES if each < side][-1:],
            [each for each in SIDES if each > side][:1],
        )
        nearest = " or ".join(map(str, below + above))
        raise ValueError(f"4, 5, 6 or 7 doubled once or more, {SIDES[0]} to {SIDES[-1]}; nearest: {nearest}")
    return side


def _known_policy(name: str) -> str:
    if name not in POLICIES:
        raise ValueError(f"a policy: {', '.join(POLICIES)}")
    return name


ArmName = Annotated[str, AfterValidator(_known_arm)]
PolicyName = Annotated[str, AfterValidator(_known_policy)]

# What the stages write below data/: DVC removes it before they run.
_OUTPUT_FOLDERS = (
    "raw",
    "prepared",
    "extractor",
    "gan",
    "synthetic",
    "label_scores",
    "pseudo_labels",
    "classifier",
    "metrics",
    "report",
    "export",
)


def _problem_of_folder(folder: str) -> str | None:
    """Why DVC, or a workspace, would not find a folder as it is written; None if they would."""
    if not folder.strip():
        return "the path of a folder is needed"
    if not folder.isprintable() or folder != folder.strip():
        return "a path without control characters, line ends, or blanks around it is needed"
    if "://" in folder:
        return "a local folder is needed, not an address"
    if folder.startswith("~"):
        return "nobody expands ~ here: write the whole path, or one from the folder of params.yaml"
    if "${" in folder:
        return "DVC takes ${ for a template: give the folder another name, or a link that leads there"
    parts = [part for part in folder.split("/") if part not in ("", ".")]
    if ".." in parts[next((i for i, part in enumerate(parts) if part != ".."), len(parts)) :]:
        return f"write it without detours: {posixpath.normpath(folder)}"
    if folder.startswith("/") or parts[:1] == [".."]:
        return None
    if parts in ([], ["data"]):
        return "the stages write into it: name a folder of your own, such as data/own"
    if parts[0] == "data" and parts[1] in _OUTPUT_FOLDERS:
        return f"data/{parts[1]} is what a stage writes, and removes: name a folder of your own, such as data/own"
    return None


# What a program of one's own may overwrite or be: the pipeline, its results and DVC's own files.
_NOT_FOR_CODE = ("data", "dvc.lock", "dvc.yaml", "params.yaml", "pipeline", "stages")


def _problem_of_code(path: str) -> str | None:
    """Why a file or folder of one's own code could not be copied into a workspace; None if it can be."""
    parts = path.split("/")
    if not path.isprintable() or path != path.strip() or "${" in path or not path:
        return "the path of a file or folder is needed, without blanks around it, control characters and ${"
    if path.startswith(("/", "~")) or posixpath.normpath(path) != path or ".." in parts or path == ".":
        return "a path within the folder of params.yaml is needed, such as my_gan.py: a workspace has a copy of it"
    if parts[0] in _NOT_FOR_CODE or parts[0].startswith("."):
        return f"{parts[0]} belongs to the pipeline: give your code a name of its own, such as my_gan.py"
    return None


class Section(BaseModel):
    """A frozen section of the file: strict types, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


SectionType = TypeVar("SectionType", bound=Section)


class Data(Section):
    """Where real images come from, and how they are split."""

    source: Literal[
        "mnist",
        "fashion_mnist",
        "kmnist",
        "emnist_balanced",
        "emnist_digits",
        "emnist_letters",
        "cifar10",
        "svhn",
        "digits",
        "folder",
    ]
    mirrors: list[str]
    folder: str
    image_size: Annotated[int, AfterValidator(_side)]
    channels: Literal["auto", "grey", "colour"]
    folder_test_fraction: Annotated[Number, Field(gt=0, lt=1)]
    unusable_images: Literal["stop", "leave_out"]
    validation_images: Count

    @model_validator(mode="after")
    def _paths(self) -> Self:
        if problem := _problem_of_folder(self.folder):
            raise ValueError(f"data.folder: found {self.folder!r}; {problem}")
        for place, mirror in enumerate(self.mirrors):
            # The value is not shown: it is a secret that got into a file of the repository.
            if "://" in mirror and re.search(r"[@?#]", mirror):
                raise ValueError(
                    f"data.mirrors.{place}: an address with a user, a password or a query; params.yaml is no place"
                    " for secrets: set the environment variable SYNTHGAIN_MIRROR to it instead"
                )
        return self

    @model_validator(mode="after")
    def _published_size(self) -> Self:
        if self.source == "folder":
            return self
        problems = []
        side = SIDE_OF_COLOUR.get(self.source, 28)
        if self.source != "digits" and self.image_size != side:
            problems.append(
                f"data.image_size: found {self.image_size}; {self.source} has {side} pixels per side"
            )
        own = "colour" if self.source in SIDE_OF_COLOUR else "grey"
        if self.channels not in ("auto", own):
            problems.append(f"data.channels: found {self.channels}; {self.source} is {own}: auto or {own}")
        if problems:
            raise ValueError("\n".join(problems))
        return self


class Study(Section):
    """The grid of the study: budgets × arms × ratios × replicates."""

    real_images: Annotated[list[Budget], Field(min_length=1)]
    replicates: Count
    synthetic_per_real: Annotated[list[NonNegative], Field(min_length=1)]
    arms: Annotated[list[ArmName], Field(min_length=1)]
    generators_per_replicate: Annotated[int, Field(ge=1, le=20)]
    label_filter: Fraction
    label_filter_folds: Annotated[int, Field(ge=2, le=20)]
    label_filter_steps: Count
    imbalance: dict[ClassName, Annotated[Number, Field(gt=0, lt=1)]]
    fill_to: Count | Literal["common", "largest"]
    metric: Metric
    pool: Count | Literal["none", "rest"]
    generators_train_on: Literal["subset", "pool"]

    def recipes(self) -> list[Arm]:
        """What each of the arms trains on."""
        return [ARMS[name] for name in self.arms]

    @model_validator(mode="after")
    def _no_duplicates(self) -> Self:
        for name in ("real_images", "synthetic_per_real", "arms"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(
                    f"study.{name}: found {values}; each value may stand once (1 and 1.0 are the same)"
                )
        return self

    @model_validator(mode="after")
    def _every_arm_has_its_baseline(self) -> Self:
        if "real" not in self.arms:
            raise ValueError(
                f"study.arms: found {self.arms}; real, which others are compared with, belongs to it"
            )
        for arm in self.arms:
            baseline = ARMS[arm].baseline
            if baseline and baseline not in self.arms:
                raise ValueError(
                    f"study.arms: found {arm} without {baseline}, which it is compared with;"
                    f" add {baseline}, or remove {arm}"
                )
            if ARMS[arm].rare_only and self.fill_to == "common" and not self.imbalance:
                raise ValueError(
                    f"study.arms: found {arm}, but study.imbalance names no rare class whose gap it could fill;"
                    " name one, set study.fill_to to largest or to a count where classes are unequal by nature, or"
                    f" remove {arm}"
                )
        return self

    @model_validator(mode="after")
    def _what_needs_a_pool_has_one(self) -> Self:
        if self.pool != "none":
            return self
        if with_pool := [arm.name for arm in self.recipes() if arm.pool]:
            raise ValueError(
                f"study.arms: found {with_pool[0]}, but study.pool is none; set it to rest, or to a count of images of"
                f" the train split, or remove {with_pool[0]}"
            )
        if self.generators_train_on == "pool":
            raise ValueError(
                "study.generators_train_on: found pool, but study.pool is none; set study.pool to rest or to a count,"
                " or this to subset"
            )
        return self


# What stands for a value in generator.command: the real subset as a folder of PNG files and as an .npz file, the
# empty folder to write into, the images of each class, and the seed.
PLACEHOLDERS = ("real", "real_npz", "out", "n", "seed")


class Generator(Section):
    """What makes the synthetic images: the GAN of the next section, a program of one's own, or a folder of images."""

    kind: Literal["gan", "command", "folder"]
    command: str
    code: str
    minutes: Positive
    folder: str
    trained_on: Literal["", "subset", "unknown"]
    name: str
    author: str
    licence: str

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        problems = []
        if problem := _problem_of_code(self.code):
            problems.append(f"generator.code: found {self.code!r}; {problem}")
        if problem := _problem_of_folder(self.folder):
            problems.append(f"generator.folder: found {self.folder!r}; {problem}")
        if self.kind == "command" and (problem := self._problem_of_command()):
            problems.append(f"generator.command: {problem}")
        if (self.kind == "gan") != (self.trained_on == ""):
            needed = (
                "the GAN of this project is trained on the real subset and on nothing else: leave it empty"
                if self.kind == "gan"
                else f"generator.kind {self.kind} needs subset (it saw the real images of its replicate and no others),"
                " or unknown (verdict and card then say that it may have seen test images)"
            )
            problems.append(f"generator.trained_on: found {self.trained_on!r}; {needed}")
        for key in ("name", "author", "licence"):
            value = getattr(self, key)
            if (self.kind != "gan" and not value.strip()) or not (value.isprintable() and len(value) <= 200):
                problems.append(
                    f"generator.{key}: found {value!r}; generator.kind {self.kind} needs one line of up to 200"
                    " characters, which reports and data cards show"
                )
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _problem_of_command(self) -> str | None:
        """Why the command could not be started, or would tell nobody what it made; None if neither."""
        try:
            arguments = shlex.split(self.command)
        except ValueError as error:
            return f"found {self.command!r}; its quotes do not match ({error})"
        if not arguments or "\0" in self.command:
            return f"found {self.command!r}; a program and its arguments are needed"
        found = re.findall(r"\{([a-z_]+)\}", self.command)
        if unknown := [name for name in found if name not in PLACEHOLDERS]:
            allowed = ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            return f"found {{{unknown[0]}}}; what is filled in is {allowed}"
        return None if "out" in found else "has no {out}, the folder that the program must write into"


class Gan(Section):
    """The conditional GAN and its training. What each option does: docs/gan.md."""

    architecture: Literal["compact", "dcgan", "mlp"]
    z_dim: Annotated[int, Field(ge=1, le=1024)]
    class_embedding_dim: Count
    generator_channels: Literal["auto"] | Annotated[list[Count], Field(min_length=1)]
    generator_strides: Literal["auto"] | list[Stride]
    generator_leak: Annotated[Number, Field(ge=0, lt=1)]
    generator_noise: NonNegative
    upsampling: Literal["transposed", "nearest", "pixel_shuffle"]
    normalization: Literal["none", "batch"]
    discriminator_channels: Literal["auto"] | Annotated[list[Count], Field(min_length=1)]
    discriminator_strides: Literal["auto"] | list[Stride]
    discriminator_features: Annotated[int, Field(ge=0)]
    dropout: Annotated[Number, Field(ge=0, lt=1)]
    spectral_norm: bool
    conditioning: Literal["projection", "concatenate"]
    loss: Literal["relativistic", "non_saturating", "saturating", "least_squares", "hinge", "wasserstein"]
    label_smoothing: Annotated[Number, Field(ge=0, lt=0.5)]
    penalty: Literal["none", "gradient_penalty", "r1", "r1_r2"]
    penalty_weight: NonNegative
    penalty_interval: Count
    instance_noise: NonNegative
    total_images: Count
    batch_size: Annotated[int, Field(ge=2)]
    discriminator_steps: Count
    generator_learning_rate: Positive
    discriminator_learning_rate: Positive
    schedule: Literal["constant", "cosine", "cyclic"]
    warmup_steps: Annotated[int, Field(ge=0)]
    final_learning_rate_fraction: Fraction
    cycles: Count
    beta1: Annotated[Number, Field(ge=0, lt=1)]
    beta2: Annotated[Number, Field(ge=0, lt=1)]
    ema_decay: Annotated[Number, Field(ge=0, lt=1)]
    real_augmentation: Annotated[Number, Field(ge=0, le=2)]
    real_augmentation_up_to: Count
    augment_probability: Fraction
    augment_translation: Annotated[Number, Field(ge=0, le=0.5)]
    augment_rotation_degrees: Annotated[Number, Field(ge=0, le=45)]
    augment_scale: Annotated[Number, Field(ge=0, le=0.5)]
    augment_cutout: Annotated[Number, Field(ge=0, le=1)]
    class_sampling: Literal["as_drawn", "balanced"]
    collapse_patience_images: Annotated[int, Field(ge=0)]
    history_points: Count
    film_strip_frames: Annotated[int, Field(ge=2, le=201)]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        problems = [*self._layers_fit(), *self._options_fit()]
        shown_per_step = self.batch_size * self.discriminator_steps
        if self.total_images < shown_per_step:
            problems.append(
                f"gan.total_images: found {self.total_images}; at least gan.batch_size ×"
                f" gan.discriminator_steps ({shown_per_step})"
            )
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def layers_fit_side(self, side: int) -> list[str]:
        """Strides that lead to images of `side` pixels; `auto` always does."""
        problems = []
        most = max(8, side // 4)
        if self.generator_strides != "auto" and self.architecture != "mlp":
            growth = math.prod(self.generator_strides)
            if side % growth or side // growth < 2 or growth == 1:
                problems.append(
                    f"gan.generator_strides: found {self.generator_strides}; {growth} in all do not lead from a grid of"
                    f" 2 or more to data.image_size {side}: take auto"
                )
        if self.discriminator_strides != "auto" and math.prod(self.discriminator_strides) > most:
            problems.append(
                f"gan.discriminator_strides: found {self.discriminator_strides}; at most {most} in all, or nothing is"
                f" left of an image of {side} pixels"
            )
        return problems

    def _layers_fit(self) -> list[str]:
        """Widths and strides that belong together."""
        problems = []
        if self.architecture == "mlp":
            for player in ("generator", "discriminator"):
                if (strides := getattr(self, f"{player}_strides")) not in ([], "auto"):
                    problems.append(f"gan.{player}_strides: found {strides}; architecture mlp has none: []")
                if getattr(self, f"{player}_channels") == "auto":
                    problems.append(
                        f"gan.{player}_channels: found auto; architecture mlp needs its hidden sizes, as in [256, 256]"
                    )
            if self.discriminator_features:
                problems.append(
                    f"gan.discriminator_features: found {self.discriminator_features}; architecture mlp has its"
                    " hidden layers in gan.discriminator_channels: set it to 0"
                )
            return problems
        for player in ("generator", "discriminator"):
            channels, strides = getattr(self, f"{player}_channels"), getattr(self, f"{player}_strides")
            if strides != "auto" and (channels == "auto" or len(channels) != len(strides)):
                layers = "layers" if channels == "auto" else f"{len(channels)} gan.{player}_channels"
                problems.append(
                    f"gan.{player}_strides: found {strides} with gan.{player}_channels {channels}; one for each of the"
                    f" {layers} is needed, or auto"
                )
        strides = self.generator_strides
        if self.architecture == "compact" and strides != "auto" and strides[-1:] != [2]:
            problems.append(
                f"gan.generator_strides: found {self.generator_strides}; the last of architecture compact is its"
                " pixel-shuffle: 2"
            )
        return problems

    def bounds_the_slope(self) -> bool:
        """Whether something bounds the discriminator's slope, which a Wasserstein loss needs."""
        return self.penalty != "none" or self.spectral_norm

    def _options_fit(self) -> list[str]:
        """Combinations that would do nothing, or nonsense."""
        problems = []
        if self.label_smoothing and self.loss not in ("non_saturating", "saturating", "least_squares"):
            problems.append(
                f"gan.label_smoothing: found {self.label_smoothing}; loss {self.loss} has no target to smooth:"
                " set it to 0.0, or the loss to non_saturating, saturating or least_squares"
            )
        if self.loss == "wasserstein" and not self.bounds_the_slope():
            problems.append(
                "gan.penalty: found none; loss wasserstein needs a bound on the discriminator's slope:"
                " gradient_penalty, r1, r1_r2 or spectral_norm"
            )
        if (self.penalty == "none") != (self.penalty_weight == 0):
            problems.append(
                f"gan.penalty_weight: found {self.penalty_weight} with penalty {self.penalty}; a penalty has a"
                " weight above 0, none has 0.0"
            )
        if self.augment_cutout and not self.augment_probability:
            problems.append(
                f"gan.augment_cutout: found {self.augment_cutout} with gan.augment_probability 0: it would never"
                " happen"
            )
        if self.architecture == "mlp" and self.upsampling != "transposed":
            problems.append(
                f"gan.upsampling: found {self.upsampling}; architecture mlp has nothing to upsample: leave it"
                " at transposed"
            )
        return problems


class Generation(Section):
    """How many synthetic images each generator gives, and how widely its latents are spread."""

    images_per_class: Count
    latent_std: Annotated[Number, Field(ge=0.5, le=1.5)]


class _Network(Section):
    """What the feature extractor and the classifier share, whatever their length."""

    channels: Annotated[int, Field(ge=4)]
    feature_dim: Annotated[int, Field(ge=2)]
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: Positive
    weight_decay: NonNegative
    label_smoothing: Annotated[Number, Field(ge=0, lt=1)]


class Training(_Network):
    """What a training of the feature extractor and one of a classifier share."""

    steps: Count


class Extractor(Training):
    """The small CNN on the whole real train split that gives the domain features."""


class Augmentation(Section):
    """What is true of the images, and how strong the transforms are that policies apply to a classifier's images."""

    fill: Annotated[Number, Field(ge=0, le=255)] | Literal["edge", "mean"]
    flips: Literal["none", "horizontal", "both"]
    shift_translation: Annotated[Number, Field(ge=0, le=0.5)]
    affine_rotation_degrees: Annotated[Number, Field(ge=0, le=45)]
    affine_translation: Annotated[Number, Field(ge=0, le=0.5)]
    affine_scale: Annotated[Number, Field(ge=0, le=0.5)]
    affine_shear_degrees: Annotated[Number, Field(ge=0, le=45)]
    elastic_alpha: NonNegative
    elastic_sigma: Positive
    color_brightness: Fraction
    color_contrast: Fraction
    color_saturation: Fraction
    color_hue: Annotated[Number, Field(ge=0, le=0.5)]
    mixup_alpha: Annotated[Number, Field(gt=0, le=100)]


class Pool(Section):
    """How arms learn from `study.pool`."""

    images_per_labelled: Count
    weight: Positive
    labelled_by: PolicyName
    pseudo_label_threshold: Fraction
    weak_policy: PolicyName
    consistency_threshold: Fraction


class Classifier(Training):
    """The classifier of every cell of a budget."""

    network: str
    code: str
    synthetic_weight: NonNegative
    real_only_tail: Fraction
    logit_adjustment: Positive
    reweighted_tail: Fraction


class Classifiers(_Network):
    """The section `classifier`: the classifiers of a study. All arms of a budget train for the same steps."""

    network: Annotated[str, AfterValidator(_network)]
    code: str
    steps: Annotated[Count | dict[Budget, Count], BeforeValidator(_steps)]
    synthetic_weight: NonNegative
    real_only_tail: Fraction
    logit_adjustment: Positive
    reweighted_tail: Fraction

    @model_validator(mode="after")
    def _code(self) -> Self:
        if problem := _problem_of_code(self.code):
            raise ValueError(f"classifier.code: found {self.code!r}; {problem}")
        module, separator, _ = self.network.partition(":")
        own = separator and module != "torchvision"
        if own and module.partition(".")[0] != posixpath.basename(self.code).removesuffix(".py"):
            raise ValueError(
                f"classifier.network: found {self.network!r} with classifier.code {self.code!r}; the module must be"
                " that file, or in that folder, as in my_net:make with my_net.py"
            )
        return self

    @field_serializer("steps")
    def _budgets_as_text(self, steps: int | dict[Any, int]) -> int | dict[str, int]:
        return {str(budget): count for budget, count in steps.items()} if isinstance(steps, dict) else steps

    def of_budget(self, budget: int | Literal["all"]) -> Classifier:
        """How the classifiers of a budget train: with the steps that `classifier.steps` has for it.

        Raises:
            SynthGainError: if it names other budgets only.
        """
        steps = self.steps.get(budget) if isinstance(self.steps, dict) else self.steps
        if steps is None:
            raise SynthGainError(f"classifier.steps: has none for {budget} real images; add them")
        return Classifier(**{**self.model_dump(), "steps": steps})


class Evaluation(Section):
    """The generative metrics, and the gate of memorisation."""

    features: Literal["domain", "inception"]
    images: Annotated[int, Field(ge=100)]
    neighbors: Annotated[int, Field(ge=1, le=50)]
    memorization_near_copies_margin: Fraction
    memorization_authenticity_margin: Fraction


class Report(Section):
    """The HTML page."""

    grid_images_per_class: Annotated[int, Field(ge=1, le=20)]


class Tracking(Section):
    """MLflow."""

    experiment: Annotated[str, Field(min_length=1), AfterValidator(_experiment)]


class Export(Section):
    """The data set that is handed over."""

    formats: Annotated[
        list[Literal["idx", "idx_gz", "png", "npz", "parquet", "webdataset", "arrow"]], Field(min_length=1)
    ]
    real_images: Budget | Literal["recommended"]
    replicate: int
    allow_memorized: bool


class Execution(Section):
    """Where the work runs. Never among a stage's `params:`: it is no property of the result."""

    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["auto", "float32", "bfloat16"]
    threads: Annotated[int, Field(ge=0)]
    processes: Annotated[int, Field(ge=0)]


class Params(Section):
    """The whole of `params.yaml`."""

    seed: Annotated[int, Field(ge=0)]
    data: Data
    study: Study
    generator: Generator
    gan: Gan
    generation: Generation
    extractor: Extractor
    augmentation: Augmentation
    classifier: Classifiers
    pool: Pool
    evaluation: Evaluation
    report: Report
    tracking: Tracking
    export: Export
    execution: Execution

    def own_code_paths(self) -> dict[str, str]:
        """The files and folders of code that a study needs beside this project, by their keys."""
        return {"generator.code": self.generator.code, "classifier.code": self.classifier.code}

    def code_of_its_own(self) -> list[str]:
        """What these parameters run that is no part of this project, a line each."""
        lines = []
        if self.generator.kind == "command":
            lines.append(f"it runs a program of its own (generator.command): {self.generator.command}")
        if not self.classifier.network.startswith(("compact", "torchvision:")):
            lines.append(
                f"it runs Python of its own (classifier.network): {self.classifier.network} of {self.classifier.code}"
            )
        return lines

    @model_validator(mode="after")
    def _cross_section(self) -> Self:
        problems = self.gan.layers_fit_side(self.data.image_size)
        classes = CLASSES_OF_SOURCE.get(self.data.source)
        budgets = [budget for budget in self.study.real_images if budget != "all"]
        if classes and budgets:
            smallest, largest = min(budgets), max(budgets)
            if smallest < classes:
                problems.append(
                    f"study.real_images: found {smallest}; {self.data.source} has {classes} classes,"
                    " so a budget needs at least one image of each"
                )
            needed = math.ceil(math.ceil(largest / classes) * max(self.study.synthetic_per_real))
            if needed > self.generation.images_per_class:
                problems.append(
                    f"generation.images_per_class: found {self.generation.images_per_class}; the largest"
                    f" study.synthetic_per_real ({max(self.study.synthetic_per_real)}) at {largest} real images"
                    f" needs {needed}"
                )
            gap = math.ceil(largest / classes)
            fills = any(ARMS[arm].rare_only and ARMS[arm].uses_synthetic for arm in self.study.arms)
            if fills and gap > self.generation.images_per_class:
                problems.append(
                    f"generation.images_per_class: found {self.generation.images_per_class}; the gap of a rare class"
                    f" (study.imbalance) at {largest} real images is up to about {gap}"
                )
        if self.generator.kind == "folder" and self.study.generators_per_replicate > 1:
            problems.append(
                f"study.generators_per_replicate: found {self.study.generators_per_replicate}; generator.kind folder"
                " has the images of one for each replicate: 1"
            )
        if self.generator.kind != "gan" and self.study.generators_train_on == "pool":
            problems.append(
                f"study.generators_train_on: found pool with generator.kind {self.generator.kind}; a generator of your"
                " own gets the real subset alone: set it to subset"
            )
        if self.study.pool != "none" and self.augmentation.flips == "none":
            for name in ("labelled_by", "weak_policy"):
                if "flip" in POLICIES[policy := getattr(self.pool, name)]:
                    problems.append(
                        f"pool.{name}: found {policy}, which mirrors images, but augmentation.flips is none; take a"
                        " policy without flips, or set augmentation.flips if mirror images are of the same class"
                    )
        if "mixup" in POLICIES[self.pool.weak_policy]:
            problems.append(
                f"pool.weak_policy: found {self.pool.weak_policy}, which blends images, so that they have no label to"
                " find; take one without mixup, such as affine"
            )
        flipping = [arm for arm in self.study.arms if "flip" in POLICIES[ARMS[arm].policy]]
        if flipping and self.augmentation.flips == "none":
            problems.append(
                f"study.arms: found {flipping[0]}, whose policy mirrors images, but augmentation.flips is none; set"
                " it to horizontal or both if mirror images are of the same class (digits' are not), or take a policy"
                " without flips, such as shift"
            )
        if isinstance(self.classifier.steps, dict):
            named = ", ".join(map(str, self.classifier.steps))
            for budget in self.study.real_images:
                if budget not in self.classifier.steps:
                    problems.append(
                        f"classifier.steps: names {named}, but not the budget {budget}"
                        " of study.real_images; add its steps, or write one number for all budgets"
                    )
        if self.export.real_images not in ("recommended", *self.study.real_images):
            problems.append(
                f"export.real_images: found {self.export.real_images};"
                f" recommended, or one of study.real_images {self.study.real_images}"
            )
        if not 1 <= self.export.replicate <= self.study.replicates:
            beyond = f", and study.replicates is {self.study.replicates}" if self.export.replicate > 0 else ""
            problems.append(
                f"export.replicate: found {self.export.replicate}; replicates are counted from 1{beyond}"
            )
        if problems:
            raise ValueError("\n".join(problems))
        return self


def load_params(path: Path) -> Params:
    """Read and validate a whole parameter file.

    Raises:
        SynthGainError: with one line per problem, all problems at once.
    """
    return parse_params(read_yaml(path), where=str(path))


def overlay_params(base: Path, changes: Path) -> Params:
    """The base file with the values of a smaller file in place of its own; sections merge, lists replace.

    Raises:
        SynthGainError: if either file cannot be read, or the result is not valid (unknown keys included).
    """
    merged = dict(read_yaml(base))
    for key, value in read_yaml(changes).items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = {**merged[key], **value}
        else:
            merged[key] = value
    return parse_params(merged, where=f"{base} + {changes}")


def parse_params(values: Mapping[str, Any], *, where: str) -> Params:
    """Validate the values of a parameter file; `where` names it in the error."""
    return parse_section(Params, values, where=where)


def parse_section(
    kind: type[SectionType], values: Mapping[str, Any], *, where: str, name: str | None = None
) -> SectionType:
    """Validate the values of a section of a file; `where` names the file in the error, `name` the section.

    Raises:
        SynthGainError: with one line per problem, all problems at once.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems: list[dict[str, Any]] = [
            {**problem, "loc": (*([name] if name else []), *problem["loc"])}
            for problem in error.errors(include_url=False)
        ]
        raise SynthGainError("\n".join(f"{where}: {line}" for line in _explain(problems))) from None


def dump_params(params: Params) -> str:
    """The YAML text that `load_params` reads back to equal params."""
    return yaml.safe_dump(params.model_dump(), sort_keys=False)


class _RepeatedKey(Exception):
    """Which key, and the lines where it stands."""


class _KeysOnce(yaml.SafeLoader):
    """YAML without code, in which a key stands once: PyYAML takes the last one without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping, after a look at its keys."""
        lines: dict[str, int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if key.value in lines:  # as text: a class may be called 3 and "3", which are the same
                raise _RepeatedKey(
                    f"{key.value} stands twice, in line {lines[key.value]} and in line {line}; remove one of them"
                )
            lines[key.value] = line
        return super().construct_mapping(node, deep)


# Of a parameter file: ours has 7000 bytes and 150 values.
_MOST_BYTES = 1_000_000
_MOST_VALUES = 10_000


def read_yaml(path: Path) -> dict[str, Any]:
    """The sections of a file, not yet validated.

    Raises:
        SynthGainError: if it cannot be read, is too large, is no YAML of sections, or has a key twice.
    """
    try:
        with path.open("rb") as file:  # a device never ends
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise SynthGainError(f"{path}: over {_MOST_BYTES:,} bytes; a file of parameters is needed")
        loader = _KeysOnce(content.decode("utf-8"))
        node = loader.get_single_node()
        if node is not None and _written_out(node, {}) > _MOST_VALUES:
            raise SynthGainError(
                f"{path}: its aliases (*name) stand for over {_MOST_VALUES:,} values; write the values instead"
            )
        problems = list(_keys_that_are_no_text(node))
        values = None if node is None else loader.construct_document(node)
    except FileNotFoundError:
        raise SynthGainError(
            f"{path}: no such file; run this where params.yaml is, or pass --params"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SynthGainError(f"{path}: cannot be read ({error})") from None
    except _RepeatedKey as error:
        raise SynthGainError(f"{path}: {error}") from None
    except yaml.YAMLError as error:
        raise SynthGainError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    except RecursionError:
        raise SynthGainError(f"{path}: nested too deeply; sections of keys and values are expected") from None
    if not isinstance(values, dict):
        raise SynthGainError(f"{path}: expected sections of keys and values, found {type(values).__name__}")
    if problems:
        raise SynthGainError("\n".join(f"{path}: {problem}" for problem in problems))
    return values


def _written_out(node: yaml.Node, known: dict[int, float]) -> float:
    """How many values a node holds with every alias written out; of one that holds itself, infinitely many."""
    if id(node) not in known:
        known[id(node)] = math.inf  # until its parts are counted
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            parts = node.value
        elif isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        known[id(node)] = 1 + sum(_written_out(part, known) for part in parts)
    return known[id(node)]


_READ_AS = {
    "bool": "true or false",
    "null": "nothing",
    "float": "a number",
    "timestamp": "a date",
    "int": "another number",
}


def _keys_that_are_no_text(node: yaml.Node | None, place: str = "") -> Iterator[str]:
    """Keys that YAML takes for something else than they were typed: a class called no, on, null, 010 or 12:30."""
    if not isinstance(node, yaml.MappingNode):
        return
    kinds = [key.tag.rpartition(":")[2] for key, _ in node.value]
    mixed = (
        len(set(kinds) & {"int", "str"}) == 2
    )  # DVC sorts the keys of its lock file, and these have no order
    for kind, (key, value) in zip(kinds, node.value, strict=True):
        typed = str(key.value) if isinstance(key, yaml.ScalarNode) else ""
        plain_number = kind == "int" and typed == str(yaml.safe_load(typed))
        if plain_number and mixed:
            yield (
                f"{place}{typed}: line {key.start_mark.line + 1}: a number beside keys that are text; put it in"
                f' quotes: "{typed}"'
            )
        if kind in _READ_AS and not plain_number:
            yield (
                f"{place}{typed}: line {key.start_mark.line + 1}: YAML reads this key as {_READ_AS[kind]}; put it in"
                f' quotes: "{typed}"'
            )
        yield from _keys_that_are_no_text(value, f"{place}{typed}.")


# Keys of earlier versions, and where their values are now.
_MOVED = {
    f"classifier.{name}": f"augmentation.{name}"
    for name in (
        "affine_rotation_degrees",
        "affine_translation",
        "affine_scale",
        "affine_shear_degrees",
        "elastic_alpha",
        "elastic_sigma",
    )
}

# It counted evaluation points: of 200 000 images, with 40 points, one stood for 5000.
_MOVED["gan.collapse_patience"] = "gan.collapse_patience_images"
_UNITS = {"gan.collapse_patience": ", in images shown: 5 evaluation points were 25000"}

# Pydantic's names of problems, in the words of this file's reader.
_ALLOWED = {
    "extra_forbidden": "unknown key; remove it or mend its spelling",
    "missing": "missing; every value stands in params.yaml",
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "list_type": "a list",
    "model_type": "a section of keys and values",
    "finite_number": "a finite number",
    "too_short": "a list of at least 1 item",
    "string_too_short": "text, and not an empty one",
}


def _explain(problems: list[dict[str, Any]]) -> list[str]:
    """Where, what was found, what is allowed: one line per problem."""
    lines: list[str] = []
    allowed_at: dict[str, list[str]] = {}  # every branch of a union reports its own problem at the same place
    found_at: dict[str, Any] = {}
    unknown = {".".join(map(str, each["loc"])) for each in problems if each["type"] == "extra_forbidden"}
    new_places = {_MOVED[place] for place in unknown & _MOVED.keys()}  # their old names say enough
    for problem in problems:
        if problem["type"] == "value_error" and isinstance(problem["input"], Section | dict):
            lines += str(problem["ctx"]["error"]).split("\n")  # a rule of ours, already in these words
            continue
        # Branches of a union appear in the location ("int", "literal['all']"); the file has no such keys.
        place = ".".join(
            str(part)
            for part in problem["loc"]
            if isinstance(part, int) or (part.isidentifier() and part not in ("int", "float", "str"))
        )
        message = problem["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        allowed = _ALLOWED.get(problem["type"], message)
        if problem["type"] in ("extra_forbidden", "missing"):
            if place in _MOVED:
                units = _UNITS.get(place, "")
                lines.append(f"{place}: now called {_MOVED[place]}; move its value there{units}")
            elif place not in new_places:
                lines.append(f"{place}: {allowed}")
            continue
        found_at[place] = problem["input"]
        if allowed not in allowed_at.setdefault(place, []):
            allowed_at[place].append(allowed)
    for place, allowed_values in allowed_at.items():
        if any(other.startswith(f"{place}.") for other in allowed_at):
            continue  # a list where auto is allowed too: what is wrong is in the list
        found = found_at[place]
        if "a number" in allowed_values:
            allowed_values = ["a number"]
        hint = ""
        if isinstance(found, str) and _is_exponent_text(found):
            hint = f" (YAML reads {found} as text: write it with a decimal point, as in 2.0e-4)"
        lines.append(f"{place}: found {found!r}; allowed: {' or '.join(allowed_values)}{hint}")
    return lines


def _is_exponent_text(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "e" in text.lower()
