"""Answers are those of transformers' own greedy generation, whatever is decoded together."""

import random
from dataclasses import replace
from functools import cache
from itertools import product

import pytest
import torch

import tsp.training.decoding
from tests.training.test_attention import limits, lively, made_rows
from tsp.problems.loading import load_problems
from tsp.training.attention import Context
from tsp.training.base_lm import Encoded
from tsp.training.decoding import NEAR, DecodingRequest, batches, greedy_answers, settled
from tsp.training.forward import Choice, ForwardOutput, TokenRow, forward_rows
from tsp.training.models import TINY
from tsp.training.prefix_cache import PrefixCache


def plain_greedy(frozen, row, limit):
    """The same by transformers alone: one sequence, from the question on, nothing assumed."""
    parts = [frozen.embed(row.encoded.before), row.prompt.to(frozen.device)]
    embeds = torch.cat([*parts, frozen.embed(row.encoded.after)])[None]
    mask = torch.ones(embeds.shape[:2], dtype=torch.long, device=frozen.device)
    options = {"attention_mask": mask, "max_new_tokens": limit, "do_sample": False}
    with torch.no_grad():
        ids = frozen.model.generate(inputs_embeds=embeds, **options)[0].tolist()
    return to_its_end(tuple(ids), frozen.end_ids)


def to_its_end(ids, ends):
    """Tokens up to the first end token, that included."""
    return ids[: next((k + 1 for k, token in enumerate(ids) if token in ends), len(ids))]


def prompted(frozen, problems, *, scale):
    """Rows with random prompts of several lengths, whose problems share contexts."""
    generator = torch.Generator().manual_seed(0)
    rows, contexts = [], PrefixCache(frozen, 10**9, dtypes=[frozen.dtype])
    for i, (question, target) in enumerate(problems):
        prompt = torch.randn(2 + i % 7, frozen.dim, generator=generator) * scale
        coded = frozen.encode(question, target)
        rows.append(TokenRow(prompt, coded, contexts.of(coded.before)))
    return rows


def assert_answers_are_those_of_generate(frozen, rows, bounds):
    requests = [DecodingRequest(limit) for limit in bounds]
    answers = greedy_answers(frozen, rows, requests=requests, token_budget=160)
    expected = [plain_greedy(frozen, row, limit) for row, limit in zip(rows, bounds, strict=True)]
    assert [answer.ids for answer in answers] == expected
    for answer in answers:
        text = frozen.tokenizer.decode(answer.ids, skip_special_tokens=True).strip()
        assert answer.text == text
    return answers


@pytest.mark.parametrize("name", sorted(TINY))
def test_answers_equal_plain_generate(name):
    frozen = lively(name)
    targets = ["12", "a longer reference answer", "x", "yes"]
    problems = [(f"Question {i}: " + "why? " * i, target) for i, target in enumerate(targets)]
    rows = prompted(frozen, problems, scale=0.3)
    assert_answers_are_those_of_generate(frozen, rows, [9, 17, 1, 6])
    assert greedy_answers(frozen, [], requests=[], token_budget=9) == []


def test_an_answer_ends_with_its_end_token(tiny):
    problems = [(f"Question {i}: " + "why? " * i, "") for i in range(8)]
    rows = prompted(tiny(), problems, scale=2.0)
    answers = assert_answers_are_those_of_generate(tiny(), rows, [10] * 8)
    assert 0 < sum(answer.ids[-1] in tiny().end_ids for answer in answers) < 8
    assert not any("<end>" in answer.text for answer in answers)


def test_the_real_model_answers_as_plain_generate_does(smollm):
    """Two of the answers end early."""
    problems = [
        ("Answer with one word: what colour is the sky?", "The sky is blue."),
        ("What is 2+2? Answer with a number only.", "2 + 2 = 4"),  # what it says
        ("Say yes.", "yes"),
        ("Capital of France? One word.", "Paris"),
    ]
    rows = prompted(smollm, problems, scale=0.02)
    answers = assert_answers_are_those_of_generate(smollm, rows, [12, 12, 8, 1])
    lengths = [len(answer.ids) for answer in answers]
    assert max(lengths[:2]) < 12
    assert lengths[2:] == [8, 1]


# Rows of different lengths, contexts and references, decoded together.

LIMIT = 24


def with_target(row, target):
    """The same row with another reference."""
    return replace(row, encoded=replace(row.encoded, target=tuple(target)))


@cache
def conversation(name):
    """A tiny model, rows with and without contexts, and what it says of each until some end.

    Two more tokens end an answer, so that rows end at different times. References agree to the
    end, for a while and then not, for a while and no further, or not at all.
    """
    frozen = lively(name, torch.float64)
    rows = made_rows(frozen, [(40, 4, 3, 1)] * 4 + [(9, 2, 3, 1)] * 3 + [(0, 5, 4, 1)] * 3)
    texts = [plain_greedy(frozen, row, LIMIT) for row in rows]
    frozen = replace(frozen, end_ids=(*frozen.end_ids, texts[0][7], texts[4][14]))
    texts = [to_its_end(ids, frozen.end_ids) for ids in texts]
    kinds = [
        lambda ids: ids,
        lambda ids: (*ids[: len(ids) // 2], 3, 4, 5),
        lambda ids: ids[: len(ids) // 2 + 1],
        lambda ids: (3, 4),
    ]
    targets = [kinds[i % 4](ids) for i, ids in enumerate(texts)]
    rows = [with_target(row, target) for row, target in zip(rows, targets, strict=True)]
    assert len(set(texts)) > len(texts) // 2, "alike, they would show nothing"
    assert min(map(len, texts)) < LIMIT // 2 < max(map(len, texts)) == LIMIT
    return frozen, rows, texts


@pytest.mark.parametrize("name", sorted(TINY))
@pytest.mark.parametrize("budget", [1, 70, 10**4])
def test_rows_decoded_together_say_what_each_says_alone(name, budget):
    """Whatever their order, their limits, where they agree and the micro-batches."""
    frozen, rows, texts = conversation(name)
    draw = random.Random(budget)
    order = draw.sample(range(len(rows)), len(rows)) * 2
    requests = [
        DecodingRequest(draw.choice([1, 2, draw.randint(1, LIMIT), LIMIT]), agreed)
        for agreed in draw.choices([None, 0, 3, 99], k=len(order))
    ]
    rows = [rows[i] for i in order]
    with limits(piece=draw.choice([1, 3000, 10**6])):
        answers = greedy_answers(frozen, rows, requests=requests, token_budget=budget)
    for i, row, request, answer in zip(order, rows, requests, answers, strict=True):
        assert answer.ids == texts[i][: request.limit]
        target, matched = row.encoded.target, answer.matched
        assert answer.ids[:matched] == target[:matched]
        assert answer.ids[matched : matched + 1] != target[matched : matched + 1] or answer.exact
        assert answer.exact == (answer.ids[: len(target)] == target)


@pytest.mark.parametrize("agreed", [None, 0, 5])
@pytest.mark.parametrize("name", sorted(TINY))
def test_an_answer_ends_once_its_text_is_decided(name, agreed):
    """Where it agrees with its reference or not, before an end or at none: the shortest text."""
    frozen, rows, texts = conversation(name)

    def read(ids):
        return frozen.tokenizer.decode(ids, skip_special_tokens=True).strip()

    size = sorted(len(read(ids)) for ids in texts)[len(texts) // 2] // 2
    requests = [DecodingRequest(LIMIT, agreed, decided=lambda text: len(text) > size)] * len(rows)
    answers = greedy_answers(frozen, rows, requests=requests, token_budget=70)
    lengths = [
        next((k for k in range(1, len(ids)) if len(read(ids[:k])) > size), len(ids))
        for ids in texts
    ]
    assert [answer.ids for answer in answers] == [
        ids[:k] for ids, k in zip(texts, lengths, strict=True)
    ]
    assert sum(k < len(ids) for k, ids in zip(lengths, texts, strict=True)) > 0
    assert all(answer.text == read(answer.ids) for answer in answers)


def test_a_pass_settles_what_is_decided_by_clear_margins(tiny):
    """The text is decided at its second token, the margin after it does not count."""
    frozen, ids = tiny(), (9, 8, 7, 6)
    row = TokenRow(torch.zeros(2, 32), Encoded((5, 6), (7,), ids))
    text = frozen.tokenizer.decode(ids[:2], skip_special_tokens=True).strip()
    for margins, settles in (((CLEAR, CLEAR, CLOSE, CLEAR), True), ((CLEAR, CLOSE, CLEAR), False)):
        output = ForwardOutput([row], torch.zeros(1), {0: Choice(ids, margins)}, [])
        request = DecodingRequest(9, decided=lambda given: given.startswith(text))
        answers = settled(frozen, output, {0: request}, exact=False)
        assert [answer.ids for answer in answers.values()] == ([ids[:2]] if settles else [])


@pytest.mark.parametrize("agreed", [0, 3, 99])
def test_a_reference_is_read_up_to_the_first_difference_alone(agreed, monkeypatch):
    frozen, rows, _ = conversation("tiny-llama")
    sizes = []

    def noted(frozen, rows, **options):
        sizes.extend(len(row.encoded.target) for row in rows)
        return forward_rows(frozen, rows, **options)

    monkeypatch.setattr(tsp.training.decoding, "forward_rows", noted)
    greedy_answers(frozen, rows, requests=[DecodingRequest(1, agreed)] * 10, token_budget=99)
    assert sorted(sizes) == sorted(min(len(row.encoded.target), agreed + 1) for row in rows)


def test_batches_keep_to_the_budget_and_put_rows_of_one_context_side_by_side():
    a, b = Context(1, {}), Context(1, {})
    contexts, lengths = [a, b, None, a, b, a, None], [5, 100, 7, 30, 30, 6, 64]
    rows = [
        TokenRow(torch.zeros(length, 2), Encoded((), (), (9,)), context)
        for length, context in zip(lengths, contexts, strict=True)
    ]
    assert [row.positions for row in rows] == lengths
    assert list(batches(rows, 95, padding=95)) == [[0, 5, 2], [3, 4], [6], [1]]  # the longest alone
    assert list(batches(rows, 700, padding=700)) == [[0, 5, 3, 2, 6, 4, 1]]
    assert list(batches(rows, 700)) == [[0, 5, 2], [3, 4], [6], [1]]  # 30 would pad 3 x 23
    assert [len(group) for group in batches(rows, 700, padding=69)] == [5, 2]
    assert [len(group) for group in batches(rows, 700, padding=68)] == [3, 3, 1]
    assert list(batches([], 9)) == []


# What a forward pass alone settles.

CLEAR, CLOSE = NEAR + 0.01, NEAR - 0.01
END = 2


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
        ((9, 8, END), (9, 7, END), (CLEAR, CLEAR, CLEAR), 9, None, None),  # generation continues
        ((9, 8), (9, 8), (CLEAR, CLEAR), 9, None, None),
        ((9, 8), (9, 8), (CLEAR, CLEAR), 2, True, (9, 8)),
    ],
)
def test_a_pass_settles_what_has_ended_by_clear_margins(
    target, ids, margins, limit, clear, answer, tiny
):
    """In a lower precision by clear margins alone; in the model's own whatever the margin."""
    row = TokenRow(torch.zeros(2, 32), Encoded((5, 6), (7,), target))
    output = ForwardOutput([row], torch.zeros(1), {0: Choice(ids, margins)}, [])
    assert settled(tiny(), output, {}, exact=True) == {}
    for exact in (True, False):
        answers = settled(tiny(), output, {0: DecodingRequest(limit)}, exact=exact)
        expected = [(answer, answer == target)] if answer and (exact or clear) else []
        assert [(answer.ids, answer.exact) for answer in answers.values()] == expected


def test_a_choice_by_a_clear_margin_is_float32s(smollm):
    """Where bfloat16 chooses another token than float32, it does so by far less than `NEAR`."""
    low, generator = smollm.at(torch.bfloat16), torch.Generator().manual_seed(0)
    contexts = PrefixCache(smollm, 10**9, dtypes=[torch.float32, torch.bfloat16])
    rows = []
    for task, scale in product(("gsm8k", "mmlu_cf", "bbh"), (0.02, 0.2, 1.0)):
        (problem,) = load_problems(task)
        coded = smollm.encode(problem.question, problem.target)
        prompt = torch.randn(40, smollm.dim, generator=generator) * scale
        rows.append(TokenRow(prompt, coded, contexts.of(coded.before)))
    exact, rounded = (
        forward_rows(model, rows, choose=range(len(rows))).choices for model in (smollm, low)
    )
    choices = [
        choice
        for r in exact
        for choice in zip(exact[r].ids, rounded[r].ids, rounded[r].margins, strict=True)
    ]
    moved = [margin for wide, narrow, margin in choices if wide != narrow]
    assert moved
    assert max(moved) < NEAR / 2
    assert sum(margin >= NEAR for _, _, margin in choices) > len(choices) / 2  # most are clear
