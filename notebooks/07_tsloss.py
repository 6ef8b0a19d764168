# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     notebook_metadata_filter: -jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # TSLoss, equation by equation
#
# What does the paper's loss reward? *TSLoss* {cite}`anonymous-topology` is eight equations (section 3 of the
# paper): one half evens out the distances to nearest neighbours, the other half narrows the range of all
# distances. The second half is 0 only when all points are equally far apart, and then the first half is 0 too.
#
# This chapter works out each equation on three points, once by hand and once with `tsp.loss`, and draws the
# forces. The equations follow the paper's order, so the number after the dot is the paper's: (7.1) is its equation 1.
#
# ```{admonition} After this chapter you can
# :class: tip
# say what each term of TSLoss rewards, and name a change of the cloud that it does not notice.
# ```

# %% tags=["parameters"]
tau: float = 0.1  # temperature of the soft nearest neighbour
alpha: float = 10.0  # sharpness of the soft thresholds

# %% tags=["hide-input"]
from math import exp, log

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
import torch

from tsp import TSLoss
from tsp.book.pages import check_parameters
from tsp.figures.interactive import Live
from tsp.figures.style import METHOD_COLORS, POINT_COLOR, style
from tsp.loss import (
    attract_loss,
    distance_matrix,
    h0_loss,
    h1_loss,
    repel_loss,
    soft_nearest,
    thresholds,
    total_loss,
    without_diagonal,
)

check_parameters(globals())

torch.manual_seed(0)
rng = np.random.default_rng(0)
style()
C = sns.color_palette("colorblind")

# %% [markdown]
# ## Soft nearest neighbours
#
# Take {ref}`the triangle <three-points>` with sides 3, 4 and 5. TSLoss depends on nothing but such
# distances $D_{ij}$. A point is not its own neighbour, so each of the three has two neighbours.

# %%
P = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
D = distance_matrix(P)
pairs = without_diagonal(D)  # (3, 2): the distances from each point to the others
pairs.tolist()

# %% [markdown]
# How far is $x_i$ from its nearest neighbour? The minimum has no derivative where two neighbours tie, so the paper uses a soft minimum:
#
# $$s_i = -\tau \log \sum_{j \ne i} \exp\left(-\frac{D_{ij}}{\tau}\right)$$ (eq-softmin)
#
# At temperature $\tau = 1$ the corner between the short sides has $s_1 = -\log(e^{-3} + e^{-4})$:

# %%
by_hand = [-log(exp(-a) + exp(-b)) for a, b in ((3, 4), (3, 5), (4, 5))]
s = soft_nearest(pairs, tau=1.0)
assert np.allclose(s, by_hand)
s.tolist()

# %% [markdown]
# A sum of $n - 1$ positive terms lies between its largest term and $n - 1$ times that term. Hence
#
# $$\min_j D_{ij} - \tau \log(n - 1) \;\le\; s_i \;\le\; \min_j D_{ij}$$
#
# So $s_i$ tends to the nearest neighbour's distance as $\tau \to 0$. The temperature is a length, and it is small if it is small compared with the
# differences between distances. (The paper calls $\tau$ the temperature of the language model, which has no unit.)
#
# The paper's sum also includes $j = i$. That term is $e^0 = 1$: each point becomes its own nearest neighbour,
# and $s_i$ lies between $-\tau \log n$ and 0 wherever the points are ({ref}`ex-self`).

# %% mystnb={"image": {"alt": "Soft nearest-neighbour distance against temperature from 0.02 to 10 for three points. Left, without self-pairs, the curves start at 3, 3 and 4 and fall once the temperature nears 1. Right, with self-pairs, all start at 0 and only become negative."}, "figure": {"caption": "At low temperature the soft distance of equation {eq}`eq-softmin` is the distance to the nearest neighbour if $i = j$ is left out (left), and 0 as printed (right). Dotted: the nearest-neighbour distances of the three points.", "name": "fig-softmin"}} tags=["hide-input"]
taus = np.geomspace(0.02, 10, 60)
fig, axes = plt.subplots(1, 2, figsize=(7.2, 3), sharey=True, layout="constrained")
for ax, compared, title in zip(axes, (pairs, D), ("$i = j$ left out", "as printed"), strict=True):
    curves = np.array([soft_nearest(compared, t).numpy() for t in taus])
    for i, style_ in enumerate(("-", "--", "-.")):
        ax.plot(taus, curves[:, i], style_, color=C[i], label=f"$s_{i + 1}$")
        ax.axhline(pairs[i].min(), color="0.5", ls=":", lw=1)
    ax.set(xscale="log", xlabel=r"temperature $\tau$", title=title, ylim=(-5, 5))
axes[0].set_ylabel("$s_i$")
axes[0].legend(loc="lower left")
sns.despine(fig)

# %% [markdown]
# The first half of the loss is the variance of these soft distances. It is 0 when they are all equal.
#
# $$\mathcal{L}_{H0} = \frac1n \sum_i (s_i - \bar s)^2, \qquad \bar s = \frac1n \sum_i s_i$$ (eq-h0)

# %%
mean = sum(by_hand) / 3
assert np.isclose(h0_loss(s), sum((x - mean) ** 2 for x in by_hand) / 3)
h0_loss(s).item()

# %% [markdown]
# ## Pushing and pulling
#
# The second half is named after $H_1$. Pairs closer than $\delta$ repel each other; pairs farther apart than $\zeta$ attract each other:
#
# $$\mathcal{L}_\text{repel} = \frac{1}{n(n-1)} \sum_{i \ne j} \max(0, \delta - D_{ij})^2$$ (eq-repel)
#
# $$\mathcal{L}_\text{attract} = \frac{1}{n(n-1)} \sum_{i \ne j} \max(0, D_{ij} - \zeta)^2$$ (eq-attract)
#
# $$\mathcal{L}_{H1} = \lambda_\text{repel} \mathcal{L}_\text{repel} + \lambda_\text{attract} \mathcal{L}_\text{attract}$$ (eq-h1)
#
# The paper sums over all $i, j$ and divides by $n^2$. Without the pairs $i = j$ the divisor is the number of
# remaining pairs, $n(n-1)$. `self_pairs=True` gives the printed form.
#
# With $\delta = 3.5$ and $\zeta = 4.5$, one side of the triangle is too short by $\tfrac12$ and one is too
# long by $\tfrac12$. Each counts twice among the six ordered pairs:

# %%
near, far = torch.tensor(3.5, dtype=torch.float64), torch.tensor(4.5, dtype=torch.float64)
assert np.isclose(repel_loss(pairs, near), 2 * 0.5**2 / 6)
assert np.isclose(attract_loss(pairs, far), 2 * 0.5**2 / 6)
h1_loss(
    repel_loss(pairs, near), attract_loss(pairs, far), lambda_repel=1.0, lambda_attract=1.0
).item()

# %% [markdown]
# The two thresholds are not constants. Each is an average of all distances: $\delta$ is weighted towards the
# smallest, $\zeta$ towards the largest.
#
# $$\delta = \sum_{i \ne j} w^\text{low}_{ij} D_{ij}, \qquad \zeta = \sum_{i \ne j} w^\text{high}_{ij} D_{ij}$$ (eq-thresholds)
#
# $$w^\text{low}_{ij} = \frac{e^{-\alpha D_{ij}}}{\sum_{k \ne l} e^{-\alpha D_{kl}}}, \qquad
# w^\text{high}_{ij} = \frac{e^{\alpha D_{ij}}}{\sum_{k \ne l} e^{\alpha D_{kl}}}$$ (eq-weights)

# %%
sides = (3, 4, 5)
low = sum(x * exp(-x) for x in sides) / sum(exp(-x) for x in sides)
high = sum(x * exp(x) for x in sides) / sum(exp(x) for x in sides)
delta, zeta = thresholds(pairs, alpha=1.0)
assert np.allclose([delta, zeta], [low, high])
delta.item(), zeta.item()

# %% [markdown]
# The paper says that the thresholds approach "hard" quantiles as $\alpha \to \infty$. They do: $\delta$ becomes the smallest distance and
# $\zeta$ the largest. But then no pair is closer than $\delta$ or farther apart than $\zeta$, and $\mathcal{L}_{H1}$ is 0 for every cloud.
# At the other end, as $\alpha \to 0$, both thresholds become the mean distance. If $\lambda_\text{repel} = \lambda_\text{attract} = 1$,
# $\mathcal{L}_{H1}$ is then the variance of all distances. So the softness of the thresholds decides what the second half measures:

# %% mystnb={"image": {"alt": "Left: the two thresholds of the triangle against alpha; both start at the mean 4, delta falls to 3 and zeta rises to 5. Right: the H1 loss against alpha starts at the variance of the distances and falls to zero."}, "figure": {"caption": "As the thresholds of equation {eq}`eq-thresholds` harden, $\\mathcal{L}_{H1}$ vanishes. Left: both thresholds of the triangle against the sharpness $\\alpha$; dotted: its three distances. Right: $\\mathcal{L}_{H1}$; dotted: the variance of the distances.", "name": "fig-thresholds"}} tags=["hide-input"]
alphas = np.geomspace(0.01, 100, 80)
ends = np.array([[x.item() for x in thresholds(pairs, a)] for a in alphas])
halves = [TSLoss(alpha=a).terms(P).h1.item() for a in alphas]
fig, axes = plt.subplots(1, 2, figsize=(7.2, 3), layout="constrained")
axes[0].plot(alphas, ends[:, 0], color=C[0], label=r"$\delta$")
axes[0].plot(alphas, ends[:, 1], "--", color=C[3], label=r"$\zeta$")
for side in sides:
    axes[0].axhline(side, color="0.5", ls=":", lw=1)
axes[0].set(xscale="log", xlabel=r"sharpness $\alpha$", ylabel="distance")
axes[0].legend(loc=(0.6, 0.55))
axes[1].plot(alphas, halves, color=C[2])
axes[1].axhline(np.var(sides), color="0.5", ls=":", lw=1)
axes[1].set(xscale="log", xlabel=r"sharpness $\alpha$", ylabel=r"$\mathcal{L}_{H1}$")
assert np.isclose(TSLoss(alpha=1e-6).terms(P).h1, np.var(sides), rtol=1e-4)
assert halves[-1] < 1e-12
sns.despine(fig)

# %% [markdown]
# ## The whole loss
#
# $$\mathcal{L}_\text{ts} = \lambda_\text{ts} \left(\beta_{H0} \mathcal{L}_{H0} + \beta_{H1} \mathcal{L}_{H1}\right)$$ (eq-total)
#
# Our code applies $\lambda_\text{ts}$ once, outside `TSLoss` ({doc}`03_printed_numbers` shows what applying it twice would mean).

# %%
terms = TSLoss(tau=1.0, alpha=1.0).terms(P)
h1 = h1_loss(
    repel_loss(pairs, delta), attract_loss(pairs, zeta), lambda_repel=1.0, lambda_attract=1.0
)
assert torch.isclose(terms.total, total_loss(h0_loss(s), h1, beta_h0=1.0, beta_h1=1.0))
[(name, round(getattr(terms, name).item(), 4)) for name in ("h0", "repel", "attract", "total")]

# %% [markdown]
# Which clouds minimise it?
#
# ```{prf:proposition} The minimum of TSLoss
# :label: prop-minimum
# Leave out self-pairs and let all weights be positive. TSLoss is 0 for clouds whose points are all equally far
# apart, and positive for all others.
# ```
#
# ```{prf:proof}
# Every term is a mean of squares, so none is negative. If all distances equal $r$, then $\delta = \zeta = r$ and all $s_i$ are equal, so
# every term is 0. Otherwise $\delta$ is an average, with positive weights, of numbers that are not all the same. It is greater than the
# smallest distance, so the closest pair repels and the loss is positive.
# ```
#
# Up to $d + 1$ points in $d$ dimensions can be equally far apart; they form a *regular simplex*. (Points that all coincide are equally far
# apart as well.) A prompt of a few dozen vectors in hundreds of dimensions has room for one. Whether descent reaches it depends on the
# start. Gaussian clouds of a prompt's initial size come close ({doc}`08_tsloss_at_work`). Much larger clouds, and clumps that are far apart,
# do not: there the thresholds are hard, and the second half hardly exerts any force. In the barcode of a simplex all pieces merge at one
# scale, and no loop has any length ({ref}`ex-simplex`). TSLoss therefore rewards evenness, not a few prominent features.
#
# ## Forces
#
# The negative gradient points downhill: it shows where each term would move each point. $\delta$ and
# $\zeta$ depend on the points too, and the gradient passes through them.

# %% mystnb={"image": {"alt": "Four drawings of nine points in the plane with arrows: two clumps and an outlier. First, arrows even out neighbour distances. Second, points of one clump push each other apart. Third, the outlier and the clumps are pulled together. Fourth, both forces of the second half with moving thresholds: the longest arrow is shorter."}, "figure": {"caption": "Moving thresholds weaken the force of the second half. Arrows are the negative gradients on nine points, two clumps and an outlier ($\\tau = 0.3$, $\\alpha = 1$). Each panel has its own scale; its title gives the length of the longest arrow. The thresholds are fixed in the second and third panel and move in the last.", "name": "fig-forces"}} tags=["hide-input"]
clumps = np.array([[0.0, 0.0]] * 4 + [[2.5, 0.3]] * 4 + [[1.0, 2.2]])
cloud = torch.tensor(clumps + rng.normal(scale=0.3, size=clumps.shape), requires_grad=True)
moving = TSLoss(tau=0.3, alpha=1.0).terms(cloud)
fixed = TSLoss(tau=0.3, alpha=1.0, detach_thresholds=True).terms(cloud)
panels = {
    r"$\mathcal{L}_{H0}$": moving.h0,
    r"$\mathcal{L}_\mathrm{repel}$, fixed": fixed.repel,
    r"$\mathcal{L}_\mathrm{attract}$, fixed": fixed.attract,
    r"$\mathcal{L}_{H1}$": moving.h1,
}
fig, axes = plt.subplots(2, 2, figsize=(6, 5.6), sharex=True, sharey=True, layout="constrained")
for ax, (title, term) in zip(axes.flat, panels.items(), strict=True):
    (grad,) = torch.autograd.grad(term, cloud, retain_graph=True)
    push, points = -grad.numpy(), cloud.detach().numpy()
    longest = np.linalg.norm(push, axis=1).max()
    ax.scatter(*points.T, color=POINT_COLOR, edgecolor="0.2", s=30)
    arrows = {"angles": "xy", "scale_units": "xy", "scale": 1, "width": 0.012}
    ax.quiver(*points.T, *(push / longest).T, color=C[0], zorder=3, **arrows)
    ax.set_title(f"{title}: {longest:.2g}", fontsize=9.5)
    ax.set(aspect="equal", xticks=[], yticks=[], xlim=(-1.6, 4.2), ylim=(-1.6, 3.6))
(fixed_grad,) = torch.autograd.grad(fixed.h1, cloud)
assert longest < fixed_grad.norm(dim=1).max()  # moving thresholds weaken the force

# %% [markdown]
# The first half acts mainly on points whose neighbour distance is unusual, along the line to the nearest
# neighbour. The second half acts on every point. Its moving thresholds take away much of its force: raising
# $\zeta$, by lengthening other long distances, also reduces the penalty on a pair that is too far apart.
#
# (tsloss-by-hand)=
# ### Points you can move
#
# Vermilion lines join pairs closer than $\delta$, blue lines pairs farther apart than $\zeta$. Arrows show where gradient descent takes
# each point. The longest arrow always has the same length, so directions can be read even where the force is tiny.

# %% mystnb={"figure": {"caption": "Move a point and watch each term of TSLoss and the direction of descent, of the whole loss or of one term. In print: the starting position, with the arrows of the whole loss.", "name": "live-tsloss"}} tags=["hide-input"]
movable = torch.tensor(
    [[0.2, 0.2], [0.3, 0.75], [0.5, 0.4], [0.8, 0.3], [0.75, 0.8], [0.55, 0.85]],
    dtype=torch.float64,
    requires_grad=True,
)
TSLoss(tau=0.1, alpha=10.0)(movable).backward()
points, push = movable.detach().numpy(), -movable.grad.numpy()
fig, ax = plt.subplots(figsize=(3.6, 3.6), layout="constrained")
ax.quiver(*points.T, *push.T, color=METHOD_COLORS["tsloss"], width=0.008)
ax.scatter(*points.T, color=POINT_COLOR, edgecolor="0.2", s=50, zorder=3)
ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
plt.close(fig)
Live(
    "hand",
    {"points": points.tolist()},
    still=fig,
    alt="Six points in a square, each with an arrow that shows where the gradient of TSLoss moves it.",
)

# %% [markdown]
# Move one point far away: the thresholds move along with the distances, so $\mathcal{L}_\text{attract}$ may even fall while the whole loss
# grows. Put two points on top of each other and see which arrows of $\mathcal{L}_\text{repel}$ change. Then press *A step of descent* twenty
# times. Four or more distinct points of the plane cannot all be equally far apart, so the loss stays above 0 unless the points coincide.
#
# ## Blind spots
#
# Because TSLoss depends on distances alone, reordering, shifting or rotating the points does not change it. Stretching the cloud does. If
# the cloud is stretched by a factor, and $\tau$ is multiplied and $\alpha$ divided by it, the loss grows with the square of that factor:

# %%
X = torch.randn(12, 5, dtype=torch.float64)
rotation, _ = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64))
loss = TSLoss(tau=tau, alpha=alpha)
for moved in (X[torch.randperm(12)], X + 7.0, X @ rotation):
    assert torch.isclose(loss(moved), loss(X))
assert not torch.isclose(loss(3 * X), loss(X))
assert torch.isclose(TSLoss(tau=3 * tau, alpha=alpha / 3)(3 * X), 9 * loss(X))

# %% [markdown]
# So both parameters depend on the scale of the embedding space, and the same values mean different things for different models.
#
# Size also decides which way $\mathcal{L}_{H1}$ pulls. Stretch a cloud by a factor $c$. While the thresholds are soft, $\mathcal{L}_{H1}$
# is nearly the variance of the distances and grows like $c^2$. Once $\alpha$ times their spread is large, the thresholds harden and
# $\mathcal{L}_{H1}$ falls to 0. In between it has at least one peak; {numref}`fig-scale` shows that of a prompt. Where
# $\mathcal{L}_{H1}$ rises with size, descending it shrinks the cloud; where it falls, descending it enlarges the cloud.
#
# The first half is blind to the gap between clumps: the two tight pairs of {doc}`02_homology_of_a_prompt` move apart without changing its value.
#
# ## Exercises
#
# ```{exercise} The equilateral triangle
# :label: ex-equilateral
# What is each term of TSLoss for an equilateral triangle of side 2 at $\tau = 1$, and what is the gradient?
# ```
#
# ```{solution-start} ex-equilateral
# :class: dropdown
# ```
# Every $s_i$ is $-\log(2 e^{-2}) = 2 - \log 2$, both thresholds are 2, and both halves are 0. By
# {prf:ref}`prop-minimum` this is a minimum, so the gradient is 0.

# %%
triangle = torch.tensor(
    [[0.0, 0.0], [2.0, 0.0], [1.0, 3**0.5]], dtype=torch.float64, requires_grad=True
)
even = TSLoss(tau=1.0).terms(triangle)
even.total.backward()
assert torch.allclose(even.soft_nearest, torch.tensor(2 - log(2), dtype=torch.float64))
assert np.allclose([even.delta.item(), even.zeta.item(), even.total.item()], [2, 2, 0])
assert triangle.grad.abs().max() < 1e-9

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Flat thresholds
# :label: ex-flat
# Show that $\mathcal{L}_{H1}$ is the variance of the distances when $\alpha = 0$ and
# $\lambda_\text{repel} = \lambda_\text{attract} = 1$. What share of it is left at $\alpha = 1$ for 12 points in
# 5 dimensions with standard normal coordinates?
# ```
#
# ```{solution-start} ex-flat
# :class: dropdown
# ```
# All weights of {eq}`eq-weights` are equal, so $\delta = \zeta = \bar D$. For each pair one of the two
# maxima is $|D_{ij} - \bar D|$ and the other is 0. The means of their squares add up to the variance.

# %%
distances = distance_matrix(X)[np.triu_indices(12, 1)]
limit = TSLoss(alpha=1e-9).terms(X).h1
assert torch.isclose(limit, distances.var(correction=0))
print(f"at alpha = 1: {(TSLoss(alpha=1.0).terms(X).h1 / limit).item():.0%} of the variance")

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Neighbours as printed
# :label: ex-self
# Prove that $-\tau \log n \le s_i < 0$ with self-pairs. Find a cloud at the lower end and one near the upper.
# ```
#
# ```{solution-start} ex-self
# :class: dropdown
# ```
# With $j = i$, the sum in {eq}`eq-softmin` has $n$ positive terms of at most 1, one of which is exactly 1, so it lies above 1 and is at most
# $n$. If all points coincide, every term is 1 and $s_i = -\tau \log n$. If all points are far apart, only the term $j = i$ remains and
# $s_i$ approaches 0.

# %%
printed = TSLoss(tau=1.0, self_pairs=True)
together, apart = torch.zeros(5, 3, dtype=torch.float64), 1e3 * torch.eye(5, dtype=torch.float64)
assert torch.allclose(
    printed.terms(together).soft_nearest, -torch.log(torch.tensor(5.0, dtype=torch.float64))
)
assert torch.allclose(printed.terms(apart).soft_nearest, torch.zeros(5, dtype=torch.float64))

# %% [markdown]
# ```{solution-end}
# ```
#
# {doc}`08_tsloss_at_work` shows how close a cloud comes to evenness, under TSLoss alone and beside the cross-entropy.
