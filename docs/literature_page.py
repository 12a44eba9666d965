"""Write docs/literature.md from the committed tables: `python docs/literature_page.py [RESULTS]`.

With a results folder of `synthgain literature`, its tables and the pictures that the page shows are copied here first.
"""

import shutil
import sys
from pathlib import Path

from pipeline.literature.page import write_page
from pipeline.literature.run import LOSSES, PICTURES, ROWS, draw_learning_rates

DOCS = Path(__file__).resolve().parent
TABLES = DOCS / "studies/literature"


def take(results: Path) -> None:
    """Copy the tables of a results folder, and the pictures that a page made from them would show."""
    shutil.rmtree(TABLES / PICTURES, ignore_errors=True)
    shutil.copytree(results / PICTURES, TABLES / PICTURES)
    for name in (ROWS, LOSSES):
        shutil.copyfile(results / name, TABLES / name)
    draw_learning_rates(TABLES)
    write()
    page = (DOCS / "literature.md").read_text(encoding="utf-8")
    for picture in (TABLES / PICTURES).iterdir():
        if f"/{picture.name})" not in page:
            picture.unlink()


def write() -> None:
    """The page, from what lies here."""
    write_page(DOCS / "literature.md", results=TABLES, pictures=f"studies/literature/{PICTURES}")


if __name__ == "__main__":
    for folder in sys.argv[1:]:
        take(Path(folder))
    write()
