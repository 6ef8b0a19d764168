"""Held-out answers: what generate says, kept beside the runs."""

import pandas as pd
import pytest
import torch

from tests.conftest import problem, spec
from tests.handmade import stored
from tests.test_attention import lively
from tests.test_decoding import plain_greedy
from tsp.decoding import EXTRA_TOKENS
from tsp.evidence import same_conditions
from tsp.heldout import compared, evaluate, remember, unseen
from tsp.prompts import as_input
from tsp.reading import Row
from tsp.records import ANSWER_COLUMNS as COLUMNS
from tsp.records import NO_PROMPT as NONE
from tsp.records import load_answers as remembered
from tsp.runs import Store
from tsp.tasks import load_problems
from tsp.tiny import TINY

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
            codes[label, k] = coded, Row(as_input(vectors, told) if it else vectors, coded)
    longest = max(len(coded.target) for coded, _ in codes.values())
    for label in prompts:
        for k in range(len(ASKED)):
            ids = plain_greedy(frozen, codes[label, k][1], longest + EXTRA_TOKENS)
            said[label, k] = frozen.tokenizer.decode(ids, skip_special_tokens=True).strip()
    monkeypatch.setattr(
        "tsp.heldout.is_correct", lambda one, text: texts.append(text) or "s" in text
    )
    found = evaluate(frozen, prompts, ASKED)
    assert list(found.columns) == list(COLUMNS)
    assert list(zip(found.id, found.row, strict=True)) == [
        (name, k) for k in range(len(ASKED)) for name in prompts
    ]
    assert texts == [said[name, k] for name, k in zip(found.id, found.row, strict=True)]
    assert found.correct.tolist() == ["s" in text for text in texts]


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


def test_what_a_prompt_has_seen_is_not_asked(smoke):
    run = smoke.read(smoke.ids()[0])
    new, old = problem("new", "x"), load_problems(run.spec.task, problem=run.spec.problem)[0]
    assert unseen(run, [new, old]) == [new]


def rows(*correct, name="a"):
    told = [
        {"id": name, "model": "m", "task": "bbh", "source": "local", "row": k, "sha256": f"h{k}"}
        | {"longest": 40, "precision": "float32"}
        | {"score": float(it), "correct": bool(it)}
        for k, it in enumerate(correct)
    ]
    return pd.DataFrame(told, columns=list(COLUMNS))


def test_answers_are_kept_and_replaced_by_newer_ones(tmp_path):
    store = Store(tmp_path)
    assert remembered(store).empty
    assert list(remembered(store).columns) == list(COLUMNS)
    remember(store, rows(1, 0))
    remember(store, rows(0, name="b"))
    remember(store, rows(1, 1))
    found = remembered(store).set_index(["id", "row"]).correct.to_dict()
    assert found == {("a", 0): True, ("a", 1): True, ("b", 0): False}
    remember(store, rows(0, name="a").assign(model="another"))
    found = remembered(store).set_index(["model", "id", "row"]).correct.to_dict()
    assert (found["m", "a", 0], found["another", "a", 0]) == (True, False)
    assert store.ids() == []
    assert store.sound() == ([], {})


def test_the_command_asks_what_no_prompt_has_seen(tmp_path):
    """Each method's last prompts and no prompt, on ten problems; asked again nothing doubles."""
    from tests.test_packs import call
    from tsp.spec import METHODS

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
        assert sorted(asked.method) == sorted(METHODS)
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
    seen = {it["sha256"] for run in store.sound()[0] for it in run.record["problems"]}
    assert not seen & set(found.sha256)


def test_an_interrupted_evening_is_not_asked_again(tmp_path, monkeypatch):
    from tests.test_packs import call
    from tsp import heldout

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
    found = compared(store, task="gsm8k", model="smollm2-135m-instruct")
    assert {run.id for run in found} == wanted
    assert {
        run.spec.task for run in compared(store, task="mmlu_cf", model=found[0].spec.model)
    } == {"mmlu_cf"}


def test_the_command_wants_prompts(tmp_path):
    from tests.test_packs import call

    out = call("heldout", "--runs", tmp_path)
    assert "tsp sweep baselines" in str(out.exception)
