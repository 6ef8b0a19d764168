"""Null models: prompts that move as far as training moved them, in random directions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tsp.errors import InputError


def walk(first: Any, lengths: Sequence[float], *, seed: int, straight: bool = False) -> np.ndarray:
    """Move a prompt as far as training moved it, in random directions.

    Parameters
    ----------
    first
        The prompt it starts from, (n, d): array or tensor.
    lengths
        Length of each step in the Frobenius norm, such as the column ``moved`` of a run's epochs.
    seed
        Seed of the directions.
    straight
        Keep the first direction instead of drawing one for every step, so that all steps add up.

    Returns
    -------
    ndarray
        The prompt before and after every step, (len(lengths) + 1, n, d), float64.

    Notes
    -----
    A direction is uniform on the sphere of all n d coordinates. Coordinates then behave like
    independent Gaussian ones, so a random walk of E equal steps of length l turns a prompt
    N(0, s² I) into about N(0, (s² + E l²/(n d)) I): the cloud grows and keeps its shape.
    """
    start, steps = np.asarray(first, dtype=np.float64), np.asarray(lengths, dtype=np.float64)
    if start.ndim != 2:
        raise InputError("first", start.shape, "give one prompt, (n, d)")
    if not (np.isfinite(steps).all() and (steps >= 0).all()):
        raise InputError("lengths", steps.tolist(), "give finite numbers of at least 0")
    rng, path, moved = np.random.default_rng(seed), [start], np.zeros_like(start)
    for step, length in enumerate(steps):
        if step == 0 or not straight:
            direction = rng.standard_normal(start.shape)
            direction /= np.linalg.norm(direction)
        moved = moved + length * direction
        path.append(start + moved)
    return np.stack(path)


def displaced(first: Any, last: Any, *, seed: int) -> np.ndarray:
    """Move every vector of a prompt (n, d) as far as training moved it, in a random direction.

    ``first`` and ``last`` are the prompt before and after training. Vectors move by unequal
    lengths, as trained ones do, and independently; the result is float64.
    """
    start, end = np.asarray(first, dtype=np.float64), np.asarray(last, dtype=np.float64)
    if start.shape != end.shape or start.ndim != 2:
        raise InputError("last", end.shape, f"give a prompt like the first, {start.shape}")
    directions = np.random.default_rng(seed).normal(size=start.shape)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return start + np.linalg.norm(end - start, axis=1, keepdims=True) * directions
