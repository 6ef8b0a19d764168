"""Products with frozen weights: torch's own, whichever library makes them."""

import copy

import pytest
import torch

from tests.training.test_attention import lively
from tsp.training import products
from tsp.training.models import TINY
from tsp.training.products import Linear, prefers_onednn, product, with_own_products

needs_onednn = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="torch has no oneDNN here"
)


@pytest.fixture
def onednn(monkeypatch):
    monkeypatch.setattr(products, "prefers_onednn", lambda: True)


@needs_onednn
@pytest.mark.parametrize("shape", [(5,), (1, 5), (7, 5), (2, 3, 5)])
@pytest.mark.parametrize("biased", [False, True])
def test_a_layer_and_its_gradient_are_the_formulas(onednn, shape, biased):
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(*s, generator=generator) for s in (shape, (4, 5), (4,)))
    constants = [torch.nn.Parameter(w, requires_grad=False) for w in (weight, bias)]
    x.requires_grad_()
    out = Linear(constants[0], constants[1] if biased else None)(x)
    torch.testing.assert_close(out, x @ weight.T + (bias if biased else 0))
    y = torch.randn(out.shape, generator=generator)
    torch.testing.assert_close(torch.autograd.grad(out, x, y)[0], y @ weight)


@needs_onednn
@pytest.mark.parametrize("turned", [False, True])
def test_a_product_takes_a_weight_as_it_lies(onednn, turned):
    x, weight = torch.randn(6, 5), torch.randn(4, 5) if not turned else torch.randn(5, 4).T
    torch.testing.assert_close(product(x, weight), x @ weight.T)


@needs_onednn
@pytest.mark.parametrize("family", sorted(TINY))
def test_a_model_with_these_layers_computes_what_it_did(onednn, family):
    decoder = copy.deepcopy(lively(family).model.base_model)
    ids = torch.arange(12).reshape(2, 6)
    wanted = decoder(ids).last_hidden_state
    twin = with_own_products(decoder)
    assert any(isinstance(module, Linear) for module in twin.modules())
    torch.testing.assert_close(twin(ids).last_hidden_state, wanted)


@needs_onednn
def test_layers_of_other_precisions_stay_torchs(onednn):
    layers = torch.nn.Sequential(torch.nn.Linear(2, 2).double(), torch.nn.Linear(2, 2).bfloat16())
    kept = list(layers)
    assert list(with_own_products(layers)) == kept
    x = torch.randn(3, 2, dtype=torch.float64)
    assert torch.equal(
        product(x, layers[0].weight), torch.nn.functional.linear(x, layers[0].weight)
    )


@pytest.mark.parametrize(
    ("vendor", "flags", "chosen"),
    [
        ("AuthenticAMD", "sse avx2 avx512f", True),
        ("AuthenticAMD", "sse avx2", False),
        ("GenuineIntel", "sse avx2 avx512f amx_bf16", False),
        ("", "", False),
    ],
)
@needs_onednn
def test_onednn_is_left_the_products_of_processors_that_mkl_does_not_know(
    monkeypatch, vendor, flags, chosen
):
    monkeypatch.setattr(products, "cpu_info", {"vendor_id": vendor, "flags": flags}.get)
    prefers_onednn.cache_clear()
    assert prefers_onednn() is chosen
    prefers_onednn.cache_clear()
