"""Names that users give become keys that MLflow takes, each its own."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name, _validate_param_name

from pipeline.tracking.names import mlflow_key

FOREIGN = st.one_of(st.text(max_size=30), st.text("+=#_x2BF A", max_size=12))


@pytest.mark.parametrize(
    "name", ["0", "cat", "Ankle boot", "T-shirt", "straße", "手書き", "a_b", "v1.5", "x1F"]
)
def test_ordinary_names_stay_as_they_are(name):
    assert mlflow_key(name) == name


def test_other_signs_can_be_read_back():
    assert [mlflow_key(name) for name in ("C#", "C+", "bolt (M6)")] == [
        "C_x23_",
        "C_x2B_",
        "bolt _x28_M6_x29_",
    ]


@settings(max_examples=300)
@given(FOREIGN, FOREIGN)
def test_each_name_has_a_key_of_its_own(one, other):
    assert (mlflow_key(one) == mlflow_key(other)) == (one == other)
    read_back = re.sub(r"_x([0-9A-F]{2,6})_", lambda sign: chr(int(sign[1], 16)), mlflow_key(one))
    assert read_back == one


@given(st.text(max_size=400))
def test_mlflow_takes_every_key(name):
    _validate_metric_name(f"label_fidelity_class_{mlflow_key(name)}")
    _validate_param_name(f"study.imbalance.{mlflow_key(name)}")
    assert len(mlflow_key(name)) <= 200


def test_long_names_that_begin_alike_differ():
    assert mlflow_key("a" * 300) != mlflow_key("a" * 299 + "b")
