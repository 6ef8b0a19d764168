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
from dataclasses import replace
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Any

from tsp.problems.answers import (
    REFUSED,
    UNDECIDED,
    WRAPPED,
    choice_letter,
    final_number,
    formula,
    join_thousands,
    last_boxed,
    tidy,
)

MATH_SECONDS = 5  # math-verify gives up on towers of powers after this long


def number_score(text: str, reference: str) -> float:
    """1 if the final numbers are equal as numbers (72, 72.0 and $72 are)."""
    wanted = final_number(reference)
    return float(wanted is not None and final_number(text) == wanted)


def choice_score(text: str, reference: str) -> float:
    """1 if the text chooses the reference letter among A to D."""
    return float(choice_letter(text) == reference.strip())


def math_score(text: str, reference: str) -> float:
    r"""1 if the text's result (:func:`tsp.problems.answers.formula`) equals the reference, LaTeX.

    Notes
    -----
    Words are compared as words. All else is compared by ``math-verify`` 0.9, but numbers also
    relatively and to 60 digits: it compares them absolutely and to 15, so 1e-20 would equal 0.
    Units do not count, as in Hendrycks et al.; nor does whether a percentage has its sign.
    """
    result = formula(text)
    prose = UNDECIDED.sub(" ", REFUSED.sub(" ", text))
    wanted, answer = tidy(reference), tidy(prose if result is None else result)
    if _squeeze(wanted) in (_squeeze(answer), _squeeze(tidy(text))):
        return 1.0
    if all(re.fullmatch("-?[0-9]{1,99}", side) for side in (wanted, answer)):
        return float(int(wanted) == int(answer))  # most answers, without a parser
    if _is_words(reference):
        return float(_words(wanted) == _words(answer))
    if len({base for side in (wanted, answer) for base in re.findall(r"_\{?(\w+)\}?$", side)}) > 1:
        return 0.0
    hundredths = [r"\\cdot\\frac{1}{100}", ""] if ("%" in wanted) != ("%" in answer) else [""]
    pairs = ([re.sub(r"\\?%", new, side) for side in (wanted, answer)] for new in hundredths)
    return float(any(_math_equal(*pair, prose=result is None) for pair in pairs))


def _squeeze(latex: str) -> str:
    """Remove white space, but where it separates digits."""
    return re.sub(r"(?<![0-9])\s+|\s+(?![0-9])", "", latex)


def _is_words(latex: str) -> bool:
    r"""Whether LaTeX is ``\text{}`` alone, with words or with an option in brackets."""
    inside = WRAPPED.sub(r"\1", latex)
    wrapped = re.fullmatch(rf"(?:{WRAPPED.pattern}[\s.,]*)+", latex.strip())
    return bool(wrapped and re.search(r"[A-Za-z]{2}|\([A-Z]\)", inside))


def _words(latex: str) -> str:
    """Return the words of an answer without capitals, punctuation and an article in front."""
    latex = re.sub(r"\\text\w*|\\m(?:athrm|box)|[\s.,;:!?()\\{}~]", " ", latex.lower())
    return re.sub(r"^(?:an?|the) (?=\w\w)", "", " ".join(latex.split()))


def _math_equal(reference: str, answer: str, *, prose: bool) -> bool:
    """Compare by ``math-verify``, whose time limit needs signals, thus the main thread."""
    from math_verify import verify
    from math_verify.errors import TimeoutException
    from math_verify.utils import timeout

    seconds = MATH_SECONDS if threading.current_thread() is threading.main_thread() else None
    try:
        wanted = _parse(f"${reference}$", seconds=seconds)
        given = _parse(answer if prose else f"${answer}$", prose=prose, seconds=seconds)
        if timeout(seconds)(_differ)(wanted, given):
            return False
        return bool(verify(wanted, given, timeout_seconds=seconds))
    except (Exception, TimeoutException):  # what cannot be parsed or compared is a wrong answer
        return False


def _parse(text: str, *, prose: bool = False, seconds: int | None) -> Any:
    """Return the last expression of a text as ``sympy`` object; i is the imaginary unit."""
    import logging

    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse
    from sympy import I

    logging.getLogger("math_verify").setLevel(logging.ERROR)
    if not prose and re.search(r"[0-9] [0-9]|\\dots", text):
        raise ValueError(text)  # math-verify would add the numbers and drop the dots
    rules = replace(LatexExtractionConfig().normalization_config, units=False, boxed="none")
    kinds = [LatexExtractionConfig(normalization_config=rules), ExprExtractionConfig()]
    (parsed,) = parse(
        text, kinds if prose else kinds[:1], fallback_mode="no_fallback", parsing_timeout=seconds
    )
    return parsed.subs({symbol: I for symbol in parsed.free_symbols if symbol.name == "i"})


def _differ(wanted: Any, given: Any) -> bool:
    """Whether results differ in a number they consist of; False where that is not certain."""
    from sympy import Eq, Expr
    from sympy.core.relational import Relational

    if isinstance(wanted, Relational) and wanted.func is given.func:
        sides = [(wanted.lhs, given.lhs), (wanted.rhs, given.rhs)]
        return any(
            a == b and _differ(*other) for (a, b), other in zip(sides, sides[::-1], strict=True)
        )
    wanted, given = (side.rhs if isinstance(side, Eq) else side for side in (wanted, given))
    parts = _parts(wanted), _parts(given)
    if len(parts[0]) != len(parts[1]):
        return False
    if parts != ([wanted], [given]):
        return any(all(_differ(one, other) for other in parts[1]) for one in parts[0])
    return isinstance(wanted, Expr) and isinstance(given, Expr) and _apart(wanted, given)


def _parts(result: Any) -> list[Any]:
    """Return what a set, tuple, interval, matrix or chain of relations consists of."""
    from sympy import And, Interval, MatrixBase, Set, Tuple

    if isinstance(result, Interval):
        return [result.start, result.end]
    if isinstance(result, Set | Tuple | And):
        return list(result.args)
    return list(result) if isinstance(result, MatrixBase) else [result]


def _apart(wanted: Any, given: Any) -> bool:
    """Whether two expressions differ by more than rounding, whatever their symbols stand for."""
    from sympy import Float, prime, sqrt

    symbols = sorted(wanted.free_symbols | given.free_symbols, key=str)
    near = 5e-6 if wanted.has(Float) != given.has(Float) else 1e-12 if wanted.has(Float) else 1e-40
    for scale in (1, 10, 100) if symbols else (1,):
        at = {s: scale * sqrt(prime(k)).evalf(60) for k, s in enumerate(symbols, 1)}
        one, other = _digits(wanted, at=at), _digits(given, at=at)
        if not one or not other:
            return False
        size = max(*map(abs, one + other), 1e-30 if symbols else 0)
        if all(abs(a - b) <= near * size for a, b in zip(one, other, strict=True)):
            return False
    return True


def _digits(expression: Any, *, at: dict[Any, Any]) -> list[Any]:
    """Return the real and imaginary part to 60 digits, 0 where it cancels; none if not finite."""
    from sympy import Float, Integer

    parts = expression.evalf(60, subs=at).as_real_imag()
    if not all(isinstance(part, Float | Integer) for part in parts):
        return []
    return [part if getattr(part, "_prec", 2) > 1 else Integer(0) for part in parts]


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
    cued = re.split(BBH_CUE, text)[-1]
    heads = [text, last_boxed(text) or cued, re.split(r"\n|,? (?:because|since|as) ", cued)[0]]
    return float(_plain(reference) in map(_plain, heads))


BBH_CUE = (
    r"(?i)\banswer(?:\s+(?:is|would be|must be))?\s*[:=]"
    r"|\banswer\s+(?:is|would be|must be)\b|^\s*A:"
)


def _plain(text: str) -> str:
    text = join_thousands(WRAPPED.sub(r"\1", text).lower().replace("−", "-"), comma=True)
    return " ".join(text.split()).strip("\"'*` ").rstrip(".!").strip("\"'*` ")


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
    LongBench calls the ``rouge`` package, which splits texts at full stops, unites subsequences
    over sentences and counts a repeated word once: "a a a a" against "a" gives 1.0 there and 0.4
    here, "the cat sat on the mat" against "the cat is on the mat" 0.80 there and 0.83 here.
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
