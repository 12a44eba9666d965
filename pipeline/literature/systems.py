"""Which systems are compared, and what their own papers report.

A published figure stands beside ours and is never compared with it: the papers' systems see no labels, they state
neither their extractor nor n nor a floor, and their budgets are others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.maintenance.workspace import PROJECT

OVERLAYS = PROJECT / "studies" / "literature"
LEARNING_RATES = "learning_rates"


@dataclass(frozen=True)
class Published:
    """Figures of a paper.

    Attributes:
        figures: by the names of the table's columns; shares are in 0..1. FID and Inception Score have columns of
            their own, for their extractor is not ours.
        protocol: how they were measured, as far as the source says.
    """

    figures: Mapping[str, float]
    protocol: str


@dataclass(frozen=True)
class System:
    """One row of the comparison.

    Attributes:
        name: of its overlay `studies/literature/<name>.yaml`.
        title: for the reader.
        published: the paper's own figures, where it has some.
    """

    name: str
    title: str
    published: Published | None = field(default=None)

    @property
    def overlay(self) -> Path:
        """What differs from params.yaml."""
        return OVERLAYS / f"{self.name}.yaml"


_TABLE = "digits-GAN paper: 50 epochs, batch 128; extractor, n and floor not stated"

SYSTEMS = (
    System("compact", "compact (this project)"),
    System(
        "mlp",
        "MLP GAN",
        Published(
            {"recognised_of_100": 0.95},
            "MLP-GAN report: 200 epochs, 100 samples without labels, judged by eye",
        ),
    ),
    System(
        "mlp_minimal",
        "minimal MLP GAN",
        Published(
            {"parzen_nats": 240.0, "parzen_standard_error": 2.5},
            "its report: Parzen windows, samples and width not stated",
        ),
    ),
    System("dcgan", "DCGAN"),
    System("dcgan_nearest", "DCGAN, upsampling + convolution"),
    System(
        "table_vanilla",
        "table: vanilla GAN",
        Published({"published_fid": 22.1, "published_inception_score": 6.5}, _TABLE),
    ),
    System("table_conditional", "table: conditional GAN"),
    System(
        "table_dcgan",
        "table: DCGAN",
        Published({"published_fid": 15.8, "published_inception_score": 7.1}, _TABLE),
    ),
    System(
        "table_wgan_gp",
        "table: Wasserstein GAN",
        Published({"published_fid": 13.2, "published_inception_score": 7.8}, _TABLE),
    ),
    System(
        "table_proposed",
        "table: proposed",
        Published({"published_fid": 11.4, "published_inception_score": 8.5}, _TABLE),
    ),
)

# Of systems that are not reproduced here.
ELSEWHERE = (
    System(
        "dpgan_revisit",
        "conditional DCGAN, dpgan-revisit",
        Published(
            {"cas_test": 0.971},
            "about 96 epochs, 60 000 synthetic images, their CNN, one seed (Inception FID 3.4 against test)",
        ),
    ),
    System(
        "goodfellow_2014",
        "GAN, Goodfellow et al. 2014",
        Published(
            {"parzen_nats": 225.0, "parzen_standard_error": 2.0}, "the 2014 protocol, images without labels"
        ),
    ),
)

# The learning-rate study: |D − G| = |0.78 − 0.84| = 0.06 at epoch 50.
PUBLISHED_BALANCE = {"epoch": 50, "d_loss": 0.78, "g_loss": 0.84, "gap": 0.06}
