"""The experiments: which runs a table, a figure or a chapter needs, by profile."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tsp import models
from tsp.errors import InputError
from tsp.paper import MAIN_TASKS, SEEDS, SYSTEMS
from tsp.spec import INITS, METHODS, PLACEMENTS, REGIMES, RunSpec
from tsp.tasks import TASKS

PROFILES = ("smoke", "quick", "full", "paper")
CE, TS = {"method": "ce"}, {"method": "tsloss", "lambda_ts": 1.0}
BOTH = (CE, TS)
MATCHED = {"l2": 0.033, "pairwise": 0.016, "persistence": 0.0005}
"""Weights at which a gradient is as long as TSLoss's at weight 1, on N(0, 0.02² I), 40 x 576."""
SETS = {"longbench": (0,)}  # first rows of the sets of ten, where there are not twenty problems


def experiment_specs(experiment: str, profile: str, **changes: Any) -> list[RunSpec]:
    """Specs of an experiment, without repetition.

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
    """Whether an experiment has such a run, on whatever model, data, seed and number of epochs."""
    given = {name: getattr(spec, name) for name in ("model", "data", "seed", "epochs")}
    return spec in experiment_specs(experiment, profile, **given)


def _pairs(task: str, problems: Iterable[int], **fields: Any) -> list[RunSpec]:
    """Standard and +TSLoss on each problem: the rows of Table 3."""
    return [
        RunSpec(task=task, problem=problem, **method, **fields)
        for problem in problems
        for method in BOTH
    ]


def _smoke() -> list[RunSpec]:
    few: dict[str, Any] = {"model": "tiny-llama", "epochs": 6, "snapshot_every": 2}
    return [
        *_pairs("mmlu_cf", (0, 1), **few),
        *_pairs("gsm8k", (0,), **few),
        *_pairs("mmlu_cf", (0,), regime="multi", **few),
        *_pairs("mmlu_cf", (0,), **few, protocol="paper"),
    ]


def _of_size(profile: str, tasks: Sequence[str]) -> list[RunSpec]:
    """Profiles `full` and `paper`: both regimes, three seeds, all problems before another seed.

    Single problems come first: a set of ten costs as much as all of them.
    """
    if profile == "full":
        systems = [{"model": models.DEFAULT}]
        if set(tasks) == set(MAIN_TASKS):
            systems.append({"model": "gemma-3-270m"})
    else:
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
    """Rows of the single problems of a task, or the first of each of its sets of ten."""
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
    if profile == "smoke":
        return _smoke()
    specs = _of_size(profile, MAIN_TASKS)
    if profile == "full":  # what the paper's learning rate does
        specs += [it for task in MAIN_TASKS for it in _pairs(task, (0, 1), protocol="paper")]
    return specs


def _table4(profile: str) -> list[RunSpec]:
    """Table 4 and Figure 4: the weight of TSLoss."""
    weights = (0.0, 0.1, 0.5, 1.0, 10.0)
    return _study([{"method": "tsloss", "lambda_ts": weight} for weight in weights], profile)


def _baselines(profile: str) -> list[RunSpec]:
    """The published version's comparison: no regulariser, L2, pairwise, TSLoss; and persistence.

    All at weight 1, as the paper has TSLoss, and the others also where their gradient is as long as
    TSLoss's on an untrained prompt.
    """
    arms = [{"method": method, "lambda_ts": 1.0} for method in METHODS]
    arms += [{"method": method, "lambda_ts": weight} for method, weight in MATCHED.items()]
    return _study(arms, profile)


def _close_up(profile: str) -> list[RunSpec]:
    """One problem without and with TSLoss, its prompts kept often: to be watched epoch by epoch."""
    sizes: dict[str, dict[str, Any]] = {
        "smoke": {"model": "tiny-llama", "epochs": 6},
        "quick": {"epochs": 70},
        "full": {},
        "paper": {"model": "gemma-2b-it", "protocol": "paper", "data": "hub"},
    }
    every = 1 if profile == "smoke" else 4  # a multiple of the epochs between two checks
    return _pairs("gsm8k", (0,), snapshot_every=every, **sizes[profile])


def _init(profile: str) -> list[RunSpec]:
    """What the first prompt is."""
    return _study([method | {"init": init} for init in INITS for method in BOTH], profile)


def _placement(profile: str) -> list[RunSpec]:
    """Where the prompt goes."""
    arms = [method | {"placement": place} for place in PLACEMENTS for method in BOTH]
    return _study(arms, profile)


def _length(profile: str) -> list[RunSpec]:
    """How many vectors n a prompt has."""
    sizes = (5, 10, 20, 40, 80)
    return _study([method | {"n_tokens": size} for size in sizes for method in BOTH], profile)


def _loss_variants(profile: str) -> list[RunSpec]:
    """TSLoss as printed, with other constants, term by term, and weighted by gradients."""
    changes: list[dict[str, Any]] = [
        {},
        {"self_pairs": True},
        {"detach_thresholds": True},
        {"tau": 0.01},
        {"tau": 1.0},
        {"alpha": 1.0},
        {"alpha": 100.0},
        {"beta_h1": 0.0},
        {"beta_h0": 0.0},
        {"beta_h0": 0.0, "lambda_attract": 0.0},
        {"beta_h0": 0.0, "lambda_repel": 0.0},
        {"weighting": "gradient"},
    ]
    return _study([CE, *(TS | change for change in changes)], profile)


def _weight(profile: str) -> list[RunSpec]:
    """How large lambda_ts must be before TSLoss's gradient matters."""
    weights = (0.0, 1.0, 10.0, 100.0, 1e3, 1e4)
    return _study([{"method": "tsloss", "lambda_ts": weight} for weight in weights], profile)


def _embed_scale(profile: str) -> list[RunSpec]:
    """The factor that older Gemma models had on their embeddings: the square root of d = 576."""
    return _study([method | {"embed_scale": it} for it in (1.0, 24.0) for method in BOTH], profile)


def _null(profile: str) -> list[RunSpec]:
    """The right answers, and those of other problems; `tsp.nulls` walks at random besides."""
    arms = [method | {"wrong_answers": wrong} for wrong in (False, True) for method in BOTH]
    return _study(arms, profile)


def _study(arms: Sequence[dict[str, Any]], profile: str) -> list[RunSpec]:
    """Arms of a comparison on single problems of GSM8K, all problems before another seed."""
    sizes: dict[str, dict[str, Any]] = {
        "smoke": {"model": "tiny-llama", "epochs": 6, "snapshot_every": 2},
        "quick": {"epochs": 70},
        "full": {},
        "paper": {"model": "gemma-2b-it", "protocol": "paper", "data": "hub"},
    }
    problems, seeds = (12, 2) if profile in ("full", "paper") else (1, 1)
    return [
        RunSpec(task="gsm8k", problem=problem, seed=seed, **sizes[profile] | arm)
        for seed in range(seeds)
        for problem in range(problems)
        for arm in arms
    ]


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
}
