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
from tsp.problems import hub
from tsp.problems.catalogue import CATALOGUE, Benchmark, Row
from tsp.problems.scoring import SCORERS, classification_score, exact_match

TASKS: tuple[str, ...] = tuple(CATALOGUE)
REGIMES = {"single": 1, "multi": 10}  # problems in each of the paper's regimes (section 4.2)
POOL = 20  # problems, at least, among which a wrong answer is looked for
KINDS: dict[type, str] = {str: "a text", list: "a list", dict: "an object"}


@dataclass(frozen=True)
class Problem:
    """One problem, ready to be asked."""

    task: str
    question: str  # the whole text of the user's turn, template applied
    target: str  # the reference answer that a prompt is trained on, without an end token
    answers: tuple[str, ...]  # what the scorer compares with; any one of them is right
    metric: str  # a key of `tsp.problems.scoring.SCORERS`, or "classification"
    source: str  # "shipped", "local" or "hub"
    row: int  # in the source's subset, from 0; a record's own ``_source_index`` where it has one
    sha256: str  # `record_hash`, the same wherever the problem came from
    subset: str = ""  # the part of the benchmark: a BBH task, a LongBench dataset, a MATH subject
    classes: tuple[str, ...] = ()  # all class names, for LongBench's classification


class Record(NamedTuple):
    """A record of a benchmark and its place in the source."""

    place: str  # for error messages: a file and line, or a dataset and row
    row: int
    content: Row


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
    for name, value, choices in (("task", task, TASKS), ("regime", regime, tuple(REGIMES))):
        if value not in choices:
            raise InputError(name, value, f"choose one of {', '.join(choices)}")
    if type(problem) is not int or problem < 0:
        raise InputError("problem", problem, "give a whole number of at least 0")
    source = str(data) if data in ("shipped", "hub") else "local"
    stop = problem + REGIMES[regime]
    records = list(islice(_records(task, data), problem + 2 * POOL if wrong_answers else stop))
    if len(records) < stop:
        raise InputError("problem", problem, _too_few(task, len(records), REGIMES[regime]))
    problems = [_problem(task, record, source) for record in records[problem:stop]]
    if not wrong_answers:
        return problems
    pool = [_problem(task, record, source) for record in records]
    return [
        _with_wrong_answer(one, pool[k + 1 :] + pool[: k + 1])
        for k, one in enumerate(problems, problem)
    ]


def _too_few(task: str, total: int, count: int) -> str:
    problems = f"is 1 {task} problem" if total == 1 else f"are {total} {task} problems"
    last = total - count
    remedy = f"give 0 to {last}" if last >= 0 else f"too few for a run of {count}"
    return f"there {problems}, {remedy}"


def _with_wrong_answer(problem: Problem, others: list[Problem]) -> Problem:
    """Replace a problem's answer and scorer by the first other problem's that is wrong for it.

    A control: it is trained like any other problem, but its right answer cannot be learnt from it.
    """
    for other in others:
        if not is_correct(problem, other.target):
            fields = ("target", "answers", "metric", "classes")
            return replace(problem, **{name: getattr(other, name) for name in fields})
    raise InputError("wrong_answers", True, "all problems of the file have the same answer")


def score(problem: Problem, text: str) -> float:
    """Return the best score of a text over all references, in [0, 1]; 1 is right."""
    if problem.metric == "classification":
        return max(classification_score(text, one, problem.classes) for one in problem.answers)
    return max(SCORERS[problem.metric](text, one) for one in problem.answers)


def is_correct(problem: Problem, text: str) -> bool:
    """Return whether a text has score 1, or for HotpotQA an exact match (F1 ignores order)."""
    if problem.metric == "hotpotqa":
        return any(exact_match(text, answer) == 1.0 for answer in problem.answers)
    return score(problem, text) == 1.0


def record_hash(record: Row) -> str:
    """Return the SHA-256 of a record as canonical JSON, without keys that start with ``_``."""
    content = {key: value for key, value in record.items() if not key.startswith("_")}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _problem(task: str, record: Record, source: str) -> Problem:
    """Check a record and apply the template; an error names the place and the field."""
    benchmark, content = CATALOGUE[task], record.content
    for name, kind in benchmark.fields.items():
        value = content.get(name)
        filled, wrong = value.strip() if isinstance(value, str) else value, ""
        if name not in content:
            wrong = f"lacks field '{name}'; {task} needs {', '.join(benchmark.fields)}"
        elif not isinstance(value, kind):
            wrong = f"field '{name}' must be {KINDS[kind]}"
        elif not filled and name != benchmark.may_be_empty:
            wrong = f"field '{name}' is empty, fill it in"
        if wrong:
            raise InputError("data", record.place, wrong)
    try:
        item = benchmark.read(content)
    except ValueError as error:
        raise InputError("data", record.place, str(error)) from error
    row, classes = content.get("_source_index"), content.get("all_classes")
    return Problem(
        task=task,
        question=item.question,
        target=item.target,
        answers=item.answers or (item.target,),
        metric=item.metric,
        source=source,
        row=row if type(row) is int and 0 <= row < 2**63 else record.row,
        sha256=record_hash(content),
        subset=str(content.get(benchmark.subset_field, "")),
        classes=tuple(classes) if isinstance(classes, list) else (),
    )


# --- files --------------------------------------------------------------------------------


def _records(task: str, data: str | Path) -> Iterator[Record]:
    if data == "hub":
        return _hub_records(task)
    path = _file(task, data)
    try:
        return _line_records(path.read_bytes(), path)
    except OSError as error:
        raise InputError("data", path, f"cannot be read ({error.strerror})") from error


def _file(task: str, data: str | Path) -> Path:
    """Return the JSONL file of a task: the package's, or the one in the user's folder."""
    folder = data_dir("problems") if data == "shipped" else Path(os.path.expanduser(data))
    path = folder / f"{task}.jsonl"
    if os.path.isfile(path):
        return path
    if os.path.isfile(folder):
        raise InputError("data", data, f"is a file; give the folder that holds {task}.jsonl")
    if not os.path.isdir(folder):
        raise InputError("data", data, "no such folder; give shipped, hub or a folder")
    names = ", ".join(sorted(p.name for p in folder.glob("*.jsonl"))) or "no .jsonl file"
    raise InputError("data", data, f"holds no {task}.jsonl ({names} there)")


def _line_records(content: bytes, path: Path) -> Iterator[Record]:
    """Yield one record per line; blank lines may only stand at the end."""
    for row, line in enumerate(content.rstrip().splitlines()):
        place = f"{path}:{row + 1}"
        yield Record(place, row, _parse(line, place))


def _parse(line: bytes, place: str) -> Row:
    """Return the object that a line of JSON holds."""
    try:
        content = json.loads(line.decode("utf-8-sig"))  # a file from Windows may start with a mark
        json.dumps(content, ensure_ascii=False).encode()  # fails for half a surrogate pair
    except (RecursionError, ValueError) as error:
        why = str(error).replace(": line 1 column", " at column")[:120]
        raise InputError("data", place, f"is not JSON ({why}); write one per line") from error
    if not isinstance(content, dict):
        raise InputError("data", place, "is not a JSON object; write one object per line")
    return content


# --- the hub ------------------------------------------------------------------------------


def _hub_records(task: str) -> Iterator[Record]:
    """Yield the rows of a benchmark on the Hugging Face hub, config by config."""
    benchmark = CATALOGUE[task]
    for config in benchmark.configs:
        try:
            rows = _load_config(benchmark, config)
        except Exception as error:  # the hub's libraries raise errors of many unrelated families
            why = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"[:160]
            if isinstance(error, (ConnectionError, FileNotFoundError)) and not hub.reachable():
                why = "the hub does not answer and it is not in the local cache"
            remedy = (
                f"{benchmark.path} cannot be loaded ({why}); instead take the shipped problems "
                f"(--data shipped) or a folder with {task}.jsonl (--data DIR)"
            )
            raise InputError("data", "hub", remedy) from error
        name = f"{benchmark.path} {config or ''}".strip()
        for row, content in enumerate(rows):
            known = {benchmark.subset_field: config} if benchmark.subset_field else {}
            yield Record(f"{name} row {row}", row, {**known, **content})


def _load_config(benchmark: Benchmark, config: str | None) -> Iterable[Any]:
    """Load one config; a dataset with a loading script from the hub's Parquet conversion."""
    import datasets
    import huggingface_hub

    if not hub.reachable():  # look in the cache at once instead of trying for half a minute
        datasets.config.HF_HUB_OFFLINE = huggingface_hub.constants.HF_HUB_OFFLINE = True
    if benchmark.archive:
        download = huggingface_hub.hf_hub_download
        path = Path(download(benchmark.path, benchmark.archive, repo_type="dataset"))
        with ZipFile(path) as archive:
            content = archive.read(f"data/{config}.jsonl")
        return [record.content for record in _line_records(content, path)]
    try:
        return datasets.load_dataset(benchmark.path, config, split=benchmark.split)
    except RuntimeError as error:
        if "scripts are no longer supported" not in str(error):
            raise
    branch = f"hf://datasets/{benchmark.path}@refs%2Fconvert%2Fparquet"
    files = f"{branch}/{config or 'default'}/{benchmark.split}/*.parquet"
    return datasets.load_dataset("parquet", data_files=files, split="train")
