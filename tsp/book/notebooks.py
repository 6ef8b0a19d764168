"""Notebooks: text, pair, executed copy.

The source of a notebook is its text form, ``notebooks/NN_topic.py``. The ``.ipynb`` beside it is
derived (`sync_pairs`). papermill makes its executed copy in ``book/_executed``
(`execute_notebook`), again only when something that it depends on has changed.
"""

import ast
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cache
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import yaml
from nbformat import NotebookNode
from tqdm import tqdm

from tsp.atomic import replace_file
from tsp.paths import PACKAGE, ROOT
from tsp.store.runs import Store
from tsp.training.model_cards import DEFAULT

NOTEBOOKS = ROOT / "notebooks"
EXECUTED = ROOT / "book" / "_executed"
SOURCES = "[0-9][0-9]_*.py"
WORKERS = 2
"""Notebooks executed at a time; most of a notebook's time is imports, on one core."""
METADATA = {
    "jupytext": {"formats": "ipynb,py:percent"},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}

ON_COLAB = """\
# Colab opens this notebook alone: fetch the rest of the repository, and install it.
import os, subprocess, sys

if "google.colab" in sys.modules:
    book = os.path.expanduser("~/tsp-book")
    if not os.path.isdir(book):
        clone = ["git", "clone", "--quiet", "--depth", "1"]
        subprocess.run([*clone, "{repository}", book], check=True)
    os.chdir(book)
    sys.path.insert(0, book)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "-c", "constraints.txt"]
    subprocess.run([*pip, "-e", ".[book]"], check=True)
    subprocess.run([sys.executable, "-m", "tsp", "model", "install", "{model}"], check=True)
"""

Parameters = Mapping[str, Any]


class BookError(RuntimeError):
    """A notebook or the site failed; the message names the place."""


def execute_notebooks(
    sources: Iterable[Path], *, parameters: Parameters, force: bool = False
) -> list[Path]:
    """Execute the text notebooks that are out of date, or all; return the new executed copies.

    Each notebook receives only the parameters that it declares. A failing notebook does not stop
    the others; at the end `BookError` lists all failures, one per line.
    """
    jobs = []
    for source in sources:
        names = parameter_names(read_notebook(source))
        given = {name: value for name, value in parameters.items() if name in names}
        if force or not is_current(source, parameters=given):
            jobs.append((source, given))
    with ThreadPoolExecutor(WORKERS) as pool:
        # Backwards: the longest is among the last, and must not be alone at the end.
        futures = [
            pool.submit(execute_notebook, source, parameters=given)
            for source, given in reversed(jobs)
        ][::-1]
        list(tqdm(as_completed(futures), "notebooks", total=len(jobs), disable=not jobs or None))
    failures = [str(e) for f in futures if isinstance(e := f.exception(), BookError)]
    if failures:
        raise BookError("\n".join(failures))
    return [future.result() for future in futures]


def execute_notebook(path: Path, *, parameters: Parameters) -> Path:
    """Execute one text notebook with papermill, in the repository's root; return its copy.

    The copy is written to `EXECUTED` if the whole notebook succeeds, otherwise a
    `BookError` names notebook and cell. Its metadata hold the `fingerprint` of its inputs.
    """
    notebook = read_notebook(path)
    inputs = fingerprint(path, parameters=parameters)  # before: a later change must be noticed
    executed = _run_papermill(path, notebook, parameters)
    for cell in executed.cells:
        for key in ("papermill", "execution"):  # when and how long, different every time
            cell.metadata.pop(key, None)
        tags = cell.metadata.get("tags", [])
        if {"parameters", "injected-parameters"} & set(tags):
            cell.metadata["tags"] = [*tags, "remove-cell"]
        if "injected-parameters" in tags:
            cell.id = "injected-parameters"  # papermill draws one
    executed.metadata.pop("papermill", None)
    executed.metadata["tsp"] = {"fingerprint": inputs}
    _offer_data(executed, path.stem)
    copy = executed_path(path)
    replace_file(copy, nbformat.writes(executed) + "\n")
    return copy


def executed_path(source: Path) -> Path:
    """Return the place of the executed copy of a text notebook."""
    return EXECUTED / f"{source.stem}.ipynb"


def fingerprint(source: Path, *, parameters: Parameters) -> str:
    """Hash everything that an executed notebook depends on.

    That is its source, this package with all sub-packages, the benchmarks, the paper's tables, the
    problems, the measurements of speed, its parameters and, if ``runs`` is one of them, the run
    store's files.
    """
    folders = [ROOT / "data" / name for name in ("paper", "problems", "measurements")]
    if parameters.get("measurements"):
        folders.append(ROOT / str(parameters["measurements"]))
    files = [source, *sorted([*PACKAGE.rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")])]
    files += [path for folder in folders for path in sorted(folder.glob("*")) if path.is_file()]
    if "runs" in parameters:
        files += Store(ROOT / str(parameters["runs"])).files()
    shown = json.dumps(dict(parameters), sort_keys=True, default=str)
    return hashlib.sha256(shown.encode() + hash_files(files)).hexdigest()


def is_current(source: Path, *, parameters: Parameters) -> bool:
    """Return whether the executed copy of a notebook was made from the present inputs."""
    try:
        metadata = json.loads(executed_path(source).read_text("utf8"))["metadata"]
        made_from = metadata["tsp"]["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return made_from == fingerprint(source, parameters=parameters)


def sync_pairs() -> list[Path]:
    """Write the output-free ``.ipynb`` of each text notebook whose pair differs; return them."""
    stale = [pair for pair in check_pairs() if pair.with_suffix(".py").exists()]
    for pair in stale:
        pair.write_text(pair_text(pair.with_suffix(".py")), "utf8")
    return stale


def check_pairs() -> list[Path]:
    """List the ``.ipynb`` that are missing, differ from their text notebook, or have none."""
    wanted = {s.with_suffix(".ipynb"): s for s in sorted(NOTEBOOKS.glob(SOURCES))}
    stale = [p for p, s in wanted.items() if not p.exists() or p.read_text("utf8") != pair_text(s)]
    return stale + [p for p in sorted(NOTEBOOKS.glob("*.ipynb")) if p not in wanted]


def pair_text(source: Path) -> str:
    """Derive the ``.ipynb`` of a text notebook: no outputs, the same bytes every time.

    If ``_config.yml`` has an address of the repository, a first cell fetches the book from it on
    Colab, which opens a notebook alone.
    """
    repository = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))["repository"]["url"]
    notebook = read_notebook(source)
    if repository:
        fetch = ON_COLAB.format(repository=repository, model=DEFAULT)
        notebook.cells.insert(0, nbformat.v4.new_code_cell(fetch, id="on-colab"))
    return nbformat.writes(notebook, version=4) + "\n"


def read_notebook(source: Path) -> NotebookNode:
    """Read a text notebook; the ids of cells are derived from their text, and so stable."""
    notebook = nbformat.v4.upgrade(jupytext.read(source))
    seen: Counter[str] = Counter()
    for cell in notebook.cells:
        seen[cell.source] += 1
        cell.id = hashlib.sha256(f"{seen[cell.source]}{cell.source}".encode()).hexdigest()[:8]
    notebook.metadata = nbformat.from_dict(METADATA)
    return notebook


def hash_files(files: Iterable[Path]) -> bytes:
    """Hash the names and contents of files."""
    total = hashlib.sha256()
    for file in files:
        total.update(f"{file.parent.name}/{file.name}\0".encode())
        state = file.stat()
        total.update(_digest(file, state.st_mtime_ns, state.st_size))
    return total.digest()


@cache
def _digest(file: Path, changed: int, size: int) -> bytes:
    """Hash a file once, until it changes: all notebooks depend on the same ones."""
    return hashlib.sha256(file.read_bytes()).digest()


def parameter_names(notebook: NotebookNode) -> list[str]:
    """List the names set in the first cell tagged ``parameters``."""
    tagged = (c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    cell = next(tagged, None)
    nodes = ast.walk(ast.parse(cell.source)) if cell else ()
    return [n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]


def _run_papermill(path: Path, notebook: NotebookNode, parameters: Parameters) -> NotebookNode:
    """Execute a notebook in memory; raise an error of one line that names the cell that failed."""
    import papermill

    os.environ["TQDM_DISABLE"] = "1"  # a progress bar is written to stderr, which -W rejects
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (cores or 1) // WORKERS)))  # of each kernel
    try:
        return papermill.execute_notebook(
            notebook,
            None,
            parameters=dict(parameters),
            kernel_name="python3",
            progress_bar=False,
            start_timeout=600,  # seconds, on a busy machine
            extra_arguments=["--log-level=CRITICAL"],  # else kernels write that they use TCP
            resources={"metadata": {"path": str(ROOT)}},  # not cwd=, which moves every thread
        )
    except papermill.PapermillExecutionError as error:
        sources = [cell.source for cell in notebook.cells]
        number = sources.index(error.source) + 1 if error.source in sources else "?"
        first = error.source.strip().splitlines()[0].strip()
        what = f"{error.ename}: {error.evalue}".strip(": ").splitlines()[0]
        raise BookError(f"{path.name}, cell {number} ({first!r}): {what}") from error
    except Exception as error:  # the kernel died, could not start, …
        raise BookError(f"{path.name}: {type(error).__name__}: {error}") from error


def _offer_data(notebook: NotebookNode, name: str) -> None:
    """Move the data of figures from a notebook into files, and link these in the captions."""
    shutil.rmtree(EXECUTED / "data" / name, ignore_errors=True)
    for cell in notebook.cells:
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        outputs = [output.get("data", {}) for output in cell.get("outputs", [])]
        tables = [data.pop("text/csv") for data in outputs if "text/csv" in data]
        for number, text in enumerate(tables if "name" in figure else [], 1):
            suffix = f"-{number}" if len(tables) > 1 else ""
            file = f"data/{name}/{figure['name']}{suffix}.csv"
            replace_file(EXECUTED / file, text)
            figure["caption"] += f" {{download}}`Data <{file}>`"
