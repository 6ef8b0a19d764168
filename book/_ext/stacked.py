"""Name the cells of stacked tables: a narrow screen shows them one below the other."""

from docutils import nodes
from sphinx.application import Sphinx


def name_cells(app: Sphinx, document: nodes.document, page: str) -> None:
    """Begin each cell but a row's first with its column's heading, which the style sheet hides."""
    for table in document.findall(nodes.table):
        head = next(table.findall(nodes.thead), None)
        if "stacked" not in table["classes"] or head is None:
            continue
        names = [entry.astext() for entry in head.findall(nodes.entry)]
        for row in next(table.findall(nodes.tbody)).findall(nodes.row):
            for name, entry in list(zip(names, row.findall(nodes.entry), strict=True))[1:]:
                paragraph = next(entry.findall(nodes.paragraph), None)
                if paragraph is not None:
                    text = f"{name.removesuffix('…').strip()}: "
                    paragraph.insert(0, nodes.inline("", text, classes=["heading"]))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("doctree-resolved", name_cells)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
