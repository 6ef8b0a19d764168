"""RMSNorm in few passes over memory: as transformers computes it, it costs as much as a layer's
products do (on two CPU cores, with its gradient).
"""

import copy
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Classes of transformers by what they add to their weight, which Gemma keeps as a difference to 1.
OFFSETS = {
    "LlamaRMSNorm": 0.0,
    "MistralRMSNorm": 0.0,
    "Qwen2RMSNorm": 0.0,
    "Qwen3RMSNorm": 0.0,
    "GemmaRMSNorm": 1.0,
    "Gemma2RMSNorm": 1.0,
    "Gemma3RMSNorm": 1.0,
}


def with_own_norms(decoder: torch.nn.Module) -> torch.nn.Module:
    """Copy a decoder, weights shared, whose norms are `Norm`, except in float64.

    There transformers rounds to float32.
    """
    twin = copy.deepcopy(decoder, {id(weight): weight for weight in decoder.parameters()})
    for name, module in list(twin.named_modules()):
        known = type(module).__module__.startswith("transformers.")
        offset = OFFSETS.get(type(module).__name__) if known else None
        if offset is not None and module.weight.dtype != torch.float64:
            eps = getattr(module, "variance_epsilon", None) or module.eps
            twin.set_submodule(name, Norm(module.weight, float(eps), offset))
    return twin


class Norm(torch.nn.Module):
    """x / sqrt(mean(x²) + eps), times weight + offset (Zhang and Sennrich 2019, arXiv:1910.07467).

    The weight is a constant.
    """

    def __init__(self, weight: torch.nn.Parameter, eps: float, offset: float) -> None:
        super().__init__()
        self.weight, self.eps, self.offset = weight, eps, offset

    def forward(self, x: Tensor) -> Tensor:
        """Norm of (..., d), of the same shape and precision."""
        # Gemma adds 1 in float32, where small weights keep their digits.
        wide = torch.promote_types(self.weight.dtype, torch.float32)
        scale = self.weight.to(wide) + self.offset if self.offset else self.weight
        return _Norm.apply(x, scale, self.eps)


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, eps: float) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        squares = torch.linalg.vector_norm(x, dim=-1, dtype=wide).square_().div_(x.shape[-1])
        ctx.save_for_backward(x, squares.add_(eps))
        ctx.scale = scale
        return _over_root(x, squares).mul_(scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        x, squares = ctx.saved_tensors
        gradient = (gradients[0] * ctx.scale).to(x.dtype)
        along = torch.linalg.vecdot(gradient, x) / (squares * x.shape[-1])
        moved = torch.addcmul(gradient, x, along[..., None].to(x.dtype), value=-1)
        return _over_root(moved, squares), None, None


def _over_root(x: Tensor, squares: Tensor) -> Tensor:
    """Divide each row of (..., d) by the root of its number, which is in float32 or wider."""
    if x.device.type == "cuda":
        return (x * squares.rsqrt()[..., None]).to(x.dtype)
    # What batch norm does to a channel, in one pass over numbers of lower precision too.
    rows, means = x.reshape(1, -1, x.shape[-1]), torch.zeros_like(squares).flatten()
    return torch.nn.functional.batch_norm(rows, means, squares.flatten(), eps=0.0).view_as(x)
