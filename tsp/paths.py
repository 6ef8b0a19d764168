"""Where the files that belong to the project lie, from a checkout or from an installed wheel."""

import os
from pathlib import Path

from tsp.errors import InputError

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent


def data_dir(name: str) -> Path:
    """Return a folder of the data: ``problems``, ``paper``; in a checkout also ``runs`` …"""
    checkout = ROOT / "data" / name
    return checkout if checkout.is_dir() else PACKAGE / "_data" / name


def cache_dir() -> Path:
    """Return the folder of converted models: ``$TSP_CACHE``, else ``tsp`` in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TSP_CACHE") or Path(base) / "tsp")


def writable_name(field: str, path: Path) -> Path:
    """Refuse a path that is not UTF-8, to which Parquet's library cannot write."""
    try:
        path.as_posix().encode()
    except UnicodeEncodeError:
        raise InputError(field, path, "give a path in UTF-8") from None
    return path
