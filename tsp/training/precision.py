"""Precision of the training passes: as asked for, or bfloat16 where the device is fast at it."""

import logging

import torch

from tsp.errors import InputError
from tsp.training.base_lm import BaseLM
from tsp.training.memory import SHARE, free_memory, weight_bytes
from tsp.training.products import cpu_info

log = logging.getLogger(__name__)
PRECISIONS = ("auto", "float32", "bfloat16")
SMALL = 10_000_000  # weights below which a pass is over before precision matters
FAST_FLAGS = {"amx_bf16", "avx512_bf16"}  # of processors that multiply bfloat16 natively
FAST_CAPABILITY = (8, 0)  # CUDA capability from which tensor cores take bfloat16


def choose(wanted: str, frozen: BaseLM, *, device: str | None = None) -> str:
    """Return the precision of the training passes.

    Prompts, losses and the optimiser's state are float32 in any case, and checks are decided in
    the precision the model was loaded in.

    Parameters
    ----------
    wanted
        One of `PRECISIONS`. ``auto`` is bfloat16 if the device computes it fast, the model is
        float32, not tiny and entirely loaded, and there is room for a copy of its weights.
    frozen
        The model, with weights or on ``meta``.
    device
        Where it will train; default where the model is.

    Raises
    ------
    InputError
        If there is no such precision.
    """
    check_known(wanted)
    place = device or str(frozen.device)
    if wanted == "bfloat16" and not fast_bfloat16(place):
        log.warning(
            "bfloat16 is slow on this %s (two Zen 3 cores: 15 times as long as float32); runs that "
            "are stored in bfloat16 keep a sweep in it, so choose float32 in another store",
            torch.device(place).type,
        )
    if wanted != "auto":
        return wanted
    size = sum(weight.numel() for weight in frozen.model.parameters())
    eligible = frozen.dtype == torch.float32 and size >= SMALL and not frozen.waiting
    if not eligible or not fast_bfloat16(place):
        return "float32"
    fits = weight_bytes(frozen, torch.bfloat16) < SHARE * free_memory(place)
    return "bfloat16" if fits or torch.bfloat16 in frozen.copies else "float32"


def fast_bfloat16(device: str) -> bool:
    """Return whether a device multiplies bfloat16 matrices faster than float32 ones."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_capability(device) >= FAST_CAPABILITY
    return not FAST_FLAGS.isdisjoint(cpu_info("flags").split())


def check_known(wanted: str) -> None:
    """Raise if a word is not the name of a precision."""
    if wanted not in PRECISIONS:
        raise InputError("precision", wanted, f"choose one of {', '.join(PRECISIONS)}")
