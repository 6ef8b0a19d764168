"""The experiments: which runs a table, a figure or a chapter needs, by profile."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from typing import Any

from tsp.errors import InputError
from tsp.experiments.paper import MAIN_TASKS, SEEDS, SYSTEMS
from tsp.problems.loading import TASKS
from tsp.training.protocols import LENGTH
from tsp.training.spec import PLACEMENTS, REGIMES, ROUNDINGS, RunSpec

Fields = dict[str, Any]
Place = tuple[str, str, int]  # task, regime, problem

SIZES: dict[str, Fields] = {  # fields that a profile sets
    "smoke": {"model": "tiny-llama", "epochs": 6, "snapshot_every": 2},
    "quick": {"epochs": 70},
    "full": {},
    "paper": {"model": "gemma-2b-it", "protocol": "paper", "data": "hub", "epochs": 300},
}
USUAL: Fields = {"epochs": LENGTH}
PROFILES = tuple(SIZES)
SMALL = ("smoke", "quick")
CE: Fields = {"method": "ce"}
TS: Fields = {"method": "tsloss", "lambda_ts": 1.0}
MATCHED = {"l2": 0.033, "pairwise": 0.016, "persistence": 0.0005}
"""Weights at which a gradient is as long as TSLoss's at weight 1, on N(0, 0.02² I), 40 x 576."""
SLOW: Fields = {"lr": 1e-3, "epochs": 300}  # at this rate 100 epochs are too few
GSM8K, MMLU, MMLU_SET = ("gsm8k", "single", 0), ("mmlu_cf", "single", 0), ("mmlu_cf", "multi", 0)
MAIN: list[Place] = [(task, "single", k) for k in range(12) for task in MAIN_TASKS]
SETS: list[Place] = [
    (task, "multi", first)
    for task in TASKS
    for first in (range(0, 60, 10) if task in ("gsm8k", "mmlu_cf") else [0])
]


def experiment_specs(experiment: str, profile: str, **changes: Any) -> list[RunSpec]:
    """Return the specs of an experiment, without repetition.

    Parameters
    ----------
    experiment
        A key of `EXPERIMENTS`, or ``"all"``.
    profile
        Its size: ``smoke`` (a tiny random model), ``quick``, ``full`` or ``paper``.
    changes
        Fields of `RunSpec` to set in every spec, such as ``model`` or ``data``, unless None.

    Raises
    ------
    InputError
        If there is no such experiment or profile.
    """
    if profile not in PROFILES:
        raise InputError("profile", profile, f"choose one of {', '.join(PROFILES)}")
    names = list(EXPERIMENTS) if experiment == "all" else [experiment]
    if not set(names) <= set(EXPERIMENTS):
        raise InputError("experiment", experiment, f"choose one of {', '.join(EXPERIMENTS)}, all")
    specs = [spec for name in names for spec in EXPERIMENTS[name](profile)]
    given = {name: value for name, value in changes.items() if value is not None}
    return list(dict.fromkeys(spec.but(**given) if given else spec for spec in specs))


_planned = cache(experiment_specs)  # for `belongs`, which is asked about every stored run


def belongs(spec: RunSpec, experiment: str, profile: str) -> bool:
    """Return whether an experiment has this run, on any model, data, seed or number of epochs."""
    given = {name: getattr(spec, name) for name in ("model", "data", "seed", "epochs")}
    known = _planned(experiment, profile, **given)
    if spec.init_run:  # stored as an id, planned as a problem
        known = [other.but(init_run=spec.init_run) for other in known if other.init_run]
    return spec in known


def _pairs(places: Iterable[Place], *, seeds: Iterable[int] = (0,), **fields: Any) -> list[RunSpec]:
    """Return Standard and +TSLoss at each place: the rows of Table 3."""
    return [
        RunSpec(task=task, regime=regime, problem=problem, seed=seed, **fields | method)
        for seed in seeds
        for task, regime, problem in places
        for method in (CE, TS)
    ]


def _places(tasks: Iterable[str], regime: str) -> list[Place]:
    """Return the single problems, or the sets of ten, of some tasks."""
    problems: dict[str, Sequence[int]] = dict.fromkeys(tasks, (0, 10)) | {"longbench": (0,)}
    if regime == "single":
        problems = {task: range(14 if task in MAIN_TASKS else 5) for task in tasks}
    return [(task, regime, k) for task in tasks for k in problems[task]]


def _tables(profile: str, tasks: Sequence[str], quick: Iterable[Fields]) -> list[RunSpec]:
    """Return pairs on all problems of some tasks, in both regimes, with three seeds."""
    if profile == "smoke":
        places = [MMLU, ("mmlu_cf", "single", 1), GSM8K, MMLU_SET]
        pairs = _pairs(places, **SIZES["smoke"])
        return pairs + _pairs([MMLU], protocol="paper", **SIZES["smoke"])
    if profile == "quick":
        return [spec for fields in quick for spec in _pairs(**fields)]
    systems: list[Fields] = [USUAL]
    if profile == "paper":
        names = [system.name for system in SYSTEMS if system.table3]
        systems = [SIZES["paper"] | {"model": name} for name in names]
    return [
        spec
        for system in systems
        for seed in range(SEEDS)
        for regime in REGIMES  # single problems first: a set of ten costs as much as all of them
        for spec in _pairs(_places(tasks, regime), seeds=[seed], **system)
    ]


def _study(
    profile: str, arms: Iterable[Fields], *, seeds: Sequence[int] = (0, 1), few: int = 1
) -> list[RunSpec]:
    """Return arms on single problems of GSM8K; the small profiles have a few, and one seed."""
    small = profile in SMALL
    return [
        RunSpec(task="gsm8k", problem=k, seed=seed, **USUAL | arm | SIZES[profile])
        for seed in seeds[: 1 if small else None]
        for k in range(few if small else 12)
        for arm in arms
    ]


def _selection(
    profile: str,
    places: Sequence[Place],
    *,
    small: Place = GSM8K,
    seeds: Sequence[int] = (0,),
    **fields: Any,
) -> list[RunSpec]:
    """Return pairs at some places; the small profiles have one of them, and one seed."""
    if profile in SMALL:
        places, seeds = [small], seeds[:1]
    return _pairs(places, seeds=seeds, **USUAL | fields | SIZES[profile])


def _close_up(profile: str) -> list[RunSpec]:
    every = 1 if profile == "smoke" else 4  # a multiple of the epochs between two checks
    fields: Fields = USUAL | SIZES[profile] | {"snapshot_every": every}
    return _pairs([("hotpotqa", "single", 0)], **fields)


def _paper_length(profile: str) -> list[RunSpec]:
    fields: Fields = {"protocol": "paper", "epochs": 300}
    sets = [RunSpec(task=task, regime="multi", **CE | fields | SIZES[profile]) for task in TASKS]
    return _selection(profile, MAIN, **fields) + (sets if profile not in SMALL else [])


def _recipes(profile: str) -> list[RunSpec]:
    changes: list[Fields] = [
        SLOW,
        *({"lr": rate} for rate in (3e-3, 3e-2, 1e-1)),
        *({"init": init} for init in ("vocabulary", "question")),
        *({"n_tokens": size} for size in (10, 20, 80)),
        *({"warmup_fraction": 0.0}, {"schedule": "constant"}, {"clip_norm": 1.0}),
    ]
    specs = _study(profile, [CE, TS, *(CE | change for change in changes)], seeds=(1,))
    donors = _study(profile, [CE], seeds=(1,), few=2)
    trained = [  # with the trained prompt of the next problem
        spec.but(init="trained", init_run=f"#{(spec.problem + 1) % len(donors)}")
        for spec in _study(profile, [CE], seeds=(1,))
    ]
    return specs + donors + trained


def _gemma(profile: str) -> list[RunSpec]:
    model = {"smoke": "tiny-gemma3", "paper": "gemma-2b-it"}.get(profile, "gemma-3-270m")
    return [spec.but(model=model) for spec in _selection(profile, MAIN)]


def _weights(*weights: float) -> list[Fields]:
    """Return arms: TSLoss at each weight."""
    return [TS | {"lambda_ts": weight} for weight in weights]


def _arms(field: str, *values: Any) -> list[Fields]:
    """Return arms: each value of a field, without and with TSLoss."""
    return [{field: value} | method for value in values for method in (CE, TS)]


LOSSES: list[Fields] = [
    *({}, {"self_pairs": True}, {"detach_thresholds": True}),
    *({"tau": 0.01}, {"tau": 1.0}, {"alpha": 1.0}, {"alpha": 100.0}),
    *({"beta_h1": 0.0}, {"beta_h0": 0.0}),
    {"beta_h0": 0.0, "lambda_attract": 0.0},
    {"beta_h0": 0.0, "lambda_repel": 0.0},
    {"weighting": "gradient"},
]
MATCHED_ARMS: list[Fields] = [
    {"method": name, "lambda_ts": weight} for name, weight in MATCHED.items()
]
RATES = [*_arms("lr", 1e-2, 3e-3, 3e-2), *(SLOW | method for method in (CE, TS))]
QUICK_FIGURES: list[Fields] = [
    {"places": [GSM8K], "epochs": 70},
    {"places": [MMLU_SET], "epochs": 6},
    {"places": [MMLU], "epochs": 40, "protocol": "paper"},
]
QUICK_TABLE: list[Fields] = [
    {"places": [MMLU, ("mmlu_cf", "single", 1)], "epochs": 36},
    {"places": [MMLU_SET], "epochs": 6},
]
_table3 = partial(_tables, tasks=MAIN_TASKS, quick=QUICK_TABLE)

EXPERIMENTS: dict[str, Callable[[str], list[RunSpec]]] = {
    # Figures 2 and 3, Table 2, appendix: how a prompt's topology moves while it is trained.
    "phenomenon": partial(_tables, tasks=TASKS, quick=QUICK_FIGURES),
    # Epochs until every answer is correct, Standard against +TSLoss; loss curves of the same runs.
    "table3": _table3,
    "figure5": _table3,
    # Table 4 and Figure 4: the weight of TSLoss.
    "table4": partial(_study, arms=_weights(0.0, 0.1, 0.5, 1.0, 10.0)),
    # The published version's comparison at weight 1, and exact persistence beside it.
    "baselines": partial(
        _study, arms=[CE, TS, *({"method": name, "lambda_ts": 1.0} for name in MATCHED)]
    ),
    # The correct answers, and those of other problems.
    "null": partial(_study, arms=_arms("wrong_answers", False, True)),
    # The chapters' example (`tsp.experiments.find_or_train.find_example`), many prompts kept.
    "close-up": _close_up,
    # How large lambda_ts must be before TSLoss's gradient matters.
    "weight": partial(_study, arms=_weights(0.0, 1.0, 10.0, 100.0, 1e3, 1e4)),
    # TSLoss as printed, with other constants, term by term, and weighted by gradients.
    "loss-variants": partial(_study, arms=[CE, *(TS | change for change in LOSSES)]),
    # The initial prompt, where it goes, and its number of vectors n.
    "init": partial(_study, arms=_arms("init", "gaussian", "repeated", "vocabulary")),
    "placement": partial(_study, arms=_arms("placement", *PLACEMENTS)),
    "length": partial(_study, arms=_arms("n_tokens", 5, 10, 20, 40, 80)),
    # The factor that older Gemma models had on their embeddings: the square root of d = 576.
    "embed-scale": partial(_study, arms=_arms("embed_scale", 1.0, 24.0)),
    # The paper's own protocol for its 300 epochs: pairs of single problems, then plain sets.
    "paper-length": _paper_length,
    # TSLoss beside a gradient of the same lengths and angles that ignores the cloud.
    "sham": partial(_study, arms=[CE, TS, TS | {"method": "sham"}], seeds=(1,)),
    # The noise floor: the same Standard run computed in other ways.
    "rounding": partial(_study, arms=[CE | {"rounding": kind} for kind in ROUNDINGS], seeds=(1,)),
    # Whether TSLoss's effect depends on the learning rate.
    "learning-rate": partial(_study, arms=RATES, seeds=(1,)),
    # What speeds up prompt tuning: one change from Standard each, TSLoss among them.
    "recipes": _recipes,
    # Two more seeds of every single pair, so that a problem's value is a median of three.
    "seeds": partial(_selection, places=_places(TASKS, "single"), seeds=(1, 2)),
    # Protocol `tuned` for its 300 epochs: what happens after the hundredth.
    "tuned-length": partial(_selection, places=MAIN, epochs=300),
    # More sets of ten, without and with TSLoss.
    "sets": partial(_selection, places=SETS, small=MMLU_SET, seeds=(1,)),
    # Weights that the balancing weight passes; others' gradients as long as TSLoss's at weight 1.
    "force": partial(_study, arms=[CE, *_weights(1.0, 100.0, 300.0), *MATCHED_ARMS], seeds=(1,)),
    # Table 3 on the nearest relative of the paper's Gemma-2B-IT.
    "gemma": _gemma,
}
