"""The shipped problems: in the hub's schema, and right as far as can be computed."""

import ast
import importlib
import itertools
import re
from collections import Counter
from datetime import date, timedelta
from fractions import Fraction
from math import atan2, cos, degrees, isclose, pi, sin, sqrt

import pytest

from tests.shipped import every, shipped
from tsp.paths import data_dir
from tsp.problems.catalogue import CATALOGUE, LONGBENCH
from tsp.problems.loading import TASKS, is_correct, score

HUB_FIELDS = {
    "gsm8k": "question answer",
    "mmlu_cf": "Question A B C D Answer",
    "longbench": "input context answers length dataset language all_classes _id",
    "math": "problem level type solution",
    "bbh": "input target task",
    "hotpotqa": "id question answer type level supporting_facts context",
}


@pytest.mark.parametrize("task", TASKS)
def test_shipped_problems_differ_and_have_the_hub_schema(task):
    rows, problems = shipped(task), every(task)
    assert len(rows) >= 12
    assert {" ".join(row) for row in rows} == {HUB_FIELDS[task]}
    assert set(CATALOGUE[task].fields) <= set(rows[0])
    assert [p.row for p in problems] == list(range(len(rows)))
    assert len({p.sha256 for p in problems}) == len({p.question for p in problems}) == len(rows)


@pytest.mark.parametrize("task", TASKS)
def test_a_reference_solves_its_problem_and_no_other_answer_does(task):
    problems = every(task)
    for problem in problems:
        assert score(problem, problem.target) == 1.0
        assert is_correct(problem, problem.target)
        others = [p.target for p in problems if not set(p.answers) & set(problem.answers)]
        assert not [text for text in others if is_correct(problem, text)], problem.question
        assert not is_correct(problem, "")


def test_word_problems_add_up():
    for row in shipped("gsm8k"):
        rationale, final = row["answer"].split("\n#### ")
        notes = re.findall(r"<<([^=<>]+)=([^=<>]+)>>([0-9.]*)", rationale)
        assert notes
        for expression, result, shown in notes:
            assert value(expression) == Fraction(result), expression
            assert Fraction(shown) == Fraction(result)
        assert rationale.count("<<") == rationale.count(">>") == len(notes)
        assert final == notes[-1][1]


def value(expression):
    """Return the exact value of an arithmetic expression."""
    tree = ast.parse(expression.strip(), mode="eval")
    for node in ast.walk(tree):
        allowed = (ast.Expression, ast.BinOp, ast.UnaryOp, ast.Constant, ast.operator, ast.unaryop)
        assert isinstance(node, allowed)
    exact = re.sub(r"[0-9.]+", r"Fraction('\g<0>')", expression.strip())
    return Fraction(eval(exact, {"Fraction": Fraction}))


def test_choices_are_balanced_and_different():
    rows = shipped("mmlu_cf")
    letters = Counter(row["Answer"] for row in rows)
    assert len(letters) == 4
    assert max(letters.values()) - min(letters.values()) <= 1
    assert all(len({row[letter].strip() for letter in "ABCD"}) == 4 for row in rows)


MATH_RESULTS = {  # each computed in another way than the solution does
    "5x - 7": str(next(x for x in range(-50, 50) if 5 * x - 7 == 3 * x + 9)),
    "average of five": str(5 * 12 - 4 * 10),
    "diagonal of length": str(next(5 * b for b in range(1, 20) if 5**2 + b**2 == 13**2)),
    "different digits": str(
        sum(len(set(str(n))) == 3 and set(str(n)) <= set("13579") for n in range(100, 1000))
    ),
    "7^{100}": str(7**100 % 5),
    "divisible by $x - 2$": str(next(k for k in range(99) if 2**3 - 6 * 2**2 + 2 * k - 6 == 0)),
    "sum of their squares": str(
        next(a * (14 - a) for a in range(15) if a**2 + (14 - a) ** 2 == 100)
    ),
    "larger of the two": str(
        Fraction(sum(max(r) == 4 for r in itertools.product(range(1, 7), repeat=2)), 36)
    ),
    "smallest value of": str(min(Fraction(x, 8) + 4 / (Fraction(x, 8) - 1) for x in range(9, 99))),
    "|2x - 3|": str([x for x in range(-9, 9) if abs(2 * x - 3) <= 5][::5]),
    "divisors does $540$": str(sum(540 % d == 0 for d in range(1, 541))),
    "of $60$": str(Fraction(3, 4) * Fraction(2, 5) * 60),
    "interior angle": str(next(n for n in range(3, 99) if 180 * (n - 2) == 150 * n)),
    "inscribed in a right": f"{(8 * 15 // (8 + 15 + 17)) ** 2}\\pi",  # area over half perimeter
}


@pytest.mark.parametrize(("words", "result"), MATH_RESULTS.items())
def test_math_results(words, result):
    (problem,) = (p for p in every("math") if words in p.question)
    assert score(problem, f"$\\boxed{{{result}}}$") == 1.0


def test_math_results_that_are_angles():
    assert isclose(sin(75 * pi / 180), (sqrt(6) + sqrt(2)) / 4)
    assert isclose(degrees(atan2(1, 3) - atan2(-1, 2)), 45)
    assert isclose(cos(pi / 4), 5 / sqrt(50))
    assert {r"\frac{\sqrt{6} + \sqrt{2}}{4}", r"45^\circ"} <= {p.answers[0] for p in every("math")}


def bbh(kind):
    """Return the question and reference of each shipped problem of a kind."""
    rows = [row for row in shipped("bbh") if row["task"].startswith(kind)]
    assert rows
    return [(row["input"], row["target"]) for row in rows]


def test_bbh_expressions_and_words():
    for text, target in bbh("boolean_expressions"):
        assert str(eval(text.removesuffix(" is"), {"__builtins__": {}})) == target  # True, and, or
    for text, target in bbh("multistep_arithmetic_two"):
        assert str(value(text.removesuffix(" ="))) == target
    for text, target in bbh("word_sorting"):
        assert sorted(text.split("List: ")[1].split()) == target.split()


def test_bbh_liars_and_truth_tellers():
    for text, target in bbh("web_of_lies"):
        honest = {}
        for who, what in re.findall(r"(\w+) (lies|tells the truth)\.", text.split(". ")[0] + "."):
            honest[who] = what != "lies"
        for who, about, what in re.findall(r"(\w+) says (\w+) (lies|tells the truth)", text):
            honest[who] = honest[about] == (what != "lies")
        name = re.findall(r"Does (\w+) tell", text)[0]
        assert ("Yes" if honest[name] else "No") == target


def test_bbh_swaps():
    for text, target in bbh("tracking_shuffled_objects"):
        has = dict(re.findall(r"(\w+) (?:has|is at) the (\w+ \w+)", text.split("\n")[0]))
        for one, other in re.findall(r"(\w+) and (\w+) (?:swap|trade)", text.split("\n")[1]):
            has[one], has[other] = has[other], has[one]
        name = re.findall(r"(\w+) (?:has|is at) the\n", text)[0]
        assert f"{target} {has[name]}" in text


def test_bbh_dates_steps_brackets_and_objects():
    (text, target), *_ = bbh("date_understanding")
    assert date(2021, 3, 5).strftime("%A") == "Friday"
    assert f"{target} {date(2021, 3, 5) - timedelta(days=10):%m/%d/%Y}" in text
    first, second = bbh("navigate")
    assert (3 - 5 + 2 == 0, first[1]) == (True, "Yes")
    assert ((-4 + 4, 6 - 5) == (0, 0), second[1]) == (False, "No")
    (text, target), *_ = bbh("dyck_languages")
    still_open = []
    for bracket in text.split("Input: ")[1].split():
        if bracket in "[{(<":
            still_open.append("]})>"["[{(<".index(bracket)])
        else:
            assert still_open.pop() == bracket
    assert " ".join(reversed(still_open)) == target
    (text, target), *_ = bbh("object_counting")
    counts = {"three peaches": 3, "two plums": 2, "a banana": 1}
    assert all(fruit in text for fruit in counts)
    assert str(sum(counts.values())) == target


def test_bbh_orders():
    (text, target), *_ = bbh("logical_deduction_three_objects")
    orders = itertools.permutations(["ferry", "sloop", "tug"])
    (order,) = (o for o in orders if o.index("tug") > o.index("sloop") > o.index("ferry"))
    assert f"{target} The {order[1]} is the second from the left." in text
    assert len({row["task"] for row in shipped("bbh")}) >= 6


def test_hotpotqa_facts_lead_to_the_answer():
    for row in shipped("hotpotqa"):
        paragraphs = dict(zip(row["context"]["title"], row["context"]["sentences"], strict=True))
        assert len(paragraphs) == 10
        facts = list(zip(*row["supporting_facts"].values(), strict=True))
        assert len({title for title, _ in facts}) >= 2  # two hops
        text = " ".join(f"{title}: {paragraphs[title][number]}" for title, number in facts)
        assert row["answer"] in text or row["answer"] in ("yes", "no")
        assert row["type"] in ("bridge", "comparison")


def test_longbench_is_what_its_script_writes(monkeypatch):
    monkeypatch.syspath_prepend(data_dir("problems"))
    text = importlib.import_module("make_longbench").text()
    assert (data_dir("problems") / "longbench.jsonl").read_text("utf-8") == text


def test_longbench_contexts_are_long_and_hold_the_answer():
    rows = shipped("longbench")
    sizes = [len(row["context"]) / 4.2 for row in rows]  # about as many tokens
    assert 1000 < min(sizes) < 1500 < 4500 < max(sizes) < 6000
    assert len({LONGBENCH[row["dataset"]][0] for row in rows}) >= 5
    for row in rows:
        words = f"{row['input']} {row['context']} {row['answers'][0]}".split()
        assert row["length"] == len(words)
        if LONGBENCH[row["dataset"]][0] == "qa_f1":
            assert row["answers"][0] in row["context"].replace("26 transects", "26")


def longbench(dataset):
    return next(row for row in shipped("longbench") if row["dataset"] == dataset)


def test_longbench_answers_that_can_be_computed():
    counted = longbench("passage_count")
    texts = [re.sub(r"^Paragraph \d+: ", "", p) for p in counted["context"].split("\n\n")]
    assert counted["answers"] == [str(len(set(texts)))] != [str(len(texts))]
    named = longbench("passage_retrieval_en")
    (place,) = (p for p in named["context"].split("\n\n") if "kites made of waxed linen" in p)
    assert place.startswith(f"{named['answers'][0]}: ")
    code = longbench("lcc")
    compile(f"{code['context']}        {code['answers'][0]}\n", "lcc", "exec")
    firms = longbench("2wikimqa")
    names = re.findall(r"first, (.+) or (.+)\?", firms["input"])[0]
    years = [
        re.findall(rf"{name} is a .*? founded in (\d+)", firms["context"])[0] for name in names
    ]
    assert firms["answers"] == [min(zip(years, names, strict=True))[1]]
    lines = longbench("musique")["context"].split("\n")
    (village,) = (line for line in lines if "felt boots" in line)
    founder = re.findall(r"by ([A-Z]\w+ [A-Z]\w+),", village)[0]
    (life,) = (line for line in lines if line.startswith(f"{founder} ("))
    assert f"grew up in {longbench('musique')['answers'][0]}." in life
