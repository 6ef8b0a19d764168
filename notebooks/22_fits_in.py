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
# # Use it with your own tools
#
# A prompt is a small matrix, and most of what one does with it has a good library already. This chapter carries one
# prompt through PEFT, transformers' Trainer, scikit-learn with giotto-tda, and `datasets`, and says at each border what
# fits and what does not. What can be checked by a number is checked while the page is built: a cell that is wrong stops it.
#
# ```{admonition} After this chapter you can
# :class: tip
# use a prompt of ours with plain transformers, add TSLoss to prompt tuning of your own, and put the topology of prompts
# into a pipeline.
# ```

# %% tags=["parameters"]
model: str = "smollm2-135m-instruct"
task: str = "mmlu_cf"
problem: int = 0  # of those that are shipped
epochs: int = 4  # few: the prompt need not be good to be carried around

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
    """What a command prints, as a shell would get it."""
    call = [sys.executable, "-m", "tsp", *map(str, words)]
    return subprocess.run(call, capture_output=True, text=True, check=True).stdout


# %% [markdown]
# One run, of a few epochs, is all that this chapter needs. In a terminal it is `tsp run`, in Python
# {py:func}`tsp.experiments.sweep.ensure`:

# %%
spec = RunSpec(model=model, task=task, problem=problem, epochs=epochs, check_every=epochs)
store = Store(place / "runs")
(run_id,) = ensure([spec], store, name="mine", precision="float32")
trained = store.read(run_id)
prompt = trained.prompt(epochs)

# %% [markdown]
# ## JSON from every command
#
# Every `tsp` command takes `--json` (of `bench` it names a file, and `-` is standard output). Standard output is then JSON
# and nothing else, progress goes to standard error, and the exit code says whether it worked, so `jq` and its like can be
# put behind it:
#
# ```bash
# tsp runs list --json | jq -r '.[] | select(.solved_epoch) | [.id, .task, .solved_epoch] | @tsv'
# tsp run --task gsm8k --json | jq .outcome
# tsp sweep table3 --plan --json | jq 'map(.runs - .stored) | add'
# tsp bench --json - | jq '.[] | {name, ratio}'
# ```
#
# The same from Python:

# %%
listed = json.loads(tsp("runs", "list", "--runs", store.root, "--json"))
columns = ["id", "task", "method", "lambda_ts", "epochs"]
table(pd.DataFrame(listed, columns=columns).set_index("id"), {"lambda_ts": "{:g}"})

# %% [markdown]
# ## PEFT: a prompt goes out
#
# `tsp export RUN --to DIR` writes an adapter that `PeftModel.from_pretrained` loads {cite}`lester2021power`. PEFT
# puts a prompt before everything, which is our placement `prefix`:

# %%
exported = json.loads(
    tsp("export", run_id, "--runs", store.root, "--to", place / "adapter", "--json")
)
table(pd.DataFrame({"value": exported}).drop(["id", "adapter"]))

# %% [markdown]
# What `tsp model install` fetches has 4-bit weights, read back to float32, and the prompt was trained for those: they are
# in a folder that transformers loads (`source` below). The adapter names the hub's own model, whose weights are not rounded.

# %% tags=["hide-input"]
card, frozen = models.MODELS.get(model), models.load(model, device="cpu")
source = card.hub_id if card else model
if models.installed(model):
    source = cache_dir() / "models" / model
if model in TINY:  # these are made, not loaded
    source = place / "base"
    frozen.model.save_pretrained(source)
    frozen.tokenizer.save_pretrained(source)
given = load_problems(task, problem=problem)[0]


def logits(coded):
    """Ours, of every position."""
    hidden, _ = hidden_states(frozen, [TokenRow(prompt, coded)])
    return hidden[0] @ frozen.head.T


# %% [markdown]
# The vectors of this run, put before everything by PEFT and by us:

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
apart = (theirs - ours).abs().max() / ours.abs().max()
assert apart < 1e-4
glue("peft-apart", float(apart), display=False)

# %% [markdown]
# The largest difference of a logit is {glue:text}`peft-apart:.1e` of the largest logit, which is rounding.
#
# ## What PEFT cannot do, in ten lines without it
#
# PEFT has no prompt in the middle of the text. A run with `after_question`, the default here, exports all the same, since
# its vectors may be wanted, and `tsp export` says that the adapter will not behave as the run did. To use it, put the vectors
# where they were trained: the chat template says where the user's turn ends.

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
said = base.generate(inputs_embeds=inputs, max_new_tokens=24, do_sample=False)
print(tokenizer.decode(said[0], skip_special_tokens=True))

# %% [markdown]
# It is the same computation as ours: the same tokens, and the same logits at every position.

# %%
coded = frozen.encode(given.question, given.target)
assert before[0].tolist() == list(coded.before)
assert after[0].tolist() == list(coded.after)
target = torch.tensor([coded.target[:-1]])
with torch.no_grad():
    plain = base(inputs_embeds=torch.cat([inputs, embed(target)], dim=1)).logits[0]
    ours = logits(coded)
apart = (plain - ours).abs().max() / ours.abs().max()
assert apart < 1e-4
glue("plain-apart", float(apart), display=False)

# %% [markdown]
# Here they differ by {glue:text}`plain-apart:.1e`. Two things are not in the lines above: a run with another
# `embed_scale`, or of protocol `released`, feeds the model `tsp.training.prompts.as_input(prompt, spec)` (an adapter has that folded in),
# and a check of ours stops at any of the model's end tokens.
#
# ## PEFT: a prompt comes in
#
# `tsp analyze` reads any adapter of PEFT's with prompt vectors, saved as safetensors (its default), from a folder or by its hub id, whoever
# trained it:

# %%
found = json.loads(tsp("analyze", place / "adapter", "--json"))
diagrams, _ = found.pop("diagrams"), found.pop("adapter")
table(pd.DataFrame({"value": found}))

# %% [markdown]
# With `--json` it gives the bars too. The numbers are those of {py:func}`tsp.topology.diagrams.summarize`, `tsloss` is TSLoss at its
# default constants.
#
# ## TSLoss in a training of your own
#
# {py:class}`tsp.TSLossTrainer <tsp.interop.peers.TSLossTrainer>` is transformers' Trainer with one term more. Model, data and arguments
# stay as they were; it takes prompt tuning, p-tuning and prefix tuning. TSLoss counts once a step, also with
# `gradient_accumulation_steps` or under `accelerate launch`, and `eval_loss` has it too. Below a tiny random model learns eight made-up
# sentences twice, so only the TSLoss of its vectors means something:

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
        work = trainer(model=learner, args=arguments, train_dataset=rows, **more)
        work.remove_callback(PrinterCallback)  # how long it took is no result
        work.train()
    return prompt_vectors(learner).detach()


clouds = {
    "Trainer": tuned(Trainer),
    "TSLossTrainer": tuned(TSLossTrainer, ts_loss=TSLoss(), lambda_ts=1.0),
}
after_training = pd.Series({name: TSLoss()(cloud).item() for name, cloud in clouds.items()})
assert after_training["TSLossTrainer"] < after_training["Trainer"]
table(after_training.to_frame("TSLoss after training"), "{:.3f}")

# %% [markdown]
# ## scikit-learn, beside giotto-tda
#
# {py:class}`tsp.PersistenceSummary <tsp.interop.sklearn.PersistenceSummary>` is `summarize` as a transformer, and takes the clouds that
# giotto-tda's own take {cite}`tauzin2021giotto`: both stand in one `FeatureUnion`, and a grid search chooses among columns.
# Noise and noisy rings, thirty clouds each, told apart:

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
steps = [("topology", both), ("scale", StandardScaler()), ("say", LogisticRegression())]
columns = [["h0_mean_lifespan"], ["h1_max_lifespan"], ["persistence_entropy"]]
search = GridSearchCV(Pipeline(steps), {"topology__ours__columns": columns}, cv=5).fit(X, y)

assert np.array_equal(PersistenceSummary().fit_transform(X), summarize(X))
shares = pd.Series(search.cv_results_["mean_test_score"], index=[name for (name,) in columns])
table(shares.to_frame("share told apart, with giotto-tda's entropies"), "{:.0%}")

# %% [markdown]
# ## Published runs without this package
#
# A pack of runs is one Parquet file, a row a run. `datasets` reads it, and so does whatever reads Parquet: the record is
# JSON in a column, and each table, with the bars and the prompts, is a list in another.

# %%
write_archive([trained.data], place / "mine.parquet")
mine = datasets.load_dataset(
    "parquet", data_files=str(place / "mine.parquet"), split="train", cache_dir=str(place / "cache")
)
assert mine["id"] == [run_id]
held = {name: [*getattr(kind, "feature", ["text"])] for name, kind in mine.features.items()}
few = {name: ", ".join(kinds[:4] + ["…"] * (len(kinds) > 4)) for name, kinds in held.items()}
table(pd.DataFrame({"holds": few}))

# %% [markdown]
# The published ones are `data/runs/*.parquet`. A model or adapter is a folder or a hub id throughout, and goes through
# transformers and huggingface_hub with their settings (`HF_HOME`, `HF_HUB_OFFLINE`, `HF_TOKEN`); `--data hub` goes through `datasets`.
#
# ## What needs no code
#
# Curves while it trains
# : `tsp run --tensorboard curves …`, the same for `tsp sweep`, and `tensorboard --logdir curves` beside it: every epoch's
#   losses, terms, gradient norms and learning rate, and the share of right answers at each check. In Python
#   {py:func}`tsp.experiments.curves.with_curves` makes events for `ensure`. It needs the extra `tensorboard`.
#
# Notebooks
# : `papermill notebooks/07_tsloss.ipynb mine.ipynb -p task mmlu_cf` executes a chapter with other values,
#   `jupytext --sync notebooks/07_tsloss.py` keeps both halves of a pair together, by their own commands.
#
# Several GPUs
# : `--device balanced` (`balanced_low_0`, `sequential`) divides a model that no single GPU holds, by accelerate;
#   {py:func}`tsp.training.models.load` also takes a `device_map` as a dict. Layers that accelerate leaves on the host or a disk do train,
#   but come back for every pass and stay until its gradient is there: they spare no memory in training.
#
# Another project
# : `python -m build` makes a wheel that trains, measures and exports alone. `import tsp` loads nothing but itself;
#   `from tsp import TSLoss` needs PyTorch, and neither giotto-tda nor Jupyter.

# %% tags=["remove-cell"]
folder.cleanup()
