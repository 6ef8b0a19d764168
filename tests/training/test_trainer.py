import copy
import math
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

import tsp.training.checks
import tsp.training.forward
import tsp.training.trainer
from tests.conftest import PLAN, problem, spec
from tests.training.test_attention import lively
from tests.training.test_decoding import plain_greedy
from tsp.errors import InputError
from tsp.loss import TSLoss
from tsp.problems.loading import is_correct, load_problems
from tsp.training.decoding import EXTRA_TOKENS
from tsp.training.forward import TokenRow, forward_rows
from tsp.training.members import PromptRun, encode_all
from tsp.training.models import TINY, load
from tsp.training.prompts import as_input
from tsp.training.spec import METHODS, RunSpec
from tsp.training.trainer import Bank, Plan, train_bank

ONE = [problem("What is two and two?", "four")]
TEN = load_problems("mmlu_cf", regime="multi")
LETTERS = [problem(f"Which letter is number {k}?", "B", metric="choice") for k in range(9)]


def reference(run_spec, frozen, problems):
    """Section 4.2 written down again with nothing of the trainer: one run, one row at a time."""
    generator = torch.Generator().manual_seed(run_spec.seed)
    P = (torch.randn(run_spec.n_tokens, frozen.dim, generator=generator) * 0.02).to(frozen.dtype)
    P.requires_grad_()
    options = {"lr": run_spec.lr, "betas": (0.9, 0.98), "eps": 1e-8, "weight_decay": 0.01}
    optimizer = torch.optim.AdamW([P], **options)
    steps = math.ceil(len(problems) / 8)
    total, step = 300 * steps, 0
    loss = TSLoss(**run_spec.loss_options)
    prompts, losses = [P.detach().clone()], []
    for _ in range(run_spec.epochs):
        order = torch.randperm(len(problems), generator=generator).tolist()
        sums = []
        for start in range(0, len(order), 8):
            batch = order[start : start + 8]
            values, tokens = 0.0, 0
            for k in batch:
                coded = frozen.encode(
                    problems[k].question, problems[k].target, placement=run_spec.placement
                )
                parts = [frozen.embed(coded.before), P, frozen.embed(coded.after + coded.target)]
                logits = frozen.model(inputs_embeds=torch.cat(parts)[None]).logits[0]
                size = len(coded.target)
                values = values + torch.nn.functional.cross_entropy(
                    logits[-size - 1 : -1], torch.tensor(coded.target), reduction="sum"
                )
                tokens += size
            warm = math.ceil(0.1 * total)
            left = max(0.0, (total - step) / (total - warm))
            rate = run_spec.lr * (step / warm if step < warm else left)
            for group in optimizer.param_groups:
                group["lr"] = rate
            ce = values / tokens
            optimizer.zero_grad()
            (ce + run_spec.lambda_ts * loss(P)).backward()
            optimizer.step()
            sums.append(ce.item())
            step += 1
        prompts.append(P.detach().clone())
        losses.append(sum(sums) / len(sums))
    return prompts, losses


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-gemma", "tiny-gemma3", "tiny-qwen2"])
@pytest.mark.parametrize("placement", ["after_question", "prefix"])
def test_a_run_is_the_papers_training_loop(name, placement, tiny):
    frozen = tiny(name, torch.float64)
    run_spec = spec(model=name, placement=placement, epochs=5, lambda_ts=3.0, check_every=1)
    (result,) = train_bank([run_spec], frozen, [ONE], plan=PLAN)
    prompts, losses = reference(run_spec, frozen, ONE)
    assert len(prompts) == len(result.prompts)
    for epoch, prompt in enumerate(prompts):
        torch.testing.assert_close(result.prompts[epoch], prompt, rtol=1e-9, atol=1e-11)
    computed = [row["ce"] for row in result.epochs]
    torch.testing.assert_close(computed, losses, rtol=1e-9, atol=1e-11)


def test_ten_problems_are_two_steps_an_epoch_in_shuffled_order(tiny):
    frozen = tiny("tiny-llama", torch.float64)
    run_spec = spec(task="mmlu_cf", regime="multi", epochs=3, check_every=1)
    (result,) = train_bank([run_spec], frozen, [TEN], plan=Plan(token_budget=700, threads=1))
    assert [row["step"] for row in result.epochs] == [2, 4, 6]
    prompts, losses = reference(run_spec, frozen, TEN)
    torch.testing.assert_close(result.prompts[3], prompts[3], rtol=1e-8, atol=1e-11)
    torch.testing.assert_close([row["ce"] for row in result.epochs], losses, rtol=1e-9, atol=1e-11)


def mixed():
    """Runs that differ in everything a bank may mix, and their problems."""
    return [
        (spec(method="ce", epochs=5), ONE),
        (spec(lambda_ts=10.0, seed=1, epochs=4), [problem("Longer? " * 9, "yes indeed it is")]),
        (spec(method="l2", n_tokens=3, lr=0.01, placement="prefix", epochs=5), ONE),
        (spec(method="pairwise", seed=2, init="vocabulary", check_every=1), ONE),
        (spec(task="mmlu_cf", regime="multi", epochs=2), TEN),
        (spec(protocol="released", lr=0.05, epochs=3, n_tokens=4), ONE),
        (spec(method="persistence", lambda_ts=0.1, epochs=3, embed_scale=2.0), ONE),
    ]


KEYS = ("epoch", "problem", "answer", "score", "correct", "exact", "matched_tokens")


def assert_equal_results(mine, its, *, rtol):
    """Two trainings of one run: prompts, logs and checks."""
    assert sorted(mine.prompts) == sorted(its.prompts)
    for epoch, prompt in its.prompts.items():
        torch.testing.assert_close(mine.prompts[epoch], prompt, rtol=rtol, atol=rtol / 100)
    assert len(mine.epochs) == len(its.epochs)
    for row, other in zip(mine.epochs, its.epochs, strict=True):
        assert row == pytest.approx(other, rel=rtol, abs=rtol / 100)
    checks = [[{k: row[k] for k in KEYS} for row in run.checks] for run in (mine, its)]
    assert checks[0] == checks[1]
    assert mine.failure == its.failure


def test_a_bank_equals_its_runs_one_by_one(tiny):
    frozen = tiny("tiny-llama", torch.float64)
    specs, problems = zip(*mixed(), strict=True)
    together = train_bank(specs, frozen, problems, plan=PLAN)
    for run_spec, chosen, result in zip(specs, problems, together, strict=True):
        (alone,) = train_bank([run_spec], frozen, [chosen], plan=PLAN)
        assert_equal_results(result, alone, rtol=1e-10)


@st.composite
def mixtures(draw):
    """A family, a few runs that differ in anything, and a plan that cuts their rows anyhow."""
    name = draw(st.sampled_from(sorted(TINY)))
    texts = st.text("abc ?.", min_size=1, max_size=60)
    made = st.builds(problem, texts, st.text("abcd", min_size=1, max_size=12))
    runs = []
    for _ in range(draw(st.integers(2, 4))):
        chosen = draw(st.lists(made, min_size=1, max_size=3) | st.just(LETTERS))
        fields = {
            "method": draw(st.sampled_from(METHODS)),
            "lambda_ts": draw(st.sampled_from([0.1, 1.0, 30.0])),
            "lr": draw(st.sampled_from([0.3, 1e-2, 1e-4])),
            "seed": draw(st.integers(0, 5)),
            "n_tokens": draw(st.sampled_from([1, 3, 8])),
            "epochs": draw(st.integers(1, 3)),
            "placement": draw(st.sampled_from(["after_question", "after_question", "prefix"])),
            "protocol": draw(st.sampled_from(["tuned", "tuned", "released"])),
            "init": draw(st.sampled_from(["gaussian", "vocabulary"])),
            "embed_scale": draw(st.sampled_from([1.0, 3.0])),
            "check_every": draw(st.integers(1, 3)),
            "max_new_tokens": draw(st.sampled_from([1, 6])),
            "early_stop": draw(st.booleans()),
        }
        runs.append((spec(model=name, **fields), chosen))
    shared = draw(st.sampled_from([chosen for _, chosen in runs]))
    runs.append((runs[0][0].but(seed=7), shared))  # contexts that runs have in common
    budget = {"token_budget": draw(st.sampled_from([1, 150, 10**5]))}
    held = {"context_budget": draw(st.sampled_from([0, 20_000, 10**9]))}
    return name, runs, Plan(threads=1, **budget, **held)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(mixtures())
def test_any_bank_equals_its_runs_one_by_one(mixture):
    name, runs, plan = mixture
    frozen = lively(name, torch.float64)
    specs, problems = zip(*runs, strict=True)
    together = train_bank(specs, frozen, problems, plan=plan)
    for run_spec, chosen, result in zip(specs, problems, together, strict=True):
        (alone,) = train_bank([run_spec], frozen, [chosen], plan=PLAN)
        assert_equal_results(result, alone, rtol=1e-10)


@pytest.mark.parametrize("where", ["trainer", "decoding"])
def test_micro_batches_are_halved_when_memory_runs_out(tiny, monkeypatch, caplog, where):
    """The step, or the decoding, begins again in passes that fit; nothing is recorded twice."""
    frozen, specs = tiny("tiny-llama", torch.float64), [spec(seed=k, epochs=2) for k in range(4)]
    whole = train_bank(specs, frozen, [ONE] * 4, plan=PLAN)

    def small(frozen, rows, **options):
        if len(rows) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return forward_rows(frozen, rows, **options)

    monkeypatch.setattr(f"tsp.training.{where}.forward_rows", small)
    halved = train_bank(specs, frozen, [ONE] * 4, plan=PLAN)
    for one, other in zip(halved, whole, strict=True):
        assert_equal_results(one, other, rtol=1e-10)
    assert "out of memory; the token budget is now 64" in caplog.text


def test_what_does_not_fit_at_all_is_an_error(tiny, monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(tsp.training.trainer, "forward_rows", full)
    with pytest.raises(torch.OutOfMemoryError):
        train_bank([spec()], tiny(), [ONE], plan=PLAN)


def test_the_frozen_weights_stay_bit_identical():
    frozen = load("tiny-llama", device="cpu")
    before = copy.deepcopy(frozen.model.state_dict())
    train_bank([spec(), spec(method="ce", seed=1)], frozen, [ONE, ONE], plan=PLAN)
    after = frozen.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(weight.grad is None for weight in frozen.model.parameters())


def test_the_same_plan_gives_the_same_bytes(tiny):
    specs, problems = zip(*mixed(), strict=True)
    first, again = (train_bank(specs, tiny(), problems, plan=PLAN) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        assert one.epochs == other.epochs
        assert one.checks == other.checks
        for epoch in one.prompts:
            assert one.prompts[epoch].numpy().tobytes() == other.prompts[epoch].numpy().tobytes()


def test_the_global_seed_does_not_matter(tiny):
    torch.manual_seed(1)
    (first,) = train_bank([spec()], tiny(), [ONE], plan=PLAN)
    torch.manual_seed(2)
    (again,) = train_bank([spec()], tiny(), [ONE], plan=PLAN)
    assert torch.equal(first.prompts[4], again.prompts[4])
    (other,) = train_bank([spec(seed=9)], tiny(), [ONE], plan=PLAN)
    assert not torch.equal(first.prompts[0], other.prompts[0])


def test_training_solves_a_problem_and_early_stop_ends_it(tiny):
    run_spec = spec(n_tokens=16, lr=0.3, epochs=200, check_every=2, early_stop=True)
    target = [problem("Which letter?", "B", metric="choice")]
    (result,) = train_bank([run_spec], tiny(), [target], plan=PLAN)
    right = [row["epoch"] for row in result.checks if row["correct"]]
    assert right
    assert right[0] == result.checks[-1]["epoch"] == len(result.epochs) < 200
    (longer,) = train_bank(
        [run_spec.but(early_stop=False, epochs=right[0] + 4)], tiny(), [target], plan=PLAN
    )
    assert len(longer.epochs) == right[0] + 4
    assert torch.equal(longer.prompts[right[0]], result.prompts[right[0]])


def test_a_finished_run_leaves_the_bank(tiny, monkeypatch):
    rows = []

    def noted(frozen, given, **options):
        rows.append(len(given))
        return forward_rows(frozen, given, **options)

    monkeypatch.setattr(tsp.training.trainer, "forward_rows", noted)
    short, long = spec(epochs=2), spec(epochs=6, seed=1)
    results = train_bank([short, long], tiny(), [ONE, ONE], plan=PLAN)
    assert [len(result.epochs) for result in results] == [2, 6]
    assert [max(result.prompts) for result in results] == [2, 6]
    assert rows == [2, 2, 1, 1, 1, 1]


# Checks: what is recorded is what plain generation says from the prompt of that epoch.


def checks_by_generate(run_spec, frozen, problems, prompts):
    """The record of checks written down again by transformers alone."""
    computed = []
    for epoch, prompt in sorted(prompts.items()):
        for k, one in enumerate(problems):
            end = {"placement": run_spec.placement, "end": run_spec.settings.end_token}
            coded = frozen.encode(one.question, one.target, **end)
            limit = run_spec.max_new_tokens or len(coded.target) + EXTRA_TOKENS
            ids = plain_greedy(frozen, TokenRow(as_input(prompt, run_spec), coded), limit)
            pairs = enumerate(zip(ids, coded.target, strict=False))
            longest = min(len(ids), len(coded.target))
            matched = next((i for i, (a, b) in pairs if a != b), longest)
            text = frozen.tokenizer.decode(ids, skip_special_tokens=True).strip()
            row = {"epoch": epoch, "problem": k, "answer": text, "matched_tokens": matched}
            row |= {"exact": matched == len(coded.target), "correct": is_correct(one, text)}
            computed.append(row)
    return computed


def assert_checks_are_those_of_generate(frozen, result):
    """A check that is not complete may lack answers if a wrong one is there."""
    wanted = checks_by_generate(result.spec, frozen, result.problems, result.prompts)
    checks = [{k: row[k] for k in wanted[0]} for row in result.checks]
    every, last = result.spec.snapshot_every, result.spec.epochs
    wrong = {row["epoch"] for row in checks if not row["correct"]}
    lacking = [row for row in wanted if row not in checks]
    assert [row for row in wanted if row in checks] == checks
    assert {row["epoch"] for row in lacking} <= wrong
    assert not any(row["epoch"] in (0, last) or row["epoch"] % every == 0 for row in lacking)


CHECKED = [
    ({"check_every": 1, "epochs": 8}, 1),  # more than wait for each other
    ({"check_every": 2, "epochs": 5}, 1),
    ({"check_every": 3, "epochs": 5, "placement": "prefix"}, 1),
    ({"check_every": 7, "epochs": 3, "max_new_tokens": 0}, 1),
    ({"check_every": 2, "epochs": 3, "protocol": "released", "max_new_tokens": 20}, 1),
    ({"check_every": 1, "epochs": 3, "embed_scale": 4.0, "max_new_tokens": 1}, 2),
    ({"check_every": 2, "epochs": 3}, 10),
    ({"check_every": 1, "epochs": 1, "method": "ce", "placement": "prefix"}, 10),
]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", sorted(TINY))
def test_checks_are_what_plain_generate_says(name, precision):
    """Single and ten problems, all phases of checks, in one bank; bfloat16 decides nothing."""
    frozen = lively(name)
    specs = [
        spec(**{"model": name, "lr": 0.5, "seed": k, "max_new_tokens": 9} | fields)
        for k, (fields, _) in enumerate(CHECKED)
    ]
    problems = [TEN[:count] for _, count in CHECKED]
    results = train_bank(specs, frozen, problems, plan=replace(PLAN, precision=precision))
    for result in results:
        assert_checks_are_those_of_generate(frozen, result)
    assert len({row["answer"] for row in results[0].checks}) > 1  # or any epoch would do


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_checks_of_solved_runs_are_what_plain_generate_says(precision, monkeypatch):
    """Training passes settle what is right by clear margins, and generation the rest."""
    frozen, known, settled = lively("tiny-llama"), [], tsp.training.trainer.settled

    def noted(reader, reading, wishes, *, exact):
        computed = settled(reader, reading, wishes, exact=exact)
        known.append((len(computed), len(wishes), reader.dtype))
        return computed

    monkeypatch.setattr(tsp.training.trainer, "settled", noted)
    fields = {"n_tokens": 16, "lr": 0.3, "early_stop": True, "max_new_tokens": 12}
    specs = [spec(**fields, epochs=60), spec(**fields, epochs=60, check_every=1, seed=1)]
    specs.append(spec(**fields | {"early_stop": False}, epochs=40, check_every=5))
    problems = [LETTERS, LETTERS[:1], LETTERS[:1]]
    results = train_bank(specs, frozen, problems, plan=replace(PLAN, precision=precision))
    for result in results:
        assert_checks_are_those_of_generate(frozen, result)
        assert any(row["correct"] for row in result.checks)
    assert {dtype for _, _, dtype in known} == {getattr(torch, precision)}
    assert 0 < sum(computed for computed, _, _ in known) < sum(wished for _, wished, _ in known)


def ends_early(lr, **fields):
    """Train on nine problems, all answered at each check or only to the first wrong answer."""
    frozen = lively("tiny-llama")
    fields = {"n_tokens": 16, "lr": lr, "max_new_tokens": 12, "check_every": 1} | fields
    specs = [spec(**fields, seed=seed) for seed in range(3)]
    return [
        train_bank([one.but(snapshot_every=every) for one in specs], frozen, [LETTERS] * 3)
        for every in (1, 7)
    ]


@pytest.mark.parametrize(("lr", "early_stop"), [(0.3, True), (0.3, False), (1e-4, True)])
def test_a_check_that_ends_at_a_wrong_answer_changes_no_outcome(lr, early_stop):
    every, some = ends_early(lr, epochs=24, early_stop=early_stop)
    for full, short in zip(every, some, strict=True):
        assert short.solved_epoch == full.solved_epoch
        assert short.epochs == full.epochs
        assert all(row in full.checks for row in short.checks)
        spared = len(full.checks) - len(short.checks)
        wrong = [epoch for epoch, right in full.correct().items() if right < 1 and epoch % 7]
        assert len(wrong) <= spared <= 8 * len(wrong)
    assert (lr == 0.3) == any(result.solved_epoch for result in every)


def test_the_problem_that_was_wrong_is_asked_first():
    run = PromptRun(spec(snapshot_every=4, max_new_tokens=0), lively("tiny-llama"), TEN[:4])
    rows = [(0, 2, False), (0, 1, True), (4, 2, True), (4, 3, False), (5, 0, False)]
    run.result.checks = [{"epoch": e, "problem": k, "correct": right} for e, k, right in rows]
    length = run.longest_answer
    assert run.likely_wrong(3) == [*sorted((0, 2, 3), key=length), 1]
    assert run.likely_wrong(8) == [*sorted((0, 1, 3), key=length), 2]
    run.spec = run.spec.but(max_new_tokens=9)
    assert run.likely_wrong(6) == [0, 1, 3, 2]


def test_how_far_a_prompt_moved_is_told():
    """Net, epoch by epoch: from one check to the next where every epoch is checked."""
    run_spec = spec(epochs=5, check_every=1, lr=0.1, regime="multi", max_new_tokens=1)
    (result,) = train_bank([run_spec], load(run_spec.model, device="cpu"), [TEN], plan=PLAN)
    prompts = [result.prompts[epoch] for epoch in range(6)]
    moved = [(b - a).norm().item() for a, b in pairwise(prompts)]
    assert [row["moved"] for row in result.epochs] == pytest.approx(moved)
    assert min(moved) > 0


def test_terms_as_long_as_the_cross_entropys_gradient(monkeypatch):
    """Weighting `gradient`: each term is made as long, then weighted; the zero term stays zero."""
    frozen, taken = lively("tiny-llama"), []
    monkeypatch.setattr(PromptRun, "step", lambda run, gradient: taken.append(gradient) or 0.1)
    arms = [{}, {"beta_h0": 0.5, "lambda_ts": 3.0}, {"n_tokens": 1}]
    specs = [spec(weighting="gradient", **arm) for arm in arms]
    for run_spec in specs:
        run = PromptRun(run_spec, frozen, ONE)
        gradient = torch.randn(run.prompt.shape, generator=torch.Generator().manual_seed(1))
        tsp.training.trainer.step_together([run], {run: tsp.training.trainer.Loss(1.0, gradient)})
        P = run.prompt.detach().clone().requires_grad_()
        loss = TSLoss(**run_spec.loss_options)
        h0, h1 = (torch.autograd.grad(getattr(loss.terms(P), item), P)[0] for item in ("h0", "h1"))
        wanted = gradient.clone()
        for part, beta in ((h0, run_spec.beta_h0), (h1, run_spec.beta_h1)):
            if part.norm() > 0:
                wanted += run_spec.lambda_ts * beta * gradient.norm() * part / part.norm()
        torch.testing.assert_close(taken.pop(), wanted)


def test_runs_that_begin_alike_are_answered_once(monkeypatch):
    """Before training, methods of one seed have one prompt; other seeds and limits do not."""
    frozen, asked, answers = lively("tiny-llama"), [], tsp.training.trainer.greedy_answers

    def noted(frozen, rows, **options):
        asked.append(len(rows))
        return answers(frozen, rows, **options)

    monkeypatch.setattr(tsp.training.trainer, "greedy_answers", noted)
    arms = [{"method": "ce"}, {}, {"method": "l2"}, {"max_new_tokens": 5}, {"seed": 1}]
    specs = [spec(**{"max_new_tokens": 7, "epochs": 2, "lr": 0.5} | arm) for arm in arms]
    bank = Bank([PromptRun(item, frozen, TEN[:2]) for item in specs], frozen, PLAN)
    bank.advance(0)
    bank.answer()
    assert asked == [2 * 3]
    for run in bank.runs:
        assert_checks_are_those_of_generate(frozen, run.result)
        assert [row["problem"] for row in run.result.checks] == [0, 1]
    bank.advance(1)
    bank.advance(2)
    bank.answer()
    assert sum(asked) == 2 * 3 + 2 * 5
    for run in bank.runs:
        assert_checks_are_those_of_generate(frozen, run.result)


@pytest.mark.parametrize("fails", [False, True])
def test_answers_that_wait_change_nothing(fails, monkeypatch):
    """A run that is solved trains on until that is known; what it did since then is dropped.

    Even that it failed: alone it would have stopped before.
    """
    frozen, trained = lively("tiny-llama", torch.float64), []
    fields = {"n_tokens": 16, "lr": 0.3, "early_stop": True, "max_new_tokens": 12, "check_every": 1}
    specs = [spec(**fields, epochs=20, seed=k) for k in range(2)] + [spec(epochs=3)]
    problems = [LETTERS, LETTERS[2:] + LETTERS[:2], ONE]
    alone = [
        train_bank([one], frozen, [chosen], plan=PLAN)[0]
        for one, chosen in zip(specs, problems, strict=True)
    ]
    watch = PromptRun.watch

    def failing(run, row, **options):
        watch(run, row, **options)
        if fails and len(run.problems) > 1 and run.steps >= 20:
            run.result.failure = "not finite"

    monkeypatch.setattr(PromptRun, "watch", failing)
    monkeypatch.setattr(tsp.training.checks, "WAITING_ROWS", 10**6)
    monkeypatch.setattr(tsp.training.checks, "WAITING_EPOCHS", 10**6)
    monkeypatch.setattr(tsp.training.checks, "STOPPING_EPOCHS", 10**6)
    results = train_bank(
        specs, frozen, problems, plan=PLAN, on_progress=lambda item: trained.append(item.epoch)
    )
    assert trained[-1] == (10 if fails else 20)
    for result, other in zip(results, alone, strict=True):
        assert_equal_results(result, other, rtol=1e-10)
        assert len(result.epochs) < 6
        assert result.epochs[-1]["epoch"] == result.checks[-1]["epoch"] == max(result.prompts)


def test_check_zero_sees_the_prompt_before_any_step(tiny):
    (result,) = train_bank([spec(check_every=3, epochs=7)], tiny(), [ONE], plan=PLAN)
    assert [row["epoch"] for row in result.checks] == [0, 3, 6, 7]
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(result.prompts[0], torch.randn(5, 32, generator=generator) * 0.02)
    assert result.epochs[0]["lr"] == 0  # the first step of a linear warm-up
    assert result.epochs[1]["lr"] == pytest.approx(0.05 / 30)


def test_logged_norms_are_those_of_the_gradients(tiny):
    frozen = tiny("tiny-llama", torch.float64)
    run_spec = spec(epochs=1, lambda_ts=5.0)
    (result,) = train_bank([run_spec], frozen, [ONE], plan=PLAN)
    P = result.prompts[0].clone().requires_grad_()
    terms = TSLoss().terms(P)
    row = result.epochs[0]
    for name in ("h0", "repel", "attract"):
        (gradient,) = torch.autograd.grad(getattr(terms, name), P, retain_graph=True)
        assert row[f"grad_{name}"] == pytest.approx(gradient.norm().item(), rel=1e-9)
        assert row[name] == pytest.approx(getattr(terms, name).item(), rel=1e-9)
    (gradient,) = torch.autograd.grad(terms.total, P)
    assert row["grad_ts"] == row["grad_reg"] == pytest.approx(gradient.norm().item(), rel=1e-9)
    assert row["ts"] == row["reg"] == pytest.approx(terms.total.item(), rel=1e-9)
    assert row["total"] == pytest.approx(row["ce"] + 5 * row["ts"], rel=1e-12)


def test_without_a_regulariser_its_value_is_zero_and_tsloss_is_still_watched(tiny):
    (result,) = train_bank([spec(method="ce")], tiny(), [ONE], plan=PLAN)
    row = result.epochs[-1]
    assert (row["reg"], row["grad_reg"], row["total"]) == (0, 0, row["ce"])
    assert row["ts"] > 0
    assert row["grad_ts"] > 0


def test_the_window_holds_the_question_the_prompt_and_the_longer_answer(tiny, monkeypatch):
    """Of the reference and the longest answer one is there at a time."""
    frozen, one = tiny(), problem("?", "four")
    coded = frozen.encode(one.question, one.target)
    question = len(coded.before) + 16 + len(coded.after)
    for limit, length in ((2, len(coded.target)), (20, 20), (0, len(coded.target) + EXTRA_TOKENS)):
        run = spec(n_tokens=16, max_new_tokens=limit)
        for spare in (0, -1):
            window = question + length + spare
            monkeypatch.setattr(frozen.model.config, "max_position_embeddings", window)
            with pytest.raises(InputError, match="takes") if spare else nullcontext():
                encode_all(run, frozen, [one])


def test_a_loss_that_is_no_number_stops_the_run(tiny):
    frozen = load("tiny-llama", device="cpu")
    frozen.model.model.norm.weight.fill_(float("nan"))
    (result,) = train_bank([spec()], frozen, [ONE], plan=PLAN)
    assert "not finite after 1 steps: ce" in result.failure
    assert "lower lr (0.05)" in result.failure
    assert len(result.epochs) == 1


def test_bf16_weights_keep_float32_prompts(tiny):
    frozen = tiny("tiny-llama", torch.bfloat16)
    (result,) = train_bank([spec()], frozen, [ONE], plan=PLAN)
    assert all(prompt.dtype == torch.float32 for prompt in result.prompts.values())


QUICK = {"task": "mmlu_cf", "n_tokens": 6, "lr": 0.03, "max_new_tokens": 4, "check_every": 1}


def test_a_bank_of_the_real_model_equals_its_runs_and_plain_generate(smollm):
    problems = [TEN[:1], TEN[1:2]]
    specs = [RunSpec(**QUICK, epochs=3, seed=k) for k in range(2)]
    results = train_bank(specs, smollm, problems)
    for run_spec, chosen, result in zip(specs, problems, results, strict=True):
        (alone,) = train_bank([run_spec], smollm, [chosen])
        assert result.epochs[-1]["ce"] == pytest.approx(alone.epochs[-1]["ce"], abs=1e-4)
        assert not torch.equal(result.prompts[3], result.prompts[0])  # it moved
        torch.testing.assert_close(result.prompts[3], alone.prompts[3], rtol=1e-3, atol=1e-4)
        assert_checks_are_those_of_generate(smollm, result)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_checks_of_the_real_model_are_what_plain_generate_says(precision, smollm):
    specs = [
        RunSpec(task="mmlu_cf", epochs=12, early_stop=True),
        RunSpec(task="mmlu_cf", epochs=5, check_every=3, seed=1),
        RunSpec(task="mmlu_cf", regime="multi", epochs=6, max_new_tokens=20),
    ]
    problems = [TEN[:1], TEN[3:4], TEN]
    plan = Plan(precision=precision)
    results = train_bank(specs, smollm, problems, plan=plan)
    for result in results:
        assert_checks_are_those_of_generate(smollm, result)
    assert len(results[2].checks) < 4 * 10  # two of its four checks end early


VIEWS = {"view", "_unsafe_view", "transpose", "t", "slice", "select", "expand", "permute"}
VIEWS |= {"detach", "unsqueeze", "alias", "split", "squeeze", "unbind", "split_with_sizes"}


class Dispatched(TorchDispatchMode):
    """Counts operations other than those that only make a view."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket.__name__ not in VIEWS
        return func(*args, **(kwargs or {}))


def test_a_step_asks_a_gpu_for_little_more_with_each_run(tiny, monkeypatch):
    """A GPU is called for each operation, so those of a step of 256 runs must be few.

    A run's own: its row is put together, its optimiser moves it.
    """
    monkeypatch.setattr(tsp.training.forward, "CHUNK", 10**6)  # about as on a GPU
    monkeypatch.setattr(tsp.training.forward, "LANE", 10**6)
    frozen, counts = tiny("tiny-llama"), {}
    for runs in (2, 6):
        specs = [spec(seed=seed, check_every=2, method="tsloss") for seed in range(runs)]
        bank = Bank(
            [PromptRun(one, frozen, ONE) for one in specs],
            frozen,
            replace(PLAN, token_budget=10**5),
        )
        bank.advance(0)
        with Dispatched() as dispatched:
            bank.advance(1)
        counts[runs] = dispatched.count
    assert (counts[6] - counts[2]) / 4 <= 35
