"""All options of a GAN training: those of `params.yaml`, and those that only the papers' systems have.

A user's `params.yaml` holds what a study may choose. What the field tried once and a study has no use for stands in the
overlays of `studies/literature` alone; `OF_A_STUDY` says what a study's GAN is in its place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.params import Count, Gan, NonNegative, Number

OF_A_STUDY: Mapping[str, Any] = MappingProxyType(
    {
        "latents": "normal",
        "noise_grid": False,
        "hidden_bias": True,
        "generator_dropout": 0.0,
        "discriminator_normalization": "none",
        "discriminator_noise": 0.0,
        "weight_clipping": 0.0,
        "fresh_fakes": False,
        "cycle_decay": 1.0,
        "cycles_from": "start",
        "plateau_points": 1,
    }
)


class PaperGan(Gan):
    """The options of a study's GAN and those of the papers' systems; none has a default.

    Attributes:
        conditioning: `none` as well: the networks see no labels.
        latents: `normal` is N(0, 1), `uniform` is −1..1.
        noise_grid: the latent is itself the grid that the generator grows, with `z_dim` values a cell and no dense
            layer before it.
        hidden_bias: of the generator: whether its dense or convolutional layers before the last have a bias.
        generator_dropout: after each hidden activation of the generator, in training only.
        discriminator_normalization: of the discriminator's hidden layers, before the activation; real and fake images
            then have a pass each.
        discriminator_noise: standard deviation of Gaussian noise on the flat features before the score.
        weight_clipping: the discriminator's weights are held within ± this after each update; 0: they are not.
        fresh_fakes: the generator's step draws fakes of its own, and does not use those of the discriminator's step.
        cycle_decay: schedule `cyclic`: the height of a cycle as a share of the one before.
        cycles_from: schedule `cyclic`: from the `start`, or once the generator's loss has come to a `plateau`.
        plateau_points: so many evaluation points without a new smallest loss are a plateau.
    """

    # Wider than a study's: it has no labels for its images then.
    conditioning: Literal["projection", "concatenate", "none"]  # type: ignore[assignment]
    latents: Literal["normal", "uniform"]
    noise_grid: bool
    hidden_bias: bool
    generator_dropout: Annotated[Number, Field(ge=0, lt=1)]
    discriminator_normalization: Literal["none", "batch"]
    discriminator_noise: NonNegative
    weight_clipping: NonNegative
    fresh_fakes: bool
    cycle_decay: Annotated[Number, Field(gt=0, le=1)]
    cycles_from: Literal["start", "plateau"]
    plateau_points: Count

    def bounds_the_slope(self) -> bool:
        """Weight clipping bounds it too."""
        return super().bounds_the_slope() or self.weight_clipping > 0

    def _options_fit(self) -> list[str]:
        problems = super()._options_fit()
        if self.noise_grid and (self.architecture == "mlp" or self.conditioning != "none"):
            problems.append(
                f"gan.noise_grid: found true with architecture {self.architecture} and conditioning"
                f" {self.conditioning}; a grid of noise needs convolutions, and has no place for a label: set it to"
                " false, or the conditioning to none"
            )
        if self.conditioning == "none" and self.collapse_patience_images:
            problems.append(
                f"gan.collapse_patience_images: found {self.collapse_patience_images} with conditioning none; a"
                " collapse is seen by labels as well: set it to 0"
            )
        if self.noise_grid and self.generator_channels != "auto" and self.z_dim != self.generator_channels[0]:
            problems.append(
                f"gan.z_dim: found {self.z_dim}; with gan.noise_grid it is the first of gan.generator_channels"
                f" ({self.generator_channels[0]})"
            )
        if self.schedule != "cyclic" and (self.cycle_decay != 1 or self.cycles_from != "start"):
            problems.append(
                f"gan.cycle_decay, gan.cycles_from: found {self.cycle_decay} and {self.cycles_from} with schedule"
                f" {self.schedule}; without cycles they are 1.0 and start"
            )
        if self.discriminator_normalization != "none" and self.penalty == "gradient_penalty":
            problems.append(
                "gan.discriminator_normalization: found batch with penalty gradient_penalty, which is of each image by"
                " itself, while batch norm mixes images: set one of them to none"
            )
        return problems


def all_options(gan: Gan) -> PaperGan:
    """A GAN's options with those that `params.yaml` has no keys for."""
    return gan if isinstance(gan, PaperGan) else PaperGan(**gan.model_dump(), **OF_A_STUDY)


def plateau_step(history: list[dict[str, float]], points: int) -> int | None:
    """The step at which a training's generator loss has had no new minimum for `points` rows; None if it never had."""
    smallest, since = math.inf, 0
    for row in history:
        smallest, since = (row["g_loss"], 0) if row["g_loss"] < smallest else (smallest, since + 1)
        if since >= points:
            return int(row["step"])
    return None
