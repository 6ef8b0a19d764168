"""Measure the time and memory that listings and tables take with ten thousand stored runs."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.measuring import report
from tsp.errors import InputError
from tsp.paths import PACKAGE, data_dir
from tsp.store.archive import write_archive
from tsp.store.content import RunData
from tsp.store.runs import Store

RUNS = 10_000
SEEDS = 4  # copies of a run on the same problems; further ones stand for other problems
CUT = 4  # columns of a prompt that are left
SECONDS, MEMORY = 5.0, 1e9  # what a listing or a table may take
CLAIM_SECONDS = 6.0  # what all claims may take, whose rules are applied twice for Holm's levels

COMMANDS = {
    "tsp runs list": ["runs", "list"],
    "tsp runs list --json": ["runs", "list", "--json"],
    "tsp report": ["report"],
    "tsp runs verify": ["runs", "verify"],  # reads every byte, so it may take its time
}
_TABLES = (
    *("table2", "table2_runs", "table3", "table3_tests", "table4", "claims"),
    *("pairs", "trained", "weighted", "load_losses", "load_topology"),
)
TABLES = {name: f"from tsp.analysis import tables; tables.{name}(store)" for name in _TABLES} | {
    "study": "from tsp.analysis.studies import study;"
    " study(store, ['n_tokens'], base={'n_tokens': 40})",
    "systems": "from tsp.analysis.systems import systems; systems(store)",
}
CLI = "from tsp.cli.main import main; main()"
WATCH = """
import json, resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
size = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps([code, used.ru_utime + used.ru_stime, size]))
"""


def strain(*, runs: int = RUNS) -> list[dict[str, Any]]:
    """Measure what reads an archive of runs, each command and table in a process of its own.

    The runs are copies of the published ones with other seeds and problems, prompts cut short.
    Returns rows ``name runs seconds bytes``: seconds of the processor, on one thread, on which
    other work on the machine has little effect, and the most memory that the process held.
    """
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        report(f"making {runs} runs")
        write_archive(islice(_copies(), runs), Path(folder) / "all.parquet")
        store = f"from tsp.store.runs import Store; store = Store({folder!r});"
        works = {name: [CLI, *words, "--runs", folder] for name, words in COMMANDS.items()}
        works |= {name: [f"{store} {call}"] for name, call in TABLES.items()}
        for name, words in works.items():
            report(name)
            seconds, size = _watched(["-c", *words])
            rows.append({"name": name, "runs": runs, "seconds": seconds, "bytes": size})
    return rows


def _copies() -> Iterator[RunData]:
    """Yield published runs, then the same with other seeds and on other problems, endlessly."""
    known, _ = Store(data_dir("runs")).valid_runs()
    if not known:
        raise InputError("runs", str(data_dir("runs")), "published runs are in a checkout alone")
    return (_copy(run.data, number) for number in count() for run in known)


def _copy(data: RunData, number: int) -> RunData:
    """Return a run's copy as it would be stored at home: double precision, with answers."""
    record = json.loads(json.dumps(data.record))
    record["id"] = _hash(record["id"], number)[:16]
    record["together"] = [record["id"]]
    record["shape"][1] = CUT
    record["spec"]["seed"] += 100 * (number % SEEDS)
    record["spec"]["problem"] += 1000 * (number // SEEDS)
    for problem in record["problems"]:
        problem["sha256"] = _hash(problem["sha256"], number // SEEDS)
    tables = {}
    for name, table in data.tables.items():
        doubled = [
            field.with_type(pa.float64()) if pa.types.is_floating(field.type) else field
            for field in table.schema
        ]
        tables[name] = table.cast(pa.schema(doubled))
    if "answer" not in tables["checks"].column_names:
        answers = pa.repeat("The answer is 42.", len(tables["checks"]))
        tables["checks"] = tables["checks"].append_column("answer", answers)
    return RunData(record, tables, {k: prompt[:, :CUT] for k, prompt in data.prompts.items()})


def _hash(text: str, number: int) -> str:
    return hashlib.sha256(f"{text} {number}".encode()).hexdigest() if number else text


def _watched(words: list[str]) -> tuple[float, int]:
    """Return the seconds and the bytes of a process."""
    settings = os.environ | {"PYTHONPATH": str(PACKAGE.parent), "OMP_NUM_THREADS": "1"}
    # A process begins with its parent's peak, so a small one stands between.
    command = [sys.executable, "-c", WATCH, sys.executable, *words]
    out = subprocess.run(command, env=settings, capture_output=True, text=True, check=True)
    code, seconds, size = json.loads(out.stdout)
    if code:
        raise RuntimeError(f"{' '.join(words)} failed: {out.stderr.strip()[-500:]}")
    return seconds, size
