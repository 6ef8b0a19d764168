"""Where the files that belong to the project lie, from a checkout or from an installed wheel."""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent


def data_dir(name: str) -> Path:
    """Folder ``name`` of the data: ``problems``, ``paper``; in a checkout also ``measurements``."""
    checkout = ROOT / "data" / name
    return checkout if checkout.is_dir() else PACKAGE / "_data" / name


def cache_dir() -> Path:
    """Where converted models are kept, and what was read of stores: ``TSP_CACHE``, else ``tsp``.

    The latter in the user's cache folder.
    """
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TSP_CACHE") or Path(base) / "tsp")
