"""Measurements of this package beside its peers: interleaved, in one process, medians."""

import statistics
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch

from benchmarks.measuring import Done, compared, environment, timed
from tsp.errors import InputError
from tsp.problems.loading import Problem, load_problems
from tsp.store.record import kept_prompts
from tsp.training import models
from tsp.training.budget import fitted
from tsp.training.decoding import EXTRA_TOKENS
from tsp.training.flops import arithmetic, shares
from tsp.training.members import Member, RunResult, encode_all
from tsp.training.penalties import penalties
from tsp.training.precision import choose
from tsp.training.spec import RunSpec
from tsp.training.trainer import Bank, Plan, train_bank

SQUARE = {"cpu": 2048, "cuda": 8192}  # rows of the matrices of the machine's own product
RUNS = 8  # of a bank on a CPU
Work = Callable[[], list[dict[str, Any]]]  # gives rows
CONTEXT = 5000  # tokens before the prompt in the measurements of a shared context


@dataclass(frozen=True)
class Aim:
    """What a measurement is called in a table, and what it should reach."""

    what: str
    aim: float
    share: bool = False  # a part of something, not a ratio of times
    most: bool = False  # the aim is an upper bound

    @property
    def text(self) -> str:
        """The aim in words."""
        if self.share:
            return f"at {'most' if self.most else 'least'} {self.aim:.0%}"
        return f"at least {self.aim:g} ×"


AIMS = {
    "epoch_single_vs_peft": Aim("an epoch of a run on one problem, trained until it is solved", 6),
    "epoch_single_vs_peft_float32": Aim("an epoch on one problem, both sides in float32", 6),
    "epoch_multi_vs_peft": Aim("an epoch of a run on ten problems", 5),
    "step_context_5k_vs_unshared": Aim("a step behind 5,000 tokens, against no sharing", 25),
    "step_context_5k_vs_peft": Aim("a step behind 5,000 tokens, against PEFT", 30),
    "bank64_gpu_vs_peft": Aim("an epoch of a run of 64 on a GPU, trained until solved", 40),
    "gemm_fraction": Aim("rate of a training step's products, float32", 0.6, share=True),
    "gemm_fraction_bfloat16": Aim("rate of a training step's products, bfloat16", 0.6, share=True),
    "tsloss_share": Aim("TSLoss's part of a step, n = 100, R = 64", 0.02, share=True, most=True),
    "topology_share": Aim("topology's part of an experiment", 0.01, share=True, most=True),
    "topology_vs_gudhi_n40": Aim("persistence of 20 clouds, against gudhi", 3),
    "topology_vs_giotto_n40": Aim("persistence of 20 clouds, against giotto-tda", 1),
    "topology_vs_ripser_n40": Aim("persistence of 20 clouds, against ripser", 1),
}


def measure(*, repeats: int = 3, only: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Run every measurement that this machine allows.

    Parameters
    ----------
    repeats
        Of each side, in turn: ours, peer's, ours ….
    only
        What the names begin with of the measurements that are wanted; nothing: all.

    Returns
    -------
    list of dict
        ``name, ours, peer, ratio, unit, peer_name, repeats``, all ``times`` of both sides, and the
        environment; of measurements of training also ``model``, ``n_tokens`` and the ``precision``
        of both sides; of whole runs how many were trained and solved, their epochs, and the
        seconds of a run until it ended. ``ratio`` is the peer's time over ours; where an aim is a
        share it is ours over the peer's: TSLoss's part of a training step, topology's part of an
        experiment; and for ``gemm_fraction`` the part of the machine's own rate of products.
        Peers that are not installed are left out.

    Raises
    ------
    InputError
        If there is nothing to measure with.
    """
    peers = {"gudhi": topology_gudhi, "gtda": topology_giotto, "ripser": topology_ripser}
    if not find_spec("gph"):  # a bare GPU host has no giotto-tda
        peers = {}
    works: dict[str, Work] = {
        f"topology_vs_{name.replace('gtda', 'giotto')}_n40": partial(against, 5 * repeats)
        for name, against in peers.items()
        if find_spec(name)
    }
    if models.installed(models.DEFAULT) and find_spec("peft"):
        works |= training(Side(models.load()), repeats)
    asked = {name: work for name, work in works.items() if name.startswith(tuple(only) or "")}
    if only and not asked:
        raise InputError("only", ", ".join(only), f"begin as one of {', '.join(works)}")
    rows = [row for work in asked.values() for row in work()]
    if not rows:
        wanted = f"install giotto-tda, or peft and `tsp model install {models.DEFAULT}`"
        raise InputError("bench", "nothing to measure", wanted)
    order = list(AIMS)
    told = environment()
    return [row | told for row in sorted(rows, key=lambda row: order.index(row["name"]))]


@dataclass
class Side:
    """Our side of a measurement: the model, and the precision that is faster here."""

    frozen: models.Frozen
    precision: str = ""

    def __post_init__(self) -> None:
        self.precision = self.precision or choose("auto", self.frozen)

    def plan(self, specs: list[RunSpec], problems: list[Problem]) -> Plan:
        """How our side computes, fitted to the free memory as a sweep's plan is."""
        encoded = [encode_all(spec, self.frozen, problems) for spec in specs]
        return fitted(Plan(precision=self.precision), self.frozen, specs, encoded)

    def bank(self, specs: list[RunSpec], problems: list[Problem], **changes: Any) -> Bank:
        """A bank of runs that train on the same problems."""
        members = [Member(spec, self.frozen, problems) for spec in specs]
        plan = replace(self.plan(specs, problems), **changes)
        return Bank(members, self.frozen, plan)

    def said(self, spec: RunSpec) -> dict[str, Any]:
        """What a row says of it."""
        told = {"model": self.frozen.name, "n_tokens": spec.n_tokens, "data": spec.data}
        return told | {"precision": self.precision}


def training(side: Side, repeats: int) -> dict[str, Work]:
    """Measurements of training by what their names begin with, those in other precision last."""
    works: dict[str, Work] = {
        "tsloss_share": partial(tsloss_share, side, repeats),
        "gemm_fraction": partial(gemm_fraction, Side(side.frozen, "float32"), repeats),
        "step_context_5k": partial(step_context, side, repeats),
        "epoch_multi_vs_peft": partial(epoch_multi, side, repeats),
        "epoch_single_vs_peft": partial(epoch_single, side, repeats),
    }
    if side.frozen.device.type == "cuda":
        works["bank64_gpu_vs_peft"] = partial(bank_gpu, side, repeats)
    if side.precision != "float32":
        works["gemm_fraction_bfloat16"] = partial(gemm_fraction, side, repeats)
        works["epoch_single_vs_peft_float32"] = partial(epoch_float32, side, repeats)
    return works


def render(rows: list[dict[str, Any]]) -> str:
    """Rows as a table for the terminal."""
    lines = [f"{'measurement':<29}{'ours':>10}{'peer':>10}{'ratio':>8}  {'aim':<13} unit, peer"]
    for row in rows:
        aim = AIMS[row["name"]]
        ratio = f"{row['ratio']:.1%}" if aim.share else f"{row['ratio']:.2f}"
        times = f"{row['ours']:>10.4g}{row['peer']:>10.4g}"
        others = f"{aim.text:<13} {row['unit']}; {row['peer_name']}, {row['repeats']} repeats"
        lines.append(f"{row['name']:<29}{times}{ratio:>8}  {others}")
    told = rows[0]
    lines.append(
        f"{told['machine']}, {told['processor']}, {told['device']}, {told['threads']} threads, "
        f"torch {told['torch']}; medians of interleaved repeats"
    )
    return "\n".join(lines)


def topology_gudhi(repeats: int) -> list[dict[str, Any]]:
    """Rips persistence to H1 of 20 clouds, n = 40, d = 576, against gudhi."""
    import gudhi

    def peer(cloud: np.ndarray) -> None:
        complex_ = gudhi.RipsComplex(points=cloud).create_simplex_tree(max_dimension=2)
        complex_.compute_persistence(homology_coeff_field=2)

    return _topology("gudhi", peer, repeats, "gudhi RipsComplex")


def topology_giotto(repeats: int) -> list[dict[str, Any]]:
    """The same against giotto-tda's transformer, which takes all clouds at once."""
    from gtda.homology import VietorisRipsPersistence

    from tsp.topology.diagrams import persistence

    clouds = _clouds()
    transformer = VietorisRipsPersistence(homology_dimensions=(0, 1))

    def peer() -> None:
        transformer.fit_transform(clouds)

    said = "giotto-tda VietorisRipsPersistence"
    name = "topology_vs_giotto_n40"
    return [compared(name, lambda: persistence(clouds), peer, repeats, said)]


def topology_ripser(repeats: int) -> list[dict[str, Any]]:
    """The same against ripser.py."""
    from ripser import ripser

    return _topology("ripser", ripser, repeats, "ripser.py")


def _topology(
    name: str, peer: Callable[[np.ndarray], Any], repeats: int, peer_name: str
) -> list[dict[str, Any]]:
    """Compare with a peer that takes one cloud after the other."""
    from tsp.topology.diagrams import persistence

    clouds = _clouds()

    def each() -> None:
        with warnings.catch_warnings(action="ignore"):  # ripser: more columns than rows
            for cloud in clouds:
                peer(cloud)

    def ours() -> None:
        persistence(clouds)

    return [compared(f"topology_vs_{name}_n40", ours, each, repeats, peer_name)]


def tsloss_share(side: Side, repeats: int, *, runs: int = 64) -> list[dict[str, Any]]:
    """TSLoss, its terms and gradients, as a part of one step of 64 runs with n = 100."""
    specs = _specs(side.frozen.name, runs, n_tokens=100)
    bank = side.bank(specs, load_problems("gsm8k"))
    row = compared(
        "tsloss_share",
        lambda: penalties(specs, [run.prompt for run in bank.runs]),
        lambda: bank.advance(1),
        repeats,
        f"a whole step, R = {runs}",
    )
    return [_share(row) | side.said(specs[0])]


def gemm_fraction(side: Side, repeats: int) -> list[dict[str, Any]]:
    """Arithmetic of a training step's products, per second, against a large product's.

    Counted as in `arithmetic`: what has to be computed, not what is computed twice. On a CPU the
    row also says where the time of a step goes (`shares`), which part of the machine's rate its
    products with weights alone reach, and how many bytes a second a plain copy moves.
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
    told: dict[str, Any] = {f"share_{name}": part for name, part in shares(bank).items()}
    if told:
        told["rate_products"] = row["ratio"] * linear / operations / told["share_products"]
        told["bandwidth"] = _bandwidth()
    told["step_seconds"] = row["ours"] * operations
    return [row | {"unit": "s per 10^9 operations"} | side.said(specs[0]) | told]


def _bandwidth() -> float:
    """Bytes a second that a plain copy reads and writes, the best of five."""
    block = torch.ones(2**26)
    there = torch.empty_like(block)
    return 2 * block.nbytes / min(timed(lambda: there.copy_(block))[0] for _ in range(5))


def step_context(side: Side, repeats: int) -> list[dict[str, Any]]:
    """One step of runs whose problem has about 5,000 tokens before the prompt.

    What is read once, the context, is read before. On a CPU, whose micro-batches hold no two such
    rows, a bank without sharing takes as long per run as one run, and one stands for it.
    """
    from tsp.interop.peers import with_peft

    problems = [_long_problem(side.frozen)]
    specs = _specs(side.frozen.name, RUNS)
    cuda = side.frozen.device.type == "cuda"
    many = RUNS if cuda else 1
    shared = side.bank(specs, problems)
    alone = side.bank(specs[:many], problems, context_budget=0)
    epochs = 50 if cuda else 2  # many short steps, so that a Trainer's beginning does not count
    few = RunSpec(model=side.frozen.name, method="ce", placement="prefix", epochs=epochs)
    peft = with_peft(few, side.frozen, problems, check=False)

    def ours() -> Done:
        shared.advance(1)
        return Done(RUNS)

    def unshared() -> Done:
        alone.advance(1)
        return Done(many)

    told = {"unit": "s per step and run"} | side.said(specs[0])
    told["context"] = len(shared.runs[0].encoded[0].before)
    mine = told | {"peer_precision": side.precision}
    sides = {
        "unshared": (unshared, "the same trainer, all tokens in every pass", mine),
        "peft": (lambda: _peer(peft), "PEFT and Trainer", told | THEIRS),
    }
    return [
        compared(f"step_context_5k_vs_{name}", ours, peer, repeats, peer_name) | said
        for name, (peer, peer_name, said) in sides.items()
    ]


def _long_problem(frozen: models.Frozen) -> Problem:
    """A shipped problem repeated until about 5,000 tokens stand before the prompt."""
    (problem,) = load_problems("gsm8k")
    size = [len(frozen.encode(problem.question * k, problem.target).before) for k in (1, 2)]
    times = 1 + round((CONTEXT - size[0]) / (size[1] - size[0]))
    return replace(problem, question=problem.question * times)


def epoch_single(side: Side, repeats: int) -> list[dict[str, Any]]:
    """Whole runs on one problem until they solve it: a bank of 8 against one with PEFT.

    The bank is also the experiment of which topology takes a share, where giotto-tda is.
    """
    problems = load_problems("gsm8k")
    row, results = _epochs("epoch_single_vs_peft", side, problems, repeats, most=100)

    if not find_spec("gph"):
        return [row]
    from tsp.topology.diagrams import analyse

    epochs = sum(len(result.epochs) for result in results)
    prompts = [result.prompts for result in results]
    show = [list(kept_prompts(result)) for result in results]
    times = [timed(lambda: analyse(prompts, show=show))[0] for _ in range(repeats)]
    topology = {
        "name": "topology_share",
        "ours": statistics.median(times) / epochs,
        "peer": row["ours"],
        "peer_name": "training the same runs",
        "unit": row["unit"],
        "repeats": repeats,
    }
    return [row, _share(topology) | side.said(results[0].spec)]


def epoch_multi(side: Side, repeats: int) -> list[dict[str, Any]]:
    """Whole runs on ten problems until they solve them; once for three repeats of the others."""
    problems = load_problems("gsm8k", regime="multi")
    return [_epochs("epoch_multi_vs_peft", side, problems, -(-repeats // 3), most=100)[0]]


def epoch_float32(side: Side, repeats: int) -> list[dict[str, Any]]:
    """The first ten epochs on one problem with both sides in float32."""
    plain, name = Side(side.frozen, "float32"), "epoch_single_vs_peft_float32"
    return [_epochs(name, plain, load_problems("gsm8k"), repeats, most=10)[0]]


def bank_gpu(side: Side, repeats: int) -> list[dict[str, Any]]:
    """The same as `epoch_single` with a bank of 64."""
    problems = load_problems("gsm8k")
    return [_epochs("bank64_gpu_vs_peft", side, problems, repeats, most=100, runs=64)[0]]


def _epochs(
    name: str, side: Side, problems: list[Problem], repeats: int, *, most: int, runs: int = RUNS
) -> tuple[dict[str, Any], list[RunResult]]:
    """Time of an epoch of a run, checks with it, in a bank and with PEFT; and the bank's runs.

    Answers may be as long as the longest problem's on both sides. Ours are also checked before the
    first epoch.
    """
    from tsp.interop.peers import with_peft

    regime = "single" if len(problems) == 1 else "multi"
    told: dict[str, Any] = {"regime": regime, "epochs": most, "early_stop": True}
    coded = encode_all(RunSpec(model=side.frozen.name), side.frozen, problems)
    told["max_new_tokens"] = max(len(one.target) for one in coded) + EXTRA_TOKENS
    specs = _specs(side.frozen.name, runs, **told)
    alone = RunSpec(model=side.frozen.name, method="ce", placement="prefix", **told)
    peft = with_peft(alone, side.frozen, problems)
    plan = side.plan(specs, problems)
    results: list[RunResult] = []

    def ours() -> Done:
        results[:] = train_bank(specs, side.frozen, [problems] * runs, plan=plan)
        epochs = sum(len(result.epochs) for result in results)
        solved = sum(_is_solved(result) for result in results)
        return Done(epochs, {"runs": runs, "epochs": epochs, "solved": solved})

    row = compared(name, ours, lambda: _peer(peft), repeats, PEFT)
    for who in ("ours", "peer"):
        row[f"{who}_seconds_per_run"] = row[who] * row[f"{who}_epochs"] / row[f"{who}_runs"]
    row |= {"unit": "s per epoch and run", "epochs": most} | side.said(specs[0]) | THEIRS
    return row, results


def _is_solved(result: RunResult) -> bool:
    """Whether all answers were right at the last check."""
    last = result.checks[-1]["epoch"]
    return all(row["correct"] for row in result.checks if row["epoch"] == last)


def _peer(work: Callable[[], Any]) -> Done:
    done = work()
    return Done(done.epochs, {"runs": 1, "epochs": done.epochs, "solved": int(done.solved)})


def _share(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose ratio is ours as a part of the other."""
    return row | {"ratio": row["ours"] / row["peer"]}


PEFT = "PEFT, Trainer and generate"
THEIRS = {"peer_precision": "float32", "peer_placement": "prefix"}  # the only one that PEFT has


def _specs(model: str, runs: int, **fields: Any) -> list[RunSpec]:
    """Seeds and methods of a bank."""
    methods = ("ce", "tsloss")
    return [RunSpec(model=model, method=methods[r % 2], seed=r // 2, **fields) for r in range(runs)]


def _clouds() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(20, 40, 576)) * 0.02
