"""The command line as a user meets it: words in; output, error line and exit code out."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from types import SimpleNamespace
from unittest.mock import patch

import pytest

from tsp.cli.main import main
from tsp.paths import data_dir
from tsp.store.runs import Store

TINY = ["--model", "tiny-llama", "--n-tokens", "4", "--epochs", "2", "--device", "cpu"]
BBH = {"input": "not True is", "target": "False", "task": "boolean_expressions"}


def tsp(*words, **environment):
    """Call the command in this process: a new one would spend seconds importing torch."""
    told = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"} | environment
    out, err = io.StringIO(), io.StringIO()
    argv = patch.object(sys, "argv", ["tsp", *map(str, words)])
    with argv, patch.dict(os.environ, told), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
    return SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())


def fails(code, pattern, *words, **environment):
    done = tsp(*words, **environment)
    assert done.returncode == code, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert re.search(pattern, last), done.stderr
    assert "Traceback" not in done.stderr
    return done


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return path.parent


def ids(folder):
    return [row["id"] for row in json.loads(tsp("runs", "list", "--runs", folder, "--json").stdout)]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with one run on a made-up problem, and what the command printed."""
    folder = tmp_path_factory.mktemp("cli")
    data = write(folder / "bbh.jsonl", json.dumps(BBH))
    done = tsp("run", "--task", "bbh", "--data", data, "--runs", folder / "runs", *TINY)
    assert done.returncode == 0, done.stderr
    return folder / "runs", done


def test_help_explains_every_option():
    done = tsp("run", "--help")
    assert done.returncode == 0
    for option in (
        "model",
        "task",
        "data",
        "regime",
        "problem",
        "method",
        "lambda-ts",
        "protocol",
        "placement",
        "n-tokens",
        "lr",
        "epochs",
        "seed",
        "runs",
    ):
        assert f"--{option}" in done.stdout
    for command in ("sweep", "report", "book", "bench", "export", "doctor", "runs", "model"):
        assert tsp(command, "--help").returncode == 0


def test_a_run_shows_its_answers_and_is_stored(store):
    folder, done = store
    (run_id,) = [
        it["id"] for it in json.loads(tsp("runs", "list", "--runs", folder, "--json").stdout)
    ]
    assert run_id in done.stdout
    assert re.search(r"epoch +2 .* 0/6 tokens", done.stdout)
    shown = tsp("runs", "show", run_id, "--runs", folder)
    assert "bbh#0 tsloss" in shown.stdout
    record = json.loads(tsp("runs", "show", run_id, "--runs", folder, "--json").stdout)
    assert record["id"] == run_id
    assert record["problems"][0]["source"] == "local"


def test_plan_prints_the_memory_of_a_run_and_stops(tmp_path):
    data = write(tmp_path / "bbh.jsonl", json.dumps(BBH))
    words = ["run", "--plan", "--task", "bbh", "--data", data, "--runs", tmp_path / "runs"]
    done = tsp(*words, *TINY)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines, sizes = done.stdout.splitlines(), _sizes(done.stdout)
    assert lines[0] == "bbh#0 tsloss λ=1 tuned seed 0, tiny-llama, 2 epochs"
    assert sizes["weights"] == [0.1, 0.0]  # MiB: 26,880 numbers, which all runs share
    for name in ("contexts", "prompts, optimiser", "activations", "vocabulary", "generation"):
        assert name in sizes
    assert sizes["peak"][0] >= sizes["activations"][0] > 0
    assert re.search(r"free on cpu: \d+ MiB; token budget \d+, float32, threads \d+", lines[-1])
    assert [it.name for it in tmp_path.iterdir()] == ["bbh.jsonl"]  # nothing was written
    longer = _sizes(tsp(*words, *TINY, "--n-tokens", "400").stdout)
    assert longer["activations"][0] > 5 * sizes["activations"][0]
    fails(2, "device = 'abacus'", *words, *TINY, "--device", "abacus")


def _sizes(table):
    """Columns of the plan's table, in MiB, by what takes them."""
    rows = re.findall(r"^(\w.*?) +([\d.]+) +([-\d.]+)$", table, re.MULTILINE)
    return {name: [float(one), float(more)] for name, one, more in rows}


def test_the_store_may_be_named_by_the_environment(store):
    done = tsp("runs", "list", "--json", TSP_RUNS=str(store[0]))
    assert len(json.loads(done.stdout)) == 1


def test_json_is_json_and_nothing_else(store, tmp_path):
    for words in (("runs", "list"), ("runs", "verify"), ("report",), ("doctor",)):
        where = [] if words == ("doctor",) else ["--runs", store[0]]
        done = tsp(*words, *where, "--json")
        assert done.returncode == 0, done.stderr
        assert isinstance(json.loads(done.stdout), dict if words == ("doctor",) else list)
    (tmp_path / "none").mkdir()
    assert json.loads(tsp("runs", "list", "--runs", tmp_path / "none", "--json").stdout) == []


def test_verify_names_a_damaged_run_and_exits_1(store, tmp_path):
    shutil.copytree(store[0], tmp_path / "runs")
    (folder,) = [it for it in (tmp_path / "runs").iterdir() if it.name != "plans"]
    assert tsp("runs", "verify", "--runs", tmp_path / "runs").returncode == 0
    (folder / "checks.parquet").write_bytes(b"")
    done = tsp("runs", "verify", "--runs", tmp_path / "runs")
    assert done.returncode == 1
    assert folder.name in done.stderr
    assert "checks.parquet" in done.stderr
    for words in (["report"], ["runs", "show", folder.name]):
        fails(1, f"run {folder.name}: checks.parquet", *words, "--runs", tmp_path / "runs")
    (folder / "run.json").write_bytes(b"")
    for words in (["runs", "list"], ["report"]):
        done = tsp(*words, "--runs", tmp_path / "runs")
        assert done.returncode == 0
        assert f"skipped: run {folder.name}" in done.stderr


def test_a_run_without_prompts_is_not_exported(tmp_path):
    published = Store(data_dir("runs"))
    bare = next(it for it in published.ids() if not published.read(it).prompt_epochs)
    told = ("export", bare, "--to", tmp_path / "x", "--runs", published.root)
    fails(2, f"epoch = '?0'?: run {bare} keeps no prompts", *told)
    assert not (tmp_path / "x").exists()


def test_export_writes_an_adapter_that_peft_knows(store, tmp_path):
    (run_id,) = [
        it["id"] for it in json.loads(tsp("runs", "list", "--runs", store[0], "--json").stdout)
    ]
    done = tsp("export", run_id, "--to", tmp_path / "adapter", "--runs", store[0])
    assert done.returncode == 0, done.stderr
    assert "after the question" in done.stderr  # PEFT puts a prompt elsewhere
    from peft import PeftConfig

    config = PeftConfig.from_pretrained(str(tmp_path / "adapter"))
    assert (config.peft_type, config.num_virtual_tokens) == ("PROMPT_TUNING", 4)
    fails(2, "exists already", "export", run_id, "--to", tmp_path / "adapter", "--runs", store[0])


WRONG = [
    (r"model = 'gpt-9': choose one of smollm2", ["--model", "gpt-9"]),
    (r"task = 'gsm9k'.*gsm8k", ["--task", "gsm9k"]),
    (r"protocol = 'quick'.*paper, tuned, released", ["--protocol", "quick"]),
    (r"n_tokens = 0: give a whole number of at least 1", ["--n-tokens", "0"]),
    (r"lr = -1\.0: give a finite number above 0", ["--lr", "-1"]),
    (r"lambda_ts = nan: give a finite number", ["--lambda-ts", "nan"]),
    (r"epochs = 500: protocol 'tuned' schedules 300", ["--epochs", "500"]),
    (r"problem = 99", ["--problem", "99"]),
    (r"data = '/no/such'", ["--data", "/no/such"]),
    (r"device = 'abacus'", ["--device", "abacus"]),
    (r"hub gave no 'google/gemma-2b-it'.*tiny-llama", ["--model", "gemma-2b-it"]),
]


@pytest.mark.parametrize(("pattern", "words"), WRONG)
def test_wrong_input_is_one_line_and_exit_2(pattern, words, tmp_path):
    given = ["--model", "tiny-llama", "--task", "gsm8k", "--runs", tmp_path / "runs", *words]
    fails(2, pattern, "run", *given, HF_HUB_OFFLINE="1")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("line", "pattern"),
    [
        ("{not json", r"bbh\.jsonl.*2"),
        ('{"input": "1 is", "task": "x"}', r"bbh\.jsonl.*2.*target"),
        ('{"input": "1 is", "target": "", "task": "x"}', r"bbh\.jsonl.*2.*target"),
        ("[1]", r"bbh\.jsonl.*2"),
    ],
)
def test_a_bad_line_is_named_with_its_number(line, pattern, tmp_path):
    data = write(tmp_path / "bbh.jsonl", json.dumps(BBH), line)
    fails(
        2,
        pattern,
        "run",
        "--task",
        "bbh",
        "--data",
        data,
        "--problem",
        1,
        "--runs",
        tmp_path / "runs",
        *TINY,
    )


def test_a_context_longer_than_the_window_is_refused(tmp_path):
    data = write(tmp_path / "bbh.jsonl", json.dumps(BBH | {"input": "word " * 2000}))
    fails(
        2,
        r"problem = 0: row 0 .*takes \d+ tokens.*reads 4096",
        "run",
        "--task",
        "bbh",
        "--data",
        data,
        "--runs",
        tmp_path / "runs",
        *TINY,
    )


def test_other_wrong_words(tmp_path, store):
    fails(2, "experiment = 'table9'", "sweep", "table9")
    fails(2, "profile = 'huge'", "sweep", "table3", "--profile", "huge")
    fails(2, "run = 'abc'", "runs", "show", "abc", "--runs", store[0])
    fails(2, "runs = .*no such folder", "runs", "list", "--runs", tmp_path / "missing")
    fails(2, "model = 'tiny-llama'.*can be installed", "model", "install", "tiny-llama")
    fails(2, "runs = .*is a file; name a folder", "runs", "list", "--runs", __file__)
    fails(2, "model = '/no/such': no such folder", "run", "--model", "/no/such")
    for pattern, words in (
        ("--no-such-option", ["run", "--no-such-option"]),
        ("abacus.*local", ["sweep", "table3", "--engine", "abacus"]),
        ("--n-tokens.*abc", ["run", "--n-tokens", "abc"]),
        ("(?i)experiment", ["sweep"]),
    ):
        done = fails(2, pattern, *words)
        assert len(done.stderr.strip().splitlines()) == 1
    assert "Usage" in tsp("runs").stdout + tsp("runs").stderr


def test_failures_exit_1_and_debug_shows_where(tmp_path):
    target = tmp_path / "file"
    target.write_text("")
    data = write(tmp_path / "bbh.jsonl", json.dumps(BBH))
    words = ["run", "--task", "bbh", "--data", data, "--runs", target / "runs", *TINY]
    fails(1, "Not a directory; name another folder", *words)
    with pytest.raises(NotADirectoryError):
        tsp(*words, "--debug")


def test_as_a_program_it_ends_with_the_same_codes(tmp_path):
    call = [sys.executable, "-c", "from tsp.cli.main import main; main()"]
    done = subprocess.run([*call, "run", "--lr", "-1"], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "tsp: lr = -1.0: give a finite number above 0\n"
    done = subprocess.run([*call, "run", "--lr", "-1", "--debug"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_sweep_draws_bars_and_can_be_repeated(tmp_path):
    words = ["sweep", "table3", "--profile", "smoke", "--runs", str(tmp_path), "--device", "cpu"]
    call = [sys.executable, "-c", "from tsp.cli.main import main; main()", *words]
    bars = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"}
    first = subprocess.run(call, capture_output=True, text=True, env=bars)
    assert first.returncode == 0, first.stderr
    assert re.search(r"mmlu_cf single: .*loss \d\.\d+, correct \d/4", first.stderr)
    assert first.stdout.startswith("10 runs of 'table3'")
    second = tsp(*words)
    assert second.stderr == ""
    assert second.stdout == first.stdout


def test_the_command_line_starts_without_torch():
    code = "import sys, tsp.cli.main; assert 'torch' not in sys.modules, 'torch'"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
