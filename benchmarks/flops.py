"""Operations of a training step."""

from tsp.problems.loading import Problem
from tsp.training.base_lm import BaseLM
from tsp.training.spec import RunSpec


def arithmetic(frozen: BaseLM, problem: Problem, spec: RunSpec) -> dict[str, float]:
    """Count the operations of one step's matrix products on a problem.

    Per weight and token two operations, forward and backward, the vocabulary where it is projected;
    in attention two products forward and four backward, without the two towards the context.

    Returns
    -------
    dict
        Tokens: ``all``, ``own`` (behind the context) and ``target``. ``weights`` of the layers.
        Operations in 10^9: of our step (``ours``), of its products with ``layers``, ``vocabulary``,
        ``own_keys`` and ``context_keys``; of a step over all tokens with all logits (``plain``).
        ``saved``: ``plain`` over ``ours``.
    """
    end = spec.settings.end_token
    coded = frozen.encode(problem.question, problem.target, placement=spec.placement, end=end)
    table = frozen.vocabulary.numel()
    weights = sum(weight.numel() for weight in frozen.decoder.parameters()) - table
    every, before, target = coded.length(spec.n_tokens), len(coded.before), len(coded.target)
    own = every - before - 1
    config = frozen.model.config
    width = frozen.query_width
    windows = [frozen.window_of(layer) for layer in range(config.num_hidden_layers)]
    met = {window: _pairs(before, own, window) for window in set(windows)}
    near, far = (sum(met[window][k] for window in windows) for k in (0, 1))
    whole = sum(sum(_pairs(0, every, window)) for window in windows)
    a_pair = 2 * width  # operations of one product for a query and a key
    operations = {
        "layers": 4 * weights * own,
        "vocabulary": 4 * frozen.head.numel() * target,
        "own_keys": a_pair * 6 * near,
        "context_keys": a_pair * 4 * far,
    }
    operations["ours"] = sum(operations.values())
    operations["plain"] = 4 * (weights + frozen.head.numel()) * every + a_pair * 6 * whole
    counts = {"all": every, "own": own, "target": target, "weights": weights}
    saved = operations["plain"] / operations["ours"]
    return counts | {name: n / 1e9 for name, n in operations.items()} | {"saved": saved}


def _pairs(before: int, own: int, window: int | None) -> tuple[int, int]:
    """Count the pairs of own queries with own keys, and with the context's keys, in a layer."""
    reach = [min(before + k + 1, window or before + own) for k in range(own)]
    near = [min(k + 1, seen) for k, seen in enumerate(reach)]
    return sum(near), sum(reach) - sum(near)
