"""Bring executed notebooks up to date and build the site from them with Jupyter Book."""

import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from tsp.book.notebooks import (
    EXECUTED,
    NOTEBOOKS,
    SOURCES,
    BookError,
    Parameters,
    check_known,
    check_pairs,
    execute_notebook,
    execute_notebooks,
    executed_path,
    hash_files,
    parameter_names,
    read_notebook,
    sync_pairs,
)
from tsp.errors import InputError
from tsp.paths import ROOT
from tsp.store.runs import Store

__all__ = ["BookError", "build", "check_pairs", "execute_notebook", "sync_pairs"]


def build(
    *,
    runs: Path,
    out: Path = ROOT / "_build",
    notebooks: Iterable[str] | None = None,
    parameters: Parameters | None = None,
    force: bool = False,
) -> Path:
    """Execute the notebooks that are out of date against a run store, and make the site.

    Parameters
    ----------
    runs
        The run store that the notebooks read.
    out
        Folder called ``_build``; the site goes to its folder ``html``.
    notebooks
        Names or numbers of the notebooks to bring up to date; by default all. Others are only
        executed if they never have been.
    parameters
        Values by name, besides ``runs``; each notebook gets those that it has.
    force
        Execute all of them.

    Returns
    -------
    Path
        The site's first page.

    Raises
    ------
    InputError
        If this is not a checkout, a notebook or parameter does not exist, the store is empty, or
        ``out`` has another name.
    BookError
        If a notebook failed, or Sphinx warned, for example of a link that leads nowhere.
    """
    if not NOTEBOOKS.is_dir():
        raise InputError("book", NOTEBOOKS, "run this in a clone of the repository")
    if out.name != "_build":
        raise InputError("out", out, "give a folder called _build")
    if not Store(runs).ids():
        raise InputError("runs", runs, "give a folder with runs in it; `tsp sweep` makes one")
    sources = sorted(NOTEBOOKS.glob(SOURCES))
    chosen = sources if notebooks is None else [_named(name, sources) for name in notebooks]
    todo = [s for s in sources if s in chosen or not executed_path(s).exists()]
    folder = runs.resolve()
    where = folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder
    given = {"runs": str(where), **(parameters or {})}
    names = {name for s in sources for name in parameter_names(read_notebook(s))}
    check_known("a notebook", parameters or {}, known=sorted(names))
    for copy in set(EXECUTED.glob("*.ipynb")) - {executed_path(s) for s in sources}:
        copy.unlink()  # of a notebook that no longer exists
        shutil.rmtree(EXECUTED / "data" / copy.stem, ignore_errors=True)
    execute_notebooks(todo, parameters=given, force=force)
    execute_notebooks(todo, parameters=given)  # if one trained a run, the others have to see it
    return _build_site(out)


def _named(name: str, sources: list[Path]) -> Path:
    """Return a text notebook by its name or number."""
    for source in sources:
        if name in (source.stem, source.stem[:2]):
            return source
    known = ", ".join(source.stem for source in sources)
    raise InputError("notebook", name, f"give one of {known}")


def _build_site(out: Path) -> Path:
    """Run Jupyter Book with warnings as errors, and return the site's first page."""
    stamp = out / ".site"
    assets = hash_files(_assets()).hex()
    if not stamp.exists() or stamp.read_text() != assets:
        for folder in ("html", ".doctrees"):
            shutil.rmtree(out / folder, ignore_errors=True)
    stamp.unlink(missing_ok=True)  # a failed build starts afresh, or its warnings would be gone
    call = "from jupyter_book.cli.main import main; main()"
    options = ["-W", "--keep-going", "-n", "-q", "--path-output", str(out.resolve().parent)]
    command = [sys.executable, "-c", call, "build", str(ROOT), *options]
    finished = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if finished.returncode:
        lines = (finished.stdout + finished.stderr).splitlines()
        warnings = [line for line in lines if "WARNING" in line or "ERROR" in line]
        raise BookError("\n".join(["the site has warnings:", *(warnings or lines[-20:])]))
    stamp.write_text(assets)
    return out / "html" / "index.html"


def _assets() -> Iterator[Path]:
    """Yield the files that Sphinx does not watch."""
    yield from (ROOT / "_config.yml", ROOT / "_toc.yml")
    for folder in ("_static", "_ext"):
        files = (ROOT / "book" / folder).rglob("*")
        yield from sorted(f for f in files if f.is_file() and "__pycache__" not in f.parts)
