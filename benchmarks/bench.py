"""Measurements of this package beside its peers: interleaved, in one process, medians."""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import peft_methods, roundings, store_load, topology
from benchmarks.measuring import environment
from benchmarks.training import Side, training
from tsp.atomic import replace_file
from tsp.errors import InputError
from tsp.training import models

Row = dict[str, Any]


@dataclass(frozen=True)
class Aim:
    """A measurement in words, and the value it should reach."""

    what: str
    aim: float
    share: bool = False  # a part of something, not a ratio of times
    most: bool = False  # the aim is an upper bound

    @property
    def text(self) -> str:
        """Return the aim in words."""
        if self.share:
            return f"at {'most' if self.most else 'least'} {self.aim:.0%}"
        return f"at least {self.aim:g} ×"


AIMS = {
    "epoch_single_vs_peft": Aim("an epoch of a run on one problem, trained until it is solved", 6),
    "epoch_single_vs_peft_float32": Aim("an epoch on one problem, both sides in float32", 6),
    "epoch_multi_vs_peft": Aim("an epoch of a run on ten problems", 5),
    "step_context_5k_vs_unshared": Aim("a step behind 5,000 tokens, against no sharing", 25),
    "step_context_5k_vs_peft": Aim("a step behind 5,000 tokens, against PEFT", 30),
    "bank64_gpu_vs_peft": Aim("an epoch of a run of 64 on a GPU, trained until solved", 40),
    "gemm_fraction": Aim("rate of a training step's products, float32", 0.6, share=True),
    "gemm_fraction_bfloat16": Aim("rate of a training step's products, bfloat16", 0.6, share=True),
    "tsloss_share": Aim("TSLoss's part of a step, n = 100, R = 64", 0.02, share=True, most=True),
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
"""Measurements other than of speed against a peer, by the option of `tsp bench`."""


def measure(*, repeats: int = 3, only: Sequence[str] = ()) -> list[Row]:
    """Run the measurements that this machine allows, or those whose name starts as one of ``only``.

    Returns
    -------
    list of dict
        ``name, ours, peer, ratio, unit, peer_name, repeats``, all ``times`` of both sides, and the
        environment; for training also ``model``, ``n_tokens`` and the ``precision`` of both sides;
        for whole runs how many were trained and solved, their epochs, and the seconds of a run
        until it ended. ``ratio`` is the peer's time over ours; where an aim is a share it is ours
        over the peer's; for ``gemm_fraction`` it is the part of the machine's rate of products.
        Peers that are not installed are left out.
    """
    works: dict[str, Callable[[], list[Row]]] = {}
    if find_spec("gph"):  # a bare GPU host has no giotto-tda
        for name, (module, *_) in topology.PEERS.items():
            if find_spec(module):
                works[f"topology_vs_{name}_n40"] = partial(topology.versus, name, 5 * repeats)
    if models.installed(models.DEFAULT) and find_spec("peft"):
        works |= training(Side(models.load()), repeats)
    chosen = {name: work for name, work in works.items() if name.startswith(tuple(only) or "")}
    if only and not chosen:
        raise InputError("only", ", ".join(only), f"begin as one of {', '.join(works)}")
    if not chosen:
        remedy = f"install giotto-tda, or peft and `tsp model install {models.DEFAULT}`"
        raise InputError("bench", "nothing to measure", remedy)
    return _ordered([row | environment() for work in chosen.values() for row in work()])


def render(rows: list[Row]) -> str:
    """Return rows as a table for the terminal."""
    lines = [f"{'measurement':<29}{'ours':>10}{'peer':>10}{'ratio':>8}  {'aim':<13} unit, peer"]
    for row in rows:
        aim = AIMS[row["name"]]
        ratio = f"{row['ratio']:.1%}" if aim.share else f"{row['ratio']:.2f}"
        others = f"{aim.text:<13} {row['unit']}; {row['peer_name']}, {row['repeats']} repeats"
        sides = f"{row['ours']:>10.4g}{row['peer']:>10.4g}"
        lines.append(f"{row['name']:<29}{sides}{ratio:>8}  {others}")
    place = "{machine}, {processor}, {device}, {threads} threads, torch {torch}".format(**rows[0])
    return "\n".join([*lines, f"{place}; medians of interleaved repeats"])


def run(out: Path | None, repeats: int, only: Sequence[str], others: Mapping[str, Path]) -> None:
    """Measure, print a table and write the rows; with ``only``, other rows of the file stay.

    ``others`` has at most one of `OTHERS` with its file, to measure that instead.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler would print that it starts
    if len(others) > 1 or (others and out):
        raise InputError("bench", " ".join(f"--{name}" for name in others), "give one at a time")
    for name, file in others.items():
        _write(file, [row | environment() for row in OTHERS[name]()])
        return
    rows = measure(repeats=repeats, only=only)
    print(render(rows), file=sys.stderr if out else sys.stdout)
    if out and only and out.is_file():
        rows = _ordered([*_others(out, {row["name"] for row in rows}), *rows])
    if out:
        _write(out, rows)


def _ordered(rows: list[Row]) -> list[Row]:
    """Sort rows as `AIMS` lists them."""
    order = list(AIMS)
    return sorted(rows, key=lambda row: order.index(row["name"]) if row["name"] in AIMS else 99)


def _others(out: Path, measured: set[str]) -> list[Row]:
    """Return the rows of a file whose measurements were not repeated."""
    try:
        return [row for row in json.loads(out.read_text()) if row["name"] not in measured]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError("json", str(out), "holds no rows of `tsp bench`") from error


def _write(out: Path, rows: list[Row]) -> None:
    """Write rows to a file, a device, a pipe or, as ``-``, standard output."""
    text = json.dumps(rows, indent=1) + "\n"
    if str(out) == "-":
        print(text, end="")
    elif out.exists() and not out.is_file():  # a device or a pipe is not replaced
        out.write_text(text)
    else:
        replace_file(out, text)
