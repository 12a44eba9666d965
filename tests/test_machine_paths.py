"""What is shared carries no path of the machine that made it."""

import pytest
import yaml

from pipeline.machine_paths import without_machine_paths, yaml_without_machine_paths


@pytest.mark.parametrize(
    "path", ["/home/anna/own", "~/own", "C:\\own", "d:/own", "\\\\nas\\own", "file:///own"]
)
def test_an_absolute_path_is_not_shared_wherever_it_stands(path):
    values = {
        "data": {"folder": path, "mirrors": ["https://mirror.example/a", path]},
        "deps": [{"path": path}],
    }
    assert path not in str(without_machine_paths(values)).replace("\\\\", "\\")
    assert path not in yaml_without_machine_paths(yaml.safe_dump(values, width=20))
    assert without_machine_paths(values)["data"]["mirrors"][0] == "https://mirror.example/a"


def test_what_has_no_such_path_is_shared_as_it_stands():
    text = "# comment\ndata:\n  folder: data/own  # ours\n  image_size: 28\n  x: [1.0, true, null, ../own]\n"
    assert yaml_without_machine_paths(text) == text
