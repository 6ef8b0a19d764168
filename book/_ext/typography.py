"""Set running text: numbers as in print, formulas on one line with their punctuation."""

import re
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


def hold_together(app: Sphinx, document: nodes.document, page: str) -> None:
    """Keep each formula in a text on one line with the punctuation around it."""
    for formula in list(document.findall(nodes.math)):
        parent: Any = formula.parent
        place, around = parent.index(formula), ["", *parent, ""]
        before, after = around[place], around[place + 2]
        opening = re.search(r"[^\s\w]*$", before)[0] if isinstance(before, nodes.Text) else ""
        closing = re.match(r"[^\s\w]*", after)[0] if isinstance(after, nodes.Text) else ""
        held = [nodes.Text(opening), formula, nodes.Text(closing)]
        if opening:
            parent[place - 1] = nodes.Text(before.removesuffix(opening))
        if closing:
            parent[place + 1] = nodes.Text(after.removeprefix(closing))
        if opening or closing:
            parent[place] = nodes.inline("", "", *held, classes=["together"])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    for step in (set_numbers, hold_together):
        app.connect("doctree-resolved", step)  # glued values are there by then
    return {"parallel_read_safe": True, "parallel_write_safe": True}
