"""How far the vectors of stored runs move, and null models that move as far without training."""

from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from tsp.analysis.stats import spearman
from tsp.errors import InputError
from tsp.store.runs import Run
from tsp.topology import SUMMARY_COLUMNS
from tsp.topology.diagrams import summarize
from tsp.topology.null_models import displaced, walk

KINDS = ("random walk", "straight walk", "rows moved as far")
"""Nulls of a run: `walk`, `walk` with ``straight``, and `displaced`."""


def nulls(run: Run, *, draws: int = 5) -> pd.DataFrame:
    """Topology of a run and of its null models at the first and the last check.

    Parameters
    ----------
    run
        A run with ``moved`` in its epochs; the kind ``"rows moved as far"`` needs stored prompts.
    draws
        Number of independent copies of each kind. Their directions depend on the run's id, so
        those of two runs are independent too.

    Returns
    -------
    DataFrame
        Columns of `tsp.topology.diagrams.summarize`, ``kind`` (``"training"`` and `KINDS`),
        ``draw`` (0 for training) and ``end``: False at the first check, True at the last. Where
        the first prompt is not stored the walks start from a Gaussian one of its shape and scale.

    Raises
    ------
    InputError
        If the run does not say how far its prompt moved.
    """
    if "moved" not in run.epochs:
        raise InputError("run", run.id, "was trained before steps were measured; train it again")
    stored = run.prompt_epochs
    if stored:
        first = np.asarray(run.prompt(stored[0]), dtype=np.float64)
    else:
        spread = run.spec.settings.init_std
        first = _stream(run, "start").normal(scale=spread, size=run.record["shape"])
    lengths = run.epochs.sort_values("epoch").moved.to_numpy()
    ends, labels = [], [("training", 0)]
    for kind, draw in product(KINDS if len(stored) > 1 else KINDS[:2], range(draws)):
        # "moved" came into the name later; the draws stay what they were.
        seed = int(_stream(run, kind.replace(" moved", ""), draw).integers(2**63))
        if kind == KINDS[2]:
            ends.append(displaced(first, run.prompt(stored[-1]), seed=seed))
        else:
            ends.append(walk(first, lengths, seed=seed, straight=kind == KINDS[1])[-1])
        labels.append((kind, draw))
    trained = run.topology.sort_values("epoch").iloc[[0, -1]][list(SUMMARY_COLUMNS)]
    walked = summarize(np.stack([first, *ends]))
    pairs = walked.iloc[[row for end in range(len(ends)) for row in (0, end + 1)]]
    table = pd.concat([trained, pairs], ignore_index=True)
    table[["kind", "draw"]] = pd.DataFrame([label for label in labels for _ in range(2)])
    return table.assign(end=[False, True] * len(labels))


def vector_movement(run: Run) -> pd.DataFrame:
    """Return how each vector of a prompt moved: one row per vector, in the order of the prompt.

    The run needs at least two stored prompts.

    Returns
    -------
    DataFrame
        ``start``, the vector's initial length; ``distance`` from its start to its end; ``path``,
        the sum of its strides, which lead from one stored prompt to the next. All in the embedding
        space's distance, so ``distance <= path``.
    """
    prompts = np.stack([run.prompt(epoch).double().numpy() for epoch in run.prompt_epochs])
    strides = np.linalg.norm(np.diff(prompts, axis=0), axis=2)  # (T - 1, n)
    distance = np.linalg.norm(prompts[-1] - prompts[0], axis=1)
    start = np.linalg.norm(prompts[0], axis=1)
    return pd.DataFrame({"start": start, "distance": distance, "path": strides.sum(axis=0)})


def which_vectors_move(moved: pd.DataFrame) -> dict[str, float]:
    """Return what goes with the distances that a prompt's vectors travel (`vector_movement`).

    Returns
    -------
    dict
        Spearman's rho of distance with ``place`` in the prompt and with ``start``; and ``path``,
        the share of the variance of log distances that is that of log paths. A log distance is log
        path plus log straightness, distance over path; the share is the covariance of the first
        with the sum over the variance of the sum: 1 if all vectors go equally straight, 0 if all
        paths are equally long.
    """
    path, distance = np.log(moved["path"]), np.log(moved.distance)
    return {
        "place": spearman(moved.index, moved.distance).statistic,
        "start": spearman(moved.start, moved.distance).statistic,
        "path": float(path.cov(distance) / distance.var()),
    }


def _stream(run: Run, *names: Any) -> np.random.Generator:
    """Return the random generator of a run for one purpose."""
    words = [int(run.id, 16), *("/".join(map(str, names))).encode()]
    return np.random.default_rng(words)
