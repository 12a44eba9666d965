"""The README's figures are those of the committed results."""

import importlib.util
import json
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def module():
    spec = importlib.util.spec_from_file_location("readme_tables", ROOT / "docs/readme_tables.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_the_tables_are_those_of_the_committed_results():
    for table in module().tables():
        assert "\n".join(table) in README, "python docs/readme_tables.py prints what README.md should say"


def test_the_verdict_is_that_of_the_committed_results():
    verdict = json.loads((ROOT / "data/metrics/comparison.json").read_text())["verdict"]
    assert verdict in README
