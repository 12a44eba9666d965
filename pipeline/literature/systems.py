"""The papers' systems: a common base, and for each what its paper states and what it leaves open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import SynthGainError
from pipeline.gan.options import PaperGan
from pipeline.maintenance.workspace import PROJECT
from pipeline.params import parse_section, read_yaml

OVERLAYS = PROJECT / "studies" / "literature"
BASE = OVERLAYS / "base.yaml"
# In the order of the papers.
NAMES = (
    "minimal",
    "mlp",
    "vanilla",
    "dcgan",
    "wgan",
    "proposed",
    "learning_rates",
    "balance",
    "noisy_dcgan",
)
_FEWEST_POINTS = 10


@dataclass(frozen=True)
class System:
    """One GAN of a paper.

    Attributes:
        name: of its overlay, followed by `/` and the rate where the overlay has several.
        title: for the reader.
        paper: its number, 0 to 4.
        epochs: the training length of its paper, or ours where the paper states none.
        values: its section `gan`, without what follows from a training's length.
        ours: key → (value, why), where the paper leaves it open.
    """

    name: str
    title: str
    paper: int
    epochs: int
    values: Mapping[str, Any]
    ours: Mapping[str, tuple[Any, str]]

    @property
    def group(self) -> str:
        """The name of its overlay, which is what the command is asked for."""
        return self.name.partition("/")[0]

    def gan(self, total_images: int, train_images: int) -> PaperGan:
        """Its options at a training length: a row of history and a frame of the film for each epoch, and ten at least.

        Raises:
            SynthGainError: if the overlay and its base make no valid section.
        """
        points = max(_FEWEST_POINTS, round(total_images / train_images))
        length = {"total_images": total_images, "history_points": points, "film_strip_frames": points + 1}
        where = f"{BASE} + {self.group}.yaml"
        return parse_section(PaperGan, {**self.values, **length}, where=where, name="gan")


def systems() -> list[System]:
    """All of them, in the order of the papers.

    Raises:
        SynthGainError: if an overlay is missing or damaged, or lacks what it needs.
    """
    base = read_yaml(BASE)
    return [system for name in NAMES for system in _systems_of(name, base)]


def _systems_of(name: str, base: Mapping[str, Any]) -> list[System]:
    """The system of an overlay; one for each of its `rates`, where it has some."""
    file = OVERLAYS / f"{name}.yaml"
    overlay = read_yaml(file)
    try:
        states = dict(overlay["states"])
        ours = {key: (entry["value"], entry["why"]) for key, entry in overlay["ours"].items()}
        open_in_base = {key: (entry["value"], entry["why"]) for key, entry in base["ours"].items()}
        title, paper = str(overlay["title"]), int(overlay["paper"])
    except (KeyError, TypeError) as error:
        raise SynthGainError(
            f"{file}: {error} is missing or no section; title, paper, states and ours are"
        ) from None
    chosen = {**states, **{key: value for key, (value, _) in ours.items()}}
    epochs = chosen["epochs"]
    values = {**base["gan"], **{key: value for key, value in chosen.items() if key in PaperGan.model_fields}}
    left_open = {key: entry for key, entry in open_in_base.items() if key not in chosen} | ours
    made = []
    for rate in overlay.get("rates", [None]):
        both = (
            {}
            if rate is None
            else {f"{player}_learning_rate": rate for player in ("generator", "discriminator")}
        )
        made.append(
            System(
                name=name if rate is None else f"{name}/{rate:.4f}",
                title=title if rate is None else f"{title} {rate:.4f}",
                paper=paper,
                epochs=epochs,
                values={**values, **both},
                ours={key: entry for key, entry in left_open.items() if key not in both},
            )
        )
    return made
