"""Which runs each experiment has, on paper, and what the runs of profile `smoke` are."""

from collections import Counter

import pytest
import torch

from tests.conftest import problem, spec
from tsp.analysis.claims import CLAIMS
from tsp.errors import InputError
from tsp.experiments.banks import first_prompt
from tsp.experiments.catalogue import EXPERIMENTS, PROFILES, belongs, experiment_specs
from tsp.experiments.paper import MAIN_TASKS
from tsp.experiments.rules import RULES
from tsp.experiments.sweep import Events, ensure, jobs_of
from tsp.loss import TSLoss
from tsp.problems.loading import TASKS, load_problems
from tsp.store.runs import Store
from tsp.training.members import PromptRun
from tsp.training.models import DEFAULT
from tsp.training.penalties import penalties, scrambled
from tsp.training.prompts import initial_prompt
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
    papers = {run.model for run in experiment_specs("table3", "paper")}
    assert papers == {"open-llama-7b", "deepseek-7b-chat", "gemma-2b-it"}
    for profile in PROFILES:
        weights = {run.lambda_ts for run in experiment_specs("table4", profile)}
        assert weights == {0, 0.1, 0.5, 1, 10}
        assert {run.method for run in experiment_specs("baselines", profile)} == {*METHODS} - {
            "sham"
        }


def test_the_full_profile_is_what_is_published():
    """All six data sets, eight problems of each main one, five of the others, two sets of ten."""
    specs = experiment_specs("all", "full")
    tuned = [run for run in specs if run.protocol == "tuned" and run.model == DEFAULT]
    for task in TASKS:
        mine = [run for run in tuned if run.task == task and run.seed == 0 and run.method == "ce"]
        single = {run.problem for run in mine if run.regime == "single"}
        multi = {run.problem for run in mine if run.regime == "multi"}
        assert len(single) >= (8 if task in MAIN_TASKS else 5)
        assert len(multi) >= (1 if task == "longbench" else 2)
    assert {run.task for run in specs if run.model == "gemma-3-270m"} == set(MAIN_TASKS)
    assert {run.seed for run in tuned} == {0, 1, 2}
    assert {run.protocol for run in specs} == {"tuned", "paper"}
    seeds = [run.seed for run in experiment_specs("table4", "full")]
    assert seeds == sorted(seeds)  # problems before seeds


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


# Runs that were trained ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(smoke):
    """Runs of the newer experiments on the first problem, by their change from Standard."""
    few = {"epochs": 6, "snapshot_every": 2}
    wanted = {"model": "tiny-llama", "task": "gsm8k", "protocol": "tuned", "problem": 0, "seed": 1}
    return {
        change(run.spec, **few): run
        for run in smoke.valid_runs()[0]
        if wanted.items() <= run.spec.to_dict().items()
    }


def test_rounding_changes_how_a_run_is_computed_and_its_id(trained):
    usual = trained[""].record["plan"]

    def changed(kind):
        plan = trained[f"rounding={kind}"].record["plan"]
        return {name: value for name, value in plan.items() if value != usual[name]}

    assert changed("precision") | {"bank": 1} == {"precision": "bfloat16", "bank": 1}
    other = 2 if usual["threads"] == 1 else 1
    assert changed("threads") | {"bank": 1} == {"threads": other, "bank": 1}
    assert changed("bank") == {"bank": 1}
    alone = trained["rounding=bank"]
    assert alone.record["together"] == [alone.id]
    assert (usual["precision"], usual["bank"]) == ("float32", len(trained[""].record["together"]))
    assert len({run.id for run in trained.values()}) == len(trained)
    start = trained[""].prompt(0)
    for kind in ("precision", "threads", "bank"):
        torch.testing.assert_close(trained[f"rounding={kind}"].prompt(0), start)


def test_a_run_begins_with_the_donors_last_prompt(trained, smoke):
    run = trained["init=trained"]
    donor = smoke.read(run.spec.init_run)
    assert donor.spec == trained[""].spec.but(problem=1)
    assert torch.equal(run.prompt(0), donor.prompt(donor.prompt_epochs[-1]))
    assert not torch.equal(run.prompt(0), donor.prompt(0))
    assert torch.equal(first_prompt(run.spec, smoke), run.prompt(0))
    assert first_prompt(donor.spec, smoke) is None


def test_a_donor_that_is_missing_leaves_its_run_out_in_one_line(tmp_path):
    few = {"method": "ce", "task": "mmlu_cf", "epochs": 2, "n_tokens": 4}
    both = [spec(**few), spec(**few, init="trained", init_run="0123456789abcdef")]
    store, left = Store(tmp_path), []
    events = Events(left_out=lambda job, why: left.append((job.spec.init, why)))
    (run_id,) = ensure(both, store, device="cpu", events=events)
    assert store.ids() == [run_id]
    assert left == [("trained", f"init_run = '0123456789abcdef': is not stored in {tmp_path}")]


def test_runs_that_begin_with_a_prompt_are_trained_after_its_run(tmp_path):
    few = {"method": "ce", "task": "mmlu_cf", "epochs": 2, "n_tokens": 4}
    both = [spec(**few, init="trained", init_run="#1"), spec(**few, problem=1)]
    store = Store(tmp_path)
    ids = ensure(both, store, device="cpu")
    later, donor = sorted(map(store.read, ids), key=lambda run: run.spec.problem)
    assert later.spec.init_run == donor.id
    assert torch.equal(later.prompt(0), donor.prompt(2))
    assert sorted(ensure(both, store, device="cpu")) == sorted(ids)
    other = spec(**few | {"n_tokens": 5}, init="trained", init_run=donor.id)
    with pytest.raises(InputError, match=r"init_run = .*gave shape \(4, 32\), not \(5, 32\)"):
        ensure([other], store, device="cpu")


def test_a_prompt_begins_with_the_question_and_begins_it_again(tiny):
    frozen = tiny()
    tokens = frozen.tokenizer("2+2=? 3+3=?", add_special_tokens=False)["input_ids"]
    n = len(tokens) + 3
    for length in (n, 4):
        problems = [problem(), problem("3+3=?", "6")]
        cyclic = [tokens[k % len(tokens)] for k in range(length)]
        member = PromptRun(spec(init="question", n_tokens=length), frozen, problems)
        assert torch.equal(member.prompt.detach(), frozen.embed(tuple(cyclic)))
    with pytest.raises(InputError, match=r"init_run = '#1': gave no prompt"):
        initial_prompt(spec(init="trained", init_run="#1"), frozen, torch.Generator())


def test_a_sham_gradient_is_as_long_as_tslosss_and_points_elsewhere(tiny):
    P = [torch.randn(6, 32, generator=torch.Generator().manual_seed(k)) * 0.1 for k in range(2)]
    specs = [
        spec(method=method, lambda_ts=1.0, seed=seed, n_tokens=6)
        for method in ("tsloss", "sham")
        for seed in (3, 4)
    ]

    def gradients(prompts):
        return [gradient for _, gradient in penalties(specs, prompts)]

    real, other, sham, apart = gradients([P[0], P[0], P[0], P[0]])
    assert torch.equal(real, other)  # TSLoss knows no seed
    torch.testing.assert_close(sham.norm(dim=1), real.norm(dim=1))
    torch.testing.assert_close(sham @ sham.T, real @ real.T)
    torch.testing.assert_close(sham.abs().sort(dim=1).values, real.abs().sort(dim=1).values)
    cosine = torch.nn.functional.cosine_similarity(sham.flatten(), real.flatten(), dim=0)
    assert abs(cosine) < 0.5
    assert not torch.equal(sham, apart)
    later = gradients([P[1]] * 4)
    assert torch.equal(later[2], scrambled(later[0], seed=3))  # one map at every step
    assert torch.equal(sham, scrambled(real, seed=3))
    assert set(scrambled(torch.ones(1, 32), seed=3).flatten().tolist()) == {-1.0, 1.0}
    order = scrambled(torch.arange(32.0)[None], seed=3).abs().flatten().tolist()
    assert sorted(order) == list(range(32)) != order
    (row, _), (same, _) = penalties([specs[0], specs[2]], [P[0], P[0]])
    assert row["reg"] == same["reg"] == pytest.approx(TSLoss()(P[0]).item())
    assert row["grad_reg"] == pytest.approx(same["grad_reg"])


@pytest.mark.parametrize("norm", [0.5, 50.0, 0.0])
def test_clipping_limits_the_norm_of_the_gradient(norm, tiny):
    member = PromptRun(spec(clip_norm=norm), tiny(), [problem()])
    gradient = torch.ones_like(member.prompt)  # of norm sqrt(5 * 32) = 12.6
    member.step(gradient.clone())
    wanted = min(norm or 99.0, 160**0.5)
    assert member.prompt.grad.norm().item() == pytest.approx(wanted, rel=1e-4)
    torch.testing.assert_close(member.prompt.grad, gradient * wanted / 160**0.5)


@pytest.mark.parametrize(
    ("fields", "rates"),
    [  # of 300 steps, by step
        ({}, {0: 0, 3: 0.1, 30: 1, 165: 0.5, 299: 1 / 270}),
        ({"warmup_fraction": 0.0}, {0: 1, 150: 0.5, 299: 1 / 300}),
        ({"schedule": "constant"}, {0: 0, 3: 0.1, 30: 1, 299: 1}),
        ({"schedule": "constant", "warmup_fraction": 0.0}, {0: 1, 30: 1, 299: 1}),
        ({"protocol": "released"}, {0: 1, 299: 1}),
    ],
)
def test_schedules_by_hand(fields, rates, tiny):
    member = PromptRun(spec(**fields, lr=1.0), tiny(), [problem()])
    used = [member.step(torch.zeros_like(member.prompt)) for _ in range(300)]
    assert {step: used[step] for step in rates} == pytest.approx(rates)
