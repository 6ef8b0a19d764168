"""Held-out problems: what generate says, the reference's loss, kept beside the runs, paired."""

import numpy as np
import pandas as pd
import pytest
import torch

from tests.conftest import problem, spec
from tests.handmade import stored
from tests.training.test_attention import lively, recomputed
from tests.training.test_decoding import plain_greedy
from tsp.analysis.evidence import same_conditions
from tsp.analysis.heldout import across_sets, ask, compared, evaluate, paired_losses, remember
from tsp.analysis.records import ANSWER_COLUMNS as COLUMNS
from tsp.analysis.records import NO_PROMPT as NONE
from tsp.analysis.records import load_answers as remembered
from tsp.analysis.records import load_heldout
from tsp.errors import InputError
from tsp.store.runs import ANSWERS, Store
from tsp.training.decoding import EXTRA_TOKENS
from tsp.training.forward import TokenRow
from tsp.training.models import TINY
from tsp.training.prompts import as_input

ASKED = [problem("2+2=?", "4"), problem("3+3=?", "six", row=1), problem("Who?", "me", row=2)]


def given(frozen, seed, **fields):
    generator = torch.Generator().manual_seed(seed)
    told = spec(model=frozen.name, **fields)
    return told, torch.randn(told.n_tokens, frozen.dim, generator=generator)


@pytest.mark.parametrize("name", sorted(TINY))
def test_answers_are_those_of_generate(name, monkeypatch):
    frozen, texts = lively(name), []
    prompts = {
        NONE: None,
        "a": given(frozen, 1),
        "b": given(frozen, 2, placement="prefix", embed_scale=2.0),
        "c": given(frozen, 3, protocol="released", n_tokens=3),
    }
    said, codes = {}, {}
    for label, it in prompts.items():
        for k, one in enumerate(ASKED):
            told, vectors = it or (spec(), torch.zeros(0, frozen.dim))
            coded = frozen.encode(
                one.question, one.target, placement=told.placement, end=told.settings.end_token
            )
            codes[label, k] = coded, TokenRow(as_input(vectors, told) if it else vectors, coded)
    longest = max(len(coded.target) for coded, _ in codes.values())
    for label in prompts:
        for k in range(len(ASKED)):
            ids = plain_greedy(frozen, codes[label, k][1], longest + EXTRA_TOKENS)
            said[label, k] = frozen.tokenizer.decode(ids, skip_special_tokens=True).strip()
    monkeypatch.setattr(
        "tsp.analysis.heldout.is_correct", lambda one, text: texts.append(text) or "s" in text
    )
    found = evaluate(frozen, prompts, ASKED)
    assert list(found.columns) == COLUMNS
    assert list(zip(found.id, found.row, strict=True)) == [
        (name, k) for k in range(len(ASKED)) for name in prompts
    ]
    assert texts == [said[name, k] for name, k in zip(found.id, found.row, strict=True)]
    assert found.correct.tolist() == ["s" in text for text in texts]
    for row in found.itertuples():
        whole = codes[row.id, row.row][1]
        size = len(whole.encoded.target)
        assert row.target_tokens == size
        assert row.ce == pytest.approx(float(recomputed(frozen, whole)[0]) / size, rel=1e-4)
    ce = evaluate(frozen, prompts, ASKED, decode=False)
    assert np.allclose(ce.ce, found.ce, rtol=1e-6)
    assert (set(ce.longest), ce.score.isna().all(), ce.correct.isna().all()) == ({0}, True, True)


def test_pairs_to_skip_are_not_asked():
    frozen = lively("tiny-llama")
    prompts, skip = {NONE: None, "a": given(frozen, 1)}, {("a", ASKED[1].sha256)}
    found = evaluate(frozen, prompts, ASKED[:2], decode=False, skip=skip)
    assert list(zip(found.id, found.row, strict=True)) == [(NONE, 0), ("a", 0), (NONE, 1)]


def test_answers_under_other_conditions_are_not_pooled():
    short = rows(1, 1, 1).assign(longest=20)
    low = rows(1, 0).assign(precision="bfloat16")
    other = rows(1).assign(model="another", precision="bfloat16")
    kept = same_conditions(pd.concat([low, short, rows(0), other]))
    assert kept.groupby(["model", "longest", "precision"]).size().to_dict() == {
        ("m", 20, "float32"): 3,
        ("another", 40, "bfloat16"): 1,
    }
    assert same_conditions(rows()).empty


def rows(*correct, name="a"):
    told = [
        {"id": name, "model": "m", "task": "bbh", "source": "local", "row": k, "sha256": f"h{k}"}
        | {"longest": 40, "precision": "float32"}
        | {"score": float(it), "correct": bool(it), "ce": 0.5, "target_tokens": 2}
        for k, it in enumerate(correct)
    ]
    return pd.DataFrame(told, columns=COLUMNS)


def test_answers_are_kept_and_replaced_by_newer_ones(tmp_path):
    store = Store(tmp_path)
    assert remembered(store).empty
    assert list(remembered(store).columns) == COLUMNS
    for answers in (rows(1, 0), rows(0, name="b"), rows(1, 1), rows(0).assign(model="another")):
        remember(store, answers)
    found = remembered(store).set_index(["model", "id", "row"]).correct.to_dict()
    expected = {("m", "a", 0): True, ("m", "a", 1): True, ("m", "b", 0): False}
    assert found == expected | {("another", "a", 0): False}
    assert store.ids() == []
    assert store.valid_runs() == ([], {})


def test_losses_may_be_without_answers_and_answers_without_losses(tmp_path):
    """Answers may have been written before losses were measured."""
    store = Store(tmp_path)
    remember(store, rows(1, 0))
    old = pd.read_parquet(tmp_path / ANSWERS).drop(columns=["ce", "target_tokens"])
    old.assign(correct=old.correct.astype(bool)).to_parquet(tmp_path / ANSWERS, index=False)
    assert load_heldout(store)[["ce", "target_tokens"]].isna().all(axis=None)
    remember(store, rows(1, name="b").assign(longest=0, score=np.nan, correct=None))
    assert load_heldout(store).ce.isna().tolist() == [True, True, False]
    assert load_heldout(store).correct.isna().tolist() == [False, False, True]
    assert remembered(store).id.tolist() == ["a", "a"]
    assert remembered(store).correct.tolist() == [True, False]
    assert remembered(store).correct.dtype == bool


SET = "m", "bbh", "x+y"


def losses(name, *ce, tokens=2, precision="float32", **more):
    table = rows(*ce, name=name).assign(ce=ce, target_tokens=tokens, precision=precision)
    return table.assign(**more)


def runs_of(**methods):
    """Runs by id: (method, content, seed), and where it is not 100 the number of epochs."""
    told = [(name, *it, 100)[:5] for name, it in methods.items()]
    return pd.DataFrame(told, columns=["id", "method", "content", "seed", "epochs"])


def test_losses_are_paired_by_problem():
    """Three problems, of which the second was not asked with TSLoss and the third has seeds."""
    runs = runs_of(
        a=("ce", "x+y", 0), b=("tsloss", "x+y", 0), c=("ce", "x+y", 1), d=("tsloss", "x+y", 1)
    )
    table = pd.concat(
        [
            losses("a", 1.0, 9.0, 2.0),
            losses("b", 0.5, 9.0, 2.5).drop(index=1),
            losses("c", 0.0, 0.0, 1.0).drop(index=[0, 1]),
            losses("d", 0.0, 0.0, 2.5).drop(index=[0, 1]),
            losses(NONE, 3.0, 9.0, 2.0),
        ]
    )
    (found,) = paired_losses(table, runs).to_dict("records")
    assert (found["model"], found["task"], found["content"]) == SET
    assert found["problems"] == 2
    assert found["with_base"] == pytest.approx((1.0 + 1.5) / 2)
    assert found["with_method"] == pytest.approx((0.5 + 2.5) / 2)
    assert found["change"] == pytest.approx((-0.5 + (0.5 + 1.5) / 2) / 2)
    assert (found["lower"], np.isnan(found["low"])) == (0.5, True)
    (found,) = paired_losses(table, runs, base=NONE, method="ce").to_dict("records")
    assert found["problems"] == 3
    assert found["change"] == pytest.approx((-2.0 + 0.0 + (0.0 - 1.0) / 2) / 3)
    assert found["lower"] == pytest.approx(2 / 3)


def test_only_equal_conditions_are_paired():
    """Not in precision, target length, model, seed, set or epochs; float32 where there are two."""
    runs = runs_of(a=("ce", "x+y", 0), b=("tsloss", "x+y", 0))
    plain = losses("a", 1.0)
    for other in ({"precision": "bfloat16"}, {"tokens": 3}, {"model": "n"}):
        assert paired_losses(pd.concat([plain, losses("b", 2.0, **other)]), runs).empty
    for other in (("tsloss", "x+y", 1), ("tsloss", "x+z", 0), ("tsloss", "x+y", 0, 300)):
        table = pd.concat([plain, losses("b", 2.0)])
        assert paired_losses(table, runs_of(a=("ce", "x+y", 0), b=other)).empty
    low = [losses(name, 7.0, precision="bfloat16") for name in "ab"]
    found = paired_losses(pd.concat([*low, plain, losses("b", 2.0)]), runs)
    assert found.change.tolist() == [1.0]
    longer = runs_of(c=("ce", "x+y", 0, 300), d=("tsloss", "x+y", 0, 300))
    table = pd.concat([plain, losses("b", 2.0), losses("c", 1.0), losses("d", 5.0)])
    assert paired_losses(table, pd.concat([longer, runs])).change.tolist() == [4.0]
    old = plain.assign(ce=np.nan)
    assert paired_losses(pd.concat([old, losses("b", 2.0)]), runs).empty


def test_the_interval_of_a_set_is_that_of_a_mean_over_problems():
    """About 1.96 standard errors either way; a set of one difference has no width."""
    change = np.random.default_rng(0).normal(0.3, 1.0, size=200)
    runs = runs_of(a=("ce", "x+y", 0), b=("tsloss", "x+y", 0))
    table = pd.concat([losses("a", *np.zeros(200)), losses("b", *change)])
    (found,) = paired_losses(table, runs).to_dict("records")
    half = 1.96 * change.std() / np.sqrt(200)
    assert found["low"] == pytest.approx(change.mean() - half, abs=0.02)
    assert found["high"] == pytest.approx(change.mean() + half, abs=0.02)
    table = pd.concat([losses("a", *np.zeros(6)), losses("b", *np.full(6, 0.25))])
    assert paired_losses(table, runs)[["low", "high"]].to_numpy().tolist() == [[0.25, 0.25]]


def test_fewer_than_six_sets_are_called_few():
    two, six = across_sets({"two": [-1.0, -3.0], "six": [-k for k in range(1, 7)]}).itertuples()
    assert (two.few, two.n, two.below, two.median) == (True, 2, 2, -2.0)
    assert np.isnan([two.p, two.p_holm, two.low, two.high]).all()
    assert (six.few, six.median, six.low, six.high) == (False, -3.5, -6.0, -1.0)
    assert six.p == six.p_holm == pytest.approx(2 * 0.5**6)


def test_a_set_of_ten_is_asked_what_is_outside_of_it(tmp_path):
    """Two sets, each asked the other's problems; both are asked the ten that neither has."""
    from tests.conftest import call

    runs, data = tmp_path / "runs", tmp_path / "data"
    data.mkdir()
    lines = [f'{{"question": "{k}+1=?", "answer": "#### {k + 1}"}}\n' for k in range(30)]
    (data / "gsm8k.jsonl").write_text("".join(lines))
    told = ["--model", "tiny-llama", "--runs", runs, "--data", data, "--regime", "multi"]
    for first in (0, 10):
        for method in (["ce"], ["tsloss", "--lambda-ts", "1"]):
            more = ["--problem", str(first), "--epochs", "2", "--protocol", "tuned"]
            out = call("run", *told, *more, "--method", *method)
            assert out.exit_code == 0, out.output
    asking = ["heldout", *told, "--first", "0", "--many"]
    assert call(*asking, "10").exit_code == 0
    decoded = load_heldout(Store(runs))
    for _ in range(2):  # what was decoded has its loss already; asked again nothing doubles
        out = call(*asking, "30", "--no-decode")
        assert out.exit_code == 0, out.output
        assert "answers right" not in out.stdout
    store = Store(runs)
    found = load_heldout(store)
    assert set(found.id) == {NONE, *store.ids()}
    assert sorted(found[found.id == NONE].row) == list(range(30))
    for row in store.frame().itertuples():
        seen = range(row.problem, row.problem + 10)
        assert sorted(found[found.id == row.id].row) == sorted(set(range(30)) - set(seen))
    assert sorted(set(remembered(store).row)) == list(range(10))
    assert len(remembered(store)) == len(decoded)


def test_problems_that_every_prompt_was_trained_on_are_refused(smoke):
    told = {"task": "mmlu_cf", "model": "tiny-llama", "data": "shipped", "regime": "multi"}
    with pytest.raises(InputError, match="all are trained on"):
        ask(smoke, **told, rows=range(10))


def test_the_command_asks_what_no_prompt_has_seen(tmp_path):
    """Each method's last prompts and no prompt, on ten problems; asked again nothing doubles."""
    from tests.conftest import call
    from tsp.training.spec import METHODS

    runs = tmp_path / "runs"
    out = call("sweep", "baselines", "--profile", "smoke", "--runs", runs, "--epochs", "2")
    assert out.exit_code == 0, out.output
    told = ["--model", "tiny-llama", "--first", "5", "--many", "10", "--runs", runs]
    for _ in range(2):
        out = call("heldout", *told)
        assert out.exit_code == 0, out.output
        store = Store(runs)
        found = remembered(store)
        asked = store.frame().query("lambda_ts in (0, 1)")
        assert set(found.id) == {NONE, *asked.id}
        assert sorted(asked.method) == sorted({*METHODS} - {"sham"})
        assert found.groupby("id").size().unique().tolist() == [10]
    assert out.stdout.startswith(NONE)
    assert "0 of 10 problems asked" in out.stderr
    assert set(found.precision) == {"float32"}
    assert call("heldout", *told, "--precision", "bfloat16").exit_code == 0
    both = remembered(store)
    assert both.groupby("precision").size().to_dict() == {
        "bfloat16": len(found),
        "float32": len(found),
    }
    assert both.dtypes.to_dict() | {"correct": bool} == found.dtypes.to_dict() | {"correct": bool}
    seen = {it["sha256"] for run in store.valid_runs()[0] for it in run.record["problems"]}
    assert not seen & set(found.sha256)


def test_an_interrupted_evening_is_not_asked_again(tmp_path, monkeypatch):
    from tests.conftest import call
    from tsp.analysis import heldout

    runs = tmp_path / "runs"
    call("sweep", "baselines", "--profile", "smoke", "--runs", runs, "--epochs", "2")
    told = {"task": "gsm8k", "model": "tiny-llama", "data": "shipped", "rows": range(5, 15)}
    whole = heldout.ask(Store(runs), **told)
    (runs / "heldout" / "answers.parquet").unlink()
    asked, evaluate_ = [], heldout.evaluate

    def failing(frozen, prompts, problems, **more):
        if len(asked) == 1:
            asked.append("stopped")
            raise KeyboardInterrupt
        asked.append((len(prompts), len(problems)))
        return evaluate_(frozen, prompts, problems, **more)

    monkeypatch.setattr(heldout, "evaluate", failing)
    with pytest.raises(KeyboardInterrupt):
        heldout.ask(Store(runs), **told)
    again = heldout.ask(Store(runs), **told)
    every = whole.id.nunique()
    assert asked == [(every, 5), "stopped", (every, 5)]  # the first five only once
    key = ["id", "row"]
    pd.testing.assert_frame_equal(
        again.sort_values(key, ignore_index=True), whole.sort_values(key, ignore_index=True)
    )


def test_only_comparable_runs_are_asked(tmp_path):
    """Problems and seeds with the most methods, weight 1, defaults, one task and protocol."""
    store = Store(tmp_path)
    arms = [{"method": "ce"}, *({"method": it, "lambda_ts": 1.0} for it in ("tsloss", "l2"))]
    told = {"contents": ("a",), "problem": 0}
    wanted = {stored(store, **arm, **told) for arm in arms}
    for arm in arms[:2]:  # without L2
        stored(store, **arm, contents=("b",), problem=1)
    stored(store, method="tsloss", lambda_ts=10.0, **told)
    for other in ({"protocol": "paper"}, {"tau": 1.0}, {"task": "mmlu_cf"}, {"regime": "multi"}):
        stored(store, method="tsloss", lambda_ts=1.0, contents=("c",) * 10, **other)
    model = "smollm2-135m-instruct"
    assert {run.id for run in compared(store, task="gsm8k", model=model)} == wanted
    (other,) = compared(store, task="mmlu_cf", model=model)
    assert other.spec.task == "mmlu_cf"


def test_the_command_wants_prompts(tmp_path):
    from tests.conftest import call

    out = call("heldout", "--runs", tmp_path)
    assert "tsp sweep baselines" in str(out.exception)
