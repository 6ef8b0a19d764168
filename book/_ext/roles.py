"""Repair what the writer says of a bibliography to those who listen to it.

Sphinx calls the entries of a list of citations what they are, entries of a bibliography, but calls
what is around them a list, which may contain nothing but items.
"""

from typing import Any

from sphinx.application import Sphinx

WRONG, RIGHT = 'role="list" class="citation-list"', 'class="citation-list"'


def no_list(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Take the role off the lists of citations of a page."""
    if "body" in context:
        context["body"] = context["body"].replace(WRONG, RIGHT)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("html-page-context", no_list)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
