"""Generation into a file against the generator's bare forward pass, in the same run and the same threads.

python benchmarks/generation.py [--images 20000] [--threads 1]
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from pipeline.gan.generation import generate_file
from pipeline.gan.sampling import BLOCK
from pipeline.gan.state import new_state
from pipeline.images import LabeledImages
from pipeline.params import load_params

_TURNS = 4


@torch.no_grad()
def main(count: int, threads: int) -> None:
    """Print both rates and their ratio."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    gan = load_params(Path(__file__).parents[1] / "params.yaml").gan
    no_images = LabeledImages(np.zeros((0, 1, 28, 28), np.uint8), np.zeros(0, np.int64), tuple("0123456789"))
    generator = new_state(no_images, gan, seed=0, device=torch.device("cpu")).generator.eval()
    z, labels = torch.randn(BLOCK, gan.z_dim), torch.zeros(BLOCK, dtype=torch.int64)
    for _ in range(3):
        generator(z, labels)

    bare = ours = bare_cpu = ours_cpu = 0.0
    with tempfile.TemporaryDirectory() as folder:
        # In turns: a neighbour's load then weighs on both. CPU time does not feel it at all.
        for turn in range(_TURNS):
            start, start_cpu = time.perf_counter(), time.process_time()
            for _ in range(count // _TURNS // BLOCK):
                generator(z, labels)
            middle, middle_cpu = time.perf_counter(), time.process_time()
            generate_file(
                generator,
                Path(folder) / "images.npz",
                class_names=tuple("0123456789"),
                counts=[count // _TURNS // 10] * 10,
                seed=turn,
                provenance={},
                device=torch.device("cpu"),
            )
            end, end_cpu = time.perf_counter(), time.process_time()
            bare, ours = bare + middle - start, ours + end - middle
            bare_cpu, ours_cpu = bare_cpu + middle_cpu - start_cpu, ours_cpu + end_cpu - middle_cpu
    print(f"bare forward: {count / bare:,.0f} images/s; generation into a file: {count / ours:,.0f} images/s")
    print(f"ratio: {bare / ours:.0%} of the bare rate (wanted: 80 %); by CPU time: {bare_cpu / ours_cpu:.0%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    main(options.images, options.threads)
