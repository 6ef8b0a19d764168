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
    known = experiment_specs(experiment, profile, **given)
    if spec.init_run:  # stored as an id, planned as a problem
        known = [it.but(init_run=spec.init_run) for it in known if it.init_run]
    return spec in known


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
        systems: list[dict[str, Any]] = [{"model": models.DEFAULT, "epochs": LENGTH}]
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
    return _of_size(profile, MAIN_TASKS)


def _table4(profile: str) -> list[RunSpec]:
    """Table 4 and Figure 4: the weight of TSLoss."""
    weights = (0.0, 0.1, 0.5, 1.0, 10.0)
    return _study([{"method": "tsloss", "lambda_ts": weight} for weight in weights], profile)


def _baselines(profile: str) -> list[RunSpec]:
    """The published version's comparison at weight 1, and exact persistence beside it."""
    methods = ("ce", "tsloss", *MATCHED)
    return _study([{"method": method, "lambda_ts": 1.0} for method in methods], profile)


def _close_up(profile: str) -> list[RunSpec]:
    """The chapters' example (`tsp.experiments.find_or_train.showcase`), its prompts kept often."""
    every = 1 if profile == "smoke" else 4  # a multiple of the epochs between two checks
    return _pairs("hotpotqa", (0,), **_size(profile, epochs=LENGTH) | {"snapshot_every": every})


def _init(profile: str) -> list[RunSpec]:
    """What the first prompt is."""
    inits = ("gaussian", "repeated", "vocabulary")
    return _study([method | {"init": init} for init in inits for method in BOTH], profile)


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
    """The right answers, and those of other problems."""
    arms = [method | {"wrong_answers": wrong} for wrong in (False, True) for method in BOTH]
    return _study(arms, profile)


def _paper_length(profile: str) -> list[RunSpec]:
    """The paper's own protocol for its 300 epochs: pairs of single problems, then plain sets."""
    told = {"protocol": "paper"} | _size(profile, epochs=300)
    if profile in ("smoke", "quick"):
        return _pairs("gsm8k", (0,), **told)
    singles = [
        it for k in range(PROBLEMS) for task in MAIN_TASKS for it in _pairs(task, (k,), **told)
    ]
    sets = [RunSpec(task=task, regime="multi", **CE | told) for task in TASKS]
    return singles + sets


def _sham(profile: str) -> list[RunSpec]:
    """TSLoss beside a gradient of the same lengths and angles that knows nothing of the cloud."""
    return _study([CE, TS, {"method": "sham", "lambda_ts": 1.0}], profile, seeds=(1,))


def _rounding(profile: str) -> list[RunSpec]:
    """The noise floor: the same Standard run computed in other ways."""
    return _study([CE | {"rounding": it} for it in ROUNDINGS], profile, seeds=(1,))


def _learning_rate(profile: str) -> list[RunSpec]:
    """Does TSLoss's effect depend on the learning rate?"""
    rates = ({"lr": 1e-2}, {"lr": 3e-3}, {"lr": 3e-2}, _slow(profile))
    return _study([rate | method for rate in rates for method in BOTH], profile, seeds=(1,))


def _slow(profile: str) -> dict[str, Any]:
    """A learning rate so low that a hundred epochs do not arrive."""
    return {"lr": 1e-3} | ({"epochs": 300} if profile == "full" else {})


def _recipes(profile: str) -> list[RunSpec]:
    """What speeds up prompt tuning: one change from Standard each, TSLoss among them."""
    arms = [CE, TS, CE | _slow(profile), *(CE | {"lr": rate} for rate in (3e-3, 3e-2, 1e-1))]
    arms += [CE | {"init": init} for init in ("vocabulary", "question")]
    arms += [CE | {"n_tokens": n} for n in (10, 20, 80)]
    arms += [CE | change for change in ({"warmup_fraction": 0.0}, {"schedule": "constant"})]
    arms += [CE | {"clip_norm": 1.0}]
    rows = _study(arms, profile, seeds=(1,))
    many = max(2, len({spec.problem for spec in rows}))
    donors = _study([CE], profile, seeds=(1,), problems=many)
    trained = [
        spec.but(init="trained", init_run=f"#{(spec.problem + 1) % many}")
        for spec in dict.fromkeys(spec for spec in rows if spec in donors)
    ]
    return rows + donors + trained


def _seeds(profile: str) -> list[RunSpec]:
    """Two more seeds of every single pair, so that a problem's value is a median of three."""
    told = _size(profile, epochs=LENGTH)
    if profile in ("smoke", "quick"):
        return _pairs("gsm8k", (0,), **told | {"seed": 1})
    return [
        spec
        for seed in (1, 2)
        for task in TASKS
        for spec in _pairs(task, _problems(task, "single"), **told | {"seed": seed})
    ]


def _tuned_length(profile: str) -> list[RunSpec]:
    """Protocol `tuned` for its 300 epochs: what happens after the hundredth."""
    told = _size(profile, epochs=300)
    if profile in ("smoke", "quick"):
        return _pairs("gsm8k", (0,), **told)
    return [it for k in range(PROBLEMS) for task in MAIN_TASKS for it in _pairs(task, (k,), **told)]


def _sets(profile: str) -> list[RunSpec]:
    """More sets of ten, without and with TSLoss."""
    told = {"regime": "multi", "seed": 1} | _size(profile, epochs=LENGTH)
    if profile in ("smoke", "quick"):
        return _pairs("mmlu_cf", (0,), **told)
    firsts = {"gsm8k": range(0, 60, 10), "mmlu_cf": range(0, 60, 10), "longbench": (0,)}
    return [it for task in TASKS for it in _pairs(task, firsts.get(task, (0,)), **told)]


def _force(profile: str) -> list[RunSpec]:
    """TSLoss where its gradient is as long as the cross-entropy's, the others where as TSLoss's."""
    arms = [CE, TS, TS | {"lambda_ts": 100.0}, TS | {"lambda_ts": 300.0}]
    arms += [{"method": method, "lambda_ts": weight} for method, weight in MATCHED.items()]
    return _study(arms, profile, seeds=(1,))


def _gemma(profile: str) -> list[RunSpec]:
    """Table 3 on the nearest relative of the paper's Gemma-2B-IT."""
    told = _size(profile, epochs=LENGTH)
    if profile == "smoke":
        return _pairs("gsm8k", (0,), **told | {"model": "tiny-gemma3"})
    if profile != "paper":  # which has Gemma-2B-IT itself
        told |= {"model": "gemma-3-270m"}
    if profile == "quick":
        return _pairs("gsm8k", (0,), **told)
    return [it for k in range(PROBLEMS) for task in MAIN_TASKS for it in _pairs(task, (k,), **told)]


def _size(profile: str, *, epochs: int) -> dict[str, Any]:
    """Fields of a profile's runs; ``epochs`` are those of profile `full`."""
    sizes: dict[str, dict[str, Any]] = {
        "smoke": {"model": "tiny-llama", "epochs": 6, "snapshot_every": 2},
        "quick": {"epochs": 70},
        "full": {"epochs": epochs},
        "paper": {"model": "gemma-2b-it", "protocol": "paper", "data": "hub"},
    }
    return sizes[profile]


def _study(
    arms: Sequence[dict[str, Any]],
    profile: str,
    *,
    seeds: Sequence[int] = (0, 1),
    problems: int = PROBLEMS,
) -> list[RunSpec]:
    """Arms of a comparison on single problems of GSM8K, all problems before another seed."""
    if profile not in ("full", "paper"):
        seeds, problems = seeds[:1], 1 if problems == PROBLEMS else problems
    return [
        RunSpec(task="gsm8k", problem=problem, seed=seed, **_size(profile, epochs=LENGTH) | arm)
        for seed in seeds
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

RATIO = (
    "The effect is the median over problems of the ratio of iterations to those of the Standard "
    "run of the same problem and seed, with a 95 % bootstrap interval over problems. Iterations "
    "are the first check at which the problem is answered correctly, at most 100; a problem that "
    "neither run solves is a tie in the sign test and not in the ratio, one that the untrained "
    "prompt solves is left out. "
)
RULES = {
    "paper-length": "The claims about the phenomenon are judged once more under protocol `paper` "
    "over its 300 epochs, by the rules they have under `tuned`; `density-minimal` and "
    "`entropy-early` are decided here, because the first depends on the learning rate and the "
    "second on where the warm-up ends. The verdicts under `tuned` stay beside them.",
    "sham": f"{RATIO}TSLoss's direction matters for speed if the interval of the ratio of "
    "TSLoss's iterations to the sham's excludes 1; it does not if the interval lies within 0.9 and "
    "1.1; otherwise this is undecided. Its direction matters for loops if, at the last check, "
    "TSLoss has more loops than the sham in more problems than fewer, or the reverse, by a "
    "two-sided sign test (p < 0.05).",
    "rounding": "The noise floor is, for each problem, the median of the absolute differences in "
    "iterations between the planned run and the three others; over problems, its median with the "
    "interval from order statistics. An effect on iterations exceeds the floor if the absolute "
    "difference it makes is larger than the problem's own floor in more problems than smaller, by "
    "a two-sided sign test (p < 0.05): one more rounding would be above the median of three others "
    "as often as below.",
    "learning-rate": f"{RATIO}At each learning rate TSLoss is compared with Standard at the same "
    "rate; over 300 epochs at 1e-3. It shortens training at a rate if it is sooner in more "
    "problems than later by a sign test, after Holm over the four rates. The effect depends on the "
    "rate if, over the problems, Kendall's tau of the ratio with the rate has one sign more often "
    "than the other by a sign test (p < 0.05).",
    "recipes": f"{RATIO}A change speeds training up (or slows it down) if a sign test over the "
    "problems says so after Holm over all changes and the interval excludes 1. It does more than "
    "TSLoss if the interval of the ratio of its iterations to TSLoss's excludes 1. Lengths and "
    "first prompts change where the problem starts, so problems that any arm solves untrained are "
    "left out of that arm alone.",
    "seeds": "A problem's value is the median over its first odd number of seeds: of three where "
    "there are three, of seed 0 alone where there are two. The rules of the claims stay as they "
    "are.",
    "tuned-length": "`loops-vanish` is decided at the 300th epoch, since it says eventually. The "
    "other claims are judged at 100 and shown at 300.",
    "sets": "Pairs of sets enter the claims about TSLoss as units like any other.",
    "force": f"{RATIO}At lambda_ts 100 and 300 TSLoss shortens training if a sign test says so "
    "after Holm over the five arms with a regulariser other than TSLoss at 1; loops at the last "
    "check are compared with Standard's likewise.",
    "gemma": "The claims about Table 3 are judged for this model alone, by the same rules, and "
    "stand beside the verdicts of SmolLM2; the two models are not pooled.",
}
"""How the runs of an experiment will be judged, written before its first run."""
