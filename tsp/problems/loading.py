"""Load problems from the package, a folder or the hub, and score answers."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import ZipFile

from tsp.errors import InputError
from tsp.paths import data_dir
from tsp.problems import hub, scoring
from tsp.problems.catalogue import CATALOGUE, Benchmark, Row

TASKS: tuple[str, ...] = tuple(CATALOGUE)
REGIMES = {"single": 1, "multi": 10}  # problems in each of the paper's regimes (section 4.2)
POOL = 20  # problems, at least, among which a wrong answer is looked for
KINDS: dict[type, str] = {str: "a text", list: "a list", dict: "an object"}


@dataclass(frozen=True)
class Problem:
    """One problem, ready to be asked.

    Attributes
    ----------
    task
        One of :data:`TASKS`.
    question
        The whole text of the user's turn, template applied.
    target
        The reference answer that a prompt is trained on, without an end token.
    answers
        What the scorer compares with; any one of them is right.
    metric
        The scorer, a name that :func:`tsp.problems.scoring.score_text` knows.
    source
        ``"shipped"``, ``"local"`` or ``"hub"``.
    row
        The row in the source, from 0, within the subset where the hub has several; a record's own
        ``_source_index`` where it carries one.
    sha256
        Hash of the record as canonical JSON, keys that start with ``_`` left out: the same
        problem has the same hash wherever it came from.
    subset
        The part of the benchmark: a BBH task, a LongBench dataset, a MATH subject.
    classes
        All class names, for LongBench's classification.
    """

    task: str
    question: str
    target: str
    answers: tuple[str, ...]
    metric: str
    source: str
    row: int
    sha256: str
    subset: str = ""
    classes: tuple[str, ...] = ()


class Found(NamedTuple):
    """A record and where it was item."""

    place: str  # for error messages: a file and line, or a dataset and row
    row: int
    record: Row


def load_problems(
    task: str,
    *,
    data: str | Path = "shipped",
    regime: str = "single",
    problem: int = 0,
    wrong_answers: bool = False,
) -> list[Problem]:
    """Load the problems of one run, with their template applied.

    Parameters
    ----------
    task
        One of :data:`TASKS`.
    data
        ``"shipped"``, ``"hub"``, or a folder that holds ``TASK.jsonl``.
    regime
        ``"single"`` for one problem, ``"multi"`` for ten.
    problem
        The first problem's place in the file, from 0.
    wrong_answers
        Replace each reference by that of the next problem in the file (after the last comes the
        first) whose reference is wrong here.

    Returns
    -------
    list of Problem
        One or ten, in the order of the file.

    Raises
    ------
    InputError
        For an unknown name, a file that cannot be read, a line that is not a valid problem (with
        its number), or a problem beyond the last.

    Examples
    --------
    >>> load_problems("mmlu_cf")[0].target
    'C'
    """
    _check_choice("task", task, TASKS)
    _check_choice("regime", regime, tuple(REGIMES))
    if isinstance(problem, bool) or not isinstance(problem, int) or problem < 0:
        raise InputError("problem", problem, "give a whole number of at least 0")
    source = data if data in ("shipped", "hub") else "local"
    chosen = _select(_records(task, data), start=problem, count=REGIMES[regime], task=task)
    problems = [_problem(task, item, source=str(source)) for item in chosen]
    if not wrong_answers:
        return problems
    others = islice(_records(task, data), problem + 2 * POOL)
    pool = [_problem(task, item, source=str(source)) for item in others]
    return [_with_wrong_answer(one, pool, problem + k + 1) for k, one in enumerate(problems)]


def _records(task: str, data: str | Path) -> Iterator[Found]:
    return _hub_records(task) if data == "hub" else _file_records(_file(task, data))


def _with_wrong_answer(problem: Problem, pool: list[Problem], start: int) -> Problem:
    """Give a problem the reference and scorer of the next in the pool that is wrong for it."""
    for k in range(len(pool)):
        other = pool[(start + k) % len(pool)]
        if not is_correct(problem, other.target):
            fields = ("target", "answers", "metric", "classes")
            return replace(problem, **{name: getattr(other, name) for name in fields})
    raise InputError("wrong_answers", True, "all problems of the file have the same answer")


def score(problem: Problem, text: str) -> float:
    """Return the score of a text in [0, 1], by the benchmark's scorer."""
    return scoring.score_text(
        problem.metric, text, answers=problem.answers, classes=problem.classes
    )


def is_correct(problem: Problem, text: str) -> bool:
    """Return whether a text solves the problem: score 1, and for HotpotQA an exact match."""
    return scoring.is_right(problem.metric, text, answers=problem.answers, classes=problem.classes)


def record_hash(record: Row) -> str:
    """Return the SHA-256 of a record as canonical JSON, without keys that start with ``_``.

    Examples
    --------
    >>> record_hash({"b": 1, "a": 2, "_source_index": 7}) == record_hash({"a": 2, "b": 1})
    True
    """
    content = {key: value for key, value in record.items() if not key.startswith("_")}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


# --- choosing -----------------------------------------------------------------------------


def _check_choice(name: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(name, value, f"choose one of {', '.join(known)}")


def _select(items: Iterable[Found], *, start: int, count: int, task: str) -> list[Found]:
    """Return records ``start`` to ``start + count - 1``; no later record is read."""
    chosen, total = [], 0
    for total, item in enumerate(islice(items, start + count), 1):
        if total > start:
            chosen.append(item)
    if len(chosen) < count:
        there = "there is 1" if total == 1 else f"there are {total}"
        last = total - count
        remedy = f"give 0 to {last}" if last >= 0 else f"too few for a run of {count}"
        plural = "" if total == 1 else "s"
        raise InputError("problem", start, f"{there} {task} problem{plural}, {remedy}")
    return chosen


def _problem(task: str, item: Found, *, source: str) -> Problem:
    """Check a record and apply the template."""
    benchmark, record = CATALOGUE[task], item.record
    _check_record(task, item)
    own_row, classes = record.get("_source_index"), record.get("all_classes")
    return Problem(
        task=task,
        question=benchmark.question(record),
        target=benchmark.target_of(record),
        answers=benchmark.answers_of(record),
        metric=benchmark.metric_of(record),
        source=source,
        row=own_row if type(own_row) is int and 0 <= own_row < 2**63 else item.row,
        sha256=record_hash(record),
        subset=str(record.get(benchmark.subset_field, "")),
        classes=tuple(classes) if isinstance(classes, list) else (),
    )


def _check_record(task: str, item: Found) -> None:
    """Raise if a record lacks what the benchmark needs, naming the place and the field."""
    benchmark = CATALOGUE[task]
    for name, kind in benchmark.fields.items():
        if name not in item.record:
            needed = ", ".join(benchmark.fields)
            raise InputError("data", item.place, f"lacks field '{name}'; {task} needs {needed}")
        value = item.record[name]
        if not isinstance(value, kind):
            raise InputError("data", item.place, f"field '{name}' must be {KINDS[kind]}")
        empty = not (value.strip() if isinstance(value, str) else value)
        if empty and name not in benchmark.optional_text:
            raise InputError("data", item.place, f"field '{name}' is empty, fill it in")
    wrong = benchmark.wrong(item.record)
    if wrong:
        raise InputError("data", item.place, wrong)


# --- files --------------------------------------------------------------------------------


def _file(task: str, data: str | Path) -> Path:
    """Return the JSONL file of a task: the package's, or the one in the user's folder."""
    folder = data_dir("problems") if data == "shipped" else Path(os.path.expanduser(data))
    if os.path.isfile(folder):
        raise InputError("data", data, f"is a file; give the folder that holds {task}.jsonl")
    if not os.path.isdir(folder):
        raise InputError("data", data, "no such folder; give shipped, hub or a folder")
    path = folder / f"{task}.jsonl"
    if not path.is_file():
        there = ", ".join(sorted(p.name for p in folder.glob("*.jsonl"))) or "no .jsonl file"
        raise InputError("data", data, f"holds no {task}.jsonl ({there} there)")
    return path


def _file_records(path: Path) -> Iterator[Found]:
    """Yield the records of a JSONL file."""
    try:
        with path.open("rb") as lines:
            yield from _line_records(lines, path)
    except OSError as error:
        raise InputError("data", path, f"cannot be read ({error.strerror})") from error


def _line_records(lines: Iterable[bytes], path: Path) -> Iterator[Found]:
    """Yield one record a line; blank lines may only stand at the end."""
    blank = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            blank = blank or number
        elif blank:
            raise InputError("data", f"{path}:{blank}", "a blank line, remove it")
        else:
            yield Found(f"{path}:{number}", number - 1, _parse(line, f"{path}:{number}"))


def _parse(line: bytes, place: str) -> Row:
    try:
        record = json.loads(line.decode("utf-8-sig"))  # a file from Windows may start with a mark
        json.dumps(record, ensure_ascii=False).encode()  # fails for half a surrogate pair
    except json.JSONDecodeError as error:
        why = f"{error.msg} at column {error.colno}"
        raise InputError("data", place, f"is not JSON: {why}; write one object a line") from error
    except UnicodeDecodeError as error:
        raise InputError("data", place, f"is not UTF-8 at its byte {error.start}") from error
    except (RecursionError, ValueError) as error:
        raise InputError("data", place, f"cannot be read: {str(error)[:80]}") from error
    if not isinstance(record, dict):
        raise InputError("data", place, "is not a JSON object; write one object a line")
    return record


# --- the hub ------------------------------------------------------------------------------


def _hub_records(task: str) -> Iterator[Found]:
    """Yield the rows of a benchmark on the Hugging Face hub, config by config."""
    benchmark = CATALOGUE[task]
    for config in benchmark.configs:
        name = f"{benchmark.path} {config or ''}".strip()
        for row, record in enumerate(_hub_config(task, benchmark, config=config)):
            if benchmark.subset_field and config:
                record.setdefault(benchmark.subset_field, config)
            yield Found(f"{name} row {row}", row, record)


def _hub_config(task: str, benchmark: Benchmark, *, config: str | None) -> Iterable[dict[str, Any]]:
    """Load one config of a benchmark, or raise with what to use instead."""
    try:
        return _load_config(benchmark, config=config)
    except Exception as error:  # the hub's libraries raise errors of many unrelated families
        why = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"[:160]
        if isinstance(error, (ConnectionError, FileNotFoundError)) and not hub.reachable():
            why = "the hub does not answer and it is not in the local cache"
        raise InputError(
            "data",
            "hub",
            f"{benchmark.path} cannot be loaded ({why}); instead take the shipped problems "
            f"(--data shipped) or a folder with {task}.jsonl (--data DIR)",
        ) from error


def _load_config(benchmark: Benchmark, *, config: str | None) -> Iterable[dict[str, Any]]:
    """Load one config; a dataset with a loading script from the hub's Parquet conversion."""
    import datasets
    import huggingface_hub

    if not hub.reachable():  # look in the cache at once instead of trying for half a minute
        datasets.config.HF_HUB_OFFLINE = huggingface_hub.constants.HF_HUB_OFFLINE = True
    if benchmark.archive:
        return _packed_rows(benchmark, config=config)
    try:
        return datasets.load_dataset(benchmark.path, config, split=benchmark.split)
    except RuntimeError as error:
        if "scripts are no longer supported" not in str(error):
            raise
    branch = f"hf://datasets/{benchmark.path}@refs%2Fconvert%2Fparquet"
    files = f"{branch}/{config or 'default'}/{benchmark.split}/*.parquet"
    return datasets.load_dataset("parquet", data_files=files, split="train")


def _packed_rows(benchmark: Benchmark, *, config: str | None) -> list[dict[str, Any]]:
    """Return the rows of a config that the hub holds only as JSON lines in a zip file."""
    from huggingface_hub import hf_hub_download

    path = Path(hf_hub_download(benchmark.path, benchmark.archive, repo_type="dataset"))
    with ZipFile(path) as packed, packed.open(f"data/{config}.jsonl") as lines:
        return [dict(item.record) for item in _line_records(lines, path)]
