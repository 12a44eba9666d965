"""Write docs/literature.md from the committed tables: `python docs/literature_page.py`."""

from pathlib import Path

from pipeline.literature.page import write_page

DOCS = Path(__file__).resolve().parent

if __name__ == "__main__":
    write_page(
        DOCS / "literature.md", results=DOCS / "studies/literature", pictures="studies/literature/pictures"
    )
