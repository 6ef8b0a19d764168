"""Bring executed notebooks up to date and build the site from them with Jupyter Book."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tsp.book.notebooks import (
    EXECUTED,
    NOTEBOOKS,
    SOURCES,
    BookError,
    execute_notebooks,
    executed_path,
    hash_files,
    sync_pairs,
)
from tsp.errors import InputError
from tsp.paths import ROOT
from tsp.store.runs import Store

__all__ = ["BookError", "build", "sync_pairs"]
BUILD = ROOT / "_build"


def build(*, runs: Path, force: bool = False) -> Path:
    """Execute the notebooks that are out of date, or all, and make the site; return its first page.

    Raises
    ------
    InputError
        If this is not a checkout or the store is empty.
    BookError
        If a notebook failed, or Sphinx warned, for example of a link that leads nowhere.
    """
    if not NOTEBOOKS.is_dir():
        raise InputError("book", NOTEBOOKS, "run this in a clone of the repository")
    if not Store(runs).ids():
        raise InputError("runs", runs, "give a folder with runs in it; `tsp sweep` makes one")
    sources = sorted(NOTEBOOKS.glob(SOURCES))
    folder = runs.resolve()
    where = folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder
    given = {"runs": str(where)}
    for copy in set(EXECUTED.glob("*.ipynb")) - {executed_path(s) for s in sources}:
        copy.unlink()  # of a notebook that no longer exists
        shutil.rmtree(EXECUTED / "data" / copy.stem, ignore_errors=True)
    execute_notebooks(sources, parameters=given, force=force)
    execute_notebooks(sources, parameters=given)  # if one trained a run, the others have to see it
    return _build_site()


def _build_site() -> Path:
    """Run Jupyter Book with warnings as errors, and return the site's first page."""
    stamp = BUILD / ".site"
    assets = hash_files(_assets()).hex()
    if not stamp.exists() or stamp.read_text() != assets:
        for folder in ("html", ".doctrees"):
            shutil.rmtree(BUILD / folder, ignore_errors=True)
    stamp.unlink(missing_ok=True)  # a failed build starts afresh, or its warnings would be gone
    call = "from jupyter_book.cli.main import main; main()"
    options = ["-W", "--keep-going", "-n", "-q"]
    command = [sys.executable, "-c", call, "build", str(ROOT), *options]
    finished = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if finished.returncode:
        lines = (finished.stdout + finished.stderr).splitlines()
        warnings = [line for line in lines if "WARNING" in line or "ERROR" in line]
        raise BookError("\n".join(["the site has warnings:", *(warnings or lines[-20:])]))
    stamp.write_text(assets)
    return BUILD / "html" / "index.html"


def _assets() -> Iterator[Path]:
    """Yield the files that Sphinx does not watch."""
    yield from (ROOT / "_config.yml", ROOT / "_toc.yml")
    for folder in ("_static", "_ext"):
        files = (ROOT / "book" / folder).rglob("*")
        yield from sorted(f for f in files if f.is_file() and "__pycache__" not in f.parts)
