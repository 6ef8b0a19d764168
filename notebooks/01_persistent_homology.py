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
# # Persistent homology of a prompt
#
# A soft prompt is $n$ vectors of length $d$. Forget the order they stand in and what the language
# model does with them: what is left is $n$ points in space, and points can lie in one clump, in
# several, or around a hole. Persistent homology turns that remark into numbers. This chapter builds
# it up from three points that fit on a napkin, checks each step against the library, and then looks
# at a trained prompt.
#
# It covers equations 9 to 14 of the paper {cite}`anonymous-topology`; the equations keep the
# paper's numbers. A longer introduction is {cite:t}`chazal2021introduction`.
#
# ```{admonition} After this chapter you can
# :class: tip
# compute by hand the bars of a few points, and say why $n$ points have $n - 1$ finite $H_0$ bars.
# ```

# %% tags=["parameters"]
runs: str = ""  # the run store; empty: $TSP_RUNS, else runs
model: str = "smollm2-135m-instruct"
task: str = ""  # of the problem; empty, with problem 0: the example of all chapters
problem: int = 0
method: str = "ce"  # the prompt's training: ce (plain) or tsloss
protocol: str = "tuned"
seed: int = 0
epoch: int = -1  # the prompt after this many epochs; -1 is the last that is stored
epochs: int = 30  # of a run that the store lacks: it is trained now
data: str = ""  # shipped, hub or a folder with TASK.jsonl; empty: what the store has

# %% tags=["hide-input"]
from itertools import combinations
from math import log, pi, sin, sqrt

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from myst_nb import glue
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import pdist, squareform

from tsp.analysis.tables import TASK_NAMES
from tsp.book.pages import check_parameters
from tsp.experiments.find_or_train import find_example, outcome_in_words, right_from
from tsp.figures.interactive import Live
from tsp.figures.style import (
    DIMENSION_COLORS,
    POINT_COLOR,
    WIDTH,
    draw_barcode,
    draw_complex,
    draw_diagram,
    style,
)
from tsp.store.runs import Store
from tsp.topology.diagrams import (
    betti_curve,
    lifespans,
    persistence,
    persistence_entropy,
    summarize,
)
from tsp.training.spec import RunSpec

check_parameters(globals())

style()

# %% [markdown]
# (three-points)=
# ## Three points
#
# Take $A = (0, 0)$, $B = (3, 0)$ and $C = (0, 4)$. Their distances are 3, 4 and 5. Choose a scale
# $\epsilon$ and join two points when they are at most $\epsilon$ apart; fill in a triangle when all
# three of its sides are there; go on like this in higher dimensions. What results is the
# *Vietoris–Rips complex* at scale $\epsilon$, equation 9:
#
# $$\begin{aligned}\mathrm{VR}_\epsilon(X) = \{\sigma \subset X :{}& \lVert x_i - x_j\rVert \le \epsilon\cr
# &\text{for all } x_i, x_j \in \sigma\}\end{aligned} \tag{9}$$
#
# A disc of radius $\epsilon/2$ around each point shows the same: two points are joined when their
# discs touch.


# %% mystnb={"image": {"alt": "Four drawings of the same three points. At scale 2 no two are joined; at 3 A and B are; at 4 also A and C; at 5 all three are joined and the triangle is filled."}, "figure": {"caption": "The Rips complex of three points at four scales. Between them nothing changes: only the distances 3, 4 and 5 matter.", "name": "fig-three-points"}} tags=["hide-input"]
three = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
fig, axes = plt.subplots(2, 2, figsize=(0.8 * WIDTH, 0.72 * WIDTH), sharex=True, sharey=True)
for ax, scale in zip(axes.flat, (2, 3, 4, 5), strict=True):
    draw_complex(three, scale, ax=ax)
    ax.set(title=f"scale {scale}", xlim=(-2.6, 5.6), ylim=(-2.6, 6.6))
    for name, at in zip("ABC", three, strict=True):
        ax.annotate(name, at, xytext=(-15, 5), textcoords="offset points")
fig.tight_layout()

# %% [markdown]
# As $\epsilon$ grows the complexes contain one another, which is called a *filtration*, and we watch
# what happens to the pieces. At scale 0 there are three. At 3 the pieces of $A$ and $B$ merge: one of
# the two *dies*. At 4 the piece of $C$ dies. The last piece lives forever. The library says the same,
# as pairs of birth and death:

# %%
persistence(three)[0]

# %% [markdown]
# There is no loop at any scale. The third side of the triangle arrives at scale 5, and at that very
# moment the triangle is filled. Three points never have a hole; it takes four.
#
# ## Pieces and holes by linear algebra
#
# "Pieces" and "holes" can be counted without looking. Let the vertices, edges and triangles of a
# complex be the bases of three vector spaces over the field with two elements, and let the *boundary*
# $\partial_k$ send a simplex of dimension $k$ to the sum of its faces: a triangle to its three edges, an
# edge to its two ends, a vertex to nothing. A sum of edges with no boundary is a closed path. A closed
# path that is the boundary of triangles is filled in. What is closed but not filled is a hole:
#
# $$H_0 = \frac{\ker \partial_0}{\operatorname{im} \partial_1} \tag{10}$$
#
# $$H_1 = \frac{\ker \partial_1}{\operatorname{im} \partial_2} \tag{11}$$
#
# These are vector spaces. The numbers that the paper calls $H_0$ and $H_1$ are their dimensions, the
# *Betti numbers*
#
# $$\begin{aligned}\beta_0 &= n - \operatorname{rank} \partial_1\\
# \beta_1 &= (\text{edges} - \operatorname{rank} \partial_1) - \operatorname{rank} \partial_2\end{aligned}$$
#
# so that all it takes is the rank of a matrix of zeros and ones, which elimination finds. A column of
# such a matrix is a set of rows, and adding two columns is their symmetric difference:


# %%
def reduce(columns):
    """Eliminate over Z/2, left to right: {lowest row of what is left: its column}."""
    kept, where = {}, {}
    for j, column in enumerate(columns):
        while column and max(column) in kept:
            column = column ^ kept[max(column)]
        if column:
            kept[max(column)], where[max(column)] = column, j
    return where


def boundary(simplex):
    """The faces of a simplex, each a tuple of points."""
    return set(combinations(simplex, len(simplex) - 1))


def betti(points, eps):
    """Betti numbers 0 and 1 at one scale, by equations 9 to 11."""
    near = squareform(pdist(points)) <= eps
    sides = [s for s in combinations(range(len(points)), 2) if near[s]]
    faces = [f for f in combinations(range(len(points)), 3) if near[np.ix_(f, f)].all()]
    rank1 = len(reduce(map(boundary, sides)))
    rank2 = len(reduce(map(boundary, faces)))
    return len(points) - rank1, len(sides) - rank1 - rank2


# %% [markdown]
# The smallest cloud with a hole is a square. At scale 1 its sides are there and enclose one; at
# $\sqrt 2$ the diagonals arrive and everything is filled.

# %%
square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
scales = (0.9, 1.0, 1.4, 1.5)
found = {f"ε = {eps}": betti(square, eps) for eps in scales}
pd.DataFrame(found, index=["pieces", "holes"])

# %% [markdown]
# ## From numbers to bars
#
# Betti numbers scale by scale do not say whether the hole at one scale is the hole at the next.
# Persistent homology does, and it costs no more than one elimination
# {cite}`edelsbrunner2002topological,zomorodian2004computing`.
# Put all simplices in the order in which they arrive. Each either opens something new (a piece, a
# hole) or closes something that is there; when the elimination ends with a column $j$ whose lowest row
# is $i$, then simplex $j$ closed what simplex $i$ had opened. The scales at which the two arrived are
# death and birth.


# %%
def bars(points):
    """All bars of positive length in dimensions 0 and 1."""
    D, n = squareform(pdist(points)), len(points)
    simplices = [s for k in (1, 2, 3) for s in combinations(range(n), k)]
    scale = {s: D[np.ix_(s, s)].max() for s in simplices}
    order = sorted(simplices, key=lambda s: (scale[s], len(s)))
    number = {s: i for i, s in enumerate(order)}
    columns = [{number[f] for f in boundary(s) if f} for s in order]
    found = {0: [], 1: []}
    for low, j in reduce(columns).items():
        birth, death = scale[order[low]], scale[order[j]]
        if death > birth:
            found[len(order[low]) - 1].append((birth, death))
    return {k: np.array(sorted(v)).reshape(-1, 2) for k, v in found.items()}


rng = np.random.default_rng(0)
cloud = rng.normal(size=(14, 2))
ours, theirs = bars(cloud), persistence(cloud)
assert np.allclose(ours[0], theirs[0][:-1])
assert np.allclose(ours[1], theirs[1])
scales = np.linspace(0.05, 2, 40)
holes = [betti(cloud, eps)[1] for eps in scales]
assert holes == betti_curve(theirs[1], scales).tolist()

# %% [markdown]
# The library, which is a great deal faster, finds the same bars on these fourteen random points (the
# piece that never dies it lists as well, with death $\infty$), and at each scale the number of bars
# that are alive is the Betti number.
#
# Two drawings are in use, and show the same. A *barcode* draws each bar from birth to death. A
# *persistence diagram* makes each bar a point, birth to the right and death upwards: the higher above
# the diagonal, the longer the life. In both, blue is $H_0$ and vermilion is $H_1$, here and on every page.


# %% mystnb={"image": {"alt": "Top left, fifteen points near a circle joined at scale 0.8 into a ring with a hole. Top right, the persistence diagram: H0 points stacked at birth zero, one H1 point high above the diagonal. Below, the barcode: H0 bars from zero, all but one short, and one long H1 bar."}, "figure": {"caption": "A noisy circle three times: as a complex at scale 0.8, as a persistence diagram, as a barcode. The piece that never dies ends in an arrowhead, or lies on the dotted line.", "name": "fig-circle"}} tags=["hide-input"]
angles = np.linspace(0, 2 * pi, 15, endpoint=False)
ring = np.c_[np.cos(angles), np.sin(angles)] + rng.normal(scale=0.08, size=(15, 2))
fig = plt.figure(figsize=(WIDTH, 0.8 * WIDTH))
grid = fig.add_gridspec(2, 2)
left, right = fig.add_subplot(grid[0, 0]), fig.add_subplot(grid[0, 1])
below = fig.add_subplot(grid[1, :])
draw_complex(ring, 0.8, ax=left)
draw_diagram(persistence(ring), right)
right.legend(loc="lower right")
draw_barcode(persistence(ring), below)
below.legend(loc="lower right")
fig.tight_layout()

# %% [markdown]
# For points evenly spaced on a circle the long bar is known exactly. The ring closes when neighbours
# touch, at $2 \sin(\pi/n)$, and the hole is filled when the first triangle contains the centre, at
# $2 \sin(\pi \lceil n/3 \rceil / n)$:

# %%
for n in range(4, 31):
    turn = 2 * pi * np.arange(n) / n
    ((birth, death),) = persistence(np.c_[np.cos(turn), np.sin(turn)])[1]
    assert np.isclose(birth, 2 * sin(pi / n))
    assert np.isclose(death, 2 * sin(pi * -(-n // 3) / n))

# %% [markdown]
# (move-points)=
# ## Move them yourself
#
# Everything so far, in one figure: drag a point, or move it with the arrow keys; the slider is the scale
# $\epsilon$. Point at a vermilion bar, or touch it, and a loop that begins it is drawn. The bars are computed in the page each
# time a point moves, by the elimination above run from the other end (cohomology: the same bars from fewer columns).

# %% mystnb={"figure": {"caption": "Points to move, their Rips complex at scale \u03b5, their barcode and persistence diagram. In print: the complex at scale 0.35 and the barcode.", "name": "live-rips"}} tags=["hide-input"]
twelve, eight = (2 * pi * np.arange(k) / k for k in (12, 8))
spots = {
    "ring": ring,
    "figure eight": np.vstack(
        [
            np.c_[np.cos(twelve), np.sin(twelve)],
            np.c_[1.65 + 0.6 * np.cos(eight), 0.6 * np.sin(eight)],
        ]
    ),
    "two groups": np.vstack([rng.normal(scale=0.3, size=(12, 2)) + side for side in (-1, 1)]),
    "three points": three,
    "at random": rng.uniform(-1, 1, size=(30, 2)),
}
begin = {}
for name, points in spots.items():
    low, high = points.min(0), points.max(0)
    begin[name] = (0.5 + 0.8 * (points - (low + high) / 2) / (high - low).max()).round(3).tolist()
fig, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 0.45 * WIDTH))
draw_complex(np.array(begin["ring"]), 0.35, ax=left)
draw_barcode(persistence(begin["ring"]), right)
right.legend(loc="lower right")
fig.tight_layout()
plt.close(fig)
Live(
    "rips",
    {"clouds": begin, "epsilon": 0.35},
    still=fig,
    alt="Fifteen points near a circle joined into a ring at scale 0.35, and their barcode: short blue bars and one long vermilion bar.",
)

# %% [markdown]
# Three things to try. In the ring, move one point so that the long bar becomes as short as one point can make it: where
# must it be? In the figure eight, make the two vermilion bars equally long. With the points at random, let two change
# places: why does no bar change?
#
# ## $H_0$ is a spanning tree
#
# For pieces no linear algebra is needed. Go through the pairs of points from the closest to the
# furthest. If the two are in different pieces, the pieces merge and one dies at that scale; if not,
# nothing happens. That is Kruskal's algorithm:
#
# ```{prf:proposition} $H_0$ and the minimum spanning tree
# :label: prop-mst
# The finite $H_0$ deaths of $n$ distinct points are the $n - 1$ edge lengths of a minimum spanning tree.
# ```
#
# ```{prf:proof}
# A vertex has empty boundary and arrives at scale 0, so there are $n$ births, all at 0. An edge closes
# a piece exactly when it joins two different ones. Kruskal's algorithm keeps exactly those edges, in
# the same order, and returns a minimum spanning tree.
# ```


# %%
def merge_scales(points):
    """H0 deaths by union-find."""
    D = squareform(pdist(points))
    piece = list(range(len(points)))
    deaths = []
    for i, j in sorted(combinations(piece, 2), key=lambda pair: D[pair]):
        if piece[i] != piece[j]:
            deaths.append(D[i, j])
            old, new = piece[i], piece[j]
            piece = [new if p == old else p for p in piece]
    return np.array(deaths)


tree = minimum_spanning_tree(squareform(pdist(cloud))).tocoo()
assert np.allclose(merge_scales(cloud), persistence(cloud)[0][:-1, 1])
assert np.allclose(np.sort(tree.data), merge_scales(cloud))

# %% [markdown]
# The proposition has two plain consequences for what follows. The number of $H_0$ bars is the number of
# points: it cannot change while a prompt of fixed length is trained, unless two of its vectors
# coincide exactly. And the mean $H_0$ lifespan is the mean edge of a spanning tree: a length. It
# grows when the cloud grows.
#
# ## Lifespans and their entropy
#
# A bar's *lifespan* is $l_i = d_i - b_i$. With $L = \sum_i l_i$, persistence entropy asks how evenly the
# bars share $L$, equation 12:
#
# $$PE = - \sum_i \frac{l_i}{L} \log \frac{l_i}{L} \tag{12}$$
#
# The three points above have finite bars of length 3 and 4, so that by hand
# $PE = -\tfrac37 \log \tfrac37 - \tfrac47 \log \tfrac47$. The library agrees. (The bar that never dies has no
# length and is left out, here and everywhere in this book.)

# %%
by_hand = -3 / 7 * log(3 / 7) - 4 / 7 * log(4 / 7)
assert np.isclose(summarize(three).persistence_entropy[0], by_hand)
glue("pe-three", by_hand, display=False)

# %% [markdown]
# That is {glue:text}`pe-three:.3f`, a hair below $\log 2$, the most that two bars can have. With $m$ bars the
# most is $\log m$, reached when all are of equal length. So entropy mixes two things: *how many* bars
# there are, and *how equal* they are. Dividing by $\log m$ leaves the second.
#
# Equation 14 is equation 12 again, with $E$ for $PE$ and $p_i$ for $l_i / L$. What differs is the reading.
# Beside equation 12 a low entropy is called a sign of a focused, stable structure; beside equation 14
# a low entropy goes, as a rule, with less stability, and soft prompts are declared the exception. The
# number itself supports neither. It falls when ordinary bars disappear, and when the lengths become less
# equal; what that does to a language model is for experiments to say.

# %% mystnb={"image": {"alt": "Entropy against number of bars, one to eighty. A curve shows the greatest possible value, the logarithm; dots for random clouds of different sizes lie below it and grow with it."}, "figure": {"caption": "Entropy follows the number of bars. The line is its greatest value, $\\log m$; each dot is a Gaussian cloud in 64 dimensions, of 2 to 60 points.", "name": "fig-entropy-count"}} tags=["hide-input"]
clouds = [rng.normal(size=(n, 64)) for n in range(2, 61)]
lengths = [np.concatenate([lifespans(d) for d in persistence(c).values()]) for c in clouds]
fig, ax = plt.subplots(figsize=(0.85 * WIDTH, 0.5 * WIDTH))
most = np.arange(1, max(map(len, lengths)) + 1)
ax.plot(most, np.log(most), color="0.4", label=r"$\log m$")
ax.scatter(
    [len(x) for x in lengths],
    [persistence_entropy(x) for x in lengths],
    s=18,
    label="Gaussian clouds",
)
ax.set(xlabel="finite bars $m$", ylabel="persistence entropy")
ax.legend()
fig.tight_layout()

# %% [markdown]
# ## Equation 13: neighbours are not deaths
#
# TSLoss replaces $H_0$ deaths by distances that are easy to differentiate. Its $s_i$ is a soft version of
# the distance from $x_i$ to its nearest neighbour, and equation 13 says that one may stand for the
# other:
#
# $$\operatorname{Var}(\{s_i\}) \approx \operatorname{Var}(\{d_i\}) = \operatorname{Var}(\{l_i\}) \tag{13}$$
#
# {prf:ref}`prop-mst` shows what that overlooks. A point's distance to its nearest neighbour is always an
# edge of the spanning tree, but the tree has others: those that join one clump to the next. Put two
# tight pairs far apart. Every point has a neighbour at distance 0.1, so the left side is 0. The deaths
# are 0.1, 0.1 and the gap between the pairs.


# %%
def nearest(points):
    """Distance to the nearest neighbour: s_i as its temperature goes to 0."""
    D = squareform(pdist(points))
    np.fill_diagonal(D, np.inf)
    return D.min(axis=1)


pairs = np.array([[0.0, 0.0], [0.1, 0.0], [5.0, 0.0], [5.1, 0.0]])
near, deaths = nearest(pairs), lifespans(persistence(pairs)[0])
assert near.var() < 1e-12
assert deaths.var() > 5 > 2 * near.var()
glue("pairs-variance-near", float(near.var()), display=False)
glue("pairs-variance-deaths", float(deaths.var()), display=False)

# %% [markdown]
# Variance {glue:text}`pairs-variance-near:.2f` against {glue:text}`pairs-variance-deaths:.2f`: equation 13
# does not hold in general. A loss made of the left side cannot see the gap between clumps at all. Where
# there are no clumps the two sides are closer, as the next figure shows, and whether a prompt has any
# is a question about the prompt.

# %% mystnb={"image": {"alt": "Scatter of the variance of H0 deaths against the variance of nearest-neighbour distances, logarithmic axes. Gaussian clouds gather near the diagonal; clouds of two or four clumps lie far above it."}, "figure": {"caption": "Both sides of equation 13 for clouds of 40 points in 64 dimensions, as one Gaussian or as clumps. On the line it holds.", "name": "fig-equation-13"}} tags=["hide-input"]
rows = []
for clumps in (1, 2, 4):
    for _ in range(40):
        centres = rng.normal(scale=2, size=(clumps, 64)) * (clumps > 1)
        points = centres[np.arange(40) % clumps] + rng.normal(
            scale=rng.uniform(0.3, 1), size=(40, 64)
        )
        rows.append((nearest(points).var(), lifespans(persistence(points)[0]).var(), clumps))
sides = pd.DataFrame(rows, columns=["near", "deaths", "clumps"])
fig, ax = plt.subplots(figsize=(0.75 * WIDTH, 0.55 * WIDTH))
sns.scatterplot(
    sides, x="near", y="deaths", hue="clumps", style="clumps", palette="colorblind", ax=ax
)
ends = [sides.near.min(), sides.deaths.max()]
ax.plot(ends, ends, color="0.6", lw=1, zorder=0)
ax.set(
    xscale="log",
    yscale="log",
    xlabel="variance of nearest-neighbour distances",
    ylabel="variance of $H_0$ deaths",
)
fig.tight_layout()

# %% [markdown]
# ## What is stable, and what is not
#
# Move every point by at most $\eta$. No distance changes by more than $2\eta$, and so no birth or death
# of a bar does: that is the stability theorem {cite}`cohensteiner2007stability,chazal2014persistence`. Only
# bars shorter than $4\eta$ can appear or vanish. *Long bars are safe; the number of bars is not.*


# %%
def jolt(points, eta, times):
    """The cloud `times` over, each point moved by at most eta."""
    steps = rng.normal(size=(times, *points.shape))
    furthest = np.linalg.norm(steps, axis=2).max(axis=1)
    return points + steps * (eta / furthest)[:, None, None]


noise = rng.normal(size=(40, 64))
for points in (ring, noise):
    eta = 0.05 * pdist(points).mean()
    before, after = persistence(points), persistence(jolt(points, eta, 200))
    for k in (0, 1):
        moved = np.array([lifespans(d[k]).max() for d in after])
        assert np.abs(moved - lifespans(before[k]).max()).max() <= 4 * eta
counts = [len(d[1]) for d in after]
glue("loops-before", len(before[1]), display=False)
glue("loops-least", min(counts), display=False)
glue("loops-most", max(counts), display=False)

# %% [markdown]
# Two clouds were moved 200 times, each point by at most 5 % of the mean distance, and no longest bar
# changed by more than the theorem allows: the hole of the noisy circle is safe. The number of loops is
# another matter. Forty random points in 64 dimensions have {glue:text}`loops-before:d` loops, all of them
# short; moved a little they have {glue:text}`loops-least:d` to {glue:text}`loops-most:d`. So when $H_1$
# features are counted, ask how long they live.
#
# ## What $n$ and $d$ do
#
# A prompt's vectors live in hundreds of dimensions, where intuition from the plane misleads: random
# points are all about equally far apart. With coordinates from $N(0, \sigma^2)$ distances concentrate
# around $\sigma\sqrt{2d}$, with a relative spread of about $1/\sqrt{2d}$. All bars then begin and end
# in a narrow band.

# %% mystnb={"image": {"alt": "Two panels against dimension from 2 to 1024, logarithmic. Left: mean H0 lifespan over mean distance rises from below 0.2 towards 1. Right: number of H1 bars for 20, 40 and 80 points."}, "figure": {"caption": "Gaussian clouds of $n$ points, mean of 20. Left: in high dimension the mean $H_0$ lifespan approaches the mean distance. Right: the number of $H_1$ bars depends on $n$ and $d$ before any training.", "name": "fig-dimension"}} tags=["hide-input"]
rows = []
for n in (20, 40, 80):
    for d in 2 ** np.arange(1, 11):
        means = summarize(rng.normal(size=(20, n, d))).mean()
        rows.append((n, d, means.h0_mean_lifespan_scaled, means.h1_count))
sizes = pd.DataFrame(rows, columns=["n", "d", "h0", "h1"])
fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 0.45 * WIDTH))
for ax, column, label in zip(
    axes, ("h0", "h1"), ("mean $H_0$ lifespan / mean distance", "$H_1$ bars"), strict=True
):
    sns.lineplot(
        sizes,
        x="d",
        y=column,
        hue="n",
        style="n",
        markers=True,
        dashes=False,
        palette="colorblind",
        ax=ax,
    )
    ax.set(xscale="log", ylabel=label, xlabel="dimension $d$")
    ax.set_xscale("log", base=2)
fig.tight_layout()

# %% [markdown]
# This is the yardstick. A prompt that starts as Gaussian noise starts with the topology of Gaussian noise,
# and an observation about a trained prompt means something to the extent that it departs from that.
#
# (the-example)=
# ## A real prompt
#
# The run below is read from the store. It is one prompt, trained once; what several of them have in
# common is the subject of the next chapter. Chapters that look at one prompt look at this one. It is chosen
# by a rule: of the published single problems that were trained without and with TSLoss and whose prompts are kept
# from start to end, those that both runs get wrong at the start and right at the last check; first those whose answer stays right
# from its first time on, then the lowest number, then data sets in the order of {doc}`08_all_data_sets`.

# %% tags=["hide-input"]
store = Store(runs)
wanted = RunSpec(
    model=model,
    method=method,
    lambda_ts=float(method != "ce"),
    protocol=protocol,
    seed=seed,
    epochs=epochs,
)
(run,) = find_example(store, [wanted], task=task, problem=problem, data=data)
if run.published and not (task or problem):
    assert right_from(run)  # wrong at the start, right at the end
first, last = run.prompt_epochs[0], run.prompt_epochs[-1] if epoch < 0 else epoch
start, trained = (run.prompt(e).double().numpy() for e in (first, last))
n, d = trained.shape
assert np.allclose(
    bars(trained)[1], persistence(trained)[1]
)  # the dozen lines above, on a real prompt
shown = f"problem {run.spec.problem} of {TASK_NAMES[run.spec.task]}"
for key, value in (("h0-count", n), ("d", d), ("last", last), ("problem", shown)):
    glue(key, value, display=False)
glue("outcome", outcome_in_words(run), display=False)

# %% [markdown]
# The prompt has {glue:text}`h0-count:d` vectors in {glue:text}`d:d` dimensions; it was trained on
# {glue:text}`problem` for {glue:text}`last:d` epochs. Its answer {glue:text}`outcome`. The dozen lines from above,
# run on it, find the library's $H_1$ bars.

# %% mystnb={"image": {"alt": "Two scatter plots of the prompt's vectors on their two main axes, joined by the minimum spanning tree: on the left at the start, on the right after training, to the same scale."}, "figure": {"caption": "The prompt before and after training, drawn on the two main axes of the trained cloud, with its spanning tree: the edges are the $H_0$ deaths.", "name": "fig-prompt-cloud"}} tags=["hide-input"]
axes_of = np.linalg.svd(trained - trained.mean(0), full_matrices=False)
shown = axes_of[1][:2] ** 2 / (axes_of[1] ** 2).sum()
fig, panels = plt.subplots(1, 2, figsize=(WIDTH, 0.53 * WIDTH), sharex=True, sharey=True)
for ax, points, when in zip(panels, (start, trained), (first, last), strict=True):
    flat = (points - points.mean(0)) @ axes_of[2][:2].T
    joined = minimum_spanning_tree(squareform(pdist(points))).tocoo()
    for i, j in zip(joined.row, joined.col, strict=True):
        ax.plot(*flat[[i, j]].T, color=DIMENSION_COLORS[0], lw=1)
    ax.scatter(*flat.T, color=POINT_COLOR, edgecolor="0.2", s=36, zorder=3)
    ax.set(title=f"epoch {when}", aspect="equal")
fig.tight_layout()
glue("shown", float(shown.sum()), display=False)

# %% [markdown]
# Only {glue:text}`shown:.0%` of the trained cloud's variance fits on these two axes, so the picture is a
# hint and no more. The barcode sees all dimensions:

# %% mystnb={"image": {"alt": "Two barcodes side by side with a common scale: the prompt at the start and after training. H0 bars in blue start at zero, H1 bars in red are short and lie further right."}, "figure": {"caption": "Barcodes of the prompt before and after training, to one scale.", "name": "fig-prompt-barcode"}} tags=["hide-input"]
fig, panels = plt.subplots(1, 2, figsize=(WIDTH, 0.5 * WIDTH), sharex=True)
pictures = [persistence(points) for points in (start, trained)]
limit = 1.05 * max(d[k][np.isfinite(d[k])].max(initial=0) for d in pictures for k in (0, 1))
for ax, picture, when in zip(panels, pictures, (first, last), strict=True):
    draw_barcode(picture, ax, limit=limit)
    ax.set_title(f"epoch {when}")
    ax.legend(loc="lower right", frameon=True)
fig.tight_layout()

# %% [markdown]
# And the numbers, beside those of noise: 200 Gaussian clouds with the trained prompt's $n$, $d$ and
# coordinate variance. The last column says what share of them lies below the trained prompt.

# %% tags=["hide-input"]
noise = summarize(rng.normal(scale=trained.std(), size=(200, n, d)))
both = summarize(np.stack([start, trained]))
numbers = pd.DataFrame(
    {
        "start": both.iloc[0],
        "trained": both.iloc[1],
        "noise, mean": noise.mean(),
        "noise, sd": noise.std(),
        "noise below": 100 * (noise < both.iloc[1]).mean(),
    }
)
words = {"h0": "H₀", "h1": "H₁", "max": "longest"}
numbers.index = [" ".join(words.get(w, w) for w in name.split("_")) for name in numbers.index]
numbers.apply(lambda c: c.map("{:.0f} %".format if c.name == "noise below" else "{:.4g}".format))

# %% tags=["remove-cell"]
for when, row in (("start", both.iloc[0]), ("trained", both.iloc[1]), ("noise", noise.mean())):
    for name in ("h1_count", "h0_mean_lifespan", "h0_mean_lifespan_scaled", "persistence_entropy"):
        glue(f"{when}-{name.replace('_', '-')}", float(row[name]), display=False)
lost = both.persistence_entropy[0] - both.persistence_entropy[1]
fewer = np.diff(np.log(both.h0_count + both.h1_count - 1))[0]
glue("entropy-lost", float(lost), display=False)
glue("log-bars-lost", float(-fewer), display=False)

# %% [markdown]
# Read the table from the top.
#
# - The $H_0$ count is $n$ and stays $n$: that is {prf:ref}`prop-mst`, not an observation.
# - The mean $H_0$ lifespan goes from {glue:text}`start-h0-mean-lifespan:.3f` to
#   {glue:text}`trained-h0-mean-lifespan:.3f`. Divided by the mean distance it goes from
#   {glue:text}`start-h0-mean-lifespan-scaled:.3f` to {glue:text}`trained-h0-mean-lifespan-scaled:.3f`: what is
#   left of a change once the size of the cloud is taken out is a change of shape.
# - The $H_1$ count goes from {glue:text}`start-h1-count:.0f` to {glue:text}`trained-h1-count:.0f`; noise
# of this size has
#   {glue:text}`noise-h1-count:.1f`.
# - The entropy changes by {glue:text}`entropy-lost:.3f` (positive is a fall); $\log m$ alone, by the
# number of bars,
#   changes by {glue:text}`log-bars-lost:.3f`.
#
# ## Exercises
#
# ```{exercise} Four points on a line
# :label: ex-line
# Points lie at 0, 1, 3 and 7. Write down all finite bars, their mean lifespan and their entropy. Why is
# there no $H_1$?
# ```
#
# ```{solution-start} ex-line
# :class: dropdown
# ```
# The spanning tree joins neighbours: deaths 1, 2 and 4, mean $7/3$. The shares are $1/7, 2/7, 4/7$. On a
# line, whenever the two ends of a path are within $\epsilon$, so are all points between them: every
# closed path is filled as soon as it closes.

# %%
line = np.array([[0.0], [1.0], [3.0], [7.0]])
assert lifespans(persistence(line)[0]).tolist() == [1, 2, 4]
assert len(persistence(line)[1]) == 0
entropy = -sum(x / 7 * log(x / 7) for x in (1, 2, 4))
assert np.isclose(summarize(line).persistence_entropy[0], entropy)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} A hexagon
# :label: ex-hexagon
# The six corners of a regular hexagon of side 1: give the one $H_1$ bar from its geometry alone. What
# happens to it when the centre is added as a seventh point?
# ```
#
# ```{solution-start} ex-hexagon
# :class: dropdown
# ```
# The ring closes at 1. The triangles of every second corner have side $\sqrt 3$; with them all is filled. The
# centre is at distance 1 from every corner: six triangles fill the hexagon the moment it closes, and no bar
# is left.

# %%
corners = np.array([[np.cos(k * pi / 3), np.sin(k * pi / 3)] for k in range(6)])
assert np.allclose(persistence(corners)[1], [[1, sqrt(3)]])
assert len(persistence(np.vstack([corners, [0, 0]]))[1]) == 0

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Two loops
# :label: ex-two-loops
# Two regular twelve-gons, of radius 1 and $\tfrac12$, have their centres 10 apart and a corner each where the line between
# the centres leaves them. Write down all bars of $H_1$, and the longest finite bar of $H_0$. Pull the two rings of the figure
# eight in {numref}`live-rips` apart: which bar notices first?
# ```
#
# ```{solution-start} ex-two-loops
# :class: dropdown
# ```
# Each ring by itself: births $2 \sin(\pi/12)$ and half of it; deaths $2 \sin(\pi/3) = \sqrt 3$ and half of it. The corners that
# face each other are $10 - 1 - \tfrac12 = 8.5$ apart, which is the last death of a piece. When the rings move,
# that $H_0$ bar changes at once; the loops notice nothing while all edges between the rings are longer than $\sqrt 3$.

# %%
turn = 2 * pi * np.arange(12) / 12
one = np.c_[np.cos(turn), np.sin(turn)]
both = persistence(np.vstack([one, one / 2 + [10, 0]]))
half, whole = (np.array([2 * sin(pi / 12), sqrt(3)]) * r for r in (0.5, 1))
assert np.allclose(both[1][np.argsort(both[1][:, 0])], [half, whole])
assert np.isclose(both[0][np.isfinite(both[0][:, 1]), 1].max(), 8.5)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} A prompt that merely grows
# :label: ex-growth
# Multiply a prompt by 3. Which columns of the table above change, and by how much?
# ```
#
# ```{solution-start} ex-growth
# :class: dropdown
# ```
# All distances grow threefold, hence births, deaths, lifespans and the mean distance. Counts and both
# entropies stay, and so do lifespans divided by the mean distance.

# %%
plain, grown = summarize(trained).iloc[0], summarize(3 * trained).iloc[0]
lengths = [c for c in plain.index if "lifespan" in c and "scaled" not in c]
times_three = [*lengths, "mean_distance"]
assert np.allclose(grown[times_three], 3 * plain[times_three])
assert np.allclose(grown.drop(times_three), plain.drop(times_three))

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} The flattest barcode
# :label: ex-simplex
# All $n$ points are equally far apart. What are the bars, and what is the entropy? Can any other cloud of $n$ points have
# more?
# ```
#
# ```{solution-start} ex-simplex
# :class: dropdown
# ```
# All simplices arrive at once: $n - 1$ pieces die together and no loop lives for any time. The entropy is
# $\log(n - 1)$, the most that $n - 1$ bars can have. A cloud with loops has more bars, and $k$ bars can have up to $\log k$: the
# square has three pieces that die at 1 and a loop of length $\sqrt 2 - 1$, and more entropy than $\log 3$. The prompt above starts
# with {glue:text}`start-persistence-entropy:.3f`, where $\log(n - 1)$ = {glue:text}`simplex-entropy:.3f`: its loops are bars too.

# %%
simplex = np.eye(12)
assert len(persistence(simplex)[1]) == 0
assert np.isclose(summarize(simplex).persistence_entropy[0], log(11))
assert log(3) < summarize(square).persistence_entropy[0] < log(4)
for points in (start, trained, cloud, square):
    k = sum(len(lifespans(found)) for found in persistence(points).values())
    assert summarize(points).persistence_entropy[0] <= log(k)
glue("simplex-entropy", log(n - 1), display=False)

# %% [markdown]
# ```{solution-end}
# ```
#
# ## What was claimed, what was found
#
# Nothing here is a test. A statement about every cloud is true by definition if it is proved, and refuted by one cloud that
# contradicts it; for equation 13 that is a cloud whose two sides differ by more than a factor of two. What no computation of
# this chapter can decide has no verdict.
#
# | claimed | found | verdict |
# |---|---|---|
# | The number of $H_0$ features stays the same during training (section 2.3) | it is the number of distinct vectors, {glue:text}`h0-count:d` ({prf:ref}`prop-mst`) | true by definition |
# | The variance of soft nearest-neighbour distances stands for that of $H_0$ lifespans (equation 13), for every cloud | two tight pairs: {glue:text}`pairs-variance-near:.2f` against {glue:text}`pairs-variance-deaths:.2f` | not reproduced for every cloud; for trained prompts see {doc}`11_what_it_stands_for` |
# | Low persistence entropy marks stable structure (equation 12), and the reverse (equation 14) | one formula, bounded by the logarithm of the number of bars; bars that are short hardly count in it | – |
#
# What training does to these numbers, over many prompts, is the subject of the next chapter.
