"""FID, KID and precision/recall/density/coverage of n against n images, against the same written straight down.

The reference holds whole distance and kernel matrices, in NumPy and SciPy, as the papers' own code does.

python benchmarks/metrics.py [--images 10000]
"""

import argparse
import time

import numpy as np
import scipy.linalg
from result import Result, show
from scipy.spatial.distance import cdist

from pipeline.generative_metrics.features import Extractor, statistics_from_features
from pipeline.generative_metrics.fid import fid, fid_floor
from pipeline.generative_metrics.kid import kernel_distance
from pipeline.generative_metrics.precision_recall import manifold_metrics

FEATURES, NEIGHBORS = 64, 5


def ours(real, synthetic):
    """All seven values by the project's code."""
    extractor = Extractor("domain", "0" * 64)
    statistics = [statistics_from_features(one, extractor=extractor) for one in (real, synthetic)]
    floor = fid_floor(real=statistics[0], other_real=statistics[0])
    manifold = manifold_metrics(real=real, synthetic=synthetic, neighbors=NEIGHBORS)
    return {
        "fid": fid(synthetic=statistics[1], floor=floor).value,
        "kid": kernel_distance(real=real, synthetic=synthetic),
        "precision": manifold.precision,
        "recall": manifold.recall,
        "density": manifold.density,
        "coverage": manifold.coverage,
    }


def reference(real, synthetic):
    """The same, whole matrices at once."""
    real, synthetic = real.astype(np.float64), synthetic.astype(np.float64)
    n = len(real)
    covariances = [np.cov(one, rowvar=False) for one in (real, synthetic)]
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    gap = real.mean(0) - synthetic.mean(0)
    distance = gap @ gap + np.trace(covariances[0] + covariances[1] - 2 * root)

    def kernel(left, right):
        return (left @ right.T / FEATURES + 1) ** 3

    within = [
        (kernel(one, one).sum() - np.trace(kernel(one, one))) / (n * (n - 1)) for one in (real, synthetic)
    ]
    kid = within[0] + within[1] - 2 * kernel(real, synthetic).mean()

    radii = [np.partition(cdist(one, one), NEIGHBORS, axis=1)[:, NEIGHBORS] for one in (real, synthetic)]
    between = cdist(real, synthetic)
    return {
        "fid": distance,
        "kid": kid,
        "precision": (between < radii[0][:, None]).any(0).mean(),
        "recall": (between < radii[1]).any(1).mean(),
        "density": (between < radii[0][:, None]).sum(0).mean() / NEIGHBORS,
        "coverage": (between.min(1) < radii[0]).mean(),
    }


def measure(images=10_000):
    """Time both on the same features, and refuse if they disagree."""
    rng = np.random.default_rng(0)
    real = rng.gamma(0.5, size=(images, FEATURES)).astype(np.float32)
    synthetic = rng.gamma(0.55, size=(images, FEATURES)).astype(np.float32)
    seconds, values = {}, {}
    for name, work in (("ours", ours), ("reference", reference)):
        start = time.perf_counter()
        values[name] = work(real, synthetic)
        seconds[name] = time.perf_counter() - start
    for key, value in values["reference"].items():
        if not np.isclose(values["ours"][key], value, rtol=1e-3, atol=1e-6):
            raise SystemExit(f"{key}: ours {values['ours'][key]}, reference {value}")
    return [
        Result(
            what=f"FID, KID, PRDC of {images} against {images} images",
            ours=seconds["ours"],
            reference=seconds["reference"],
            unit="s",
            ratio=seconds["reference"] / seconds["ours"],
            wanted="10 s at 10 000",
            against="whole matrices in NumPy and SciPy",
        )
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    show(measure(parser.parse_args().images))
