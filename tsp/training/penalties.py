"""What a training step adds to the cross-entropy: values, gradients and their norms, run by run."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from tsp.loss import TSLoss
from tsp.regularizers import regularizer
from tsp.training.spec import RunSpec

TERMS = ("h0", "repel", "attract")
Row = dict[str, float]


def penalties(specs: Sequence[RunSpec], prompts: Sequence[Tensor]) -> list[tuple[Row, Tensor]]:
    """Compute TSLoss's terms, which every run records, and each run's own regulariser.

    Runs with the same loss and length are computed together.

    Parameters
    ----------
    specs, prompts
        One spec and one prompt, shape (n, d), a run.

    Returns
    -------
    list of (dict, Tensor)
        For each run: ``h0 h1 repel attract delta zeta ts`` (`TSLoss.terms`), ``reg`` (the
        method's regulariser, 0 for ``ce``, TSLoss for ``sham``), ``grad_*`` (Euclidean norms of
        their gradients, without lambda_ts); and the gradient of ``reg``, shape (n, d), for
        ``sham`` `scrambled`. With the weighting ``gradient`` that is in units of the
        cross-entropy's gradient: the sum of the H0 and the H1 term's gradients, each first scaled
        to the norm beta_h0 or beta_h1.
    """
    groups: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for i, spec in enumerate(specs):
        options = tuple(spec.loss_options.values())
        groups[(spec.method, spec.weighting, spec.n_tokens, *options)].append(i)
    results: dict[int, tuple[Row, Tensor]] = {}
    for members in groups.values():
        together = torch.stack([prompts[i].detach() for i in members]).requires_grad_()
        results |= zip(members, _together([specs[i] for i in members], together), strict=True)
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


def _together(specs: Sequence[RunSpec], prompts: Tensor) -> list[tuple[Row, Tensor]]:
    """Return the `penalties` of prompts, (R, n, d), whose runs have one loss."""
    loss, method = TSLoss(**specs[0].loss_options), specs[0].method
    terms = loss.terms(prompts)
    parts = {
        name: torch.autograd.grad(getattr(terms, name).sum(), prompts, retain_graph=True)[0]
        for name in TERMS
    }
    h1 = loss.lambda_repel * parts["repel"] + loss.lambda_attract * parts["attract"]
    ts = loss.beta_h0 * parts["h0"] + loss.beta_h1 * h1  # (R, n, d)
    value, gradient = terms.total, ts
    if specs[0].weighting == "gradient":
        gradient = loss.beta_h0 * _unit(parts["h0"]) + loss.beta_h1 * _unit(h1)
    if method == "sham":
        rotated = [scrambled(one, spec.seed) for one, spec in zip(gradient, specs, strict=True)]
        gradient = torch.stack(rotated)
    elif method != "tsloss":
        value = regularizer(method, loss=loss)(prompts)
        gradient = torch.autograd.grad(value.sum(), prompts)[0]
    columns = {name: getattr(terms, name) for name in ("h0", "h1", "repel", "attract")}
    columns |= {"delta": terms.delta, "zeta": terms.zeta, "ts": terms.total, "reg": value}
    for name, part in (parts | {"ts": ts, "reg": gradient}).items():
        columns[f"grad_{name}"] = part.flatten(1).norm(dim=1)
    table = torch.stack(list(columns.values()), dim=1).tolist()  # a GPU is waited for once
    rows = (dict(zip(columns, row, strict=True)) for row in table)
    return list(zip(rows, gradient, strict=True))


def _unit(gradients: Tensor) -> Tensor:
    """Scale each of (R, n, d) to norm 1; a zero gradient stays zero."""
    norms = gradients.flatten(1).norm(dim=1)[:, None, None]
    return torch.where(norms > 0, gradients / norms, 0.0)
