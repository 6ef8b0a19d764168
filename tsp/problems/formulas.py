r"""Formulas: find the one that a text gives as its result, and compare two by value.

Comparison is by the ``math-verify`` package (Hendrycks et al. 2021, arXiv:2103.03874).
"""

import re
import threading
from dataclasses import replace
from typing import Any

from tsp.problems.answers import WRAPPED, join_thousands

MATH_SECONDS = 5  # math-verify gives up on towers of powers after this long

_SIGNS = str.maketrans(
    {"−": "-", "–": "-", "×": r"\times ", "·": r"\cdot ", "÷": r"\div ", "√": r"\sqrt "}
    | {"π": r"\pi ", "∞": r"\infty ", "°": r"^\circ ", "≤": r"\le ", "≥": r"\ge ", "∪": r"\cup "}
    | {"²": "^2", "³": "^3", "∅": r"\emptyset "}
)
_GROUP = r"\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}"  # braces three deep
_TOKEN = r" ?([0-9A-Za-z]|\\(?!frac|sqrt)[A-Za-z]+)"
_UNIT = r"(?:(?:square|cubic|sq\.?|cu\.?) )?(?:[ckm]m|kg|km/h|mph|ft|lb|hr|[a-z]{3,30})"
_NUMBERED = r"(?:(?<=[0-9})])|(?<=\\pi)) ?"  # behind a number
_SQUARED = r"(?:\^\{?[0-9]\}?)?[ .]*$"
_REWRITES = [
    (re.compile(pattern), new)
    for pattern, new in (
        (r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|textstyle|rm|bf|it|!)(?![A-Za-z])", ""),
        (r"(?<!\\)\\(?:[,;:> ()\[\]]|q?quad(?![A-Za-z]))|~|\\?\$", " "),
        (r"\s+", " "),
        (r"\.{3,}|…|\\[lc]dots(?![A-Za-z])", r"\\dots "),
        (r"\\(?:text\w*|mbox|mathrm) ?\{[ ,]*(?:and|or)[ ,]*\}|\b(?:and|or)\b(?! more| less)", ","),
        (rf"{_NUMBERED}\\(?:text\w*|mbox|mathrm) ?\{{(?! ?\(?(?:and|or|mod|if|for|when)\b)"
         rf"(?:[^{{}}]{{0,50}}[A-Za-z]{{2}}[^{{}}]{{0,50}}| ?[mgshCFLJNWV] ?)\}}{_SQUARED}", ""),
        (rf"{_NUMBERED}(?:(?<= ){_UNIT}|[ckm]m|kg|mph|ft){_SQUARED}", ""),
        (r"\\degree(?![A-Za-z])", r"^\\circ"),
        (r"\\circ\}? ?(?:\\(?:text\w*|mbox|mathrm) ?\{ ?)?[CF] ?\}? ?$", r"\\circ"),
        (r"\\operatorname\*? ?\{([a-z]+)\}", r"\\\1 "),
        (r"\\(?:text(?!style)\w*|math(?:rm|bf|it|sf|normal)|mbox|hbox|boldsymbol|bm) ?"
         r"(?:\{([^{}A-Za-z]*[A-Za-z]?[^{}A-Za-z]*)\}|(?=\{ ?\\))", r" \1 "),
        (r"\\[dtc](frac|binom)(?![A-Za-z])", r"\\\1"),
        (r"\\varnothing(?![A-Za-z])", r"\\emptyset"),
        (r"(?<![\\A-Za-z])sqrt(?![A-Za-z])", r"\\sqrt"),
        (r"\\sqrt ?\(([^()]*)\)", r"\\sqrt{\1}"),
        (rf"\\sqrt ?(\[[^\]]{{0,20}}\])?{_TOKEN}", r"\\sqrt\1{\2}"),
        (rf"\\(frac|binom){_TOKEN}", r"\\\1{\2}"),
        (rf"(\\(?:frac|binom) ?{_GROUP}){_TOKEN}", r"\1{\2}"),
        (r"(?<![\w.])([0-9]{0,20}\.[0-9]{1,20}|1(?=e)|[0-9]{1,20}(?=E))[eE]([+-]?[0-9]{1,3})"
         r"(?![\w.])", r"\1\\cdot 10^{\2}"),
        (r"(?<![\w.])([0-9]+) ([0-9]+) ?/ ?([0-9]+)(?![\w.])", r"\1\\frac{\2}{\3}"),
    )
]  # fmt: skip


def tidy(latex: str) -> str:
    r"""Remove typography and units from LaTeX; add the braces that TeX lets one leave out."""
    latex = join_thousands(latex.translate(_SIGNS))
    for pattern, new in _REWRITES:
        latex = pattern.sub(new, latex)
    return latex.lstrip(" *`=").rstrip(" .*`")


def last_boxed(text: str) -> str | None:
    r"""Return the content of the last complete ``\boxed{}`` or ``\fbox{}``, braces matched."""
    begun: list[int] = []  # where open braces' contents begin, -1 for those of no box
    last: tuple[int, int] | None = None
    for brace in re.finditer(r"(\\(?:boxed|fbox)\s*)?\{|\}", text):
        if brace[0] != "}":
            begun.append(brace.end() if brace[1] else -1)
        elif begun:
            last = max(last or (0, 0), (begun.pop(), brace.start()))
    return text[last[0] : last[1]].strip() if last and last[0] > 0 else None


_DELIMITED = r"(?:(?<!\\)\$\$?[^$]+\$\$?|\\\([^\n]{1,999}?\\\)|\\\[(?s:.{1,999}?)\\\])"
_AMOUNT = r"(?<![\w.])[-.\d][\w./]{0,30}"
REFUSED = re.compile(
    rf"(?i)(?:\bnot|n['’]t) (?:{_DELIMITED}|{_AMOUNT})"
    rf"|(?:{_DELIMITED}|{_AMOUNT}) is (?:not|wrong)\b"
)
UNDECIDED = re.compile(rf"{_AMOUNT} or {_AMOUNT}")
_FORMULAS = re.compile(rf"{_DELIMITED}(?:\s*(?:,|(?:,\s*)?(?:and|or)\b)\s*{_DELIMITED})*")
_PROSE = re.compile(
    r"\b(?:is|of|to|in|it|he|we|an|no|be|so)\b"
    r"|(?<![\\A-Za-z{])(?!(?:sin|cos|tan|log|sqrt)(?![A-Za-z]))[A-Za-z]{3,}"
)


def formula(text: str) -> str | None:
    r"""Return the formula that a text gives as its result, or None if it is prose.

    The last ``\boxed{}`` decides. Without one it is the formula between dollars behind the last
    "answer", else the last such formula, else what stands behind the last "is", "so" or "=",
    or the whole text, where that has no words.
    """
    boxed = last_boxed(text)
    if boxed is not None:
        return boxed
    text = REFUSED.sub(" ", text)
    cued = re.split(r"(?i)\banswer\b", text)[1:]
    candidates = [
        *(_FORMULAS.findall(cued[-1])[:1] if cued else []),
        *_FORMULAS.findall(text)[-1:],
        text,
        re.split(r"(?i)\b(?:is|equals|so|thus|hence|therefore)\b|[:=]", text)[-1],
    ]
    return next((c for c in candidates if c.strip() and not _PROSE.search(tidy(c))), None)


def math_score(text: str, reference: str) -> float:
    r"""Return 1 if the text's result (:func:`formula`) equals the reference, given as LaTeX.

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
    """Remove white space except between digits."""
    return re.sub(r"(?<![0-9])\s+|\s+(?![0-9])", "", latex)


def _is_words(latex: str) -> bool:
    r"""Return whether LaTeX is ``\text{}`` alone, with words or with an option in brackets."""
    inside = WRAPPED.sub(r"\1", latex)
    wrapped = re.fullmatch(rf"(?:{WRAPPED.pattern}[\s.,]*)+", latex.strip())
    return bool(wrapped and re.search(r"[A-Za-z]{2}|\([A-Z]\)", inside))


def _words(latex: str) -> str:
    """Return the words of an answer without capitals, punctuation and an article in front."""
    latex = re.sub(r"\\text\w*|\\m(?:athrm|box)|[\s.,;:!?()\\{}~]", " ", latex.lower())
    return re.sub(r"^(?:an?|the) (?=\w\w)", "", " ".join(latex.split()))


def _math_equal(reference: str, answer: str, *, prose: bool) -> bool:
    """Compare by ``math-verify``; its time limit works in the main thread only."""
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
    """Return the last expression of a text that can be parsed, as a ``sympy`` object.

    With ``prose`` the text may have words, and a bare number counts too; without, it is a formula
    between dollars. i is the imaginary unit. Raises ValueError if there is no such expression, if
    it takes more than ``seconds``, or if ``math-verify`` would misread it.
    """
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
    """Return whether results surely differ in a number that they consist of."""
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
    """Return whether two expressions differ by more than rounding, for any value of symbols."""
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
