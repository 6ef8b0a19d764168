"""Which of the paper's models fit on which GPU."""

from benchmarks.gpu_capacity import EXAMPLE, fits, most_runs
from tsp.training import models
from tsp.training.memory import estimate
from tsp.training.spec import RunSpec
from tsp.training.trainer import Plan

# Numbers of weights as published; transformers counts as many in the loaded models.
PUBLISHED = {
    "open-llama-7b": 6_738_415_616,
    "deepseek-7b-chat": 6_910_365_696,
    "gemma-2b-it": 2_506_172_416,
    "qwen1.5-14b-chat": 14_167_290_880,
}


def test_what_fits_on_which_card():
    table = fits().set_index(["model", "precision"])
    for name, weights in PUBLISHED.items():
        assert table.loc[(name, "float32"), "weights"] == 4 * weights
        assert table.loc[(name, "bfloat16"), "weights"] == 6 * weights
        assert table.loc[(name, "float32"), "hub_id"] == models.MODELS[name].hub_id
    llama = table.loc[("open-llama-7b", "float32")]
    assert llama["context"] == 5000 * 2 * 32 * 4096 * 4
    assert llama["24 GB"] == 0  # its weights alone take 25
    assert table.loc[("gemma-2b-it", "float32"), "24 GB"] > 0
    assert (table["24 GB"] <= table["80 GB"]).all()
    assert (table["80 GB"] <= table["141 GB"]).all()
    assert (table.xs("bfloat16", level=1)["run"] < table.xs("float32", level=1)["run"]).all()


def test_the_number_of_runs_is_the_largest_that_fits():
    frozen, spec = models.load("tiny-llama", device="meta"), RunSpec()
    positions = EXAMPLE.length(spec.n_tokens) - len(EXAMPLE.before)
    for runs in (1, 7, 100):
        plan = Plan(token_budget=runs * positions)
        bank = ([spec] * runs, [[EXAMPLE]] * runs)
        peak = estimate(frozen, *bank, plan, device="cuda").peak
        assert most_runs(frozen, Plan(), room=peak) == runs
        assert most_runs(frozen, Plan(), room=peak - 1) == runs - 1
