"""Scorers: cases by hand, properties, and agreement with slower independent definitions."""

import threading
from decimal import Decimal
from itertools import combinations

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tests.conftest import problem
from tsp.problems import formulas, scoring
from tsp.problems.catalogue import CATALOGUE
from tsp.problems.loading import is_correct, score

WORDS = st.lists(st.sampled_from(["a", "the", "red", "Red.", "fox", "1", "yes"]), max_size=6)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(("3 * 4 = 12\n#### 12", "12"), ("#### 1,234,567", "1234567")),
        *(("####\n$7.50 in all", "7.50"), ("####-5", "-5")),
        ("#### 5\nQuestion: and now?\n#### 6", "5"),  # what a model rambles on with is ignored
        *(("She has 3 left, so 4.", "4"), ("about 3.5.", "3.5"), ("$-1,000.50", "-1000.50")),
        ("(−4)", "-4"),  # a typographic minus
        ("10-3", "3"),  # a difference, not a negative number
        ("1,2,3", "3"),  # a list, not thousands
        *(("12,345,6", "6"), ("it is .5", "0.5"), ("007", "7"), ("50%", "50"), ("1 200", "1200")),
        *(("1\u202f200", "1200"), ("1\u2009200\u2009000", "1200000")),
        *(("10\u00a0000 trees", "10000"), ("1'234'567", "1234567")),
        ("1'234’567", "567"),  # two kinds of apostrophes are no one number
        *((r"\$1{,}200", "1200"), ("in 2020 100 of them", "100"), ("1 20", "20")),
        *(("72 m^2", "72"), ("72m^2", "72"), ("72 cm^3", "72"), ("72cm³", "72")),
        *(("9.8 m/s^2", "9.8"), ("72.0", "72"), ("3 or 4 of 72", "72")),
        *(("the box holds 72 m^{-1}.", "72"), ("**72**", "72"), ("2^3 = 8", "8")),
        *(("1.5e3", "1500"), ("#### 1/2", "0.5"), ("-3 / 4 of it", "-0.75")),
        *(("1 1/2 hours", "1.5"), ("3½", "3.5"), ("on 3/4/2021", "2021")),
    ],
)
def test_final_number(text, number):
    assert scoring.final_number(text) == Decimal(number)
    assert scoring.number_score(text, f"#### {number}") == 1.0
    assert scoring.number_score(text, "#### 720") == 0.0


@pytest.mark.parametrize(
    "text", ["", "none", "#### none", "12 apples #### so many", "v2b", "١٢", "2^3"]
)
def test_final_number_absent(text):
    assert scoring.final_number(text) is None
    assert scoring.number_score(text, "12") == 0.0


@given(st.integers(-(10**15), 10**15), st.integers(0, 99), st.booleans())
def test_final_number_reads_what_python_prints(whole, cents, marker):
    printed = f"{whole:,}.{cents:02d}"
    text = f"2 and then\n#### {printed}" if marker else f"2 and then {printed}"
    assert scoring.final_number(text) == Decimal(printed.replace(",", ""))


LETTERS = {
    "A": [
        *("The answer is A because trains are fast.", "The correct answer isn't C; it's A."),
        *("the answer is a", "B is wrong, so A."),
    ],
    "B": [
        *("B", " b ", "B.", "(B)", "(b)", "**B**", "B\nBecause it is.", "B) Paris", "b) Paris"),
        *("The answer is B", "Answer: B) Paris", "ANSWER (B) Paris", "Option B", "answer: b"),
        *("The answer is A. No, the answer is B.", "The answer is option b.", "I think it's B"),
        "A: (B)",  # "A" for "answer"
        *(
            "The answer is\n\n**(b)**",
            "So, B is correct.",
            "Which one? B.",
            r"The answer is \(B\).",
        ),
        *("The answer is not A but B.", "We rule out options A and C. That leaves B."),
        *("Rather than A, I choose (b).", "I was going to say A, but the answer is B."),
        *("Answer: A. Oops, B.", "~~A~~ B"),
        *("(B) No", "The answer is (B) He did not go."),  # an option's text does not take it back
    ],
    "C": [
        *(
            "A train is fast. So the answer is (C).",
            "I choose option C.",
            "It must be (C), I think.",
        ),
        *("{C}", "'C'", "[c]", "ans. c", "My guess is (c).", "It's definitely C.", "Therefore, C"),
        *(
            "I am not sure, but I think C.",
            "(A) is too small. (B) cannot be right. It has to be C.",
        ),
        *("Answer: B\nCorrection: C", "The answer is C? Yes, C.", "Thus C is the correct answer."),
        *("The answer is (C) Cannot be determined.", r"\boxed{\mathbf{(C)}}"),
        *("The answer is B? No, C.", "I eliminate option A. Option B. is also out. It must be C."),
    ],
    "D": [
        *(r"The answer is $\boxed{\text{D}}$.", "Correct answer: (d)", "I'd go with D."),
        *("Only D is right, because it is warm.", "Neither A nor B; it must be D."),
        *("A, B and C are wrong. D.", "At first I chose A, but now I think it's D."),
        "We can eliminate (A), (B), and (C), so the answer is (D).",
        *("The answer is A. Wait, no. It is D.", "A... no, D.", "I would say it is D"),
        *("The answer is A. Actually, D.", "I rule out C. The answer is D."),
        "The answer cannot be option A; choose (D).",
    ],
    None: [
        *("", "E", "A train leaves at nine.", "The answer is A train.", "A's house"),
        *("Both A and B", "B or C", "The answer is B, C", "(A) or (B)", "ABBA", "None of them"),
        *("a train", "The answer is a train", "The answer is not B.", "I don't think it's A."),
        *("I doubt it's A.", "It is not certain that the answer is B.", "A is wrong."),
        *("Option C can be ruled out.", "Eliminate B and C.", "A cat sat on the mat."),
        *("If B is correct, the train is late.", "Is the answer B? I do not know."),
        *("The answer is B. Wait, no.", "Answer: A. I take that back.", "B? No."),
        *("It could be A or D.", "the answer is b or c", "Let me look at option A. It is red."),
        *("From point A to point B.", "Hepatitis B", "The answer is E.", "answer: apple"),
    ],
}


@pytest.mark.parametrize(
    ("text", "letter"), [(text, letter) for letter, texts in LETTERS.items() for text in texts]
)
def test_choice_letter(text, letter):
    assert scoring.choice_letter(text) == letter
    assert [right for right in "ABCD" if scoring.SCORERS["choice"](text, right)] == [
        *(letter or "")
    ]


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        *((r"\boxed{4}", "4"), (r"\boxed{1} then \boxed{\frac{1}{2}}", r"\frac{1}{2}")),
        *((r"\fbox{ x }", "x"), (r"\boxed {7}", "7")),
        (r"\boxed{3} and \boxed{\frac{1}{2", "3"),  # cut off: the last complete one counts
        *(("no box", None), (r"\boxed{}", "")),
    ],
)
def test_last_boxed(text, inside):
    assert scoring.last_boxed(text) == inside


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        *((r"so $\boxed{\frac12}$", r"\frac{1}{2}"), (r"$\boxed{0.5}$", r"\frac{1}{2}")),
        *((r"\frac12", r"\frac{1}{2}"), (r"$\boxed{\dfrac{7}{36}}$", r"\frac{7}{36}")),
        (r"$\boxed{\frac{\sqrt{2}+\sqrt{6}}{4}}$", r"\frac{\sqrt{6} + \sqrt{2}}{4}"),
        *((r"$\boxed{x = 8}$", "8"), (r"$\boxed{(3, \pi/2)}$", r"\left(3, \frac{\pi}{2}\right)")),
        *((r"$\boxed{[-1,4]}$", "[-1, 4]"), (r"$\boxed{45}$", r"45^\circ")),
        *(("The final answer is $60$.", "60"), (r"\boxed{\text{Monday}}", r"\text{Monday}")),
        *((r"So x = \sqrt2.", r"\sqrt{2}"), (r"\sqrt2", r"\sqrt{2}")),
        *((r"\frac\pi4", r"\frac{\pi}{4}"), (r"\frac{\sqrt3}2", r"\frac{\sqrt{3}}{2}")),
        *(("√2/2", r"\frac{\sqrt2}{2}"), ("1 1/2", r"\frac{3}{2}"), (r"\binom52", "10")),
        *(("x = 3 or x = -2", "-2, 3"), ("$x=3$ or $x=-2$", "-2, 3")),
        *((r"It is $\frac12$, not $\frac13$.", r"\frac{1}{2}"), ("The answer is **60**", "60")),
        *(("(E)", r"\text{(E)}"), (r"\mbox{(B)}", r"\text{(B)}")),
        *(
            (r"\boxed{\mathrm{A}}", r"\textbf{(A)}"),
            (r"\boxed{\text{an Ellipse.}}", r"\mbox{ellipse}"),
        ),
        (r"\boxed{1-\frac1e}", r"1-\frac{1}{\mathrm{e}}"),
        *((r"\boxed{{\rm e}^{-1}}", r"\frac{1}{\mathrm{e}}"), (r"\boxed{(1+\mathrm{i})^2}", "2i")),
        *((r"\boxed{3+4\text{i}}", "3+4i"), (r"\boxed{10^{-7}}", "0.0000001")),
        *((r"\boxed{1e-7}", r"\frac{1}{10^7}"), (r"\boxed{0.333333}", r"\frac{1}{3}")),
        (r"\boxed{\sqrt{3+2\sqrt2}}", r"1+\sqrt2"),
        *((r"\boxed{\sqrt{3+2\sqrt2} - \sqrt2 - 1}", "0"), (r"\boxed{1\,200}", "1,200")),
        *(("\\boxed{1\u202f200\u202f000}", "1200000"), (r"\boxed{72\text{ m}^2}", "72")),
        *((r"\boxed{6\pi\,\mathrm{cm}^{2}}", r"6\pi"), (r"\boxed{20^\circ\text{C}}", "20")),
        *((r"\boxed{50\%}", "50"), (r"\boxed{0.5}", r"50\%")),
        *((r"\boxed{\mathbf{\frac12}}", "0.5"), (r"\boxed{101_{2}}", "101_2")),
        *((r"\boxed{3\le x}", r"x \geq 3"), (r"\boxed{-2x}", "y = -2x")),
    ],
)
def test_math_equal(text, reference):
    assert scoring.math_score(text, reference) == 1.0


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        *((r"\boxed{61}", "60"), (r"first \boxed{60}, no, \boxed{61}", "60")),
        (r"$\boxed{(-1,4)}$", "[-1, 4]"),  # open is not closed
        (r"$\boxed{-\frac{1}{2}}$", r"\frac{1}{2}"),
        *((r"\boxed{\mathrm{e}^{2}}", r"\mathrm{e}^{-2}"), (r"\boxed{1+e}", "1-e")),
        (r"\boxed{\frac{\mathrm{e}-1}{2}}", r"\frac{\mathrm{e}+1}{2}"),
        (r"$1-\frac{1}{\mathrm{e}}$", r"1+\frac{1}{\mathrm{e}}"),
        *((r"\boxed{1e-5}", "1e+5"), (r"\boxed{1+\mathrm{i}}", "1"), (r"\boxed{2\text{i}}", "2")),
        (r"\boxed{1+\mathrm{i}}", r"1-\mathrm{i}"),
        (r"\boxed{2t}", "2"),  # no unit
        *((r"\boxed{3ab}", "3"), (r"\boxed{10^{-20}}", "0"), (r"\boxed{e^{-300}}", "e^{-301}")),
        *((r"\boxed{2^{-100}}", "2^{-101}"), (r"$\frac{1}{2^{99}}$", r"\frac{1}{2^{98}}")),
        (r"\boxed{\frac{x}{2^{99}}}", r"\frac{x}{2^{98}}"),
        *((r"\boxed{0.0000001}", "0.0000002"), (r"\boxed{1e-20}", "0")),
        (r"\boxed{(0.0000001, 3, 1)}", r"(0.0000002, 3, 1)"),
        (r"\boxed{[0, 0.0000001]}", r"[0, 0.0000002]"),
        (r"\boxed{x = 0.0000001}", r"x = 0.0000002"),
        (r"\boxed{x > 10^{-20}}", r"x > 10^{-21}"),
        (
            r"\boxed{\begin{pmatrix} 0.0000001 \\ 1 \end{pmatrix}}",
            r"\begin{pmatrix} 0.0000002 \\ 1 \end{pmatrix}",
        ),
        *((r"\boxed{10^{100}+1}", "10^{100}"), (r"\boxed{3.14}", r"\pi")),
        *((r"\boxed{0.333}", r"\frac{1}{3}"), (r"\boxed{0.\overline{3}}", "0")),
        *((r"\boxed{2.0000001}", "2.0000002"), (r"\boxed{1 2}", "3"), (r"\boxed{1 2}", "12")),
        *((r"\boxed{(1,200)}", "1200"), (r"\boxed{3,\ldots,7}", "3,7")),
        *((r"\boxed{3\text{ or more}}", "3"), (r"\boxed{101_2}", "101_3"), (r"\boxed{5\%}", "500")),
        (r"\boxed{felt}", r"\text{left}"),  # no product of letters
        *((r"\boxed{(D)}", r"\text{(E)}"), ("The answer is not 5.", "5"), ("I think 3 or 4", "4")),
        *(("", "60"), (r"\boxed{\frac{1}{", r"\frac{1}{2}")),
    ],
)
def test_math_different(text, reference):
    assert scoring.math_score(text, reference) == 0.0


def test_math_gives_up_on_a_tower_of_powers(monkeypatch):
    monkeypatch.setattr(formulas, "MATH_SECONDS", 1)
    assert scoring.math_score(r"$\boxed{9^{9^{9^9}}}$", "4") == 0.0


def test_math_counts_a_failure_of_the_parser_as_wrong(monkeypatch):
    def fail(*_, **__):
        raise RecursionError

    monkeypatch.setattr("math_verify.verify", fail)
    assert scoring.math_score(r"$\boxed{0.5}$", "1/2") == 0.0


def test_math_works_outside_the_main_thread():
    scores = []
    half = r"$\boxed{0.5}$", "1/2"
    work = threading.Thread(target=lambda: scores.append(scoring.math_score(*half)))
    work.start()
    work.join()
    assert scores == [1.0]


@pytest.mark.parametrize(
    ("text", "reference", "expected"),
    [
        *(("True", "True", 1), ("So the answer is true.", "True", 1)),
        *(("The answer is: Yes", "Yes", 1), ("So the answer is: No.", "No", 1)),
        *(("The answer is no. Wait, the answer is yes.", "Yes", 1), ("**valid**", "valid", 1)),
        *(("A: Yes", "Yes", 1), ("Answer: Yes", "Yes", 1), ("**Answer:** Yes!", "Yes", 1)),
        *(("Answer: valid\nIt follows.", "valid", 1), ("Answer: (c)", "(C)", 1)),
        ("The answer is true, because 1 is 1.", "True", 1),
        *((r"\boxed{\text{invalid}}", "invalid", 1), ("The answer is −1,200.", "-1200", 1)),
        *(("The answer is not Yes.", "Yes", 0), ("The answer is yes. Wait, no.", "Yes", 0)),
        *(("The answer is not (A) but (B).", "(B)", 1), ("not (A), (B)", "(A)", 0)),
        *(("The answer is I don't know", "(I)", 0), ("item(s)", "(S)", 0)),
        *(("not valid", "valid", 0), ("invalid", "valid", 0), ("(B)", "(B)", 1), ("B", "(B)", 1)),
        *(("(b)", "(B)", 1), ("(B) 02/23/2021", "(B)", 1), ("(K)", "(K)", 1), ("(C)", "(B)", 0)),
        *(("A book about birds", "(A)", 0), ("} ]", "} ]", 1), ("} )", "} ]", 0)),
        *(("birch  alder", "birch alder", 1), ("alder birch", "birch alder", 0), ("15", "15", 1)),
        ("150", "15", 0),
    ],
)
def test_bbh(text, reference, expected):
    assert scoring.bbh_score(text, reference) == expected


@pytest.mark.parametrize(
    ("text", "reference", "f1", "em"),
    [
        ("The Osk Viaduct.", "osk viaduct", 1, 1),
        ("viaduct osk", "Osk Viaduct", 1, 0),  # F1 ignores order, EM does not
        ("Osk", "Osk Viaduct", 2 / 3, 0),
        ("Osk Osk", "Osk Viaduct", 1 / 2, 0),  # repeating a word does not help
        *(("red fox runs", "red fox", 4 / 5, 0), ("Tamble", "Osk Viaduct", 0, 0)),
        ("", "Osk", 0, 0),
        ("The", "a", 1, 1),  # both normalise to nothing
    ],
)
def test_question_answering(text, reference, f1, em):
    assert scoring.qa_f1(text, reference) == pytest.approx(f1)
    assert scoring.exact_match(text, reference) == em


def test_hotpotqa_counts_yes_and_no_only_alone():
    assert scoring.qa_f1("yes they were", "yes") > 0
    assert scoring.hotpotqa_f1("yes they were", "yes") == 0.0
    assert scoring.hotpotqa_f1("yes", "yes they were") == 0.0
    assert scoring.hotpotqa_f1("Yes.", "yes") == 1.0


@given(WORDS, WORDS)
def test_f1_against_striking_out_words_one_by_one(first, second):
    words = scoring.normalize_answer(" ".join(first)).split()
    left = scoring.normalize_answer(" ".join(second)).split()
    total, same = len(words) + len(left), 0
    assume(total)
    for word in words:
        if word in left:
            left.remove(word)
            same += 1
    assert scoring.qa_f1(" ".join(first), " ".join(second)) == pytest.approx(2 * same / total)


@given(st.text("abc", max_size=7), st.text("abc", max_size=7))
def test_common_subsequence_against_all_subsequences(first, second):
    def subsequences(text):
        return {s for n in range(len(text) + 1) for s in combinations(text, n)}

    longest = max(len(s) for s in subsequences(first) & subsequences(second))
    assert scoring.common_subsequence(first, second) == longest


@pytest.mark.parametrize(
    ("text", "reference", "expected"),
    [
        # longest common subsequence "the cat the mat", 4 words of 6 and of 5
        ("the cat sat on the mat", "the grey cat the mat", 2 * 4 / (6 + 5)),
        *(("mat the cat", "cat the mat", 1 / 3), ("a a a a", "a", 2 * 1 / (4 + 1))),
    ],
)
def test_rouge_l_by_hand(text, reference, expected):
    assert scoring.rouge_l(text, reference) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "reference", "expected"),
    [
        *(("Reason", "Reason", 1), ("Animal", "Reason", 0), ("because", "Reason", 0)),
        ("\nReason\nQuestion: next?\nType: Animal", "Reason", 1),  # only the first line counts
        ("Reason or Animal", "Reason", 1 / 2),
        ("Place of birth", "Place of birth", 1),  # a class within the reference is ignored
        ("Place of birth", "Place", 1 / 2),
    ],
)
def test_classification(text, reference, expected):
    classes = ("Animal", "Reason", "Way of doing something", "Place", "Place of birth")
    assert scoring.classification_score(text, reference, classes) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Paragraph 12", 1), ("12", 1), ("12 or 13", 1 / 2), ("Paragraph 1", 0), ("112", 0), ("", 0)],
)
def test_count(text, expected):
    assert scoring.count_score(text, "Paragraph 12") == expected


def test_code_similarity():
    line = "    return total  # litres"
    assert scoring.code_similarity(line, line) == 1.0
    assert scoring.code_similarity("```python\n# sum\nreturn total", "return total") == 1.0
    assert scoring.code_similarity("return total\nprint(total)", "return total") == 1.0
    assert 0.5 < scoring.code_similarity("return totals", "return total") < 1.0
    assert scoring.code_similarity("x" * 1000 + "y", "x" * 1000) < 1.0  # not rounded up
    assert scoring.code_similarity("", "return total") == 0.0


@pytest.mark.parametrize("metric", [*scoring.SCORERS, "classification"])
@settings(max_examples=60, deadline=None)
@given(text=st.one_of(st.text(), st.from_regex(r"[-$0-9., #\\(){}A-D]{0,12}", fullmatch=True)))
def test_any_text_has_a_score(metric, text):
    answers = ("Reason 12", "7")
    item = problem(metric=metric, answers=answers, classes=answers)
    assert 0.0 <= score(item, text) <= 1.0
    right = is_correct(item, text)
    assert right == (score(item, text) == 1.0) or (metric == "hotpotqa" and not right)


@pytest.mark.parametrize("metric", ["qa_f1", "hotpotqa", "rouge_l"])
@given(first=WORDS, second=WORDS)
def test_f1_scores_are_symmetric(metric, first, second):
    scorer, one, other = scoring.SCORERS[metric], " ".join(first), " ".join(second)
    assert scorer(one, other) == pytest.approx(scorer(other, one))


@pytest.mark.parametrize(
    "metric", ["bbh", "hotpotqa", "qa_f1", "rouge_l", "code_similarity", "math"]
)
@given(text=st.text(min_size=1))
def test_a_reference_is_right_about_itself(metric, text):
    assume(r"\boxed" not in text)
    assert is_correct(problem(metric=metric, target=text), text)


def test_the_best_reference_counts():
    assert score(problem(metric="qa_f1", answers=("none", "26 cats")), "26 cats") == 1.0
    hop = problem(metric="hotpotqa", answers=("x", "Osk Viaduct"))
    assert score(hop, "viaduct osk") == 1.0
    assert not is_correct(hop, "viaduct osk")
    assert is_correct(hop, "an osk viaduct")


PIECES = st.lists(
    st.sampled_from(
        [
            *("#", "####", "\n", " ", "1", "20", "345", ".", ",", "/", "-", "^", "**", "\\", "e"),
            *("{,}", "$", "%", "(", ")", "'", "\u00a0", "½", "²", "x", " So", "\n\n", "Paris", "!"),
        ]
    ),
    max_size=5,
).map("".join)
MARKED = st.tuples(PIECES, PIECES, st.sampled_from(["1", "20", "345"]), PIECES, PIECES).map(
    lambda parts: "{}####{}{}{}\n{}".format(*parts)
)


@settings(max_examples=2000)
@given(metric=st.sampled_from(sorted(scoring.DECIDED)), text=MARKED, more=PIECES)
@example(metric="number", text="#### 1\\,\n345", more="20")
@example(metric="number", text="#### 12\n", more="^2")
@example(metric="number", text="#### 12\n^", more="2")
@example(metric="number", text="#### x\nSo", more="12")
@example(metric="number", text="####1^\n345", more="e½")
@example(metric="number", text="#### 3²\nSo 20", more="²")
def test_what_decides_a_score_leaves_no_continuation_to_change_it(metric, text, more):
    """The text is stripped at both ends, before and after, as answers are."""
    if scoring.DECIDED[metric](text.strip()):
        longer = (text.strip() + more).strip()
        for reference in ("1", "12", "20", "345", "1/2", "Paris"):
            item = problem(target=reference, metric=metric, classes=("Paris", "20", "345", "1/2"))
            assert score(item, longer) == score(item, text.strip())
            assert is_correct(item, longer) == is_correct(item, text.strip())


@pytest.mark.parametrize(
    ("metric", "text", "decided"),
    [
        ("number", "3 + 4 = 7\n#### 7\n\nWe", True),
        ("number", "#### $1,200.50 dollars.\nSo", True),
        ("number", "#### 12", False),  # more digits may follow
        ("number", "#### 12 and", False),
        ("number", "12\nSo it is 12", False),
        ("few_shot_f1", "Paris\nQuestion", True),
        ("few_shot_f1", "Paris", False),
    ],
)
def test_when_a_score_is_decided(metric, text, decided):
    assert scoring.DECIDED[metric](text) == decided


def test_few_shot_answers_end_with_their_line():
    text = "\nred fox\nDialogue: more"
    assert scoring.SCORERS["few_shot_rouge_l"](text, "red fox") == 1.0
    assert scoring.SCORERS["rouge_l"](text, "red fox") < 1.0
    assert scoring.SCORERS["few_shot_f1"](text, "red fox") == 1.0


@pytest.mark.parametrize("end", ["1/2", "-1/2", "1,200", "$7.50 a day", "72 m^2", "50%"])
def test_a_gsm8k_reference_is_one_number_or_fraction(end):
    CATALOGUE["gsm8k"].read({"question": "?", "answer": f"So it is.\n#### {end}"})


@pytest.mark.parametrize(
    "end", ["3 or 4", "5-7", "2x+1", "10^3", "1/0", "1/2/3", "2:30", "", "two"]
)
def test_a_gsm8k_reference_of_another_form_is_refused(end):
    with pytest.raises(ValueError, match="'answer' must end with #### and one number"):
        CATALOGUE["gsm8k"].read({"question": "?", "answer": f"So it is.\n#### {end}"})
