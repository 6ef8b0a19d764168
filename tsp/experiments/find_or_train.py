"""The stored runs that a notebook shows, or new ones."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tsp.experiments.catalogue import CE, TS
from tsp.problems.loading import TASKS
from tsp.store.runs import Run, Store
from tsp.training.spec import RunSpec

Runs = dict[RunSpec, Run]


def find_or_train(store: Store, spec: RunSpec) -> Run:
    """Return the longest stored run of a spec, or train it.

    Parameters
    ----------
    spec
        Run wanted; a stored run fits if all but ``epochs`` and the problem's place agree.
    """
    # Not above: most chapters find their runs, and transformers is half the time of their imports.
    from tsp.experiments.jobs import jobs_of
    from tsp.experiments.sweep import ensure
    from tsp.training import models

    (job,) = jobs_of([spec])
    model = models.fingerprint(spec.model)
    fitting = [
        run
        for run in store.valid_runs()[0]
        if _alike(run, job.spec) and run.spec.id(job.problems, model=model) == run.id
    ]
    if fitting:
        return max(fitting, key=lambda run: run.spec.epochs)
    (run_id,) = ensure([spec], store)
    return store.read(run_id)


def find_together(
    store: Store, specs: Sequence[RunSpec], *, data: str = "", prompts: bool = True
) -> list[Run]:
    """Return runs of several specs on the same problems: the longest of the store, or new ones.

    Parameters
    ----------
    specs
        Runs wanted, except the problems' source; a stored run fits as in `find_or_train`.
    data
        Source of the problems, as `RunSpec` takes it. Empty: stored runs from any source fit if
        they have the specs' ``problem``; without any, the shipped problems are used.
    prompts
        Whether a stored run from any source must have kept its prompts.
    """

    def fits(run: Run, spec: RunSpec) -> bool:
        alike = run.spec.problem == spec.problem and _alike(run, spec)
        return alike and bool(run.prompt_epochs or not prompts)

    def preference(run: Run, spec: RunSpec) -> tuple[int, bool]:
        return run.spec.epochs, run.spec.snapshot_every == spec.snapshot_every

    if not data and (sets := _by_problems(store, specs, fits, preference)):
        longest = max(sets, key=lambda runs: sum(run.spec.epochs for run in runs.values()))
        return [longest[spec] for spec in specs]
    return [find_or_train(store, spec.but(data=data or "shipped")) for spec in specs]


def find_example(
    store: Store, specs: Sequence[RunSpec], *, task: str = "", problem: int = 0, data: str = ""
) -> list[Run]:
    """Return the runs that the chapters show, one for each spec: by default their one example.

    Parameters
    ----------
    specs
        Runs wanted, except the problem, which is a single one.
    task, problem, data
        Another example: runs on this problem, from this source, as `find_together` finds them.

    Notes
    -----
    The example is a problem that training solved. Of the stored runs that kept their prompts at the
    start, in between and at the end, those count that are wrong at the start and right at the last
    check. A problem must have two such runs, Standard and TSLoss at weight 1, because some chapters
    compare them. Published problems come before a user's own, those whose answer stays
    right from the first right check before others, then the lowest number, then data sets in the
    order of `tsp.problems.loading.TASKS`. Of several runs that differ in what they kept, the one
    with the most prompts is shown. Without an example it is problem 0 of GSM8K, solved or not.
    """
    if not (task or problem or data) and (example := _example(store, specs)):
        return [example[spec] for spec in specs]
    wanted = [spec.but(task=task or "gsm8k", problem=problem) for spec in specs]
    return find_together(store, wanted, data=data)


def repeats_of(store: Store, run: Run) -> list[Run]:
    """Return the other stored trainings of a run's spec on its problems.

    They may keep their prompts at other epochs.
    """

    def training(one: Run) -> tuple[RunSpec, tuple[str, ...]]:
        return one.spec.but(snapshot_every=1), _problems(one)

    every, wanted = store.valid_runs()[0], training(run)
    return [one for one in every if one.id != run.id and training(one) == wanted]


def right_from(run: Run) -> int | None:
    """Return the first check from which all answers of a run stay right to its end, or None."""
    right = run.checks.groupby("epoch").correct.all()
    last_wrong = max(right.index[~right], default=-1)
    return min((int(epoch) for epoch in right.index if epoch > last_wrong), default=None)


def outcome_in_words(run: Run) -> str:
    """Say when the answers of a run are right, as a predicate ("is first right at …")."""
    first, stays = run.record["outcome"]["solved_epoch"], right_from(run)
    if first is None:
        return "is not right at any check"
    words = f"is first right at epoch {first}"
    if stays is None:
        return f"{words} and wrong again at the end"
    return f"{words} and stays right" + (f" from {stays} on" if stays > first else "")


def _example(store: Store, specs: Sequence[RunSpec]) -> Runs:
    """Return runs of the specs on the problem that `find_example` describes, or nothing."""
    needed = {*specs, *(spec.but(**method) for spec in specs for method in (CE, TS))}

    def fits(run: Run, spec: RunSpec) -> bool:
        there = spec.but(task=run.spec.task, problem=run.spec.problem)
        wrong_first = not run.record["outcome"]["solved_at_start"]
        alike = wrong_first and len(run.prompt_epochs) > 2 and _alike(run, there)
        return alike and right_from(run) is not None

    def rank(example: Runs) -> tuple[bool, bool, int, int]:
        runs = list(example.values())
        loses = any(right_from(run) != run.record["outcome"]["solved_epoch"] for run in runs)
        private = not all(run.published for run in runs)
        return private, loses, runs[0].spec.problem, TASKS.index(runs[0].spec.task)

    sets = _by_problems(store, needed, fits, lambda run, spec: len(run.prompt_epochs))
    return min(sets, key=rank, default={})


def _by_problems(
    store: Store,
    specs: Iterable[RunSpec],
    fits: Callable[[Run, RunSpec], bool],
    preference: Callable[[Run, RunSpec], Any],
) -> list[Runs]:
    """Return the preferred run of each spec, for all problems on which every spec has one."""
    sets: dict[tuple[str, ...], Runs] = defaultdict(dict)
    for run in store.valid_runs()[0]:
        runs = sets[_problems(run)]
        for spec in specs:
            if fits(run, spec):
                runs[spec] = max(runs.get(spec, run), run, key=lambda one: preference(one, spec))
    return [runs for runs in sets.values() if runs.keys() == set(specs)]


def _problems(run: Run) -> tuple[str, ...]:
    return tuple(problem["sha256"] for problem in run.record["problems"])


def _alike(run: Run, spec: RunSpec) -> bool:
    """Return whether two trainings agree in all but the problems and the number of epochs."""
    place = {"data": spec.data, "problem": spec.problem, "snapshot_every": spec.snapshot_every}
    return run.spec.but(**place, epochs=spec.epochs) == spec
