"""`RunSpec`: everything that determines the outcome of one training run, and the id it gives."""

import hashlib
import json
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import Field, asdict, dataclass, field, fields, replace
from functools import cache
from typing import Any
from typing import Protocol as Interface

from tsp.errors import InputError
from tsp.training.protocols import PROTOCOLS, Protocol

RUN_NAME = re.compile(r"|[0-9a-f]{16}|#[0-9]{1,9}")
LARGEST = 2**63  # what whole numbers of 64 bits stay below
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


def _of_protocol(*, later: bool = False) -> Any:
    """Mark a field that takes the protocol's value unless the user gives another.

    ``later``: as for `_later`.
    """
    return field(default=None, metadata={"of_protocol": True, "later": later})


def _later(default: Any) -> Any:
    """Mark a field that was added after runs had been published.

    At its usual value it does not enter a run's id, so that earlier runs keep theirs.
    """
    return field(default=default, metadata={"later": True})


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One soft prompt trained once, as the user asks for it; checked, complete and frozen.

    Fields left at ``None`` take the value of `protocol` (see `tsp.experiments.paper.PROTOCOLS`), so
    a finished spec has none. ``lambda_ts = 0`` and ``method = "ce"`` are one run: both become the
    second, and a method that does not use TSLoss keeps its parameters at their defaults.

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
        ``"paper"``, ``"tuned"`` or ``"released"``: optimiser, schedule and the defaults below.
    placement
        ``"after_question"``: at the end of the user turn; ``"prefix"``: before everything.
    n_tokens
        Rows n of the prompt.
    lr
        Learning rate at the end of the warm-up.
    epochs
        Epochs trained; the schedule is always as long as the protocol's, so this only stops
        earlier.
    seed
        Of the run's own generator: first the initial prompt, then the order of its problems.
    init
        ``"gaussian"``, ``"repeated"`` (one token's embedding n times), ``"vocabulary"``
        (embeddings of n tokens drawn without replacement), ``"question"`` (embeddings of the
        question's first n tokens, begun again where it is shorter) or ``"trained"`` (the last
        prompt of ``init_run``).
    early_stop
        Stop at the first check at which every problem is answered correctly.
    check_every, snapshot_every
        Epochs between two checks of correctness, and between two stored prompts.
    max_new_tokens
        Longest answer decoded at a check; ``0`` means the target's length plus 32.
    embed_scale
        Factor on the prompt where it meets the token embeddings (Gemma before transformers
        5.5: the square root of d).
    wrong_answers
        Train on the answer of another problem: does the topology follow what is learned, or that
        something is?
    tau, alpha, beta_h0, beta_h1, lambda_repel, lambda_attract, self_pairs, detach_thresholds
        Of `tsp.TSLoss`.
    weighting
        ``"fixed"``: as equation 8 has it; ``"gradient"``: at every step the gradients of TSLoss's
        H0 and H1 terms are first scaled to the norm of the cross-entropy's gradient.
    schedule, warmup_fraction
        Of the learning rate, see `tsp.training.protocols.Protocol`.
    clip_norm
        Largest norm of the gradient of all that is minimised; a longer one is scaled down to it.
        0: no clipping.
    init_run
        With ``init="trained"``: id of the stored run whose last prompt is the first one here, or
        ``"#K"`` for the Standard run on problem K that is otherwise alike.
    rounding
        Change how the run is computed, not what: ``"precision"`` (the other one), ``"threads"``
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

    model: str = "smollm2-135m-instruct"
    task: str = "gsm8k"
    data: str = "shipped"
    regime: str = "single"
    problem: int = 0
    method: str = "tsloss"
    lambda_ts: float = 1.0
    protocol: str = "tuned"
    placement: str = "after_question"
    n_tokens: int = _of_protocol()
    lr: float = _of_protocol()
    epochs: int = _of_protocol()
    seed: int = 0
    init: str = _of_protocol()
    early_stop: bool = False
    check_every: int = _of_protocol()
    snapshot_every: int = _of_protocol()
    max_new_tokens: int = 0
    embed_scale: float = 1.0
    wrong_answers: bool = False
    tau: float = 0.1
    alpha: float = 10.0
    beta_h0: float = 1.0
    beta_h1: float = 1.0
    lambda_repel: float = 1.0
    lambda_attract: float = 1.0
    self_pairs: bool = False
    detach_thresholds: bool = False
    weighting: str = "fixed"
    schedule: str = _of_protocol(later=True)
    warmup_fraction: float = _of_protocol(later=True)
    clip_norm: float = _later(0.0)
    init_run: str = _later("")
    rounding: str = _later("")

    def __post_init__(self) -> None:
        _one_of("protocol", self.protocol, tuple(PROTOCOLS))
        for item in fields(self):
            if item.metadata.get("of_protocol") and getattr(self, item.name) is None:
                self._set(item.name, _protocol_value(self, item.name))
        for name, check in _CHECKS.items():
            check(name, getattr(self, name))
            if type(check) is _Number:  # 1 and 1.0 are one run
                self._set(name, float(getattr(self, name)))
        if (self.init == "trained") != bool(self.init_run):
            remedy = "give a run's id together with init 'trained', and only with it"
            raise InputError("init_run", self.init_run, remedy)
        self._check_epochs()
        self._merge_equal_runs()

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _check_epochs(self) -> None:
        longest = PROTOCOLS[self.protocol].epochs
        if self.epochs > longest:
            raise InputError(
                "epochs", self.epochs, f"protocol '{self.protocol}' schedules {longest} at most"
            )

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
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def later_fields(protocol: str) -> dict[str, Any]:
    """Values of the fields that a run stored before they were added does not name."""
    usual = RunSpec(protocol=protocol)
    return {it.name: getattr(usual, it.name) for it in fields(RunSpec) if it.metadata.get("later")}


def _protocol_value(spec: RunSpec, name: str) -> Any:
    return getattr(spec.settings, {"snapshot_every": "topology_every"}.get(name, name))


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(name, value, f"choose one of {', '.join(allowed)}")


def _choice(*allowed: str) -> Callable[[str, Any], None]:
    return lambda name, value: _one_of(name, value, allowed)


def _whole(least: int) -> Callable[[str, Any], None]:
    def check(name: str, value: Any) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise InputError(name, value, f"give a whole number of at least {least}")
        if value >= LARGEST:
            raise InputError(name, value, "give a whole number below 2**63")

    return check


@dataclass(frozen=True)
class _Number:
    """Check of a finite number."""

    positive: bool
    most: float = sys.float_info.max

    def __call__(self, name: str, value: Any) -> None:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        least = "above 0" if self.positive else "of at least 0"
        least += f" and at most {self.most:g}" if self.most < sys.float_info.max else ""
        finite = is_number and 0 <= value <= self.most  # 10**400 is no float; nan is false
        if not finite or (self.positive and value == 0):
            raise InputError(name, value, f"give a finite number {least}")


def _flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise InputError(name, value, "give true or false")


def _text(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value.strip():
        raise InputError(name, value, "give a name")
    if "\0" in value or value != value.encode(errors="ignore").decode():
        raise InputError(name, value, "give a name in UTF-8, without NUL")


def _run_name(name: str, value: Any) -> None:
    if not isinstance(value, str) or not RUN_NAME.fullmatch(value):
        raise InputError(name, value, "give a run's id, or #K for the Standard run on problem K")


_CHECKS: dict[str, Callable[[str, Any], None]] = {
    "model": _text,
    "task": _text,
    "data": _text,
    "regime": _choice(*REGIMES),
    "method": _choice(*METHODS),
    "placement": _choice(*PLACEMENTS),
    "init": _choice(*INITS),
    "weighting": _choice(*WEIGHTINGS),
    **{name: _whole(1) for name in ("n_tokens", "epochs", "check_every", "snapshot_every")},
    **{name: _whole(0) for name in ("problem", "seed", "max_new_tokens")},
    **{name: _Number(positive=True) for name in ("lr", "embed_scale", "tau", "alpha")},
    **{name: _Number(positive=False) for name in ("lambda_ts", "beta_h0", "beta_h1")},
    **{name: _Number(positive=False) for name in ("lambda_repel", "lambda_attract")},
    **{name: _flag for name in ("early_stop", "wrong_answers", "self_pairs")},
    "detach_thresholds": _flag,
    "schedule": _choice(*SCHEDULES),
    "warmup_fraction": _Number(positive=False, most=1.0),
    "clip_norm": _Number(positive=False),
    "init_run": _run_name,
    "rounding": _choice(*ROUNDINGS),
}
