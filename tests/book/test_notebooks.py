"""The book: pairs of notebooks, their execution, and the site."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("jupyter_book", reason="the book's tools are not installed")

import jupytext
import nbformat

from tsp.book import notebooks
from tsp.book.pages import check_parameters
from tsp.errors import InputError
from tsp.paths import ROOT
from tsp.training import models

NOTEBOOK = """# %% [markdown]
# # A title

# %% tags=["parameters"]
runs = "none"
x = 1

# %%
print(f"x is {x}, from {runs}")

# %%
print("the same line")

# %%
print("the same line")
"""
FAILING = NOTEBOOK.replace('print("the same line")', "1 / (x - x)", 1)


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A notebook, beside the folder for its executed copy."""
    monkeypatch.setattr(notebooks, "EXECUTED", tmp_path / "out")
    path = tmp_path / "07_tiny.py"
    path.write_text(NOTEBOOK)
    return path


def outputs(path):
    cells = nbformat.read(path, as_version=4).cells
    printed = [output for cell in cells for output in cell.get("outputs", []) if "text" in output]
    return "".join(output.text for output in printed)


def test_each_committed_notebook_has_its_pair_and_is_in_the_table_of_contents():
    assert notebooks.check_pairs() == [], "write them with `tsp book --pairs`"
    toc = (ROOT / "_toc.yml").read_text()
    listed = re.findall(r"(?:file|root): book/_executed/(\w+)", toc)
    sources = [source.stem for source in notebooks.NOTEBOOKS.glob(notebooks.SOURCES)]
    assert sorted(listed) == sorted(sources) != []


def test_no_chapter_is_longer_than_a_reader_will_follow():
    long = [
        s.stem for s in notebooks.NOTEBOOKS.glob("*.py") if len(s.read_text().split("\n")) > 451
    ]
    assert long == []


def test_a_pair_is_valid_and_has_no_outputs(source):
    pair = nbformat.reads(notebooks.pair_text(source), as_version=4)
    nbformat.validate(pair)
    assert all(not cell.outputs for cell in pair.cells if cell.cell_type == "code")
    assert jupytext.writes(pair, "py:percent").endswith(NOTEBOOK)


def test_on_colab_a_notebook_fetches_the_book_first(source, tmp_path, monkeypatch):
    """The first cell does nothing elsewhere; no address, no cell."""
    assert "google.colab" not in notebooks.pair_text(source)
    origin = tmp_path / "origin"
    name = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", "init", "--quiet", origin], check=True)
    commit = ["git", "-C", origin, *name, "commit", "--quiet", "--allow-empty", "-m", "Begin"]
    subprocess.run(commit, check=True)
    (tmp_path / "_config.yml").write_text(f"repository: {{url: {origin}}}")
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    pair = nbformat.reads(notebooks.pair_text(source), as_version=4)
    nbformat.validate(pair)
    commands, run = [], subprocess.run

    def git_alone(command, **options):
        commands.append([str(part) for part in command])
        if command[0] == "git":
            run(command, **options)

    monkeypatch.setattr(subprocess, "run", git_alone)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    exec(pair.cells[0].source, {})
    assert commands == []
    monkeypatch.setitem(sys.modules, "google.colab", object())
    monkeypatch.setenv("HOME", str(tmp_path))
    for _ in range(2):  # again after a restart
        exec(pair.cells[0].source, {})
        assert Path.cwd() == tmp_path / "tsp-book"
        assert sys.path[0] == str(tmp_path / "tsp-book")
        assert Path(".git").is_dir()
    assert [command[0] for command in commands] == ["git", *[sys.executable] * 4]
    install, fetch = commands[1:3]
    assert install[1:4] == ["-m", "pip", "install"]
    assert install[-4:] == ["-c", "constraints.txt", "-e", ".[book]"]
    assert (ROOT / "constraints.txt").is_file()
    assert fetch[1:4] == ["-m", "tsp", "model"]
    assert fetch[-1] in models.MODELS
    assert commands[3:] == [install, fetch]


def test_cell_ids_differ_and_survive_a_new_cell(source):
    before = [cell.id for cell in notebooks.read_notebook(source).cells]
    source.write_text("# %%\nnew = True\n\n" + NOTEBOOK)
    after = [cell.id for cell in notebooks.read_notebook(source).cells]
    assert len(set(before)) == len(before) == 5
    assert after[1:] == before


def test_sync_writes_stale_pairs_and_check_names_those_without_a_source(source, monkeypatch):
    monkeypatch.setattr(notebooks, "NOTEBOOKS", source.parent)
    orphan = source.with_name("08_gone.ipynb")
    orphan.write_text("{}")
    pair = source.with_suffix(".ipynb")
    assert notebooks.check_pairs() == [pair, orphan]
    assert notebooks.sync_pairs() == [pair]
    assert notebooks.check_pairs() == [orphan]
    source.write_text(NOTEBOOK + "\n# %%\n2 + 2\n")
    assert notebooks.check_pairs() == [pair, orphan]


def test_an_executed_copy_has_its_outputs_and_hides_its_parameters(source):
    copy = notebooks.execute_notebook(source, parameters={"x": 2})
    before = copy.read_bytes()
    assert notebooks.execute_notebook(source, parameters={"x": 2}).read_bytes() == before
    assert "x is 2, from none" in outputs(copy)
    notebook = nbformat.read(copy, as_version=4)
    declared, injected = [
        cell.source for cell in notebook.cells if "remove-cell" in cell.metadata.get("tags", [])
    ]
    assert "x = 1" in declared
    assert "x = 2" in injected
    assert [file.name for file in copy.parent.iterdir()] == ["07_tiny.ipynb"]


FIGURE = """# %% [markdown]
# # A title

# %% tags=["parameters"]
rows = 2

# %%
import matplotlib.pyplot as plt

from tsp.figures.style import style

style()

# %% mystnb={"figure": {"caption": "One.", "name": "fig-one"}}
fig, ax = plt.subplots()
ax.plot(range(rows), label="line")
"""


def test_the_data_of_a_figure_is_taken_out_and_linked(source, tmp_path):
    source.write_text(FIGURE)
    copy = notebooks.execute_notebook(source, parameters={})
    data = tmp_path / "out" / "data" / source.stem / "fig-one.csv"
    assert data.read_text().splitlines()[1].endswith("line,line,1,0.0,0.0,")
    cell = nbformat.read(copy, as_version=4).cells[-1]
    caption = cell.metadata["mystnb"]["figure"]["caption"]
    assert caption == f"One. {{download}}`Data <data/{source.stem}/fig-one.csv>`"
    assert "text/csv" not in copy.read_text()
    source.write_text(FIGURE.replace("fig-one", "fig-two"))
    notebooks.execute_notebook(source, parameters={})
    assert [file.name for file in data.parent.iterdir()] == ["fig-two.csv"]


def test_failing_notebooks_are_named_with_their_cells_and_the_others_kept(source):
    copy = notebooks.execute_notebook(source, parameters={})
    before = copy.read_bytes()
    *bad, good = source, source.with_name("08_bad.py"), source.with_name("09_good.py")
    for path in bad:
        path.write_text(FAILING)
    good.write_text(NOTEBOOK)
    with pytest.raises(notebooks.BookError) as caught:
        notebooks.execute_notebooks([good, *bad], parameters={"x": 2})
    what = "cell 4 ('1 / (x - x)'): ZeroDivisionError: division by zero"
    assert str(caught.value).splitlines() == [f"{path.name}, {what}" for path in bad]
    assert copy.read_bytes() == before
    assert {file.name for file in copy.parent.iterdir()} == {"07_tiny.ipynb", "09_good.ipynb"}


def test_only_what_is_out_of_date_is_executed_again(source, tmp_path):
    run = tmp_path / "runs" / "0123456789abcdef" / "run.json"
    run.parent.mkdir(parents=True)
    run.write_text('{"checksum": "1"}')

    def executed(*, force=False, **parameters):
        given = {"runs": str(run.parents[1]), "of another notebook": 0, **parameters}
        return notebooks.execute_notebooks([source], parameters=given, force=force)

    copy = notebooks.EXECUTED / "07_tiny.ipynb"
    assert executed() == [copy]
    assert executed() == []
    assert executed(force=True) == [copy]
    assert executed(x=3) == [copy]
    assert executed(x=3) == []
    extended = NOTEBOOK + "\n# %%\n2 + 2\n"
    for path, text in ((run, '{"checksum": "2"}'), (source, extended), (copy, "{")):
        path.write_text(text)
        assert executed(x=3) == [copy]


INPUTS = ["tsp/loss.py", "tsp/topology/rips.py", "benchmarks/scaling.py", "mine/bench.json"]
INPUTS += ["data/problems/bbh.jsonl", "data/paper/table3.csv", "data/measurements/bench.json"]


@pytest.mark.parametrize("name", INPUTS)
def test_a_changed_line_makes_a_chapter_stale(name, source, tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    monkeypatch.setattr(notebooks, "PACKAGE", tmp_path / "tsp")
    file = tmp_path / name
    file.parent.mkdir(parents=True)
    parameters = {"measurements": "mine"} if name.startswith("mine") else {}
    file.write_text("x = 1")
    (file.parent / "__pycache__").mkdir()
    made_from = {"fingerprint": notebooks.fingerprint(source, parameters=parameters)}
    copy = notebooks.executed_path(source)
    copy.parent.mkdir()
    copy.write_text(json.dumps({"metadata": {"tsp": made_from}}))
    assert notebooks.is_current(source, parameters=parameters)
    file.write_text("x = 20")
    assert not notebooks.is_current(source, parameters=parameters)


def test_parameters_keep_their_types():
    """`papermill -p runs 0012` gives the number 12, `-p runs 0` the number 0."""
    declared = {"runs": str, "epochs": int, "rate": float, "sizes": list}
    right = {"runs": "0012", "epochs": 3, "rate": 2, "sizes": [1], "__annotations__": declared}
    check_parameters(right)
    for wrong, message in (
        ({"runs": 12}, "runs = 12: must be text; `papermill -r runs VALUE`"),
        ({"runs": 0}, "papermill -r"),
        ({"epochs": "many"}, "epochs = 'many': must be of type int"),
        ({"epochs": True}, "of type int"),
    ):
        with pytest.raises(InputError, match=message):
            check_parameters(right | wrong)


def test_the_parameters_of_printed_papermill_commands_exist():
    pages = [ROOT / "README.md", *(ROOT / "book").glob("*.md"), *notebooks.NOTEBOOKS.glob("*.py")]
    text = "\n".join(page.read_text("utf-8") for page in pages)
    commands = re.findall(r"papermill .*?notebooks/(\w+)\.ipynb((?:[^\n`]|\\\n)*)", text)
    assert len(commands) >= 5
    for name, options in commands:
        declared = notebooks.parameter_names(
            notebooks.read_notebook(notebooks.NOTEBOOKS / f"{name}.py")
        )
        assert declared, name
        assert {*re.findall(r"-[pr] (\w+)", options)} <= {*declared}, name


def test_every_notebook_checks_its_parameters():
    for source in notebooks.NOTEBOOKS.glob(notebooks.SOURCES):
        if notebooks.parameter_names(notebooks.read_notebook(source)):
            text = source.read_text()
            assert "\ncheck_parameters(globals())\n" in text, source.name
            cell = text.partition('tags=["parameters"]')[2].partition("\n# %%")[0]
            assert re.findall(r"^\w+ =", cell, re.MULTILINE) == [], "declare the type"
