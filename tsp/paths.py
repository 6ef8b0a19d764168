"""Where the files that belong to the project lie, from a checkout or from an installed wheel."""

import os
from pathlib import Path

from tsp.errors import InputError

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


def writable_name(field: str, path: Path) -> Path:
    """Refuse a path that Parquet's library cannot write to before anything is computed for it.

    Raises
    ------
    InputError
        If it holds NUL or bytes that are not UTF-8.
    """
    try:
        path.as_posix().encode()
    except UnicodeEncodeError:
        raise InputError(field, path, "give a path in UTF-8") from None
    if "\0" in path.as_posix():
        raise InputError(field, path, "give a path without NUL")
    return path
