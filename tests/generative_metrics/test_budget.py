"""How many images of each class every set of a budget has."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SynthGainError
from pipeline.generative_metrics.budget import class_counts


@given(
    st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=12),
    st.integers(1, 1000),
)
def test_class_counts_keep_shares_and_bounds(classes, images):
    shares, offered = (np.array(column, dtype=np.int64) for column in zip(*classes, strict=True))
    counts = class_counts(shares=shares, offered=offered, images=images)
    assert (counts <= offered).all() and (counts >= 0).all() and counts.sum() <= images
    n = min(images, int((offered * shares.sum() // shares).min()))
    assert np.abs(counts - shares * n / shares.sum()).max() <= 1
    if (offered >= shares).all() and images <= shares.sum():
        assert counts.sum() == images


def test_a_class_without_images_is_refused():
    with pytest.raises(SynthGainError, match="class 1 has no image"):
        class_counts(shares=np.array([5, 5]), offered=np.array([5, 0]), images=10)
