"""Score answers: the usual scorer of each benchmark, as one small function each.

Every scorer takes the model's text and one reference and returns a number in [0, 1]; 1 means right.

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
from collections import Counter
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from itertools import pairwise

from tsp.problems.answers import WRAPPED, choice_letter, final_number, is_final, join_thousands
from tsp.problems.formulas import last_boxed, math_score

Scorer = Callable[[str, str], float]
BBH_CUE = (
    r"(?i)\banswer(?:\s+(?:is|would be|must be))?\s*[:=]"
    r"|\banswer\s+(?:is|would be|must be)\b|^\s*A:"
)


def number_score(text: str, reference: str) -> float:
    """Return 1 if the final numbers are equal as numbers (72, 72.0 and $72 are)."""
    wanted = final_number(reference)
    return float(wanted is not None and final_number(text) == wanted)


def choice_score(text: str, reference: str) -> float:
    """Return 1 if the text chooses the reference letter among A to D."""
    return float(choice_letter(text) == reference.strip())


def bbh_score(text: str, reference: str) -> float:
    """Return 1 if the answer is the reference, as in BBH's exact match.

    As in Suzgun et al., what follows the last "the answer is" is the answer, else the whole text.
    Case, white space, quotes, emphasis and a full stop at the end do not count. Where the
    reference is an option, "(A)", the chosen letter is compared, so "A" and "(A) 01/02/1999" do.
    """
    if re.fullmatch(r"\([A-Z]\)", reference.strip()):
        return float(choice_letter(text, letters=string.ascii_uppercase) == reference.strip()[1])
    cued = re.split(BBH_CUE, text)[-1]
    heads = [text, last_boxed(text) or cued, re.split(r"\n|,? (?:because|since|as) ", cued)[0]]
    return float(_plain(reference) in map(_plain, heads))


def _plain(text: str) -> str:
    text = join_thousands(WRAPPED.sub(r"\1", text).lower().replace("−", "-"), comma=True)
    return " ".join(text.split()).strip("\"'*` ").rstrip(".!").strip("\"'*` ")


def normalize_answer(text: str) -> str:
    """Return SQuAD's normal form: lower case, no punctuation, no articles, single spaces."""
    bare = "".join(c for c in text.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(?:a|an|the)\b", " ", bare).split())


def exact_match(text: str, reference: str) -> float:
    """Return 1 if both have the same normal form (HotpotQA's and SQuAD's EM)."""
    return float(normalize_answer(text) == normalize_answer(reference))


def qa_f1(text: str, reference: str) -> float:
    """Return F1 over the words of the normal forms, counted with multiplicity (SQuAD, LongBench).

    Equal normal forms give 1 even where they are empty; the official scripts give 0.
    """
    given, wanted = normalize_answer(text).split(), normalize_answer(reference).split()
    if given == wanted:
        return 1.0
    same = (Counter(given) & Counter(wanted)).total()
    return 2 * same / (len(given) + len(wanted))


def hotpotqa_f1(text: str, reference: str) -> float:
    """Return HotpotQA's F1: :func:`qa_f1`, but yes, no and noanswer count only when alone."""
    forms = {normalize_answer(text), normalize_answer(reference)}
    return 0.0 if len(forms) == 2 and {"yes", "no", "noanswer"} & forms else qa_f1(text, reference)


def common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence."""
    lengths = [0] * (len(second) + 1)
    for item in first:
        row = [0]
        for (left, above), other in zip(pairwise(lengths), second, strict=True):
            row.append(left + 1 if item == other else max(row[-1], above))
        lengths = row
    return lengths[-1]


def rouge_l(text: str, reference: str) -> float:
    """Return ROUGE-L: the F1 of the longest common subsequence of words, over the whole text.

    LongBench calls the ``rouge`` package, which splits texts at full stops, unites subsequences
    over sentences and counts a repeated word once: "a a a a" against "a" gives 1.0 there and 0.4
    here, "the cat sat on the mat" against "the cat is on the mat" 0.80 there and 0.83 here.
    """
    given, wanted = text.split(), reference.split()
    if not given or not wanted:
        return float(given == wanted)
    return 2 * common_subsequence(given, wanted) / (len(given) + len(wanted))


def classification_score(text: str, reference: str, classes: Sequence[str]) -> float:
    """Return one over the number of classes the first line names, if the reference is among them.

    As in LongBench, a class whose name is part of the reference's name does not count.
    """
    line = first_line(text)
    named = {c for c in classes if c in line and (c == reference or c not in reference)}
    return 1 / len(named) if reference in named else 0.0


def count_score(text: str, reference: str) -> float:
    """Return the share of a text's numbers that equal the reference's (LongBench's counts)."""
    wanted = re.findall(r"[0-9]+", reference)[:1]
    numbers = re.findall(r"[0-9]+", text)
    return sum([n] == wanted for n in numbers) / len(numbers) if numbers else 0.0


def code_similarity(text: str, reference: str) -> float:
    """Return the edit similarity of the first line that is code (LongBench's code completion).

    As there, lines with a backtick, ``#`` or ``//`` are passed over; unlike there the similarity
    is not rounded to a per cent, so 1 means equal.
    """
    if text.strip("\n") == reference.strip("\n"):
        return 1.0
    lines = text.lstrip("\n").split("\n")
    line = next((x for x in lines if not re.search(r"[`#]|//", x)), "")
    return SequenceMatcher(None, line, reference).ratio()


def first_line(text: str) -> str:
    """Return the first line that is not empty: LongBench cuts few-shot answers there."""
    return text.lstrip("\n").split("\n")[0]


SCORERS: dict[str, Scorer] = {
    "number": number_score,
    "choice": choice_score,
    "math": math_score,
    "bbh": bbh_score,
    "hotpotqa": hotpotqa_f1,
    "qa_f1": qa_f1,
    "few_shot_f1": lambda text, reference: qa_f1(first_line(text), reference),
    "rouge_l": rouge_l,
    "few_shot_rouge_l": lambda text, reference: rouge_l(first_line(text), reference),
    "count": count_score,
    "code_similarity": code_similarity,
}
"""The scorers by name; "classification" also needs the classes and is not among them."""


def _has_line(text: str) -> bool:
    return "\n" in text.lstrip("\n")


DECIDED: dict[str, Callable[[str], bool]] = {
    "number": is_final,
    **dict.fromkeys(("few_shot_f1", "few_shot_rouge_l", "classification"), _has_line),
}
"""Whether no continuation of a text changes its score. The other scorers read a text to its end."""
