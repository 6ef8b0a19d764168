"""The stored run that a notebook wants, or a new one."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import product

from tsp import models
from tsp.precision import check_known
from tsp.runs import Run, Store
from tsp.spec import RunSpec
from tsp.sweep import Events, Job, ensure, jobs_of


def find_or_train(
    store: Store,
    spec: RunSpec,
    *,
    device: str = "auto",
    precision: str = "auto",
    events: Events | None = None,
) -> Run:
    """Longest stored run of a spec, whatever its number of epochs, or a new one of as many as told.

    Parameters
    ----------
    store
        Where to look, and where a new run goes.
    spec
        What is wanted; a stored run fits if all but ``epochs`` and the problem's place agree.
    device
        As `tsp.models.load` takes it.
    precision
        As `tsp.precision.choose` takes it; with ``auto`` a stored run of any precision fits.
    events
        Whom to tell of the training.

    Raises
    ------
    InputError
        If the very run is stored in another precision than the one asked for.
    """
    (job,) = jobs_of([spec])
    check_known(precision)
    fitting = [run for run in store.sound()[0] if _fits(run, job)]
    alike = [run for run in fitting if precision in ("auto", run.precision)]
    if alike:
        return max(alike, key=lambda run: run.spec.epochs)
    (run_id,) = ensure([spec], store, device=device, precision=precision, events=events)
    return store.read(run_id)


def find_together(
    store: Store, specs: Sequence[RunSpec], *, data: str = "", prompts: bool = True
) -> list[Run]:
    """Runs of several specs on the same problems: the longest of the store, or new ones.

    Parameters
    ----------
    store
        Where to look, and where new runs go.
    specs
        What is wanted, but for the problems' source; a stored run fits as in `find_or_train`.
    data
        The source, as `RunSpec` takes it. Empty: stored runs from any source will do that have
        the specs' ``problem``, and the shipped problems where there are none.
    prompts
        Whether a stored run from any source must have kept its prompts.
    """
    whole = [] if data else _by_problems(store, specs, prompts=prompts)
    if whole:
        most = max(whole, key=lambda mine: sum(run.spec.epochs for run in mine.values()))
        return [most[spec] for spec in specs]
    return [find_or_train(store, spec.but(data=data or "shipped")) for spec in specs]


def _by_problems(
    store: Store, specs: Sequence[RunSpec], *, prompts: bool
) -> list[dict[RunSpec, Run]]:
    """For all problems on which every spec has a stored run: the longest run of each."""
    found: dict[tuple[str, ...], dict[RunSpec, Run]] = defaultdict(dict)
    runs = [run for run in store.sound()[0] if run.prompt_epochs or not prompts]
    for run, spec in product(runs, specs):
        if run.spec.problem == spec.problem and _alike(run, spec):
            mine = found[tuple(it["sha256"] for it in run.record["problems"])]
            mine[spec] = max(mine.get(spec, run), run, key=lambda it: it.spec.epochs)
    return [mine for mine in found.values() if mine.keys() == set(specs)]


def _alike(run: Run, spec: RunSpec) -> bool:
    """Whether two trainings agree in all but the problems and the number of epochs."""
    place = {"data": spec.data, "problem": spec.problem, "snapshot_every": spec.snapshot_every}
    return run.spec.but(**place, epochs=spec.epochs) == spec


def _fits(run: Run, job: Job) -> bool:
    spec = job.spec
    same = run.spec.id(job.problems, model=models.fingerprint(spec.model)) == run.id
    return _alike(run, spec) and same
