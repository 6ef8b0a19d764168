"""What stands before the prompts, read once a problem: keys and values that all runs share."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from tsp.training.attention import Context, KeyValues, Layout
from tsp.training.models import Frozen

log = logging.getLogger(__name__)


class Contexts:
    """Contexts of a bank's problems, within a budget of memory.

    What does not fit is kept on the host where the model is elsewhere, and visits in passes that
    need it, no more of it at a time than the budget; where the model is on the host itself it is
    read again with every pass. The log says which. With a budget of 0 all is read with every pass.

    Parameters
    ----------
    frozen
        The model that reads them.
    budget
        Bytes that contexts may take where the model is.
    dtypes
        Precisions of the passes that use them.
    """

    def __init__(self, frozen: Frozen, budget: int, *, dtypes: Sequence[torch.dtype]) -> None:
        self.frozen, self.budget, self.dtypes = frozen, budget, list(dict.fromkeys(dtypes))
        self.used = 0
        self._held: dict[tuple[int, ...], Context | None] = {(): None}

    def of(self, before: tuple[int, ...]) -> Context | None:
        """Context of some tokens; None: there are none, or they are read with every pass."""
        if before not in self._held:
            self._held[before] = self._fit(before)
        return self._held[before]

    def _fit(self, before: tuple[int, ...]) -> Context | None:
        size = context_bytes(self.frozen, len(before), dtypes=self.dtypes)
        if not self.budget:
            return None
        if self.used + size <= self.budget:
            self.used += size
            return read_context(self.frozen, before, dtypes=self.dtypes)
        told = f"a context of {len(before)} tokens takes {size / 2**20:.0f} MiB, more than is left"
        told += f" of {self.budget / 2**20:.0f}"
        if self.frozen.device.type == "cpu":
            log.warning("%s: it is read again with every pass", told)
            return None
        log.warning("%s on %s: it is kept on the host", told, self.frozen.device)
        context = read_context(self.frozen, before, dtypes=self.dtypes)
        moved = _moved(context, lambda layer: torch.device("cpu"), self.dtypes)
        return replace(moved, visits=visit_bytes(self.frozen, len(before), dtypes=self.dtypes))


@torch.no_grad()
def read_context(
    frozen: Frozen, before: tuple[int, ...], *, dtypes: Sequence[torch.dtype]
) -> Context:
    """Compute keys and values of tokens once, and round them to each precision."""
    places = torch.arange(len(before), device=frozen.device)[None]
    layout = Layout([None], places, recorded={})
    frozen.decoder(
        inputs_embeds=frozen.embed(before)[None],
        position_ids=places,
        use_cache=False,
        layout=layout,
    )
    layers: dict[torch.dtype, list[KeyValues]] = {dtype: [] for dtype in dtypes}
    for layer, pair in sorted((layout.recorded or {}).items()):
        window = frozen.window_of(layer)
        seen = len(before) if window is None else min(window - 1, len(before))
        # A view of the last tokens would hold on to all of them; products want rows in order.
        last = slice(len(before) - seen, None)
        key, value = (
            part[:, 0, last].clone(memory_format=torch.contiguous_format) for part in pair
        )
        for dtype in dtypes:
            layers[dtype].append((key.to(dtype), value.to(dtype)))
    return Context(len(before), layers)


def context_bytes(frozen: Frozen, tokens: int, *, dtypes: Sequence[torch.dtype]) -> int:
    """Bytes of a context of some tokens in some precisions."""
    windows = map(frozen.window_of, range(frozen.model.config.num_hidden_layers))
    held = sum(tokens if window is None else min(window - 1, tokens) for window in windows)
    return 2 * held * frozen.key_width * sum(dtype.itemsize for dtype in dtypes)


def visit_bytes(frozen: Frozen, tokens: int, *, dtypes: Sequence[torch.dtype]) -> int:
    """Bytes of the copy that a pass needs of a context on the host, in its own precision."""
    return max(context_bytes(frozen, tokens, dtypes=[dtype]) for dtype in dtypes)


def visits(
    rows: Sequence[int], contexts: Sequence[Context | None], room: int
) -> Iterator[list[int]]:
    """Cut rows so that what the contexts of each part take while they visit fits the room.

    A single context may be larger.
    """
    part: list[int] = []
    seen: dict[int, int] = {}
    for row in rows:
        context = contexts[row]
        if context and context.visits and id(context) not in seen:
            if part and sum(seen.values()) + context.visits > room:
                yield part
                part, seen = [], {}
            seen[id(context)] = context.visits
        part.append(row)
    if part:
        yield part


def neighbours(rows: Sequence[int], contexts: Sequence[Context | None]) -> list[int]:
    """Order rows so that those of one context stand together."""
    first: dict[int, int] = {}
    for row in rows:
        first.setdefault(id(contexts[row]), len(first))
    return sorted(rows, key=lambda row: first[id(contexts[row])])


def placed(contexts: Sequence[Context | None], frozen: Frozen) -> list[Context | None]:
    """The contexts of a pass where the model is; one kept on the host is copied once, for all."""
    copies = {id(it): _moved(it, frozen.place_of, [frozen.dtype]) for it in contexts if it}
    return [None if it is None else copies[id(it)] for it in contexts]


def _moved(
    context: Context, place_of: Callable[[int], torch.device], dtypes: Sequence[torch.dtype]
) -> Context:
    """A context whose layers are each where ``place_of`` says."""
    some = next(iter(context.layers.values()))
    places = [place_of(layer) for layer in range(len(some))]
    if [key.device for key, _ in some] == places:
        return context
    layers = {
        dtype: [
            (key.to(place), value.to(place))
            for (key, value), place in zip(context.layers[dtype], places, strict=True)
        ]
        for dtype in dtypes
    }
    return Context(context.length, layers)
