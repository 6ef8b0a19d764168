"""What a user of the field's own tools does: PEFT, Trainer, datasets, the hub, notebooks."""

import json
import shutil
import subprocess
import sys

import datasets
import nbformat
import pytest
import torch
from peft import PeftModel, PromptTuningConfig, TaskType, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from tests.test_cli import BBH, fails, write
from tests.test_json import loads
from tsp import TSLoss, TSLossTrainer, models
from tsp.notebooks import NOTEBOOKS
from tsp.packs import pack_ids
from tsp.paths import ROOT
from tsp.peers import prompt_vectors
from tsp.prompts import as_input, import_peft
from tsp.reading import Row, read
from tsp.runs import Store
from tsp.tiny import tiny_model, tiny_tokenizer

SHORT = ["--task", "bbh", "--n-tokens", "4", "--epochs", "2", "--device", "cpu"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A model in a folder, as transformers saves it."""
    folder = tmp_path_factory.mktemp("base")
    tiny_model("tiny-llama").save_pretrained(folder)
    tiny_tokenizer(chat=True).save_pretrained(folder)
    return folder


def test_an_exported_prompt_gives_peft_our_logits(base, tmp_path):
    """From the command line to ``PeftModel.from_pretrained``, of the base model it names."""
    data = write(tmp_path / "bbh.jsonl", json.dumps(BBH))
    words = ["--model", base, "--data", data, "--placement", "prefix", "--embed-scale", "2"]
    where = ["--runs", tmp_path / "runs"]
    run_id = loads("run", *SHORT, *words, *where, "--json")["id"]
    told = loads("export", run_id, *where, "--to", tmp_path / "adapter", "--json")
    with models.quiet():
        plain = AutoModelForCausalLM.from_pretrained(told["base_model"])
        theirs = PeftModel.from_pretrained(plain, told["adapter"]).eval()
    run, frozen = Store(tmp_path / "runs").read(run_id), models.load(str(base), device="cpu")
    coded = frozen.encode(BBH["input"], BBH["target"], placement="prefix")
    ids = torch.tensor([coded.after + coded.target])
    with torch.no_grad():
        logits = theirs(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
        received = as_input(run.prompt(2), run.spec)
        reading = read(frozen, [Row(received, coded)], choose=[0])
    said = logits[-len(coded.target) - 1 : -1]
    loss = torch.nn.functional.cross_entropy(said, torch.tensor(coded.target), reduction="sum")
    assert reading.losses.item() == pytest.approx(loss.item(), rel=1e-5)
    assert reading.choices[0].ids == tuple(said.argmax(-1).tolist())


@pytest.mark.parametrize("accumulate", [1, 2])
def test_tsloss_in_anyones_prompt_tuning(base, accumulate, tmp_path):
    """Plain PEFT, plain Trainer, a plain ``datasets.Dataset``; the class is all that changes."""
    rows = [{"input_ids": [5, 6, 7 + k], "labels": [-100, 6, 7 + k]} for k in range(4)]
    dataset = datasets.Dataset.from_list(rows)

    def train(kind, **more):
        torch.manual_seed(0)
        config = PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=6)
        arguments = TrainingArguments(
            output_dir=str(tmp_path),
            max_steps=8,
            per_device_train_batch_size=4 // accumulate,
            gradient_accumulation_steps=accumulate,
            learning_rate=0.05,
            lr_scheduler_type="constant",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        )
        with models.quiet():
            model = get_peft_model(tiny_model("tiny-llama"), config)
            trainer = kind(model=model, args=arguments, train_dataset=dataset, **more)
            trainer.train()
        return model

    plain, none = train(Trainer), train(TSLossTrainer, lambda_ts=0.0)
    torch.testing.assert_close(prompt_vectors(none), prompt_vectors(plain))
    loss = TSLoss(alpha=5.0)
    ours = train(TSLossTrainer, ts_loss=loss, lambda_ts=10.0)
    assert loss(prompt_vectors(ours)) < 0.9 * loss(prompt_vectors(plain))
    ours.save_pretrained(tmp_path / "adapter")
    vectors = import_peft(tmp_path / "adapter")
    torch.testing.assert_close(vectors, prompt_vectors(ours).detach())
    found = loads("analyze", tmp_path / "adapter", "--json")
    assert (found["peft_type"], found["n_tokens"]) == ("PROMPT_TUNING", 6)
    assert found["tsloss"] == pytest.approx(TSLoss()(vectors).item(), rel=1e-5)


def test_a_hub_id_is_looked_up_by_huggingface_hub(base, tmp_path, monkeypatch):
    """Offline, in its cache: a base model by `tsp run`, an adapter by `tsp analyze`."""
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    told = ["--runs", tmp_path / "runs", "--data", write(tmp_path / "bbh.jsonl", json.dumps(BBH))]
    shutil.copytree(base, _snapshot(cache, "models--someone--model"))
    record = loads("run", "--model", "someone/model", *SHORT, *told, "--json")
    assert record["spec"]["model"] == "someone/model"
    loads("export", record["id"], "--runs", told[1], "--to", tmp_path / "adapter", "--json")
    shutil.copytree(tmp_path / "adapter", _snapshot(cache, "models--someone--prompt"))
    found = loads("analyze", "someone/prompt", "--json")
    assert (found["adapter"], found["base_model"]) == ("someone/prompt", "someone/model")
    fails(2, "adapter = 'no/such': no such folder, and the hub", "analyze", "no/such")


def _snapshot(cache, name):
    """Where huggingface_hub keeps the files of a repository's only commit."""
    (cache / name / "refs").mkdir(parents=True)
    (cache / name / "refs" / "main").write_text("0" * 40)
    return cache / name / "snapshots" / ("0" * 40)


def test_wrong_adapters_are_named(tmp_path):
    fails(2, "adapter = .*has no adapter_model.safetensors", "analyze", tmp_path)
    (tmp_path / "adapter_model.safetensors").write_text("no")
    fails(2, "adapter = .*cannot be read", "analyze", tmp_path)
    lora = {"base.q_proj.lora_A.weight": torch.zeros(2, 2)}
    from safetensors.torch import save_file

    save_file(lora, tmp_path / "adapter_model.safetensors")
    fails(2, r"holds base\.q_proj\.lora_A\.weight, not prompt_embeddings", "analyze", tmp_path)


@pytest.mark.parametrize("pack", sorted((ROOT / "data" / "runs").glob("*.parquet")))
def test_datasets_reads_published_packs(pack, tmp_path):
    """Without this package: a row a run, its record as JSON."""
    rows = datasets.load_dataset(
        "parquet", data_files=str(pack), split="train", cache_dir=str(tmp_path)
    )
    assert sorted(rows["id"]) == sorted(pack_ids(pack))


def command(*words, cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-m", *map(str, words)], cwd=cwd, capture_output=True, text=True
    )


@pytest.fixture
def pair(tmp_path):
    for suffix in (".py", ".ipynb"):
        shutil.copy(NOTEBOOKS / f"03_tsloss{suffix}", tmp_path)
    return tmp_path / "03_tsloss.py"


def test_jupytext_makes_the_committed_pair(pair):
    """Its own command gives the cells that are committed, and the text back from them."""
    made = pair.with_name("made.ipynb")
    assert command("jupytext", "--to", "notebook", "-o", made, pair).returncode == 0
    cells = [
        [(cell.cell_type, cell.source) for cell in nbformat.read(path, as_version=4).cells]
        for path in (made, pair.with_suffix(".ipynb"))
    ]
    assert cells[0] == cells[1]
    for path, there in ((pair, "ipynb"), (pair.with_suffix(".ipynb"), "py:percent")):
        done = command("jupytext", "--test", "--to", there, path)
        assert done.returncode == 0, done.stderr


def test_jupytext_keeps_a_pair_together(pair):
    pair.write_text(pair.read_text() + '\n# %%\n"a cell of mine"\n')
    done = command("jupytext", "--sync", pair)
    assert done.returncode == 0, done.stderr
    cells = nbformat.read(pair.with_suffix(".ipynb"), as_version=4).cells
    assert cells[-1].source == '"a cell of mine"'


@pytest.mark.slow
def test_papermill_executes_a_chapter_with_other_values(smoke, tmp_path):
    out = tmp_path / "out.ipynb"
    given = ["-p", "runs", smoke.root, "-p", "model", "tiny-llama", "-p", "epochs", 4]
    done = command("papermill", NOTEBOOKS / "03_tsloss.ipynb", out, *given)
    assert done.returncode == 0, done.stderr
    cells = nbformat.read(out, as_version=4).cells
    (injected,) = [c for c in cells if "injected-parameters" in c.metadata.get("tags", [])]
    assert 'model = "tiny-llama"' in injected.source
    assert any(cell.get("outputs") for cell in cells)
