"""Train each system at the same image budget, let it make labelled images, and judge them all alike.

Order of work: first everything that learns (extractor, GANs, the classifiers on their images), on the train split
alone; then, at the very end, the one reading of the test split. Nothing is chosen here, so nothing can be chosen on
it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image

from pipeline.checkpoints import file_sha256, load_checkpoint, save_checkpoint
from pipeline.classifier.network import (
    load_features_and_probabilities,
    network_from,
    predict,
    save_extractor,
)
from pipeline.classifier.training import Recipe, train_classifier
from pipeline.errors import SynthGainError
from pipeline.gan.film import save_film_strip
from pipeline.gan.generators import load_generator, save_generator
from pipeline.gan.sampling import synthetic_images
from pipeline.gan.state import new_state
from pipeline.gan.training import images_shown, train_gan
from pipeline.generative_metrics.anchors import class_gaussian, class_kernel_density, class_mixup, copycat
from pipeline.generative_metrics.budget import class_counts
from pipeline.generative_metrics.evaluate import DescribedImages, describe_images, evaluate_images
from pipeline.generative_metrics.features import Extractor
from pipeline.generative_metrics.inception import load_inception
from pipeline.generative_metrics.likelihood import (
    SAMPLES,
    VALIDATION_IMAGES,
    chosen_sigma,
    every_kth,
    parzen_likelihood,
)
from pipeline.images import LabeledImages, draw_indices
from pipeline.literature.keeping import is_kept, keep
from pipeline.literature.systems import System
from pipeline.params import Gan, Params
from pipeline.runtime.code import code_sha256
from pipeline.runtime.progress import progress
from pipeline.runtime.seeds import derive_seed

_PICTURE_COLUMNS = 10
_PICTURE_SCALE = 2
_CLASSIFIER_KIND = "literature_classifier"

BASELINES = {
    "real": "real train images",
    "copycat": "copycat: real + little noise",
    "class_mixup": "mixup within the class",
    "class_kernel_density": "kernel density per class",
    "class_gaussian": "Gaussian per class",
}


@dataclass(frozen=True, eq=False)
class Work:
    """What every step needs: where results are kept, the data, the parameters, and where to compute.

    Attributes:
        out: folder of the results.
        prepared: folder of the splits.
        params: the project's own; a system's differ in their gan section.
        device: where to compute.
        dtype: what GANs compute in.
    """

    out: Path
    prepared: Path
    params: Params
    device: torch.device
    dtype: torch.dtype

    @cached_property
    def train(self) -> LabeledImages:
        """The train split."""
        return LabeledImages.load(self.prepared / "train.npz")

    @cached_property
    def validation(self) -> LabeledImages:
        """The validation split."""
        return LabeledImages.load(self.prepared / "validation.npz")

    @cached_property
    def train_sha256(self) -> str:
        """The hash of the train split's file."""
        return file_sha256(self.prepared / "train.npz")

    def seed(self, *purpose: str) -> int:
        """A seed of its own for each purpose."""
        return derive_seed(self.params.seed, "literature", *purpose)


def train_system(work: Work, name: str, gan: Gan) -> None:
    """Train a system's GAN on the train split, or keep the one that is there.

    Raises:
        SynthGainError: if the training diverges.
    """
    folder, key = work.out / name / "gan", gan_key(work, name, gan)
    if is_kept(folder, key):
        return
    seed = gan_seed(work, name)
    scratch = work.out / name / "unfinished" / _digest(key)

    def make(target: Path) -> None:
        start = time.monotonic()
        with progress(name, total=images_shown(gan), unit="images") as advance:
            result = train_gan(
                work.train,
                gan,
                seed=seed,
                device=work.device,
                dtype=work.dtype,
                scratch=scratch,
                label=name,
                advance=advance,
            )
        save_generator(
            target / "generator.safetensors",
            result.generator,
            class_names=work.train.class_names,
            provenance={"train_sha256": work.train_sha256, "gan_seed": seed, "system": name},
        )
        save_film_strip(target / "film_strip.png", result.film_strip)
        table = pd.DataFrame(result.history).round(6)
        table.to_csv(target / "history.csv", index=False, lineterminator="\n")
        facts = {
            **parameters(work, gan),
            "gan_code_sha256": code_sha256("pipeline.gan.training"),
            "last_process_seconds": round(time.monotonic() - start, 1),
        }
        (target / "facts.json").write_text(json.dumps(facts, indent=2, sort_keys=True) + "\n")

    keep(folder, key, make)
    shutil.rmtree(work.out / name / "unfinished", ignore_errors=True)


def gan_seed(work: Work, name: str) -> int:
    """The same for all variants of a study (`study/variant`): they start from the same weights."""
    return work.seed("gan", name.partition("/")[0])


def gan_key(work: Work, name: str, gan: Gan) -> dict[str, Any]:
    """All that a system's generator depends on; not the code, whose hash stands beside the result."""
    return {
        "gan": gan.model_dump(),
        "seed": gan_seed(work, name),
        "train_sha256": work.train_sha256,
        "dtype": str(work.dtype),
    }


def parameters(work: Work, gan: Gan) -> dict[str, int]:
    """How many weights the two networks learn."""
    state = new_state(work.train, gan, seed=0, device=torch.device("cpu"))
    return {
        f"{player}_parameters": sum(weight.numel() for weight in getattr(state, player).parameters())
        for player in ("generator", "discriminator")
    }


def make_system_images(work: Work, name: str, gan: Gan) -> None:
    """The synthetic images of a trained system, their picture, and the classifier that learns from them alone."""
    generator_path = work.out / name / "gan" / "generator.safetensors"

    def images() -> LabeledImages:
        generator, class_names, provenance = load_generator(generator_path, work.device)
        per_class = work.params.generation.images_per_class
        with progress(f"images of {name}", per_class * len(class_names), "images") as advance:
            return synthetic_images(
                generator,
                class_names=class_names,
                images_per_class=per_class,
                seed=work.seed("generate", name),
                provenance=provenance,
                device=work.device,
                advance=advance,
            )

    _make_images(work, name, {"generator_sha256": file_sha256(generator_path)}, images)


def make_baseline_images(work: Work, name: str) -> None:
    """The images of a baseline (or as many real ones), made from the train split, and their classifier."""
    counts = np.full(work.train.num_classes, work.params.generation.images_per_class, dtype=np.int64)

    def images() -> LabeledImages:
        rng = np.random.default_rng(work.seed("baseline", name))
        if name == "real":
            return work.train.subset(draw_indices(work.train.labels, counts, rng))
        if name == "class_kernel_density":
            # The width that real images themselves ask for, on the grid of the Parzen windows.
            chosen = draw_indices(work.train.labels, np.minimum(counts, SAMPLES // len(counts)), rng)
            sigma = chosen_sigma(
                work.train.images[chosen], every_kth(work.validation.images, VALIDATION_IMAGES)
            )
            return class_kernel_density(work.train, counts=counts, sigma=sigma, rng=rng)
        simple = {"copycat": copycat, "class_mixup": class_mixup, "class_gaussian": class_gaussian}
        return simple[name](work.train, counts=counts, rng=rng)

    _make_images(work, name, {"train_sha256": work.train_sha256}, images)


def images_key(work: Work, name: str, source: Mapping[str, str]) -> dict[str, Any]:
    """All that a set of synthetic images and its classifier depend on."""
    return {
        "source": dict(source),
        "seed": work.seed("generate", name),
        "generation": work.params.generation.model_dump(),
        "classifier": work.params.classifier.of_budget("all").model_dump(),
    }


def _make_images(
    work: Work, name: str, source: Mapping[str, str], images: Callable[[], LabeledImages]
) -> None:
    classifier = work.params.classifier.of_budget("all")

    def make(target: Path) -> None:
        synthetic = images()
        synthetic.save(target / "synthetic.npz")
        save_picture(target / "samples.png", synthetic)
        with progress(f"classifier on {name}", classifier.steps, "steps") as advance:
            network = train_classifier(
                Recipe(synthetic, work.seed("classifier")),  # the same start for every system
                classifier,
                device=work.device,
                advance=advance,
            )
        save_checkpoint(
            target / "classifier.safetensors",
            network.state_dict(),
            {"kind": _CLASSIFIER_KIND, "arguments": network.arguments},
        )

    keep(work.out / name / "images", images_key(work, name, source), make)


def save_picture(path: Path, images: LabeledImages) -> None:
    """The first ten images of each class as a PNG, a row per class."""
    rows = [images.images[images.labels == label][:_PICTURE_COLUMNS] for label in range(images.num_classes)]
    tiles = np.stack(rows)[:, :, 0]  # (classes, 10, H, W)
    picture = tiles.transpose(0, 2, 1, 3).reshape(tiles.shape[0] * tiles.shape[2], -1)
    scaled: npt.NDArray[np.uint8] = picture.repeat(_PICTURE_SCALE, axis=0).repeat(_PICTURE_SCALE, axis=1)
    Image.fromarray(scaled).save(path, format="PNG", optimize=True)


def train_extractor(work: Work) -> Path:
    """The network of the domain features, trained as the stage of that name does; its file."""
    settings = work.params.extractor
    seed = derive_seed(work.params.seed, "extractor")
    key = {"extractor": settings.model_dump(), "seed": seed, "train_sha256": work.train_sha256}

    def make(target: Path) -> None:
        with progress("extractor", settings.steps, "steps") as advance:
            network = train_classifier(
                Recipe(work.train, seed),
                settings,
                device=work.device,
                advance=advance,
            )
        save_extractor(target / "extractor.safetensors", network, work.train, work.device)

    keep(work.out / "extractor", key, make)
    return work.out / "extractor" / "extractor.safetensors"


def evaluate_rows(work: Work, systems: Sequence[System], baselines: Sequence[str]) -> list[dict[str, Any]]:
    """Read the test split, and give a row for every system and baseline whose images are there.

    Every row has the same n in the test split's class shares. Rows of the same images, splits and settings are
    kept.
    """
    test_path = work.prepared / "test.npz"
    test = LabeledImages.load(test_path)
    extractor_path = train_extractor(work)
    extractor = Extractor("domain", file_sha256(extractor_path))
    per_class = np.full(test.num_classes, work.params.generation.images_per_class)
    counts = class_counts(
        shares=test.counts(),
        offered=np.min([test.counts(), work.train.counts(), per_class], axis=0),
        images=work.params.evaluation.images,
    )
    inception = load_inception(work.device) if work.params.evaluation.features == "inception" else None
    features_and_probabilities = load_features_and_probabilities(extractor_path, work.device)

    def described(images: LabeledImages, purpose: str) -> DescribedImages:
        rng = np.random.default_rng(work.seed("evaluation", purpose))
        drawn = images.subset(draw_indices(images.labels, counts, rng))
        return describe_images(drawn, features_and_probabilities, extractor=extractor, inception=inception)

    def reference() -> tuple[DescribedImages, DescribedImages]:
        return described(test, "test"), described(work.train, "floor")

    anchors: list[tuple[DescribedImages, DescribedImages]] = []  # computed when the first row needs them
    rows = []
    named = [(system.name, system.title, "system") for system in systems]
    for name, title, kind in [*named, *((name, BASELINES[name], "baseline") for name in baselines)]:
        folder = work.out / name
        key = {
            "images": json.loads((folder / "images" / "key.json").read_text(encoding="utf-8")),
            "evaluation": work.params.evaluation.model_dump(),
            "seed": work.seed("evaluation"),
            "extractor_sha256": extractor.sha256,
            "validation_sha256": file_sha256(work.prepared / "validation.npz"),
            "test_sha256": file_sha256(test_path),
        }

        def make(target: Path, name: str = name, folder: Path = folder) -> None:
            anchors.extend([] if anchors else [reference()])
            (real, other_real), synthetic = anchors[0], LabeledImages.load(folder / "images/synthetic.npz")
            values = evaluate_images(
                real=real,
                synthetic=described(synthetic, name),
                other_real=other_real,
                class_names=test.class_names,
                neighbors=work.params.evaluation.neighbors,
                all_synthetic=describe_images(synthetic, features_and_probabilities, extractor=extractor),
            )
            values["recognised_of_100"] = _recognised(synthetic, features_and_probabilities)
            for split, images in (("validation", work.validation), ("test", test)):
                values[f"cas_{split}"] = _accuracy(folder / "images/classifier.safetensors", images, work)
            likelihood = parzen_likelihood(synthetic=synthetic, validation=work.validation, test=test)
            values |= {f"parzen_{name}": value for name, value in asdict(likelihood).items()}
            (target / "row.json").write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")

        with progress(f"evaluating {name}", 1, "rows") as advance:
            keep(folder / "row", key, make)
            advance(1)
        row = json.loads((folder / "row/row.json").read_text(encoding="utf-8"))
        rows.append({"system": name, "title": title, "kind": kind, **row, **_training_facts(folder, kind)})
    return rows


def _recognised(
    synthetic: LabeledImages,
    features_and_probabilities: Callable[[npt.NDArray[np.uint8]], tuple[Any, npt.NDArray[np.float32]]],
) -> float:
    """Label fidelity of the pictured images alone, ten of each class: "95 of 100 recognisable"."""
    first = np.concatenate(
        [
            np.flatnonzero(synthetic.labels == label)[:_PICTURE_COLUMNS]
            for label in range(synthetic.num_classes)
        ]
    )
    _, probabilities = features_and_probabilities(synthetic.images[first])
    return float((probabilities.argmax(axis=1) == synthetic.labels[first]).mean())


def _accuracy(classifier: Path, images: LabeledImages, work: Work) -> float:
    tensors, metadata = load_checkpoint(classifier, kind=_CLASSIFIER_KIND)
    network = network_from(metadata["arguments"], tensors, work.device)
    return round(float((predict(network, images.images, work.device) == images.labels).mean()), 6)


def _training_facts(folder: Path, kind: str) -> dict[str, Any]:
    """The last row of a system's history, its size and its speed."""
    if kind != "system":
        return {}
    history = pd.read_csv(folder / "gan/history.csv")
    last = history.iloc[-1]
    facts: dict[str, Any] = json.loads((folder / "gan/facts.json").read_text(encoding="utf-8"))
    columns = ("d_loss", "g_loss", "d_accuracy_real", "d_accuracy_fake", "images_seen")
    return {
        **facts,
        **{name: float(last[name]) for name in columns},
        "images_per_second": float(history["images_per_second"].median()),
    }


def _digest(key: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()[:16]


def check_systems(only: Sequence[str], known: Sequence[str]) -> None:
    """Refuse names of systems that do not exist.

    Raises:
        SynthGainError: naming those that do.
    """
    unknown = [name for name in only if name not in known]
    if unknown:
        raise SynthGainError(f"--only: found {', '.join(unknown)}; allowed: {', '.join(known)}")
