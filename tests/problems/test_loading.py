"""Problems load from what is shipped, folders and the hub, or one line says why they do not."""

import hashlib
import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from tests.shipped import every, shipped
from tsp.errors import InputError
from tsp.problems import hub
from tsp.problems.catalogue import CATALOGUE, LONGBENCH
from tsp.problems.loading import TASKS, is_correct, load_problems, record_hash

GOOD = {"question": "1 + 1?", "answer": "It is 1+1=<<1+1=2>>2.\n#### 2"}
NO_INPUT = {"gov_report", "multi_news", "passage_count"}


def write(folder, *lines, task="gsm8k"):
    """Write lines, given as records, texts or bytes, and return the folder."""
    texts = [json.dumps(line) if isinstance(line, dict) else line for line in lines]
    rows = [text.encode() if isinstance(text, str) else text for text in texts]
    (folder / f"{task}.jsonl").write_bytes(b"\n".join(rows) + b"\n")
    return folder


def message(**arguments):
    """Return the one line that refuses these arguments."""
    with pytest.raises(InputError) as caught:
        load_problems(**arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- templates ----------------------------------------------------------------------------


def test_templates_show_everything_that_is_needed():
    (choice,) = load_problems("mmlu_cf")
    assert "\nA. Liver\nB. Kidney\nC. Pancreas\nD. Spleen\n" in choice.question
    assert (choice.target, choice.answers) == ("C", ("C",))
    (word,) = load_problems("gsm8k")
    assert (word.target, word.answers) == (shipped("gsm8k")[0]["answer"], ("11",))
    (hop,), row = load_problems("hotpotqa"), shipped("hotpotqa")[0]
    assert all("".join(s) in hop.question for s in row["context"]["sentences"])
    assert hop.question.index(row["question"]) > hop.question.index(row["context"]["title"][-1])
    assert r"\boxed{}" in load_problems("math")[0].question


@pytest.mark.parametrize("dataset", LONGBENCH)
def test_every_longbench_dataset_has_a_template(dataset, tmp_path):
    row = {"input": "in{0}put", "context": "con{text}", "dataset": dataset}
    row |= {"answers": ["Paragraph 1"], "all_classes": ["Paragraph 1", "x"]}
    (problem,) = load_problems("longbench", data=write(tmp_path, row, task="longbench"))
    assert "con{text}" in problem.question
    assert ("in{0}put" in problem.question) != (dataset in NO_INPUT)
    assert is_correct(problem, problem.target)
    assert not is_correct(problem, "something else")


# --- loading ------------------------------------------------------------------------------


def test_single_and_multi():
    ten = load_problems("gsm8k", regime="multi", problem=2)
    assert [p.row for p in ten] == list(range(2, 12))
    assert load_problems("gsm8k", problem=5) == ten[3:4]
    assert {p.source for p in ten} == {"shipped"}
    assert load_problems("bbh")[0].subset == "boolean_expressions"


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("regime", ["single", "multi"])
def test_wrong_answers_are_those_of_other_problems(task, regime):
    """The question stays, the reference is another problem's, and it would be wrong here."""
    right = load_problems(task, regime=regime, problem=2)
    wrong = load_problems(task, regime=regime, problem=2, wrong_answers=True)
    references = {one.target for k in range(14) for one in load_problems(task, problem=k)}
    for one, other in zip(right, wrong, strict=True):
        assert (one.question, one.sha256, one.row) == (other.question, other.sha256, other.row)
        assert other.target in references
        assert not is_correct(one, other.target)
        assert is_correct(other, other.target)


def test_a_wrong_answer_is_that_of_the_next_problem_or_the_first(tmp_path):
    problems = every("gsm8k")
    for k, following in ((0, 1), (len(problems) - 1, 0)):
        (wrong,) = load_problems("gsm8k", problem=k, wrong_answers=True)
        assert wrong.target == problems[following].target
    write(tmp_path, GOOD, GOOD | {"question": "again?"})
    text = message(task="gsm8k", data=tmp_path, wrong_answers=True)
    assert "wrong_answers = True: all problems of the file" in text


def test_a_folder(tmp_path):
    write(tmp_path, GOOD, GOOD | {"_source_index": 77, "question": "again?"})
    first, second = every("gsm8k", data=str(tmp_path))
    assert (first.source, first.row, second.row) == ("local", 0, 77)
    assert first.sha256 == record_hash(GOOD | {"_note": "left out"}) != second.sha256


def test_the_hash_is_that_of_the_content():
    canonical = b'{"a":"\\u00e9","b":[1,null]}'
    assert record_hash({"b": [1, None], "a": "é", "_x": 0}) == hashlib.sha256(canonical).hexdigest()
    assert record_hash({"a": 1}) != record_hash({"a": "1"})


def test_marks_line_ends_and_blank_lines_at_the_end(tmp_path):
    content = "\ufeff" + json.dumps(GOOD) + "\r\n" + json.dumps(GOOD) + "\r\n\r\n \n"
    (tmp_path / "gsm8k.jsonl").write_text(content, "utf-8", newline="")
    assert len(every("gsm8k", data=tmp_path)) == 2


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("{not json", "is not JSON (Expecting property name enclosed in double quotes at column 2"),
        ("", "is not JSON (Expecting value at column 1"),
        ("[1, 2]", "is not a JSON object"),
        ('{"question": "\\ud800"}', "surrogates not allowed"),
        (b'{"question": "caf\xe9"}', "can't decode byte 0xe9 in position 17"),
        ({"question": "1 + 1?"}, "lacks field 'answer'; gsm8k needs question, answer"),
        (GOOD | {"answer": "  "}, "field 'answer' is empty"),
        (GOOD | {"question": ""}, "field 'question' is empty"),
        (GOOD | {"answer": 2}, "field 'answer' must be a text"),
        (GOOD | {"answer": "It is 2."}, "field 'answer' must end with #### and one number"),
    ],
)
def test_a_bad_line_is_named(line, why, tmp_path):
    write(tmp_path, GOOD, line, GOOD)
    text = message(task="gsm8k", data=tmp_path, problem=1)
    assert f"{tmp_path}/gsm8k.jsonl:2'" in text
    assert why in text
    if "not JSON (" in why:  # named also before a later line that is asked for
        assert "gsm8k.jsonl:2': is not JSON" in message(task="gsm8k", data=tmp_path, problem=2)
    assert load_problems("gsm8k", data=tmp_path)  # lines before it can be loaded


@pytest.mark.parametrize(
    ("task", "change", "why"),
    [
        ("mmlu_cf", {"Answer": "E"}, "field 'Answer' is 'E', it must be A, B, C or D"),
        ("mmlu_cf", {"Answer": "AB"}, "field 'Answer' is 'AB'"),
        ("math", {"solution": "It is 4."}, "field 'solution' must hold its result in \\boxed{}"),
        ("math", {"solution": "\\boxed{}"}, "field 'solution' must hold its result"),
        ("longbench", {"answers": []}, "field 'answers' is empty"),
        ("longbench", {"answers": ["26", " "]}, "field 'answers' must list texts"),
        ("longbench", {"dataset": "dureader"}, "field 'dataset' is 'dureader', it must be one of"),
        ("longbench", {"dataset": "trec"}, "field 'all_classes' must list the classes"),
        ("longbench", {"dataset": "passage_count", "answers": ["x"]}, "must hold a number"),
        ("hotpotqa", {"context": [["Title", ["One."]]]}, "field 'context' must be an object"),
        ("hotpotqa", {"context": {"title": ["a"], "sentences": []}}, "'context' must hold as"),
        ("bbh", {"target": ""}, "field 'target' is empty"),
    ],
)
def test_a_bad_record_is_named(task, change, why, tmp_path):
    text = message(task=task, data=write(tmp_path, shipped(task)[0] | change, task=task))
    assert f"{task}.jsonl:1'" in text
    assert why in text


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"task": "gsm9k"}, "task = 'gsm9k': choose one of gsm8k, mmlu_cf"),
        ({"regime": "few"}, "regime = 'few': choose one of single, multi"),
        ({"problem": -1}, "problem = -1: give a whole number of at least 0"),
        ({"problem": 1.0}, "problem = 1.0: give a whole number"),
        ({"problem": 16}, "there are 16 gsm8k problems, give 0 to 15"),
        ({"problem": 7, "regime": "multi"}, "16 gsm8k problems, give 0 to 6"),
        ({"data": "one", "regime": "multi"}, "is 1 gsm8k problem, too few for a run of 10"),
        ({"data": "nowhere"}, "data = 'nowhere': no such folder"),
        ({"data": __file__}, "is a file; give the folder that holds gsm8k.jsonl"),
        ({"data": "x" * 400}, "no such folder"),
        ({"data": "."}, "holds no gsm8k.jsonl (no .jsonl file there)"),
        ({"data": "one", "task": "mmlu_cf"}, "holds no mmlu_cf.jsonl (gsm8k.jsonl there)"),
    ],
)
def test_wrong_arguments(arguments, why, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one").mkdir()
    write(tmp_path / "one", GOOD)
    assert why in message(**{"task": "gsm8k"} | arguments)


@pytest.mark.parametrize("task", TASKS)
def test_real_samples_load_unchanged(task):
    folder = os.environ.get("TSP_BENCHMARKS")
    if not folder:
        pytest.skip("TSP_BENCHMARKS names no folder with real samples")
    lines = (Path(folder) / f"{task}.jsonl").read_text("utf-8").splitlines()
    problems = every(task, data=folder)
    assert [p.row for p in problems] == [json.loads(line)["_source_index"] for line in lines]
    assert all(is_correct(problem, problem.target) for problem in problems)


# --- the hub ------------------------------------------------------------------------------


def as_hub_dataset(folder, task, rows):
    """Write a folder that ``datasets`` takes for a dataset with these rows, by config."""
    split, card = CATALOGUE[task].split, ["---", "configs:"]
    for config, records in rows.items():
        name = config or "default"
        (folder / name).mkdir()
        text = "".join(json.dumps(record) + "\n" for record in records)
        (folder / name / f"{split}.jsonl").write_text(text, "utf-8")
        card += [f"- config_name: {name}", "  data_files:", f"  - split: {split}"]
        card += [f"    path: {name}/{split}.jsonl"]
    (folder / "README.md").write_text("\n".join([*card, "---"]), "utf-8")


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """A hub that does not answer, and an empty cache for ``datasets``."""
    import datasets

    monkeypatch.setattr(hub, "reachable", lambda: False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    (tmp_path / "hub").mkdir()
    return tmp_path / "hub"


@pytest.fixture
def serve(offline, monkeypatch):
    """Return a function that takes a local folder for a task's dataset on the hub."""

    def serve(task, *configs, **changes):
        local = replace(CATALOGUE[task], configs=configs, **{"path": str(offline)} | changes)
        monkeypatch.setitem(CATALOGUE, task, local)

    return serve


@pytest.mark.parametrize("task", ["gsm8k", "mmlu_cf", "hotpotqa", "math", "bbh"])
def test_a_hub_dataset_loads_like_the_same_rows_elsewhere(task, offline, serve):
    configs, records = CATALOGUE[task].configs[:2], shipped(task)
    rows = {config: [] for config in configs}
    for index, record in enumerate(records):
        config = configs[index * len(configs) // len(records)]
        if task == "bbh":  # the hub leaves out the field that is the config's name
            record = {"input": record["input"], "target": record["target"]}
        rows[config].append(record)
    as_hub_dataset(offline, task, rows)
    serve(task, *configs)
    loaded, elsewhere = every(task, data="hub"), every(task)
    assert {p.source for p in loaded} == {"hub"}
    assert [p.question for p in loaded] == [p.question for p in elsewhere]
    assert [p.row for p in loaded] == [k for config in configs for k in range(len(rows[config]))]
    if task == "bbh":
        assert {p.subset for p in loaded} == set(configs)
    else:
        assert [p.sha256 for p in loaded] == [p.sha256 for p in elsewhere]


def test_a_packed_hub_dataset_in_the_cache(offline, serve, monkeypatch):
    cached, commit = offline / "datasets--THUDM--LongBench", "0" * 40
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit)
    (cached / "snapshots" / commit).mkdir(parents=True)
    with zipfile.ZipFile(cached / "snapshots" / commit / "data.zip", "w") as packed:
        for dataset in ("qasper", "trec"):
            rows = [row for row in shipped("longbench") if row["dataset"] == dataset]
            packed.writestr(f"data/{dataset}.jsonl", "".join(json.dumps(r) + "\n" for r in rows))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(offline))
    serve("longbench", "qasper", "trec", path="THUDM/LongBench")
    loaded, elsewhere = every("longbench", data="hub"), every("longbench")
    expected = [p.sha256 for s in ("qasper", "trec") for p in elsewhere if p.subset == s]
    assert [p.sha256 for p in loaded] == expected
    assert [p.row for p in loaded] == [0, 1, 2, 0]


def test_a_hub_dataset_with_a_script_is_read_from_its_conversion(offline, serve, monkeypatch):
    import datasets

    (offline / "hub.py").write_text("raise RuntimeError('nobody runs this')\n")
    converted = offline / "boolean_expressions" / "test"
    converted.mkdir(parents=True)
    row = {key: shipped("bbh")[0][key] for key in ("input", "target")}
    datasets.Dataset.from_list([row]).to_parquet(str(converted / "0000.parquet"))
    load, branch = datasets.load_dataset, f"hf://datasets/{offline}@refs%2Fconvert%2Fparquet"

    def load_local(path, *rest, data_files=None, **options):
        local = data_files and data_files.replace(branch, str(offline))
        return load(path, *rest, data_files=local, **options)

    monkeypatch.setattr(datasets, "load_dataset", load_local)
    serve("bbh", "boolean_expressions")
    (problem,) = every("bbh", data="hub")
    assert problem.sha256 == load_problems("bbh")[0].sha256


def test_a_bad_row_on_the_hub_is_named(offline, serve):
    as_hub_dataset(offline, "gsm8k", {"main": [GOOD, GOOD | {"answer": "two"}]})
    serve("gsm8k", "main")
    assert f"{offline} main row 1'" in message(task="gsm8k", data="hub", problem=1)


@pytest.mark.parametrize("task", TASKS)
def test_no_hub_says_what_is_there_instead(task, offline):
    text = message(task=task, data="hub")
    hints = ("the hub does not answer", "--data shipped", f"{task}.jsonl")
    assert all(hint in text for hint in (CATALOGUE[task].path, *hints))


@pytest.mark.network
@pytest.mark.parametrize("task", TASKS)
def test_the_real_hub(task):
    (problem,) = load_problems(task, data="hub")
    assert is_correct(problem, problem.target)
