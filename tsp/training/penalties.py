"""What a training step adds to the cross-entropy: values, gradients and their norms, run by run."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tsp.loss import Terms, TSLoss
from tsp.regularizers import regularizer
from tsp.training.spec import RunSpec

TERMS = ("h0", "repel", "attract")
Row = dict[str, float]


def penalties(specs: Sequence[RunSpec], prompts: Sequence[Tensor]) -> list[tuple[Row, Tensor]]:
    """TSLoss's terms, watched in every run, and each run's own regulariser.

    Runs with the same loss and length are computed together.

    Parameters
    ----------
    specs, prompts
        One spec and one prompt, shape (n, d), a run.

    Returns
    -------
    list of (dict, Tensor)
        For each run: ``h0 h1 repel attract delta zeta ts`` (`TSLoss.terms`), ``reg`` (the
        method's own regulariser, 0 for ``ce``), ``grad_*`` (Euclidean norms of their gradients,
        without lambda_ts); and the gradient of ``reg``, shape (n, d). For ``sham``, ``reg`` is
        TSLoss and the gradient `scrambled`. With the weighting
        ``gradient`` that is in units of the cross-entropy's gradient: the sum of the H0 and the H1
        term's gradients, each first made as long as beta_h0 or beta_h1.
    """
    groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for i, spec in enumerate(specs):
        options = tuple(spec.loss_options.values())
        groups[(spec.method, spec.weighting, spec.n_tokens, *options)].append(i)
    results: dict[int, tuple[Row, Tensor]] = {}
    for members in groups.values():
        together = torch.stack([prompts[i].detach() for i in members]).requires_grad_()
        seeds = [specs[i].seed for i in members]
        rows, gradients = _together(specs[members[0]], together, seeds)
        results |= dict(zip(members, zip(rows, gradients, strict=True), strict=True))
    return [results[i] for i in range(len(specs))]


def scrambled(gradient: Tensor, seed: int) -> Tensor:
    """Permute the d coordinates of a gradient, shape (n, d), and flip signs at random.

    The transformation is orthogonal, the same for every row and every step of a seed: lengths,
    angles between rows and steadiness in time remain, and so does the size of each coordinate,
    which Adam divides by. The relation to the cloud is lost, and with it the descent: TSLoss's own
    gradient shrinks as training lowers TSLoss, a scrambled one does not.
    """
    generator = torch.Generator().manual_seed(seed)
    dim = gradient.shape[-1]
    order = torch.randperm(dim, generator=generator)
    sign = torch.randint(0, 2, (dim,), generator=generator) * 2 - 1
    return gradient[:, order.to(gradient.device)] * sign.to(gradient)


def _together(spec: RunSpec, prompts: Tensor, seeds: Sequence[int]) -> tuple[list[Row], Tensor]:
    """Penalties of a bank, (R, n, d), whose runs have one loss."""
    loss = TSLoss(**spec.loss_options)
    terms = loss.terms(prompts)
    parts = {
        name: torch.autograd.grad(getattr(terms, name).sum(), prompts, retain_graph=True)[0]
        for name in TERMS
    }
    h1 = loss.lambda_repel * parts["repel"] + loss.lambda_attract * parts["attract"]
    ts = loss.beta_h0 * parts["h0"] + loss.beta_h1 * h1  # (R, n, d)
    value, gradient = terms.total, ts
    if spec.weighting == "gradient":
        gradient = loss.beta_h0 * _unit(parts["h0"]) + loss.beta_h1 * _unit(h1)
    if spec.method == "sham":
        gradient = torch.stack(
            [scrambled(own, seed) for own, seed in zip(gradient, seeds, strict=True)]
        )
    elif spec.method != "tsloss":
        value = regularizer(spec.method, loss=loss)(prompts)
        gradient = torch.autograd.grad(value.sum(), prompts)[0]
    norms = {f"grad_{name}": part for name, part in {**parts, "ts": ts, "reg": gradient}.items()}
    return _rows(terms, value, norms), gradient


def _unit(gradients: Tensor) -> Tensor:
    """Each of (R, n, d) divided by its norm; a term that has no gradient keeps none."""
    norms = gradients.flatten(1).norm(dim=1)[:, None, None]
    return torch.where(norms > 0, gradients / norms, 0.0)


def _rows(terms: Terms, value: Tensor, gradients: dict[str, Tensor]) -> list[Row]:
    columns = {name: getattr(terms, name) for name in ("h0", "h1", "repel", "attract")}
    columns |= {"delta": terms.delta, "zeta": terms.zeta, "ts": terms.total, "reg": value}
    columns |= {name: part.flatten(1).norm(dim=1) for name, part in gradients.items()}
    table = {name: column.tolist() for name, column in columns.items()}
    return [{name: table[name][r] for name in table} for r in range(len(value))]
