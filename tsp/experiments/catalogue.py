"""The experiments: which runs a table, a figure or a chapter needs, by profile."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tsp.errors import InputError
from tsp.experiments.paper import MAIN_TASKS, SEEDS, SYSTEMS
from tsp.problems.loading import TASKS
from tsp.training import models
from tsp.training.protocols import LENGTH
from tsp.training.spec import PLACEMENTS, REGIMES, ROUNDINGS, RunSpec

PROFILES = ("smoke", "quick", "full", "paper")
CE: dict[str, Any] = {"method": "ce"}
TS: dict[str, Any] = {"method": "tsloss", "lambda_ts": 1.0}
BOTH = (CE, TS)
PROBLEMS = 12  # of GSM8K, in a comparison of settings
MATCHED = {"l2": 0.033, "pairwise": 0.016, "persistence": 0.0005}
"""Weights at which a gradient is as long as TSLoss's at weight 1, on N(0, 0.02² I), 40 x 576."""
SETS = {"longbench": (0,)}  # first rows of the sets of ten, where there are not twenty problems


def experiment_specs(experiment: str, profile: str, **changes: Any) -> list[RunSpec]:
    """Return the specs of an experiment, without repetition.

    Parameters
    ----------
    experiment
        A key of `EXPERIMENTS`, or ``"all"``.
    profile
        How large: ``smoke`` (a tiny random model), ``quick``, ``full`` or ``paper``.
    changes
        Fields of `RunSpec` to set in every spec, such as ``model`` or ``data``.

    Raises
    ------
    InputError
        If there is no such experiment or profile.
    """
    if profile not in PROFILES:
        raise InputError("profile", profile, f"choose one of {', '.join(PROFILES)}")
    names = list(EXPERIMENTS) if experiment == "all" else [experiment]
    if not set(names) <= set(EXPERIMENTS):
        known = ", ".join([*EXPERIMENTS, "all"])
        raise InputError("experiment", experiment, f"choose one of {known}")
    specs = [spec for name in names for spec in EXPERIMENTS[name](profile)]
    given = {name: value for name, value in changes.items() if value is not None}
    return list(dict.fromkeys(spec.but(**given) if given else spec for spec in specs))


def belongs(spec: RunSpec, experiment: str, profile: str) -> bool:
    """Return whether an experiment has such a run, on any model, data, seed, number of epochs."""
    given = {name: getattr(spec, name) for name in ("model", "data", "seed", "epochs")}
    known = experiment_specs(experiment, profile, **given)
    if spec.init_run:  # stored as an id, planned as a problem
        known = [it.but(init_run=spec.init_run) for it in known if it.init_run]
    return spec in known


def _size(profile: str, *, epochs: int = LENGTH) -> dict[str, Any]:
    """Return fields of a profile's runs; ``epochs`` are those of profile `full`."""
    sizes: dict[str, dict[str, Any]] = {
        "smoke": {"model": "tiny-llama", "epochs": 6, "snapshot_every": 2},
        "quick": {"epochs": 70},
        "full": {"epochs": epochs},
        "paper": {"model": "gemma-2b-it", "protocol": "paper", "data": "hub"},
    }
    return sizes[profile]


def _pairs(task: str, problems: Iterable[int], **fields: Any) -> list[RunSpec]:
    """Return Standard and +TSLoss on each problem: the rows of Table 3."""
    return [
        RunSpec(task=task, problem=problem, **fields | method)
        for problem in problems
        for method in BOTH
    ]


def _main_pairs(**fields: Any) -> list[RunSpec]:
    """Return pairs on the first problems of each data set of Table 3."""
    return [
        it for k in range(PROBLEMS) for task in MAIN_TASKS for it in _pairs(task, (k,), **fields)
    ]


def _study(
    profile: str,
    arms: Sequence[dict[str, Any]],
    *,
    seeds: Sequence[int] = (0, 1),
    problems: int = PROBLEMS,
) -> list[RunSpec]:
    """Return arms on single problems of GSM8K, all problems before another seed."""
    if profile not in ("full", "paper"):
        seeds, problems = seeds[:1], 1 if problems == PROBLEMS else problems
    return [
        RunSpec(task="gsm8k", problem=problem, seed=seed, **_size(profile) | arm)
        for seed in seeds
        for problem in range(problems)
        for arm in arms
    ]


def _cross(changes: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return arms: each change without and with TSLoss."""
    return [change | method for change in changes for method in BOTH]


def _smoke() -> list[RunSpec]:
    few = _size("smoke")
    rows = _pairs("mmlu_cf", (0, 1), **few) + _pairs("gsm8k", (0,), **few)
    rows += _pairs("mmlu_cf", (0,), regime="multi", **few)
    return rows + _pairs("mmlu_cf", (0,), protocol="paper", **few)


def _of_size(profile: str, tasks: Sequence[str]) -> list[RunSpec]:
    """Return runs of `full` or `paper`: both regimes, three seeds, all problems before a new seed.

    Single problems come first: a set of ten costs as much as all of them.
    """
    systems = [{"model": models.DEFAULT, "epochs": LENGTH}]
    if profile == "paper":
        names = [system.name for system in SYSTEMS if system.table3]
        systems = [{"model": name, "protocol": "paper", "data": "hub"} for name in names]
    return [
        spec
        for system in systems
        for seed in range(SEEDS)
        for regime in REGIMES
        for task in tasks
        for spec in _pairs(task, _problems(task, regime), regime=regime, seed=seed, **system)
    ]


def _problems(task: str, regime: str) -> Sequence[int]:
    """Return rows of the single problems of a task, or the first of each of its sets of ten."""
    if regime == "multi":
        return SETS.get(task, (0, 10))
    return range(14 if task in MAIN_TASKS else 5)


def _phenomenon(profile: str) -> list[RunSpec]:
    """Figures 2 and 3, Table 2, appendix: how a prompt's topology moves while it is trained."""
    if profile == "quick":
        return [
            *_pairs("gsm8k", (0,), epochs=70),
            *_pairs("mmlu_cf", (0,), regime="multi", epochs=10),
            *_pairs("mmlu_cf", (0,), protocol="paper", epochs=40),
        ]
    return _smoke() if profile == "smoke" else _of_size(profile, TASKS)


def _table3(profile: str) -> list[RunSpec]:
    """Table 3: epochs until every answer is correct, Standard against +TSLoss."""
    if profile == "quick":
        return [
            *_pairs("gsm8k", (0,), epochs=70),
            *_pairs("mmlu_cf", (0, 1), epochs=36),
            *_pairs("mmlu_cf", (0,), regime="multi", epochs=10),
        ]
    return _smoke() if profile == "smoke" else _of_size(profile, MAIN_TASKS)


def _weights(profile: str, *weights: float) -> list[RunSpec]:
    return _study(profile, [{"method": "tsloss", "lambda_ts": weight} for weight in weights])


def _table4(profile: str) -> list[RunSpec]:
    """Table 4 and Figure 4: the weight of TSLoss."""
    return _weights(profile, 0.0, 0.1, 0.5, 1.0, 10.0)


def _weight(profile: str) -> list[RunSpec]:
    """How large lambda_ts must be before TSLoss's gradient matters."""
    return _weights(profile, 0.0, 1.0, 10.0, 100.0, 1e3, 1e4)


def _baselines(profile: str) -> list[RunSpec]:
    """The published version's comparison at weight 1, and exact persistence beside it."""
    methods = ("ce", "tsloss", *MATCHED)
    return _study(profile, [{"method": method, "lambda_ts": 1.0} for method in methods])


def _close_up(profile: str) -> list[RunSpec]:
    """The chapters' example (`tsp.experiments.find_or_train.find_example`), prompts kept often."""
    every = 1 if profile == "smoke" else 4  # a multiple of the epochs between two checks
    return _pairs("hotpotqa", (0,), **_size(profile) | {"snapshot_every": every})


def _init(profile: str) -> list[RunSpec]:
    """What the first prompt is."""
    inits = ("gaussian", "repeated", "vocabulary")
    return _study(profile, _cross({"init": init} for init in inits))


def _placement(profile: str) -> list[RunSpec]:
    """Where the prompt goes."""
    return _study(profile, _cross({"placement": place} for place in PLACEMENTS))


def _length(profile: str) -> list[RunSpec]:
    """How many vectors n a prompt has."""
    return _study(profile, _cross({"n_tokens": size} for size in (5, 10, 20, 40, 80)))


def _loss_variants(profile: str) -> list[RunSpec]:
    """TSLoss as printed, with other constants, term by term, and weighted by gradients."""
    changes: list[dict[str, Any]] = [
        *({}, {"self_pairs": True}, {"detach_thresholds": True}),
        *({"tau": 0.01}, {"tau": 1.0}, {"alpha": 1.0}, {"alpha": 100.0}),
        *({"beta_h1": 0.0}, {"beta_h0": 0.0}),
        {"beta_h0": 0.0, "lambda_attract": 0.0},
        {"beta_h0": 0.0, "lambda_repel": 0.0},
        {"weighting": "gradient"},
    ]
    return _study(profile, [CE, *(TS | change for change in changes)])


def _embed_scale(profile: str) -> list[RunSpec]:
    """The factor that older Gemma models had on their embeddings: the square root of d = 576."""
    return _study(profile, _cross({"embed_scale": factor} for factor in (1.0, 24.0)))


def _null(profile: str) -> list[RunSpec]:
    """The right answers, and those of other problems."""
    return _study(profile, _cross({"wrong_answers": wrong} for wrong in (False, True)))


def _paper_length(profile: str) -> list[RunSpec]:
    """The paper's own protocol for its 300 epochs: pairs of single problems, then plain sets."""
    fields = {"protocol": "paper"} | _size(profile, epochs=300)
    if profile in ("smoke", "quick"):
        return _pairs("gsm8k", (0,), **fields)
    sets = [RunSpec(task=task, regime="multi", **CE | fields) for task in TASKS]
    return _main_pairs(**fields) + sets


def _sham(profile: str) -> list[RunSpec]:
    """TSLoss beside a gradient of the same lengths and angles that ignores the cloud."""
    return _study(profile, [CE, TS, {"method": "sham", "lambda_ts": 1.0}], seeds=(1,))


def _rounding(profile: str) -> list[RunSpec]:
    """The noise floor: the same Standard run computed in other ways."""
    return _study(profile, [CE | {"rounding": kind} for kind in ROUNDINGS], seeds=(1,))


def _learning_rate(profile: str) -> list[RunSpec]:
    """Does TSLoss's effect depend on the learning rate?"""
    rates = [*({"lr": rate} for rate in (1e-2, 3e-3, 3e-2)), _slow(profile)]
    return _study(profile, _cross(rates), seeds=(1,))


def _slow(profile: str) -> dict[str, Any]:
    """A learning rate so low that a hundred epochs do not arrive."""
    return {"lr": 1e-3} | ({"epochs": 300} if profile == "full" else {})


def _recipes(profile: str) -> list[RunSpec]:
    """What speeds up prompt tuning: one change from Standard each, TSLoss among them."""
    changes: list[dict[str, Any]] = [
        _slow(profile),
        *({"lr": rate} for rate in (3e-3, 3e-2, 1e-1)),
        *({"init": init} for init in ("vocabulary", "question")),
        *({"n_tokens": size} for size in (10, 20, 80)),
        {"warmup_fraction": 0.0},
        {"schedule": "constant"},
        {"clip_norm": 1.0},
    ]
    rows = _study(profile, [CE, TS, *(CE | change for change in changes)], seeds=(1,))
    size = max(2, len({spec.problem for spec in rows}))
    donors = _study(profile, [CE], seeds=(1,), problems=size)
    trained = [
        spec.but(init="trained", init_run=f"#{(spec.problem + 1) % size}")
        for spec in dict.fromkeys(spec for spec in rows if spec in donors)
    ]
    return rows + donors + trained


def _seeds(profile: str) -> list[RunSpec]:
    """Two more seeds of every single pair, so that a problem's value is a median of three."""
    fields = _size(profile)
    if profile in ("smoke", "quick"):
        return _pairs("gsm8k", (0,), **fields, seed=1)
    places = [(seed, task, _problems(task, "single")) for seed in (1, 2) for task in TASKS]
    return [it for seed, task, rows in places for it in _pairs(task, rows, **fields, seed=seed)]


def _tuned_length(profile: str) -> list[RunSpec]:
    """Protocol `tuned` for its 300 epochs: what happens after the hundredth."""
    fields = _size(profile, epochs=300)
    if profile in ("smoke", "quick"):
        return _pairs("gsm8k", (0,), **fields)
    return _main_pairs(**fields)


def _sets(profile: str) -> list[RunSpec]:
    """More sets of ten, without and with TSLoss."""
    fields = {"regime": "multi", "seed": 1} | _size(profile)
    if profile in ("smoke", "quick"):
        return _pairs("mmlu_cf", (0,), **fields)
    firsts = {"gsm8k": range(0, 60, 10), "mmlu_cf": range(0, 60, 10)}
    return [it for task in TASKS for it in _pairs(task, firsts.get(task, (0,)), **fields)]


def _force(profile: str) -> list[RunSpec]:
    """TSLoss where its gradient is as long as the cross-entropy's, the others where as TSLoss's."""
    arms = [CE, TS, TS | {"lambda_ts": 100.0}, TS | {"lambda_ts": 300.0}]
    arms += [{"method": method, "lambda_ts": weight} for method, weight in MATCHED.items()]
    return _study(profile, arms, seeds=(1,))


def _gemma(profile: str) -> list[RunSpec]:
    """Table 3 on the nearest relative of the paper's Gemma-2B-IT."""
    others = {"smoke": "tiny-gemma3", "paper": "gemma-2b-it"}
    fields = _size(profile) | {"model": others.get(profile, "gemma-3-270m")}
    if profile in ("smoke", "quick"):
        return _pairs("gsm8k", (0,), **fields)
    return _main_pairs(**fields)


EXPERIMENTS: dict[str, Callable[[str], list[RunSpec]]] = {
    "phenomenon": _phenomenon,
    "table3": _table3,
    "figure5": _table3,  # loss curves of the same runs
    "table4": _table4,
    "baselines": _baselines,
    "null": _null,
    "close-up": _close_up,
    "weight": _weight,
    "loss-variants": _loss_variants,
    "init": _init,
    "placement": _placement,
    "length": _length,
    "embed-scale": _embed_scale,
    "paper-length": _paper_length,
    "sham": _sham,
    "rounding": _rounding,
    "learning-rate": _learning_rate,
    "recipes": _recipes,
    "seeds": _seeds,
    "tuned-length": _tuned_length,
    "sets": _sets,
    "force": _force,
    "gemma": _gemma,
}
