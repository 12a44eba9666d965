"""Train a system as its paper does, let it draw images, and measure them: a row of numbers, losses and pictures.

Order of work: what learns first (extractor, GAN, a classifier on its images), on the train split alone; then the
reading of the test split. Nothing is chosen here, so nothing can be chosen on it. All results come from the store
(`pipeline.runtime.store`), so that nothing is computed twice and a killed training goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from pipeline.checkpoints import file_sha256
from pipeline.classifier.network import load_features_and_probabilities, predict, save_extractor
from pipeline.classifier.training import Recipe, train_classifier
from pipeline.gan.generators import load_generator, save_generator
from pipeline.gan.sampling import synthetic_images
from pipeline.gan.state import new_state
from pipeline.gan.training import train_gan
from pipeline.generative_metrics.anchors import class_gaussian, class_kernel_density, class_mixup, copycat
from pipeline.generative_metrics.budget import class_counts
from pipeline.generative_metrics.evaluate import DescribedImages, describe_images, evaluate_images
from pipeline.generative_metrics.features import Extractor, FeaturesAndProbabilities
from pipeline.generative_metrics.inception import load_inception
from pipeline.generative_metrics.likelihood import (
    SAMPLES,
    VALIDATION_IMAGES,
    chosen_sigma,
    every_kth,
    parzen_likelihood,
)
from pipeline.images import LabeledImages, draw_indices
from pipeline.params import Gan, Params
from pipeline.runtime.progress import Advance, progress, unheard
from pipeline.runtime.seeds import derive_seed
from pipeline.runtime.store import (
    Key,
    find_result,
    keep_result,
    result_key,
    stored_result,
    this_store,
    unfinished,
)

# A classifier that has seen real images alone is sure of some digit: what "recognisable" means here, without labels.
SURE = 0.9
_PICTURED = 100
_FILM_ROWS = 12
_SCALE = 2

BASELINES = {
    "real": "real train images",
    "copycat": "copycat: real + little noise",
    "class_mixup": "mixup within the class",
    "class_kernel_density": "kernel density per class",
    "class_gaussian": "Gaussian per class",
}


@dataclass(frozen=True, eq=False)
class Work:
    """What every step needs: the data, the parameters, and where to compute.

    Attributes:
        prepared: folder of the splits.
        params: the project's own; a system's differ in their gan section.
        device: where to compute.
        dtype: what GANs compute in.
    """

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
    def test(self) -> LabeledImages:
        """The test split: read when all has been trained."""
        return LabeledImages.load(self.prepared / "test.npz")

    @cached_property
    def train_sha256(self) -> str:
        """The hash of the train split's file."""
        return file_sha256(self.prepared / "train.npz")

    def seed(self, *purpose: str) -> int:
        """A seed of its own for each purpose."""
        return derive_seed(self.params.seed, "literature", *purpose)

    def key(self, kind: str, compute: Callable[..., Any], **recipe: Any) -> Key:
        """The key of a result that depends on the train split and this recipe (JSON values)."""
        return result_key(
            kind, compute, recipe=recipe, data=self.train_sha256, device=self.device, dtype=self.dtype
        )


def trained_system(work: Work, name: str, gan: Gan, advance: Advance) -> Path:
    """The folder of a trained system: `generator.safetensors`, `history.json`, `film.npy`, `facts.json`.

    Systems of one overlay (`learning_rates/0.0001` …) start from the same weights.

    Raises:
        SynthGainError: if the training diverges.
    """
    seed, store = work.seed("gan", name.partition("/")[0]), this_store()
    key = work.key("literature-gan", train_gan, gan=gan.model_dump(), seed=seed)
    found = find_result(store, key)
    if found is not None:
        return found
    with unfinished(store, key) as scratch:
        run = train_gan(
            work.train,
            gan,
            seed=seed,
            device=work.device,
            dtype=work.dtype,
            scratch=scratch / "state",
            label=name,
            advance=advance,
        )
        with keep_result(store, key) as folder:
            save_generator(
                folder / "generator.safetensors",
                run.generator,
                class_names=work.train.class_names,
                provenance={"train_sha256": work.train_sha256, "gan_seed": seed, "system": name},
            )
            np.save(folder / "film.npy", run.film_strip)
            (folder / "history.json").write_text(json.dumps(run.history), encoding="utf-8")
            (folder / "facts.json").write_text(json.dumps(_weights(work, gan)), encoding="utf-8")
    return stored_result(store, key)


def _weights(work: Work, gan: Gan) -> dict[str, int]:
    """How many weights the two networks learn."""
    state = new_state(work.train, gan, seed=0, device=torch.device("cpu"))
    return {
        f"{player}_weights": sum(weight.numel() for weight in getattr(state, player).parameters())
        for player in ("generator", "discriminator")
    }


def system_images(work: Work, name: str, generator_file: Path) -> LabeledImages:
    """The synthetic images of a trained system; of one without labels, the labels mean nothing."""
    generator, class_names, provenance = load_generator(generator_file, work.device)
    return synthetic_images(
        generator,
        class_names=class_names,
        images_per_class=work.params.generation.images_per_class,
        seed=work.seed("generate", name),
        provenance=provenance,
        device=work.device,
        advance=unheard,
    )


def baseline_images(work: Work, name: str) -> LabeledImages:
    """The images of a simple model of the train split, or as many real ones."""
    counts = np.full(work.train.num_classes, work.params.generation.images_per_class, dtype=np.int64)
    rng = np.random.default_rng(work.seed("baseline", name))
    if name == "real":
        return work.train.subset(draw_indices(work.train.labels, counts, rng))
    if name == "class_kernel_density":
        # The width that real images themselves ask for, on the grid of the Parzen windows.
        chosen = draw_indices(work.train.labels, np.minimum(counts, SAMPLES // len(counts)), rng)
        sigma = chosen_sigma(work.train.images[chosen], every_kth(work.validation.images, VALIDATION_IMAGES))
        return class_kernel_density(work.train, counts=counts, sigma=sigma, rng=rng)
    simple = {"copycat": copycat, "class_mixup": class_mixup, "class_gaussian": class_gaussian}
    return simple[name](work.train, counts=counts, rng=rng)


def trained_extractor(work: Work) -> Path:
    """The file of the network of the domain features, trained as the stage of that name does."""
    settings, store = work.params.extractor, this_store()
    seed = derive_seed(work.params.seed, "extractor")
    key = work.key("literature-extractor", train_classifier, extractor=settings.model_dump(), seed=seed)
    found = find_result(store, key)
    if found is None:
        with progress("extractor", settings.steps, "steps") as advance:
            network = train_classifier(
                Recipe(work.train, seed), settings, device=work.device, advance=advance
            )
        with keep_result(store, key) as folder:
            save_extractor(folder / "extractor.safetensors", network, work.train, work.device)
        found = stored_result(store, key)
    return found / "extractor.safetensors"


def measured(
    work: Work,
    name: str,
    make: Callable[[], LabeledImages],
    *,
    source: str,
    has_labels: bool,
    advance: Advance,
) -> tuple[dict[str, Any], Path]:
    """A row of numbers on the images that `make` draws, and the folder with their picture `samples.png`.

    Where the images have no labels, CAS has those that the extractor sees, and there is no label fidelity.

    Args:
        work: data and parameters.
        name: of the system or baseline.
        make: draws the images.
        source: hash of what they are drawn from.
        has_labels: whether their labels were asked of the generator.
        advance: told of the images that the classifier is shown; of nothing if the row is in the store.

    Raises:
        SynthGainError: if the generator gives no images.
    """
    extractor_file, store = trained_extractor(work), this_store()
    key = work.key(
        "literature-row",
        measured,
        name=name,
        source=source,
        has_labels=has_labels,
        generation=work.params.generation.model_dump(),
        evaluation=work.params.evaluation.model_dump(),
        classifier=work.params.classifier.of_budget("all").model_dump(),
        extractor_sha256=file_sha256(extractor_file),
        validation_sha256=file_sha256(work.prepared / "validation.npz"),
        test_sha256=file_sha256(work.prepared / "test.npz"),
        seed=work.params.seed,
    )
    found = find_result(store, key)
    if found is None:
        row, images = _measure(work, name, make(), extractor_file, has_labels, advance)
        with keep_result(store, key) as folder:
            (folder / "row.json").write_text(json.dumps(row, sort_keys=True), encoding="utf-8")
            save_samples(folder / "samples.png", images, by_class=has_labels)
        found = stored_result(store, key)
    row = json.loads((found / "row.json").read_text(encoding="utf-8"))
    return row, found


def _measure(
    work: Work, name: str, images: LabeledImages, extractor_file: Path, has_labels: bool, advance: Advance
) -> tuple[dict[str, Any], LabeledImages]:
    describe = load_features_and_probabilities(extractor_file, work.device)
    extractor = Extractor("domain", file_sha256(extractor_file))
    _, probabilities = describe(images.images)
    seen = probabilities.argmax(axis=1).astype(np.int64)
    labelled = (
        images if has_labels else LabeledImages(images.images, seen, images.class_names, images.provenance)
    )
    settings = work.params.classifier.of_budget("all")
    classifier = train_classifier(
        Recipe(labelled, work.seed("classifier")),  # the same start for every system
        settings,
        device=work.device,
        advance=lambda steps, note="": advance(steps * settings.batch_size, note),
    )
    accuracies = {
        f"cas_{split}": float((predict(classifier, real.images, work.device) == real.labels).mean())
        for split, real in (("validation", work.validation), ("test", work.test))
    }
    likelihood = parzen_likelihood(synthetic=images, validation=work.validation, test=work.test)
    shares = np.bincount(seen, minlength=images.num_classes) / len(seen)
    sure = probabilities.max(axis=1) >= SURE
    row = {
        **_distances(work, name, images, describe, extractor, has_labels),
        **accuracies,
        "recognisable_of_100": int(sure[_pictured(images, by_class=has_labels)].sum()),
        "recognisable": float(sure.mean()),
        "recognisable_real": float((describe(work.test.images)[1].max(axis=1) >= SURE).mean()),
        "largest_class_share": float(shares.max()),
        "smallest_class_share": float(shares.min()),
        **{f"parzen_{key}": value for key, value in asdict(likelihood).items()},
    }
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in row.items()}, images


def _distances(
    work: Work,
    name: str,
    images: LabeledImages,
    describe: FeaturesAndProbabilities,
    extractor: Extractor,
    has_labels: bool,
) -> dict[str, Any]:
    """Distances of n images to n test images. Every row has the same n, in the test split's class shares if it can.

    The floor is that of validation images: they trained nothing.
    """
    inception = load_inception(work.device) if work.params.evaluation.features == "inception" else None
    per_class = np.full(work.test.num_classes, work.params.generation.images_per_class)
    counts = class_counts(
        shares=work.test.counts(),
        offered=np.min([work.test.counts(), work.validation.counts(), per_class], axis=0),
        images=work.params.evaluation.images,
    )

    def described(of: LabeledImages, purpose: str, by_class: bool = True) -> DescribedImages:
        rng = np.random.default_rng(work.seed("evaluation", purpose))
        n = int(counts.sum())
        chosen = draw_indices(of.labels, counts, rng) if by_class else rng.choice(len(of), n, replace=False)
        return describe_images(of.subset(chosen), describe, extractor=extractor, inception=inception)

    values = evaluate_images(
        real=described(work.test, "test"),
        synthetic=described(images, name, has_labels),
        other_real=described(work.validation, "floor"),
        class_names=(),
        neighbors=work.params.evaluation.neighbors,
        all_synthetic=describe_images(images, describe, extractor=extractor),
    )
    kept = {key: value for key, value in values.items() if not key.startswith(("label_fidelity", "fid_"))}
    scales = {key: kept.pop(key) for key in list(kept) if key.endswith("_scale")}
    return {
        **kept,
        "fid_floor": values["fid_scale"]["floor"],
        "n": values["fid_scale"]["n"],
        **({"inception_fid_floor": scales["inception_fid_scale"]["floor"]} if scales else {}),
        **({"label_fidelity": values["label_fidelity"]} if has_labels else {}),
    }


def _pictured(images: LabeledImages, *, by_class: bool) -> npt.NDArray[np.int64]:
    """The positions of the images that are shown: ten of each class, or a hundred as they come."""
    if not by_class:
        return np.linspace(0, len(images), min(_PICTURED, len(images)), endpoint=False).astype(np.int64)
    each = [np.flatnonzero(images.labels == label)[:10] for label in range(images.num_classes)]
    return np.concatenate(each)


def save_samples(path: Path, images: LabeledImages, *, by_class: bool) -> None:
    """A picture of a hundred images in rows of ten: a row per class, or as they come."""
    chosen = images.images[_pictured(images, by_class=by_class)]
    rows = len(chosen) // 10
    _save(path, chosen[: rows * 10].reshape(rows, 10, *chosen.shape[1:]))


def save_film(path: Path, film: npt.NDArray[np.uint8], epochs: list[int]) -> None:
    """Twelve latents at these epochs: a row per epoch, from `film` (epochs + 1, rows, C, H, W), its first untrained."""
    _save(path, film[epochs, :_FILM_ROWS])


def film_epochs(epochs: int) -> list[int]:
    """Six epochs of a training, as Paper 4 shows them: the first, and the ends of five equal parts."""
    return sorted({1, *(max(1, round(epochs * part / 5)) for part in range(1, 6))})


def _save(path: Path, tiles: npt.NDArray[np.uint8]) -> None:
    """Images (rows, columns, C, H, W) as one picture."""
    rows, columns, channels, height, width = tiles.shape
    picture = tiles.transpose(0, 3, 1, 4, 2).reshape(rows * height, columns * width, channels)
    scaled = picture.repeat(_SCALE, axis=0).repeat(_SCALE, axis=1)
    Image.fromarray(scaled[:, :, 0] if channels == 1 else scaled).save(path, format="PNG", optimize=True)
