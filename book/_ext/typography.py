"""Set the numbers of running text: true minus signs, powers of ten, a space before %."""

from typing import Any

from docutils import nodes
from sphinx.addnodes import desc_signature
from sphinx.application import Sphinx

from tsp.analysis.tables import typeset

KEPT = (nodes.FixedTextElement, nodes.literal, nodes.math, nodes.math_block, desc_signature)


def set_numbers(app: Sphinx, document: nodes.document, page: str) -> None:
    """Set each text of a page that is neither code nor mathematics."""
    for text in list(document.findall(nodes.Text)):
        parent: Any = text.parent
        while parent is not None and not isinstance(parent, KEPT):
            parent = parent.parent
        if parent is None and (shown := typeset(text.astext())) != text.astext():
            text.parent.replace(text, nodes.Text(shown))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("doctree-resolved", set_numbers)  # glued values are there by then
    return {"parallel_read_safe": True, "parallel_write_safe": True}
