"""What a sweep is about to do: its runs, the operations they take, how long such runs took."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from tsp.errors import InputError
from tsp.experiments.sweep import Job, jobs_of
from tsp.store.runs import Store
from tsp.training import models
from tsp.training.flops import arithmetic
from tsp.training.members import encode_all
from tsp.training.spec import RunSpec

KEY = ("model", "protocol", "task", "regime")
COLUMNS = (*KEY, "runs", "stored", "epochs", "steps", "operations", "hours", "left_out")


def outlook(specs: Iterable[RunSpec], store: Store, *, device: str = "cpu") -> list[dict[str, Any]]:
    """Plan the compute of a sweep before anything is trained.

    Parameters
    ----------
    specs
        Runs that are wanted.
    store
        Where some of them may be already.
    device
        On which stored runs have to have been made for their time to count.

    Returns
    -------
    list
        `COLUMNS`, one dict a model, protocol, task and regime: ``runs`` that are wanted, of which
        so many are ``stored`` or, longer than what the model reads, ``left_out``. Of the rest:
        ``epochs`` and ``steps`` of all together; ``operations`` of their steps, in 10^15, checks
        not counted (`tsp.training.flops.arithmetic`); ``hours``, checks included, if an epoch of a
        run takes as long as in the stored runs of the row on such a device, None without those.
    """
    frozen: dict[str, models.Frozen] = {}
    groups: dict[tuple[str, ...], list[Job]] = defaultdict(list)
    for job in jobs_of(specs):
        groups[tuple(str(getattr(job.spec, name)) for name in KEY)].append(job)
    took = _seconds_an_epoch(store, device)
    rows = []
    for key, jobs in groups.items():
        model = key[0]
        if model not in frozen:
            frozen = {model: models.load(model, device="meta")}
        told = [*key, *_effort(jobs, frozen[model], store, took.get(key))]
        rows.append(dict(zip(COLUMNS, told, strict=True)))
    return rows


def render(plan: Sequence[dict[str, Any]]) -> str:
    """A plan as text, with a line of sums."""
    lines = [[_shown(row[name]) for name in COLUMNS] for row in plan]
    heads = [name.replace("_", " ").replace("operations", "10^15 op.") for name in COLUMNS]
    columns = list(zip(heads, *lines, strict=True))
    widths = [max(map(len, column)) for column in columns]
    text = "\n".join(
        "  ".join(
            cell.ljust(width) if k < len(KEY) else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in zip(*columns, strict=True)
    )
    sums: Counter[str] = Counter()
    for row in plan:
        sums.update({name: row[name] or 0 for name in COLUMNS[len(KEY) :]})
    told = f"{sums['runs']} runs, {sums['stored']} of them stored, {sums['left_out']} left out; "
    told += f"{sums['steps']} steps, {sums['operations']:.2g} x 10^15 operations without checks"
    known = f"; {sums['hours']:.2g} hours where the like is stored" if sums["hours"] else ""
    return f"{text}\n{told}{known}"


def _shown(value: Any) -> str:
    return "?" if value is None else f"{value:.2g}" if isinstance(value, float) else str(value)


def _effort(
    jobs: list[Job], frozen: models.Frozen, store: Store, took: float | None
) -> list[float | None]:
    """Last columns of a row."""
    missing = [job for job in jobs if job.id not in store]
    known: dict[tuple[object, ...], float] = {}
    epochs = steps = left_out = 0
    operations = 0.0
    for job in missing:
        spec = job.spec
        try:
            encode_all(spec, frozen, job.problems)
            every = 0.0
            for problem in job.problems:
                kind = (problem.sha256, spec.placement, spec.n_tokens)
                if kind not in known:
                    known[kind] = arithmetic(frozen, problem, spec)["ours"] / 1e6
                every += known[kind]
        except InputError:
            left_out += 1
            continue
        epochs += spec.epochs
        steps += spec.epochs * -(-len(job.problems) // spec.settings.batch_size)
        operations += spec.epochs * every
    hours = None if took is None else epochs * took / 3600
    counts = [len(jobs), len(jobs) - len(missing), epochs, steps]
    return [*counts, operations, hours, left_out]


def _seconds_an_epoch(store: Store, device: str) -> dict[tuple[str, ...], float]:
    """Mean time of an epoch of a run, by `KEY`, of the stored runs made on a kind of device."""
    seconds: Counter[tuple[str, ...]] = Counter()
    epochs: Counter[tuple[str, ...]] = Counter()
    for run in store.sound()[0]:
        if run.record["device"].split(":")[0] == device.split(":")[0]:
            key = tuple(str(getattr(run.spec, name)) for name in KEY)
            seconds[key] += run.record["seconds"]
            epochs[key] += run.record["outcome"]["epochs_trained"]
    return {key: seconds[key] / epochs[key] for key in seconds}
