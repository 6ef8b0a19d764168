"""Time and memory of listings and tables with ten thousand stored runs."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa

from benchmarks.measuring import report
from tsp.errors import InputError
from tsp.paths import PACKAGE, data_dir
from tsp.store.archive import Parts, write_pack
from tsp.store.runs import Store

RUNS = 10_000
A_PACK = 1_000  # runs
SEEDS = 4  # copies of a run on the same problems; further ones stand for other problems
LOOKS = 3  # at what is remembered: other work on a machine may double the seconds of one
CACHE = "cache"  # what unpacking remembers of the store in folders
CUT = 4  # columns of a prompt that are left
SECONDS, MEMORY = 5.0, 1e9  # what a listing or a table of runs in folders may take

COMMANDS = {
    "tsp runs list": ["runs", "list"],
    "tsp runs list --json": ["runs", "list", "--json"],
    "tsp report": ["report"],
    "tsp runs verify": ["runs", "verify"],  # reads every byte, so it may take its time
}
ANALYSIS = {
    "tsp.analysis.tables": [
        *("table2", "table2_runs", "table3", "table3_tests", "table4", "claims"),
        *("pairs", "trained", "weighted", "load_losses", "load_topology"),
    ],
    "tsp.analysis.systems": ["systems"],
    "benchmarks.store_load": ["study_of_tokens"],
}
"""Functions of a store by module."""
CLI = "from tsp.cli.main import main; main()"
TABLE = "from {} import {} as make; from tsp.store.runs import Store; make(Store({!r}))"
WATCH = """
import json, resource, subprocess, sys, time
begun = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
seconds = time.perf_counter() - begun
size = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps([code, seconds, size * (1 if sys.platform == "darwin" else 1024)]))
"""


def strain(*, runs: int = RUNS) -> list[dict[str, Any]]:
    """Time what reads a store of many runs, each in a process of its own.

    Parameters
    ----------
    runs
        Number of runs: copies of the published ones with other seeds and problems, and prompts
        that are cut short.

    Returns
    -------
    list of dict
        ``name runs stored first seconds bytes``. ``stored``: in folders or in packs; ``bytes``: the
        peak memory of the process. Each name has two rows: ``first``, with an empty cache, as for
        a store that was copied from elsewhere; and the median of `LOOKS` later looks.
    """
    rows = []
    with tempfile.TemporaryDirectory() as work:
        report(f"making {runs} runs")
        stores = build(Path(work), runs)
        for stored, store in stores.items():
            for name, words in _works(store).items():
                empty = Path(work) / f"cache-{stored}-{name}"
                for first in (True, False):
                    report(f"{name}, {stored}, {'first' if first else 'again'}")
                    cache = Path(work, CACHE) if stored == "folders" and not first else empty
                    looks = [_watched(words, cache) for _ in range(1 if first else LOOKS)]
                    row = {"name": name, "runs": runs, "stored": stored, "first": first}
                    row |= {"seconds": median(seconds for seconds, _ in looks)}
                    rows.append(row | {"bytes": max(size for _, size in looks)})
    report(render(rows))
    return rows


def study_of_tokens(store: Store) -> Any:
    """Compare the numbers of tokens of stored runs, as an example of a study."""
    from tsp.analysis.studies import study

    return study(store, ["n_tokens"], base={"n_tokens": 40})


def render(rows: list[dict[str, Any]]) -> str:
    """Return rows as a table for the terminal; `!` marks what takes more than it may."""
    lines = []
    for row in rows:
        over = row["seconds"] > SECONDS or row["bytes"] > MEMORY
        times = f"{row['seconds']:>8.1f} s {row['bytes'] / 1e6:>7.0f} MB{' !' if over else ''}"
        when = "first" if row["first"] else "again"
        lines.append(f"{row['name']:<22}{row['stored']:<9}{when}{times}")
    return "\n".join(lines)


def build(work: Path, runs: int) -> dict[str, Path]:
    """Make a store of packs and one of folders that hold the same runs."""
    stores = {"folders": work / "folders", "packs": work / "packs"}
    copies = _copies()
    packs = [stores["packs"] / f"{number}.parquet" for number in range(-(-runs // A_PACK))]
    for number, pack in enumerate(packs):
        write_pack(islice(copies, min(A_PACK, runs - number * A_PACK)), pack)
    words = ["runs", "unpack", *map(str, packs), "--runs", str(stores["folders"])]
    _watched(["-c", CLI, *words], work / CACHE)
    return stores


def _copies() -> Iterator[Parts]:
    """Yield published runs, then the same with other seeds and on other problems, forever."""
    known, _ = Store(data_dir("runs")).sound()
    if not known:
        raise InputError("runs", str(data_dir("runs")), "published runs are in a checkout alone")
    return (_copy(run.apart(), number) for number in count() for run in known)


def _copy(parts: Parts, number: int) -> Parts:
    """Copy a run as it would be stored at home: double precision, and answers in its checks."""
    record = json.loads(json.dumps(parts.record))
    record["id"] = _hash(record["id"], number)[:16]
    record["together"] = [record["id"]]
    record["shape"][1] = CUT
    record["spec"]["seed"] += 100 * (number % SEEDS)
    record["spec"]["problem"] += 1000 * (number // SEEDS)
    for problem in record["problems"]:
        problem["sha256"] = _hash(problem["sha256"], number // SEEDS)
    tables = {name: _double(table) for name, table in parts.tables.items()}
    if "answer" not in tables["checks"].column_names:
        answers = pa.repeat("The answer is 42.", len(tables["checks"]))
        tables["checks"] = tables["checks"].append_column("answer", answers)
    prompts = {epoch: it[:, :CUT].contiguous() for epoch, it in parts.prompts.items()}
    return Parts(record, tables, prompts)


def _double(table: pa.Table) -> pa.Table:
    names = table.schema
    kinds = [pa.float64() if pa.types.is_floating(it.type) else it.type for it in names]
    return table.cast(pa.schema(list(zip(names.names, kinds, strict=True))))


def _hash(text: str, number: int) -> str:
    return hashlib.sha256(f"{text} {number}".encode()).hexdigest() if number else text


def _works(store: Path) -> dict[str, list[str]]:
    """Return the arguments of Python for each piece of work, by its name."""
    works = {name: ["-c", CLI, *words, "--runs", str(store)] for name, words in COMMANDS.items()}
    for module, names in ANALYSIS.items():
        for name in names:
            works[name] = ["-c", TABLE.format(module, name, str(store))]
    return works


def _watched(words: list[str], cache: Path) -> tuple[float, int]:
    """Return the seconds and the peak bytes of a process that uses a cache folder."""
    environment = os.environ | {"TSP_CACHE": str(cache), "PYTHONPATH": str(PACKAGE.parent)}
    # A process begins with its parent's peak, so a small one stands between.
    command = [sys.executable, "-c", WATCH, sys.executable, *words]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    code, seconds, most = json.loads(out.stdout)
    if code:
        raise RuntimeError(f"{' '.join(words)} failed: {out.stderr.strip()[-500:]}")
    return seconds, most
