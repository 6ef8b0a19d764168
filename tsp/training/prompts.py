"""Soft prompts: their initial values, and what the model receives of them."""

import math
from collections.abc import Sequence
from functools import cache
from itertools import cycle, islice
from typing import TYPE_CHECKING

import torch

from tsp.errors import InputError
from tsp.training.spec import RunSpec

if TYPE_CHECKING:  # transformers takes seconds to import, and reading a prompt needs no model
    from tsp.training.base_lm import BaseLM

REPEATED_TOKEN = "x "  # what the authors' public code repeats


def prompt_dtype(frozen: "BaseLM") -> torch.dtype:
    """Prompts, their gradients and the optimiser's state are float32, or float64 with the model."""
    return torch.float64 if frozen.dtype == torch.float64 else torch.float32


def initial_prompt(
    spec: RunSpec,
    frozen: "BaseLM",
    generator: torch.Generator,
    *,
    questions: Sequence[str] = (),
    start: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the first prompt, shape (n, d), as ``spec.init`` has it (default: section 4.2).

    Drawn on the CPU whatever the device, so that a seed means the same everywhere.

    Parameters
    ----------
    questions
        Questions of the problems trained on, for ``init="question"``.
    start
        Shape (n, d), for ``init="trained"``.

    Raises
    ------
    InputError
        If the vocabulary has fewer than n tokens, or ``start`` has another shape or is missing.
    """
    n = spec.n_tokens
    if spec.init == "gaussian":
        start = torch.randn(n, frozen.dim, generator=generator) * spec.settings.init_std
    elif spec.init == "repeated":
        token = frozen.tokenizer(REPEATED_TOKEN, add_special_tokens=False)["input_ids"][:1]
        start = frozen.embed(tuple(token)).expand(n, -1)
    elif spec.init == "question":
        ids = frozen.tokenizer(" ".join(questions), add_special_tokens=False)["input_ids"]
        start = frozen.embed(tuple(islice(cycle(ids), n)))
    elif spec.init == "trained":
        start = checked_start(spec, start, frozen.dim)
    else:
        rows = torch.randperm(len(frozen.vocabulary), generator=generator)[:n]
        if len(rows) < n:
            raise InputError("n_tokens", n, f"the vocabulary has {len(rows)} tokens to draw from")
        start = frozen.embed(tuple(rows.tolist()))
    return start.detach().to(frozen.device, prompt_dtype(frozen), copy=True).contiguous()


def checked_start(spec: RunSpec, start: torch.Tensor | None, dim: int) -> torch.Tensor:
    """Return the trained prompt that a run begins with, if it has the run's shape (n, d).

    Raises
    ------
    InputError
        If it is missing or has another shape.
    """
    if start is None:
        raise InputError("init_run", spec.init_run, "gave no prompt")
    if start.shape != (spec.n_tokens, dim):
        given, needed = tuple(start.shape), (spec.n_tokens, dim)
        why = f"its prompt has shape {given}, this run needs {needed}"
        raise InputError(
            "init_run", spec.init_run, f"{why}; name a run with the same n_tokens and model"
        )
    return start


@cache
def position_code(n: int, dim: int) -> torch.Tensor:
    """Sinusoidal position code, shape (n, d), which protocol ``released`` adds to the prompt."""
    rates = torch.exp(torch.arange(0, dim, 2, dtype=torch.float32) * (-math.log(10_000.0) / dim))
    angles = torch.arange(n, dtype=torch.float32)[:, None] * rates
    code = torch.zeros(n, dim)
    code[:, 0::2], code[:, 1::2] = angles.sin(), angles.cos()[:, : dim // 2]
    return code


def as_input(prompt: torch.Tensor, spec: RunSpec) -> torch.Tensor:
    """Turn a prompt, shape (n, d), into what the model receives, before it takes its dtype."""
    received = prompt if spec.embed_scale == 1 else prompt * spec.embed_scale
    if spec.settings.position_code:
        received = received + position_code(*prompt.shape).to(prompt)
    return received
