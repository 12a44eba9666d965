"""What is promised to the bit is made again to the bit; a difference is named with its reason."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sklearn.datasets import load_digits
from typer.testing import CliRunner

from pipeline.checkpoints import file_sha256, load_checkpoint, save_checkpoint
from pipeline.classifier.replicates import train_cells
from pipeline.classifier.saved_cells import save_cells
from pipeline.errors import SynthGainError
from pipeline.gan.generators import save_generator
from pipeline.gan.networks import Generator, GeneratorDesign
from pipeline.gan.sampling import sample_images, synthetic_images
from pipeline.gan.training import train_gan
from pipeline.held_out import write_held_out_keys
from pipeline.images import LabeledImages
from pipeline.maintenance.reproduce import reproduce_cell, reproduce_gan, reproduce_images, slices
from pipeline.params import dump_params, parse_params
from pipeline.runtime.device import configure
from pipeline.runtime.seeds import derive_seed
from pipeline.study.arms import ARMS
from pipeline.study.subsets import real_subset
from pipeline.study.trained_gans import Collapse, TrainedGans, save_trained_gans
from pipeline.study.training_sets import ReplicateImages
from synthgain.app import app

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")
TINY = {
    "data": {"source": "digits", "image_size": 8, "validation_images": 100},
    "study": {"real_images": [60], "replicates": 1, "synthetic_per_real": [1.0]},
    "gan": {
        "z_dim": 8,
        "generator_channels": [8, 4],
        "discriminator_channels": [4, 8, 8],
        "total_images": 320,
        "batch_size": 32,
        "history_points": 2,
        "film_strip_frames": 2,
    },
    "generation": {"images_per_class": 12},
    "classifier": {"channels": 4, "feature_dim": 16, "steps": 12, "batch_size": 16},
    "execution": {"device": "cpu", "precision": "float32", "threads": 1},
}


@pytest.fixture(scope="module")
def params():
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section, changes in TINY.items():
        values[section] |= changes
    return parse_params(values, where="tiny")


@pytest.fixture(scope="module")
def train():
    data = load_digits()
    return LabeledImages(
        (data.images[:, None] * 15.9).astype(np.uint8), data.target.astype(np.int64), tuple("0123456789")
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory, params, train):
    """The files of a study as its stages write them."""
    configure(params.execution)
    folder = tmp_path_factory.mktemp("study")
    data = folder / "data"
    (folder / "params.yaml").write_text(dump_params(params))
    train.save(data / "prepared/train.npz")
    subset = real_subset(train, budget=60, replicate=0, seed=params.seed)
    seed = derive_seed(params.seed, "gan", 60, 0)
    run = train_gan(
        subset, params.gan, seed=seed, device=CPU, label="test", advance=lambda units, note="": None
    )
    generator = data / "gan/60/0/generator.safetensors"
    provenance = {**subset.provenance, "gan_seed": seed}
    save_generator(generator, run.generator, class_names=train.class_names, provenance=provenance)
    synthetic_images(
        run.generator,
        class_names=train.class_names,
        images_per_class=12,
        seed=derive_seed(params.seed, "generate", 60, 0),
        provenance={"generator_sha256": file_sha256(generator)},
        device=CPU,
        advance=lambda units, note="": None,
    ).save(data / "synthetic/60/0.npz")
    cells, arguments = train_cells(
        [ARMS["real"]],
        [ReplicateImages(subset)],
        count=1,
        synthetic_per_real=0,
        classifier=params.classifier.of_budget(60),
        augmentation=params.augmentation,
        seed=params.seed,
        execution=params.execution,
        label="test",
    )
    save_cells(data / "classifier/60/baselines.safetensors", cells, arguments=arguments)
    return folder


def again(study, params, train):
    """Each of the three slices."""
    configure(params.execution)
    data = study / "data"
    generator, synthetic = data / "gan/60/0/generator.safetensors", data / "synthetic/60/0.npz"
    common = {"budget": 60, "device": CPU, "dtype": torch.float32}
    return (
        reproduce_images([generator], synthetic, images_per_class=5, device=CPU),
        reproduce_cell(data / "classifier/60/baselines.safetensors", train, params, **common),
        reproduce_gan(generator, train, params, replicate=0, pseudo_labels=Path("none"), **common),
    )


def test_the_same_machine_makes_the_same_bytes(study, params, train):
    for done in again(study, params, train):
        assert done.is_exact, done
        assert re.fullmatch("[0-9a-f]{64}", done.on_disk) and done.on_disk == done.made_again


def test_a_replicate_that_is_left_out_is_not_made_again(params, tmp_path):
    three = params.model_copy(update={"study": params.study.model_copy(update={"replicates": 3})})
    gans = TrainedGans(3, (Collapse(1, 1, "it diverged"),))
    save_trained_gans(tmp_path / "metrics/collapsed/60.json", gans)
    options = {"images_per_class": 2, "cell": False, "gan": False, "device": CPU, "dtype": torch.float32}
    with pytest.raises(SynthGainError, match=r"synthetic/60/1\.npz: no such file"):  # that of replicate 2
        next(slices(three, data=tmp_path, **options))


@pytest.mark.parametrize(
    "options",
    [
        {"study": {"imbalance": {"3": 0.5}}},
        {"generation": {"latent_std": 0.8}},
        {"study": {"generators_per_replicate": 2}},
    ],
)
def test_the_options_of_a_study_are_part_of_what_is_made_again(params, train, tmp_path, monkeypatch, options):
    """By the real stages: what they write, the check makes again."""
    values = params.model_dump()
    for section, changes in options.items():
        values[section] |= changes
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    monkeypatch.chdir(tmp_path)
    train.save(tmp_path / "data/prepared/train.npz")
    nothing = train.subset(np.array([], dtype=np.int64))
    write_held_out_keys(
        tmp_path / "data/prepared/held_out_keys.npz", {"validation": nothing, "test": nothing}
    )
    stages = {
        "train-gan": [
            "--train",
            "data/prepared/train.npz",
            "--labels",
            "data/pseudo_labels",
            "--history",
            "history",
            "--collapsed",
            "data/metrics/collapsed",
            "--out",
            "data/gan",
        ],
        "generate": [
            *("--gan", "data/gan", "--collapsed", "data/metrics/collapsed"),
            *("--held-out", "data/prepared/held_out_keys.npz", "--out", "data/synthetic"),
        ],
        "train-baselines": [
            *("--train", "data/prepared/train.npz"),
            *("--out", "data/classifier"),
        ],
    }
    for stage, arguments in stages.items():
        done = CliRunner().invoke(app, ["stage", stage, "--budget", "60", *arguments])
        assert done.exit_code == 0, done.output
    done = CliRunner().invoke(app, ["reproduce-check", "--classifier", "--gan"])
    assert done.exit_code == 0, done.output


def test_a_file_of_another_machine_differs_and_the_reason_says_so(study, params, train, tmp_path):
    """One grey level, and one last bit of a weight, as another kernel would round them."""
    data = study / "data"
    images = LabeledImages.load(data / "synthetic/60/0.npz")
    images.images[3, 0, 4, 4] ^= 1
    images.save(tmp_path / "0.npz")
    generator = data / "gan/60/0/generator.safetensors"
    done = reproduce_images([generator], tmp_path / "0.npz", images_per_class=12, device=CPU)
    assert done.difference == "1 of 120 images differ, by at most 1 grey levels"
    assert "this machine repeats itself" in done.reason and "execution.threads" in done.reason

    for kind, make, path in (
        ("generator", partial(reproduce_gan, replicate=0, pseudo_labels=Path("none")), generator),
        ("classifier_cells", reproduce_cell, data / "classifier/60/baselines.safetensors"),
    ):
        tensors, metadata = load_checkpoint(path, kind=kind)
        name = next(name for name, tensor in tensors.items() if tensor.dtype == torch.float32)
        tensors[name].view(-1)[0] += 1e-6
        save_checkpoint(tmp_path / path.name, tensors, metadata)
        done = make(tmp_path / path.name, train, params, budget=60, device=CPU, dtype=torch.float32)
        assert done.difference.startswith("weights differ, by at most") and "repeats itself" in done.reason


def test_images_of_another_generator_are_told_from_those_of_another_machine(study, tmp_path):
    data = study / "data"
    tensors, metadata = load_checkpoint(data / "gan/60/0/generator.safetensors", kind="generator")
    for tensor in tensors.values():
        tensor += 0.01
    save_checkpoint(tmp_path / "generator.safetensors", tensors, metadata)
    done = reproduce_images(
        [tmp_path / "generator.safetensors"], data / "synthetic/60/0.npz", images_per_class=2, device=CPU
    )
    assert "made from another generator" in done.reason


def test_other_parameters_are_told_from_another_machine(study, params, train):
    other = params.model_copy(update={"seed": 8})
    _, cell, gan = again(study, other, train)
    assert "other parameters or data (real_subset_sha256)" in cell.reason
    assert "other parameters or data (gan_seed, real_subset_sha256)" in gan.reason


def test_the_command_says_bit_exact_or_not(study, monkeypatch, tmp_path):
    monkeypatch.chdir(study)
    done = CliRunner().invoke(app, ["reproduce-check", "--classifier", "--gan"])
    assert done.exit_code == 0, done.output
    assert [line.split()[0] for line in done.output.splitlines()[1:]] == ["bit-exact"] * 3
    assert "1 threads" in done.output.splitlines()[0]
    kept = (study / "data/synthetic/60/0.npz").read_bytes()
    images = LabeledImages.load(study / "data/synthetic/60/0.npz")
    images.images[:] ^= 1
    images.save(study / "data/synthetic/60/0.npz")
    try:
        done = CliRunner().invoke(app, ["reproduce-check"])
    finally:
        (study / "data/synthetic/60/0.npz").write_bytes(kept)
    assert done.exit_code == 1
    assert "differs" in done.output and "120 of 120 images differ" in done.output


def test_generated_images_do_not_depend_on_the_number_of_threads():
    """A promise of docs/reproducibility.md: each output of a forward pass is summed by one thread."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())["gan"]
    torch.manual_seed(0)
    generator = Generator(
        GeneratorDesign(
            architecture=values["architecture"],
            z_dim=values["z_dim"],
            class_embedding_dim=values["class_embedding_dim"],
            channels=[128, 64],
            strides=[2, 2],
            upsampling=values["upsampling"],
            normalization=values["normalization"],
            conditioning=values["conditioning"],
            leak=values["generator_leak"],
            noise=values["generator_noise"],
            num_classes=10,
            image_size=28,
        )
    )
    generator = generator.to(memory_format=torch.channels_last).eval()
    before = torch.get_num_threads()
    made = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            made.append(sample_images(generator, seed=7, label=3, start=0, count=250, device=CPU))
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(made[0], made[1]) and np.array_equal(made[0], made[2])
