"""Find the answer in a text: the final number or the chosen letter.

The rules follow a careful reader, and prefer missing an answer to inventing one: an option that is
negated, eliminated, taken back or put as a question is not chosen.
"""

import re
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from unicodedata import normalize

# --- numbers ------------------------------------------------------------------------------

_GAP = r",?\\[,;:! ]\s?|\{,\}|[ '’~\u00a0\u2007\u2008\u2009\u200a\u202f]"
_DIGITS = r"(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3}(?!\w))?"
_RATIO = r"(?<!/)(?:[0-9]{1,15} )?[0-9]{1,15} ?/ ?0*[1-9][0-9]{0,15}(?! ?/|[0-9]|\.[0-9])"
NUMBER = re.compile(rf"(?<![\w.)])-?[$€£¥]?(?:{_RATIO}|{_DIGITS})")
_EXPONENT = r"\s?\^\s?[{(]?[-+]?[0-9]+[)}]?|(?<=\w)\*\*[0-9]+(?![0-9*])|[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+"
POWER = re.compile(rf"(?:\b[0-9.]{{1,20}})?(?:{_EXPONENT})")

# U+FFFD stands for a character of which not all bytes are decoded yet.
_MARKED_LINE = re.compile(r"####[^\n\\^]*(?=\n[^^\ufffd])")


def join_thousands(text: str, *, comma: bool = False) -> str:
    r"""Remove what separates groups of three digits: spaces, apostrophes, ``\,``, ``{,}``."""
    gap = rf"{_GAP}|[,_]" if comma else _GAP
    groups = rf"(?<![\w.,])[0-9]{{1,3}}({gap})[0-9]{{3}}(?:\1[0-9]{{3}})*(?![0-9])"
    return re.sub(groups, lambda match: match[0].replace(match[1], ""), text)


def _numeral(text: str) -> str:
    """Write minus signs, fractions and thousands plainly; remove the exponents of units."""
    text = re.sub(r"[−–](?=[$€£¥]?[.0-9])", "-", text)
    text = re.sub(r"([$€£¥])-", r"-\1", text)
    text = re.sub("[¼-¾⅐-⅞]", lambda sign: f" {normalize('NFKC', sign[0])}", text)
    return join_thousands(POWER.sub(" ", text.replace("\u2044", "/")), comma=True)


def _value(number: str) -> Decimal | Fraction:
    """Return the value of a match of :data:`NUMBER`."""
    number = re.sub(r"[$€£¥]", "", number)
    if "/" not in number:
        return Decimal(number)
    *whole, top, bottom = map(int, re.split(r"[ /]+", number.lstrip("-")))
    size = sum(whole) + Fraction(top, bottom)
    return -size if number.startswith("-") else size


def final_number(text: str) -> Decimal | Fraction | None:
    """Return GSM8K's final number: the first one after ``####``, else the last one in the text.

    As in Cobbe et al., ``####`` with no number behind it is no answer. The last number is the
    fallback that evaluation harnesses call "flexible". A plain fraction is one number. Separators
    of thousands, signs of currencies and the exponents of units do not count; a minus counts when
    it touches the number and nothing stands before it, so ``10-3`` ends in 3.

    Examples
    --------
    >>> final_number("She pays 3 * 4 = 12 dollars.\\n#### 1,200.50"), final_number("#### 1/2")
    (Decimal('1200.50'), Fraction(1, 2))
    """
    before, marker, after = _numeral(text).partition("####")
    numbers = NUMBER.findall(after if marker else before)
    return _value(numbers[0 if marker else -1]) if numbers else None


def is_final(text: str) -> bool:
    """Return whether no continuation of a text changes its :func:`final_number`.

    The line with ``####`` holds a number and has ended. Where it has a backslash or a circumflex,
    or the next line begins with one, more of the number or its exponent may follow.

    Examples
    --------
    >>> is_final("#### 12"), is_final("#### 12\\n"), is_final("#### 12\\nSo")
    (False, False, True)
    """
    line = _MARKED_LINE.search(text)
    return line is not None and final_number(line[0]) is not None


def only_number(text: str) -> Decimal | Fraction | None:
    """Return the number or fraction of a text that holds one and at most a unit besides."""
    text = _numeral(text)
    numbers, rest = NUMBER.findall(text), NUMBER.sub(" ", text)
    unit = re.fullmatch(r"(?:[\s%.,]|[^\W\d]|(?<=[^\W\d])/(?=[^\W\d]))*", rest)
    return _value(numbers[0]) if len(numbers) == 1 and unit else None


# --- letters ------------------------------------------------------------------------------

WRAPPED = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|up|normal)?|math(?:rm|bf|it|sf|tt|normal)|mbox|hbox|boldsymbol|bm)"
    r"\s*\{([^{}]*)\}"
)
_BE = r"(?:is|are|was|were|seems?|looks?|sounds?)"
_WRONG = r"(?:not|out|wrong|incorrect|false|eliminated|excluded|impossible|ruled|rejected|unlikely)"
_RIGHT = r"(?:correct|right|true|best|answer|choice|option|one)"
_SAY = r"(?:think|believe|guess|say|choose|pick|select|go with|opt for)"
_IS = r"(?:it|this|that)(?:['’]s| is| must be| should be| has to be)"
_NOT = (
    r"\b(?:not (?:certain|sure|clear|convinced) (?:that|whether|if)"
    r"|not(?! only)|cannot|\w+n['’]t|never|neither|none of|if|whether|rather than|instead of|unlike"
    r"|except|(?<!no )doubt(?:s|ed|ful)?|(?:eliminat|exclud|reject|discard|dismiss|suppos|assum)\w*"
    r"|(?:rul(?:e[sd]?|ing)|cross(?:ed|ing)?) out)\b"
    r"(?:\s+(?!(?:but|so|and|then|hence|because|since|or)\b)[\w'’]+){0,4}?\s+"
)
_IS_NOT = (
    rf"[.)\]]?\s+(?:(?:{_BE}|(?:can|must|should) be|ha(?:s|ve) been)\s+"
    rf"(?:(?!{_RIGHT}|the\b)\w+\s+){{0,2}}?{_WRONG}\b|(?:is|are|was|were|do|does|did|wo)n['’]t\b"
    r"|(?:do|does|did|would|could) not\b|can(?:not|['’]t) be (?:right|correct|true|it|the)\b"
    r"|fails?\b)"
)
_STATED = (
    r"(?:\banswer(?:\s+[\w'’]+){0,4}?\s+(?:is|must be|should be|has to be|seems to be)\b"
    r"|\b(?:answers?(?: choice| option)?\b|ans\b\.?|(?:choice|option)(?=\s*:))"
    rf"|\b(?:I(?:['’]?d|['’]ll| would| will)?(?: \w+)? )?{_SAY}\b(?: that\b)?(?: {_IS})?"
    r"|\bmy (?:guess|choice|pick) is\b|\b(?:it|this|that) (?:must|should|has to) be\b"
    r"|\bleav(?:es|ing)\b"
    r"|(?:^|[.?!;,…—–-])\s*(?:no|yes|actually|sorry|oops|I mean|hmm+)\b[\s,:.…—–-]*"
    rf"(?:{_IS}|make (?:it|that))?"
    r")[\s:=,~–—-]*(?:(?:but|rather|instead|clearly|definitely|probably|likely|most likely|simply"
    r"|just|the|option|choice|letter)\b[\s:,~]*)*"
)
_HINTED = (
    r"(?:^|[.?!\n:]|['’]s|\b(?:is|be|so|therefore|thus|hence|but|in|with|chose|picked"
    r"|clearly|definitely|probably|likely)[,:]?)\s+"
)
_TAKEN_BACK = (
    r"\b(?:wait(?=\s*[,.!:;…—–]|\s+no\b|\s*$)|scratch that|correction|on second thoughts?"
    r"|never ?mind|take (?:that|it) back|I was wrong"
    r"|that(?:['’]s| is| was) (?:wrong|incorrect|not (?:right|correct)))\b"
)


@lru_cache
def _patterns(letters: str) -> dict[str, re.Pattern[str]]:
    """Compile what rejects, states, opens with or hints at one of the options."""
    both = f"{letters}{letters.lower()}"
    capital, either = f"[{letters}]", f"[{both}]"
    bracketed = rf"(?<!\w)[(\[]\s*{either}\s*[)\]]"
    end = r"\s*(?:$|[.:;!?,)\]\n~]|[-–—]\s)|\s+(?:because|since|as)\b"
    then = rf"(?:(?<=[)\]])|(?={end}))"
    sure = rf"\s+(?:{_BE}|must be|has to be)\s+(?:\w+\s+){{0,3}}?{_RIGHT}\b(?![-'’])"
    joint = r"\s*(?:[,/&]\s*|(?:,\s*)?\b(?:or|and|nor)\b\s*)(?:(?:option|choice)\s+)?"

    def listed(letter: str, then: str) -> str:
        item = rf"(?:{bracketed}|(?<![\w'’]){letter}(?![\w'’]))"
        return rf"({item}(?:{joint}{item}){{0,25}}){then}"

    patterns = {
        "rejected": rf"(?i:{_NOT})(?:(?i:option|choice|letter)s?\s+)?{listed(capital, '')}"
        rf"|{listed(capital, f'(?={_IS_NOT})')}",
        "stated": rf"(?i:{_STATED}){listed(either, then)}|{listed(capital, f'(?={sure})')}",
        "opening": r"(?!I,)(?i:option |choice )?"
        rf"(?:{listed(capital, then)}|([{letters.lower()}])[).:](?!\S))",
        "hinted": rf"({bracketed})|(?i:{_HINTED})({capital})(?={end})",
        "alone": rf"(?:(?i:option|choice) )?[(\[]* ?({either})[ )\].:;!?,]*",
    }
    return {name: re.compile(pattern) for name, pattern in patterns.items()}


def choice_letter(text: str, *, letters: str = "ABCD") -> str | None:
    r"""Return the one of ``letters`` that a text chooses, or None where that is not clear.

    Options that are negated, eliminated, taken back or put as a question are left out. Then
    these are tried in order: the last explicit statement ("the answer is B", "Answer: (b) Paris",
    "I choose B", "B is correct", ``\boxed{B}``); an option that opens the text ("B", "(b) Paris",
    "B. Paris"); the only option in brackets or behind a hint ("So it's B."). Letters are capital
    but in brackets and behind "answer". A bare letter followed by a word is not a choice, so the
    article in "A train leaves" is none; nor are alternatives ("B or C").

    Examples
    --------
    >>> choice_letter("The answer is not (A) but (B)."), choice_letter("A train leaves at 9.")
    ('B', None)
    """
    text, patterns = _plain_statements(text), _patterns(letters)
    if alone := patterns["alone"].fullmatch(text):
        return alone[1].upper()
    text = patterns["rejected"].sub("~", text)
    stated, opening = list(patterns["stated"].finditer(text)), patterns["opening"].match(text)
    matches = stated[-1:] or ([opening] if opening else patterns["hinted"].finditer(text))
    named = (next(filter(None, match.groups())) for match in matches)
    chosen = {letter.upper() for n in named for letter in re.findall(r"(?<!\w)[A-Za-z](?!\w)", n)}
    return chosen.pop() if len(chosen) == 1 else None


def _plain_statements(text: str) -> str:
    """Remove typography, questions, and what stands before something is taken back."""
    text = "\n".join(filter(None, (" ".join(line.split()) for line in text.splitlines())))
    text = re.sub(r"~~[^~]*~~|[*_`$\"“”]|\\[()\[\]]", "", WRAPPED.sub(r"\1", text))
    text = re.sub(r"\\(?:boxed|fbox)\s*\{([^{}]*)\}", r" answer is \1. ", text)
    text = re.sub(r"(?<!\w)['‘](\w)['’]|\{(\w)\}", r"\1\2", text)
    text = re.sub(r"^A:\s+(?=[(\[]\w[)\]]|[A-Z](?!\s*[\w'’]))", "", text)  # "A" for "answer"
    text = re.split(rf"(?i){_TAKEN_BACK}", text)[-1].strip(" \t\r\n,.:;…—–-")
    *sentences, last = re.split(r"(?<=[.?!\n])", text)
    last = last or (sentences.pop() if sentences else "")
    return "".join([s for s in sentences if not s.endswith("?")] + [last]).strip()
