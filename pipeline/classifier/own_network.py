"""A classifier of one's own: a network of torchvision, or what a factory in the user's code makes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from pipeline.errors import SynthGainError
from pipeline.params import Classifier
from pipeline.runtime.code import path_sha256

OF_REMEDIES = ("logit_adjustment", "reweighted_tail")  # for the arms with such a remedy alone
_TORCHVISION = "torchvision:"


class OwnNetwork(nn.Module):
    """Images (N, image_channels, image_size, image_size) float32 in 0..1 → logits (N, num_classes).

    A network of torchvision takes three channels: grey images are given to it three times over. A factory is called
    with `num_classes`, `channels` and `image_size`. No weights are fetched: those of torchvision start at random, and a
    factory may load a file of its own.

    Args:
        network: as in `classifier.network`, but for compact.
        code: the file or folder that holds the factory; unused by torchvision.
        num_classes, image_size, image_channels: of the images.
        code_sha256: of the code, where it must be the one of a checkpoint.

    Raises:
        SynthGainError: if there is no such network, or it cannot be made for such images, or the code is another.
    """

    def __init__(
        self,
        *,
        network: str,
        code: str,
        num_classes: int,
        image_size: int,
        image_channels: int,
        code_sha256: str | None = None,
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "network": network,
            "code": "" if network.startswith(_TORCHVISION) else code,
            "num_classes": num_classes,
            "image_size": image_size,
            "image_channels": image_channels,
            "code_sha256": code_hash(network, code),
        }
        if code_sha256 not in (None, self.arguments["code_sha256"]):
            raise SynthGainError(f"classifier.code: {code} has changed since; `dvc repro` trains with it")
        self.repeats = 3 if network.startswith(_TORCHVISION) and image_channels == 1 else 1
        with _one_line(network), _nothing_fetched(network):
            if network.startswith(_TORCHVISION):
                self.network = _of_torchvision(network.removeprefix(_TORCHVISION), num_classes)
            else:
                made = _factory(network, Path(code))(
                    num_classes=num_classes, channels=image_channels, image_size=image_size
                )
                if not isinstance(made, nn.Module):
                    raise TypeError(f"it made a {type(made).__name__}, and a torch.nn.Module is needed")
                self.network = made
        if not any(weights.requires_grad for weights in self.parameters()):
            raise SynthGainError(f"classifier.network: {network} has no weights that could be trained")

    def forward(self, images: Tensor) -> Tensor:
        wanted = (len(images), self.arguments["num_classes"])
        with _one_line(self.arguments["network"]):
            logits = self.network(images.repeat(1, self.repeats, 1, 1) if self.repeats > 1 else images)
            if not isinstance(logits, Tensor) or logits.shape != wanted:
                found = tuple(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
                raise TypeError(f"it gives {found} for {tuple(images.shape)}, and logits {wanted} are needed")
        return logits


def code_hash(network: str, code: str) -> str:
    """The hash of the code that a network is made by; empty for those of torchvision.

    Raises:
        SynthGainError: if it is not there.
    """
    return "" if network.startswith(_TORCHVISION) else path_sha256(Path(code), key="classifier.code")


def try_network(network: str, code: str, *, num_classes: int, image_size: int, image_channels: int) -> None:
    """Make a network of one's own and show it two black images: its faults are found before hours of training.

    Raises:
        SynthGainError: as `OwnNetwork`, or if it does not take such images.
    """
    made = OwnNetwork(
        network=network,
        code=code,
        num_classes=num_classes,
        image_size=image_size,
        image_channels=image_channels,
    )
    made(torch.zeros(2, image_channels, image_size, image_size))


def recipe_of(classifier: Classifier) -> dict[str, Any]:
    """The values that every classifier's weights depend on, for its key in the store."""
    if classifier.network == "compact":
        return classifier.model_dump(exclude={"network", "code", *OF_REMEDIES})
    return classifier.model_dump(exclude={"channels", "feature_dim", "code", *OF_REMEDIES}) | {
        "code": code_hash(classifier.network, classifier.code),
        "torchvision": version("torchvision"),
    }


def _of_torchvision(name: str, num_classes: int) -> nn.Module:
    from torchvision import models

    if name not in models.list_models(module=models):
        import difflib

        near = difflib.get_close_matches(name, models.list_models(module=models), n=3)
        hint = f"; perhaps {' or '.join(near)}" if near else ""
        raise SynthGainError(
            f"classifier.network: torchvision has no classifier {name}{hint} (torchvision.models.list_models)"
        )
    network: nn.Module = models.get_model(name, weights=None, num_classes=num_classes)
    return network


def _factory(network: str, code: Path) -> Callable[..., Any]:
    """`package.module:factory` of the code; no module from elsewhere, whose edits nothing would see."""
    module_name, _, name = network.partition(":")
    root = str(code.absolute().parent)
    if root not in sys.path:
        sys.path.insert(0, root)
    module = importlib.import_module(module_name)
    file, inside = Path(module.__file__ or "").resolve(), code.resolve()
    if file != inside and inside not in file.parents:
        raise SynthGainError(
            f"classifier.network: module {module_name} is {file}, which is not in classifier.code ({code}); name the"
            " file or folder of the module there"
        )
    factory: Callable[..., Any] = getattr(module, name)
    return factory


@contextmanager
def _one_line(network: str) -> Iterator[None]:
    """Whatever somebody else's code raises is one line."""
    try:
        yield
    except SynthGainError:
        raise
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise SynthGainError(f"classifier.network: {network}: {type(error).__name__}: {reason}") from error


@contextmanager
def _nothing_fetched(network: str) -> Iterator[None]:
    """While a network is made, torch's own way to fetch weights is closed; files that are here are read."""

    def refuse(url: str, *_: Any, **__: Any) -> NoReturn:
        raise SynthGainError(
            f"classifier.network: {network} would fetch {url}; put the file beside your code and load it from there"
        )

    before = torch.hub.download_url_to_file
    torch.hub.download_url_to_file = refuse
    try:
        yield
    finally:
        torch.hub.download_url_to_file = before
