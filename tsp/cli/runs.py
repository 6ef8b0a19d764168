"""``tsp runs``: list, show, verify, pack, unpack and repeat stored runs."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from tsp.cli.terminal import JsonOption, RunsOption, emit, open_store, records, say
from tsp.errors import Damaged, InputError, one_line

app = typer.Typer(help="List, show and verify stored runs.", no_args_is_help=True)
LISTED = ["id", "model", "task", "regime", "problem", "method", "lambda_ts", "protocol"]
LISTED += ["seed", "epochs", "solved_epoch"]


@app.command("list")
def list_runs(runs: RunsOption = None, as_json: JsonOption = False) -> None:
    """List the stored runs; damaged ones are named on standard error.

    Only the records are verified; `tsp runs verify` reads every byte.
    """
    store = open_store(runs, warn=True)
    frame = store.frame()
    text = frame[LISTED].to_string(index=False, na_rep="–", float_format="{:g}".format)
    if frame.empty:
        text = f"no runs in {store.root}; `tsp run` or `tsp sweep` makes some"
    emit(records(frame), as_json, text)


@app.command("show")
def show_run(
    run: Annotated[str, Argument(help="Id of a stored run.")],
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one run: what was trained, how it went, and what the prompt answers."""
    from tsp.store.runs import Store

    stored = Store(runs).read(run)
    emit(stored.record, as_json, describe(stored))


def describe(run: Any) -> str:
    """Return a run as text: its spec, a line for each check, its outcome."""
    record, spec, outcome = run.record, run.spec, run.record["outcome"]
    lines = [f"run {run.id}: {spec.label}, {spec.model}, {outcome['epochs_trained']} epochs"]
    for row in run.checks.to_dict("records"):
        mark = "correct" if row["correct"] else "       "
        # Published runs keep no answers to problems that are not shipped.
        answer = one_line(" ".join(row.get("answer", "").split()))[:90]
        tokens = f"{row['matched_tokens']:>3}/{row['target_tokens']} tokens"
        number = f"  problem {row['problem']}" if len(record["problems"]) > 1 else ""
        lines.append(f"  epoch {row['epoch']:>3}{number}  {mark}  {tokens}  {answer}")
    asked = run.checks.groupby("epoch").size()
    if (asked < len(record["problems"])).any():
        lines.append("A check with fewer lines than problems ended at a wrong answer.")
    place = f"{record['seconds']:.0f} s on {record['device']}, {run.precision}; {run.folder}"
    return "\n".join([*lines, f"{_solved(outcome['solved_epoch'])}; {place}"])


def _solved(epoch: int | None) -> str:
    return "never all correct" if epoch is None else f"first all correct at epoch {epoch}"


@app.command("verify")
def verify_runs(runs: RunsOption = None, as_json: JsonOption = False) -> None:
    """Check every file of every run against its checksum; exit 1 if one is damaged."""
    problems = open_store(runs).verify_all()
    damaged = [why for why in problems.values() if why]
    if not as_json:
        say("\n".join(dict.fromkeys(damaged)), err=True)
    rows = [{"id": i, "sound": not why, "problem": why} for i, why in problems.items()]
    emit(rows, as_json, f"{len(problems) - len(damaged)} runs are sound, {len(damaged)} damaged")
    if damaged:
        raise typer.Exit(1)


@app.command("pack")
def pack_runs(
    file: Annotated[Path, Argument(help="The Parquet file to write.", dir_okay=False)],
    runs: RunsOption = None,
    run: Annotated[list[str] | None, Option(help="Id of a run; may be repeated.")] = None,
    experiment: Annotated[str, Option(help="Only runs of this experiment (profile full).")] = "",
    publish: Annotated[bool, Option("--publish", help="Make the file small and public.")] = False,
    prompts: Annotated[int, Option(help="With --publish: runs that keep prompts.", min=0)] = 0,
    remove: Annotated[bool, Option("--remove", help="Then remove the runs' folders.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write runs into one file: to take them to another host, to publish or to read them fast.

    --publish leaves out texts of other projects, and runs that another archive
    in the file's folder holds; runs without a regularizer keep their prompts
    first. --remove needs a file in the store.
    """
    store = open_store(runs)
    if remove and (publish or file.parent.resolve() != store.root.resolve()):
        raise InputError("remove", str(file), "name a file in the store, without --publish")
    if prompts and not publish:
        raise InputError("prompts", prompts, "counts runs to publish; give --publish too")
    ids = run or store.ids()
    if experiment:
        from tsp.experiments.catalogue import belongs

        members = {r.id for r in store.valid_runs()[0] if belongs(r.spec, experiment, "full")}
        ids = [run_id for run_id in ids if run_id in members]
    ids = store.pack(file, ids, publish=publish, prompts=prompts)
    if remove:
        store.remove_packed(file)
    size = file.stat().st_size
    data = {"file": str(file), "runs": len(ids), "bytes": size, "ids": ids}
    emit(data, as_json, f"{len(ids)} runs in {file}, {size / 2**20:.1f} MiB")


@app.command("unpack")
def unpack_runs(
    files: Annotated[list[Path], Argument(help="Archives.", exists=True, dir_okay=False)],
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify the runs in archives and add those that the store lacks; nothing is overwritten."""
    from tsp.store.runs import Store

    store, rows, lines = Store(runs), [], []
    for file in files:
        try:
            added, present, damaged = store.unpack(file)
        except Damaged as error:
            raise InputError("files", str(file), str(error)) from error
        say("\n".join(damaged.values()), err=True)
        rows.append({"file": str(file), "added": added, "present": present, "damaged": damaged})
        lines.append(
            f"{file.name}: {len(added)} runs added to {store.root}, "
            f"{len(present)} already there, {len(damaged)} damaged"
        )
    emit(rows, as_json, "\n".join(lines))
    if any(row["damaged"] for row in rows):
        raise typer.Exit(1)


@app.command("repeat")
def repeat_runs(
    run: Annotated[list[str] | None, Argument(help="Ids of runs; else some are drawn.")] = None,
    runs: RunsOption = None,
    data: Annotated[str, Option(help="Folder of the problems that are not shipped here.")] = "",
    count: Annotated[int, Option("--many", help="Number of runs to draw.", min=1)] = 3,
    seed: Annotated[int, Option(help="Seed of the draw.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Train stored runs again, as they were trained, and compare; exit 1 if one differs."""
    from tsp.experiments.repeat import repeat, sample

    store = open_store(runs)
    ids = run or sample(store, count, seed=seed)
    if not ids:
        raise InputError("runs", str(store.root), "holds no run that was made on a CPU in a bank")
    rows, lines = repeat(store, ids, data=data, say=lambda text: say(text, err=True)), []
    for row in rows:
        then, now = (_solved(row[name]) for name in ("solved_epoch", "again"))
        verdict = "the same" if row["same"] else "DIFFERENT"
        text = f"then {then}, now {now}; ce differs by {row['ce']:.1g}"
        lines.append(f"{row['id']}  {verdict}: {text}")
    emit(rows, as_json, "\n".join(lines))
    if not all(row["same"] for row in rows):
        raise typer.Exit(1)
