"""Measurements against peers: what is timed, and the rows that are written."""

import json
from collections import Counter
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from benchmarks import bench, epochs, gpu_banks, measuring, states, training
from tests.conftest import PLAN, problem, spec
from tests.terminal import fails, loads, tsp
from tsp.training import models, products, trainer
from tsp.training.decoding import greedy_answers
from tsp.training.trainer import train_bank

PEERS = ("gudhi", "giotto", "ripser")


def test_ratios_are_those_of_the_times_and_a_missing_peer_is_left_out(monkeypatch):
    monkeypatch.setattr(models, "installed", lambda name: False)
    rows = loads("bench", "--repeats", 1, "--json", "-")
    assert [row["name"] for row in rows] == [f"topology_vs_{name}_n40" for name in PEERS]
    for row in rows:
        assert min(row["ours"], row["peer"]) > 0
        assert row["ratio"] == pytest.approx(row["peer"] / row["ours"])
        assert row["torch"].startswith(torch.__version__.split("+")[0])
        wanted = {"machine", "processor", "device", "threads", "repeats", "unit", "peer_name"}
        assert wanted <= set(row)
    monkeypatch.setattr(bench, "find_spec", lambda name: None if name == "ripser" else name)
    assert [row["name"] for row in bench.measure(repeats=1)] == [row["name"] for row in rows[:2]]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_measurements_of_training(monkeypatch, precision):
    """Measure a tiny model that solves its problem at once."""
    frozen = models.load("tiny-llama")
    one = problem("Which letter?", "B", metric="choice")
    two = [one, problem("Which of the letters is it?", "A", metric="choice")]
    shipped = {"single": [one], "multi": two}
    monkeypatch.setattr(training, "load_problems", lambda task, regime="single": shipped[regime])
    monkeypatch.setattr(training, "long_problem", lambda frozen: one)
    monkeypatch.setitem(training.SQUARE, "cpu", 64)
    units = {}

    def compared(name, *sides, **options):
        units[name] = options.get("units")
        return measuring.compared(name, *sides, **options)

    monkeypatch.setattr(training, "compared", compared)
    noise = torch.Generator().manual_seed(0)
    monkeypatch.setattr(states, "load", lambda *names: torch.randn(40, 32, generator=noise))
    monkeypatch.setattr(training, "with_compiled_layers", lambda side: side.frozen)  # takes long
    works = bench._training(training.Side(frozen, precision), 1, full=True)
    rows = {row["name"]: row for name, work in works.items() for row in work()}
    assert all(name.startswith(tuple(works)) or name == "topology_share" for name in rows)
    left_out = {"topology_vs"}
    if precision == "float32":
        left_out |= {"gemm_fraction_b", "epoch_single_early_vs_peft_f"}
    assert set(rows) == {name for name in bench.AIMS if not name.startswith(tuple(left_out))}
    table = bench.render([row | measuring.environment() for row in rows.values()])
    assert "at most 1%" in table
    assert "at least 60 × s per step and run; PEFT and Trainer, 1 repeats" in table
    for name, row in rows.items():
        inverse = name in ("tsloss_share", "topology_share")
        assert row["ratio"] == pytest.approx((row["peer"] / row["ours"]) ** (-1 if inverse else 1))
        plain = name.endswith(("_float32", "_alike")) or name == "gemm_fraction"
        assert row["precision"] == ("float32" if plain else precision)
    products = {units[name][1] for name in rows if name.startswith("gemm")}
    assert products == {2 * 64**3 / 1e9}  # operations of a product of matrices of 64 rows
    assert {units[name] for name in rows if name.startswith("step_context")} == {(8, 1)}
    for name, row in rows.items():
        if name.startswith("epoch"):
            assert row["ours"] == pytest.approx(row["ours_pass"] + row["ours_check"] / 2)
            assert row["peer"] == pytest.approx(row["peer_pass"] + row["peer_check"] / 2)
    assert all(row["peer_rule"] > 0 for name, row in rows.items() if name.endswith("late_vs_peft"))
    single = rows["run_single_vs_peft"]
    assert (single["ours_runs"], single["peer_runs"], single["model"]) == (8, 1, "tiny-llama")
    assert (single["peer_precision"], single["peer_placement"]) == ("float32", "prefix")
    seconds = single["ours"] * single["ours_epochs"] / 8
    assert single["ours_seconds_per_run"] == pytest.approx(seconds)
    assert rows["topology_share"]["peer"] == single["ours"]
    if precision == "float32":
        until = {"epochs": 100, "early_stop": True, "max_new_tokens": 34}
        specs = training.specs_of("tiny-llama", 8, **until)
        results = train_bank(specs, frozen, [[one]] * 8, plan=PLAN)
        assert single["ours_epochs"] == sum(len(result.epochs) for result in results)
        assert single["ours_solved"] == sum(result.checks[-1]["correct"] for result in results)


def test_the_checks_that_are_timed_are_those_of_a_bank(monkeypatch, tiny):
    """Nine of ten end at the first wrong answer, the last asks all; the work can be repeated."""
    frozen = tiny("tiny-llama")
    problems = [problem(f"Which letter, {k}?", "B", metric="choice") for k in range(4)]
    specs = training.specs_of("tiny-llama", 2, max_new_tokens=3, n_tokens=5)
    bank = training.Side(frozen, "float32").bank(specs, problems)
    work = epochs._checks(bank, torch.randn(5, 32, generator=torch.Generator().manual_seed(0)))
    decoded = []

    def counted(frozen, rows, **options):
        decoded.extend(rows)
        return greedy_answers(frozen, rows, **options)

    monkeypatch.setattr(trainer, "greedy_answers", counted)
    assert work().units == 2 * 10
    first = [list(run.result.checks) for run in bank.runs]
    one, other = (run.result.prompts[2] for run in bank.runs)
    assert one.ne(other).all()
    for run in bank.runs:
        asked = Counter(row["epoch"] for row in run.result.checks)
        assert asked == {0: 4, **dict.fromkeys(range(2, 20, 2), 1), 20: 4}
        assert not any(row["correct"] for row in run.result.checks)
        assert len({one.numpy().tobytes() for one in run.result.prompts.values()}) == 11
    assert len(decoded) == 2 * (9 + 4)  # no two answers are taken for one
    work()  # again the same
    assert [run.result.checks for run in bank.runs] == first


def test_a_compiled_pass_is_the_same(tiny, monkeypatch):
    """Losses and gradients of rows with and without shared contexts; the layers are compiled."""
    monkeypatch.setattr(products, "prefers_onednn", lambda: False)  # as on a GPU
    one = [problem("Which letter?", "B", metric="choice")]
    side, graphs = training.Side(tiny(), "float32"), []

    def noted(graph, inputs):
        graphs.append(graph)
        return graph.forward

    specs = [spec(), spec(placement="prefix", seed=1)]
    twin = training.with_compiled_layers(side, backend=noted)
    banks = [side.bank(specs, one), side.bank(specs, one, frozen=twin)]
    losses = [bank.losses({run: [0] for run in bank.runs}, [], 1) for bank in banks]
    assert 0 < len(graphs) < 20  # layers share them
    for plain, compiled in zip(*(loss.values() for loss in losses), strict=True):
        assert compiled.value == pytest.approx(plain.value, rel=1e-5)
        torch.testing.assert_close(compiled.gradient, plain.gradient, rtol=1e-4, atol=1e-6)


def test_where_nothing_compiles_there_is_no_row(tiny, monkeypatch):
    def broken(graph, inputs):
        raise NotImplementedError("no compiler here")

    compiled = partial(training.with_compiled_layers, backend=broken)
    monkeypatch.setattr(training, "with_compiled_layers", compiled)
    one = [problem("Which letter?", "B", metric="choice")]
    side = training.Side(tiny(), "float32")
    assert training.step_compiled(side, 1, [spec()], one) == []


def test_banks_of_growing_size_are_resumed(monkeypatch, tiny, tmp_path):
    one = [problem("Which letter?", "B", metric="choice")]
    monkeypatch.setattr(training, "load_problems", lambda task, regime: one)
    frozen = tiny("tiny-llama")
    monkeypatch.setattr(models, "load", lambda: frozen)
    monkeypatch.setattr(gpu_banks, "EPOCHS", 2)
    monkeypatch.setattr(gpu_banks, "SIZES", (1, 4))
    full = torch.OutOfMemoryError("no room for a second bank")
    steps = [[{"ours": 1.0, "peer": 2.0, "first": 30.0}], full]
    file = tmp_path / "gpu.json"

    def step_compiled(*given):
        assert json.loads(file.read_text())[-1]["peer_bfloat16"] > 0  # its row is kept already
        step = steps.pop(0)
        if step is full:
            raise step
        return step

    monkeypatch.setattr(gpu_banks, "step_compiled", step_compiled)
    monkeypatch.setitem(training.SQUARE, "cpu", 64)
    monkeypatch.setattr(training, "choose", lambda *given: "bfloat16")
    fails(2, "gpu = 'cpu': torch sees no GPU", "bench", "--gpu", file)
    # The bench alone sees a card: torch built for CUDA would look for its driver.
    card = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: True))
    monkeypatch.setattr(bench, "torch", card)
    bench.run(None, 1, (), {"gpu": file})
    first = json.loads(file.read_text())
    assert [(row["runs"], row["name"]) for row in first] == [
        (1, "bank1_vs_peft"),
        (4, "bank4_vs_peft"),
    ]
    for row in first:
        assert row["ratio"] == pytest.approx(row["peer"] / row["ours"])
        assert row["per_hour"] == pytest.approx(36 / row["ours"])
        assert 0 < row["fraction"] < 1
    assert (first[0]["compiled_ours"], first[0]["compiled_peer"]) == (1.0, 2.0)
    assert first[0]["compiled_first"] == 30.0
    assert first[1]["compiled_ours"] is None
    steps += [[], []]
    monkeypatch.setattr(gpu_banks, "SIZES", (1, 2, 4))
    stopped = {key: first[1][key] for key in first[1] if not key.startswith("compiled")}
    file.write_text(json.dumps([first[0], stopped]))
    bench.run(None, 1, (), {"gpu": file})
    again = json.loads(file.read_text())
    assert [row["runs"] for row in again] == [1, 2, 4]
    assert again[0] == first[0]  # it was not measured again
    assert not steps  # the one that was interrupted was
    assert "compiled_ours" in again[2]


def test_both_sides_are_timed_in_turn_and_per_unit(monkeypatch):
    clock, order = [0.0], []
    monkeypatch.setattr(measuring.time, "perf_counter", lambda: clock[0])

    def side(name, seconds, done):
        def work():
            order.append(name)
            clock[0] += seconds.pop(0)
            return done

        return work

    two = measuring.Done(2, {"solved": 1})
    ours, peer = side("ours", [9.0, 2.0, 4.0, 2.0], two), side("peer", [9.0, 6.0, 6.0, 60.0], True)
    row = measuring.compared("x", ours, peer, 3, "other")
    assert order == ["ours", "peer"] * 4  # the first of each warms up
    assert (row["ours"], row["peer"], row["ratio"]) == (1.0, 6.0, 6.0)  # medians; True is one unit
    assert row["ours_solved"] == 1
    order.clear()
    ours, peer = (side(name, [31.0], True) for name in ("ours", "peer"))
    assert measuring.compared("x", ours, peer, 1, "other")["ours"] == 31
    assert order == ["ours", "peer"]  # work of half a minute needs no warming up


def test_the_long_problem_has_about_five_thousand_tokens(smollm):
    long = training.long_problem(smollm)
    assert len(smollm.encode(long.question, long.target).before) == pytest.approx(5000, abs=60)


def test_measurements_replace_their_own_rows_in_a_file_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(models, "installed", lambda name: False)
    file, other = tmp_path / "bench.json", {"name": "run_multi_vs_peft", "ratio": 1.0}
    here, elsewhere = measuring.environment(), {"processor": "another", "device": "cpu"}
    other |= here
    old, theirs = ({"name": "topology_vs_gudhi_n40", "ratio": 0.0} | at for at in (here, elsewhere))
    file.write_text(json.dumps([other, old, theirs]))
    words = ("bench", "--json", file, "--repeats", "1", "--only")
    done = tsp(*words, "topology_vs_gudhi")
    assert done.returncode == 0, done.stderr
    kept, another, measured = json.loads(file.read_text())
    assert (kept, another, measured["name"]) == (other, theirs, "topology_vs_gudhi_n40")
    assert measured["ratio"] > 0
    fails(2, "only = 'speed': begin as one of topology_vs_gudhi_n40", *words, "speed")
    file.write_text("[{}]")
    fails(2, "holds no rows", *words, "topology_vs_gudhi")
    assert file.read_text() == "[{}]"


def test_a_wheel_has_no_benchmarks(monkeypatch, tmp_path):
    monkeypatch.setattr("tsp.cli.project.ROOT", tmp_path)
    fails(2, "bench = .*: the benchmarks come with a checkout", "bench")


def test_rows_are_written_as_soon_as_they_are_measured(monkeypatch, tmp_path):
    def measure(**options):
        yield {"name": "topology_vs_gudhi_n40"} | measuring.environment()
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "measure", measure)
    with pytest.raises(KeyboardInterrupt):
        bench.run(tmp_path / "rows.json", 1, (), {})
    [row] = json.loads((tmp_path / "rows.json").read_text())
    assert row["name"] == "topology_vs_gudhi_n40"
