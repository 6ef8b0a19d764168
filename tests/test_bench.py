import json

import pytest
import torch
from transformers import Trainer, TrainingArguments

from benchmarks import bench, measuring
from tests.conftest import PLAN, problem, spec
from tests.test_cli import tsp
from tsp.cli.doctor import examine
from tsp.interop import peers
from tsp.interop.peers import KINDS, PeerRun, TSLossTrainer, with_peft
from tsp.loss import TSLoss
from tsp.training import models
from tsp.training.flops import arithmetic, shares, traffic
from tsp.training.memory import per_position
from tsp.training.trainer import train_bank


def told(ours, peer, name="step_context_5k_vs_peft"):
    return {
        "name": name,
        "ours": ours,
        "peer": peer,
        "ratio": peer / ours,
        "peer_name": "p",
        "unit": "s",
        "repeats": 3,
    }


def test_ratios_are_those_of_the_times(monkeypatch):
    monkeypatch.setattr(models, "installed", lambda name: False)
    rows = bench.measure(repeats=1)
    names = {row["name"] for row in rows}
    assert names == {f"topology_vs_{name}_n40" for name in ("gudhi", "giotto", "ripser")}
    for row in rows:
        assert row["ours"] > 0
        assert row["peer"] > 0
        assert row["ratio"] == pytest.approx(row["peer"] / row["ours"])
        assert row["torch"] == torch.__version__.split("+")[0] or row["torch"] == torch.__version__
        wanted = {"machine", "processor", "device", "threads", "repeats", "unit", "peer_name"}
        assert wanted <= set(row)
    text = bench.render(rows)
    assert all(name in text for name in names)


def test_a_peer_that_is_not_installed_is_left_out(monkeypatch):
    monkeypatch.setattr(models, "installed", lambda name: False)
    monkeypatch.setattr(bench, "find_spec", lambda name: None if name == "ripser" else name)
    rows = bench.measure(repeats=1)
    assert [row["name"] for row in rows] == ["topology_vs_gudhi_n40", "topology_vs_giotto_n40"]


ENDED = {"regime": "single", "epochs": 100, "early_stop": True, "max_new_tokens": 34}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_measurements_of_training(monkeypatch, precision):
    """The measuring itself, on a tiny model that solves its problem at once."""
    frozen = models.load("tiny-llama")
    one = problem("Which letter?", "B", metric="choice")
    two = [one, problem("Which of the letters is it?", "A", metric="choice")]
    shipped = {"single": [one], "multi": two}
    monkeypatch.setattr(bench, "load_problems", lambda task, regime="single": shipped[regime])
    monkeypatch.setattr(bench, "_long_problem", lambda frozen: one)
    monkeypatch.setitem(bench.SQUARE, "cpu", 64)
    works = bench.training(bench.Side(frozen, precision), 1)
    rows = {row["name"]: row for name, work in works.items() for row in work()}
    assert all(name.startswith(tuple(works)) or name == "topology_share" for name in rows)
    low = {"gemm_fraction_bfloat16", "epoch_single_vs_peft_float32"}
    wanted = {name for name in bench.AIMS if not name.startswith(("topology_vs", "bank64"))}
    assert set(rows) == (wanted if precision == "bfloat16" else wanted - low)
    for name, row in rows.items():
        ratio = row["peer"] / row["ours"]
        inverted = name in ("tsloss_share", "topology_share")
        assert row["ratio"] == pytest.approx(1 / ratio if inverted else ratio)
        assert row["precision"] == (
            "float32" if "float32" in name or name == "gemm_fraction" else precision
        )
    single = rows["epoch_single_vs_peft"]
    assert (single["ours_runs"], single["peer_runs"]) == (8, 1)
    results = train_bank(bench._specs("tiny-llama", 8, **ENDED), frozen, [[one]] * 8, plan=PLAN)
    if precision == "float32":
        assert single["ours_epochs"] == sum(len(result.epochs) for result in results)
        assert single["ours_solved"] == sum(result.checks[-1]["correct"] for result in results)
    assert single["ours_seconds_per_run"] == pytest.approx(
        single["ours"] * single["ours_epochs"] / 8
    )
    assert single["model"] == "tiny-llama"
    assert (single["peer_precision"], single["peer_placement"]) == ("float32", "prefix")
    assert rows["topology_share"]["peer"] == single["ours"]


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


def test_work_of_half_a_minute_is_not_repeated_to_warm_up(monkeypatch):
    clock, calls = [0.0], []

    def slow():
        calls.append(1)
        clock[0] += 31.0

    monkeypatch.setattr(measuring.time, "perf_counter", lambda: clock[0])
    row = measuring.compared("x", slow, slow, 1, "other")
    assert len(calls) == 2
    assert row["ours"] == 31


def test_arithmetic_by_hand(tiny):
    frozen = tiny()
    one = problem("What?", "four")
    coded = frozen.encode(one.question, one.target)
    count = arithmetic(frozen, one, spec(n_tokens=5))
    weights = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64 + 2 * 32) + 32  # two layers, last norm
    own = 5 + len(coded.after) + len(coded.target) - 1
    assert count["own"] == own
    assert count["all"] == len(coded.before) + own + 1
    assert count["target"] == len(coded.target)
    every, before = count["all"], len(coded.before)
    near, far = own * (own + 1) // 2, own * before  # query and key pairs; two layers of width 32
    attention = 2 * 2 * 32 * (6 * near + 4 * far)
    linear = 4 * (weights * own + 259 * 32 * count["target"])
    assert count["ours"] == pytest.approx((linear + attention) / 1e9)
    whole = 4 * (weights + 259 * 32) * every + 2 * 2 * 32 * 6 * every * (every + 1) // 2
    assert count["plain"] == pytest.approx(whole / 1e9)
    assert count["saved"] == pytest.approx(count["plain"] / count["ours"])


def test_a_window_meets_few_keys(tiny):
    """Gemma 3: of the layers with a window of 8, each query meets itself and seven before it."""
    frozen = tiny("tiny-gemma3")
    one = problem("What is it, and why? " * 3, "four of them")
    count, coded = (
        arithmetic(frozen, one, spec(n_tokens=5)),
        frozen.encode(one.question, one.target),
    )
    before, own = len(coded.before), count["own"]
    met = 0
    for layer in range(frozen.model.config.num_hidden_layers):
        window = frozen.window_of(layer) or 10**9
        for k in range(before, before + own):
            for key in range(k + 1):
                met += (k - key < window) * (6 if key >= before else 4)
    config = frozen.model.config
    width = config.head_dim * config.num_attention_heads
    assert count["ours"] - count["linear"] == pytest.approx(2 * width * met / 1e9)


def test_bytes_of_a_step_by_hand(tiny):
    frozen = tiny()
    one = problem("What?", "four")
    coded, told = frozen.encode(one.question, one.target), spec(n_tokens=5)
    found = traffic(frozen, one, told, runs=3)
    table, layer = 259 * 32, 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64 + 2 * 32
    assert found["weights"] == 2 * 4 * (2 * layer + 32 + table)
    assert found["context"] == 2 * len(coded.before) * 2 * 2 * 16 * 4
    own = 5 + len(coded.after) + len(coded.target) - 1
    assert found["activations"] == 2 * 3 * own * per_position(frozen, torch.float32)


def test_where_the_time_of_a_step_goes(tiny):
    told = [spec(seed=k, method="ce") for k in range(2)]
    one = [problem("What?", "four")]
    found = shares(bench.Side(tiny(), "float32").bank(told, one))
    assert set(found) == {"products", "attention", "rest"}
    assert sum(found.values()) == pytest.approx(1)
    assert min(found.values()) > 0


def test_every_measurement_has_an_aim_and_a_name(tiny):
    wanted = {"epoch_single_vs_peft", "step_context_5k_vs_unshared", "step_context_5k_vs_peft"}
    wanted |= {"epoch_multi_vs_peft", "gemm_fraction", "tsloss_share", "bank64_gpu_vs_peft"}
    assert wanted | {"topology_vs_gudhi_n40", "topology_vs_giotto_n40"} <= set(bench.AIMS)
    assert bench.AIMS["tsloss_share"].text == "at most 2%"
    assert bench.AIMS["step_context_5k_vs_peft"].text == "at least 30 ×"
    assert "at least 30 × s; p, 3 repeats" in bench.render(
        [told(1.0, 2.0) | measuring.environment()]
    )


def test_the_peer_trains_as_we_do(tiny):
    """PEFT and Trainer, unmodified: after some epochs their prompt is ours."""
    frozen = tiny()
    run = spec(placement="prefix", method="ce", epochs=3, lr=0.05)
    one = [problem("two and two?", "four")]
    work = with_peft(run, frozen, one)
    seen = {}
    monitor = Trainer.train

    def train(self, *args, **options):
        out = monitor(self, *args, **options)
        seen["prompt"] = self.model.prompt_encoder.default.embedding.weight.detach().clone()
        return out

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train", train)
        assert work().epochs == 3
        first = seen["prompt"]
        assert work().epochs == 3  # from the first prompt again
    assert torch.equal(first, seen["prompt"])
    (ours,) = train_bank([run], frozen, [one], plan=PLAN)
    torch.testing.assert_close(first, ours.prompts[3], rtol=1e-3, atol=1e-5)


def test_the_peer_stops_when_it_is_right(tiny):
    run = spec(placement="prefix", method="ce", n_tokens=16, lr=0.3, epochs=200, early_stop=True)
    one = [problem("Which letter?", "B", metric="choice")]
    (ours,) = train_bank([run], tiny(), [one], plan=PLAN)
    assert with_peft(run, tiny(), one)() == PeerRun(len(ours.epochs), solved=True)
    assert len(ours.epochs) < 200
    alone = with_peft(run.but(epochs=6), tiny(), one, check=False)()
    assert alone == PeerRun(6, solved=False)


def test_seeds_and_methods_of_a_bank():
    specs = bench._specs("tiny-llama", 4)
    told = [(one.method, one.seed) for one in specs]
    assert told == [("ce", 0), ("tsloss", 0), ("ce", 1), ("tsloss", 1)]


def test_the_long_problem_has_about_five_thousand_tokens(smollm):
    long = bench._long_problem(smollm)
    assert len(smollm.encode(long.question, long.target).before) == pytest.approx(5000, abs=60)


def test_the_command_writes_a_list(monkeypatch, tmp_path):
    monkeypatch.setattr(models, "installed", lambda name: False)
    done = tsp("bench", "--json", tmp_path / "bench.json", "--repeats", "1")
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "bench.json").read_text())
    assert isinstance(rows, list)
    assert "topology_vs_gudhi_n40" in done.stderr
    assert done.stdout == ""


def test_some_measurements_replace_their_rows_in_a_file(monkeypatch, tmp_path):
    monkeypatch.setattr(models, "installed", lambda name: False)
    file, other = tmp_path / "bench.json", {"name": "epoch_multi_vs_peft", "ratio": 1.0}
    file.write_text(json.dumps([other, {"name": "topology_vs_gudhi_n40", "ratio": 0.0}]))
    words = ("bench", "--json", file, "--repeats", "1", "--only")
    done = tsp(*words, "topology_vs_gudhi")
    assert done.returncode == 0, done.stderr
    kept, measured = json.loads(file.read_text())
    assert kept == other
    assert measured["name"] == "topology_vs_gudhi_n40"
    assert measured["ratio"] > 0
    done = tsp(*words, "speed")
    assert done.returncode == 2
    assert "only = 'speed': begin as one of topology_vs_gudhi_n40" in done.stderr


def test_the_doctor_knows_what_is_here(monkeypatch, tmp_path):
    monkeypatch.setenv("TSP_CACHE", str(tmp_path))
    monkeypatch.setenv("TSP_RUNS", str(tmp_path / "runs"))
    found = examine()
    assert found["packages"]["torch"] == torch.__version__
    assert "tsp model install gemma-3-270m" in found["models"]["gemma-3-270m"]
    assert found["models"]["tiny-llama"].startswith("ready")
    assert found["problems"]["gsm8k"].split()[0].isdigit()
    assert "(0 runs)" in found["places"]["run store"]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_tsloss_is_added_to_the_trainers_loss(tiny, kind, tmp_path):
    """Its gradient too: what PEFT trains gets the sum of both."""
    frozen = tiny("tiny-llama")
    run = spec(placement="prefix", n_tokens=6)
    model = peers._wrapped(run, frozen, kind)
    one = {"input_ids": torch.tensor([[5, 6, 7]]), "labels": torch.tensor([[-100, 6, 7]])}
    vectors = peers.prompt_vectors(model)
    assert vectors.shape[0] == 6
    assert vectors.requires_grad
    weights = [it for it in model.parameters() if it.requires_grad]

    quiet_arguments = TrainingArguments(output_dir=str(tmp_path), report_to=[], use_cpu=True)

    def loss_and_gradient(weight):
        with models.quiet():
            trainer = TSLossTrainer(model=model, lambda_ts=weight, args=quiet_arguments)
        value = trainer.compute_loss(model, dict(one))
        return value, torch.autograd.grad(value, weights, allow_unused=True)

    plain, own = loss_and_gradient(0.0)
    both, together = loss_and_gradient(100.0)
    ts = TSLoss()(peers.prompt_vectors(model))
    assert both.item() == pytest.approx((plain + 100 * ts).item(), rel=1e-5)
    alone = torch.autograd.grad(100 * ts, weights, allow_unused=True)
    for a, b, c in zip(own, alone, together, strict=True):
        if c is not None:
            wanted = sum(it for it in (a, b) if it is not None)
            torch.testing.assert_close(c, wanted, rtol=1e-3, atol=1e-5)


def test_micro_batches_do_not_multiply_tsloss(tiny, tmp_path):
    """One step of a batch of two, at once and in two parts: the prompt ends in the same place."""
    frozen, ends = tiny("tiny-llama"), []
    rows = [{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}] * 2
    for size, parts in ((2, 1), (1, 2)):
        model = peers._wrapped(spec(placement="prefix", n_tokens=6), frozen, "prompt tuning")
        told = {"per_device_train_batch_size": size, "gradient_accumulation_steps": parts}
        arguments = TrainingArguments(
            output_dir=str(tmp_path),
            report_to=[],
            use_cpu=True,
            max_steps=1,
            optim="sgd",
            lr_scheduler_type="constant",
            learning_rate=1.0,
            max_grad_norm=0.0,
            save_strategy="no",
            disable_tqdm=True,
            **told,
        )
        first = peers.prompt_vectors(model).detach().clone()
        with models.quiet():
            trainer = TSLossTrainer(
                model=model,
                lambda_ts=100.0,
                args=arguments,
                train_dataset=rows,
                data_collator=lambda items: peers._padded(items, frozen),
            )
            trainer.train()
        ends.append(peers.prompt_vectors(model).detach() - first)
    assert ends[0].norm() > 1e-3
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_call_trains_from_the_same_start(tiny, kind):
    run = spec(placement="prefix", epochs=2, lr=0.01)
    work = with_peft(run, tiny("tiny-llama"), [problem("Which?", "B")], check=False, kind=kind)
    one, other = work(), work()
    assert torch.equal(one.vectors[0], other.vectors[0])
    torch.testing.assert_close(one.vectors[1], other.vectors[1])
    assert not torch.equal(one.vectors[0], one.vectors[1])


def test_tsloss_in_a_real_peft_training_run_changes_the_prompt(tiny):
    frozen = tiny("tiny-llama")
    one = [problem("Which letter?", "B", metric="choice")]
    run = spec(placement="prefix", epochs=3, lr=0.01)
    plain = with_peft(run.but(method="ce", lambda_ts=0.0), frozen, one, check=False)()
    ours = with_peft(run.but(method="tsloss", lambda_ts=1.0), frozen, one, check=False)()
    assert torch.equal(plain.vectors[0], ours.vectors[0])
    assert not torch.equal(plain.vectors[1], ours.vectors[1])
    bank = train_bank([run.but(method="tsloss", lambda_ts=1.0)], frozen, [one], plan=PLAN)[0]
    last = bank.prompts[max(bank.prompts)]
    torch.testing.assert_close(ours.vectors[1], last, rtol=1e-3, atol=1e-4)
