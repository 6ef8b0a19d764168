"""The tokens before the prompts, read once a problem: keys and values that all runs share."""

import logging
from collections.abc import Sequence

import torch

from tsp.training.attention import BatchLayout, Context, KeyValues
from tsp.training.base_lm import BaseLM

log = logging.getLogger(__name__)


class PrefixCache:
    """Contexts of a bank's problems, within a budget of memory.

    What does not fit is read again with every pass, and the log says so. With a budget of 0 nothing
    is shared.

    Parameters
    ----------
    budget
        Bytes that all contexts may take.
    dtypes
        Precisions of the passes that use them.
    """

    def __init__(self, frozen: BaseLM, budget: int, *, dtypes: Sequence[torch.dtype]) -> None:
        self.frozen, self.budget, self.dtypes = frozen, budget, list(dict.fromkeys(dtypes))
        self.used = 0
        self._contexts: dict[tuple[int, ...], Context | None] = {(): None}

    def of(self, before: tuple[int, ...]) -> Context | None:
        """Return the context of some tokens; None if there are none or each pass reads them."""
        if before in self._contexts:
            return self._contexts[before]
        self._contexts[before] = None
        size = context_bytes(self.frozen, len(before), dtypes=self.dtypes)
        if self.used + size <= self.budget:
            self.used += size
            self._contexts[before] = read_context(self.frozen, before, dtypes=self.dtypes)
        elif self.budget:
            log.warning(
                "a context of %d tokens takes %.0f MiB, more than is left of %.0f: "
                "it is read again with every pass",
                *(len(before), size / 2**20, self.budget / 2**20),
            )
        return self._contexts[before]


@torch.no_grad()
def read_context(
    frozen: BaseLM, before: tuple[int, ...], *, dtypes: Sequence[torch.dtype]
) -> Context:
    """Compute keys and values of tokens once, and round them to each precision."""
    places = torch.arange(len(before), device=frozen.device)[None]
    layout = BatchLayout([None], places, recorded={})
    frozen.forward(frozen.embed(before)[None], layout)
    layers: dict[torch.dtype, list[KeyValues]] = {dtype: [] for dtype in dtypes}
    for layer, pair in sorted((layout.recorded or {}).items()):
        last = slice(len(before) - _held(frozen, layer, len(before)), None)
        # A view of the last tokens would hold on to all of them; products want rows in order.
        key, value = (x[:, 0, last].clone(memory_format=torch.contiguous_format) for x in pair)
        for dtype in dtypes:
            layers[dtype].append((key.to(dtype), value.to(dtype)))
    return Context(len(before), layers)


def context_bytes(frozen: BaseLM, tokens: int, *, dtypes: Sequence[torch.dtype]) -> int:
    """Return the bytes of a context of some tokens in some precisions."""
    layers = range(frozen.model.config.num_hidden_layers)
    held = sum(_held(frozen, layer, tokens) for layer in layers)
    return 2 * held * frozen.key_width * sum(dtype.itemsize for dtype in dtypes)


def _held(frozen: BaseLM, layer: int, tokens: int) -> int:
    """Return how many of a context's tokens a layer keeps: those that a later one can see."""
    window = frozen.window_of(layer)
    return tokens if window is None else min(window - 1, tokens)
