"""How long listings and tables take with ten thousand stored runs, and how much memory."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa

from benchmarks.measuring import environment
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
TABLES = {
    **{
        name: f"from tsp import tables; tables.{name}(store)"
        for name in ("table2", "table2_runs", "table3", "table3_tests", "table4", "claims")
    },
    **{
        name: f"from tsp import tables; tables.{name}(store)"
        for name in ("pairs", "trained", "weighted", "load_losses", "load_topology")
    },
    "study": "from tsp.analysis.studies import study;"
    " study(store, ['n_tokens'], base={'n_tokens': 40})",
    "systems": "from tsp.analysis.systems import systems; systems(store)",
}
CLI = "from tsp.cli.main import main; main()"
TABLE = """
from tsp.store.runs import Store
store = Store({store!r})
{call}
"""
WATCH = """
import json, resource, subprocess, sys, time
begun = time.perf_counter()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
seconds = time.perf_counter() - begun
size = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps([code, seconds, size * (1 if sys.platform == "darwin" else 1024)]))
"""


def strain(
    *, runs: int = RUNS, tell: Callable[[str], None] = lambda name: None
) -> list[dict[str, Any]]:
    """Time what reads a store of many runs, each in a process of its own.

    Parameters
    ----------
    runs
        How many: copies of the published ones with other seeds and problems, prompts cut short.
    tell
        Called with what is going to be done.

    Returns
    -------
    list of dict
        ``name runs stored seconds bytes``; ``stored``: as folders or as packs; ``bytes``: the most
        memory that the process held; and the environment. Each twice: ``first``, with an empty
        cache, as of a store that comes from elsewhere; and with what is remembered of it, for
        folders since they were unpacked, for packs since the first time, the median of `LOOKS`.
    """
    rows = []
    with tempfile.TemporaryDirectory() as work:
        tell(f"making {runs} runs")
        stores = build(Path(work), runs)
        for stored, store in stores.items():
            for name, words in _works(store).items():
                empty = Path(work) / f"cache-{stored}-{name}"
                for first in (True, False):
                    tell(f"{name}, {stored}, {'first' if first else 'again'}")
                    cache = Path(work, CACHE) if stored == "folders" and not first else empty
                    looks = [_watched(words, cache) for _ in range(1 if first else LOOKS)]
                    seconds, most = median(it for it, _ in looks), max(it for _, it in looks)
                    told = {"name": name, "runs": runs, "stored": stored, "first": first}
                    rows.append(told | {"seconds": seconds, "bytes": most} | environment())
    return rows


def render(rows: list[dict[str, Any]]) -> str:
    """Rows as a table for the terminal; what takes more than it may is marked."""
    lines = []
    for row in rows:
        over = row["seconds"] > SECONDS or row["bytes"] > MEMORY
        times = f"{row['seconds']:>8.1f} s {row['bytes'] / 1e6:>7.0f} MB{' !' if over else ''}"
        when = "first" if row["first"] else "again"
        lines.append(f"{row['name']:<22}{row['stored']:<9}{when}{times}")
    return "\n".join(lines)


def build(work: Path, runs: int) -> dict[str, Path]:
    """Make a store of packs and one of folders, which hold the same runs."""
    stores = {"folders": work / "folders", "packs": work / "packs"}
    copies = _copies()
    packs = [stores["packs"] / f"{number}.parquet" for number in range(-(-runs // A_PACK))]
    for number, pack in enumerate(packs):
        write_pack(islice(copies, min(A_PACK, runs - number * A_PACK)), pack)
    words = ["runs", "unpack", *map(str, packs), "--runs", str(stores["folders"])]
    _watched(["-c", CLI, *words], work / CACHE)
    return stores


def _copies() -> Iterator[Parts]:
    """Published runs, then the same with other seeds, and on other problems, without an end."""
    known, _ = Store(data_dir("runs")).sound()
    if not known:
        raise InputError("runs", str(data_dir("runs")), "published runs are in a checkout alone")
    return (_copy(run.apart(), number) for number in count() for run in known)


def _copy(parts: Parts, number: int) -> Parts:
    """A run's copy as it would be stored at home: double precision, and answers in its checks."""
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
    """Words to start each work with, by its name."""
    where = ["--runs", str(store)]
    works = {name: ["-c", CLI, *words, *where] for name, words in COMMANDS.items()}
    tables = {
        name: ["-c", TABLE.format(store=str(store), call=call)] for name, call in TABLES.items()
    }
    return works | tables


def _watched(words: list[str], cache: Path) -> tuple[float, int]:
    """Seconds and bytes of a work in a process whose cache is a folder."""
    told = os.environ | {"TSP_CACHE": str(cache), "PYTHONPATH": str(PACKAGE.parent)}
    # A process begins with its parent's peak, so a small one stands between.
    command = [sys.executable, "-c", WATCH, sys.executable, *words]
    out = subprocess.run(command, env=told, capture_output=True, text=True, check=True)
    code, seconds, most = json.loads(out.stdout)
    if code:
        raise RuntimeError(f"{' '.join(words)} failed: {out.stderr.strip()[-500:]}")
    return seconds, most
