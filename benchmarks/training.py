"""Training beside PEFT and transformers' Trainer: steps, their parts, and whole runs."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from benchmarks import budget
from benchmarks.flops import arithmetic
from benchmarks.measuring import Done, compared, report, timed
from benchmarks.states import STATES
from tsp.problems.loading import Problem, load_problems
from tsp.store.runs import kept_prompts
from tsp.training import models
from tsp.training.attention import attend
from tsp.training.decoding import EXTRA_TOKENS
from tsp.training.members import PromptRun, RunResult, encode_all
from tsp.training.memory import fitted
from tsp.training.penalties import penalties
from tsp.training.precision import choose
from tsp.training.products import product
from tsp.training.spec import RunSpec
from tsp.training.trainer import Bank, Plan, train_bank

Row = dict[str, Any]
SQUARE = {"cpu": 2048, "cuda": 8192}  # rows of the matrices of the machine's own product
RUNS = 8  # of a bank on a CPU
MANY = 64  # of the bank that shows what TSLoss costs
# Epochs of whole runs. No run solves the shipped set in 120, and each costs both sides a minute.
MOST = {"single": 100, "multi": 20}
CONTEXT = 5000  # tokens before the prompt in the measurements of a shared context
UNCOMPILED = "tsp_uncompiled"  # our attention, which torch.compile leaves alone: its pieces differ
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

    def bank(
        self,
        specs: list[RunSpec],
        problems: list[Problem],
        *,
        frozen: models.BaseLM | None = None,
        **changes: Any,
    ) -> Bank:
        """Return a bank of runs that train on the same problems, here or on a ``frozen`` twin."""
        frozen = frozen or self.frozen
        runs = [PromptRun(spec, frozen, problems) for spec in specs]
        return Bank(runs, frozen, replace(self.plan(specs, problems), **changes))

    def columns(self, spec: RunSpec) -> Row:
        """Return the columns of a row that describe this side."""
        row = {"model": self.frozen.name, "n_tokens": spec.n_tokens, "data": spec.data}
        return row | {"precision": self.precision}


def tsloss_share(side: Side, repeats: int) -> list[Row]:
    """Measure the share of TSLoss and its gradient in one step of many runs, n = 100."""
    specs = specs_of(side.frozen.name, MANY, n_tokens=100)
    bank = side.bank(specs, load_problems("gsm8k"))
    row = compared(
        "tsloss_share",
        lambda: penalties(specs, [run.prompt for run in bank.runs]),
        lambda: bank.advance(1),
        repeats,
        f"a whole step, R = {MANY}",
    )
    return [_share(row) | side.columns(specs[0])]


def rate_of_products(side: Side) -> float:
    """Return 10^9 operations a second of one large product, in the precision of the passes."""
    size = SQUARE.get(side.frozen.device.type, SQUARE["cpu"])
    square = torch.randn(size, size).to(side.frozen.device, getattr(torch, side.precision))
    return 2 * size**3 / 1e9 / min(timed(lambda: product(square, square))[0] for _ in range(10))


def gemm_fraction(side: Side, repeats: int) -> list[Row]:
    """Compare the rate of a training step's matrix products with that of one large product.

    Operations are counted as in `arithmetic`: those that are necessary, once. On a CPU the row also
    has the ``budget`` of a step, for each part its seconds (`benchmarks.budget.measured`) with
    operations and bytes (`benchmarks.budget.least`), and the ``bandwidth`` of a plain copy.
    """
    specs = specs_of(side.frozen.name, RUNS)
    bank = side.bank(specs, load_problems("gsm8k"))
    size = SQUARE.get(side.frozen.device.type, SQUARE["cpu"])
    square = torch.randn(size, size).to(side.frozen.device, bank.reader.dtype)
    counts = [arithmetic(side.frozen, run.problems[0], run.spec) for run in bank.runs]
    operations = sum(count["ours"] for count in counts)
    name = "gemm_fraction" + ("" if side.precision == "float32" else f"_{side.precision}")
    row = compared(
        name,
        lambda: bank.advance(1),
        lambda: product(square, square),
        3 * repeats,
        f"a product of {size} × {size} matrices, {bank.reader.dtype}".replace("torch.", ""),
        units=(operations, 2 * size**3 / 1e9),
    )
    parts: Row = {}
    if seconds := budget.measured(bank):
        formula = budget.least(bank)
        parts["budget"] = {part: {"seconds": seconds[part]} | formula[part] for part in seconds}
        block = torch.ones(2**26)
        copy = torch.empty_like(block)
        fastest = min(timed(lambda: copy.copy_(block))[0] for _ in range(5))
        parts["bandwidth"] = 2 * block.nbytes / fastest  # read and written
    parts["step_seconds"] = row["ours"] * operations
    return [row | {"unit": "s per 10^9 operations"} | side.columns(specs[0]) | parts]


def step_context(side: Side, repeats: int, *, with_peft: bool) -> list[Row]:
    """Time one step of runs whose problem has about 5,000 tokens before the prompt.

    The peer is PEFT, or else our trainer without sharing: on a CPU, whose micro-batches hold one
    such row, one run stands for its bank. The shared context is read beforehand, because it is
    read once.
    """
    problems = [long_problem(side.frozen)]
    specs = specs_of(side.frozen.name, RUNS)
    shared = side.bank(specs, problems)
    row: Row = {"unit": "s per step and run"} | side.columns(specs[0])
    row["context"] = len(shared.runs[0].encoded[0].before)
    ours, cuda = partial(shared.advance, 1), side.frozen.device.type == "cuda"
    if with_peft:
        steps = 50 if cuda else 1  # many short steps, so that a Trainer's start does not count
        short = RunSpec(model=side.frozen.name, method="ce", placement="prefix", epochs=steps)
        theirs: Callable[[], object] = peer(short, side, problems, check=False)
        name, who, runs = "step_context_5k_vs_peft", "PEFT and Trainer", 1
        row |= THEIRS
    else:
        runs = RUNS if cuda else 1
        theirs = partial(side.bank(specs[:runs], problems, context_budget=0).advance, 1)
        name, who = "step_context_5k_vs_unshared", "the same trainer, all tokens in every pass"
        row |= {"peer_precision": side.precision}
    return [compared(name, ours, theirs, repeats, who, units=(RUNS, runs)) | row]


def step_prefix(side: Side, repeats: int) -> list[Row]:
    """Time a step with prompts before everything: no context is shared, only passes are."""
    specs = specs_of(side.frozen.name, RUNS, placement="prefix")
    problems = load_problems("gsm8k")
    bank = side.bank(specs, problems)
    alone = [side.bank([spec], problems) for spec in specs]
    row = compared(
        "step_prefix_vs_one_by_one",
        partial(bank.advance, 1),
        lambda: [one.advance(1) for one in alone],
        repeats,
        "the same trainer, one run after another",
        units=(RUNS, RUNS),
    )
    columns = {"unit": "s per step and run", "peer_precision": side.precision}
    return [row | side.columns(specs[0]) | columns]


def step_compiled(
    side: Side,
    repeats: int,
    specs: list[RunSpec] | None = None,
    problems: list[Problem] | None = None,
) -> list[Row]:
    """Time a step of a bank whose layers are compiled by torch, beside one without.

    Column ``first`` has the seconds that the first compiled step takes longer; nothing compiled
    before is used. There is no row where compiling fails, for instance without a C++ compiler.
    """
    specs, problems = specs or specs_of(side.frozen.name, RUNS), problems or load_problems("gsm8k")
    from torch._inductor.utils import fresh_cache  # takes seconds

    torch._dynamo.reset()
    try:
        with fresh_cache():
            compiled = side.bank(specs, problems, frozen=with_compiled_layers(side))
            first, _ = timed(partial(compiled.advance, 1))
        plain = side.bank(specs, problems)
        row = compared(
            "step_compiled_vs_plain",
            partial(compiled.advance, 1),
            partial(plain.advance, 1),
            repeats,
            "the same trainer, not compiled",
            units=(len(specs), len(specs)),
        )
    except RuntimeError as error:  # torch's compilers raise it; running out of memory is one too
        if isinstance(error, torch.OutOfMemoryError):
            raise
        report(f"layers are not compiled: {str(error).splitlines()[0]}")
        return []
    columns = {"unit": "s per step and run", "peer_precision": side.precision}
    columns["first"] = first - row["ours"] * len(specs)
    return [row | side.columns(specs[0]) | columns]


def with_compiled_layers(side: Side, backend: Any = "inductor") -> models.BaseLM:
    """Return the model with the decoder layers of its passes compiled.

    In float32 the weights are shared; of another precision there is one more copy.
    """
    AttentionInterface.register(UNCOMPILED, torch.compiler.disable(attend))
    AttentionMaskInterface.register(UNCOMPILED, sdpa_mask)
    frozen = replace(side.frozen, copies={})
    decoder: Any = frozen.at(getattr(torch, side.precision)).decoder
    decoder.set_attn_implementation(UNCOMPILED)
    for layer in decoder.layers:
        layer.compile(dynamic=True, backend=backend)
    return frozen


def whole_runs(side: Side, repeats: int, *, regime: str) -> list[Row]:
    """Time runs in a bank and with PEFT until their problems are solved, at most `MOST` epochs.

    The unit is an epoch of a run with its checks. Ours are also checked before the first epoch. Of
    one problem, topology's share of the bank's time is measured too, where giotto-ph is installed.
    """
    name, runs, most = f"run_{regime}_vs_peft", RUNS, MOST[regime]
    problems, specs, alone = same_work(side, runs, regime=regime, epochs=most, early_stop=True)
    plan = side.plan(specs, problems)
    results: list[RunResult] = []

    def ours() -> Done:
        results[:] = train_bank(specs, side.frozen, [problems] * runs, plan=plan)
        trained = sum(len(result.epochs) for result in results)
        solved = sum(_is_solved(result) for result in results)
        return Done(trained, {"runs": runs, "epochs": trained, "solved": solved})

    peft = peer(alone, side, problems)
    row = compared(name, ours, peft, repeats, "PEFT, Trainer and generate")
    for who in ("ours", "peer"):
        row[f"{who}_seconds_per_run"] = row[who] * row[f"{who}_epochs"] / row[f"{who}_runs"]
    row |= {"unit": "s per epoch and run", "epochs": most} | side.columns(specs[0]) | THEIRS
    topology = regime == "single" and find_spec("gph")
    return [row, _topology_share(row, results, repeats)] if topology else [row]


def same_work(side: Side, runs: int, **fields: Any) -> tuple[list[Problem], list[RunSpec], RunSpec]:
    """Return problems, our runs and PEFT's: all may give answers as long as the longest."""
    problems = load_problems("gsm8k", regime=fields["regime"])
    coded = encode_all(RunSpec(model=side.frozen.name), side.frozen, problems)
    fields["max_new_tokens"] = max(len(one.target) for one in coded) + EXTRA_TOKENS
    alone = RunSpec(model=side.frozen.name, method="ce", placement="prefix", **fields)
    return problems, specs_of(side.frozen.name, runs, **fields), alone


def _topology_share(row: Row, results: list[RunResult], repeats: int) -> Row:
    """Return the row of the topology of runs that were trained as in a row."""
    from tsp.topology.diagrams import analyse

    prompts = [result.prompts for result in results]
    show = [list(kept_prompts(result)) for result in results]
    times = [timed(lambda: analyse(prompts, show=show))[0] for _ in range(repeats)]
    ours = statistics.median(times) / sum(len(result.epochs) for result in results)
    kept = {key: row[key] for key in ("unit", "repeats", "model", "n_tokens", "data", "precision")}
    sides = {"ours": ours, "peer": row["ours"], "peer_name": "training the same runs"}
    return _share({"name": "topology_share", **sides, **kept})


def long_problem(frozen: models.BaseLM) -> Problem:
    """Repeat a shipped problem until about 5,000 tokens stand before the prompt."""
    (problem,) = load_problems("gsm8k")
    size = [len(frozen.encode(problem.question * k, problem.target).before) for k in (1, 2)]
    times = 1 + round((CONTEXT - size[0]) / (size[1] - size[0]))
    return replace(problem, question=problem.question * times)


def operations_of_passes(frozen: models.BaseLM) -> dict[str, float]:
    """Return the operations, in 10^9, of the passes of an epoch and run, by measurement."""
    sets = {regime: load_problems("gsm8k", regime=regime) for regime in MOST}
    counts = {
        regime: sum(arithmetic(frozen, one, RunSpec())["ours"] for one in problems)
        for regime, problems in sets.items()
    }
    epochs = {
        f"epoch_{regime}_{state}_vs_peft": counts[regime]
        for regime, named in STATES.items()
        for state in named
    }
    far = arithmetic(frozen, long_problem(frozen), RunSpec())["ours"]
    runs = {f"run_{regime}_vs_peft": count for regime, count in counts.items()}
    return epochs | runs | {"step_context_5k_vs_peft": far}


def _is_solved(result: RunResult) -> bool:
    """Return whether all answers were right at the last check."""
    last = result.checks[-1]["epoch"]
    return all(row["correct"] for row in result.checks if row["epoch"] == last)


def peer(spec: RunSpec, side: Side, problems: list[Problem], **options: Any) -> Callable[[], Done]:
    """Return the work of training a run with PEFT, whose units are epochs."""
    from benchmarks.peft_training import with_peft

    train = with_peft(spec, side.frozen, problems, **options)

    def work() -> Done:
        run = train()
        columns: dict[str, float] = {"runs": 1, "epochs": run.epochs}
        if options.get("check", True):
            columns["solved"] = int(run.solved)
        return Done(run.epochs, columns)

    return work


def _share(row: Row) -> Row:
    """Make the ratio of a row ours as a share of the peer's."""
    return row | {"ratio": row["ours"] / row["peer"]}


def specs_of(model: str, runs: int, **fields: Any) -> list[RunSpec]:
    """Return the specs of a bank: seeds in turn, each without and with TSLoss."""
    methods = ("ce", "tsloss")
    return [RunSpec(model=model, method=methods[r % 2], seed=r // 2, **fields) for r in range(runs)]
