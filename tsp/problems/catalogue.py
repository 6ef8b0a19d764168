"""The six benchmarks as data: place on the hub, fields, template, reference answer, scorer.

The templates are zero-shot instructions in our own words. Long material comes first and the
question last, so that with the prompt at the end of the user's turn everything before it is shared.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from tsp.problems.answers import final_number, only_number
from tsp.problems.formulas import last_boxed

Row = Mapping[str, Any]


class Item(NamedTuple):
    """What a row of a benchmark asks, and how an answer to it is scored."""

    question: str  # the user's turn
    target: str  # the reference answer that is learned
    metric: str  # a scorer of `tsp.problems.scoring`
    answers: tuple[str, ...] = ()  # what the scorer compares with; by default the target


@dataclass(frozen=True)
class Benchmark:
    """One benchmark: its place on the hub, its fields, and how its rows are read."""

    path: str  # the dataset on the hub
    configs: tuple[str | None, ...]  # rows are counted through the configs in order
    split: str
    fields: Mapping[str, type]  # the required fields and their JSON types
    read: Callable[[Row], Item]  # raises a ValueError that names a wrong field
    subset_field: str = ""  # names the row's config; the hub's rows lack it
    archive: str = ""  # the zip file with the JSON lines, where the hub has no plain rows
    may_be_empty: str = ""  # a field that may hold an empty text


def _gsm8k(row: Row) -> Item:
    if only_number(row["answer"].partition("####")[2]) is None:
        raise ValueError("field 'answer' must end with #### and one number, such as 72 or 1/2")
    question = (
        f"{row['question'].strip()}\n\nSolve this step by step. "
        "End with a line that holds #### and then the final number."
    )
    return Item(question, row["answer"].strip(), "number", (str(final_number(row["answer"])),))


def _mmlu_cf(row: Row) -> Item:
    answer = row["Answer"].strip()
    if answer not in set("ABCD"):
        raise ValueError(f"field 'Answer' is '{row['Answer']}', it must be A, B, C or D")
    options = "\n".join(f"{letter}. {row[letter].strip()}" for letter in "ABCD")
    reply = "Reply with the letter of the right option only."
    return Item(f"{row['Question'].strip()}\n{options}\n\n{reply}", answer, "choice")


def _math(row: Row) -> Item:
    result = last_boxed(row["solution"])
    if not result:
        raise ValueError("field 'solution' must hold its result in \\boxed{}")
    question = f"{row['problem'].strip()}\n\nSolve this and put the final answer in \\boxed{{}}."
    return Item(question, row["solution"].strip(), "math", (result,))


def _bbh(row: Row) -> Item:
    question = f"{row['input'].strip()}\n\nReply with the answer only."
    return Item(question, row["target"].strip(), "bbh")


SHORT = "Answer from the text above, in as few words as possible."


def _hotpotqa(row: Row) -> Item:
    titles, paragraphs = row["context"].get("title"), row["context"].get("sentences")
    if not (
        _are_texts(titles)
        and isinstance(paragraphs, list)
        and len(titles) == len(paragraphs)
        and all(isinstance(p, list) and all(isinstance(s, str) for s in p) for p in paragraphs)
    ):
        raise ValueError("field 'context' must hold as many lists of sentences as titles")
    pairs = zip(titles, paragraphs, strict=True)
    texts = [f"{title}: {''.join(sentences).strip()}" for title, sentences in pairs]
    question = "\n\n".join([*texts, f"Question: {row['question'].strip()}\n{SHORT}"])
    return Item(question, row["answer"].strip(), "hotpotqa")


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


def _longbench(row: Row) -> Item:
    if row["dataset"] not in LONGBENCH:
        known = ", ".join(LONGBENCH)
        raise ValueError(f"field 'dataset' is '{row['dataset']}', it must be one of {known}")
    metric, template = LONGBENCH[row["dataset"]]
    answers, classes = row["answers"], row.get("all_classes") or []
    if not _are_texts(answers):
        raise ValueError("field 'answers' must list texts, none of them empty")
    if metric == "classification" and not (_are_texts(classes) and set(answers) <= set(classes)):
        raise ValueError("field 'all_classes' must list the classes, the answers among them")
    if metric == "count" and not all(re.search("[0-9]", answer) for answer in answers):
        raise ValueError("field 'answers' must hold a number")
    question = template.format(context=row["context"], input=row["input"])
    return Item(question, answers[0], metric, tuple(answers))


def _are_texts(value: Any) -> bool:
    """Return whether a value is a list of texts, at least one, none of them blank."""
    return (
        isinstance(value, list)
        and value != []
        and all(isinstance(text, str) and text.strip() for text in value)
    )


BBH = (
    "boolean_expressions", "causal_judgement", "date_understanding", "disambiguation_qa",
    "dyck_languages", "formal_fallacies", "geometric_shapes", "hyperbaton",
    "logical_deduction_five_objects", "logical_deduction_seven_objects",
    "logical_deduction_three_objects", "movie_recommendation", "multistep_arithmetic_two",
    "navigate", "object_counting", "penguins_in_a_table", "reasoning_about_colored_objects",
    "ruin_names", "salient_translation_error_detection", "snarks", "sports_understanding",
    "temporal_sequences", "tracking_shuffled_objects_five_objects",
    "tracking_shuffled_objects_seven_objects", "tracking_shuffled_objects_three_objects",
    "web_of_lies", "word_sorting",
)  # fmt: skip
MATH = (
    "algebra", "counting_and_probability", "geometry", "intermediate_algebra", "number_theory",
    "prealgebra", "precalculus",
)  # fmt: skip

CATALOGUE: dict[str, Benchmark] = {
    "gsm8k": Benchmark(
        path="openai/gsm8k",
        configs=("main",),
        split="test",
        fields={"question": str, "answer": str},
        read=_gsm8k,
    ),
    "mmlu_cf": Benchmark(
        path="microsoft/MMLU-CF",
        configs=(None,),
        split="val",
        fields={"Question": str, "A": str, "B": str, "C": str, "D": str, "Answer": str},
        read=_mmlu_cf,
    ),
    "longbench": Benchmark(
        path="THUDM/LongBench",
        configs=tuple(LONGBENCH),
        split="test",
        fields={"input": str, "context": str, "answers": list, "dataset": str},
        read=_longbench,
        subset_field="dataset",
        archive="data.zip",
        may_be_empty="input",
    ),
    "math": Benchmark(
        path="EleutherAI/hendrycks_math",
        configs=MATH,
        split="test",
        fields={"problem": str, "level": str, "type": str, "solution": str},
        read=_math,
        subset_field="type",
    ),
    "bbh": Benchmark(
        path="lukaemon/bbh",
        configs=BBH,
        split="test",
        fields={"input": str, "target": str, "task": str},
        read=_bbh,
        subset_field="task",
    ),
    "hotpotqa": Benchmark(
        path="hotpotqa/hotpot_qa",
        configs=("distractor",),
        split="validation",
        fields={"question": str, "answer": str, "context": dict},
        read=_hotpotqa,
    ),
}
