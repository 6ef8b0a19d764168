"""The runs of a sweep: specs with their problems and ids, grouped into banks."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tsp.errors import InputError
from tsp.problems.loading import Problem, load_problems
from tsp.training import models
from tsp.training.spec import RunSpec


@dataclass(frozen=True)
class Job:
    """A spec with its problems and the id that follows from both."""

    spec: RunSpec
    problems: list[Problem]
    id: str


def jobs_of(specs: Iterable[RunSpec]) -> list[Job]:
    """Load each spec's problems and compute its id; equal runs become one."""
    jobs: dict[str, Job] = {}
    fingerprints: dict[str, str] = {}
    for spec in specs:
        model = fingerprints.setdefault(spec.model, models.fingerprint(spec.model))
        if spec.init_run.startswith("#"):  # the plain run on that problem, by its id
            donor = spec.but(init=spec.settings.init, init_run="", method="ce")
            donor = donor.but(problem=int(spec.init_run[1:]))
            spec = spec.but(init_run=donor.id(_problems(donor), model=model))
        problems = _problems(spec, wrong_answers=spec.wrong_answers)
        run_id = spec.id(problems, model=model)
        jobs.setdefault(run_id, Job(spec, problems, run_id))
    return list(jobs.values())


def within_reach(specs: Iterable[RunSpec]) -> tuple[list[RunSpec], list[str]]:
    """Return the specs whose problems the data have, and the reasons why others are left out.

    An experiment names rows of a benchmark; the shipped part of the benchmark may have fewer.
    """
    reasons: dict[tuple[object, ...], str] = {}
    available = []
    for spec in specs:
        place = (spec.task, spec.data, spec.regime, spec.problem)
        if place not in reasons:
            reasons[place] = ""
            try:
                _problems(spec)
            except InputError as error:
                if error.field != "problem":
                    raise
                reasons[place] = f"{spec.task}, {spec.regime}: {error}"
        if not reasons[place]:
            available.append(spec)
    return available, [reason for reason in reasons.values() if reason]


def _problems(spec: RunSpec, **options: Any) -> list[Problem]:
    return load_problems(
        spec.task, data=spec.data, regime=spec.regime, problem=spec.problem, **options
    )


def banks_of(jobs: Sequence[Job], size: int) -> list[list[Job]]:
    """Group runs into banks of at most ``size``: runs that train as rows of the same batches.

    The runs of a bank share model, task, regime, protocol, number of epochs and rounding, and so
    cost about the same. With the rounding ``"bank"`` each run is a bank of its own.
    """
    groups: dict[tuple[Any, ...], list[Job]] = defaultdict(list)
    for job in jobs:
        spec = job.spec
        alike = (spec.model, spec.task, spec.regime, spec.protocol, spec.epochs, spec.rounding)
        groups[alike].append(job)
    banks = []
    for (*_, rounding), group in groups.items():
        step = 1 if rounding == "bank" else size  # to measure the effect of training alone
        banks += [group[i : i + step] for i in range(0, len(group), step)]
    return banks
