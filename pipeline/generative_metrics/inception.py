"""Features of the original FID network, Inception v3 as converted from TensorFlow by torch-fidelity.

They make values comparable with published ones, as far as photographs' features say anything about small grey
images. The weights (91 MB) come from the network on first use; a GPU is advisable: an image costs 5.7 billion
multiplications.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from pipeline.checkpoints import file_sha256
from pipeline.errors import SynthGainError
from pipeline.generative_metrics.budget import INCEPTION_FEATURES
from pipeline.generative_metrics.features import Extractor

FEATURE_DIM = INCEPTION_FEATURES
_BATCH = 50

InceptionFeatures = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]


def load_inception(device: torch.device) -> tuple[InceptionFeatures, Extractor]:
    """The features before the last layer, as a function, and the network's identity.

    The function takes (N, 1 or 3, H, W) uint8 and gives (N, 2048) float32. Grey images are repeated to three
    channels; the network enlarges them to 299 pixels as TensorFlow 1 did, without antialiasing.

    Raises:
        SynthGainError: if torch-fidelity is not installed, or the weights are neither cached nor available.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import (
            URL_INCEPTION_V3,
            FeatureExtractorInceptionV3,
        )
    except ImportError:
        raise SynthGainError(
            "evaluation.features: found inception, but torch-fidelity is not installed;"
            " pip install 'synthgain[inception]', or set evaluation.features: domain"
        ) from None
    weights = Path(torch.hub.get_dir()) / "checkpoints" / URL_INCEPTION_V3.rpartition("/")[2]
    hash_prefix = weights.stem.rpartition("-")[2]  # the first digits of the published file's SHA-256
    try:
        if not weights.is_file():
            weights.parent.mkdir(parents=True, exist_ok=True)
            # The hash is checked, and the file appears whole or not at all.
            torch.hub.download_url_to_file(
                URL_INCEPTION_V3, str(weights), hash_prefix=hash_prefix, progress=sys.stderr.isatty()
            )
        sha256 = file_sha256(weights)
        # Before it is loaded: torch-fidelity unpickles the file, which runs whatever is in it.
        if not sha256.startswith(hash_prefix):
            raise OSError(f"the file there has the hash {sha256[:8]}…; remove it")
    except (OSError, RuntimeError) as error:  # no network (URLError is an OSError), or a wrong hash
        raise SynthGainError(
            f"evaluation.features: found inception, whose weights could not be had ({error});"
            f" fetch {URL_INCEPTION_V3} to {weights}, or set evaluation.features: domain"
        ) from None
    network = FeatureExtractorInceptionV3(
        "inception", [str(FEATURE_DIM)], feature_extractor_weights_path=str(weights)
    )
    network = network.to(device).eval()

    @torch.no_grad()
    def features(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        batches = []
        for start in range(0, len(images), _BATCH):
            batch = torch.from_numpy(images[start : start + _BATCH]).to(device)
            batches.append(network(batch.expand(-1, 3, -1, -1))[0].cpu())
        result: npt.NDArray[np.float32] = torch.cat(batches).numpy()
        return result

    return features, Extractor("inception", sha256)
