"""The six benchmarks as data: place on the hub, schema, template, target, scorer.

The templates are zero-shot instructions in our own words. Long material comes first and the
question last, so that with the prompt at the end of the user's turn everything before it is shared.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tsp.problems.answers import final_number, only_number
from tsp.problems.formulas import last_boxed

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Benchmark:
    """One benchmark: its place on the hub, its schema, its template and its scorer.

    Attributes
    ----------
    path, configs, split
        Arguments of ``datasets.load_dataset``; rows are counted through the configs in order.
    fields
        The required fields and their JSON types.
    metric
        Name of the scorer in `tsp.problems.scoring`, or a function of the row that returns it.
    question
        Returns the user's turn for a row.
    target
        The field with the reference answer that is learned, or a function that returns it.
    answers
        Returns what the scorer compares with; by default the target.
    wrong
        Returns what is wrong with a row that has all fields, or ``""``.
    subset_field
        The field that names the row's part of the benchmark: the config on the hub, whose rows lack
        it.
    archive
        The file with the JSON lines of all configs, where the hub has the rows only packed.
    optional_text
        Fields that may hold an empty text.
    """

    path: str
    configs: tuple[str | None, ...]
    split: str
    fields: Mapping[str, type]
    metric: str | Callable[[Row], str]
    question: Callable[[Row], str]
    target: str | Callable[[Row], str]
    answers: Callable[[Row], tuple[str, ...]] | None = None
    wrong: Callable[[Row], str] = lambda row: ""
    subset_field: str = ""
    archive: str = ""
    optional_text: frozenset[str] = frozenset()

    def target_of(self, row: Row) -> str:
        """Return the reference answer of a row."""
        if isinstance(self.target, str):
            return str(row[self.target]).strip()
        return self.target(row)

    def answers_of(self, row: Row) -> tuple[str, ...]:
        """Return the answers that are right."""
        return self.answers(row) if self.answers else (self.target_of(row),)

    def metric_of(self, row: Row) -> str:
        """Return the name of the scorer of a row."""
        return self.metric if isinstance(self.metric, str) else self.metric(row)


# --- templates ----------------------------------------------------------------------------


def _ask_gsm8k(row: Row) -> str:
    return (
        f"{row['question'].strip()}\n\nSolve this step by step. "
        "End with a line that holds #### and then the final number."
    )


def _ask_mmlu(row: Row) -> str:
    options = "\n".join(f"{letter}. {row[letter].strip()}" for letter in "ABCD")
    return (
        f"{row['Question'].strip()}\n{options}\n\nReply with the letter of the right option only."
    )


def _ask_math(row: Row) -> str:
    return f"{row['problem'].strip()}\n\nSolve this and put the final answer in \\boxed{{}}."


def _ask_bbh(row: Row) -> str:
    return f"{row['input'].strip()}\n\nReply with the answer only."


def _ask_hotpotqa(row: Row) -> str:
    paragraphs = zip(row["context"]["title"], row["context"]["sentences"], strict=True)
    texts = [f"{title}: {''.join(sentences).strip()}" for title, sentences in paragraphs]
    return "\n\n".join([*texts, f"Question: {row['question'].strip()}\n{SHORT}"])


def _ask_longbench(row: Row) -> str:
    return LONGBENCH[row["dataset"]][1].format(context=row["context"], input=row["input"])


SHORT = "Answer from the text above, in as few words as possible."
_ARTICLE = f"{{context}}\n\nQuestion: {{input}}\n{SHORT}"
_SUMMARY = "{context}\n\nSummarise the text above."
_QUERY = "{context}\n\nAnswer this question about the text above in a short summary: {input}"
_EXAMPLES = "{context}\n\n{input}\n\nFinish the last entry in the manner of the ones before it."
_COUNT = (
    "{context}\n\nSome of the paragraphs above are the same. How many different paragraphs are "
    "there? Reply with the number only."
)
_RETRIEVE = (
    "{context}\n\nOne of the paragraphs above is summarised here: {input}\n"
    'Which one? Reply with its label only, such as "Paragraph 1".'
)
_CODE = "{context}{input}\n\nReply with the next line of this code only."

LONGBENCH: dict[str, tuple[str, str]] = {  # LongBench's English and code datasets
    "qasper": ("qa_f1", _ARTICLE),
    "multifieldqa_en": ("qa_f1", _ARTICLE),
    "hotpotqa": ("qa_f1", _ARTICLE),
    "2wikimqa": ("qa_f1", _ARTICLE),
    "musique": ("qa_f1", _ARTICLE),
    "narrativeqa": ("qa_f1", _ARTICLE),
    "gov_report": ("rouge_l", _SUMMARY),
    "qmsum": ("rouge_l", _QUERY),
    "multi_news": ("rouge_l", _SUMMARY),
    "trec": ("classification", _EXAMPLES),
    "triviaqa": ("few_shot_f1", _EXAMPLES),
    "samsum": ("few_shot_rouge_l", _EXAMPLES),
    "passage_count": ("count", _COUNT),
    "passage_retrieval_en": ("count", _RETRIEVE),
    "lcc": ("code_similarity", _CODE),
    "repobench-p": ("code_similarity", _CODE),
}


# --- what can be wrong --------------------------------------------------------------------


def _wrong_gsm8k(row: Row) -> str:
    number = only_number(row["answer"].partition("####")[2])
    remedy = "field 'answer' must end with #### and one number, such as 72 or 1/2"
    return "" if number is not None else remedy


def _wrong_mmlu(row: Row) -> str:
    right = row["Answer"].strip() in set("ABCD")
    return "" if right else f"field 'Answer' is '{row['Answer']}', it must be A, B, C or D"


def _wrong_math(row: Row) -> str:
    boxed = last_boxed(row["solution"])
    return "" if boxed else "field 'solution' must hold its result in \\boxed{}"


def _wrong_hotpotqa(row: Row) -> str:
    titles, paragraphs = row["context"].get("title"), row["context"].get("sentences")
    lists = _texts(titles) and isinstance(paragraphs, list) and len(titles) == len(paragraphs)
    if lists and all(
        isinstance(p, list) and all(isinstance(s, str) for s in p) for p in paragraphs
    ):
        return ""
    return "field 'context' must hold as many lists of sentences as titles"


def _wrong_longbench(row: Row) -> str:
    if row["dataset"] not in LONGBENCH:
        return f"field 'dataset' is '{row['dataset']}', it must be one of {', '.join(LONGBENCH)}"
    if not _texts(row["answers"]):
        return "field 'answers' must list texts, none of them empty"
    metric, classes = LONGBENCH[row["dataset"]][0], row.get("all_classes") or []
    if metric == "classification" and not (_texts(classes) and set(row["answers"]) <= set(classes)):
        return "field 'all_classes' must list the classes, the answers among them"
    if metric == "count" and not all(re.search("[0-9]", answer) for answer in row["answers"]):
        return "field 'answers' must hold a number"
    return ""


def _texts(value: object) -> bool:
    """Whether a value is a list of texts, at least one, none of them blank."""
    return isinstance(value, list) and value != [] and all(map(_text, value))


def _text(value: object) -> bool:
    return isinstance(value, str) and value.strip() != ""


# --- the table ----------------------------------------------------------------------------

BBH = (
    "boolean_expressions",
    "causal_judgement",
    "date_understanding",
    "disambiguation_qa",
    "dyck_languages",
    "formal_fallacies",
    "geometric_shapes",
    "hyperbaton",
    "logical_deduction_five_objects",
    "logical_deduction_seven_objects",
    "logical_deduction_three_objects",
    "movie_recommendation",
    "multistep_arithmetic_two",
    "navigate",
    "object_counting",
    "penguins_in_a_table",
    "reasoning_about_colored_objects",
    "ruin_names",
    "salient_translation_error_detection",
    "snarks",
    "sports_understanding",
    "temporal_sequences",
    "tracking_shuffled_objects_five_objects",
    "tracking_shuffled_objects_seven_objects",
    "tracking_shuffled_objects_three_objects",
    "web_of_lies",
    "word_sorting",
)
MATH = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)

CATALOGUE: dict[str, Benchmark] = {
    "gsm8k": Benchmark(
        path="openai/gsm8k",
        configs=("main",),
        split="test",
        fields={"question": str, "answer": str},
        metric="number",
        question=_ask_gsm8k,
        target="answer",
        answers=lambda row: (str(final_number(row["answer"])),),
        wrong=_wrong_gsm8k,
    ),
    "mmlu_cf": Benchmark(
        path="microsoft/MMLU-CF",
        configs=(None,),
        split="val",
        fields={"Question": str, "A": str, "B": str, "C": str, "D": str, "Answer": str},
        metric="choice",
        question=_ask_mmlu,
        target="Answer",
        wrong=_wrong_mmlu,
    ),
    "longbench": Benchmark(
        path="THUDM/LongBench",
        configs=tuple(LONGBENCH),
        split="test",
        fields={"input": str, "context": str, "answers": list, "dataset": str},
        metric=lambda row: LONGBENCH[row["dataset"]][0],
        question=_ask_longbench,
        target=lambda row: row["answers"][0],
        answers=lambda row: tuple(row["answers"]),
        wrong=_wrong_longbench,
        subset_field="dataset",
        archive="data.zip",
        optional_text=frozenset({"input"}),
    ),
    "math": Benchmark(
        path="EleutherAI/hendrycks_math",
        configs=MATH,
        split="test",
        fields={"problem": str, "level": str, "type": str, "solution": str},
        metric="math",
        question=_ask_math,
        target="solution",
        answers=lambda row: (last_boxed(row["solution"]) or "",),
        wrong=_wrong_math,
        subset_field="type",
    ),
    "bbh": Benchmark(
        path="lukaemon/bbh",
        configs=BBH,
        split="test",
        fields={"input": str, "target": str, "task": str},
        metric="bbh",
        question=_ask_bbh,
        target="target",
        subset_field="task",
    ),
    "hotpotqa": Benchmark(
        path="hotpotqa/hotpot_qa",
        configs=("distractor",),
        split="validation",
        fields={"question": str, "answer": str, "context": dict},
        metric="hotpotqa",
        question=_ask_hotpotqa,
        target="answer",
        wrong=_wrong_hotpotqa,
    ),
}
