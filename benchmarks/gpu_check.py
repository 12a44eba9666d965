"""All that needs a GPU, part after part, as a table and as JSON: tests, speed, two minutes of training, the study.

Parts: `tests` (pytest -m gpu), `gan` (images/s of training, replayed and not), `classifiers` (one batch of networks
against one after another), `study` (the pipeline with params.yaml), `two-minutes` (how good a classifier the images of
a GAN are that trained for two minutes; needs the study's prepared data). The file is written after each part, and a
part that is run again replaces what it says there.

python benchmarks/gpu_check.py [--part tests --part gan ...] [--out build/gpu-check.json]
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import batched
import gan_training
import torch
from result import machine, show

from pipeline.classifier.network import predict
from pipeline.classifier.training import Recipe, train_classifier
from pipeline.gan.sampling import synthetic_images
from pipeline.gan.training import train_gan
from pipeline.images import LabeledImages
from pipeline.params import load_params
from pipeline.runtime.device import configure, training_dtype

ROOT = Path(__file__).parents[1]
STUDY = ROOT / "build/gpu"
SECONDS = 120


def card():
    """The GPU, its driver and CUDA, and the machine around it."""
    driver = subprocess.run(
        ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True, text=True
    ).stdout.strip()
    return {
        "card": torch.cuda.get_device_name(),
        "driver": driver,
        "cuda": torch.version.cuda,
        "machine": machine(),
    }


def run_tests():
    """The closing line of `pytest -m gpu`."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "gpu"], cwd=ROOT, capture_output=True, text=True
    )
    print(done.stdout[-6000:], done.stderr[-2000:], flush=True)
    return {"exit status": done.returncode, "closing line": done.stdout.strip().splitlines()[-1]}


def measured(results):
    """As a table on the terminal, and as plain values."""
    show(results)
    return [asdict(one) for one in results]


def run_study():
    """Minutes of the pipeline with params.yaml, in a workspace and with a store of their own, and its verdict."""
    empty = STUDY / "params.yaml.changes"
    STUDY.mkdir(parents=True, exist_ok=True)
    empty.write_text("{}\n")
    command = "from synthgain.app import main; main()"
    arguments = ["workspace", str(STUDY / "study"), "--params", str(empty), "--repro"]
    start, stages = time.perf_counter(), [("start", 0.0)]
    with subprocess.Popen(
        [sys.executable, "-c", command, *arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE
    ) as running:
        for line in running.stdout:
            print(line, end="", flush=True)
            if stage := re.match(r"Running stage '(.+)'", line):
                stages.append((stage[1], time.perf_counter() - start))
    stages.append(("end", time.perf_counter() - start))
    summary = STUDY / "study/data/metrics/summary.json"
    return {
        "exit status": running.returncode,
        "minutes": stages[-1][1] / 60,
        "seconds": {name: round(after - at) for (name, at), (_, after) in pairwise(stages)},
        "summary": json.loads(summary.read_text()) if summary.is_file() else None,
    }


def run_two_minutes():
    """Accuracy on the validation split of a classifier that saw nothing but images of such a GAN (CAS)."""
    prepared = STUDY / "study/data/prepared"
    train, validation = (LabeledImages.load(prepared / f"{name}.npz") for name in ("train", "validation"))
    params = load_params(ROOT / "params.yaml")
    device = configure(params.execution)
    dtype = training_dtype(params.execution, device)

    def trained(total_images):
        gan = params.gan.model_copy(update={"total_images": total_images, "augment_probability": 0.0})
        start = time.perf_counter()
        run = train_gan(
            train, gan, seed=0, device=device, dtype=dtype, label="GAN", advance=lambda units, note="": None
        )
        return run, time.perf_counter() - start

    short, long = 500_000, 1_000_000
    trained(short)  # warm-up: the libraries set themselves up
    first = trained(short)[1]
    rate = (long - short) / (trained(long)[1] - first)
    run, seconds = trained(int(rate * SECONDS))
    synthetic = synthetic_images(
        run.generator.to(device),
        class_names=train.class_names,
        images_per_class=5500,
        seed=0,
        provenance={},
        device=device,
        advance=lambda units: None,
    )
    classifier = params.classifier.of_budget("all").model_copy(update={"steps": 4000})
    accuracy = {}
    for name, images in (("synthetic", synthetic), ("real", train)):
        network = train_classifier(
            Recipe(images, 0), classifier, device=device, dtype=dtype, advance=lambda count: None
        )
        accuracy[name] = float((predict(network, validation.images, device) == validation.labels).mean())
    shown = run.history[-1]["images_seen"]
    return {"seconds": seconds, "images shown": shown, "accuracy on validation": accuracy}


PARTS = {
    "tests": run_tests,
    "gan": lambda: measured(gan_training.measure(steps=400)),
    "classifiers": lambda: measured(batched.measure()),
    "study": run_study,
    "two-minutes": run_two_minutes,
}


def main(parts, out):
    """Run the parts, write each one's findings at once."""
    if not torch.cuda.is_available():
        sys.exit("error: torch sees no CUDA device here")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    found = json.loads(out.read_text()) if out.is_file() else {}
    found |= card()
    out.parent.mkdir(parents=True, exist_ok=True)
    for part in parts:
        start = time.perf_counter()
        found[part] = PARTS[part]()
        out.write_text(json.dumps(found, indent=2) + "\n")
        print(f"{part}: {time.perf_counter() - start:.0f} s, {json.dumps(found[part])[:2000]}", flush=True)
    print(f"written: {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", action="append", choices=list(PARTS))
    parser.add_argument("--out", type=Path, default=ROOT / "build/gpu-check.json")
    arguments = parser.parse_args()
    main(arguments.part or list(PARTS), arguments.out)
