import random
from dataclasses import replace
from functools import cache
from itertools import product

import pytest
import torch

import tsp.training.decoding
from tests.conftest import problem
from tests.training.test_attention import limits as limits_of_attention
from tests.training.test_attention import lively, made_rows
from tsp.problems.loading import load_problems
from tsp.training.attention import Context
from tsp.training.base_lm import Encoded
from tsp.training.decoding import NEAR, DecodingRequest, batches, greedy_answers, settled
from tsp.training.forward import Choice, ForwardOutput, TokenRow, forward_rows
from tsp.training.models import TINY
from tsp.training.prefix_cache import PrefixCache


def plain_greedy(frozen, row, limit):
    """The same by transformers alone: one sequence, from the question on, nothing assumed."""
    embeds = torch.cat(
        [
            frozen.embed(row.encoded.before),
            row.prompt.to(frozen.device),
            frozen.embed(row.encoded.after),
        ]
    )[None]
    mask = torch.ones(embeds.shape[:2], dtype=torch.long, device=frozen.device)
    with torch.no_grad():
        out = frozen.model.generate(
            inputs_embeds=embeds, attention_mask=mask, max_new_tokens=limit, do_sample=False
        )[0].tolist()
    end = next((k for k, token in enumerate(out) if token in frozen.end_ids), len(out) - 1)
    return tuple(out[: end + 1])


def random_rows(frozen, targets, *, scale, seed=0, share=True):
    generator = torch.Generator().manual_seed(seed)
    rows, contexts = [], PrefixCache(frozen, 10**9 if share else 0, dtypes=[frozen.dtype])
    for i, target in enumerate(targets):
        prompt = torch.randn(3 + i, frozen.dim, generator=generator) * scale
        coded = frozen.encode(f"Question number {i}: " + "why? " * i, target)
        rows.append(TokenRow(prompt, coded, contexts.of(coded.before)))
    return rows


@pytest.mark.parametrize("name", sorted(TINY))
def test_answers_equal_plain_generate(name):
    frozen = lively(name)
    rows = random_rows(frozen, ["12", "a longer reference answer", "x", "yes"], scale=0.3)
    limits = [9, 17, 1, 6]
    found = greedy_answers(
        frozen, rows, requests=[DecodingRequest(limit) for limit in limits], token_budget=160
    )
    for row, limit, answer in zip(rows, limits, found, strict=True):
        assert answer.ids == plain_greedy(frozen, row, limit)
        assert len(answer.ids) <= limit


def with_target(row, target):
    """The same row with another reference."""
    return replace(row, encoded=replace(row.encoded, target=tuple(target)))


@pytest.mark.parametrize("name", sorted(TINY))
def test_answers_that_agree_with_the_reference_for_a_while(name):
    """Use what the model itself says, then change it in the middle: generation starts there."""
    frozen = lively(name)
    (row,) = random_rows(frozen, ["?"], scale=0.3)
    said = plain_greedy(frozen, row, 12)
    same = with_target(row, said[:8])
    differs = with_target(row, (*said[:5], (said[5] + 1) % 256, *said[6:8]))
    wishes = [DecodingRequest(8), DecodingRequest(12)]
    whole, part = greedy_answers(frozen, [same, differs], requests=wishes, token_budget=999)
    assert whole.ids == said[:8]
    assert whole.exact
    assert whole.matched == 8
    assert part.ids == said
    assert not part.exact
    assert part.matched == 5


@pytest.mark.parametrize("agreed", [0, 3, 5, 7, 99])
@pytest.mark.parametrize("name", sorted(TINY))
def test_where_a_difference_is_looked_for_changes_no_answer(name, agreed, monkeypatch):
    """The reference is read up to there alone, whether they agree for longer or not as long."""
    frozen = lively(name)
    (row,) = random_rows(frozen, ["?"], scale=0.3)
    said = plain_greedy(frozen, row, 12)
    targets = [said[:8], (*said[:5], (said[5] + 1) % 256, *said[6:8]), (3, 4)]
    rows = [with_target(row, target) for target in targets]
    short = [min(len(target), agreed + 1) for target in targets]

    def noted(frozen, rows, **told):
        sizes.extend(len(it.encoded.target) for it in rows)
        return forward_rows(frozen, rows, **told)

    sizes = []
    monkeypatch.setattr(tsp.training.decoding, "forward_rows", noted)
    found, wanted = (
        greedy_answers(frozen, rows, requests=[DecodingRequest(12, agreed=it)] * 3, token_budget=99)
        for it in (agreed, None)
    )
    assert sorted(sizes) == sorted([*short, *map(len, targets)])
    assert found == wanted
    assert {answer.ids for answer in found} == {said}


@pytest.mark.parametrize("name", sorted(TINY))
def test_a_reference_without_an_end_token_is_gone_on_from(name):
    """As protocol `released` has it: all of the reference is chosen, and more follows."""
    frozen = lively(name)
    rows = random_rows(frozen, ["?"] * 3, scale=0.3)
    said = [plain_greedy(frozen, row, 14) for row in rows]
    rows = [with_target(row, ids[:6]) for row, ids in zip(rows, said, strict=True)]
    wishes = [DecodingRequest(limit) for limit in (14, 9, 4)]
    found = greedy_answers(frozen, rows, requests=wishes, token_budget=999)
    for answer, ids, wish in zip(found, said, wishes, strict=True):
        assert answer.ids == ids[: wish.limit]
    assert [answer.exact for answer in found] == [True, True, False]
    assert [answer.matched for answer in found] == [6, 6, 4]


# Rows of different lengths, contexts and references, decoded together.

LIMIT = 24


@cache
def talk(name):
    """A tiny model, rows with and without contexts, and what it says of each until some end.

    Two more tokens end an answer, so that rows end at different times. References agree to the
    end, for a while and then not, for a while and no further, or not at all.
    """
    frozen = lively(name, torch.float64)
    rows = made_rows(frozen, [(40, 4, 3, 1)] * 4 + [(9, 2, 3, 1)] * 3 + [(0, 5, 4, 1)] * 3)
    said = [plain_greedy(frozen, row, LIMIT) for row in rows]
    frozen = replace(frozen, end_ids=(*frozen.end_ids, said[0][7], said[4][14]))
    said = [to_its_end(ids, frozen.end_ids) for ids in said]
    kinds = [
        lambda ids: ids,
        lambda ids: (*ids[: len(ids) // 2], 3, 4, 5),
        lambda ids: ids[: len(ids) // 2 + 1],
        lambda ids: (3, 4),
    ]
    rows = [
        with_target(row, kinds[i % 4](ids))
        for i, (row, ids) in enumerate(zip(rows, said, strict=True))
    ]
    return frozen, rows, said


def to_its_end(ids, ends):
    """A text up to its first end token, that included."""
    return ids[: next((k + 1 for k, token in enumerate(ids) if token in ends), len(ids))]


@pytest.mark.parametrize("name", sorted(TINY))
@pytest.mark.parametrize("budget", [1, 70, 10**4])
def test_rows_decoded_together_say_what_each_says_alone(name, budget):
    """Whatever their order, their limits and the micro-batches; some rows leave early."""
    frozen, rows, said = talk(name)
    draw = random.Random(budget)
    order = draw.sample(range(len(rows)), len(rows)) * 2
    limits = [draw.choice([1, 2, draw.randint(1, LIMIT), LIMIT]) for _ in order]
    wishes = [DecodingRequest(limit) for limit in limits]
    with limits_of_attention(piece=draw.choice([1, 3000, 10**6])):
        answers = greedy_answers(
            frozen, [rows[i] for i in order], requests=wishes, token_budget=budget
        )
    for i, limit, answer in zip(order, limits, answers, strict=True):
        assert answer.ids == said[i][:limit]


@pytest.mark.parametrize("name", sorted(TINY))
def test_the_texts_of_these_tests_differ(name):
    """Or they would show nothing: some end early, and contexts have several lengths."""
    _, rows, said = talk(name)
    assert len(set(said)) > len(said) // 2
    assert min(len(ids) for ids in said) < LIMIT // 2
    assert max(len(ids) for ids in said) == LIMIT
    assert {len(row.encoded.before) for row in rows} == {0, 9, 40}


def test_no_rows_have_no_answers(tiny):
    assert greedy_answers(tiny(), [], requests=[], token_budget=9) == []


def test_an_answer_ends_with_its_end_token(tiny):
    frozen = tiny()
    rows = random_rows(frozen, [""] * 8, scale=2.0, seed=3)
    said = [plain_greedy(frozen, row, 10) for row in rows]
    ended = [ids[-1] in frozen.end_ids for ids in said]
    assert 0 < sum(ended) < 8, "no random prompt made the model stop: the test would show nothing"
    found = greedy_answers(frozen, rows, requests=[DecodingRequest(10)] * 8, token_budget=9999)
    assert [answer.ids for answer in found] == said
    assert not any("<end>" in answer.text for answer in found)


# What a reading alone settles.

BEFORE, AFTER = (5, 6), (7,)


def told(target, ids, margins):
    """A reading of one row that chose ``ids`` by some margins."""
    row = TokenRow(torch.zeros(2, 32), Encoded(BEFORE, AFTER, target))
    return ForwardOutput([row], torch.zeros(1), {0: Choice(ids, margins)}, None)


CLEAR, CLOSE = NEAR + 0.01, NEAR - 0.01
END = 2


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(
    ("target", "ids", "margins", "limit", "clear", "answer"),
    [
        ((9, 8, END), (9, 8, END), (CLEAR, CLEAR, CLEAR), 9, True, (9, 8, END)),
        ((9, 8, END), (9, 8, END), (NEAR, NEAR, NEAR), 9, True, (9, 8, END)),
        ((9, 8, END), (9, 8, END), (CLEAR, CLOSE, CLEAR), 9, False, (9, 8, END)),
        ((9, 8, END), (9, 8, END), (CLEAR, CLEAR, CLOSE), 9, False, (9, 8, END)),
        ((9, 8, END), (9, 8, END), (CLOSE, CLEAR, CLEAR), 9, False, (9, 8, END)),
        ((9, 8, END), (9, END, 7), (CLEAR, CLEAR, 0.0), 9, True, (9, END)),  # ends another way
        ((9, 8, END), (9, END, 7), (CLEAR, 0.0, CLEAR), 9, False, (9, END)),
        ((9, 8, END), (9, 7, END), (CLEAR, CLEAR, CLEAR), 2, True, (9, 7)),  # as long as it may be
        ((9, 8, END), (9, 7, END), (CLEAR, CLOSE, CLEAR), 2, False, (9, 7)),
        ((9, 8, END), (9, 8, END), (CLEAR, 0.0, 0.0), 1, True, (9,)),
        ((9, 8, END), (9, 7, END), (CLEAR, CLEAR, CLEAR), 9, None, None),  # must be gone on from
        ((9, 8), (9, 8), (CLEAR, CLEAR), 9, None, None),
        ((9, 8), (9, 8), (CLEAR, CLEAR), 2, True, (9, 8)),
    ],
)
def test_a_reading_settles_what_has_ended_by_clear_margins(
    exact, target, ids, margins, limit, clear, answer, tiny
):
    """In a lower precision by clear margins alone; in the model's own whatever the margin."""
    found = settled(tiny(), told(target, ids, margins), {0: DecodingRequest(limit)}, exact=exact)
    if answer is None or not (exact or clear):
        assert found == {}
    else:
        assert found[0].ids == answer
        assert found[0].exact == (answer == target)


def test_a_row_that_is_not_asked_about_is_not_settled(tiny):
    reading = told((9, END), (9, END), (CLEAR, CLEAR))
    assert settled(tiny(), reading, {}, exact=True) == {}


# The real model, which also ends early of itself.

QUESTIONS = [
    ("Answer with one word: what colour is the sky?", "The sky is blue."),
    ("What is 2+2? Answer with a number only.", "2 + 2 = 4"),  # what it says
    ("Say yes.", "yes"),
    ("Capital of France? One word.", "Paris"),
]


def real_rows(frozen, count, *, scale):
    """Random prompts behind a few questions whose contexts they share."""
    generator = torch.Generator().manual_seed(0)
    contexts, rows = PrefixCache(frozen, 10**9, dtypes=[frozen.dtype]), []
    for i in range(count):
        coded = frozen.encode(*QUESTIONS[i % len(QUESTIONS)])
        prompt = torch.randn(2 + i % 7, frozen.dim, generator=generator) * scale
        rows.append(TokenRow(prompt, coded, contexts.of(coded.before)))
    return rows


def test_the_real_model_answers_as_plain_generate_does(smollm):
    """Two of the answers end early."""
    rows, limits = real_rows(smollm, 4, scale=0.02), [12, 12, 8, 1]
    said = [plain_greedy(smollm, row, limit) for row, limit in zip(rows, limits, strict=True)]
    wishes = [DecodingRequest(limit) for limit in limits]
    answers = greedy_answers(smollm, rows, requests=wishes, token_budget=4096)
    assert [answer.ids for answer in answers] == said
    lengths = [len(ids) for ids in said]
    assert max(lengths[:2]) < 12
    assert lengths[2:] == [8, 1]


def test_batches_keep_to_the_budget_and_put_rows_of_one_context_side_by_side():
    a, b = Context(1, {}), Context(1, {})
    contexts, lengths = [a, b, None, a, b, a, None], [5, 100, 7, 30, 30, 6, 64]
    rows = [
        TokenRow(torch.zeros(length, 2), Encoded((), (), (9,)), context)
        for length, context in zip(lengths, contexts, strict=True)
    ]
    assert [row.positions for row in rows] == lengths
    assert list(batches(rows, 64)) == [[0, 5, 2], [3, 4], [6], [1]]  # the longest alone
    assert list(batches(rows, 700)) == [[0, 5, 3, 2, 6, 4, 1]]
    assert list(batches([], 9)) == []


def test_a_choice_by_a_clear_margin_is_float32s(smollm):
    """Where bfloat16 chooses another token than float32, it does so by far less than `NEAR`."""
    low, generator = smollm.at(torch.bfloat16), torch.Generator().manual_seed(0)
    contexts = PrefixCache(smollm, 10**9, dtypes=[torch.float32, torch.bfloat16])
    rows = []
    for task, scale in product(("gsm8k", "mmlu_cf", "bbh"), (0.02, 0.2, 1.0)):
        (one,) = load_problems(task)
        coded = smollm.encode(one.question, one.target)
        prompt = torch.randn(40, smollm.dim, generator=generator) * scale
        rows.append(TokenRow(prompt, coded, contexts.of(coded.before)))
    rows.sort(key=lambda row: id(row.context))
    everyone = range(len(rows))
    exact, rounded = (forward_rows(it, rows, choose=everyone).choices for it in (smollm, low))
    pairs = [
        (ours.ids[k] == its.ids[k], its.margins[k])
        for ours, its in ((exact[r], rounded[r]) for r in everyone)
        for k in range(len(its.ids))
    ]
    moved = [margin for same, margin in pairs if not same]
    assert moved
    assert max(moved) < NEAR / 2
    assert sum(margin >= NEAR for _, margin in pairs) > len(pairs) / 2  # and most are clear


def test_text_and_correctness_follow_the_decoded_tokens(tiny):
    from tsp.problems.loading import is_correct

    frozen = tiny()
    (row,) = random_rows(frozen, ["?"], scale=0.3)
    (answer,) = greedy_answers(frozen, [row], requests=[DecodingRequest(4)], token_budget=99)
    assert answer.text == frozen.tokenizer.decode(answer.ids, skip_special_tokens=True).strip()
    assert is_correct(problem("?", answer.text), answer.text)
