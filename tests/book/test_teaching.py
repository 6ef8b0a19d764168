"""The course: numbers worked by hand, the clock, and slides that show what exists."""

import re
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import binomtest, spearmanr

from tests.topology.test_diagrams import rank_mod_2
from tsp.paths import ROOT

BOOK = ROOT / "book"
BACKGROUND = (BOOK / "background.md").read_text("utf-8")
COURSE = (BOOK / "course.md").read_text("utf-8")
SLIDES = (BOOK / "slides.md").read_text("utf-8")
SIDES = {"a": (1, 2), "b": (2, 3), "c": (3, 4), "d": (4, 1), "e": (1, 3)}
TRIANGLES = {"T": "abe", "U": "cde"}


def holes(edges, triangles):
    """Edges, both ranks, and the number of holes of a part of the square."""
    first = [[corner in SIDES[edge] for corner in (1, 2, 3, 4)] for edge in edges]
    second = [[edge in TRIANGLES[name] for edge in "abcde"] for name in triangles]
    one, two = rank_mod_2(first), rank_mod_2(second)
    return f"{len(edges)} - {one} - {two} = {len(edges) - one - two}"


@pytest.mark.parametrize("part", [("abcd", ""), ("abcde", ""), ("abcde", "T"), ("abcde", "TU")])
def test_holes_of_the_square_are_counted_right(part):
    assert holes(*part) in BACKGROUND
    assert holes(*part) in SLIDES


def test_the_course_names_what_each_chapter_teaches():
    rows = re.findall(r"{doc}`_executed/(\w+)`\n  - … (.+)\n", COURSE)
    taught = {}
    for notebook in (ROOT / "notebooks").glob("*.py"):
        text = re.sub(r"\n# ?", " ", notebook.read_text("utf-8"))
        if goal := re.search(r"you can :class: tip (.+?)\. ```", text):
            taught[notebook.stem] = goal[1]
    assert dict(rows) == taught


def test_p_values_of_tosses_are_right():
    p = {split: binomtest(split[0], sum(split)).pvalue for split in ((26, 17), (29, 14), (28, 15))}
    assert f"{p[26, 17]:.2f}" == "0.22"
    assert f"p = {p[26, 17]:.2f}" in SLIDES
    assert f"26 problems and slower on 17, with $p = {p[26, 17]:.2f}$" in COURSE
    assert f"= {p[26, 17]:.2f}." in BACKGROUND
    assert f"$p = {p[29, 14]:.2f}$" in BACKGROUND
    assert p[29, 14] < 0.05 < p[28, 15]
    for heads, tosses, text in (
        (6, 6, "2/64 = 0.03"),
        (5, 6, "14/64 = 0.22"),
        (4, 6, "44/64 = 0.69"),
        (5, 5, "2/32 = 0.06"),
    ):
        assert text in BACKGROUND
        share, rounded = text.split(" = ")
        above, below = map(int, share.split("/"))
        assert binomtest(heads, tosses).pvalue == pytest.approx(above / below)
        assert f"{above / below:.2f}" == rounded


def test_the_rank_correlation_and_the_median_are_right():
    first, second = re.findall(r"\| rank of \w+ \|([\d |]+)\|", BACKGROUND)
    ranks = [[int(x) for x in row.split("|")] for row in (first, second)]
    assert f"= {spearmanr(*ranks).statistic:.1f}." in BACKGROUND
    for method in re.findall(r"\| method [AB] \|(.+)\|", BACKGROUND):
        assert np.median([int(x.strip(" >")) for x in method.split("|")]) == 8


def test_the_parts_of_the_course_fill_two_hours_with_a_break():
    table = COURSE.partition("## ")[0]
    spans = [tuple(map(int, span)) for span in re.findall(r"^\* - (\d+)–(\d+)$", table, re.M)]
    assert spans[0][0] == 0
    assert all(one[1] == two[0] for one, two in pairwise(spans))
    assert spans[-1][1] == 120
    assert re.search(r"56–66\n  - Break", table)
    rows = re.findall(
        r"^\| [^|]+((?:\| [\d.]+ )+)\|$", (BOOK / "teaching.md").read_text("utf-8"), re.M
    )
    times = [[float(x) for x in row.strip("| ").split("|")] for row in rows]
    assert all(sum(row[:3]) == pytest.approx(row[3]) for row in times)
    assert all(1.1 * row[3] <= row[4] for row in times)
    taught = [end - start for start, end in spans if (start, end) != (56, 66)]
    assert [row[4] for row in times] == taught


def test_all_that_a_slide_shows_is_in_the_book():
    sources = [*(ROOT / "notebooks").glob("*.py"), *BOOK.glob("*.md")]
    text = "\n".join(source.read_text("utf-8") for source in sources)
    known = r'"name": "([\w-]+)"|:(?:label|name): ([\w-]+)|^\(([\w-]+)\)=$'
    labels = {name for names in re.findall(known, text, re.M) for name in names}
    shown = re.findall(r"^!\[\]\((.+)\)$", SLIDES, re.M)
    assert "fig-finding" in shown
    assert set(shown) - labels == set()
    assert 20 <= len(re.findall(r"^#+ ", SLIDES, re.M)) <= 35
