"""Measurements of this package beside its peers: in turn, in one process, medians."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmarks import gpu_banks, peft_methods, roundings, store_load, topology
from benchmarks.epochs import from_states
from benchmarks.measuring import environment
from benchmarks.states import STATES
from benchmarks.training import (
    Side,
    gemm_fraction,
    step_compiled,
    step_context,
    step_prefix,
    tsloss_share,
    whole_runs,
)
from tsp.atomic import replace_file
from tsp.errors import InputError
from tsp.training import models

Row = dict[str, Any]
WHEN = {"early": "at the start", "middle": "halfway", "late": "late"}
BRIEF = ("early", "late")  # states of a single problem that are timed without ``full``
SETS = 2  # runs of a bank on ten problems each
GENERATIONS = {"family 25, model 17": "Zen 4", "family 6, model 207": "Emerald Rapids"}
"""Names of processors that `environment` names by numbers."""


@dataclass(frozen=True)
class Aim:
    """A measurement in words, and the value it should reach."""

    what: str
    aim: float
    share: bool = False  # a part of something, not a ratio of times
    most: bool = False  # the aim is an upper bound
    with_matrix_unit: float | None = None  # the aim on a processor that has one, if it differs

    def of(self, row: Mapping[str, Any]) -> float:
        """Return the aim on the machine of a row."""
        return self.with_matrix_unit or self.aim if "AMX" in row["processor"] else self.aim

    def text(self, row: Mapping[str, Any]) -> str:
        """Return the aim in words."""
        if self.share:
            return f"at {'most' if self.most else 'least'} {self.of(row):.0%}"
        return f"at least {self.of(row):g} ×"

    def number(self, ratio: float) -> str:
        """Return a ratio as tables show it."""
        if self.share:
            return f"{ratio:.2%}" if ratio < 0.1 else f"{ratio:.1%}"
        return f"{ratio:.2f}\xa0×" if ratio < 10 else f"{ratio:.1f}\xa0×"  # printed tables wrap

    def span(self, row: Mapping[str, Any]) -> str:
        """Return the smallest and the largest ratio of the repeats; "once" if there is one."""
        if not isinstance(row["ours_times"], list):
            return ""
        times = zip(row["ours_times"], row["peer_times"], strict=True)
        ratios = [ours / peer if self.most else peer / ours for ours, peer in times]
        least, most = (100 * end if self.share else end for end in (min(ratios), max(ratios)))
        unit = " %" if self.share else ""
        return f"{least:.3g} to {most:.3g}{unit}" if len(ratios) > 1 else "once"

    def mark(self, row: Mapping[str, Any]) -> str:
        """Return the aim, and whether it is reached."""
        number = f"{self.of(row):.0%}" if self.share else f"{self.of(row):g} ×"
        return f"{'≤' if self.most else '≥'} {number} {'✓' if self.reached(row) else '✗'}"

    def reached(self, row: Mapping[str, Any]) -> bool:
        """Return whether a row reaches its aim."""
        return row["ratio"] <= self.of(row) if self.most else row["ratio"] >= self.of(row)


def _epoch(what: str, aim: float, **more: Any) -> Aim:
    return Aim(f"an epoch on {what}", aim, **more)


AIMS = {
    **{
        f"epoch_single_{state}_vs_peft": _epoch(
            f"one problem, {WHEN[state]}", 7, with_matrix_unit=10
        )
        for state in STATES["single"]
    },
    "epoch_single_early_vs_peft_float32": _epoch("one problem, at the start, both in float32", 6),
    "epoch_single_early_vs_peft_alike": _epoch(
        "one problem, at the start, both in float32, prompts first", 3
    ),
    **{
        f"epoch_multi_{state}_vs_peft": _epoch(f"ten problems, {WHEN[state]}", 8)
        for state in STATES["multi"]
    },
    "run_single_vs_peft": _epoch("one problem, over runs until solved", 7, with_matrix_unit=10),
    "run_multi_vs_peft": _epoch("ten problems, over runs of fixed length", 8),
    "step_context_5k_vs_unshared": Aim("a step behind 5,000 tokens, against no sharing", 25),
    "step_context_5k_vs_peft": Aim("a step behind 5,000 tokens, against PEFT", 60),
    "step_prefix_vs_one_by_one": Aim(
        "a step with prompts before everything, against single runs", 1
    ),
    "step_compiled_vs_plain": Aim("a step compiled by torch, against one that is not", 1),
    "gemm_fraction": Aim("rate of a training step's products, float32", 0.75, share=True),
    "gemm_fraction_bfloat16": Aim("rate of a training step's products, bfloat16", 0.45, share=True),
    "tsloss_share": Aim(
        "TSLoss's share of a step (100 vectors, bank of 64)", 0.01, share=True, most=True
    ),
    "topology_share": Aim("topology's part of an experiment", 0.01, share=True, most=True),
    "topology_vs_gudhi_n40": Aim("persistence of 20 clouds, against gudhi", 3),
    "topology_vs_giotto_n40": Aim("persistence of 20 clouds, against giotto-tda", 1),
    "topology_vs_ripser_n40": Aim("persistence of 20 clouds, against ripser", 1),
}
OTHERS: dict[str, Callable[[], list[Row]]] = {
    "roundings": lambda: roundings.compare(),
    "growth": lambda: topology.grow(),
    "paradigms": lambda: peft_methods.compare(),
    "load": lambda: store_load.strain(),
}
"""Measurements other than `measure`, by the option of `tsp bench`, which also has ``gpu``."""


def measure(*, repeats: int = 3, only: Sequence[str] = (), full: bool = False) -> Iterator[Row]:
    """Run the measurements that this machine allows, or those whose name starts as one of ``only``.

    ``full`` adds whole runs, further states of training, the share of TSLoss, compiled layers and
    runs that share nothing, which take two to three hours.

    Yields
    ------
    dict
        As soon as it is measured: ``name, ours, peer, ratio, unit, peer_name, repeats``, all
        ``times`` of both sides, and the environment. For training also ``model``, ``n_tokens`` and
        the ``precision`` of both sides; for epochs the ``pass`` and the ``check`` of both, and
        ``peer_rule``, the time of PEFT's loop with our rules for checks; for whole runs how many
        were trained and solved, their epochs, and the seconds of a run until it ended. ``minutes``
        are a row's part of those that its work took. ``ratio`` is the peer's time over ours; where
        an aim is a share it is ours over the peer's; for ``gemm_fraction`` it is the part of the
        machine's rate of products. Peers that are not installed are left out.
    """
    works: dict[str, Callable[[], list[Row]]] = {}
    if find_spec("gph"):  # a bare GPU host has no giotto-tda
        for name, (module, *_) in topology.PEERS.items():
            if find_spec(module):
                works[f"topology_vs_{name}_n40"] = partial(topology.versus, name, 5 * repeats)
    if models.installed(models.DEFAULT) and find_spec("peft"):
        works |= _training(Side(models.load()), repeats, full=full)
    chosen = {name: work for name, work in works.items() if name.startswith(tuple(only) or "")}
    if only and not chosen:
        more = "" if full else "; --full has more"
        raise InputError("only", ", ".join(only), f"begin as one of {', '.join(works)}{more}")
    if not chosen:
        remedy = f"install giotto-tda, or peft and `tsp model install {models.DEFAULT}`"
        raise InputError("bench", "nothing to measure", remedy)
    for work in chosen.values():
        begin, measured = time.perf_counter(), work()
        minutes = (time.perf_counter() - begin) / 60 / len(measured)
        yield from (row | environment() | {"minutes": minutes} for row in measured)


def _training(side: Side, repeats: int, *, full: bool) -> dict[str, Callable[[], list[Row]]]:
    """Return the measurements of training by name."""
    works: dict[str, Callable[[], list[Row]]] = {
        "gemm_fraction": partial(gemm_fraction, Side(side.frozen, "float32"), repeats),
        "step_context_5k_vs_peft": partial(step_context, side, repeats, with_peft=True),
        "step_prefix": partial(step_prefix, side, repeats),
        "epoch_single": partial(
            from_states,
            side,
            repeats,
            regime="single",
            chosen=STATES["single"] if full else BRIEF,
            alike=full,
        ),
        "epoch_multi_early": partial(
            from_states, side, repeats, regime="multi", chosen=["early"], runs=SETS
        ),
    }
    if side.precision != "float32":
        works["gemm_fraction_bfloat16"] = partial(gemm_fraction, side, repeats)
    if full:
        works["tsloss_share"] = partial(tsloss_share, side, repeats)
        works["step_compiled"] = partial(step_compiled, side, repeats)
        unshared = partial(step_context, side, repeats, with_peft=False)
        works["step_context_5k_vs_unshared"] = unshared
        works["epoch_multi_late"] = partial(
            from_states, side, repeats, regime="multi", chosen=["late"], runs=SETS
        )
        works["run_multi"] = partial(whole_runs, side, repeats, regime="multi")
        works["run_single"] = partial(whole_runs, side, repeats, regime="single")
    return works


def render(rows: list[Row]) -> str:
    """Return rows as a table for the terminal."""
    lines = [f"{'measurement':<29}{'ours':>10}{'peer':>10}{'ratio':>8}  {'aim':<13} unit, peer"]
    for row in rows:
        aim = AIMS[row["name"]]
        ratio = f"{row['ratio']:.1%}" if aim.share else f"{row['ratio']:.2f}"
        others = f"{aim.text(row):<13} {row['unit']}; {row['peer_name']}, {row['repeats']} repeats"
        sides = f"{row['ours']:>10.4g}{row['peer']:>10.4g}"
        lines.append(f"{row['name']:<29}{sides}{ratio:>8}  {others}")
    place = "{machine}, {processor}, {device}, {threads} threads, torch {torch}".format(**rows[0])
    return "\n".join([*lines, f"{place}; medians of repeats in turn"])


def run(
    out: Path | None,
    repeats: int,
    only: Sequence[str],
    others: Mapping[str, Path],
    *,
    full: bool = False,
) -> None:
    """Measure, print a table and write the rows; rows of other measurements and machines stay.

    ``others`` has at most one of `OTHERS` with its file, to measure that instead.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler would print that it starts
    if len(others) > 1 or (others and (out or only or full)):
        raise InputError("bench", " ".join(f"--{name}" for name in others), "give it alone")
    for name, file in others.items():
        if name == "gpu":
            if not torch.cuda.is_available():
                raise InputError("gpu", "cpu", "torch sees no GPU; `tsp bench` measures a CPU")
            known = _read(file) if file.is_file() else []
            for row in gpu_banks.measure(Side(models.load()), list(known), repeats):
                known = [*(other for other in known if _key(other) != _key(row)), row]
                _write(file, known)
            return
        _write(file, [row | environment() for row in OTHERS[name]()])
        return
    kept = _read(out) if out and out.is_file() else []
    rows: list[Row] = []
    for row in measure(repeats=repeats, only=only, full=full):
        rows.append(row)
        kept = _ordered([*(other for other in kept if _key(other) != _key(row)), row])
        if out and not _is_stream(out):  # nothing is lost if a later measurement fails
            _write(out, kept)
    print(render(_ordered(rows)), file=sys.stderr if out else sys.stdout)
    if out and _is_stream(out):
        _write(out, kept)


def _ordered(rows: list[Row]) -> list[Row]:
    """Sort rows as `AIMS` lists them."""
    order = list(AIMS)
    return sorted(rows, key=lambda row: order.index(row["name"]) if row["name"] in AIMS else 99)


def _key(row: Row) -> tuple[str, str, str]:
    """Return what a row measures, and where."""
    return row["name"], row["processor"], row["device"]


def _read(out: Path) -> list[Row]:
    """Return the rows of a file."""
    try:
        return [row for row in json.loads(out.read_text()) if _key(row)]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError("json", str(out), "holds no rows of `tsp bench`") from error


def read_table(folder: Path) -> pd.DataFrame:
    """Return the rows of ``bench.json``.

    Columns are those of `measure` and ``aim``, ``what`` (the aim's words), ``reached``, and as text
    ``shown`` (the ratio), ``range`` (of its repeats) and ``aimed``; names of processors are short.
    ``where`` is the processor, and float32 if ours is and ``what`` does not say so. Rows of one
    aim stand together.
    """
    rows = [row for row in _read(folder / "bench.json") if row["name"] in AIMS]
    table = pd.DataFrame(_ordered(rows))
    optional = ["budget", "bandwidth", "runs", "peer_rule", "precision", "ours_times", "peer_times"]
    optional += ["first", "revision", "model", "ours_pass", "ours_check", "peer_pass", "peer_check"]
    table = table.reindex(columns=table.columns.union(optional, sort=False))
    table["aim"] = [AIMS[name] for name in table.name]
    table["what"] = [aim.what for aim in table.aim]
    records: Any = table.to_dict("records")
    table["reached"] = [row["aim"].reached(row) for row in records]
    table["shown"] = [row["aim"].number(row["ratio"]) for row in records]
    table["range"] = [row["aim"].span(row) for row in records]
    table["aimed"] = [row["aim"].mark(row) for row in records]
    names = table.processor.str.replace(r"\(R\)| Processor|^Intel|^AMD", "", regex=True)
    for numbers, name in GENERATIONS.items():
        names = names.str.replace(f"({numbers})", name, regex=False)
    table["processor"] = names.str.strip()
    unnamed = table.precision.eq("float32") & ~table.what.str.contains("float32")
    return table.assign(where=table.processor + unnamed.map({True: ", float32", False: ""}))


def _write(out: Path, rows: list[Row]) -> None:
    """Write rows to a file, a device, a pipe or, as ``-``, standard output."""
    text = json.dumps(rows, indent=1) + "\n"
    if str(out) == "-":
        print(text, end="")
    elif _is_stream(out):
        out.write_text(text)
    else:
        replace_file(out, text)


def _is_stream(out: Path) -> bool:
    """Return whether rows go to standard output, a device or a pipe, which are not replaced."""
    return str(out) == "-" or (out.exists() and not out.is_file())
