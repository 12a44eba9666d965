"""The YAML header by which the Hugging Face hub files a card, and by which `datasets` finds the images beside it.

Source: https://huggingface.co/docs/hub/datasets-cards and /model-cards; the licence identifiers are those of
/repositories-licenses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

# By the address of the licence's text (`licences.py`); a licence that nobody confirmed is unknown there.
_LICENCES = {
    "https://creativecommons.org/licenses/by-sa/3.0/": "cc-by-sa-3.0",
    "https://creativecommons.org/licenses/by-sa/4.0/": "cc-by-sa-4.0",
    "https://github.com/zalandoresearch/fashion-mnist/blob/master/LICENSE": "mit",
}
# What the hub's viewer reads; IDX and NPZ it cannot show.
_FILES = {
    "parquet": "train*.parquet",
    "arrow": "train*.arrow",
    "webdataset": "train*.tar",
    "png": "*/*.png",
}
_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B")


def dataset_header(manifest: Mapping[str, Any]) -> str:
    """The header of a data card, from its manifest."""
    made = manifest["provenance"].get("generator")
    header: dict[str, Any] = {
        "license": licence_id(manifest["source"]) if made is None else "other",
        "task_categories": ["image-classification"],
        "size_categories": [size_category(manifest["images"])],
        "tags": ["synthetic", "synthgain", *(["gan"] if made is None else [])],
        "pretty_name": f"Synthetic images learned from {manifest['source']['name']}",
    }
    if path := _FILES.get(manifest["format"]):
        header["configs"] = [{"config_name": "default", "data_files": [{"split": "train", "path": path}]}]
    else:
        header["viewer"] = False
    return as_header(header)


def model_header(*, name: str, source: str, licence: str, metrics: Mapping[str, Any] | None) -> str:
    """The header of a generator's card.

    Args:
        name: of the model.
        source: the real data set, in words.
        licence: the hub's identifier of its licence.
        metrics: what `read_quality` gives.
    """
    header: dict[str, Any] = {
        "license": licence,
        "tags": ["synthetic", "synthgain", "gan", "image-generation", "class-conditional"],
    }
    if metrics:
        n, found = metrics["n"], metrics["synthetic"]
        words = {
            "fid": f"FID in the features of a network of its own data, n = {n}: not the FID of other papers",
            "label_fidelity": "Share of images that a classifier gives their label",
        }
        values = [
            {"type": key, "name": text, "value": found[key]} for key, text in words.items() if key in found
        ]
        task = {"type": "class-conditional-image-generation", "name": "Image generation by class"}
        data_set = {"type": "image-classification", "name": source}
        header["model-index"] = [
            {"name": name, "results": [{"task": task, "dataset": data_set, "metrics": values}]}
        ]
    return as_header(header)


def as_header(values: Mapping[str, Any]) -> str:
    """Values as the YAML between two lines `---` that begins a card."""
    return f"---\n{yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=10_000)}---\n"


def licence_id(source: Mapping[str, Any]) -> str:
    """The hub's identifier of a real data set's licence; `unknown` where the licence is not confirmed."""
    return _LICENCES.get(source["licence_url"], "unknown")


def size_category(images: int) -> str:
    """The hub's name for so many images: `1K<n<10K`."""
    return _SIZES[min(max(0, len(str(images)) - 3), len(_SIZES) - 1)]
