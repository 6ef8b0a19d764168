"""The command line as a user meets it: words in; output, error line and exit code out."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.terminal import BBH, TINY, fails, loads, tsp, write
from tsp.paths import data_dir
from tsp.store.runs import Store

BAD_LINE = ["run", "--task", "bbh", "--problem", 1, *TINY]


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
    options = (
        "model task data regime problem method lambda-ts protocol placement n-tokens lr epochs"
    )
    for option in f"{options} seed runs".split():
        assert f"--{option}" in done.stdout
    for command in ("sweep", "report", "book", "bench", "export", "doctor", "runs", "model"):
        assert tsp(command, "--help").returncode == 0


def test_a_run_shows_its_answers_and_is_stored(store):
    folder, done = store
    (run_id,) = Store(folder).ids()
    assert run_id in done.stdout
    assert re.search(r"epoch +2 .* 0/6 tokens", done.stdout)
    shown = tsp("runs", "show", run_id, "--runs", folder)
    assert "bbh#0 tsloss" in shown.stdout
    record = loads("runs", "show", run_id, "--runs", folder, "--json")
    assert record["problems"][0]["source"] == "local"


def test_plan_prints_the_memory_of_a_run_and_stops(tmp_path):
    data = write(tmp_path / "bbh.jsonl", json.dumps(BBH))
    words = ["run", "--plan", "--task", "bbh", "--data", data, "--runs", tmp_path / "runs"]
    done = tsp(*words, *TINY)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines, sizes = done.stdout.splitlines(), _sizes(done.stdout)
    assert lines[0] == "bbh#0 tsloss λ=1 tuned seed 0, tiny-llama, 2 epochs"
    assert sizes["weights"] == 0.1  # MiB: 26,880 numbers
    for name in ("contexts", "prompts", "activations", "answers"):
        assert name in sizes
    assert sizes["peak"] >= sizes["activations"] > 0
    assert re.search(r"free on cpu: \d+ MiB; token budget \d+, float32, threads \d+", lines[-1])
    assert [it.name for it in tmp_path.iterdir()] == ["bbh.jsonl"]  # nothing was written
    longer = _sizes(tsp(*words, *TINY, "--n-tokens", "400").stdout)
    assert longer["activations"] > 5 * sizes["activations"]
    fails(2, "device = 'abacus'", *words, *TINY, "--device", "abacus")


def _sizes(table):
    """Return the sizes in the plan's table, in MiB."""
    return {name: float(size) for name, size in re.findall(r"^(\w+) +([\d.]+) MiB$", table, re.M)}


def test_the_store_may_be_named_by_the_environment(store):
    done = tsp("runs", "list", "--json", TSP_RUNS=str(store[0]))
    assert len(json.loads(done.stdout)) == 1


def test_an_empty_store_lists_nothing(tmp_path):
    assert loads("runs", "list", "--runs", tmp_path, "--json") == []
    assert "no runs in" in tsp("runs", "list", "--runs", tmp_path).stdout


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
    (run_id,) = Store(store[0]).ids()
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
    *((r"problem = 99", ["--problem", "99"]), (r"data = '/no/such'", ["--data", "/no/such"])),
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
        ('{"input": "1 is", "target": "", "task": "x"}', r"bbh\.jsonl.*2.*target"),
        (
            json.dumps(BBH | {"input": "word " * 2000}),
            r"problem = 1: row 1 .*\d+ tokens.*reads 4096",
        ),
    ],
)
def test_a_bad_line_is_named_with_its_number(line, pattern, tmp_path):
    data = write(tmp_path / "bbh.jsonl", json.dumps(BBH), line)
    fails(2, pattern, *BAD_LINE, "--data", data, "--runs", tmp_path / "runs")


def test_other_wrong_words(tmp_path, store):
    fails(2, "experiment = 'table9'", "sweep", "table9")
    fails(2, "profile = 'huge'", "sweep", "table3", "--profile", "huge")
    fails(2, "run = 'abc'", "runs", "show", "abc", "--runs", store[0])
    fails(2, "runs = .*no such folder", "runs", "list", "--runs", tmp_path / "missing")
    fails(2, "model = 'tiny-llama'.*can be installed", "model", "install", "tiny-llama")
    fails(2, "runs = .*is a file; name a folder", "runs", "list", "--runs", __file__)
    fails(2, "File name too long; name a shorter path", "runs", "list", "--runs", "x" * 400)
    fails(2, "data = .*is a file; give the folder", "run", "--data", __file__, *TINY)
    fails(2, "model = '/no/such': no such folder", "run", "--model", "/no/such")
    for pattern, words in (
        ("--no-such-option", ["run", "--no-such-option"]),
        ("abacus.*local", ["sweep", "table3", "--engine", "abacus"]),
        *(("--n-tokens.*abc", ["run", "--n-tokens", "abc"]), ("(?i)experiment", ["sweep"])),
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
