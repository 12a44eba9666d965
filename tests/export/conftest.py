"""Small exports to read back, to check and to damage."""

import numpy as np
import pytest

from pipeline.export.dataset import export_dataset
from pipeline.export.samples import select_samples
from pipeline.export.source import open_images
from pipeline.images import LabeledImages

STUDY = {
    "budget": 1000,
    "recommended": False,
    "synthetic_per_real": 0,
    "verdict": "No gain was seen.",
    "note": "The study does not recommend adding these images. No gain was seen.",
}
METRICS = {
    "n": 300,
    "extractor_sha256": "e" * 64,
    "synthetic": {"fid": 0.5, "label_fidelity": 0.97},
    "floor": {"fid": 0.07, "label_fidelity": 0.99},
    "copycat": {"fid": 0.13, "label_fidelity": 0.98},
    "memorization": None,
}


def synthetic_images(
    counts=(9, 5, 7), size=8, seed=0, class_names=("cat|s", "T-shirt/top", "naïve"), channels=1, **made
):
    """Random images, class after class, as the generate stage writes them."""
    provenance = {
        "kind": "synthetic",
        "budget": 1000,
        "replicate": 0,
        "seed": 42,
        "generator_sha256": "a" * 64,
        "real_subset_sha256": "b" * 64,
    }
    labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, size=(len(labels), channels, size, size), dtype=np.uint8)
    return LabeledImages(images, labels, tuple(class_names[: len(counts)]), provenance | made)


def samples_of(images, path, **selection):
    """The samples of images that are saved at `path` first."""
    images.save(path)
    return select_samples(open_images(path), **selection)


def tree(folder):
    """Every file below a folder and its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture
def export(tmp_path):
    """A function that exports images (or samples) and gives the folder."""

    def write(images=None, *, out="out", formats=("idx", "png", "parquet"), source="mnist", **options):
        if images is None or isinstance(images, LabeledImages):
            selection = {
                name: options.pop(name)
                for name in ("max_per_class", "latent_hashes", "real")
                if name in options
            }
            images = samples_of(images or synthetic_images(), tmp_path / "source.npz", **selection)
        folder = tmp_path / out
        facts = {"study": STUDY, "metrics": METRICS, **options}
        export_dataset(images, folder, formats=formats, source=source, **facts)
        return folder

    return write
