"""Open a chapter elsewhere: the committed notebook, not the copy that was executed for the site."""

from pathlib import PurePosixPath
from typing import Any

from sphinx.application import Sphinx


def addresses(page: str, repository: str, patterns: dict[str, str]) -> dict[str, str]:
    """Return where a page's notebook opens, by the name of the place.

    A pattern holds ``{notebook}`` and, for a place on the web, ``{repository}``, "owner/name";
    without a repository those places are left out. Pages that are no notebooks have no address.
    """
    if "_executed" not in PurePosixPath(page).parts:
        return {}
    values = {"notebook": f"notebooks/{PurePosixPath(page).name}.ipynb", "repository": repository}
    return {
        name: pattern.format(**values)
        for name, pattern in patterns.items()
        if repository or "{repository}" not in pattern
    }


def add_buttons(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Add a menu of the places to the header of a page."""
    url = app.config.html_theme_options.get("repository_url") or ""
    repository = "/".join(url.rstrip("/").split("/")[-2:])
    buttons = [
        {"type": "link", "text": name, "url": url, "tooltip": f"Open in {name}"}
        for name, url in addresses(page, repository, app.config.launch_patterns).items()
    ]
    if buttons and "header_buttons" in context:
        menu = {"type": "group", "label": "launch-buttons", "icon": "fas fa-rocket"}
        context["header_buttons"].append(menu | {"buttons": buttons, "tooltip": "Open and run"})


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_config_value("launch_patterns", {}, "html")
    app.connect("html-page-context", add_buttons, priority=600)  # after the theme's own
    return {"parallel_read_safe": True, "parallel_write_safe": True}
