"""Inception Score: is each image clearly of one class, and are all classes equally frequent?

The formula is the paper's; the classifier here is the one of the data set at hand ("MNIST score"): ImageNet's
classes say nothing about digits. It sees neither variety within a class nor the requested labels (that is
label fidelity), and one perfect image per class would score the maximum: read it beside recall and coverage.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import SynthGainError


def inception_score(probabilities: npt.NDArray[Any]) -> float:
    """exp(mean KL(p(y|x) ‖ p(y))), p(y) being the mean of p(y|x). Salimans et al. 2016, arXiv:1606.03498.

    Over all images at once. The paper takes the mean over ten parts of 5000; parts of fewer images give a lower
    p(y) entropy by chance, so compare values of the same n only.

    Args:
        probabilities: (N, C) class probabilities of each image; rows sum to 1.

    Returns:
        1 (every image looks alike to the classifier) … C (every image certain, all classes equally frequent).

    Raises:
        SynthGainError: if the rows are no probabilities.
    """
    if probabilities.ndim != 2 or 0 in probabilities.shape:
        raise SynthGainError(f"class probabilities: found shape {probabilities.shape}; (N, C) is needed")
    p = probabilities.astype(np.float64)
    # NaN fails every comparison, so the comparisons ask for what is right.
    if not (p.min() >= 0 and np.abs(p.sum(axis=1) - 1).max() < 1e-3):
        raise SynthGainError("class probabilities: found rows that are no probabilities; softmax is needed")
    p /= p.sum(axis=1, keepdims=True)  # float32 rows sum to 1 within 1e-7 only
    marginal = p.mean(axis=0)
    # Where p is 0 its term is 0, the limit of p log p; there the ratio is 1 for the logarithm's sake.
    ratio = np.divide(p, marginal, out=np.ones_like(p), where=p > 0)
    return float(np.exp((p * np.log(ratio)).sum(axis=1).mean()))
