"""Runs written by hand into a real store, with given answers, losses and topology."""

import itertools
from functools import cache

import torch

from tsp.problems.loading import Problem
from tsp.store.runs import Store
from tsp.topology.diagrams import analyse
from tsp.training.members import RunResult
from tsp.training.spec import RunSpec
from tsp.training.trainer import Plan

EVERY = 2  # epochs between two checks
_ids = itertools.count(1)


def stored(
    store: Store,
    *,
    solved=None,
    right=None,
    ce=1.0,
    total=None,
    topology=None,
    contents=("one",),
    answer="",
    seconds=60.0,
    **fields,
) -> str:
    """Write a run and return its id.

    Parameters
    ----------
    solved
        First check from which all answers are right; None for never.
    right
        Instead: for each check, whether each problem is right.
    ce, total
        Cross-entropy and total loss: one number, or one an epoch.
    topology
        Values of columns of `Run.topology`, one a check, instead of those of the prompts.
    contents
        One text a problem; problems are the same if their texts are.
    answer
        The decoded answer of every check.
    seconds
        Duration of the run.
    fields
        Fields of the spec.
    """
    spec = RunSpec(**{"task": "gsm8k", "method": "ce", "epochs": 8} | fields)
    checks = range(0, spec.epochs + 1, EVERY)
    if right is None:
        right = [[solved is not None and epoch >= solved] * len(contents) for epoch in checks]
    total = ce if total is None else total
    result = RunResult(
        spec=spec,
        problems=[_problem(spec.task, content, answer or "4") for content in contents],
        lengths=[{"target": 3}] * len(contents),
        epochs=[
            {"epoch": epoch, "step": epoch, "ce": _at(ce, epoch), "total": _at(total, epoch)}
            | {"lr": spec.lr}
            for epoch in range(1, spec.epochs + 1)
        ],
        checks=[
            {"epoch": epoch, "problem": k, "answer": answer, "score": float(good), "correct": good}
            | {"exact": good, "matched_tokens": 3 if good else 1, "target_tokens": 3}
            for epoch, row in zip(checks, right, strict=True)
            for k, good in enumerate(row)
        ],
        prompts=_prompts(spec.n_tokens, spec.seed, spec.epochs),
        seconds=seconds,
    )
    summaries, diagrams = _topology(spec.n_tokens, spec.seed, spec.epochs)
    run_id = f"{next(_ids):016x}"
    store.write(
        result,
        run_id=run_id,
        plan=Plan(threads=1),
        device="cpu",
        topology=summaries.assign(**topology or {}),
        diagrams=diagrams,
    )
    return run_id


def pair(store: Store, *, standard, tsloss, **fields) -> list[str]:
    """Write a run without and one with TSLoss, each solved from the given check."""
    sides = (("ce", standard), ("tsloss", tsloss))
    return [stored(store, method=method, solved=solved, **fields) for method, solved in sides]


def _problem(task, content, target):
    fields = {"answers": ("4",), "metric": "exact", "source": "local", "row": 0}
    return Problem(task=task, question="2+2=?", target=target, sha256=f"{content:>08}", **fields)


def _at(values, epoch):
    return float(values[epoch - 1]) if hasattr(values, "__getitem__") else float(values)


def _prompts(n, seed, epochs):
    """Return a cloud in space that grows with the epochs, at every check."""
    cloud = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))
    return {epoch: (1 + epoch) * cloud for epoch in range(0, epochs + 1, EVERY)}


@cache
def _topology(n, seed, epochs):
    return analyse([_prompts(n, seed, epochs)], show=[[0, epochs]])[0]
