"""``tsp run`` and ``tsp sweep``: train prompts and store the runs."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from tsp.cli.runs import describe
from tsp.cli.terminal import DeviceOption, JsonOption, RunsOption, emit, records, say
from tsp.errors import InputError
from tsp.training.stopping import CHECKPOINT_SECONDS, on_signals

TensorBoardOption = Annotated[
    Path | None, Option(help="Write live curves of each run to DIR.", metavar="DIR")
]
PrecisionOption = Annotated[str, Option(help="auto (the faster one), float32 or bfloat16.")]
CheckpointOption = Annotated[float, Option(help="Seconds between checkpoints, to resume.", min=0)]
ExperimentArgument = Annotated[str, Argument(help="all, phenomenon, table3, table4, figure5 …")]
BankOption = Annotated[
    int | None, Option(help="Runs trained together (default: 8; on a GPU 64).", min=1)
]


class Engine(StrEnum):
    """Where a sweep's banks are trained."""

    local = "local"
    ray = "ray"


EngineOption = Annotated[Engine, Option(help="Train on this machine or on a Ray cluster.")]
AddressOption = Annotated[str, Option(help="Address of the cluster (default: $RAY_ADDRESS).")]


def run(
    *,
    spec: Any,
    runs: RunsOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    checkpoint: CheckpointOption = CHECKPOINT_SECONDS,
    plan: Annotated[
        bool, Option("--plan", help="Print the memory it would need, and stop.")
    ] = False,
    tensorboard: TensorBoardOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train one prompt, check its answers while it learns, and store the run."""
    from tsp.experiments.sweep import ensure
    from tsp.store.runs import Store

    if plan:
        _show_memory(spec, device, precision, as_json=as_json)
        return
    store = Store(runs)
    with _training(checkpoint, tensorboard) as options:
        options |= {"device": device, "precision": precision}
        (run_id,) = ensure([spec], store, name="single", **options)
    stored = store.read(run_id)
    emit(stored.record, as_json, describe(stored))


def sweep(
    experiment: ExperimentArgument,
    profile: Annotated[str, Option(help="smoke, quick, full or paper.")] = "quick",
    engine: EngineOption = Engine.local,
    address: AddressOption = "",
    model: Annotated[str | None, Option(help="Replaces the profile's model.")] = None,
    data: Annotated[str | None, Option(help="shipped, hub or a folder.")] = None,
    seed: Annotated[int | None, Option(help="Replaces the profile's seeds.")] = None,
    epochs: Annotated[int | None, Option(help="Stop each run after this epoch.")] = None,
    runs: RunsOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    bank: BankOption = None,
    checkpoint: CheckpointOption = CHECKPOINT_SECONDS,
    plan: Annotated[
        bool, Option("--plan", help="Print the runs and their cost, and stop.")
    ] = False,
    tensorboard: TensorBoardOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train every run of an experiment that the store lacks; resume where it was interrupted."""
    from tsp.experiments.sweep import ensure
    from tsp.experiments.sweep_plan import render, sweep_plan
    from tsp.store.runs import Store
    from tsp.training import models

    store, cluster = Store(runs), _cluster(engine, address)
    specs = _specs(experiment, profile, model=model, data=data, seed=seed, epochs=epochs)
    place = cluster.place(device) if cluster else models.resolve_device(device)
    cost = sweep_plan(specs, store, device=place)
    if plan:
        emit(cost, as_json, render(cost))
        return
    if any(row["runs"] > row["stored"] for row in cost):
        say(render(cost), err=True)
    with _training(checkpoint, tensorboard) as options:
        options |= {"device": device, "precision": precision, "bank": bank, "engine": cluster}
        ids = ensure(specs, store, name=f"{experiment}-{profile}", **options)
    rows = records(store.frame().set_index("id", drop=False).loc[ids]) if as_json else []
    summary = f"{len(ids)} runs of '{experiment}' ({profile}, engine {engine}) in {store.root}"
    emit(rows, as_json, summary)


def _specs(experiment: str, profile: str, **changes: Any) -> list[Any]:
    """Return the runs of an experiment whose problems can be read."""
    from tsp.experiments.catalogue import experiment_specs
    from tsp.experiments.jobs import within_reach

    specs, lacking = within_reach(experiment_specs(experiment, profile, **changes))
    for why in lacking:
        say(f"left out, {why}; `--data DIR` names a folder with more", err=True)
    if not specs:
        data = changes["data"] or "shipped"
        raise InputError("data", data, "has none of the experiment's problems")
    return specs


def _show_memory(spec: Any, device: str, precision: str, *, as_json: bool) -> None:
    """Print the memory that a run would need, without loading the model's weights."""
    from dataclasses import asdict

    from tsp.experiments.jobs import jobs_of
    from tsp.training import models
    from tsp.training.members import encode_all
    from tsp.training.memory import estimate, fitted, free_memory, render
    from tsp.training.precision import choose
    from tsp.training.trainer import Plan

    place = models.resolve_device(device)
    (job,) = jobs_of([spec])
    frozen = models.load(spec.model, device="meta")
    encoded = encode_all(spec, frozen, job.problems)
    free = free_memory(place)
    place = "cuda" if place in models.DIVIDED else place
    plan = Plan(precision=choose(precision, frozen, device=place))
    plan = fitted(plan, frozen, [spec], [encoded], device=place, free=free)
    memory = estimate(frozen, [spec], [encoded], plan, device=place)
    row = {"id": job.id, "device": place, "free": free, "plan": asdict(plan)}
    row["bytes"] = asdict(memory) | {"peak": memory.peak}
    table = render(memory, plan, device=place, free=free)
    emit(row, as_json, f"{spec.label}, {spec.model}, {spec.epochs} epochs\n{table}")


def _cluster(engine: Engine, address: str) -> Any:
    """Return the Ray engine, or None for this machine."""
    if engine is Engine.ray:
        from tsp.experiments.ray_engine import Ray

        return Ray(address)
    if address:
        raise InputError("address", address, "names a Ray cluster; give --engine ray too")
    return None


@contextmanager
def _training(seconds: float, tensorboard: Path | None) -> Iterator[dict[str, Any]]:
    """Yield options for `ensure`: progress, checkpoints, and the stop at Ctrl-C or SIGTERM."""
    from tsp.experiments.banks import CheckpointPolicy
    from tsp.experiments.progress import bars

    events = bars()
    if tensorboard is not None:
        from tsp.experiments.curves import with_curves

        events = with_curves(tensorboard, events)

    def announce() -> None:
        text = "stopping after this epoch (a checkpoint will be saved)"
        with suppress(OSError, RuntimeError):  # the terminal may be gone with the same signal
            typer.echo(f"\n{text}; press Ctrl-C again to stop now", err=True)

    with on_signals(announce) as stop:
        yield {"policy": CheckpointPolicy(seconds, stop), "events": events}
