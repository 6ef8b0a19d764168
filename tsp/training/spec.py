"""`RunSpec`: everything that determines the outcome of one training run, and the id it gives."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import Field, asdict, dataclass, field, fields, replace
from functools import cache
from typing import Any
from typing import Protocol as Interface

from tsp.errors import InputError
from tsp.training.bounds import Check, choice, flag, number, run_name, text, whole
from tsp.training.protocols import PROTOCOLS, Protocol

REGIMES = ("single", "multi")
METHODS = ("ce", "tsloss", "l2", "pairwise", "persistence", "sham")
PLACEMENTS = ("after_question", "prefix")
INITS = ("gaussian", "repeated", "vocabulary", "question", "trained")
SCHEDULES = ("linear", "constant")
ROUNDINGS = ("", "precision", "threads", "bank")
WEIGHTINGS = ("fixed", "gradient")
LOSS_FIELDS = (
    "tau",
    "alpha",
    "beta_h0",
    "beta_h1",
    "lambda_repel",
    "lambda_attract",
    "self_pairs",
    "detach_thresholds",
)
METHOD_FIELDS = (*LOSS_FIELDS, "weighting")  # all that a run without TSLoss does not have


class Content(Interface):
    """What a run's id needs of a problem; a `tsp.problems.loading.Problem` has it."""

    @property
    def sha256(self) -> str:
        """Hash of the dataset's record, as hexadecimal digits."""
        ...

    @property
    def question(self) -> str:
        """The user's turn, template applied."""
        ...

    @property
    def target(self) -> str:
        """The text trained on."""
        ...


def _option(help: str, check: Check, default: Any, *, later: bool = False) -> Any:
    """Describe a field: its help text, its check, and its default.

    ``later`` marks a field that was added after runs had been published: at its usual value it does
    not enter a run's id, so that earlier runs keep theirs.
    """
    return field(default=default, metadata={"help": help, "check": check, "later": later})


def _of_protocol(help: str, check: Check, *, later: bool = False) -> Any:
    """Describe a field that has the protocol's value unless the user gives another."""
    metadata = {"help": help, "check": check, "later": later, "of_protocol": True}
    return field(default=None, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One soft prompt trained once, as the user asks for it; checked, complete and frozen.

    Fields left at ``None`` take the value of `protocol` (see `tsp.training.protocols.PROTOCOLS`),
    so a finished spec has none. ``lambda_ts = 0`` and ``method = "ce"`` are one run: both become
    the second, and a method that does not use TSLoss keeps its parameters at their defaults. The
    metadata of each field holds its help text and its check.

    Parameters
    ----------
    model
        A name of `tsp.training.models.MODELS`, a tiny model, a Hugging Face id or a local folder.
    task, data, regime, problem
        Benchmark; ``"shipped"``, ``"hub"`` or a folder with ``TASK.jsonl``; one problem or ten;
        the row of the (first) problem, from 0.
    method, lambda_ts
        What is added to the cross-entropy, and its weight (equation 8, section 4.2). ``sham`` adds
        TSLoss's gradient with its coordinates permuted and signs flipped
        (`tsp.training.penalties`).
    protocol
        Optimiser, schedule, and the defaults of ``n_tokens, lr, epochs, init, check_every,
        snapshot_every, schedule, warmup_fraction``.
    placement
        ``"after_question"``: at the end of the user turn; ``"prefix"``: before everything.
    n_tokens, lr
        Rows n of the prompt; learning rate at the end of the warm-up.
    epochs
        Epochs trained; the schedule is always as long as the protocol's.
    seed
        Seed of the run's generator, which draws the initial prompt, then the problems' order.
    init
        ``"gaussian"``, ``"repeated"`` (one token's embedding n times), ``"vocabulary"``
        (embeddings of n tokens drawn without replacement), ``"question"`` (embeddings of the
        question's first n tokens, begun again where it is shorter) or ``"trained"`` (the last
        prompt of ``init_run``).
    early_stop, check_every, snapshot_every, max_new_tokens
        When correctness is checked, how long the checked answers may be, and which prompts are
        stored.
    embed_scale
        Factor on the prompt where it meets the token embeddings (Gemma before transformers
        5.5: the square root of d).
    wrong_answers
        Train on the answer of another problem: does the topology follow what is learned, or that
        something is?
    tau, alpha, beta_h0, beta_h1, lambda_repel, lambda_attract, self_pairs, detach_thresholds
        Options of `tsp.TSLoss`.
    weighting
        ``"fixed"``: as equation 8 has it; ``"gradient"``: at every step the gradients of TSLoss's
        H0 and H1 terms are first scaled to the norm of the cross-entropy's gradient.
    schedule, warmup_fraction, clip_norm
        Schedule of the learning rate (`tsp.training.protocols.Protocol`), and the largest norm of
        the whole gradient; a longer one is scaled down to it.
    init_run
        With ``init="trained"``: id of the stored run whose last prompt is the first one here, or
        ``"#K"`` for the Standard run on problem K with the same options.
    rounding
        Compute the same run in another way: ``"precision"`` (the other one), ``"threads"``
        (twice as many, or one) or ``"bank"`` (alone). Measures how far rounding moves an outcome.

    Raises
    ------
    InputError
        Naming the field, its value and what would do.

    Examples
    --------
    >>> spec = RunSpec(task="gsm8k", lambda_ts=0)
    >>> spec.method, spec.lr, spec.epochs
    ('ce', 0.01, 300)
    """

    model: str = _option(
        "Model: a name `tsp doctor` lists, a hub id or a local folder.",
        text,
        "smollm2-135m-instruct",
    )
    task: str = _option(
        "Benchmark: gsm8k, mmlu_cf, longbench, math, bbh or hotpotqa.", text, "gsm8k"
    )
    data: str = _option(
        "Source of the problems: shipped, hub, or a folder DIR that holds TASK.jsonl.",
        text,
        "shipped",
    )
    regime: str = _option(
        "Number of problems: single (one) or multi (ten, K to K+9).", choice(*REGIMES), "single"
    )
    problem: int = _option("Number K of the (first) problem, from 0.", whole(0), 0)
    method: str = _option(
        "Regularizer: ce (none), tsloss, l2, pairwise, persistence or sham.",
        choice(*METHODS),
        "tsloss",
    )
    lambda_ts: float = _option("Weight of the regularizer.", number(), 1.0)
    protocol: str = _option(
        "Protocol: paper, tuned (a higher learning rate) or released (the public code's).",
        choice(*PROTOCOLS),
        "tuned",
    )
    placement: str = _option(
        "Place of the prompt: after_question or prefix.", choice(*PLACEMENTS), "after_question"
    )
    n_tokens: int = _of_protocol("Rows of the prompt.", whole(1))
    lr: float = _of_protocol("Learning rate.", number(positive=True))
    epochs: int = _of_protocol(
        "Epochs trained; the schedule keeps the protocol's length.", whole(1)
    )
    seed: int = _option("Random seed of the initial prompt and the problems' order.", whole(0), 0)
    init: str = _of_protocol(
        "Initial prompt: gaussian, repeated, vocabulary, question or trained.", choice(*INITS)
    )
    early_stop: bool = _option("Stop at the first check with every answer correct.", flag, False)
    check_every: int = _of_protocol("Epochs between two checks.", whole(1))
    snapshot_every: int = _of_protocol("Epochs between two stored prompts.", whole(1))
    max_new_tokens: int = _option(
        "Longest answer at a check, in tokens; 0: the reference's length plus 32.", whole(0), 0
    )
    embed_scale: float = _option(
        "Factor on the prompt at the model's input.", number(positive=True), 1.0
    )
    wrong_answers: bool = _option("Train on the answer of another problem.", flag, False)
    tau: float = _option(
        "TSLoss: temperature of the soft nearest neighbour.", number(positive=True), 0.1
    )
    alpha: float = _option("TSLoss: sharpness of delta and zeta.", number(positive=True), 10.0)
    beta_h0: float = _option("TSLoss: weight of the H0 term.", number(), 1.0)
    beta_h1: float = _option("TSLoss: weight of the H1 term.", number(), 1.0)
    lambda_repel: float = _option("TSLoss: weight of repulsion.", number(), 1.0)
    lambda_attract: float = _option("TSLoss: weight of attraction.", number(), 1.0)
    self_pairs: bool = _option("TSLoss: keep i = j in every sum, as printed.", flag, False)
    detach_thresholds: bool = _option("TSLoss: no gradient through delta and zeta.", flag, False)
    weighting: str = _option(
        "TSLoss: fixed, or gradient (its terms scaled to the cross-entropy's gradient).",
        choice(*WEIGHTINGS),
        "fixed",
    )
    schedule: str = _of_protocol(
        "Learning rate schedule: linear or constant.", choice(*SCHEDULES), later=True
    )
    warmup_fraction: float = _of_protocol(
        "Share of all steps that warm up.", number(most=1.0), later=True
    )
    clip_norm: float = _option(
        "Largest norm of the gradient; 0: no clipping.", number(), 0.0, later=True
    )
    init_run: str = _option(
        "With --init trained: id of the stored run whose last prompt is the first one here.",
        run_name,
        "",
        later=True,
    )
    rounding: str = _option(
        "Compute the same run differently: precision, threads or bank; empty: as planned.",
        choice(*ROUNDINGS),
        "",
        later=True,
    )

    def __post_init__(self) -> None:
        choice(*PROTOCOLS)("protocol", self.protocol)  # first: others take its values
        for item in fields(self):
            if item.metadata.get("of_protocol") and getattr(self, item.name) is None:
                self._set(item.name, _protocol_value(self, item.name))
        for item in fields(self):
            item.metadata["check"](item.name, getattr(self, item.name))
            if item.type is float:  # 1 and 1.0 are one run
                self._set(item.name, float(getattr(self, item.name)))
        if (self.init == "trained") != bool(self.init_run):
            remedy = "give a run's id together with init 'trained', and only with it"
            raise InputError("init_run", self.init_run, remedy)
        longest = self.settings.epochs
        if self.epochs > longest:
            remedy = f"protocol '{self.protocol}' schedules {longest} at most"
            raise InputError("epochs", self.epochs, remedy)
        self._merge_equal_runs()

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _merge_equal_runs(self) -> None:
        if self.method == "ce" or self.lambda_ts == 0:
            self._set("method", "ce")
            self._set("lambda_ts", 0.0)
        used = {"tsloss": (), "sham": (), "persistence": ("weighting",)}
        unused = used.get(self.method, METHOD_FIELDS)
        for item in fields(self):
            if item.name in unused:
                self._set(item.name, item.default)

    def _usual(self, item: "Field[Any]") -> Any:
        """Value of a field that the user did not give."""
        own = item.metadata.get("of_protocol")
        return _protocol_value(self, item.name) if own else item.default

    @property
    def settings(self) -> Protocol:
        """The protocol's optimiser and schedule."""
        return PROTOCOLS[self.protocol]

    @property
    def loss_options(self) -> dict[str, Any]:
        """Keyword arguments for `tsp.TSLoss`."""
        return {name: getattr(self, name) for name in LOSS_FIELDS}

    @property
    def label(self) -> str:
        """A few words that tell this run from its neighbours, for progress bars and lists."""
        weight = "" if self.method == "ce" else f" λ={self.lambda_ts:g}"
        rows = (
            f"#{self.problem}" if self.regime == "single" else f"#{self.problem}-{self.problem + 9}"
        )
        return f"{self.task}{rows} {self.method}{weight} {self.protocol} seed {self.seed}"

    def to_dict(self) -> dict[str, Any]:
        """Fields as plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RunSpec":
        """Read back what `to_dict` gave; an unknown field is an `InputError`."""
        if not isinstance(values, dict):
            raise InputError("spec", type(values).__name__, "give an object with a run's fields")
        known = {item.name for item in fields(cls)}
        for name in values:
            if name not in known:
                raise InputError("field", name, f"a run has {', '.join(sorted(known))}")
        return cls(**values)

    def but(self, **changes: Any) -> "RunSpec":
        """Return the same spec with some fields changed, checked again.

        With another protocol, fields that had the old one's value take the new one's; with
        another method, ``ce`` loses its weight 0.
        """
        if "protocol" in changes:
            own = [item.name for item in fields(self) if item.metadata.get("of_protocol")]
            kept = [name for name in own if getattr(self, name) != _protocol_value(self, name)]
            changes = {name: None for name in own if name not in kept} | changes
        if self.method == "ce" and changes.get("method", "ce") != "ce":
            changes = {"lambda_ts": RunSpec.lambda_ts} | changes
        return replace(self, **changes)

    def id(self, problems: Sequence[Content], *, model: str | None = None) -> str:
        """Hash of what determines the outcome: not the data's folder, the device or the bank.

        Parameters
        ----------
        problems
            The problems trained on; their content counts, not where they came from.
        model
            Content hash that stands for a model read from a folder
            (`tsp.training.models.fingerprint`).

        Returns
        -------
        str
            Sixteen hexadecimal digits.
        """
        content = self.to_dict() | {"model": model or self.model}
        del content["data"], content["problem"]  # where from, not what
        for item in fields(self):
            if item.metadata.get("later") and content[item.name] == self._usual(item):
                del content[item.name]
        content["protocol"] = asdict(self.settings)
        content["problems"] = [[it.sha256, it.question, it.target] for it in problems]
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


@cache
def later_fields(protocol: str) -> dict[str, Any]:
    """Values of the fields that a run stored before they were added does not name."""
    usual = RunSpec(protocol=protocol)
    return {it.name: getattr(usual, it.name) for it in fields(RunSpec) if it.metadata.get("later")}


def _protocol_value(spec: RunSpec, name: str) -> Any:
    return getattr(spec.settings, {"snapshot_every": "topology_every"}.get(name, name))
