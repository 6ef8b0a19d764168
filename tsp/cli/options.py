"""The options of `tsp run`: one for each field of `RunSpec`, with its name, type and default."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, Any, TypeVar

import typer

F = TypeVar("F", bound=Callable[..., Any])

# What each option of `tsp run` means; names, types and defaults are those of RunSpec's fields.
RUN_HELP = {
    "model": "Model: a name `tsp doctor` lists, a hub id or a local folder.",
    "task": "gsm8k, mmlu_cf, longbench, math, bbh or hotpotqa.",
    "data": "shipped, hub, or a folder DIR that holds TASK.jsonl.",
    "regime": "single: one problem; multi: ten, K to K+9.",
    "problem": "K: the K-th problem, from 0.",
    "method": "Added to the cross-entropy: ce (nothing), tsloss, l2, pairwise, persistence, sham.",
    "lambda_ts": "Weight of the regularizer.",
    "protocol": "paper, tuned (its learning rate raised) or released (the public code's).",
    "placement": "Where the prompt goes: after_question or prefix.",
    "n_tokens": "Rows of the prompt.  [default: the protocol's]",
    "lr": "Learning rate.  [default: the protocol's]",
    "epochs": "Stop after so many; the schedule stays the protocol's.  [default: the protocol's]",
    "seed": "Of the initial prompt and of the problems' order.",
    "init": "gaussian, repeated, vocabulary, question or trained.  [default: the protocol's]",
    "early_stop": "Stop at the first check at which all is correct.",
    "check_every": "Epochs between two checks.  [default: the protocol's]",
    "snapshot_every": "Epochs between two stored prompts.  [default: the protocol's]",
    "max_new_tokens": "Longest answer at a check; 0: the reference's length plus 32.",
    "embed_scale": "Factor on the prompt at the model's input.",
    "wrong_answers": "Train on the answer of another problem.",
    "tau": "TSLoss: temperature of the soft nearest neighbour.",
    "alpha": "TSLoss: sharpness of delta and zeta.",
    "beta_h0": "TSLoss: weight of the H0 term.",
    "beta_h1": "TSLoss: weight of the H1 term.",
    "lambda_repel": "TSLoss: weight of repulsion.",
    "lambda_attract": "TSLoss: weight of attraction.",
    "self_pairs": "TSLoss: keep i = j in every sum, as printed.",
    "detach_thresholds": "TSLoss: no gradient through delta and zeta.",
    "weighting": "TSLoss: fixed, or gradient: its terms as long as the cross-entropy's gradient.",
    "schedule": "Learning rate schedule: linear or constant.  [default: the protocol's]",
    "warmup_fraction": "Share of all steps that warm up.  [default: the protocol's]",
    "clip_norm": "Largest norm of the gradient; 0: no clipping.",
    "init_run": "With --init trained: stored run whose last prompt is the first one here.",
    "rounding": "Compute the same run differently: precision, threads or bank; empty: as planned.",
}


def with_spec_options(command: F) -> F:
    """Give a command one option per field of `RunSpec`, with its type and default."""
    from tsp.training.spec import RunSpec

    own = [p for p in inspect.signature(command).parameters.values() if p.name != "spec"]
    options = [
        inspect.Parameter(
            item.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=item.default,
            annotation=Annotated[
                item.type if item.default is not None else item.type | None,  # type: ignore[operator]
                typer.Option(help=RUN_HELP[item.name], show_default=item.default is not None),
            ],
        )
        for item in fields(RunSpec)
    ]

    @functools.wraps(command)
    def wrapper(**given: Any) -> Any:
        chosen = {item.name: given.pop(item.name) for item in fields(RunSpec)}
        return command(spec=RunSpec(**chosen), **given)

    wrapper.__signature__ = inspect.Signature(options + own)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in options + own}
    return wrapper  # type: ignore[return-value]
