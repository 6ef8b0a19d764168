"""Products with frozen weights, by the library that is faster on the processor.

torch leaves float32 products to Intel's MKL, which does not use all of an AMD processor. oneDNN,
which torch has too and uses for bfloat16, does: its products are twice as fast on two Zen 5 cores,
and 1.2 to 1.8 times as fast on two Zen 4 cores (family 25, model 17).
"""

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def cpu_info(field: str) -> str:
    """Return a field of the first processor in ``/proc/cpuinfo``; empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")


@cache
def prefers_onednn() -> bool:
    """Return whether float32 products on this processor are left to oneDNN."""
    known = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return known and cpu_info("vendor_id") == "AuthenticAMD" and "avx512f" in cpu_info("flags")


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x Wᵀ + b for x (..., k), W (n, k) and b (n,), of shape (..., n); no gradient."""
    single = x.dtype == weight.dtype == torch.float32
    if single and x.device.type == "cpu" and prefers_onednn():
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return out
    return torch.nn.functional.linear(x, weight, bias)


def with_own_products(decoder: torch.nn.Module) -> torch.nn.Module:
    """Replace the linear layers of a decoder, in it, by `Linear` where that is faster."""
    for name, module in list(decoder.named_modules()):
        plain = type(module) is torch.nn.Linear and module.weight.dtype == torch.float32
        if plain and module.weight.device.type == "cpu" and prefers_onednn():
            decoder.set_submodule(name, Linear(module.weight, module.bias))
    return decoder


class Linear(torch.nn.Module):
    """A linear layer (`product`) whose weight and bias are constants."""

    def __init__(self, weight: torch.nn.Parameter, bias: torch.nn.Parameter | None) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, x: Tensor) -> Tensor:
        """Product of (..., k) with the weight (n, k), (..., n)."""
        out: Tensor = _Product.apply(x, self.weight, self.bias)
        return out


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.weight = weight
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return product(gradients[0], ctx.weight.T), None, None
