"""Is an answer right? The usual scorer of each benchmark, as one small function each.

Every scorer takes the model's text and one reference and returns a number in [0, 1]; 1 means
right. :data:`SCORERS` names them, :func:`score_text` takes the best over several references.

References
----------
- GSM8K: Cobbe et al. 2021, arXiv:2110.14168.
- MATH: Hendrycks et al. 2021, arXiv:2103.03874; compared by the ``math-verify`` package.
- BBH: Suzgun et al. 2022, arXiv:2210.09261.
- HotpotQA: Yang et al. 2018, arXiv:1809.09600; SQuAD: Rajpurkar et al. 2016, arXiv:1606.05250.
- LongBench: Bai et al. 2023, arXiv:2308.14508, section "evaluation".
"""

import re
import string
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from difflib import SequenceMatcher
from itertools import pairwise

NUMBER = re.compile(
    r"(?<![\w.)])-?\$?(?:(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
)
MATH_SECONDS = 5  # math-verify gives up on towers of powers after this long


def final_number(text: str) -> Decimal | None:
    """GSM8K's final number: the first one after ``####``, else the last one in the text.

    Notes
    -----
    As in Cobbe et al., the marker decides where there is one: ``####`` with no number behind it
    is no answer. The last number is the fallback that evaluation harnesses call "flexible".
    Thousands commas and dollar signs do not count; a minus counts when it touches the number
    and nothing stands before it, so ``10-3`` ends in 3.

    Examples
    --------
    >>> final_number("She pays 3 * 4 = 12 dollars.\\n#### 1,200.50"), final_number("about $-7.")
    (Decimal('1200.50'), Decimal('-7'))
    """
    text = text.replace("−", "-").replace("$-", "-$")
    before, marker, after = text.partition("####")
    found = NUMBER.findall(after if marker else before)
    if not found:
        return None
    return Decimal(re.sub(r"[$,]", "", found[0] if marker else found[-1]))


def number_score(text: str, reference: str) -> float:
    """1 if the final numbers are equal as numbers (72, 72.0 and $72 are)."""
    wanted = final_number(reference)
    return float(wanted is not None and final_number(text) == wanted)


def choice_letter(text: str, *, letters: str = "ABCD") -> str | None:
    """The option that a text chooses, or None where it does not clearly choose one.

    Parameters
    ----------
    text
        The model's answer.
    letters
        The letters that are on offer.

    Notes
    -----
    Tried in this order: the last explicit statement ("the answer is B", "Answer: (B) Paris",
    "option B", ``\\boxed{B}``); a letter that opens the text ("B", "(B) Paris", "B. Paris");
    the only letter in brackets. Letters are capital, unless the text is one letter. A bare letter
    followed by a word is not a choice, so the article in "A train leaves" is none; nor are
    alternatives ("B or C"). Benchmarks differ in how they extract: this one prefers missing a
    choice to inventing one.

    Examples
    --------
    >>> choice_letter("The answer is (C) Rome."), choice_letter("A train leaves at 9.")
    ('C', None)
    """
    text = re.sub(r"\\(?:text|mathrm|mathbf)\s*\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"[*_`$]", "", text).strip()
    if len(text) == 1 and text.upper() in letters:
        return text.upper()
    option = _option(letters)
    stated = re.findall(rf"(?:(?i:{CUE})){option}", text)
    if stated:
        return "".join(stated[-1])
    opening = re.match(option, text)
    if opening:
        return opening[1] or opening[2]
    bracketed = set(re.findall(rf"\(([{letters}])\)", text))
    return bracketed.pop() if len(bracketed) == 1 else None


CUE = r"\b(?:answer|choice|option)(?: is| would be)?(?: option)?\s*:?\s*|\\boxed\s*"


def _option(letters: str) -> str:
    """Regular expression of a chosen letter: in brackets, or bare with no word behind it."""
    one = f"([{letters}])"
    bracketed = rf"[(\[{{]\s*{one}\s*[)\]}}]"
    bare = rf"{one}(?=\s*(?:$|\n|[.:;!?,)\]}}])|\s+(?:because|since|as)\b)"
    no_other = rf"(?!\s*(?:,|/|&|or\b|and\b)\s*[(\[]?[{letters}](?!\w))"
    return rf"(?:{bracketed}|{bare}){no_other}"


def choice_score(text: str, reference: str) -> float:
    """1 if the text chooses the reference letter among A to D."""
    return float(choice_letter(text) == reference.strip())


def last_boxed(text: str) -> str | None:
    r"""What stands in the last complete ``\boxed{}`` or ``\fbox{}``, braces matched.

    Examples
    --------
    >>> last_boxed(r"so $\boxed{1}$, no: $\boxed{\frac{1}{2}}$")
    '\\frac{1}{2}'
    """
    begun: list[int] = []  # where open braces' contents begin, -1 for those of no box
    last: tuple[int, int] | None = None
    for brace in re.finditer(r"(\\(?:boxed|fbox)\s*)?\{|\}", text):
        if brace[0] != "}":
            begun.append(brace.end() if brace[1] else -1)
        elif begun:
            last = max(last or (0, 0), (begun.pop(), brace.start()))
    return text[last[0] : last[1]].strip() if last and last[0] > 0 else None


def math_score(text: str, reference: str) -> float:
    r"""1 if the text's result equals the reference by ``math-verify``.

    The text's last ``\boxed{}`` counts, or what ``math-verify`` finds in a text without one; the
    reference is LaTeX without ``\boxed{}``.
    """
    boxed = last_boxed(text)
    if _squeeze(boxed if boxed is not None else text) == _squeeze(reference):
        return 1.0
    return float(_math_equal(f"${reference}$", text if boxed is None else f"${boxed}$"))


def _squeeze(latex: str) -> str:
    """An expression without white space and without the sizes of fractions and brackets."""
    latex = re.sub(r"\\(?:left|right|,|;|!)(?![A-Za-z])|[\s$]", "", latex)
    return latex.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")


def _math_equal(reference: str, answer: str) -> bool:
    """Compare by ``math-verify``, whose time limit needs signals, thus the main thread."""
    import logging

    from math_verify import parse, verify

    logging.getLogger("math_verify").setLevel(logging.ERROR)
    seconds = MATH_SECONDS if threading.current_thread() is threading.main_thread() else None
    try:
        wanted = parse(reference, parsing_timeout=seconds)  # type: ignore[arg-type]
        given = parse(answer, parsing_timeout=seconds)  # type: ignore[arg-type]
        return bool(verify(wanted, given, timeout_seconds=seconds))
    except Exception:  # what cannot be parsed is a wrong answer, whatever the parser raised
        return False


def bbh_score(text: str, reference: str) -> float:
    """1 if the answer is the reference, as in BBH's exact match.

    Notes
    -----
    As in Suzgun et al., what follows the last "the answer is" is the answer, else the whole text.
    Case, white space, quotes, emphasis and a full stop at the end do not count. Where the
    reference is an option, "(A)", the chosen letter is compared, so "A" and "(A) 01/02/1999" do.

    Examples
    --------
    >>> bbh_score("So the answer is (B).", "(B)"), bbh_score("alder birch", "birch alder")
    (1.0, 0.0)
    """
    if re.fullmatch(r"\([A-Z]\)", reference.strip()):
        return float(choice_letter(text, letters=string.ascii_uppercase) == reference.strip()[1])
    answer = re.split(r"answer is:?", text, flags=re.IGNORECASE)[-1]
    return float(_plain(answer) == _plain(reference))


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).strip("\"'*` ").removesuffix(".").strip("\"'*` ")


def normalize_answer(text: str) -> str:
    """SQuAD's normal form: lower case, no punctuation, no articles, single spaces.

    Examples
    --------
    >>> normalize_answer("The  Eiffel-Tower, a tower.")
    'eiffeltower tower'
    """
    bare = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(?:a|an|the)\b", " ", bare).split())


def exact_match(text: str, reference: str) -> float:
    """1 if both have the same normal form (HotpotQA's and SQuAD's EM)."""
    return float(normalize_answer(text) == normalize_answer(reference))


def qa_f1(text: str, reference: str) -> float:
    """F1 over the words of the normal forms, counted with multiplicity (SQuAD, LongBench).

    Equal normal forms give 1 even where they are empty; the official scripts then give 0, and
    a model that repeats such a reference would never be right.
    """
    if exact_match(text, reference):
        return 1.0
    given, wanted = normalize_answer(text).split(), normalize_answer(reference).split()
    same = sum((Counter(given) & Counter(wanted)).values())
    return 2 * same / (len(given) + len(wanted)) if same else 0.0


def hotpotqa_f1(text: str, reference: str) -> float:
    """HotpotQA's F1: as :func:`qa_f1`, but yes, no and noanswer count only as the whole answer."""
    forms = normalize_answer(text), normalize_answer(reference)
    if forms[0] != forms[1] and {"yes", "no", "noanswer"} & set(forms):
        return 0.0
    return qa_f1(text, reference)


def common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    lengths = [0] * (len(second) + 1)
    for item in first:
        row = [0]
        for (left, above), other in zip(pairwise(lengths), second, strict=True):
            row.append(left + 1 if item == other else max(row[-1], above))
        lengths = row
    return lengths[-1]


def rouge_l(text: str, reference: str) -> float:
    """ROUGE-L: F1 of the longest common subsequence of words, over the whole text.

    Notes
    -----
    LongBench calls the ``rouge`` package, which unites subsequences over sentences and adds 1e-8
    to a denominator; here equal texts give exactly 1.
    """
    given, wanted = text.split(), reference.split()
    if not given or not wanted:
        return float(given == wanted)
    return 2 * common_subsequence(given, wanted) / (len(given) + len(wanted))


def classification_score(text: str, reference: str, classes: Sequence[str]) -> float:
    """One over the number of classes the first line names, if the reference is among them.

    As in LongBench, a class whose name is part of the reference's name does not count.
    """
    line = first_line(text)
    named = {c for c in classes if c in line and (c == reference or c not in reference)}
    return 1 / len(named) if reference in named else 0.0


def count_score(text: str, reference: str) -> float:
    """Which part of the numbers in the text are the reference's (LongBench's count, retrieval).

    Examples
    --------
    >>> count_score("Paragraph 12", "Paragraph 12"), count_score("12 or 13", "12")
    (1.0, 0.5)
    """
    wanted = re.findall(r"[0-9]+", reference)[:1]
    numbers = re.findall(r"[0-9]+", text)
    return sum([n] == wanted for n in numbers) / len(numbers) if numbers else 0.0


def code_similarity(text: str, reference: str) -> float:
    """Edit similarity of the first line that is code (LongBench's code completion).

    Notes
    -----
    As in LongBench, lines with a backtick, ``#`` or ``//`` are passed over, and the similarity is
    that of :class:`difflib.SequenceMatcher`; unlike there it is not rounded to a per cent, so 1
    means equal.
    """
    if text.strip("\n") == reference.strip("\n"):
        return 1.0
    lines = text.lstrip("\n").split("\n")
    line = next((x for x in lines if not re.search(r"[`#]|//", x)), "")
    return SequenceMatcher(None, line, reference).ratio()


def first_line(text: str) -> str:
    """The first line that is not empty: LongBench cuts few-shot answers there."""
    return text.lstrip("\n").split("\n")[0]


def _on_first_line(scorer: Callable[[str, str], float]) -> Callable[[str, str], float]:
    return lambda text, reference: scorer(first_line(text), reference)


SCORERS: dict[str, Callable[[str, str], float]] = {
    "number": number_score,
    "choice": choice_score,
    "math": math_score,
    "bbh": bbh_score,
    "hotpotqa": hotpotqa_f1,
    "qa_f1": qa_f1,
    "few_shot_f1": _on_first_line(qa_f1),
    "rouge_l": rouge_l,
    "few_shot_rouge_l": _on_first_line(rouge_l),
    "count": count_score,
    "code_similarity": code_similarity,
}


def score_text(
    metric: str, text: str, *, answers: Sequence[str], classes: Sequence[str] = ()
) -> float:
    """The best score of a text over all references.

    Parameters
    ----------
    metric
        A key of :data:`SCORERS`, or ``"classification"``.
    text
        What the model answered.
    answers
        The references; any one of them is right.
    classes
        All classes, for ``"classification"``.

    Returns
    -------
    float
        In [0, 1]; 1 is right.
    """
    if metric == "classification":
        return max(classification_score(text, answer, classes) for answer in answers)
    return max(SCORERS[metric](text, answer) for answer in answers)


def is_right(
    metric: str, text: str, *, answers: Sequence[str], classes: Sequence[str] = ()
) -> bool:
    """Whether a text is right: score 1, and exact match for HotpotQA, whose F1 ignores order."""
    if metric == "hotpotqa":
        return any(exact_match(text, answer) == 1.0 for answer in answers)
    return score_text(metric, text, answers=answers, classes=classes) == 1.0
