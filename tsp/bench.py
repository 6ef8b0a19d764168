"""Measurements of this package beside its peers: interleaved, in one process, medians."""

import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tsp import models
from tsp.budget import fitted
from tsp.members import Member, RunResult, encode_all
from tsp.penalties import penalties
from tsp.precision import choose
from tsp.provenance import commit
from tsp.runs import kept_prompts
from tsp.spec import RunSpec
from tsp.tasks import Problem, load_problems
from tsp.topology import analyse, persistence
from tsp.trainer import Bank, Plan, train_bank


@dataclass(frozen=True)
class Done:
    """What a piece of work did: how many units, and what else a table should say of it."""

    units: float = 1.0
    told: dict[str, float] = field(default_factory=dict)


Work = Callable[[], Done | Any]  # what gives something else did one unit
PACKAGES = ("tsp", "torch", "transformers", "accelerate", "peft", "giotto-tda", "gudhi", "ripser")
SQUARE = {"cpu": 2048, "cuda": 8192}  # rows of the matrices of the machine's own product
RUNS = 8  # of a bank on a CPU
WARM = 30  # seconds after which work counts as warm
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
    "epoch_single_vs_peft": Aim("a run on a GSM8K problem until it is solved, per epoch", 6),
    "epoch_single_vs_peft_float32": Aim("its first ten epochs with both sides in float32", 6),
    "epoch_multi_vs_peft": Aim("an epoch on ten GSM8K problems", 5),
    "step_context_5k_vs_unshared": Aim("a step behind 5,000 tokens, against no sharing", 25),
    "step_context_5k_vs_peft": Aim("a step behind 5,000 tokens", 30),
    "bank64_gpu_vs_peft": Aim("64 runs on a GPU until they are solved, per epoch", 40),
    "gemm_fraction": Aim("rate of matrix products while training, float32", 0.6, share=True),
    "gemm_fraction_bfloat16": Aim("the same in bfloat16", 0.6, share=True),
    "tsloss_share": Aim("TSLoss's part of a step, n = 100, R = 64", 0.02, share=True, most=True),
    "topology_share": Aim("topology's part of an experiment", 0.01, share=True, most=True),
    "topology_vs_gudhi_n40": Aim("persistence of 20 clouds, n = 40, d = 576", 3),
    "topology_vs_giotto_n40": Aim("the same against giotto-tda", 1),
    "topology_vs_ripser_n40": Aim("the same against ripser", 1),
}


def measure(*, repeats: int = 3) -> list[dict[str, Any]]:
    """Run every measurement that this machine allows.

    Parameters
    ----------
    repeats
        Of each side, in turn: ours, peer's, ours ….

    Returns
    -------
    list of dict
        ``name, ours, peer, ratio, unit, peer_name, repeats`` and the environment; of measurements
        of training also the ``precision`` of both sides and, of whole runs, how many were trained
        and solved and their epochs. ``ratio`` is the peer's time over ours; where an aim is a
        share it is ours over the peer's: TSLoss's part of a training step, topology's part of an
        experiment; and for ``gemm_fraction`` the part of the machine's own rate of products.
        Peers that are not installed are left out.
    """
    peers = {"gudhi": topology_gudhi, "gtda": topology_giotto, "ripser": topology_ripser}
    rows = [compared(5 * repeats) for name, compared in peers.items() if find_spec(name)]
    if models.installed(models.DEFAULT) and find_spec("peft"):
        rows += training(Side(models.load()), repeats)
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

    def bank(self, specs: list[RunSpec], problems: list[Problem]) -> Bank:
        """A bank of runs that train on the same problems."""
        members = [Member(spec, self.frozen, problems) for spec in specs]
        return Bank(members, self.frozen, self.plan(specs, problems))


def training(side: Side, repeats: int) -> list[dict[str, Any]]:
    """Measurements of training, those of the other precision last."""
    rows = [
        tsloss_share(side, repeats),
        gemm_fraction(Side(side.frozen, "float32"), repeats),
        *step_context(side, repeats),
        epoch_multi(side, repeats),
        *epoch_single(side, repeats),
    ]
    if side.frozen.device.type == "cuda":
        rows.append(bank_gpu(side, repeats))
    if side.precision != "float32":
        low = gemm_fraction(side, repeats)
        low["name"] += f"_{side.precision}"
        problems, plain = load_problems("gsm8k"), Side(side.frozen, "float32")
        name = "epoch_single_vs_peft_float32"
        rows += [low, _epochs(name, plain, problems, repeats, most=10)[0]]
    return rows


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


def environment() -> dict[str, Any]:
    """What the figures were measured on."""
    cuda = torch.cuda.is_available()
    return {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "processor": _processor(),
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "commit": commit(),
        **{name: _version(name) for name in PACKAGES},
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    """The processor as Linux names it, and its matrix unit if it has one."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    told = dict(line.split(":", 1) for line in lines if ":" in line)
    told = {name.strip(): value.strip() for name, value in told.items()}
    unit = ", AMX" if "amx_bf16" in told.get("flags", "") else ""
    return told.get("model name", platform.machine()) + unit


def topology_gudhi(repeats: int) -> dict[str, Any]:
    """Rips persistence to H1 of 20 clouds, n = 40, d = 576, against gudhi."""
    import gudhi

    def peer(cloud: np.ndarray) -> None:
        complex_ = gudhi.RipsComplex(points=cloud).create_simplex_tree(max_dimension=2)
        complex_.compute_persistence(homology_coeff_field=2)

    return _topology("gudhi", peer, repeats, "gudhi RipsComplex")


def topology_giotto(repeats: int) -> dict[str, Any]:
    """The same against giotto-tda's transformer, which takes all clouds at once."""
    from gtda.homology import VietorisRipsPersistence

    clouds = _clouds()
    transformer = VietorisRipsPersistence(homology_dimensions=(0, 1))
    return _row(
        "topology_vs_giotto_n40",
        lambda: persistence(clouds),
        lambda: transformer.fit_transform(clouds),
        repeats,
        "giotto-tda VietorisRipsPersistence",
    )


def topology_ripser(repeats: int) -> dict[str, Any]:
    """The same against ripser.py."""
    from ripser import ripser

    return _topology("ripser", ripser, repeats, "ripser.py")


def _topology(
    name: str, peer: Callable[[np.ndarray], Any], repeats: int, peer_name: str
) -> dict[str, Any]:
    """Compare with a peer that takes one cloud after the other."""
    clouds = _clouds()

    def each() -> None:
        with warnings.catch_warnings(action="ignore"):  # ripser: more columns than rows
            for cloud in clouds:
                peer(cloud)

    return _row(f"topology_vs_{name}_n40", lambda: persistence(clouds), each, repeats, peer_name)


def tsloss_share(side: Side, repeats: int, *, runs: int = 64) -> dict[str, Any]:
    """TSLoss, its terms and gradients, as a part of one step of 64 runs with n = 100."""
    specs = _specs(side.frozen.name, runs, n_tokens=100)
    bank = side.bank(specs, load_problems("gsm8k"))
    row = _row(
        "tsloss_share",
        lambda: penalties(specs, [run.prompt for run in bank.runs]),
        lambda: bank.advance(1),
        repeats,
        f"a whole step, R = {runs}",
    )
    return _share(row) | {"precision": side.precision}


def gemm_fraction(side: Side, repeats: int) -> dict[str, Any]:
    """Arithmetic of a step's products with the weights, per second, against a large product's.

    Counted as in `arithmetic`: what has to be computed, not what is computed twice.
    """
    bank = side.bank(_specs(side.frozen.name, RUNS), load_problems("gsm8k"))
    size = SQUARE.get(side.frozen.device.type, SQUARE["cpu"])
    square = torch.randn(size, size).to(side.frozen.device, bank.reader.dtype)

    def ours() -> Done:
        bank.advance(1)
        return Done(_arithmetic(bank) / 1e9)

    def product() -> Done:
        torch.mm(square, square)
        return Done(2 * size**3 / 1e9)

    row = _row(
        "gemm_fraction",
        ours,
        product,
        5 * repeats,
        f"a product of {size} × {size} matrices, {bank.reader.dtype}".replace("torch.", ""),
    )
    return row | {"unit": "s per 10^9 operations", "precision": side.precision}


def _arithmetic(bank: Bank) -> float:
    return sum(
        arithmetic(bank.frozen, problem, run.spec)["ours"] * 1e9
        for run in bank.runs
        for problem in run.problems
    )


def arithmetic(frozen: models.Frozen, problem: Problem, spec: RunSpec) -> dict[str, float]:
    """Operations of one step's matrix products on a problem.

    Two a weight and token, forward and backward, the vocabulary where it is projected; in
    attention two products forward and four backward, of which two towards the context fall away.

    Returns
    -------
    dict
        ``all`` tokens and those that are ``own`` (behind the context) or ``target``; 10^9
        operations of our step (``ours``) and of one over all tokens with all logits (``plain``);
        the second over the first (``saved``).
    """
    coded = frozen.encode(problem.question, problem.target, placement=spec.placement)
    table = frozen.vocabulary.numel()
    weights = sum(weight.numel() for weight in frozen.decoder.parameters()) - table
    every, before, target = coded.length(spec.n_tokens), len(coded.before), len(coded.target)
    own = every - before - 1
    config = frozen.model.config
    width = frozen.key_width // config.num_key_value_heads * config.num_attention_heads
    a_pair = 2 * width * config.num_hidden_layers  # operations of one product per query and key
    near, far = 6 * own * (own + 1) / 2, 4 * own * before
    ours = 4 * (weights * own + frozen.head.numel() * target) + a_pair * (near + far)
    plain = 4 * (weights + frozen.head.numel()) * every + a_pair * 6 * every * (every + 1) / 2
    told = {"all": every, "own": own, "target": target}
    return told | {"ours": ours / 1e9, "plain": plain / 1e9, "saved": plain / ours}


def step_context(side: Side, repeats: int) -> list[dict[str, Any]]:
    """One step of runs whose problem has about 5,000 tokens before the prompt.

    Without sharing a row fills a micro-batch alone, so a bank takes as long per run as one run.
    """
    from tsp.peers import with_peft

    problems = [_long_problem(side.frozen)]
    specs = _specs(side.frozen.name, RUNS)
    shared, alone = side.bank(specs, problems), side.bank(specs[:1], problems)
    alone.contexts = _Unshared()  # type: ignore[assignment]
    few = RunSpec(model=side.frozen.name, method="ce", placement="prefix", epochs=2)
    peft = with_peft(few, side.frozen, problems, check=False)

    def ours() -> Done:
        shared.advance(1)
        return Done(RUNS)

    told = {"unit": "s per step and run", "precision": side.precision}
    mine = told | {"peer_precision": side.precision}
    other = "the same trainer, all tokens in every pass"
    rows = (
        _row("step_context_5k_vs_unshared", ours, lambda: alone.advance(1), repeats, other) | mine,
        _row("step_context_5k_vs_peft", ours, lambda: _peer(peft), repeats, PEFT) | told | THEIRS,
    )
    return list(rows)


class _Unshared:
    """Contexts of which none is kept."""

    def of(self, before: tuple[int, ...]) -> None:
        """There is none."""


def _long_problem(frozen: models.Frozen) -> Problem:
    """A shipped problem repeated until about 5,000 tokens stand before the prompt."""
    (problem,) = load_problems("gsm8k")
    size = [len(frozen.encode(problem.question * k, problem.target).before) for k in (1, 2)]
    times = 1 + round((CONTEXT - size[0]) / (size[1] - size[0]))
    return replace(problem, question=problem.question * times)


def epoch_single(side: Side, repeats: int) -> list[dict[str, Any]]:
    """Whole runs on one GSM8K problem until they solve it: a bank of 8 against one with PEFT.

    The bank is also the experiment of which topology takes a share.
    """
    problems = load_problems("gsm8k")
    row, results = _epochs("epoch_single_vs_peft", side, problems, repeats, most=100)

    epochs = sum(len(result.epochs) for result in results)
    prompts = [result.prompts for result in results]
    show = [list(kept_prompts(result)) for result in results]
    times = [_timed(lambda: analyse(prompts, show=show))[0] for _ in range(repeats)]
    topology = {
        "name": "topology_share",
        "ours": statistics.median(times) / epochs,
        "peer": row["ours"],
        "peer_name": "training the same runs",
    }
    return [row, _share(row | topology)]


def epoch_multi(side: Side, repeats: int) -> dict[str, Any]:
    """Two epochs on ten GSM8K problems and the check after them."""
    problems = load_problems("gsm8k", regime="multi")
    return _epochs("epoch_multi_vs_peft", side, problems, repeats, most=2)[0]


def bank_gpu(side: Side, repeats: int) -> dict[str, Any]:
    """The same as `epoch_single` with a bank of 64."""
    problems = load_problems("gsm8k")
    return _epochs("bank64_gpu_vs_peft", side, problems, repeats, most=100, runs=64)[0]


def _epochs(
    name: str, side: Side, problems: list[Problem], repeats: int, *, most: int, runs: int = RUNS
) -> tuple[dict[str, Any], list[RunResult]]:
    """Time of an epoch of a run, checks with it, in a bank and with PEFT; and the bank's runs."""
    from tsp.peers import with_peft

    regime = "single" if len(problems) == 1 else "multi"
    told: dict[str, Any] = {"regime": regime, "epochs": most, "early_stop": True}
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

    row = _row(name, ours, lambda: _peer(peft), repeats, PEFT)
    told = {"unit": "s per epoch and run", "precision": side.precision}
    return row | told | THEIRS, results


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


def _row(name: str, ours: Work, peer: Work, repeats: int, peer_name: str) -> dict[str, Any]:
    """Time two pieces of work in turn, per unit of each, after one of each that is not counted.

    Work that takes half a minute needs no such warming up.
    """
    times: dict[str, list[float]] = {"ours": [], "peer": []}
    told: dict[str, float] = {}
    for repeat in range(repeats + 1):
        for side, work in (("ours", ours), ("peer", peer)):
            if len(times[side]) < repeats:
                seconds, done = _timed(work)
                told |= {f"{side}_{name}": value for name, value in done.told.items()}
                if repeat or seconds > WARM:
                    times[side].append(seconds / done.units)
    mine, theirs = (statistics.median(times[side]) for side in ("ours", "peer"))
    return {
        "name": name,
        "ours": mine,
        "peer": theirs,
        "ratio": theirs / mine,
        "unit": "s",
        "peer_name": peer_name,
        "repeats": repeats,
        **told,
    }


def _timed(work: Work) -> tuple[float, Done]:
    begun = time.perf_counter()
    done = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begun, done if isinstance(done, Done) else Done()
