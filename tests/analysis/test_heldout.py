"""Held-out problems: what generate says, the reference's loss, kept beside the runs, paired."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from tests.conftest import problem, spec
from tests.handmade import stored
from tests.terminal import fails, tsp, write
from tests.training.test_attention import lively, recomputed
from tests.training.test_decoding import plain_greedy
from tsp.analysis import evaluation
from tsp.analysis.evaluation import ask, evaluate, remember, runs_to_evaluate
from tsp.analysis.evidence import same_conditions
from tsp.analysis.heldout import across_sets, paired_losses
from tsp.analysis.records import ANSWER_COLUMNS as COLUMNS
from tsp.analysis.records import NO_PROMPT as NONE
from tsp.analysis.records import load_answers, load_heldout
from tsp.errors import InputError
from tsp.store.runs import ANSWERS, Store
from tsp.training.decoding import EXTRA_TOKENS
from tsp.training.forward import TokenRow
from tsp.training.models import TINY
from tsp.training.prompts import as_input
from tsp.training.spec import METHODS

ASKED = [problem("2+2=?", "4"), problem("3+3=?", "six", row=1), problem("Who?", "me", row=2)]


@pytest.mark.parametrize("name", sorted(TINY))
def test_answers_are_those_of_generate(name, monkeypatch):
    frozen, generator, texts, rows = lively(name), torch.Generator().manual_seed(1), [], []
    specs = {
        "a": spec(model=name),
        "b": spec(model=name, placement="prefix", embed_scale=2.0),
        "c": spec(model=name, protocol="released", n_tokens=3),
    }
    prompts = {NONE: None} | {
        label: (run, torch.randn(run.n_tokens, frozen.dim, generator=generator))
        for label, run in specs.items()
    }
    for one in ASKED:
        for prompt in prompts.values():
            run, vectors = prompt or (spec(), torch.zeros(0, frozen.dim))
            how = {"placement": run.placement, "end": run.settings.end_token}
            coded = frozen.encode(one.question, one.target, **how)
            rows.append(TokenRow(as_input(vectors, run) if prompt else vectors, coded))
    sizes = [len(row.encoded.target) for row in rows]
    said = [plain_greedy(frozen, row, max(sizes) + EXTRA_TOKENS) for row in rows]
    said = [frozen.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in said]
    monkeypatch.setattr(
        "tsp.analysis.evaluation.is_correct", lambda one, text: texts.append(text) or "s" in text
    )
    table = evaluate(frozen, prompts, ASKED)
    assert list(table.columns) == COLUMNS
    asked = [(label, k) for k in range(len(ASKED)) for label in prompts]
    assert list(zip(table.id, table.row, strict=True)) == asked
    assert texts == said
    assert table.correct.tolist() == ["s" in text for text in said]
    assert table.target_tokens.tolist() == sizes
    losses = [float(recomputed(frozen, row)[0]) for row in rows]
    np.testing.assert_allclose(table.ce, np.divide(losses, sizes), rtol=1e-4)
    bare = evaluate(frozen, prompts, ASKED, decode=False)
    np.testing.assert_allclose(bare.ce, table.ce, rtol=1e-6)
    assert (set(bare.longest), bare[["score", "correct"]].isna().all(axis=None)) == ({0}, True)


# What is kept --------------------------------------------------------------------------------


def rows(*values, name="a", **columns):
    """Answers of a prompt to problems 0, 1, …; a value is the loss, and 0 is a wrong answer."""
    about = {"id": name, "model": "m", "task": "bbh", "source": "local", "target_tokens": 2}
    about |= {"longest": 40, "precision": "float32"} | columns
    problems = [
        {"row": k, "sha256": f"h{k}", "score": float(x), "correct": bool(x), "ce": float(x)}
        for k, x in enumerate(values)
    ]
    return pd.DataFrame([one | about for one in problems], columns=COLUMNS)


def test_answers_under_other_conditions_are_not_pooled():
    low, other = rows(1, 0, precision="bfloat16"), rows(1, model="another", precision="bfloat16")
    kept = same_conditions(pd.concat([low, rows(1, 1, 1, longest=20), rows(0), other]))
    assert kept.groupby(["model", "longest", "precision"]).size().to_dict() == {
        ("m", 20, "float32"): 3,
        ("another", 40, "bfloat16"): 1,
    }
    assert same_conditions(rows()).empty


def test_answers_are_kept_and_replaced_by_newer_ones(store):
    assert load_answers(store).empty
    assert list(load_answers(store).columns) == COLUMNS
    for answers in (rows(1, 0), rows(0, name="b"), rows(1, 1), rows(0, model="another")):
        remember(store, answers)
    kept = load_answers(store).set_index(["model", "id", "row"]).correct.to_dict()
    expected = {("m", "a", 0): True, ("m", "a", 1): True, ("m", "b", 0): False}
    assert kept == expected | {("another", "a", 0): False}
    assert store.valid_runs() == ([], {})


def test_published_answers_are_not_copied_into_a_store(store, tmp_path, monkeypatch):
    """Else they would replace a later version of the published ones."""
    published = Store(tmp_path / "published")
    remember(published, rows(1, 0))
    monkeypatch.setattr(Store, "folders", lambda self: [self.root, published.root])
    remember(store, rows(1, name="b"))
    assert set(load_heldout(store).id) == {"a", "b"}
    assert pd.read_parquet(store.root / ANSWERS).id.tolist() == ["b"]


def test_losses_may_be_without_answers_and_answers_without_losses(store):
    """Answers may have been written before losses were measured."""
    remember(store, rows(1, 0))
    old = pd.read_parquet(store.root / ANSWERS).drop(columns=["ce", "target_tokens"])
    old.assign(correct=old.correct.astype(bool)).to_parquet(store.root / ANSWERS, index=False)
    assert load_heldout(store)[["ce", "target_tokens"]].isna().all(axis=None)
    remember(store, rows(1, name="b", longest=0, score=np.nan, correct=None))
    assert load_heldout(store).ce.isna().tolist() == [True, True, False]
    assert load_heldout(store).correct.isna().tolist() == [False, False, True]
    assert load_answers(store).id.tolist() == ["a", "a"]
    assert load_answers(store).correct.tolist() == [True, False]
    assert load_answers(store).correct.dtype == bool


# Pairs ---------------------------------------------------------------------------------------


def runs_of(**runs):
    """Runs by id: (method, content, seed), and where it is not 100 the number of epochs."""
    about = [(name, *fields, 100)[:5] for name, fields in runs.items()]
    return pd.DataFrame(about, columns=["id", "method", "content", "seed", "epochs"])


PAIR = runs_of(a=("ce", "x+y", 0), b=("tsloss", "x+y", 0))


def changes(*tables, runs=PAIR):
    """The change of each set of problems."""
    return paired_losses(pd.concat(tables), runs).change.tolist()


def test_losses_are_paired_by_problem():
    """Three problems, of which the second was not asked with TSLoss and the third has seeds."""
    seeds = runs_of(c=("ce", "x+y", 1), d=("tsloss", "x+y", 1))
    runs = pd.concat([PAIR, seeds])
    table = pd.concat(
        [
            rows(1.0, 9.0, 2.0),
            rows(0.5, 9.0, 2.5, name="b").drop(index=1),
            rows(0.0, 0.0, 1.0, name="c").tail(1),
            rows(0.0, 0.0, 2.5, name="d").tail(1),
            rows(3.0, 9.0, 2.0, name=NONE),
        ]
    )
    (row,) = paired_losses(table, runs).itertuples()
    assert (row.model, row.task, row.content, row.problems) == ("m", "bbh", "x+y", 2)
    expected = (1.0 + 1.5) / 2, (0.5 + 2.5) / 2, (-0.5 + (0.5 + 1.5) / 2) / 2
    assert (row.with_base, row.with_method, row.change) == pytest.approx(expected)
    assert (row.lower, np.isnan(row.low)) == (0.5, True)
    (row,) = paired_losses(table, runs, base=NONE, method="ce").itertuples()
    assert row.problems == 3
    assert row.change == pytest.approx((-2.0 + 0.0 + (0.0 - 1.0) / 2) / 3)
    assert row.lower == pytest.approx(2 / 3)


def test_only_equal_conditions_are_paired():
    """Not in precision, target length, model, seed, set or epochs; float32 where there are two."""
    plain, treated = rows(1.0), rows(2.0, name="b")
    for other in ({"precision": "bfloat16"}, {"target_tokens": 3}, {"model": "n"}, {"ce": np.nan}):
        assert changes(plain, treated.assign(**other)) == []
    for other in (("tsloss", "x+y", 1), ("tsloss", "x+z", 0), ("tsloss", "x+y", 0, 300)):
        assert changes(plain, treated, runs=runs_of(a=("ce", "x+y", 0), b=other)) == []
    low = [rows(7.0, name=name, precision="bfloat16") for name in "ab"]
    assert changes(*low, plain, treated) == [1.0]
    longer = runs_of(c=("ce", "x+y", 0, 300), d=("tsloss", "x+y", 0, 300))
    tables = plain, treated, rows(1.0, name="c"), rows(5.0, name="d")
    assert changes(*tables, runs=pd.concat([longer, PAIR])) == [4.0]


def test_the_interval_of_a_set_is_that_of_a_mean_over_problems():
    """About 1.96 standard errors either way; a set of one difference has no width."""
    change = np.random.default_rng(0).normal(0.3, 1.0, size=200)
    (row,) = paired_losses(
        pd.concat([rows(*np.zeros(200)), rows(*change, name="b")]), PAIR
    ).itertuples()
    half = 1.96 * change.std() / np.sqrt(200)
    expected = change.mean() - half, change.mean() + half
    assert (row.low, row.high) == pytest.approx(expected, abs=0.02)
    table = pd.concat([rows(*np.zeros(6)), rows(*np.full(6, 0.25), name="b")])
    assert paired_losses(table, PAIR)[["low", "high"]].to_numpy().tolist() == [[0.25, 0.25]]


def test_fewer_than_six_sets_are_called_few():
    two, six = across_sets({"two": [-1.0, -3.0], "six": [-k for k in range(1, 7)]}).itertuples()
    assert (two.few, two.n, two.below, two.median) == (True, 2, 2, -2.0)
    assert np.isnan([two.p, two.p_holm, two.low, two.high]).all()
    assert (six.few, six.median, six.low, six.high) == (False, -3.5, -6.0, -1.0)
    assert six.p == six.p_holm == pytest.approx(2 * 0.5**6)


# Which prompts are asked what ----------------------------------------------------------------


def test_a_problem_beyond_the_window_is_refused(tiny):
    with pytest.raises(InputError, match=r"row 7 .*takes \d+ tokens.*reads 4096"):
        evaluate(tiny(), {NONE: None}, [problem("x" * 5000, "y", row=7)], decode=False)


def test_a_set_of_ten_is_asked_what_is_outside_of_it(tmp_path):
    """Two sets, each asked the other's problems; both are asked the ten that neither has."""
    lines = [f'{{"question": "{k}+1=?", "answer": "#### {k + 1}"}}' for k in range(30)]
    store, data = Store(tmp_path / "runs"), write(tmp_path / "gsm8k.jsonl", *lines)
    where = ["--model", "tiny-llama", "--runs", store.root, "--data", data, "--regime", "multi"]
    for first in (0, 10):
        for method in (["ce"], ["tsloss", "--lambda-ts", 1]):
            words = ["--problem", first, "--epochs", 2, "--protocol", "tuned", "--method", *method]
            assert tsp("run", *where, *words).returncode == 0
    asking = ["heldout", *where, "--first", 0, "--many"]
    assert tsp(*asking, 10).returncode == 0
    decoded = load_heldout(store)
    for _ in range(2):  # what was decoded has its loss already; asked again nothing doubles
        done = tsp(*asking, 30, "--no-decode")
        assert done.returncode == 0, done.stderr
        assert "answers right" not in done.stdout
    asked = load_heldout(store).groupby("id").row.agg(sorted).to_dict()
    expected = {NONE: list(range(30))}
    for run in store.frame().itertuples():
        expected[run.id] = sorted(set(range(30)) - set(range(run.problem, run.problem + 10)))
    assert asked == expected
    assert sorted(set(load_answers(store).row)) == list(range(10))
    assert len(load_answers(store)) == len(decoded)


@pytest.fixture
def trained(smoke, tmp_path):
    """A copy of the trained store, to which answers may be added."""
    shutil.copytree(smoke.root, tmp_path / "runs")
    return Store(tmp_path / "runs")


def test_the_command_asks_what_no_prompt_has_seen(trained):
    """Each method's last prompts and no prompt, on ten problems; asked again nothing doubles."""
    words = ["heldout", "--data", "shipped", "--model", "tiny-llama", "--first", 5, "--many", 10]
    words += ["--runs", trained.root]
    for _ in range(2):
        done = tsp(*words)
        assert done.returncode == 0, done.stderr
        answers = load_answers(trained)
        methods = [trained.read(name).spec.method for name in set(answers.id) - {NONE}]
        assert sorted(methods) == sorted({*METHODS} - {"sham"})
        assert answers.groupby("id").size().tolist() == [10] * len(METHODS)
    assert done.stdout.startswith(NONE)
    assert "0 of 10 problems asked" in done.stderr
    assert tsp(*words, "--precision", "bfloat16").returncode == 0
    both = load_answers(trained)
    assert both.groupby("precision").size().tolist() == [len(answers)] * 2
    pd.testing.assert_series_equal(both.dtypes, answers.dtypes)
    seen = {one["sha256"] for run in trained.valid_runs()[0] for one in run.record["problems"]}
    assert not seen & set(answers.sha256)


def test_an_interrupted_evening_is_not_asked_again(trained, monkeypatch):
    about = {"task": "gsm8k", "model": "tiny-llama", "data": "shipped", "rows": range(5, 15)}
    whole = ask(trained, **about)
    (trained.root / ANSWERS).unlink()
    asked = []

    def failing(frozen, prompts, problems, **more):
        asked.append((len(prompts), len(problems)))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return evaluate(frozen, prompts, problems, **more)

    monkeypatch.setattr(evaluation, "evaluate", failing)
    with pytest.raises(KeyboardInterrupt):
        ask(trained, **about)
    again = ask(trained, **about)
    assert asked == [(whole.id.nunique(), 5)] * 3  # the first five only once
    both = (table.sort_values(["id", "row"], ignore_index=True) for table in (again, whole))
    pd.testing.assert_frame_equal(*both)


def test_only_comparable_runs_are_asked(store):
    """Problems and seeds with the most methods, weight 1, defaults, one task and protocol."""
    treated = {"method": "tsloss", "lambda_ts": 1.0}
    arms = [{"method": "ce"}, treated, {"method": "l2", "lambda_ts": 1.0}]
    wanted = {stored(store, **arm, contents=("a",), problem=0) for arm in arms}
    for arm in arms[:2]:  # without L2
        stored(store, **arm, contents=("b",), problem=1)
    stored(store, method="tsloss", lambda_ts=10.0, contents=("a",), problem=0)
    for other in ({"protocol": "paper"}, {"tau": 1.0}, {"task": "mmlu_cf"}, {"regime": "multi"}):
        stored(store, contents=("c",) * 10, **treated, **other)
    model = "smollm2-135m-instruct"
    assert {run.id for run in runs_to_evaluate(store, task="gsm8k", model=model)} == wanted
    (other,) = runs_to_evaluate(store, task="mmlu_cf", model=model)
    assert other.spec.task == "mmlu_cf"


def test_nothing_to_ask_is_refused(smoke, tmp_path):
    fails(2, "tsp sweep baselines", "heldout", "--data", "shipped", "--runs", tmp_path)
    about = {"task": "mmlu_cf", "model": "tiny-llama", "data": "shipped", "regime": "multi"}
    with pytest.raises(InputError, match="all are trained on"):
        ask(smoke, **about, rows=range(10))
