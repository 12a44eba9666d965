"""Text in Markdown."""

from __future__ import annotations

import re

# HTML, links, emphasis, code, table cells, lists and headings. Underscores within a word are no emphasis, so `a_b`
# stays readable in the source.
_SIGNS = re.compile(r"[&<>|*`~@\[\]\\]|(?<![^\W_])_|_(?![^\W_])|(?<=:)/(?=/)|(?<=www)\.|^[-+#=]")


def as_markdown(text: str) -> str:
    """Markdown that shows this text and does nothing else: signs that Markdown or HTML might take are references."""
    return _SIGNS.sub(lambda sign: f"&#{ord(sign[0])};", text)
