"""A pass over a bank's rows: losses and choices are those of the plain model's full logits."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import tsp.training.forward
from tests.training.test_attention import EXACT, MIXED, assert_near, made_rows, recomputed
from tsp.training.forward import first_choice, forward_rows
from tsp.training.models import TINY


def assert_equal_to_full_logits(frozen, rows, *, rtol):
    """Losses, their gradients, and the first token and its margin over the second everywhere."""
    output = forward_rows(frozen, rows, choose=range(len(rows)))
    losses, logits = zip(*(recomputed(frozen, row) for row in rows), strict=True)
    torch.testing.assert_close(output.losses, torch.stack(losses), rtol=rtol, atol=0.0)
    for r, row_logits in enumerate(logits):
        best = row_logits.topk(2, dim=-1)
        margins = best.values[:, 0] - best.values[:, 1]
        assert output.choices[r].ids == tuple(best.indices[:, 0].tolist())
        assert output.choices[r].margins == pytest.approx(margins.tolist(), rel=rtol, abs=rtol)
    prompts, weights = [row.prompt for row in rows], torch.linspace(-1.0, 2.0, len(rows))
    ours, theirs = (
        torch.autograd.grad((values * weights).sum(), prompts)
        for values in (output.losses, torch.stack(losses))
    )
    assert_near(ours, theirs, rtol=rtol)
    return logits


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", sorted(TINY))
def test_losses_and_choices_are_those_of_full_logits(name, dtype, tiny):
    frozen = tiny(name, dtype)
    assert_equal_to_full_logits(frozen, made_rows(frozen, MIXED, seed=2), rtol=EXACT[dtype])


def test_the_real_models_losses_and_choices_are_those_of_full_logits(smollm):
    rows = made_rows(smollm, [(20, 8, 5, 6), (20, 3, 5, 9), (0, 4, 7, 5)], scale=0.02)
    assert_equal_to_full_logits(smollm, rows, rtol=1e-3)


@pytest.mark.parametrize(("chunk", "lane"), [(1, 16), (7, 3), (10**6, 16), (10**6, 10**6)])
def test_the_positions_projected_at_once_change_nothing(chunk, lane, tiny, monkeypatch):
    frozen = tiny("tiny-gemma3", torch.float64)
    monkeypatch.setattr(tsp.training.forward, "CHUNK", chunk)
    monkeypatch.setattr(tsp.training.forward, "LANE", lane)
    assert_equal_to_full_logits(frozen, made_rows(frozen, MIXED, seed=3), rtol=1e-10)


def test_logits_beyond_what_an_exponential_holds(tiny):
    frozen = tiny("tiny-llama", torch.float64)
    frozen = replace(frozen, model=copy.deepcopy(frozen.model))
    frozen.model.model.norm.weight.mul_(1000)
    logits = assert_equal_to_full_logits(frozen, made_rows(frozen, MIXED[:4]), rtol=1e-10)
    assert min(row_logits.max() for row_logits in logits) > 1000


class Projected(TorchDispatchMode):
    """Notes for how many positions each matrix product gives logits."""

    def __init__(self, vocabulary):
        super().__init__()
        self.vocabulary, self.positions = vocabulary, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        product = func.overloadpacket._qualified_op_name in {
            *(f"aten::{name}" for name in ("mm", "addmm", "bmm", "baddbmm", "linear", "matmul")),
            "mkldnn::_linear_pointwise",
        }
        if product and out.shape[-1] == self.vocabulary:
            self.positions.append(out.numel() // self.vocabulary)
        return out


def test_only_answer_positions_meet_the_vocabulary(tiny, monkeypatch):
    frozen = tiny()
    rows = made_rows(frozen, MIXED)
    monkeypatch.setattr(tsp.training.forward, "CHUNK", 10)
    with Projected(len(frozen.vocabulary)) as projected:
        forward_rows(frozen, rows, choose=[0])
    assert sum(projected.positions) == sum(len(row.encoded.target) for row in rows)
    assert max(projected.positions) == 10


def test_rows_do_not_see_each_other_nor_the_padding(tiny):
    frozen = tiny("tiny-gemma3", torch.float64)
    rows = made_rows(frozen, MIXED, seed=5)
    together = forward_rows(frozen, rows, choose=range(len(rows)), keep=True)
    for r, row in enumerate(rows):
        alone = forward_rows(frozen, [row], choose=[0], keep=True)
        torch.testing.assert_close(together.losses[r], alone.losses[0], rtol=1e-12, atol=0.0)
        assert together.choices[r].ids == alone.choices[0].ids
        near = {"rtol": 1e-11, "atol": 1e-12}
        part = [[x[:, r : r + 1, : row.positions] for x in pair] for pair in together.recorded]
        torch.testing.assert_close(part, [list(pair) for pair in alone.recorded], **near)


def test_choices_and_keys_are_given_where_they_are_asked_for(tiny):
    frozen = tiny()
    rows = made_rows(frozen, MIXED)
    bare, some = forward_rows(frozen, rows), forward_rows(frozen, rows, choose=[4, 1], keep=True)
    everything = forward_rows(frozen, rows, choose=range(len(rows)))
    assert (bare.choices, bare.recorded, everything.recorded) == ({}, [], [])
    assert some.choices == {r: everything.choices[r] for r in (1, 4)}
    shape = (2, len(rows), max(row.positions for row in rows), 8)
    assert [key.shape for key, _ in some.recorded] == [shape] * 2
    assert torch.equal(bare.losses, some.losses)


@pytest.mark.parametrize("name", sorted(TINY))
def test_in_bfloat16_losses_are_float32_and_near(name, tiny):
    """The context of each precision is the same one, rounded; the prompts stay float32."""
    frozen = tiny(name)
    rows = made_rows(frozen, MIXED[:3], seed=6)
    for row in rows:
        layers = row.context.layers
        layers[torch.bfloat16] = [
            tuple(x.bfloat16() for x in pair) for pair in layers[torch.float32]
        ]
    computed = forward_rows(frozen.at(torch.bfloat16), rows, choose=[0]).losses
    expected = torch.stack([recomputed(frozen, row)[0] for row in rows])
    assert computed.dtype == torch.float32
    torch.testing.assert_close(computed, expected, rtol=0.03, atol=0.0)
    prompts = [row.prompt for row in rows]
    ours, theirs = (torch.autograd.grad(x.sum(), prompts) for x in (computed, expected))
    assert {gradient.dtype for gradient in ours} == {torch.float32}
    assert_near(ours, theirs, rtol=0.1)


def test_a_tie_goes_to_the_first_token_as_argmax_has_it():
    logits = torch.tensor([[1.0, 3.0, 3.0, 0.0], [5.0, 2.5, -1.0, 2.0]])
    ids, margins = first_choice(logits)
    assert ids.tolist() == logits.argmax(-1).tolist() == [1, 0]
    assert margins.tolist() == [0.0, 2.5]
