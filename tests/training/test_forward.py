"""A pass over a bank's rows: losses and choices are those of the plain model's full logits."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import tsp.training.forward
from tests.training.test_attention import EXACT, MIXED, made_rows, recomputed
from tsp.training.forward import first_choice, forward_rows
from tsp.training.models import TINY


def assert_choices_are_those_of_full_logits(found, logits, *, rtol):
    """First token and its margin over the second, at every position that predicts the target."""
    best = logits.topk(2, dim=-1)
    assert found.ids == tuple(best.indices[:, 0].tolist())
    wanted = (best.values[:, 0] - best.values[:, 1]).tolist()
    assert found.margins == pytest.approx(wanted, rel=rtol, abs=rtol)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", sorted(TINY))
def test_losses_and_choices_are_those_of_full_logits(name, dtype, tiny):
    frozen = tiny(name, dtype)
    rows = made_rows(frozen, MIXED, seed=2)
    reading = forward_rows(frozen, rows, choose=range(len(rows)))
    assert reading.losses.shape == (len(rows),)
    for r, row in enumerate(rows):
        loss, logits = recomputed(frozen, row)
        torch.testing.assert_close(reading.losses[r], loss, rtol=EXACT[dtype], atol=0.0)
        assert_choices_are_those_of_full_logits(reading.choices[r], logits, rtol=EXACT[dtype])


@pytest.mark.parametrize("chunk", [1, 7, 10**6])
def test_the_positions_projected_at_once_change_nothing(chunk, tiny, monkeypatch):
    frozen = tiny("tiny-gemma3", torch.float64)
    rows = made_rows(frozen, MIXED, seed=3)
    prompts = [row.prompt for row in rows]
    weights = torch.linspace(-1.0, 2.0, len(rows), dtype=torch.float64)
    monkeypatch.setattr(tsp.training.forward, "CHUNK", chunk)
    reading = forward_rows(frozen, rows, choose=range(len(rows)))
    plain = [recomputed(frozen, row) for row in rows]
    ours = torch.autograd.grad((reading.losses * weights).sum(), prompts)
    losses = torch.stack([loss for loss, _ in plain])
    theirs = torch.autograd.grad((losses * weights).sum(), prompts)
    for r, (loss, logits) in enumerate(plain):
        assert reading.losses[r].item() == pytest.approx(loss.item(), rel=1e-10)
        assert_choices_are_those_of_full_logits(reading.choices[r], logits, rtol=1e-10)
        assert (ours[r] - theirs[r]).norm() <= 1e-10 * theirs[r].norm()


class Projected(TorchDispatchMode):
    """Notes for how many positions each matrix product gives logits."""

    def __init__(self, vocabulary):
        super().__init__()
        self.vocabulary, self.positions = vocabulary, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        product = func.overloadpacket._qualified_op_name in {
            f"aten::{name}" for name in ("mm", "addmm", "bmm", "baddbmm", "linear", "matmul")
        }
        if product and out.shape[-1] == self.vocabulary:
            self.positions.append(out.numel() // self.vocabulary)
        return out


@pytest.mark.parametrize("name", sorted(TINY))
def test_only_answer_positions_meet_the_vocabulary(name, tiny, monkeypatch):
    frozen = tiny(name)
    rows = made_rows(frozen, MIXED)
    monkeypatch.setattr(tsp.training.forward, "CHUNK", 10)
    with Projected(len(frozen.vocabulary)) as projected:
        forward_rows(frozen, rows, choose=[0])
    assert sum(projected.positions) == sum(len(row.encoded.target) for row in rows)
    assert max(projected.positions) == 10


def test_logits_beyond_what_an_exponential_holds(tiny):
    frozen = tiny("tiny-llama", torch.float64)
    frozen = replace(frozen, model=copy.deepcopy(frozen.model))
    frozen.model.model.norm.weight.mul_(1000)
    rows = made_rows(frozen, MIXED[:4], seed=8)
    reading = forward_rows(frozen, rows, choose=range(4))
    gradients = torch.autograd.grad(reading.losses.sum(), [row.prompt for row in rows])
    for r, row in enumerate(rows):
        loss, logits = recomputed(frozen, row)
        assert logits.max() > 1000
        (wanted,) = torch.autograd.grad(loss, row.prompt)
        assert reading.losses[r].item() == pytest.approx(loss.item(), rel=1e-10)
        assert (gradients[r] - wanted).norm() <= 1e-10 * wanted.norm()
        assert_choices_are_those_of_full_logits(reading.choices[r], logits, rtol=1e-10)


def test_rows_do_not_see_each_other_nor_the_padding(tiny):
    frozen = tiny("tiny-gemma3", torch.float64)
    rows = made_rows(frozen, MIXED, seed=5)
    together = forward_rows(frozen, rows, choose=range(len(rows)), keep=True)
    for r, row in enumerate(rows):
        alone = forward_rows(frozen, [row], choose=[0], keep=True)
        torch.testing.assert_close(together.losses[r], alone.losses[0], rtol=1e-12, atol=0.0)
        assert together.choices[r].ids == alone.choices[0].ids
        for mine, its in zip(together.recorded, alone.recorded, strict=True):
            for x, y in zip(mine, its, strict=True):
                x = x[:, r, : row.positions]
                torch.testing.assert_close(x, y[:, 0], rtol=1e-11, atol=1e-12)


def test_choices_and_keys_are_given_where_they_are_asked_for(tiny):
    frozen = tiny()
    rows = made_rows(frozen, MIXED)
    bare, some = forward_rows(frozen, rows), forward_rows(frozen, rows, choose=[4, 1], keep=True)
    everything = forward_rows(frozen, rows, choose=range(len(rows)))
    assert bare.choices == {}
    assert bare.recorded == []
    assert everything.recorded == []
    assert some.choices == {r: everything.choices[r] for r in (1, 4)}
    longest = max(row.positions for row in rows)
    assert [key.shape for key, _ in some.recorded] == [(2, len(rows), longest, 8)] * 2
    assert torch.equal(bare.losses, some.losses)


@pytest.mark.parametrize("name", sorted(TINY))
def test_in_bfloat16_losses_are_float32_and_near(name, tiny):
    """The context of each precision is the same one, rounded; the prompts stay float32."""
    frozen = tiny(name)
    low = frozen.at(torch.bfloat16)
    rows = made_rows(frozen, MIXED[:3], seed=6)
    for row in rows:
        if row.context:
            layers = row.context.layers
            layers[torch.bfloat16] = [
                tuple(x.bfloat16() for x in pair) for pair in layers[torch.float32]
            ]
    found = forward_rows(low, rows, choose=[0])
    assert found.losses.dtype == torch.float32
    wanted = torch.stack([recomputed(frozen, row)[0] for row in rows])
    torch.testing.assert_close(found.losses, wanted, rtol=0.03, atol=0.0)
    prompts = [row.prompt for row in rows]
    ours = torch.autograd.grad(found.losses.sum(), prompts)
    theirs = torch.autograd.grad(wanted.sum(), prompts)
    for mine, its in zip(ours, theirs, strict=True):
        assert mine.dtype == torch.float32
        assert (mine - its).norm() < 0.1 * its.norm()


def test_a_tie_goes_to_the_first_token_as_argmax_has_it():
    logits = torch.tensor([[1.0, 3.0, 3.0, 0.0], [5.0, 2.5, -1.0, 2.0]])
    ids, margins = first_choice(logits)
    assert ids.tolist() == logits.argmax(-1).tolist() == [1, 0]
    assert margins.tolist() == [0.0, 2.5]


def test_the_real_models_losses_and_choices_are_those_of_full_logits(smollm):
    rows = made_rows(smollm, [(20, 8, 5, 6), (20, 3, 5, 9), (0, 4, 7, 5)], scale=0.02)
    reading = forward_rows(smollm, rows, choose=[0, 1, 2])
    for r, row in enumerate(rows):
        with torch.no_grad():
            loss, logits = recomputed(smollm, row)
        assert reading.losses[r].item() == pytest.approx(loss.item(), rel=1e-4)
        assert_choices_are_those_of_full_logits(reading.choices[r], logits, rtol=1e-3)
