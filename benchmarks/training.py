"""Training beside PEFT and transformers' Trainer: epochs of whole runs, steps, and their parts."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch

from benchmarks.measuring import Done, compared, timed
from benchmarks.step_shares import shares
from tsp.problems.loading import Problem, load_problems
from tsp.store.runs import kept_prompts
from tsp.training import models
from tsp.training.decoding import EXTRA_TOKENS
from tsp.training.flops import arithmetic
from tsp.training.members import PromptRun, RunResult, encode_all
from tsp.training.memory import fitted
from tsp.training.penalties import penalties
from tsp.training.precision import choose
from tsp.training.spec import RunSpec
from tsp.training.trainer import Bank, Plan, train_bank

Row = dict[str, Any]
Work = Callable[[], list[Row]]
SQUARE = {"cpu": 2048, "cuda": 8192}  # rows of the matrices of the machine's own product
RUNS = 8  # of a bank on a CPU
CONTEXT = 5000  # tokens before the prompt in the measurements of a shared context
PEFT = "PEFT, Trainer and generate"
THEIRS = {"peer_precision": "float32", "peer_placement": "prefix"}  # the only one that PEFT has


@dataclass
class Side:
    """Our side of a measurement: the model, and the precision that is faster here."""

    frozen: models.BaseLM
    precision: str = ""

    def __post_init__(self) -> None:
        self.precision = self.precision or choose("auto", self.frozen)

    def plan(self, specs: list[RunSpec], problems: list[Problem]) -> Plan:
        """Return the plan of a bank, fitted to the free memory as a sweep's plan is."""
        encoded = [encode_all(spec, self.frozen, problems) for spec in specs]
        return fitted(Plan(precision=self.precision), self.frozen, specs, encoded)

    def bank(self, specs: list[RunSpec], problems: list[Problem], **changes: Any) -> Bank:
        """Return a bank of runs that train on the same problems."""
        members = [PromptRun(spec, self.frozen, problems) for spec in specs]
        plan = replace(self.plan(specs, problems), **changes)
        return Bank(members, self.frozen, plan)

    def columns(self, spec: RunSpec) -> Row:
        """Return the columns of a row that describe this side."""
        row = {"model": self.frozen.name, "n_tokens": spec.n_tokens, "data": spec.data}
        return row | {"precision": self.precision}


def training(side: Side, repeats: int) -> dict[str, Work]:
    """Return the measurements of training by name, those in another precision last."""
    plain = Side(side.frozen, "float32")
    works: dict[str, Work] = {
        "tsloss_share": partial(tsloss_share, side, repeats),
        "gemm_fraction": partial(gemm_fraction, plain, repeats),
        "step_context_5k": partial(step_context, side, repeats),
        # Ten problems take long: once for three repeats of the others.
        "epoch_multi_vs_peft": partial(epochs, side, -(-repeats // 3), regime="multi"),
        "epoch_single_vs_peft": partial(epoch_single, side, repeats),
    }
    if side.frozen.device.type == "cuda":
        works["bank64_gpu_vs_peft"] = partial(
            epochs, side, repeats, name="bank64_gpu_vs_peft", runs=64
        )
    if side.precision != "float32":
        works["gemm_fraction_bfloat16"] = partial(gemm_fraction, side, repeats)
        works["epoch_single_vs_peft_float32"] = partial(
            epochs, plain, repeats, name="epoch_single_vs_peft_float32", most=10
        )
    return works


def epochs(side: Side, repeats: int, *, regime: str = "single", **more: Any) -> list[Row]:
    """Compare whole runs until they solve their problems, or ``most`` epochs of them."""
    problems = load_problems("gsm8k", regime=regime)
    return [_epochs(side, problems, repeats, **{"name": f"epoch_{regime}_vs_peft"} | more)[0]]


def tsloss_share(side: Side, repeats: int, *, runs: int = 64) -> list[Row]:
    """Measure the share of TSLoss and its gradient in one step of 64 runs, n = 100."""
    specs = _specs(side.frozen.name, runs, n_tokens=100)
    bank = side.bank(specs, load_problems("gsm8k"))
    row = compared(
        "tsloss_share",
        lambda: penalties(specs, [run.prompt for run in bank.runs]),
        lambda: bank.advance(1),
        repeats,
        f"a whole step, R = {runs}",
    )
    return [_share(row) | side.columns(specs[0])]


def gemm_fraction(side: Side, repeats: int) -> list[Row]:
    """Compare the rate of a training step's matrix products with that of one large product.

    Operations are counted as in `arithmetic`: those that are necessary, once. On a CPU the row also
    has the shares of a step's time (`shares`), the rate of its products with weights alone, and
    the bytes a second that a plain copy moves.
    """
    specs = _specs(side.frozen.name, RUNS)
    bank = side.bank(specs, load_problems("gsm8k"))
    size = SQUARE.get(side.frozen.device.type, SQUARE["cpu"])
    square = torch.randn(size, size).to(side.frozen.device, bank.reader.dtype)

    counts = [arithmetic(side.frozen, run.problems[0], run.spec) for run in bank.runs]
    operations, linear = (sum(count[name] for count in counts) for name in ("ours", "linear"))

    def ours() -> Done:
        bank.advance(1)
        return Done(operations)

    def product() -> Done:
        torch.mm(square, square)
        return Done(2 * size**3 / 1e9)

    low = "" if side.precision == "float32" else f"_{side.precision}"
    row = compared(
        f"gemm_fraction{low}",
        ours,
        product,
        5 * repeats,
        f"a product of {size} × {size} matrices, {bank.reader.dtype}".replace("torch.", ""),
    )
    parts: dict[str, Any] = {f"share_{name}": part for name, part in shares(bank).items()}
    if parts:
        parts["rate_products"] = row["ratio"] * linear / operations / parts["share_products"]
        parts["bandwidth"] = _bandwidth()
    parts["step_seconds"] = row["ours"] * operations
    return [row | {"unit": "s per 10^9 operations"} | side.columns(specs[0]) | parts]


def _bandwidth() -> float:
    """Return the bytes a second that a plain copy reads and writes, the best of five."""
    block = torch.ones(2**26)
    there = torch.empty_like(block)
    return 2 * block.nbytes / min(timed(lambda: there.copy_(block))[0] for _ in range(5))


def step_context(side: Side, repeats: int) -> list[Row]:
    """Time one step of runs whose problem has about 5,000 tokens before the prompt.

    The shared context is read beforehand, because it is read once. On a CPU, whose micro-batches
    hold one such row, one run stands for the bank without sharing.
    """
    from tsp.interop.peers import with_peft

    problems = [_long_problem(side.frozen)]
    specs = _specs(side.frozen.name, RUNS)
    cuda = side.frozen.device.type == "cuda"
    runs = RUNS if cuda else 1
    shared = side.bank(specs, problems)
    alone = side.bank(specs[:runs], problems, context_budget=0)
    steps = 50 if cuda else 2  # many short steps, so that a Trainer's start does not count
    few = RunSpec(model=side.frozen.name, method="ce", placement="prefix", epochs=steps)
    peft = with_peft(few, side.frozen, problems, check=False)

    def ours() -> Done:
        shared.advance(1)
        return Done(RUNS)

    def unshared() -> Done:
        alone.advance(1)
        return Done(runs)

    row: Row = {"unit": "s per step and run"} | side.columns(specs[0])
    row["context"] = len(shared.runs[0].encoded[0].before)
    same = {"peer_precision": side.precision}
    sides = {
        "unshared": (unshared, "the same trainer, all tokens in every pass", same),
        "peft": (lambda: _peer(peft), "PEFT and Trainer", THEIRS),
    }
    return [
        compared(f"step_context_5k_vs_{name}", ours, peer, repeats, peer_name) | row | columns
        for name, (peer, peer_name, columns) in sides.items()
    ]


def _long_problem(frozen: models.BaseLM) -> Problem:
    """Repeat a shipped problem until about 5,000 tokens stand before the prompt."""
    (problem,) = load_problems("gsm8k")
    size = [len(frozen.encode(problem.question * k, problem.target).before) for k in (1, 2)]
    times = 1 + round((CONTEXT - size[0]) / (size[1] - size[0]))
    return replace(problem, question=problem.question * times)


def epoch_single(side: Side, repeats: int) -> list[Row]:
    """Compare a bank of 8 runs on one problem with one of PEFT's, until they solve it.

    Where giotto-ph is installed, topology's share of the bank's time is measured too.
    """
    problems = load_problems("gsm8k")
    row, results = _epochs(side, problems, repeats, name="epoch_single_vs_peft")
    if not find_spec("gph"):
        return [row]
    from tsp.topology.diagrams import analyse

    total = sum(len(result.epochs) for result in results)
    prompts = [result.prompts for result in results]
    show = [list(kept_prompts(result)) for result in results]
    times = [timed(lambda: analyse(prompts, show=show))[0] for _ in range(repeats)]
    ours = statistics.median(times) / total
    topology = {"name": "topology_share", "ours": ours, "peer": row["ours"], "unit": row["unit"]}
    topology |= {"peer_name": "training the same runs", "repeats": repeats}
    return [row, _share(topology) | side.columns(results[0].spec)]


def _epochs(
    side: Side,
    problems: list[Problem],
    repeats: int,
    *,
    name: str,
    most: int = 100,
    runs: int = RUNS,
) -> tuple[Row, list[RunResult]]:
    """Time an epoch of a run with its checks, in a bank and with PEFT; return the bank's runs too.

    Answers may be as long as the longest problem's on both sides. Ours are also checked before the
    first epoch.
    """
    from tsp.interop.peers import with_peft

    regime = "single" if len(problems) == 1 else "multi"
    fields: dict[str, Any] = {"regime": regime, "epochs": most, "early_stop": True}
    coded = encode_all(RunSpec(model=side.frozen.name), side.frozen, problems)
    fields["max_new_tokens"] = max(len(one.target) for one in coded) + EXTRA_TOKENS
    specs = _specs(side.frozen.name, runs, **fields)
    alone = RunSpec(model=side.frozen.name, method="ce", placement="prefix", **fields)
    peft = with_peft(alone, side.frozen, problems)
    plan = side.plan(specs, problems)
    results: list[RunResult] = []

    def ours() -> Done:
        results[:] = train_bank(specs, side.frozen, [problems] * runs, plan=plan)
        trained = sum(len(result.epochs) for result in results)
        solved = sum(_is_solved(result) for result in results)
        return Done(trained, {"runs": runs, "epochs": trained, "solved": solved})

    row = compared(name, ours, lambda: _peer(peft), repeats, PEFT)
    for who in ("ours", "peer"):
        row[f"{who}_seconds_per_run"] = row[who] * row[f"{who}_epochs"] / row[f"{who}_runs"]
    row |= {"unit": "s per epoch and run", "epochs": most} | side.columns(specs[0]) | THEIRS
    return row, results


def _is_solved(result: RunResult) -> bool:
    """Return whether all answers were right at the last check."""
    last = result.checks[-1]["epoch"]
    return all(row["correct"] for row in result.checks if row["epoch"] == last)


def _peer(work: Callable[[], Any]) -> Done:
    done = work()
    return Done(done.epochs, {"runs": 1, "epochs": done.epochs, "solved": int(done.solved)})


def _share(row: Row) -> Row:
    """Make the ratio of a row ours as a share of the peer's."""
    return row | {"ratio": row["ours"] / row["peer"]}


def _specs(model: str, runs: int, **fields: Any) -> list[RunSpec]:
    """Return the specs of a bank: seeds in turn, each without and with TSLoss."""
    methods = ("ce", "tsloss")
    return [RunSpec(model=model, method=methods[r % 2], seed=r // 2, **fields) for r in range(runs)]
