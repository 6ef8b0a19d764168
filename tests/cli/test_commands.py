"""The command line as a user meets it: words in; output, error line and exit code out."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.handmade import stored
from tests.terminal import BBH, TINY, fails, loads, tsp, write
from tsp import __version__
from tsp.paths import data_dir
from tsp.store.runs import Store


def test_help_explains_every_option():
    shown = tsp("run", "--help").stdout
    options = "model task data regime problem method lambda-ts protocol placement n-tokens lr"
    for option in f"{options} epochs seed runs".split():
        assert f"--{option}" in shown
    for command in ("sweep", "report", "book", "bench", "export", "doctor", "runs", "model"):
        assert tsp(command, "--help").returncode == 0
    assert tsp("--version").stdout == f"tsp {__version__}\n"
    bare = tsp("runs")
    assert "Usage" in bare.stdout + bare.stderr


def test_a_run_shows_its_answers_and_is_stored(store):
    folder, _, printed = store
    (run_id,) = Store(folder).ids()
    assert run_id in printed
    assert re.search(r"epoch +2 .* 0/6 tokens", printed)
    assert "bbh#0 tsloss" in tsp("runs", "show", run_id, "--runs", folder).stdout
    assert len(json.loads(tsp("runs", "list", "--json", TSP_RUNS=str(folder)).stdout)) == 1


def test_a_set_shows_whose_answer_it_is_and_that_a_check_ended_early(tmp_path):
    right = [[False, True], [False], [True, True]]
    fields = {"regime": "multi", "contents": ("one", "two"), "epochs": 4}
    run_id = stored(Store(tmp_path), right=right, **fields)
    shown = tsp("runs", "show", run_id, "--runs", tmp_path).stdout
    lines = re.findall(r"epoch +(\d+)  problem (\d)  (correct)?", shown)
    assert lines[:3] == [("0", "0", ""), ("0", "1", "correct"), ("2", "0", "")]
    assert lines[3:] == [("4", "0", "correct"), ("4", "1", "correct")]
    assert "ended at a wrong answer" in shown
    alone = stored(Store(tmp_path), right=[[False], [False], [True]], epochs=4)
    shown = tsp("runs", "show", alone, "--runs", tmp_path).stdout
    assert not re.search("problem|ended at", shown)


def test_plan_prints_the_memory_of_a_run_and_stops(tmp_path):
    data = write(tmp_path / "bbh.jsonl", json.dumps(BBH))
    words = ["run", "--plan", "--task", "bbh", "--data", data, "--runs", tmp_path / "runs"]
    done = tsp(*words, *TINY)
    assert (done.returncode, done.stderr) == (0, "")
    lines, sizes = done.stdout.splitlines(), _sizes(done.stdout)
    assert lines[0] == "bbh#0 tsloss λ=1 tuned seed 0, tiny-llama, 2 epochs"
    assert sizes["weights"] == 0.1  # MiB: 26,880 numbers
    assert re.search(r"free on cpu: \d+ MiB; token budget \d+, float32, threads \d+", lines[-1])
    assert [path.name for path in tmp_path.iterdir()] == ["bbh.jsonl"]  # nothing was written
    longer = _sizes(tsp(*words, *TINY, "--n-tokens", "400").stdout)
    assert longer["activations"] > 5 * sizes["activations"]


def _sizes(table):
    """Return the sizes in the plan's table, in MiB."""
    return {name: float(size) for name, size in re.findall(r"^(\w+) +([\d.]+) MiB$", table, re.M)}


def test_verify_names_a_damaged_run_and_exits_1(store, tmp_path):
    assert "no runs in" in tsp("runs", "list", "--runs", tmp_path).stdout
    empty = f"No runs in {tmp_path}: `tsp sweep table3 --profile quick` trains some.\n"
    assert tsp("report", "--runs", tmp_path).stdout == empty
    runs = tmp_path / "runs"
    shutil.copytree(store[0], runs)
    (run_id,) = Store(runs).ids()
    assert tsp("runs", "verify", "--runs", runs).returncode == 0
    (runs / run_id / "checks.parquet").write_bytes(b"")
    done = tsp("runs", "verify", "--runs", runs)
    assert (done.returncode, done.stdout) == (1, "0 runs are sound, 1 damaged\n")
    assert f"run {run_id}: checks.parquet" in done.stderr
    for words in (["report"], ["runs", "show", run_id]):
        fails(1, f"run {run_id}: checks.parquet", *words, "--runs", runs)
    (runs / run_id / "run.json").write_text("{}")
    fails(1, "run.json cannot be read .it lacks 'checksum'", "runs", "show", run_id, "--runs", runs)
    (runs / run_id / "run.json").write_bytes(b"")
    for words in (["runs", "list"], ["report"]):
        done = tsp(*words, "--runs", runs)
        assert done.returncode == 0
        assert f"skipped: run {run_id}" in done.stderr


def test_export_warns_where_peft_differs_and_refuses_what_it_cannot_write(store, tmp_path):
    (run_id,) = Store(store[0]).ids()
    words = ["export", run_id, "--to", tmp_path / "adapter", "--runs", store[0]]
    assert "after the question" in tsp(*words).stderr  # PEFT puts a prompt elsewhere
    fails(2, "exists already", *words)
    published = Store(data_dir("runs"))
    bare = next(run.id for run in published.valid_runs()[0] if not run.prompt_epochs)
    words = ("export", bare, "--to", tmp_path / "x", "--runs", published.root)
    fails(2, f"epoch = '?0'?: run {bare} keeps no prompts", *words)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (r"model = 'gpt-9': choose one of smollm2", ["--model", "gpt-9"]),
        (r"model = '/no/such': no such folder", ["--model", "/no/such"]),
        (r"task = 'gsm9k'.*gsm8k", ["--task", "gsm9k"]),
        (r"protocol = 'quick'.*paper, tuned, released", ["--protocol", "quick"]),
        (r"n_tokens = 0: give a whole number of at least 1", ["--n-tokens", "0"]),
        (r"problem = 99", ["--problem", "99"]),
        (r"data = '/no/such'", ["--data", "/no/such"]),
        (r"data = .*is a file; give the folder", ["--data", __file__]),
        (r"device = 'abacus'", ["--device", "abacus"]),
        (r"device = 'abacus'", ["--device", "abacus", "--plan"]),
        (r"init_run = '0{16}': is not stored", ["--init", "trained", "--init-run", "0" * 16]),
        (r"hub gave no 'google/gemma-2b-it'.*tiny-llama", ["--model", "gemma-2b-it"]),
        (r"--n-tokens.*abc", ["--n-tokens", "abc"]),
        (r"--no-such-option", ["--no-such-option"]),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(pattern, words, tmp_path):
    usual = ["--model", "tiny-llama", "--task", "gsm8k", "--runs", tmp_path / "runs"]
    done = fails(2, pattern, "run", *usual, *words, HF_HUB_OFFLINE="1")
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("line", "pattern"),
    [
        ("{not json", r"bbh\.jsonl.*2"),
        ('{"input": "1 is", "target": "", "task": "x"}', r"bbh\.jsonl.*2.*target"),
        (json.dumps(BBH | {"input": "word " * 2000}), r"problem = 1: row 1 .*tokens.*reads 4096"),
    ],
)
def test_a_bad_line_is_named_with_its_number(line, pattern, tmp_path):
    data = write(tmp_path / "bbh.jsonl", json.dumps(BBH), line)
    words = ["run", "--task", "bbh", "--problem", 1, *TINY]
    fails(2, pattern, *words, "--data", data, "--runs", tmp_path / "runs")


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("experiment = 'table9'", ["sweep", "table9"]),
        ("profile = 'huge'", ["sweep", "table3", "--profile", "huge"]),
        ("abacus.*local", ["sweep", "table3", "--engine", "abacus"]),
        ("address = 'x'", ["sweep", "table3", "--address", "x"]),
        ("(?i)experiment", ["sweep"]),
        ("run = 'abc'", ["runs", "show", "abc"]),
        ("Missing argument 'run'; --help", ["runs", "show"]),
        ("prompts = 3: .*give --publish too", ["runs", "pack", "x.parquet", "--prompts", "3"]),
        ("model = 'gemma-2b-it': these can be installed", ["model", "install", "gemma-2b-it"]),
        ("runs = .*no such folder", ["runs", "list", "--runs", "missing"]),
        ("name a shorter path", ["runs", "list", "--runs", "x" * 400]),
    ],
)
def test_wrong_words_of_other_commands(pattern, words):
    done = fails(2, pattern, *words)
    assert (done.stdout, len(done.stderr.strip().splitlines())) == ("", 1)


def test_failures_exit_1_and_debug_shows_where(tmp_path):
    (tmp_path / "file").write_text("")
    data = write(tmp_path / "bbh.jsonl", json.dumps(BBH))
    words = ["run", "--task", "bbh", "--data", data, "--runs", tmp_path / "file" / "runs", *TINY]
    fails(1, "Not a directory; name another folder", *words)
    with pytest.raises(NotADirectoryError):
        tsp(*words, "--debug")


def program(*words):
    """Run the command line in a process of its own."""
    code = "import sys, tsp.cli.main; assert 'torch' not in sys.modules; tsp.cli.main.main()"
    command = [sys.executable, "-c", code, *map(str, words)]
    variables = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"}
    return subprocess.run(command, capture_output=True, text=True, env=variables)


def test_as_a_program_it_starts_without_torch_and_ends_with_the_same_codes():
    done = program("run", "--lr", -1)
    assert (done.returncode, done.stderr) == (2, "tsp: lr = -1.0: give a finite number above 0\n")
    done = program("run", "--lr", -1, "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_sweep_draws_bars_lists_its_runs_and_can_be_repeated(tmp_path):
    words = ["sweep", "table3", "--profile", "smoke", "--runs", tmp_path, "--device", "cpu"]
    cost = loads(*words, "--plan", "--json")
    first = program(*words)
    assert first.returncode == 0, first.stderr
    assert re.search(r"mmlu_cf single: .*loss \d\.\d+, correct \d/4", first.stderr)
    assert first.stdout.startswith("10 runs of 'table3'")
    second = tsp(*words)
    assert (second.stdout, second.stderr) == (first.stdout, "")
    rows = loads(*words, "--json")
    assert sum(row["runs"] for row in cost) == len(rows) == 10
    assert {row["id"] for row in rows} == set(Store(tmp_path).ids())
