"""Every benchmark that takes minutes at most, as one table and as JSON.

python benchmarks/all.py [--out build/bench.json]
"""

import argparse
from pathlib import Path

import batched
import classifier
import gan_training
import metrics
import parallel
import startup
import torch
from result import save, show


def main(out):
    """Run one after another, print one table, write one file."""
    results = [*startup.measure(), *gan_training.measure(), *metrics.measure(), *parallel.measure()]
    if (Path(__file__).parents[1] / "data/prepared/train.npz").is_file():
        results += classifier.measure()
    else:
        print("left out: the classifier on full MNIST, which needs data/prepared (dvc repro prepare)")
    if torch.cuda.is_available():
        results += batched.measure()
    else:
        print("left out: batches of networks, which need a CUDA device")
    show(results)
    save(results, out)
    print(f"written: {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"))
    main(parser.parse_args().out)
