"""The norms: transformers' own, faster; only in the decoder that this package computes with."""

import pytest
import torch
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from tests.training.test_attention import lively
from tsp.training.models import TINY
from tsp.training.norms import OFFSETS, Norm, with_own_norms


def formula(x, weight, eps, offset):
    """RMSNorm as it is defined."""
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * (weight + offset)


def made(shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    weight = torch.rand(shape[-1], generator=generator, dtype=torch.float64).to(dtype)
    return x.requires_grad_(), torch.nn.Parameter(weight, requires_grad=False)


@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("eps", [1e-6, 0.5])
@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 4, 6)])
def test_a_norm_and_its_gradient_are_the_formulas(shape, eps, offset):
    x, weight = made(shape)
    y = torch.randn(shape, dtype=torch.float64)
    computed, wanted = Norm(weight, eps, offset)(x), formula(x, weight, eps, offset)
    torch.testing.assert_close(computed, wanted, rtol=1e-12, atol=1e-12)
    gradients = (torch.autograd.grad(out, x, y)[0] for out in (computed, wanted))
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


def test_rows_that_do_not_lie_side_by_side():
    x, weight = made((4, 3, 8))
    turned = x.transpose(0, 1)
    computed = Norm(weight, 1e-6, 0.0)(turned)
    torch.testing.assert_close(computed, formula(turned, weight, 1e-6, 0.0))


def test_a_row_of_zeros_stays_one_and_its_gradient_is_finite():
    x, weight = torch.zeros(2, 6, requires_grad=True), torch.nn.Parameter(torch.ones(6))
    computed = Norm(weight, 1e-6, 0.0)(x)
    (gradient,) = torch.autograd.grad(computed.sum(), x)
    assert computed.eq(0).all()
    torch.testing.assert_close(gradient, torch.full((2, 6), 1e3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("kind", "offset"), [(LlamaRMSNorm, 0.0), (Gemma3RMSNorm, 1.0)])
def test_a_norm_is_that_of_transformers(kind, offset, dtype):
    module = kind(48, eps=1e-6).to(dtype)
    x, weight = made((5, 9, 48), dtype=dtype)
    module.weight.data.copy_(weight)
    computed, wanted = Norm(module.weight, 1e-6, offset)(x), module(x)
    assert computed.dtype == dtype
    y = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    gradients = [torch.autograd.grad(out, x, y)[0] for out in (computed, wanted)]
    for ours, theirs in ((computed, wanted), gradients):
        away = (ours.double() - theirs.double()).norm() / theirs.double().norm()
        assert away < torch.finfo(dtype).eps


def test_small_weights_of_gemma_keep_their_digits():
    """1 + w is rounded once, after the product: in bfloat16 1 + 0.001 would be 1."""
    module = Gemma3RMSNorm(48).bfloat16()
    module.weight.data.fill_(0.003)
    x, _ = made((200, 48), dtype=torch.bfloat16)
    computed, wanted = Norm(module.weight, 1e-6, 1.0)(x), module(x)
    drift = (computed.double() / wanted.double() - 1).nanmean()
    assert abs(drift) < 5e-4


@pytest.mark.parametrize("name", sorted(TINY))
def test_a_decoder_shares_its_weights_with_the_model_that_stays_as_it_is(name):
    frozen = lively(name)
    ours = [type(module).__name__ for module in frozen.decoder.modules()]
    assert "Norm" in ours
    assert not set(ours) & set(OFFSETS)
    theirs = [type(module).__name__ for module in frozen.model.modules()]
    assert set(theirs) & set(OFFSETS)
    assert "Norm" not in theirs
    addresses = {weight.data_ptr() for weight in frozen.model.parameters()}
    assert {weight.data_ptr() for weight in frozen.decoder.parameters()} <= addresses
    tokens = torch.arange(3, 40)[None]
    computed, wanted = (
        item(input_ids=tokens, use_cache=False).last_hidden_state
        for item in (frozen.decoder, frozen.model.base_model)
    )
    torch.testing.assert_close(computed, wanted, rtol=1e-4, atol=1e-5)


def test_norms_that_are_not_known_are_left_alone():
    foreign = type("LlamaRMSNorm", (torch.nn.RMSNorm,), {})
    layers = torch.nn.Sequential(torch.nn.LayerNorm(4), torch.nn.RMSNorm(4), foreign(4))
    kinds = [torch.nn.LayerNorm, torch.nn.RMSNorm, foreign]
    assert [type(item) for item in with_own_norms(layers)] == kinds


def test_what_transformers_rounds_to_float32_is_left_to_it():
    assert "LlamaRMSNorm" in {
        type(item).__name__ for item in lively("tiny-llama", torch.float64).decoder.modules()
    }
