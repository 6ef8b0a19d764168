"""TSLoss itself, the paper's topological regulariser of a soft prompt, equation by equation.

The functions below are equations 1 to 8 in order. They work on ``pairs``: for every point, its
distances to the points it is compared with, shape ``(..., n, m)``, where m is n when a point is
paired with itself as in print, and n - 1 when it is not.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pdist

from tsp.errors import InputError


class Terms(NamedTuple):
    """The terms of TSLoss; shapes are for a bank ``(R, n, d)``, one prompt drops the R.

    Attributes
    ----------
    soft_nearest
        s_i of equation 1, shape ``(R, n)``, in the embedding space's distance.
    h0
        L_H0 of equation 2, shape ``(R,)``, a squared distance.
    delta, zeta
        The soft smallest and largest distance of equations 6 and 7, shape ``(R,)``.
    repel, attract
        L_repel and L_attract of equations 3 and 4, shape ``(R,)``, squared distances.
    h1
        L_H1 of equation 5, shape ``(R,)``.
    total
        beta_h0 h0 + beta_h1 h1, equation 8 without lambda_ts, shape ``(R,)``.
    """

    soft_nearest: Tensor
    h0: Tensor
    delta: Tensor
    zeta: Tensor
    repel: Tensor
    attract: Tensor
    h1: Tensor
    total: Tensor


class _Distances(torch.autograd.Function):
    """Euclidean distances whose gradient is 0, not nan, where two points coincide.

    Forward subtracts coordinates: the faster expansion into inner products loses small distances.
    The gradient of sum(G * D) is a graph Laplacian times the points, in float64, so that close
    pairs far from the origin keep their gradient; no tensor has shape (n, n, d).
    """

    @staticmethod
    def forward(ctx: Any, points: Tensor) -> Tensor:
        if points.device.type == "cpu":  # one cloud after another: a tenth of the time of cdist
            n, d = points.shape[-2:]
            i, j = torch.triu_indices(n, n, offset=1)
            D = points.new_zeros(*points.shape[:-1], n)
            for square, cloud in zip(D.view(-1, n, n), points.reshape(-1, n, d), strict=True):
                square[i, j] = square[j, i] = pdist(cloud)
        else:  # where each small call costs a launch
            D = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
        ctx.save_for_backward(points, D)
        return D  # (..., n, n)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        points, D = ctx.saved_tensors
        (G,) = grads
        # Where points coincide any finite weight will do: it multiplies x_i - x_j = 0.
        W = ((G + G.mT) / D.masked_fill(D == 0, 1)).double()
        laplacian = torch.diag_embed(W.sum(-1)) - W
        return (laplacian @ points.double()).to(points.dtype)


def distance_matrix(prompts: Tensor) -> Tensor:
    """Euclidean distances D_ij between the points of each cloud, with a finite gradient everywhere.

    Parameters
    ----------
    prompts
        Shape ``(..., n, d)``, float32 or float64.

    Returns
    -------
    Tensor
        Shape ``(..., n, n)``, zero on the diagonal.

    Notes
    -----
    The distance has no derivative where two points coincide; 0 is used there, which lies in its
    subdifferential, so two coincident points stay together unless something else parts them.

    Examples
    --------
    >>> distance_matrix(torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]))
    tensor([[0., 3., 4.],
            [3., 0., 5.],
            [4., 5., 0.]])
    """
    return _Distances.apply(prompts)


def without_diagonal(D: Tensor) -> Tensor:
    """Leave i = j out of square matrices: ``(..., n, n)`` becomes ``(..., n, n - 1)``."""
    n = D.shape[-1]
    # The diagonal is every (n + 1)-th entry of the flattened matrix: cut the first one off, and
    # the others end the rows of an (n - 1) by (n + 1) matrix.
    rows = D.flatten(-2)[..., 1:].unflatten(-1, (n - 1, n + 1))
    return rows[..., :-1].reshape(*D.shape[:-1], n - 1)


def soft_nearest(pairs: Tensor, tau: float) -> Tensor:
    """Equation 1: s_i, each point's soft nearest-neighbour distance, ``(..., n)``."""
    return -tau * torch.logsumexp(-pairs / tau, dim=-1)


def h0_loss(s: Tensor) -> Tensor:
    """Equation 2: L_H0, the variance (over n) of the soft nearest-neighbour distances."""
    deviation = s - s.mean(dim=-1, keepdim=True)
    return deviation.square().mean(dim=-1)


def repel_loss(pairs: Tensor, delta: Tensor) -> Tensor:
    """Equation 3: L_repel, the mean squared shortfall of distances below delta."""
    return torch.relu(delta[..., None, None] - pairs).square().mean(dim=(-2, -1))


def attract_loss(pairs: Tensor, zeta: Tensor) -> Tensor:
    """Equation 4: L_attract, the mean squared excess of distances above zeta."""
    return torch.relu(pairs - zeta[..., None, None]).square().mean(dim=(-2, -1))


def h1_loss(
    repel: Tensor, attract: Tensor, *, lambda_repel: float, lambda_attract: float
) -> Tensor:
    """Equation 5: L_H1, the weighted sum of repulsion and attraction."""
    return lambda_repel * repel + lambda_attract * attract


def thresholds(pairs: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Equation 6: delta and zeta, the soft smallest and the soft largest distance."""
    D = pairs.flatten(-2)
    delta = (soft_weights(D, -alpha) * D).sum(-1)
    zeta = (soft_weights(D, alpha) * D).sum(-1)
    return delta, zeta


def soft_weights(D: Tensor, sharpness: float) -> Tensor:
    """Equation 7: w_low for sharpness -alpha, w_high for +alpha; each sums to 1."""
    return torch.softmax(sharpness * D, dim=-1)


def total_loss(h0: Tensor, h1: Tensor, *, beta_h0: float, beta_h1: float) -> Tensor:
    """Equation 8 without lambda_ts: L_ts as the weighted sum of its two parts."""
    return beta_h0 * h0 + beta_h1 * h1


class TSLoss(nn.Module):
    """TSLoss of equations 1 to 8, for one prompt or a bank of them.

    Parameters
    ----------
    tau
        Temperature of the soft nearest neighbour (equation 1), above 0, in the embedding
        space's distance: the smaller, the closer to the true nearest-neighbour distance.
    alpha
        Sharpness of the soft thresholds (equation 7), above 0, one over a distance: the larger,
        the closer delta and zeta are to the smallest and the largest distance.
    beta_h0, beta_h1
        Weights of the two parts in equation 8, at least 0.
    lambda_repel, lambda_attract
        Weights inside the second part (equation 5), at least 0.
    self_pairs
        True: every sum runs over i = j too and averages are over n², as printed. False: i = j
        is left out everywhere and averages are over n(n - 1).
    detach_thresholds
        True: delta and zeta count as constants, no gradient flows through them.

    Notes
    -----
    lambda_ts is not part of it: a trainer minimises ``cross_entropy + lambda_ts * loss(P)``.
    Equation 8 has it inside L_ts and section 4.2 multiplies by it once more. The paper writes P
    for n in equations 1 and 2. With self pairs the sum in equation 1 contains exp(0) = 1, hence
    s_i lies in [-tau log n, 0] and delta near 0, wherever the points are.

    Half types are computed and returned in float32. nan and infinity are not caught: they
    propagate to the value and the gradient.

    Raises
    ------
    InputError
        A weight that is not a finite number in its range; a tensor that is not of shape
        ``(n, d)`` or ``(R, n, d)`` with at least one point.

    Examples
    --------
    >>> P = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]], requires_grad=True)
    >>> loss = TSLoss(tau=0.1, alpha=10.0)
    >>> loss(P).backward()
    >>> [round(x.item(), 3) for x in loss.terms(P)[1:4]]
    [0.222, 3.0, 5.0]
    """

    def __init__(
        self,
        *,
        tau: float = 0.1,
        alpha: float = 10.0,
        beta_h0: float = 1.0,
        beta_h1: float = 1.0,
        lambda_repel: float = 1.0,
        lambda_attract: float = 1.0,
        self_pairs: bool = False,
        detach_thresholds: bool = False,
    ) -> None:
        super().__init__()
        self.tau = _number("tau", tau, above_zero=True)
        self.alpha = _number("alpha", alpha, above_zero=True)
        self.beta_h0 = _number("beta_h0", beta_h0)
        self.beta_h1 = _number("beta_h1", beta_h1)
        self.lambda_repel = _number("lambda_repel", lambda_repel)
        self.lambda_attract = _number("lambda_attract", lambda_attract)
        self.self_pairs = bool(self_pairs)
        self.detach_thresholds = bool(detach_thresholds)

    def forward(self, prompts: Tensor) -> Tensor:
        """TSLoss without lambda_ts: ``(n, d)`` gives a scalar, ``(R, n, d)`` gives ``(R,)``."""
        return self.terms(prompts).total

    def terms(self, prompts: Tensor) -> Terms:
        """Compute every term of the loss, each differentiable (equations 1 to 8).

        Parameters
        ----------
        prompts
            One prompt ``(n, d)`` or a bank ``(R, n, d)``, any floating dtype.

        Returns
        -------
        Terms
            Named; ``soft_nearest`` has shape ``(n,)`` or ``(R, n)``, the others a scalar or
            ``(R,)``. All are 0 for n = 1.
        """
        pairs = distance_matrix(as_cloud(prompts))
        if not self.self_pairs and pairs.shape[-1] > 1:  # a single point is only its own partner
            pairs = without_diagonal(pairs)
        s = soft_nearest(pairs, self.tau)
        delta, zeta = thresholds(pairs, self.alpha)
        if self.detach_thresholds:
            delta, zeta = delta.detach(), zeta.detach()
        h0, repel, attract = h0_loss(s), repel_loss(pairs, delta), attract_loss(pairs, zeta)
        weights = {"lambda_repel": self.lambda_repel, "lambda_attract": self.lambda_attract}
        h1 = h1_loss(repel, attract, **weights)
        total = total_loss(h0, h1, beta_h0=self.beta_h0, beta_h1=self.beta_h1)
        return Terms(s, h0, delta, zeta, repel, attract, h1, total)

    def extra_repr(self) -> str:
        """Show the settings when the module is printed."""
        names = ["tau", "alpha", "beta_h0", "beta_h1", "lambda_repel", "lambda_attract"]
        names += ["self_pairs", "detach_thresholds"]
        return ", ".join(f"{name}={getattr(self, name)}" for name in names)


def as_cloud(prompts: Tensor) -> Tensor:
    """Check that a tensor is a prompt or a bank, and bring half types to float32."""
    if not isinstance(prompts, Tensor) or not prompts.is_floating_point():
        kind = prompts.dtype if isinstance(prompts, Tensor) else type(prompts).__name__
        raise InputError("prompts", kind, "give a torch tensor of floating-point numbers")
    if prompts.ndim not in (2, 3) or 0 in prompts.shape[-2:]:
        remedy = "give the shape (n, d) or (R, n, d) with at least one point and one dimension"
        raise InputError("prompts", tuple(prompts.shape), remedy)
    return prompts if prompts.dtype == torch.float64 else prompts.float()


def _number(field: str, value: float, *, above_zero: bool = False) -> float:
    """Return a finite number that is in range, as a float."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):  # 10**400 is too large for a float
        number = math.nan
    if not math.isfinite(number) or number < 0 or (above_zero and number == 0):
        bound = "above 0" if above_zero else "of at least 0"
        raise InputError(field, value, f"give a finite number {bound}")
    return number
