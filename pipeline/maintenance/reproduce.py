"""Make a slice of the results again and hold it against what is on disk, byte for byte. Nothing is written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipeline.augmentation.geometry import ImageFacts
from pipeline.checkpoints import file_sha256, load_checkpoint, refused_if_edited, tensors_sha256
from pipeline.classifier.replicates import CellTraining, cell_jobs, train_cell
from pipeline.classifier.saved_cells import load_cells
from pipeline.errors import SynthGainError
from pipeline.gan.generators import GENERATOR_KIND, generator_path, load_generator
from pipeline.gan.networks import Generator
from pipeline.gan.sampling import sample_images
from pipeline.gan.training import images_shown, train_gan
from pipeline.images import LabeledImages
from pipeline.params import Params
from pipeline.runtime.device import set_switches, workers_for
from pipeline.runtime.progress import Advance, progress
from pipeline.runtime.seeds import derive_seed
from pipeline.runtime.store import cpu_capability, this_store
from pipeline.study.arms import ARMS
from pipeline.study.pool import with_pseudo_labels
from pipeline.study.subsets import Budget, real_subset, replicate_number
from pipeline.study.trained_gans import remaining_replicates
from pipeline.study.training_sets import ReplicateImages


@dataclass(frozen=True)
class Reproduced:
    """One thing that was made again.

    Attributes:
        label: its name in words, with its file.
        on_disk, made_again: their SHA-256.
        difference: how they differ, "" if they do not.
        reason: why that may be, "" if they do not differ.
    """

    label: str
    on_disk: str
    made_again: str
    difference: str = ""
    reason: str = ""

    @property
    def is_exact(self) -> bool:
        """Whether it is the same to the bit."""
        return not self.difference


def reproduce_images(
    generator_files: Sequence[Path],
    synthetic_file: Path,
    *,
    images_per_class: int,
    device: torch.device,
) -> Reproduced:
    """The first images of each class, from the stored generators (a replicate's, in order) and the file's own seed.

    Raises:
        SynthGainError: if a file is missing or damaged, or does not say how it was made.
    """
    stored = LabeledImages.load(synthetic_file)
    members = [load_generator(file, device) for file in generator_files]
    names = ", ".join(map(str, generator_files))
    seed = stored.provenance.get("seed")
    if not isinstance(seed, int) or stored.provenance.get("kind") != "synthetic":
        raise SynthGainError(f"{synthetic_file}: does not say which seed made it; `dvc repro` makes it again")
    if any(class_names != stored.class_names for _, class_names, _ in members):
        raise SynthGainError(f"{synthetic_file}: has other classes than {names}; `dvc repro`")
    count = min(images_per_class, *stored.counts().tolist())
    classes = range(stored.num_classes)
    kept = np.concatenate([stored.images[stored.labels == label][:count] for label in classes])
    generators = [generator for generator, _, _ in members]

    def again() -> npt.NDArray[np.uint8]:
        with progress(f"images of {synthetic_file}", len(kept), "images") as advance:
            return _first_images(generators, stored, count, device, advance)

    made = again()
    label = f"{synthetic_file}: the first {count} images of each of {stored.num_classes} classes"
    digests = (_sha256(kept), _sha256(made))
    if digests[0] == digests[1]:
        return Reproduced(label, *digests)
    changed = np.abs(kept.astype(np.int16) - made).reshape(len(kept), -1).max(axis=1)
    difference = (
        f"{np.count_nonzero(changed)} of {len(kept)} images differ, by at most {changed.max()} grey levels"
    )
    made_from = stored.provenance.get("generators_sha256", [stored.provenance.get("generator_sha256")])
    if made_from != [file_sha256(file) for file in generator_files]:
        reason = f"made from another generator than {names} (generator_sha256); `dvc repro` makes it again"
    else:
        reason = _reason(repeats=np.array_equal(made, again()), device=device)
    return Reproduced(label, *digests, difference, reason)


def _first_images(
    generators: Sequence[Generator],
    stored: LabeledImages,
    count: int,
    device: torch.device,
    advance: Advance,
) -> npt.NDArray[np.uint8]:
    """The first `count` images of every class, (N, C, H, W): image i is by generator i modulo their number."""
    images = []
    for label in range(stored.num_classes):
        by_generator = [
            sample_images(
                generator,
                seed=stored.provenance["seed"],
                label=label,
                start=0,
                count=count,
                latent_std=float(stored.provenance.get("latent_std", 1.0)),
                device=device,
            )
            for generator in generators
        ]
        images.append(np.stack([by_generator[i % len(generators)][i] for i in range(count)]))
        advance(count)
    return np.concatenate(images)


def reproduce_cell(
    baselines_file: Path,
    train: LabeledImages,
    params: Params,
    *,
    budget: Budget,
    device: torch.device,
    dtype: torch.dtype,
) -> Reproduced:
    """The classifier of the arm `real`, first replicate, trained again from its first step to its last.

    Raises:
        SynthGainError: if the file is missing or damaged, or holds no such cell.
    """
    stored, _ = load_cells(baselines_file)
    for kept in stored:
        if (kept.facts["arm"], kept.facts["replicate"]) == ("real", 0):
            break
    else:
        raise SynthGainError(
            f"{baselines_file}: no cell of arm real, replicate 1; `dvc repro` makes it again"
        )

    classifier = params.classifier.of_budget(budget)
    (job,) = cell_jobs(
        [ARMS["real"]],
        [ReplicateImages(_real_subset(train, params, budget, 0))],
        synthetic_per_real=0,
        classifier=classifier,
        seed=params.seed,
    )
    training = CellTraining(classifier, params.augmentation, device, dtype, this_store())

    def again() -> Mapping[str, torch.Tensor]:
        """Trained, and not taken from the store."""
        set_switches(device, threads=1)  # as in the stage
        with progress(f"classifier of {budget} real images", classifier.steps, "steps") as advance:
            return train_cell(job, training, advance).state_dict()

    weights, facts = again(), job.facts
    label = f"{baselines_file}: the classifier of arm real, replicate 1, {classifier.steps} steps"
    differing = sorted(name for name in facts if facts[name] != kept.facts.get(name))
    if differing:
        reason = f"made with other parameters or data ({', '.join(differing)}); `dvc repro` makes it again"
        return Reproduced(
            label, tensors_sha256(kept.weights), tensors_sha256(weights), "its facts differ", reason
        )
    return _compare_weights(label, kept.weights, weights, again, device)


def reproduce_gan(
    generator_file: Path,
    train: LabeledImages,
    params: Params,
    *,
    budget: Budget,
    replicate: int,
    pseudo_labels: Path,
    device: torch.device,
    dtype: torch.dtype,
) -> Reproduced:
    """A replicate's first generator, trained again from first step to last: takes as long as the first time.

    Raises:
        SynthGainError: if the file is missing or damaged; of a GAN of the pool also as `with_pseudo_labels`.
    """
    stored, metadata = load_checkpoint(generator_file, kind=GENERATOR_KIND)
    with refused_if_edited(generator_file, kind=GENERATOR_KIND, remedy="train it again"):
        kept = dict(metadata["provenance"])
    subset = _real_subset(train, params, budget, replicate)
    if params.study.generators_train_on == "pool":
        subset = with_pseudo_labels(
            subset, train, size=params.study.pool, seed=params.seed, pseudo_labels=pseudo_labels
        )
    seed = derive_seed(params.seed, "gan", budget, replicate)
    # As the stage does: with all its generators side by side, each has a share of the threads.
    trainings = params.study.replicates * params.study.generators_per_replicate
    set_switches(device, threads=workers_for(params.execution, device, trainings=trainings).threads)

    def again() -> Mapping[str, torch.Tensor]:
        name = f"GAN of {budget} real images"
        with progress(name, total=images_shown(params.gan), unit="images") as advance:
            run = train_gan(
                subset,
                params.gan,
                seed=seed,
                device=device,
                dtype=dtype,
                facts=ImageFacts(params.augmentation.fill, params.augmentation.flips),
                label=name,
                advance=advance,
            )
        return run.generator.state_dict()

    weights = again()
    label = f"{generator_file}: the generator of replicate {replicate_number(replicate)}"
    made_with = {**subset.provenance, "gan_seed": seed}
    differing = sorted(name for name in made_with if kept.get(name) != made_with[name])
    if differing:
        reason = f"made with other parameters or data ({', '.join(differing)}); `dvc repro` makes it again"
        return Reproduced(
            label, tensors_sha256(stored), tensors_sha256(weights), "its provenance differs", reason
        )
    return _compare_weights(label, stored, weights, again, device)


def slices(
    params: Params,
    *,
    data: Path,
    images_per_class: int,
    cell: bool,
    gan: bool,
    device: torch.device,
    dtype: torch.dtype,
) -> Iterator[Reproduced]:
    """What is asked for, of every declared budget, one after another as they are done.

    Images of a generator of one's own are made by nothing of this project, and are left out.

    Raises:
        SynthGainError: if a file that the parameters declare is missing or damaged, or a GAN is asked for that there is
            not.
    """
    ours = params.generator.kind == "gan"
    if gan and not ours:
        raise SynthGainError(
            f"--gan: generator.kind is {params.generator.kind}, so there is no GAN to train again; leave --gan out"
        )
    for budget in params.study.real_images:
        generators = data / "gan" / str(budget)
        trained = data / "metrics/collapsed" / f"{budget}.json"
        replicates = remaining_replicates(trained, declared=params.study.replicates)
        for replicate in replicates if ours else ():
            yield reproduce_images(
                [
                    generator_path(generators / str(replicate), member)
                    for member in range(params.study.generators_per_replicate)
                ],
                data / "synthetic" / str(budget) / f"{replicate}.npz",
                images_per_class=images_per_class,
                device=device,
            )
        if cell or gan:
            train = LabeledImages.load(data / "prepared/train.npz")
        if cell:
            file = data / "classifier" / str(budget) / "baselines.safetensors"
            yield reproduce_cell(file, train, params, budget=budget, device=device, dtype=dtype)
        if gan:
            file = generator_path(generators / str(replicates[0]), 0)
            yield reproduce_gan(
                file,
                train,
                params,
                budget=budget,
                replicate=replicates[0],
                pseudo_labels=data / "pseudo_labels" / f"{budget}.npz",
                device=device,
                dtype=dtype,
            )


def machine(device: torch.device) -> str:
    """What the bytes of a result may depend on besides its inputs, in words."""
    where = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU ({cpu_capability()}), {torch.get_num_threads()} threads"
    )
    return f"torch {torch.__version__}, numpy {np.__version__}, {where}"


def _real_subset(train: LabeledImages, params: Params, budget: Budget, replicate: int) -> LabeledImages:
    return real_subset(
        train, budget=budget, replicate=replicate, seed=params.seed, imbalance=params.study.imbalance
    )


def _compare_weights(
    label: str,
    kept: Mapping[str, torch.Tensor],
    made: Mapping[str, torch.Tensor],
    again: Callable[[], Mapping[str, torch.Tensor]],
    device: torch.device,
) -> Reproduced:
    digests = (tensors_sha256(kept), tensors_sha256(made))
    if digests[0] == digests[1]:
        return Reproduced(label, *digests)
    if {name: tensor.shape for name, tensor in kept.items()} != {
        name: tensor.shape for name, tensor in made.items()
    }:
        reason = "made with other parameters; `dvc repro` makes it again"
        return Reproduced(label, *digests, "the networks are of other shapes", reason)
    most = max(float((kept[name].double() - made[name].cpu().double()).abs().max()) for name in kept)
    repeats = tensors_sha256(again()) == digests[1]
    return Reproduced(
        label, *digests, f"weights differ, by at most {most:.2g}", _reason(repeats=repeats, device=device)
    )


def _reason(*, repeats: bool, device: torch.device) -> str:
    if not repeats:
        return "this machine does not repeat itself: two times here gave different bytes" + (
            ", as a CUDA device does; see docs/reproducibility.md" if device.type == "cuda" else ""
        )
    return (
        f"this machine repeats itself ({machine(device)}), so the file is of another kind of CPU or GPU, number of"
        " threads (execution.threads), precision, version of torch, or code; docs/reproducibility.md says which matters"
    )


def _sha256(array: npt.NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
