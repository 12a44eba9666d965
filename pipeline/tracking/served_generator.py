"""What MLflow loads when it serves a registered generator ("models from code"); nothing else imports this file.

It lies in the model beside the generator's weights and the few library files that sampling needs, so that a
process with torch, NumPy, SciPy and safetensors can generate without this project.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel


class RegisteredGenerator(PythonModel):
    """Rows of (label, count) and a seed → images (Σ count, H, W) uint8, or (Σ count, H, W, 3) in colour, row after row.

    Image i of a label is the same as `synthgain generate` makes with that seed, whatever the other rows are.
    """

    def load_context(self, context: Any) -> None:
        """Read the weights, on the CPU."""
        import torch

        from pipeline.gan.generators import load_generator

        self.device = torch.device("cpu")
        weights = Path(context.artifacts["generator"])
        self.generator, self.class_names, _ = load_generator(weights, self.device)

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> npt.NDArray[np.uint8]:
        """Generate.

        Raises:
            ValueError: for a label that the generator does not know, or a count below 1.
        """
        from pipeline.gan.sampling import sample_images

        seed = int((params or {}).get("seed", 0))
        if seed < 0:
            raise ValueError(f"seed: found {seed}; 0 or more is needed")
        rows = list(zip(model_input["label"].tolist(), model_input["count"].tolist(), strict=True))
        for label, count in rows:
            if not 0 <= label < len(self.class_names):
                raise ValueError(
                    f"label: found {label}; {len(self.class_names)} classes allow 0..{len(self.class_names) - 1}"
                )
            if count < 1:
                raise ValueError(f"count: found {count}; at least 1 is needed")
        images = [
            sample_images(
                self.generator, seed=seed, label=int(label), start=0, count=int(count), device=self.device
            )
            for label, count in rows
        ]
        joined = np.concatenate([np.empty((0, *self.generator.image_shape), np.uint8), *images])
        return joined[:, 0] if joined.shape[1] == 1 else joined.transpose(0, 2, 3, 1)


set_model(RegisteredGenerator())
