"""Open a page elsewhere: its source, or its notebook as committed, not the executed copy."""

from pathlib import PurePosixPath
from string import Formatter
from typing import Any

from sphinx.application import Sphinx


def addresses(page: str, repository: str, patterns: dict[str, str]) -> dict[str, str]:
    """Return where a page opens, by the name of the place.

    A pattern holds ``{repository}`` ("owner/name"), ``{notebook}`` or ``{source}``. A place is left
    out where it needs a repository and none is set, or a notebook and the page has none.
    """
    values = {"repository": repository, "source": f"{page}.md"}
    if "_executed" in PurePosixPath(page).parts:
        notebook = f"notebooks/{PurePosixPath(page).name}"
        values |= {"source": f"{notebook}.py", "notebook": f"{notebook}.ipynb"}
    known = {name for name, value in values.items() if value}
    return {
        name: pattern.format(**values)
        for name, pattern in patterns.items()
        if known.issuperset(field for _, field, *_ in Formatter().parse(pattern) if field)
    }


def add_buttons(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Add a menu of the places to the header of a page; the search and the index have none."""
    if page not in app.env.found_docs:
        return
    url = app.config.html_theme_options.get("repository_url") or ""
    repository = "/".join(url.rstrip("/").split("/")[-2:])
    buttons = [
        {"type": "link", "text": name, "url": url, "tooltip": f"Open in {name}"}
        for name, url in addresses(page, repository, app.config.launch_patterns).items()
    ]
    if buttons and "header_buttons" in context:
        menu = {"type": "group", "label": "launch-buttons", "icon": "fas fa-rocket"}
        context["header_buttons"].append(menu | {"buttons": buttons, "tooltip": "Open elsewhere"})


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_config_value("launch_patterns", {}, "html")
    app.connect("html-page-context", add_buttons, priority=600)  # after the theme's own
    return {"parallel_read_safe": True, "parallel_write_safe": True}
