"""What a user of the field's own tools does: PEFT, Trainer, datasets, the hub, notebooks."""

import json
import os
import re
import shutil
import subprocess
import sys
from functools import partial

import datasets
import nbformat
import pytest
import torch
from peft import PeftModel, PromptTuningConfig, TaskType, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

from tests.conftest import problem, spec
from tests.terminal import BBH, fails, loads, write
from tsp import TSLoss, TSLossTrainer
from tsp.book.notebooks import NOTEBOOKS
from tsp.errors import InputError
from tsp.interop.peers import prompt_vectors
from tsp.interop.peft import export_peft, import_peft
from tsp.paths import ROOT
from tsp.store.archive import open_archive
from tsp.store.runs import Store
from tsp.training import models
from tsp.training.forward import TokenRow, hidden_states
from tsp.training.models import tiny_model, tiny_tokenizer
from tsp.training.prompts import as_input
from tsp.training.spec import RunSpec

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
    export = loads("export", run_id, *where, "--to", tmp_path / "adapter", "--json")
    with models.quiet():
        plain = AutoModelForCausalLM.from_pretrained(export["base_model"])
        theirs = PeftModel.from_pretrained(plain, export["adapter"]).eval()
    run, frozen = Store(tmp_path / "runs").read(run_id), models.load(str(base), device="cpu")
    coded = frozen.encode(BBH["input"], BBH["target"], placement="prefix")
    ids = torch.tensor([coded.after + coded.target[:-1]])
    with torch.no_grad():
        logits = theirs(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
    torch.testing.assert_close(logits, ours(frozen, as_input(run.prompt(2), run.spec), coded))
    stored = json.loads((tmp_path / "adapter" / "tsp.json").read_text())
    assert RunSpec.from_dict(stored) == run.spec


def ours(frozen, received, coded):
    """Our logits of every position, from the first token or the prompt on."""
    with torch.no_grad():
        return hidden_states(frozen, [TokenRow(received, coded)])[0][0] @ frozen.head.T


def test_the_pages_lines_for_plain_transformers_give_our_logits(base, tmp_path, capsys):
    """The lines of the chapter on your own tools, with a prompt that stands after the question."""
    cells = nbformat.read(NOTEBOOKS / "22_fits_in.ipynb", as_version=4).cells
    (lines,) = [cell.source for cell in cells if 'load_file(place / "adapter"' in cell.source]
    frozen, asked = models.load(str(base), device="cpu"), problem("2+2=?", "4")
    prompt = torch.randn(4, frozen.dim, generator=torch.Generator().manual_seed(0))
    export_peft(prompt, spec=spec(), hub_id=str(base), folder=tmp_path / "adapter")
    plain = AutoModelForCausalLM.from_pretrained(base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    page = {"place": tmp_path, "given": asked, "torch": torch, "base": plain}
    page["tokenizer"] = tokenizer
    exec(lines, page)
    coded = frozen.encode(asked.question, asked.target)
    target = page["embed"](torch.tensor([coded.target[:-1]]))
    with torch.no_grad():
        logits = plain(inputs_embeds=torch.cat([page["inputs"], target], dim=1)).logits[0]
    torch.testing.assert_close(logits, ours(frozen, prompt, coded))
    answer = page["answer"][0]
    assert answer[0] == logits[-len(coded.target)].argmax()
    assert capsys.readouterr().out == tokenizer.decode(answer, skip_special_tokens=True) + "\n"


def tuned(kind, folder, *, accumulate=1, processes=1, optim="adamw_torch", train=True, **more):
    """Train with plain PEFT and a plain ``datasets.Dataset`` in a Trainer of a given class."""
    targets = [[-100, 6, 7], [-100, -100, 8], [-100, 6, 9], [-100, -100, 10]]
    rows = [{"input_ids": [5, 6, labels[-1]], "labels": labels} for labels in targets]
    dataset = datasets.Dataset.from_list(rows)
    torch.manual_seed(0)
    config = PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=6)
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=8,
        per_device_train_batch_size=4 // accumulate,
        gradient_accumulation_steps=accumulate // processes,
        learning_rate=0.05,
        lr_scheduler_type="constant",
        optim=optim,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
    )
    with models.quiet():
        model = get_peft_model(tiny_model("tiny-llama"), config)
        data = {"train_dataset": dataset, "eval_dataset": dataset}
        trainer = kind(model=model, args=arguments, **data, **more)
        if train:
            trainer.train()
    return trainer


@pytest.fixture
def tune(tmp_path):
    return partial(tuned, folder=tmp_path)


def test_tsloss_in_anyones_prompt_tuning(tune, tmp_path):
    plain = tune(Trainer).model
    none = tune(TSLossTrainer, lambda_ts=0.0).model
    torch.testing.assert_close(prompt_vectors(none), prompt_vectors(plain))
    loss = TSLoss(alpha=5.0)
    ours = tune(TSLossTrainer, ts_loss=loss, lambda_ts=10.0).model
    assert loss(prompt_vectors(ours)) < 0.9 * loss(prompt_vectors(plain))
    ours.save_pretrained(tmp_path / "adapter")
    vectors = import_peft(tmp_path / "adapter")
    torch.testing.assert_close(vectors, prompt_vectors(ours).detach())
    row = loads("analyze", tmp_path / "adapter", "--json")
    assert (row["peft_type"], row["n_tokens"]) == ("PROMPT_TUNING", 6)
    assert row["tsloss"] == pytest.approx(TSLoss()(vectors).item(), rel=1e-5)


def divided_loss(outputs, labels, num_items_in_batch):
    """A user's loss function as the Trainer wants it: the sum over the number of labels."""
    logits = outputs.logits[:, -labels.shape[1] : -1].flatten(0, 1)
    total = torch.nn.functional.cross_entropy(logits, labels[:, 1:].flatten(), reduction="sum")
    return total / num_items_in_batch


def zero_loss(outputs, labels, num_items_in_batch):
    return 0.0 * outputs.logits.sum()


class DividingTrainer(TSLossTrainer):
    """Says itself that the Trainer has to divide."""

    loss_is_scaled_for_ga = False


class NoCountTrainer(TSLossTrainer):
    """Of a model that takes no count of the labels, so that the function alone divides."""

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self.model_accepts_loss_kwargs = False


DIVISORS = {
    "model": (TSLossTrainer, {}),
    "function": (NoCountTrainer, {"compute_loss_func": divided_loss}),
    "Trainer": (DividingTrainer, {"compute_loss_func": zero_loss}),
}


@pytest.mark.parametrize("divisor", DIVISORS)
def test_micro_batches_of_a_step_share_one_tsloss(tune, divisor):
    """Whatever divides the loss, with targets of several lengths, the step is the whole batch's."""
    kind, more = DIVISORS[divisor]
    more |= {"lambda_ts": 1.0, "optim": "sgd"}  # Adam's steps would not tell a loss from its double
    whole, *parts = [
        prompt_vectors(tune(kind, accumulate=accumulate, **more).model) for accumulate in (1, 2, 4)
    ]
    start = prompt_vectors(tune(kind, train=False, **more).model)
    assert (whole - start).abs().max() > 1e-2
    for part in parts:
        torch.testing.assert_close(part, whole, rtol=0, atol=1e-5)


def test_a_model_that_the_trainer_has_wrapped(tune):
    """As it does for several GPUs."""
    trainer = tune(TSLossTrainer, train=False)
    inputs, model = next(iter(trainer.get_train_dataloader())), trainer.model.eval()
    wrapped = torch.nn.DataParallel(model).eval()
    assert trainer.compute_loss(wrapped, inputs) == trainer.compute_loss(model, inputs)


ON_EACH = """
import sys
from safetensors.torch import save_file
from tests.interop.test_fits_in import TSLossTrainer, prompt_vectors, tuned
trainer = tuned(TSLossTrainer, sys.argv[1], accumulate=4, processes=2, optim="sgd")
assert type(trainer.model_wrapped).__name__ == "DistributedDataParallel"
if trainer.is_world_process_zero():
    save_file({"P": prompt_vectors(trainer.model).detach()}, sys.argv[1] + "/vectors")
"""


@pytest.mark.slow
def test_two_processes_share_one_tsloss(tune, tmp_path):
    """As ``accelerate launch`` starts them: the model in DistributedDataParallel, on CPUs."""
    write(tmp_path / "train.py", *ON_EACH.splitlines())
    words = ["torch.distributed.run", "--standalone", "--nproc_per_node", 2]
    done = command(*words, tmp_path / "train.py", tmp_path, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    alone = prompt_vectors(tune(TSLossTrainer, optim="sgd").model).detach()
    both = load_file(tmp_path / "vectors")["P"]
    torch.testing.assert_close(both, alone, rtol=0, atol=1e-5)


def test_evaluation_has_the_whole_tsloss(tune):
    """Also before anything is trained, and after steps of several micro-batches."""
    for ready in ({"train": False}, {"accumulate": 4, "lambda_ts": 5.0}):
        trainer = tune(TSLossTrainer, **ready)
        with models.quiet():
            both = trainer.evaluate()["eval_loss"]
            weight, trainer.lambda_ts = trainer.lambda_ts, 0.0
            alone = trainer.evaluate()["eval_loss"]
        added = weight * TSLoss()(prompt_vectors(trainer.model)).item()
        assert both - alone == pytest.approx(added, rel=1e-4)


def test_a_model_without_prompt_vectors_and_a_wrong_weight_are_named(tune):
    with pytest.raises(InputError, match="model = 'LlamaForCausalLM': give a PEFT model for prom"):
        prompt_vectors(tiny_model("tiny-llama"))
    with pytest.raises(InputError, match="lambda_ts = nan: give a finite number of at least 0"):
        tune(TSLossTrainer, lambda_ts=float("nan"))


def test_a_hub_id_is_looked_up_by_huggingface_hub(base, tmp_path, monkeypatch):
    """Offline, in its cache: a base model by `tsp run`, an adapter by `tsp analyze`."""
    cache = tmp_path / "hub"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    runs, data = ["--runs", tmp_path / "runs"], write(tmp_path / "bbh.jsonl", json.dumps(BBH))
    shutil.copytree(base, _snapshot(cache, "models--someone--model"))
    record = loads("run", "--model", "someone/model", *SHORT, *runs, "--data", data, "--json")
    assert record["spec"]["model"] == "someone/model"
    loads("export", record["id"], *runs, "--to", tmp_path / "adapter", "--json")
    shutil.copytree(tmp_path / "adapter", _snapshot(cache, "models--someone--prompt"))
    row = loads("analyze", "someone/prompt", "--json")
    assert (row["adapter"], row["base_model"]) == ("someone/prompt", "someone/model")
    fails(2, "adapter = 'no/such': no such folder, and the hub", "analyze", "no/such")


def _snapshot(cache, name):
    """Where huggingface_hub keeps the files of a repository's only commit."""
    (cache / name / "refs").mkdir(parents=True)
    (cache / name / "refs" / "main").write_text("0" * 40)
    return cache / name / "snapshots" / ("0" * 40)


@pytest.mark.parametrize("pack", sorted((ROOT / "data" / "runs").glob("*.parquet")))
def test_datasets_reads_published_packs(pack, tmp_path):
    """Without this package: a row a run, its record as JSON."""
    where = {"data_files": str(pack), "cache_dir": str(tmp_path)}
    rows = datasets.load_dataset("parquet", split="train", **where)
    assert sorted(rows["id"]) == sorted(open_archive(pack).ids)


def command(*words, cwd=ROOT, **more):
    call = [sys.executable, "-m", *map(str, words)]
    return subprocess.run(call, cwd=cwd, capture_output=True, text=True, env=os.environ | more)


def test_jupytext_makes_the_committed_pair(tmp_path):
    """Its own command gives the cells that are committed, and the text back from them."""
    names, new = ("07_tsloss.py", "07_tsloss.ipynb"), tmp_path / "new.ipynb"
    text, notebook = (shutil.copy(NOTEBOOKS / name, tmp_path) for name in names)
    assert command("jupytext", "--to", "notebook", "-o", new, text).returncode == 0
    expected, cells = (nbformat.read(path, as_version=4).cells for path in (notebook, new))
    contents = [[(cell.cell_type, cell.source) for cell in side] for side in (expected, cells)]
    assert contents[0] == contents[1]
    for path, other in ((text, "ipynb"), (notebook, "py:percent")):
        done = command("jupytext", "--test", "--to", other, path)
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_papermill_executes_a_chapter_with_other_values(smoke, tmp_path):
    out = tmp_path / "out.ipynb"
    values = ["-p", "runs", smoke.root, "-p", "model", "tiny-llama", "-p", "epochs", 4]
    for wrong in ("0012", "0"):
        done = command("papermill", NOTEBOOKS / "08_tsloss_at_work.ipynb", out, "-p", "runs", wrong)
        last = done.stderr.strip().splitlines()[-1]
        assert re.fullmatch(r"InputError: runs = \d+: must be text; `papermill -r .*", last)
    done = command("papermill", NOTEBOOKS / "08_tsloss_at_work.ipynb", out, *values)
    assert done.returncode == 0, done.stderr
    cells = nbformat.read(out, as_version=4).cells
    (injected,) = [
        cell.source for cell in cells if "injected-parameters" in cell.metadata.get("tags", [])
    ]
    assert 'model = "tiny-llama"' in injected
    assert any(cell.get("outputs") for cell in cells)
