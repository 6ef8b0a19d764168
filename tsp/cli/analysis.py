"""``tsp report``, ``heldout``, ``analyze`` and ``export``: what trained prompts show."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from tsp.cli.terminal import DeviceOption, JsonOption, RunsOption, emit, open_store, records, say


def report(runs: RunsOption = None, as_json: JsonOption = False) -> None:
    """Print every claim of the paper with its verdict, effect, interval and printed value."""
    from tsp.analysis.tables import claims, effect, headline

    store = open_store(runs, warn=True)
    if not (as_json or store.valid_runs()[0]):
        say(headline(store))
        return
    table = claims(store)
    if as_json:
        ends = zip(table.low, table.high, table.low.notna() & table.high.notna(), strict=True)
        table["interval"] = [[low, high] if known else None for low, high, known in ends]
        emit(records(table), as_json)
        return
    for row in table.to_dict("records"):
        margin = f"; margin: {row['margin']}" if row["margin"] else ""
        typer.secho(row["verdict"], bold=True, nl=False)
        say(f"  {row['id']} ({row['source']}): {row['statement']}")
        about = f"protocol {row['protocol']}, n = {row['n']}. {row['why']}"
        say(f"    effect {effect(row)}{margin}. {about}")
        if row["own"]:
            say(f"    your own runs: {row['own']}, n = {row['own_n']}")


def heldout(
    data: Annotated[str, Option(help="hub, a folder, or shipped (few problems).")],
    task: Annotated[str, Option(help="Task of the prompts and of the problems.")] = "gsm8k",
    model: Annotated[str | None, Option(help="Model (default: the embedded one).")] = None,
    first: Annotated[int, Option(help="Row of the first problem.", min=0)] = 100,
    count: Annotated[int, Option("--many", help="Number of problems, in tens.", min=10)] = 50,
    protocol: Annotated[str, Option(help="Protocol the prompts were trained by.")] = "tuned",
    regime: Annotated[str, Option(help="Prompts of one problem (single) or ten.")] = "single",
    decode: Annotated[bool, Option(help="Decode answers, beside the cross-entropy.")] = True,
    runs: RunsOption = None,
    device: DeviceOption = "auto",
    precision: Annotated[str, Option(help="float32 or bfloat16.")] = "float32",
    as_json: JsonOption = False,
) -> None:
    """Test each method's prompts, and the bare model, on problems they were not trained on."""
    from tsp.analysis.evaluation import ask
    from tsp.store.runs import Store
    from tsp.training.model_cards import DEFAULT

    answers = ask(
        Store(runs),
        task=task,
        model=model or DEFAULT,
        data=data,
        rows=range(first, first + count),
        protocol=protocol,
        regime=regime,
        decode=decode,
        device=device,
        precision=precision,
        tell=lambda done, total: say(f"{done} of {total} problems asked", err=True),
    )
    measured = answers.groupby("method", sort=False).agg(
        right=("correct", "mean"), answers=("correct", "count"), ce=("ce", "mean")
    )
    lines = []
    for method, (right, decoded, ce) in measured.iterrows():
        shares = f"{right:6.1%} of {decoded:.0f} answers right, " if decoded else ""
        lines.append(f"{method!s:<12} {shares}cross-entropy {ce:.3f} nats per token")
    emit(records(measured.reset_index()), as_json, "\n".join(lines))


def analyze(
    prompt: Annotated[str, Argument(help="An adapter, a file, or a folder of files.")],
    plot: Annotated[Path | None, Option(help="Draw a figure into FILE.", metavar="FILE")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show the topology of soft prompts, whoever trained them, and their TSLoss.

    The prompt is a PEFT adapter (folder or hub id), a .npy, .safetensors or
    .pt file of shape (n, d) or (B, n, d), or a folder of such files or of a
    stored run: a trajectory. The figure shows its barcode and diagram, or its
    curves.
    """
    from tsp.interop.clouds import load_clouds, summaries

    table, diagrams = summaries(load_clouds(prompt))
    if plot:
        from tsp.figures.clouds import save_figure

        save_figure(plot, table, diagrams)
    rows = records(table)
    layout = {"float_format": "{:.6g}".format, "index": len(rows) == 1, "header": len(rows) > 1}
    text = (table if len(rows) > 1 else table.T).to_string(**layout)
    for row, bars in zip(rows, diagrams, strict=True):
        row["diagrams"] = {k: pairs.tolist() for k, pairs in bars.items()}
    emit(rows if len(rows) > 1 else rows[0], as_json, text)
    if plot:
        say(f"Figure: {plot}", err=True)


def export(
    run: Annotated[str, Argument(help="Id of a stored run.")],
    to: Annotated[Path, Option(help="New folder for the adapter.", metavar="DIR")],
    epoch: Annotated[int | None, Option(help="Epoch of the prompt; else the last.")] = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a run's prompt as a PEFT prompt-tuning adapter."""
    from tsp.interop.peft import export_peft
    from tsp.store.runs import Store
    from tsp.training.model_cards import MODELS

    stored = Store(runs).read(run)
    spec = stored.spec
    last = max(stored.prompt_epochs, default=0) if epoch is None else epoch
    base = MODELS[spec.model].hub_id if spec.model in MODELS else spec.model
    export_peft(stored.prompt(last), spec=spec, hub_id=base, folder=to)
    data = {"id": run, "epoch": last, "adapter": str(to), "base_model": base}
    data |= {"placement": spec.placement}
    emit(data, as_json, f"Adapter of run {run} at epoch {last}: {to}")
    if spec.placement != "prefix":
        why = "PEFT puts a prompt before everything; this one was trained after the question"
        page = "the book's page on your own tools has ten lines that keep it there"
        say(f"{why}, so the adapter will not behave the same; {page}", err=True)
