"""Which runs each experiment has, on paper, and what the runs of profile `smoke` are."""

from collections import Counter

import pytest
import torch

from tsp.analysis.claims import CLAIMS
from tsp.errors import InputError
from tsp.experiments.catalogue import EXPERIMENTS, PROFILES, belongs, experiment_specs
from tsp.experiments.paper import MAIN_TASKS
from tsp.experiments.rules import RULES
from tsp.experiments.sweep import jobs_of
from tsp.problems.loading import TASKS, load_problems
from tsp.training.models import DEFAULT
from tsp.training.spec import METHODS, RunSpec

COMPARISONS = [name for name in EXPERIMENTS if name not in RULES]  # what was run at first


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("experiment", [*EXPERIMENTS, "all"])
def test_every_experiment_has_specs_in_pairs(experiment, profile):
    specs = experiment_specs(experiment, profile)
    assert specs
    assert len(set(specs)) == len(specs)
    plain = {run.but(method="ce", lambda_ts=0) for run in specs if run.method != "ce"}
    assert plain <= set(specs)
    if experiment in COMPARISONS:
        assert plain == {run for run in specs if run.method == "ce"}


def test_profiles_are_what_they_say():
    quick = experiment_specs("all", "quick")
    assert {run.model for run in quick} == {DEFAULT, "gemma-3-270m"}
    assert {run.protocol for run in quick} == {"tuned", "paper"}
    assert {run.task for run in quick} == {"gsm8k", "mmlu_cf", "hotpotqa"}
    models = {run.model for run in experiment_specs("table3", "paper")}
    assert models == {"open-llama-7b", "deepseek-7b-chat", "gemma-2b-it"}
    for profile in PROFILES:
        weights = {run.lambda_ts for run in experiment_specs("table4", profile)}
        assert weights == {0, 0.1, 0.5, 1, 10}
        methods = {run.method for run in experiment_specs("baselines", profile)}
        assert methods == {*METHODS} - {"sham"}
    seeds = [run.seed for run in experiment_specs("table4", "full")]
    assert seeds == sorted(seeds)  # problems before seeds


def test_the_full_profile_is_what_is_published():
    """All six data sets, eight problems of each main one, five of the others, two sets of ten."""
    specs = experiment_specs("all", "full")
    tuned = [run for run in specs if run.protocol == "tuned" and run.model == DEFAULT]
    plain = {run for run in tuned if run.seed == 0 and run.method == "ce"}
    problems = {(run.task, run.regime, run.problem) for run in plain}
    sizes = Counter((task, regime) for task, regime, _ in problems)
    for task in TASKS:
        assert sizes[task, "single"] >= (8 if task in MAIN_TASKS else 5)
        assert sizes[task, "multi"] >= (1 if task == "longbench" else 2)
    assert {run.task for run in specs if run.model == "gemma-3-270m"} == set(MAIN_TASKS)
    assert {run.seed for run in tuned} == {0, 1, 2}
    assert {run.protocol for run in specs} == {"tuned", "paper"}


@pytest.mark.parametrize("name", sorted({*COMPARISONS} - {"phenomenon", "close-up"}))
def test_every_arm_has_the_same_problems_and_seeds(name):
    """In pairs, and in the studies of at least four problems and two seeds, nothing is missing."""
    arms = {}
    for run in experiment_specs(name, "full", task="gsm8k"):
        where = (run.regime, run.problem, run.seed)
        arms.setdefault(run.but(problem=0, seed=0, regime="single"), set()).add(where)
    places, *others = arms.values()
    assert all(places == other for other in others)
    assert len({k for regime, k, _ in places if regime == "single"}) >= 4
    assert len({seed for _, _, seed in places}) >= 2


WHERE = ("task", "problem", "seed", "regime", "data", "init_run")


def change(run, **usual):
    """How a run differs from Standard at the defaults of its model and protocol, in words."""
    default = RunSpec(method="ce", model=run.model, protocol=run.protocol).but(epochs=100).to_dict()
    default |= {name: getattr(run, name) for name in WHERE} | usual
    fields = run.to_dict().items()
    return " ".join(f"{name}={value}" for name, value in fields if value != default[name])


TS = "method=tsloss lambda_ts=1.0"
STUDIES = {  # arms, each on twelve problems of GSM8K, seed 1
    "sham": ["", TS, "method=sham lambda_ts=1.0"],
    "rounding": ["", "rounding=precision", "rounding=threads", "rounding=bank"],
    "learning-rate": [
        f"{method}{rate}".strip()
        for method in ("", f"{TS} ")
        for rate in ("", "lr=0.003", "lr=0.03", "lr=0.001 epochs=300")
    ],
    "recipes": [
        *("", TS, "lr=0.001 epochs=300", "lr=0.003", "lr=0.03", "lr=0.1"),
        *("init=vocabulary", "init=question", "init=trained"),
        *("n_tokens=10", "n_tokens=20", "n_tokens=80"),
        *("warmup_fraction=0.0", "schedule=constant", "clip_norm=1.0"),
    ],
    "force": [
        *("", TS, "method=tsloss lambda_ts=100.0", "method=tsloss lambda_ts=300.0"),
        *("method=l2 lambda_ts=0.033", "method=pairwise lambda_ts=0.016"),
        "method=persistence lambda_ts=0.0005",
    ],
}
MAIN = Counter((task, "single", k) for task in MAIN_TASKS for k in range(12))
SINGLE = Counter((t, "single", k) for t in TASKS for k in range(14 if t in MAIN_TASKS else 5))
SIX = ("gsm8k", "mmlu_cf")  # of these there are six sets of ten
SETS = Counter((t, "multi", k) for t in TASKS for k in (range(0, 60, 10) if t in SIX else [0]))
TEN = Counter((task, "multi", 0) for task in TASKS)
PAIRS = {  # places by arm, seeds, protocol
    "paper-length": ({"epochs=300": MAIN + TEN, f"{TS} epochs=300": MAIN}, {0}, "paper"),
    "seeds": ({"": SINGLE + SINGLE, TS: SINGLE + SINGLE}, {1, 2}, "tuned"),
    "tuned-length": ({"epochs=300": MAIN, f"{TS} epochs=300": MAIN}, {0}, "tuned"),
    "sets": ({"": SETS, TS: SETS}, {1}, "tuned"),
    "gemma": ({"": MAIN, TS: MAIN}, {0}, "tuned"),
}


@pytest.mark.parametrize("name", RULES)
def test_the_full_list_of_every_new_experiment(name):
    twelve = Counter(("gsm8k", "single", k) for k in range(12))
    study = (dict.fromkeys(STUDIES.get(name, ()), twelve), {1}, "tuned")
    arms, seeds, protocol = PAIRS.get(name, study)
    places, specs = {}, experiment_specs(name, "full")
    for run in specs:
        places.setdefault(change(run), Counter())[run.task, run.regime, run.problem] += 1
    assert places == arms
    assert ({run.seed for run in specs}, {run.protocol for run in specs}) == (seeds, {protocol})
    assert {run.model for run in specs} == {"gemma-3-270m" if name == "gemma" else DEFAULT}


def test_a_trained_prompt_is_that_of_the_next_problem():
    specs = experiment_specs("recipes", "full")
    donors = {run.problem: run.init_run for run in specs if run.init == "trained"}
    assert donors == {k: f"#{(k + 1) % 12}" for k in range(12)}
    (job,) = jobs_of([run for run in specs if run.init_run == "#3"])
    donor = next(run for run in specs if (run.problem, change(run)) == (3, ""))
    assert job.spec.init_run == donor.id(load_problems("gsm8k", problem=3))
    assert belongs(job.spec, "recipes", "full")
    assert not belongs(job.spec, "init", "full")


def test_fields_of_every_run_can_be_set():
    specs = experiment_specs("table3", "full", seed=0, epochs=50, data="some/folder", model=None)
    assert {(run.seed, run.epochs, run.data) for run in specs} == {(0, 50, "some/folder")}
    assert len(specs) == len(set(specs)) < len(experiment_specs("table3", "full")) / 2


def test_unknown_experiments_and_profiles_are_refused():
    with pytest.raises(
        InputError, match=r"experiment = 'table9'.*phenomenon, table3.*, gemma, all"
    ):
        experiment_specs("table9", "quick")
    with pytest.raises(InputError, match=r"profile = 'huge'.*smoke, quick, full, paper"):
        experiment_specs("table3", "huge")


def test_every_command_of_a_claim_is_an_experiment():
    for claim in CLAIMS:
        words = claim.command.split()
        assert words[:2] == ["tsp", "sweep"]
        model = words[words.index("--model") + 1] if "--model" in words else None
        specs = experiment_specs(words[2], words[words.index("--profile") + 1], model=model)
        assert {run.protocol for run in specs} >= {claim.protocol}
        assert max(run.epochs for run in specs) >= claim.length


def test_rounding_changes_how_a_run_is_computed_and_its_id(smoke):
    """Runs on the first problem differ in precision, number of threads or bank."""
    usual = {"epochs": 6, "snapshot_every": 2}
    first = {"model": "tiny-llama", "task": "gsm8k", "protocol": "tuned", "problem": 0, "seed": 1}
    runs = {
        change(run.spec, **usual): run
        for run in smoke.valid_runs()[0]
        if first.items() <= run.spec.to_dict().items()
    }
    plan = runs[""].record["plan"]
    assert (plan["precision"], plan["bank"]) == ("float32", len(runs[""].record["together"]))
    other_threads = 2 if plan["threads"] == 1 else 1
    changes = {"precision": "bfloat16", "threads": other_threads, "bank": 1}
    for kind, value in changes.items():
        run = runs[f"rounding={kind}"]
        assert run.record["plan"] | {"bank": 1} == plan | {kind: value, "bank": 1}
        torch.testing.assert_close(run.prompt(0), runs[""].prompt(0))
    assert run.record["together"] == [run.id]
    assert len({run.id for run in runs.values()}) == len(runs)
