"""The folders of the PNG tree: names that every file system takes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.export.png import class_folders


@pytest.mark.parametrize(
    ("class_names", "folders"),
    [
        (["0", "1"], ["0", "1"]),
        (["T-shirt/top", "Ankle boot"], ["T-shirt_top", "Ankle boot"]),
        (["か", "ы"], ["か", "ы"]),
        (["..", ".hidden", ""], ["class_0", "hidden", "class_2"]),
        (["a", "A"], ["a_0", "A_1"]),
        (["a/b", "a:b", "a_b"], ["a_b_0", "a_b_1", "a_b_2"]),
        (["con", "nul.txt", "console"], ["con_0", "nul.txt_1", "console"]),
        (["con", "con_0"], ["con_0_0", "con_0"]),
    ],
)
def test_class_names_become_safe_folders(class_names, folders):
    assert class_folders(class_names) == folders


@settings(deadline=None)
@given(st.lists(st.text(max_size=80), max_size=8))
def test_any_class_names_become_distinct_safe_folders(class_names):
    folders = class_folders(class_names)
    assert len({name.casefold() for name in folders}) == len(class_names)
    for name in folders:
        assert name and name == name.strip(". ") and len(name.encode()) <= 255
        assert not set(name) & set('/\\:*?"<>|\0\n\r\t')
