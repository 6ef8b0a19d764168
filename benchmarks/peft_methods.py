"""TSLoss on PEFT's other prompts, p-tuning and prefix tuning, as PEFT trains them."""

from collections.abc import Callable
from typing import Any

from benchmarks.measuring import environment
from tsp.interop.peers import KINDS, with_peft
from tsp.problems.loading import load_problems
from tsp.topology.diagrams import summarize
from tsp.training import models
from tsp.training.spec import RunSpec

PROBLEMS = {"mmlu_cf": range(4)}
SHOWN = ("h1_count", "h0_mean_lifespan", "h0_mean_lifespan_scaled", "persistence_entropy")
RATES = {"prompt tuning": 1e-2, "p-tuning": 1e-3, "prefix tuning": 1e-2}
"""Learning rates, chosen by hand; rows say which was used."""
EPOCHS = 60


def compare(
    *, model: str = models.DEFAULT, tell: Callable[[str], None] = lambda name: None
) -> list[dict[str, Any]]:
    """Train each of `tsp.interop.peers.KINDS` without and with TSLoss, on the same problems.

    Parameters
    ----------
    model
        A name that `tsp.training.models.load` takes.
    tell
        Called with the name of each run before it begins.

    Returns
    -------
    list of dict
        One row a run: ``kind task problem method lr epochs solved``, the number of ``vectors`` and
        their ``dimension``, topology of them before (``*_first``) and after (``*_last``), the
        model, and the environment.
    """
    frozen, rows = models.load(model), []
    for task, numbers in PROBLEMS.items():
        for number in numbers:
            problems = load_problems(task, problem=number)
            for kind in KINDS:
                for method in ("ce", "tsloss"):
                    tell(f"{kind}, {task} {number}, {method}")
                    spec = RunSpec(
                        model=model,
                        task=task,
                        problem=number,
                        method=method,
                        placement="prefix",
                        lr=RATES[kind],
                        epochs=EPOCHS,
                        early_stop=True,
                    )
                    done = with_peft(spec, frozen, problems, kind=kind)()
                    ends = summarize(done.vectors)[list(SHOWN)]
                    told = {f"{name}_first": ends[name].iloc[0] for name in SHOWN}
                    told |= {f"{name}_last": ends[name].iloc[1] for name in SHOWN}
                    about = {"kind": kind, "task": task, "problem": number, "method": method}
                    about |= {"lr": spec.lr, "epochs": done.epochs, "solved": done.solved}
                    about |= {"vectors": done.vectors.shape[1], "dimension": done.vectors.shape[2]}
                    told = {name: float(value) for name, value in told.items()}
                    rows.append(about | told | {"model": model} | environment())
    return rows
