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
# # Persistent homology
#
# How can the shape of a soft prompt be measured? A prompt is $n$ vectors in $d$ dimensions. If we forget their order, and what the language
# model does with them, $n$ points in space remain: they may lie in one clump, in several, or around a hole. Persistent homology counts
# clumps and holes at every scale. This chapter starts from three points on paper and checks each step against the library.
#
# It covers equations 9 to 12 and 14 of the paper {cite}`anonymous-topology`, numbered as
# there. {cite:t}`chazal2021introduction` give a longer introduction.
#
# ```{admonition} After this chapter you can
# :class: tip
# compute by hand the bars of a few points, and say why $n$ points have $n - 1$ finite $H_0$ bars.
# ```

# %% tags=["hide-input"]
from itertools import combinations
from math import log, pi, sin, sqrt

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from myst_nb import glue
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import pdist, squareform

from tsp.figures.interactive import Live
from tsp.figures.style import WIDTH, draw_barcode, draw_complex, draw_diagram, style
from tsp.topology.diagrams import betti_curve, lifespans, persistence, summarize

style()

# %% [markdown]
# (three-points)=
# ## Three points
#
# Take $A = (0, 0)$, $B = (3, 0)$ and $C = (0, 4)$. Their distances are 3, 4 and 5. Choose a scale $\epsilon$ and join two points when they
# are at most $\epsilon$ apart. Fill in a triangle when all three of its sides are present, and proceed in the same way in higher
# dimensions. The result is the *Vietoris–Rips complex* at scale $\epsilon$, equation 9:
#
# $$\begin{aligned}\mathrm{VR}_\epsilon(X) = \{\sigma \subset X :{}& \lVert x_i - x_j\rVert \le \epsilon\cr
# &\text{for all } x_i, x_j \in \sigma\}\end{aligned} \tag{9}$$
#
# Equivalently, draw a disc of radius $\epsilon/2$ around each point: two points are joined when their
# discs touch.


# %% mystnb={"image": {"alt": "Four drawings of the same three points. At scale 2 no two are joined; at 3 A and B are; at 4 also A and C; at 5 all three are joined and the triangle is filled."}, "figure": {"caption": "The Rips complex of three points at four scales. It changes only at the distances 3, 4 and 5.", "name": "fig-three-points"}} tags=["hide-input"]
three = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
fig, axes = plt.subplots(2, 2, figsize=(0.8 * WIDTH, 0.72 * WIDTH), sharex=True, sharey=True)
for ax, scale in zip(axes.flat, (2, 3, 4, 5), strict=True):
    draw_complex(three, scale, ax=ax)
    ax.set(title=f"scale {scale}", xlim=(-2.6, 5.6), ylim=(-2.6, 6.6))
    for name, at in zip("ABC", three, strict=True):
        ax.annotate(name, at, xytext=(-15, 5), textcoords="offset points")
fig.tight_layout()

# %% [markdown]
# As $\epsilon$ grows, each complex contains the one before; such a sequence is called a *filtration*. Follow the connected pieces through
# it. At scale 0 there are three. At 3 the pieces of $A$ and $B$ merge, and one of the two *dies*. At 4 the piece of $C$ dies. The last
# piece lives forever. The library returns the same pairs of birth and death:

# %%
persistence(three)[0]

# %% [markdown]
# There is no loop at any scale: the third side of the triangle arrives at scale 5, and the triangle is
# filled at the same moment. Three points never enclose a hole; that takes four.
#
# ## Pieces and holes by linear algebra
#
# Let the vertices, edges and triangles of a complex be the bases of three vector spaces over the field with two elements. The *boundary*
# $\partial_k$ sends a simplex of dimension $k$ to the sum of its faces: a triangle to its three edges, an edge to its two ends, a vertex to
# zero. A sum of edges without boundary is a *cycle*: one closed path or several. A cycle that is the boundary of triangles is filled in, and
# a hole is a cycle that is not:
#
# $$H_0 = \frac{\ker \partial_0}{\operatorname{im} \partial_1} \tag{10}$$
#
# $$H_1 = \frac{\ker \partial_1}{\operatorname{im} \partial_2} \tag{11}$$
#
# These are vector spaces. (Later chapters call pieces *components* and these holes *loops*.) The numbers that the paper calls $H_0$ and
# $H_1$ are their dimensions, the *Betti numbers*
#
# $$\begin{aligned}\beta_0 &= n - \operatorname{rank} \partial_1\\
# \beta_1 &= (\text{edges} - \operatorname{rank} \partial_1) - \operatorname{rank} \partial_2\end{aligned}$$
#
# Only the ranks of matrices of zeros and ones are needed, and elimination computes them. In the code below, a column
# is the set of rows in which it has a one, and the sum of two columns is their symmetric difference:


# %%
def reduce(columns):
    """Eliminate over Z/2, left to right; map the lowest row of each nonzero column to the column."""
    kept, where = {}, {}
    for j, column in enumerate(columns):
        while column and max(column) in kept:
            column = column ^ kept[max(column)]
        if column:
            kept[max(column)], where[max(column)] = column, j
    return where


def boundary(simplex):
    """Return the faces of a simplex, each a tuple of points."""
    return set(combinations(simplex, len(simplex) - 1))


def betti(points, eps):
    """Return Betti numbers 0 and 1 at one scale, by equations 9 to 11."""
    near = squareform(pdist(points)) <= eps
    sides = [s for s in combinations(range(len(points)), 2) if near[s]]
    faces = [f for f in combinations(range(len(points)), 3) if near[np.ix_(f, f)].all()]
    rank1 = len(reduce(map(boundary, sides)))
    rank2 = len(reduce(map(boundary, faces)))
    return len(points) - rank1, len(sides) - rank1 - rank2


# %% [markdown]
# The simplest cloud with a hole is a square. At scale 1 its sides arrive and enclose a hole; at
# $\sqrt 2$ the diagonals arrive and the hole is filled.

# %%
square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
scales = (0.9, 1.0, 1.4, 1.5)
numbers = {f"ε = {eps}": betti(square, eps) for eps in scales}
pd.DataFrame(numbers, index=["pieces", "holes"])

# %% [markdown]
# ## From numbers to bars
#
# Betti numbers do not say whether a hole at one scale is the same hole at the next. Persistent homology does, and a single elimination
# suffices {cite}`edelsbrunner2002topological,zomorodian2004computing`. Sort all simplices by the scale at which they arrive and, at equal
# scales, by dimension. Each simplex either opens a piece, a hole or a cavity, or closes one. If the elimination leaves column $j$ with
# lowest row $i$, simplex $j$ closes what simplex $i$ opened. The scale of $i$ is the birth of a bar, the scale of $j$ its death.


# %%
def bars(points):
    """Return all bars of positive length in dimensions 0 and 1."""
    D, n = squareform(pdist(points)), len(points)
    simplices = [s for k in (1, 2, 3) for s in combinations(range(n), k)]
    scale = {s: D[np.ix_(s, s)].max() for s in simplices}
    order = sorted(simplices, key=lambda s: (scale[s], len(s)))
    number = {s: i for i, s in enumerate(order)}
    columns = [{number[f] for f in boundary(s) if f} for s in order]
    pairs = {0: [], 1: []}
    for low, j in reduce(columns).items():
        birth, death = scale[order[low]], scale[order[j]]
        if death > birth:
            pairs[len(order[low]) - 1].append((birth, death))
    return {k: np.array(sorted(v)).reshape(-1, 2) for k, v in pairs.items()}


def circle(n):
    """Return n points evenly spaced on the unit circle."""
    turn = 2 * pi * np.arange(n) / n
    return np.c_[np.cos(turn), np.sin(turn)]


rng = np.random.default_rng(0)
cloud = rng.normal(size=(14, 2))
ours, theirs = bars(cloud), persistence(cloud)
assert np.allclose(ours[0], theirs[0][:-1])
assert np.allclose(ours[1], theirs[1])
noise = np.random.default_rng(1).normal(size=(40, 576))  # as large as a prompt
assert np.allclose(bars(noise)[1], persistence(noise)[1])
scales = np.linspace(0.05, 2, 40)
holes = [betti(cloud, eps)[1] for eps in scales]
assert holes == betti_curve(theirs[1], scales).tolist()

# %% [markdown]
# The library, which is much faster, finds the same bars, both for fourteen points and for a cloud as large as a prompt. (It also lists the
# piece that never dies, with death $\infty$.) At each scale, the number of bars alive is the Betti number.
#
# A *barcode* draws each bar from birth to death. A *persistence diagram* shows each as a point, birth to the right and death upwards: the
# higher above the diagonal, the longer the bar. Throughout the book, $H_0$ is blue and $H_1$ vermilion where bars are drawn.


# %% mystnb={"image": {"alt": "Top left, fifteen points near a circle joined at scale 0.8 into a ring with a hole. Top right, the persistence diagram: H0 points stacked at birth zero, one H1 point high above the diagonal. Below, the barcode: H0 bars from zero, all but one short, and one long H1 bar."}, "figure": {"caption": "A noisy circle as a complex at scale 0.8, as a persistence diagram, and as a barcode. One long $H_1$ bar is its hole. The piece that never dies is the bar with an arrowhead and the point on the dotted line.", "name": "fig-circle"}} tags=["hide-input"]
ring = circle(15) + rng.normal(scale=0.08, size=(15, 2))
fig = plt.figure(figsize=(WIDTH, 0.8 * WIDTH))
grid = fig.add_gridspec(2, 2)
left, right = fig.add_subplot(grid[0, 0]), fig.add_subplot(grid[0, 1])
below = fig.add_subplot(grid[1, :])
draw_complex(ring, 0.8, ax=left)
draw_diagram(persistence(ring), right)
right.set_ylim(top=1.08 * right.get_ylim()[1])  # room above the dotted line
right.legend(loc="lower right")
draw_barcode(persistence(ring), below)
below.legend(loc="lower right")
fig.tight_layout()

# %% [markdown]
# For points evenly spaced on a circle, the long bar is known exactly. The ring closes when neighbours are joined, at $2 \sin(\pi/n)$, and
# the hole is filled when the first triangle contains the centre, at $2 \sin(\pi \lceil n/3 \rceil / n)$:

# %%
for n in range(4, 31):
    ((birth, death),) = persistence(circle(n))[1]
    assert np.isclose(birth, 2 * sin(pi / n))
    assert np.isclose(death, 2 * sin(pi * -(-n // 3) / n))

# %% [markdown]
# (move-points)=
# ## Points to move
#
# This figure combines everything so far. Drag a point, or move it with the arrow keys; the slider sets the scale $\epsilon$. Point at a
# vermilion bar, or touch it, to see a loop that is born with it. Whenever a point moves, the page recomputes the bars by cohomology, the
# elimination above run from the other end, which yields the same bars from fewer columns.

# %% mystnb={"figure": {"caption": "Points to move, their Rips complex at scale \u03b5, their barcode and persistence diagram. In print: the complex at scale 0.35 and the barcode.", "name": "live-rips"}} tags=["hide-input"]
spots = {
    "ring": ring,
    "figure eight": np.vstack([circle(12), [1.65, 0] + 0.6 * circle(8)]),
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
# Try three things. In the ring, shorten the long bar as much as you can by moving a single point: where must that point go? In the figure
# eight, make the two vermilion bars equally long. In the random cloud, let two points swap places: why does no bar change?
#
# ## $H_0$ as a spanning tree
#
# The bars of $H_0$ need no linear algebra. Go through the pairs of points from the closest to the furthest. If two points are in different
# pieces, the pieces merge and one dies at that scale; otherwise nothing happens. This is Kruskal's algorithm:
#
# ```{prf:proposition} $H_0$ and the minimum spanning tree
# :label: prop-mst
# The finite $H_0$ deaths of $n$ distinct points are the $n - 1$ edge lengths of a minimum spanning tree.
# ```
#
# ```{prf:proof}
# A vertex has empty boundary and arrives at scale 0, so there are $n$ births, all at 0. An edge closes a piece exactly when it joins two
# different ones. Kruskal's algorithm keeps these edges, in this order, and returns a minimum spanning tree.
# ```


# %%
def merge_scales(points):
    """Return the H0 deaths by union-find."""
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
# Two consequences matter later. First, the number of $H_0$ bars is the number of points, so it cannot change
# while a prompt with a fixed number of vectors is trained, unless two of them coincide exactly. Second, the mean finite
# $H_0$ lifespan is the mean edge length of a minimum spanning tree, so it grows when the cloud grows.
#
# ## Lifespans and their entropy
#
# A bar's *lifespan* is $l_i = d_i - b_i$. With $L = \sum_i l_i$, persistence entropy measures how evenly the bars share $L$, equation 12:
#
# $$PE = - \sum_i \frac{l_i}{L} \log \frac{l_i}{L} \tag{12}$$
#
# The three points above have finite bars of length 3 and 4. (The bar that never dies has no finite length and
# is left out throughout this book.)

# %%
by_hand = -3 / 7 * log(3 / 7) - 4 / 7 * log(4 / 7)
assert np.isclose(summarize(three).persistence_entropy[0], by_hand)
glue("pe-three", by_hand, display=False)

# %% [markdown]
# Their entropy is {glue:text}`pe-three:.3f`, slightly below $\log 2$, the maximum for two bars. For $m$ bars the
# maximum is $\log m$, reached when all are equally long. Entropy thus mixes two things: *how many* bars there
# are, and *how equal* they are. Dividing by $\log m$ leaves the second; the quotient is the *normalised entropy*.
#
# Equation 14 repeats equation 12, with $E$ for $PE$ and $p_i$ for $l_i / L$, but the paper interprets the two differently. Low entropy in
# equation 12 is said to be a sign of a focused, stable structure, and in equation 14 usually a sign of less stability, with soft prompts as an
# exception. The formula supports neither reading: entropy falls when lengths become less equal, and usually when bars disappear.

# %% mystnb={"image": {"alt": "Entropy against number of bars, one to about a hundred. A curve shows the greatest possible value, the logarithm; dots for random clouds of different sizes lie below it and grow with it."}, "figure": {"caption": "Entropy follows the number of bars. The line is its maximum, $\\log m$; each dot is a Gaussian cloud of 2 to 60 points in 64 dimensions.", "name": "fig-entropy-count"}} tags=["hide-input"]
clouds = [rng.normal(size=(n, 64)) for n in range(2, 61)]
summaries = pd.concat(map(summarize, clouds))
m = summaries.h0_count + summaries.h1_count - 1  # without the piece that never dies
fig, ax = plt.subplots(figsize=(0.85 * WIDTH, 0.5 * WIDTH))
most = np.arange(1, m.max() + 1)
ax.plot(most, np.log(most), color="0.4", label=r"$\log m$")
ax.scatter(m, summaries.persistence_entropy, s=18, label="Gaussian clouds")
ax.set(xlabel="finite bars $m$", ylabel="persistence entropy")
ax.legend()
fig.tight_layout()


# %% [markdown]
# ## Exercises
#
# ```{exercise} Four points on a line
# :label: ex-line
# Points lie at 0, 1, 3 and 7. Write down all finite bars, their mean lifespan and their entropy. Why is there no $H_1$?
# ```
#
# ```{solution-start} ex-line
# :class: dropdown
# ```
# The spanning tree joins neighbours: the deaths are 1, 2 and 4, with mean $7/3$. The shares are $1/7, 2/7, 4/7$, and
# the entropy follows from equation 12. On a line, if two points are within $\epsilon$ of each other, so are all
# points between them: every closed path is filled as soon as it closes.

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
# Take the six corners of a regular hexagon of side 1. Find its one $H_1$ bar by geometry alone. What
# happens to the bar when the centre is added as a seventh point?
# ```
#
# ```{solution-start} ex-hexagon
# :class: dropdown
# ```
# The ring closes at 1. Alternate corners form a triangle of side $\sqrt 3$, which fills the hole. The centre is at distance 1 from every
# corner, so six triangles fill the hexagon the moment it closes, and no bar is left.

# %%
corners = circle(6)
assert np.allclose(persistence(corners)[1], [[1, sqrt(3)]])
assert len(persistence(np.vstack([corners, [0, 0]]))[1]) == 0

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} Two loops
# :label: ex-two-loops
# Two regular twelve-gons have radii 1 and $\tfrac12$. Their centres are 10 apart, and the line between the centres
# passes through a corner of each. Write down all bars of $H_1$ and the longest finite bar of
# $H_0$. Then pull the two rings of the figure eight in {numref}`live-rips` apart: which bar changes first?
# ```
#
# ```{solution-start} ex-two-loops
# :class: dropdown
# ```
# Each ring has one bar. The larger is born at $2 \sin(\pi/12)$ and dies at $2 \sin(\pi/3) = \sqrt 3$; the smaller
# at half of each. The two corners that face each other are $10 - 1 - \tfrac12 = 8.5$ apart, which is the last
# finite death in $H_0$. In the figure eight the rings nearly touch, so the bar of the gap between them is the shortest of $H_0$, and it
# changes first. The long bars of the two rings stay as they are, but at some distances short loops appear between the rings.

# %%
both = persistence(np.vstack([circle(12), circle(12) / 2 + [10, 0]]))
half, whole = (np.array([2 * sin(pi / 12), sqrt(3)]) * r for r in (0.5, 1))
assert np.allclose(both[1][np.argsort(both[1][:, 0])], [half, whole])
assert np.isclose(both[0][np.isfinite(both[0][:, 1]), 1].max(), 8.5)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise} The flattest barcode
# :label: ex-simplex
# All $n$ points are equally far apart. What are the bars, and what is the entropy? Can another cloud of $n$ points have a higher entropy?
# ```
#
# ```{solution-start} ex-simplex
# :class: dropdown
# ```
# All edges and triangles arrive at once: $n - 1$ pieces die together, and no loop lives for any time. The entropy is
# $\log(n - 1)$, the maximum for $n - 1$ bars. A cloud with loops has more bars, so it can have more entropy: the square
# has three pieces that die at 1 and a loop of lifespan $\sqrt 2 - 1$, and its entropy is larger than $\log 3$.

# %%
simplex = np.eye(12)
assert len(persistence(simplex)[1]) == 0
assert np.isclose(summarize(simplex).persistence_entropy[0], log(11))
assert log(3) < summarize(square).persistence_entropy[0] < log(4)

# %% [markdown]
# ```{solution-end}
# ```
#
# {doc}`02_homology_of_a_prompt` asks what noise, size and dimension do to these bars, and then looks at the bars of a trained prompt.
