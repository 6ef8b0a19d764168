# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     notebook_metadata_filter: -jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your own tools
#
# A prompt is a small matrix, and good libraries exist for most of what one does with it. How well do prompts fit into them? This
# chapter exports a prompt to PEFT and to plain transformers and imports it again, adds TSLoss to the Trainer, puts the topology of clouds
# into a pipeline of scikit-learn with giotto-tda, reads stored runs with `datasets`, and names the limits of each. Wherever a
# number can show that something works, an assertion checks it while the page is built.
#
# ```{admonition} After this chapter you can
# :class: tip
# use a prompt from this book with plain transformers, add TSLoss to your own prompt tuning, and put the topology of prompts
# into a pipeline.
# ```

# %% tags=["parameters"]
model: str = "smollm2-135m-instruct"
task: str = "mmlu_cf"
problem: int = 0  # among the shipped problems
epochs: int = 4  # few, since the prompt need not be good here

# %% tags=["hide-input"]
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import datasets
import numpy as np
import pandas as pd
import torch
from myst_nb import glue

from tsp import TSLoss, TSLossTrainer
from tsp.book.pages import check_parameters, table
from tsp.experiments.sweep import ensure
from tsp.paths import cache_dir
from tsp.problems.loading import load_problems
from tsp.store.archive import write_archive
from tsp.store.runs import Store
from tsp.training import models
from tsp.training.forward import TokenRow, hidden_states
from tsp.training.models import TINY, tiny_model
from tsp.training.spec import RunSpec

check_parameters(globals())

datasets.disable_progress_bars()
folder = TemporaryDirectory()
place = Path(folder.name)


def tsp(*words):
    """Return the standard output of a command."""
    call = [sys.executable, "-m", "tsp", *map(str, words)]
    return subprocess.run(call, capture_output=True, text=True, check=True).stdout


# %% [markdown]
# The chapter needs one run of a few epochs. In a terminal, `tsp run` trains it; in Python,
# {py:func}`tsp.experiments.sweep.ensure` does:

# %%
spec = RunSpec(model=model, task=task, problem=problem, epochs=epochs, check_every=epochs)
store = Store(place / "runs")
(run_id,) = ensure([spec], store, name="mine", precision="float32")
trained = store.read(run_id)
prompt = trained.prompt(epochs)

# %% [markdown]
# ## JSON from every command
#
# Every `tsp` command takes `--json` (for `bench` it names a file, where `-` is standard output). Standard output is then JSON
# only, progress goes to standard error, and the exit code tells success from failure, so the output can be piped into tools such
# as `jq`:
#
# ```bash
# tsp runs list --json | jq -r '.[] | select(.solved_epoch) | [.id, .task, .solved_epoch] | @tsv'
# tsp run --task gsm8k --json | jq .outcome
# tsp sweep table3 --plan --json | jq 'map(.runs - .stored) | add'
# tsp bench --json - | jq '.[] | {name, ratio}'
# ```
#
# The first of these commands, called from Python:

# %%
listed = json.loads(tsp("runs", "list", "--runs", store.root, "--json"))
columns = ["id", "task", "method", "lambda_ts", "epochs"]
table(pd.DataFrame(listed, columns=columns).set_index("id"), {"lambda_ts": "{:g}"})

# %% [markdown]
# ## Exporting a prompt to PEFT
#
# `tsp export RUN --to DIR` writes an adapter that `PeftModel.from_pretrained` loads. PEFT puts a prompt before everything else {cite}`lester2021power`,
# which this package calls the placement `prefix`. The run of this chapter has another placement (see below), which does not matter for the
# comparison of logits:

# %%
exported = json.loads(
    tsp("export", run_id, "--runs", store.root, "--to", place / "adapter", "--json")
)
table(pd.DataFrame({"value": exported}).drop(["id", "adapter"]))

# %% [markdown]
# A model from `tsp model install` has weights that were quantised to 4 bits and read back to float32, and the prompt was trained on
# these. Load the base model from their folder (`source` below): the adapter names the hub's model, whose weights were never quantised, and
# on which the prompt may behave differently.

# %% tags=["hide-input"]
card, frozen = models.MODELS.get(model), models.load(model, device="cpu")
source = card.hub_id if card else model
if models.installed(model):
    source = cache_dir() / "models" / model
if model in TINY:  # random models, which are built rather than loaded
    source = place / "base"
    frozen.model.save_pretrained(source)
    frozen.tokenizer.save_pretrained(source)
given = load_problems(task, problem=problem)[0]


def logits(coded):
    """Return the logits at every position, computed by this package."""
    hidden, _ = hidden_states(frozen, [TokenRow(prompt, coded)])
    return hidden[0] @ frozen.head.T


# %% [markdown]
# The next cell puts the vectors of this run before everything else, with PEFT and with this package, and compares the logits:

# %%
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(source)
with models.quiet():  # no progress bars on this page
    base = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)

coded = frozen.encode(given.question, given.target, placement="prefix")
with torch.no_grad(), models.quiet():
    wrapped = PeftModel.from_pretrained(base, str(place / "adapter")).eval()
    theirs = wrapped(input_ids=torch.tensor([coded.after + coded.target[:-1]])).logits[0]
    ours = logits(coded)
difference = (theirs - ours).abs().max() / ours.abs().max()
assert difference < 1e-4
glue("peft-difference", float(difference), display=False)

# %% [markdown]
# The largest difference between two logits is {glue:text}`peft-difference:.1e` times the largest logit, which is rounding error.
#
# ## A prompt in the middle, without PEFT
#
# A run with `after_question`, the default here, can be exported too, but `tsp export` warns that PEFT, which puts every prompt first,
# will not behave as the run did. To use such a prompt, put the vectors where they were
# trained; the chat template shows where the user's turn ends.

# %%
from safetensors.torch import load_file

P = load_file(place / "adapter" / "adapter_model.safetensors")["prompt_embeddings"]
chat = [{"role": "user", "content": given.question + "<HERE>"}]
text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
before, after = (
    tokenizer(part, add_special_tokens=False, return_tensors="pt").input_ids.to(base.device)
    for part in text.split("<HERE>")
)
embed = base.get_input_embeddings()
inputs = torch.cat([embed(before), P[None].to(base.device, base.dtype), embed(after)], dim=1)
answer = base.generate(inputs_embeds=inputs, max_new_tokens=24, do_sample=False)
print(tokenizer.decode(answer[0], skip_special_tokens=True))

# %% [markdown]
# This is the same computation as in this package, with the same tokens and, up to rounding, the same logits at every position:

# %%
coded = frozen.encode(given.question, given.target)
assert before[0].tolist() == list(coded.before)
assert after[0].tolist() == list(coded.after)
target = torch.tensor([coded.target[:-1]])
with torch.no_grad():
    plain = base(inputs_embeds=torch.cat([inputs, embed(target)], dim=1)).logits[0]
    ours = logits(coded)
difference = (plain - ours).abs().max() / ours.abs().max()
assert difference < 1e-4
glue("plain-difference", float(difference), display=False)

# %% [markdown]
# Here the relative difference is {glue:text}`plain-difference:.1e`. The lines above leave out one thing: the
# checks of this package stop at any of the model's end tokens. A stored prompt, unlike an exported adapter, must first go through
# `tsp.training.prompts.as_input(prompt, spec)`, which changes it only if `embed_scale` is not 1 or the protocol is `released`.
#
# ## Importing a prompt from PEFT
#
# `tsp analyze` reads any PEFT adapter with prompt vectors that is saved as safetensors (PEFT's default), from a folder or by its hub
# id:

# %%
summary = json.loads(tsp("analyze", place / "adapter", "--json"))
diagrams, _ = summary.pop("diagrams"), summary.pop("adapter")
table(pd.DataFrame({"value": summary}))

# %% [markdown]
# With `--json` the output includes the bars. The numbers are those of {py:func}`tsp.topology.diagrams.summarize`; `tsloss` is TSLoss
# with its default constants.
#
# ## TSLoss in your own training
#
# {py:class}`tsp.TSLossTrainer <tsp.interop.peers.TSLossTrainer>` is the Trainer of transformers with TSLoss added to the loss. Model, data
# and arguments stay as they are, and it works with prompt tuning, p-tuning and prefix tuning. TSLoss is added once per step, also with
# `gradient_accumulation_steps` and under `accelerate launch`, and `eval_loss` includes it. Below, a tiny random model learns eight
# meaningless token sequences, once with each trainer; only the TSLoss of its vectors is of interest.

# %% tags=["hide-input"]
from peft import PromptTuningConfig, TaskType, get_peft_model
from transformers import PrinterCallback, Trainer, TrainingArguments

from tsp.interop.peers import prompt_vectors

rows = datasets.Dataset.from_list(
    [{"input_ids": [5, 6, 7, 8 + k], "labels": [-100, -100, 7, 8 + k]} for k in range(8)]
)
arguments = TrainingArguments(
    output_dir=str(place / "trainer"),
    max_steps=20,
    learning_rate=0.05,
    save_strategy="no",
    report_to=[],
    disable_tqdm=True,
    use_cpu=True,
    logging_strategy="no",
)


# %%
def tuned(trainer, **more):
    torch.manual_seed(0)
    config = PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=10)
    with models.quiet():
        learner = get_peft_model(tiny_model("tiny-llama"), config)
        training = trainer(model=learner, args=arguments, train_dataset=rows, **more)
        training.remove_callback(PrinterCallback)  # prints times, which differ at every build
        training.train()
    return prompt_vectors(learner).detach()


clouds = {
    "Trainer": tuned(Trainer),
    "TSLossTrainer": tuned(TSLossTrainer, ts_loss=TSLoss(), lambda_ts=1.0),
}
after_training = pd.Series({name: TSLoss()(cloud).item() for name, cloud in clouds.items()})
assert after_training["TSLossTrainer"] < after_training["Trainer"]
table(after_training.to_frame("TSLoss after training"), "{:.3f}")

# %% [markdown]
# ## scikit-learn, together with giotto-tda
#
# {py:class}`tsp.PersistenceSummary <tsp.interop.sklearn.PersistenceSummary>` is `summarize` as a transformer in scikit-learn's sense. It takes the same clouds as
# the transformers of giotto-tda {cite}`tauzin2021giotto`, so both can be part of one `FeatureUnion`, and a grid search can choose among
# columns. The example distinguishes noise from noisy rings, with thirty clouds of each:

# %%
from gtda.diagrams import PersistenceEntropy
from gtda.homology import VietorisRipsPersistence
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from tsp import PersistenceSummary, summarize

rng = np.random.default_rng(0)
angle = rng.uniform(0, 2 * np.pi, (30, 15))
rings = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=2)
X = np.concatenate([rng.normal(size=rings.shape), rings + 0.2 * rng.normal(size=rings.shape)])
y = np.repeat([0, 1], 30)

theirs = make_pipeline(VietorisRipsPersistence(), PersistenceEntropy())
both = FeatureUnion([("ours", PersistenceSummary()), ("giotto", theirs)])
steps = [("topology", both), ("scale", StandardScaler()), ("classify", LogisticRegression())]
columns = [["h0_mean_lifespan"], ["h1_max_lifespan"], ["persistence_entropy"]]
search = GridSearchCV(Pipeline(steps), {"topology__ours__columns": columns}, cv=5).fit(X, y)

assert np.array_equal(PersistenceSummary().fit_transform(X), summarize(X))
shares = pd.Series(search.cv_results_["mean_test_score"], index=[name for (name,) in columns])
table(
    shares.to_frame("cross-validated accuracy with this column and giotto-tda's entropies"),
    "{:.0%}",
)

# %% [markdown]
# ## Published runs without this package
#
# A pack of runs is one Parquet file with one row per run. `datasets` and any other reader of Parquet can open it. The record is
# JSON in one column, and each table, including the bars and the prompts, is a list in another.

# %%
write_archive([trained.data], place / "runs.parquet")
pack = datasets.load_dataset(
    "parquet", data_files=str(place / "runs.parquet"), split="train", cache_dir=str(place / "cache")
)
assert pack["id"] == [run_id]
contents = {name: [*getattr(kind, "feature", ["text"])] for name, kind in pack.features.items()}
first = {name: ", ".join(kinds[:4] + ["…"] * (len(kinds) > 4)) for name, kinds in contents.items()}
table(pd.DataFrame({"contents": first}))

# %% [markdown]
# The published runs are `data/runs/*.parquet`. A model or adapter is always a folder or a hub id and is loaded by
# transformers and huggingface_hub with their settings (`HF_HOME`, `HF_HUB_OFFLINE`, `HF_TOKEN`); `--data hub` uses `datasets`.
#
# ## From the command line
#
# Training curves
# : `tsp run --tensorboard curves …`, or the same for `tsp sweep`, writes events that `tensorboard --logdir curves` shows: losses,
#   terms, gradient norms and learning rate of every epoch, and the share of correct answers at each check. In Python,
#   {py:func}`tsp.experiments.curves.with_curves` writes them for `ensure`. This needs the extra `tensorboard`.
#
# Notebooks
# : `papermill notebooks/10_when_tsloss_acts.ipynb mine.ipynb -p task mmlu_cf` executes a chapter with other values;
#   `jupytext --sync notebooks/07_tsloss.py` keeps the two files of a chapter equal.
#
# Several GPUs
# : `--device balanced` (or `balanced_low_0`, `sequential`) uses `accelerate` to split a model that fits on no single GPU;
#   {py:func}`tsp.training.models.load` also takes a `device_map` as a dict. Layers that `accelerate` offloads to host memory or to a disk
#   do pass gradients on, but they are loaded for every pass and stay in GPU memory until its gradient is computed, so offloading saves no memory in training.
#
# Other projects
# : `python -m build` makes a wheel that trains, analyses and exports without the repository (only `tsp bench` needs it). `import tsp` imports
#   nothing else; `from tsp import TSLoss` needs PyTorch, but neither giotto-tda nor Jupyter.

# %% tags=["remove-cell"]
folder.cleanup()
