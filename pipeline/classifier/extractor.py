"""The classifier whose features the generative metrics compare: trained once, then found in the store."""

from __future__ import annotations

import torch

from pipeline.checkpoints import load_checkpoint, save_checkpoint
from pipeline.classifier.network import ConvNet, conv_net_from
from pipeline.classifier.training import Recipe, train_classifier
from pipeline.images import LabeledImages, images_sha256
from pipeline.params import Execution, Training
from pipeline.runtime.device import configure, training_dtype
from pipeline.runtime.progress import progress
from pipeline.runtime.store import find_result, keep_result, result_key, stored_result, this_store

_KIND, _FILE = "extractor_network", "network.safetensors"


def find_or_train_extractor(
    train: LabeledImages, settings: Training, *, seed: int, execution: Execution
) -> ConvNet:
    """The network, on the device, in evaluation mode.

    Args:
        train: the real train split.
        settings: section `extractor` of the parameters.
        seed: of weights and batch order.
        execution: where and in what to compute.

    Raises:
        SynthGainError: if the training diverges.
    """
    device = configure(execution)
    dtype, store = training_dtype(execution, device), this_store()
    key = result_key(
        "extractor",
        train_classifier,
        recipe={"extractor": settings.model_dump(), "seed": seed},
        data=images_sha256(train),
        device=device,
        dtype=dtype,
    )
    is_new = find_result(store, key) is None
    if is_new:
        with progress("extractor", settings.steps, "steps") as advance:
            network = train_classifier(
                Recipe(train, seed), settings, device=device, dtype=dtype, advance=advance
            )
        with keep_result(store, key) as folder:
            facts = {"kind": _KIND, "arguments": dict(network.arguments)}
            save_checkpoint(folder / _FILE, network.state_dict(), facts)
    print(f"extractor: {int(is_new)} trained, {int(not is_new)} found finished", flush=True)
    weights, metadata = load_checkpoint(stored_result(store, key) / _FILE, kind=_KIND)
    # As a training leaves it: the order of summation, and so the last bit of a feature, depends on the layout.
    return conv_net_from(metadata["arguments"], weights, device).to(memory_format=torch.channels_last)
