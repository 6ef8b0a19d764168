"""In which precision a model trains fastest here: a short measurement decides."""

import statistics
import time

import torch

from tsp.errors import InputError
from tsp.training.budget import SHARE, free_memory
from tsp.training.forward import Row, read
from tsp.training.memory import per_position, weight_bytes
from tsp.training.models import Encoded, Frozen

PRECISIONS = ("auto", "float32", "bfloat16")
SMALL = 10_000_000  # weights below which a pass is over before precision matters
GAIN = 0.9  # bfloat16 is chosen where it takes at most this part of float32's time
REPEATS = 3
LENGTH = 40 + 10 + 60 - 1  # positions of a row that is measured
ROWS = {"cpu": 2, "cuda": 64}  # fewer would measure how fast a GPU is asked, not how it computes


def choose(wish: str, frozen: Frozen) -> str:
    """Precision of the training passes: the one asked for, or the faster one for ``auto``.

    Prompts, losses and the optimiser's state are float32 in any case, and checks are decided in
    the precision the model was loaded in.

    Raises
    ------
    InputError
        If there is no such precision.
    """
    check_known(wish)
    if wish != "auto":
        return wish
    if most_likely(wish, frozen) == "float32" or frozen.waiting:
        return "float32"
    left = SHARE * free_memory(str(frozen.device)) - weight_bytes(frozen, torch.bfloat16)
    many = int(left // (LENGTH * per_position(frozen, frozen.dtype)))
    if many < 1:  # no room for a copy of the weights
        return "float32"
    rows = _rows(frozen, many)
    wide, low = (frozen, frozen.at(torch.bfloat16))
    times: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    for repeat in range(REPEATS + 1):
        for name, model in (("float32", wide), ("bfloat16", low)):
            seconds = _timed(model, rows)
            if repeat:  # the first pass warms up
                times[name].append(seconds)
    plain, fast = (statistics.median(times[name]) for name in ("float32", "bfloat16"))
    if fast <= GAIN * plain:
        return "bfloat16"
    del frozen.copies[torch.bfloat16]  # it is not needed after all
    return "float32"


def most_likely(wish: str, frozen: Frozen) -> str:
    """What `choose` would say, or the one that takes more memory where it has to measure."""
    if wish != "auto":
        return wish
    weights = sum(weight.numel() for weight in frozen.model.parameters())
    return "float32" if frozen.dtype != torch.float32 or weights < SMALL else "bfloat16"


def check_known(wish: str) -> None:
    """Refuse what is no precision of training passes."""
    if wish not in PRECISIONS:
        raise InputError("precision", wish, f"choose one of {', '.join(PRECISIONS)}")


def _rows(frozen: Frozen, most: int) -> list[Row]:
    """Rows of the usual size, a prompt of 40 among 70 tokens, as many as a bank has or as fit."""
    coded = Encoded((), tuple(range(10)), tuple(range(60)))
    prompt = torch.zeros(40, frozen.dim, device=frozen.device).normal_(0, 0.02)
    many = min(most, ROWS.get(frozen.device.type, ROWS["cpu"]))
    return [Row(prompt.requires_grad_(), coded)] * many


def _timed(frozen: Frozen, rows: list[Row]) -> float:
    begun = time.perf_counter()
    loss = read(frozen, rows).losses.sum()
    torch.autograd.grad(loss, rows[0].prompt)
    if frozen.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun
