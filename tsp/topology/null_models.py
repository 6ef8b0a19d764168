"""What a cloud's topology does when nothing is learned: walks as long as training's, without it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tsp.errors import InputError
from tsp.store.runs import Run
from tsp.store.schema import SUMMARY_COLUMNS
from tsp.topology.diagrams import summarize


def walk(first: Any, lengths: Sequence[float], *, seed: int, straight: bool = False) -> np.ndarray:
    """Move a prompt as far as training moved it, in directions that know nothing of a task.

    Parameters
    ----------
    first
        The prompt it starts from, (n, d): array or tensor.
    lengths
        Length of each step in the Frobenius norm, such as the column ``moved`` of a run's epochs.
    seed
        Of the directions.
    straight
        Keep the first direction, instead of drawing one for every step: all movement adds up.

    Returns
    -------
    ndarray
        The prompt before and after every step, (len(lengths) + 1, n, d), float64.

    Raises
    ------
    InputError
        If the first prompt is no matrix or a length is not a finite number of at least 0.

    Notes
    -----
    A direction is uniform on the sphere of all n d coordinates. Coordinates then behave like
    independent Gaussian ones, so a random walk of E equal steps of length l turns a prompt
    N(0, s² I) into about N(0, (s² + E l²/(n d)) I): the cloud grows and keeps its shape.
    """
    start = np.asarray(first, dtype=np.float64)
    if start.ndim != 2:
        raise InputError("first", start.shape, "give one prompt, (n, d)")
    steps = np.asarray(lengths, dtype=np.float64)
    if not (np.isfinite(steps).all() and (steps >= 0).all()):
        raise InputError("lengths", steps.tolist(), "give finite numbers of at least 0")
    rng = np.random.default_rng(seed)
    many = min(1, len(steps)) if straight else len(steps)
    directions = rng.normal(size=(many, *start.shape))
    directions /= np.sqrt((directions**2).sum(axis=(1, 2), keepdims=True))
    moves = steps[:, None, None] * directions  # one direction serves all steps of a straight walk
    return np.concatenate([start[None], start + moves.cumsum(axis=0)])


KINDS = ("random walk", "straight walk", "rows as far")
"""Nulls of a run: `walk`, `walk` with ``straight``, and `displaced`."""


def displaced(first: Any, last: Any, *, seed: int) -> np.ndarray:
    """Move every vector of a prompt as far as training moved it, each in a random direction.

    Parameters
    ----------
    first, last
        The prompt before and after training, (n, d): array or tensor.
    seed
        Of the directions.

    Returns
    -------
    ndarray
        (n, d), float64. Vectors move by unequal lengths, as trained ones do, and know nothing of
        each other.
    """
    start, end = (np.asarray(it, dtype=np.float64) for it in (first, last))
    if start.shape != end.shape or start.ndim != 2:
        raise InputError("last", end.shape, f"give a prompt like the first, {start.shape}")
    directions = np.random.default_rng(seed).normal(size=start.shape)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return start + np.linalg.norm(end - start, axis=1, keepdims=True) * directions


def nulls(run: Run, *, draws: int = 5) -> pd.DataFrame:
    """Topology of a run's nulls at its first and last check, beside its own.

    Parameters
    ----------
    run
        With ``moved`` in its epochs; the kind ``"rows as far"`` takes stored prompts.
    draws
        Independent copies of each kind. Their directions depend on the run's id, so those of two
        runs are independent too.

    Returns
    -------
    DataFrame
        Columns of `tsp.topology.diagrams.summarize`, ``kind`` (``"training"`` and `KINDS`),
        ``draw`` (0 for training) and ``end``: False at the first check, True at the last. A prompt
        that is not stored is replaced, as the start of the walks, by a Gaussian one of its shape
        and initial scale.

    Raises
    ------
    InputError
        If the run does not say how far its prompt moved.
    """
    epochs = run.epochs
    if "moved" not in epochs:
        raise InputError("run", run.id, "was trained before steps were measured; train it again")
    checks = run.topology.sort_values("epoch")
    trained = checks.iloc[[0, -1]][list(SUMMARY_COLUMNS)]
    stored = run.prompt_epochs
    if stored:
        first = np.asarray(run.prompt(stored[0]), dtype=np.float64)
    else:
        spread = run.spec.settings.init_std
        first = _stream(run, "start").normal(scale=spread, size=run.record["shape"])
    lengths = epochs.sort_values("epoch").moved.to_numpy()
    kinds = KINDS if len(stored) > 1 else KINDS[:2]
    last = run.prompt(stored[-1]) if len(stored) > 1 else first
    clouds, labels = [], [("training", 0)]
    for kind in kinds:
        for draw in range(draws):
            seed = int(_stream(run, kind, draw).integers(2**63))
            if kind == KINDS[2]:
                end = displaced(first, last, seed=seed)
            else:
                end = walk(first, lengths, seed=seed, straight=kind == KINDS[1])[-1]
            clouds += [first, end]
            labels.append((kind, draw))
    found = pd.concat([trained, summarize(np.stack(clouds))], ignore_index=True)
    twice = [label for label in labels for _ in range(2)]
    found[["kind", "draw"]] = pd.DataFrame(twice)
    return found.assign(end=[False, True] * len(labels))


def _stream(run: Run, *names: Any) -> np.random.Generator:
    """A random stream of a run's own, for each purpose another."""
    words = [int(run.id, 16), *("/".join(map(str, names))).encode()]
    return np.random.default_rng(np.random.SeedSequence(words))
