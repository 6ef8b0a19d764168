"""Adapters that PEFT reads, and adapters of strangers."""

import json
import warnings

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tests.conftest import spec
from tsp.errors import InputError
from tsp.interop.peft import export_peft, import_peft
from tsp.training.forward import Row, read
from tsp.training.prompts import as_input
from tsp.training.spec import RunSpec


def test_peft_reads_the_adapter_and_gives_our_logits(tiny, tmp_path):
    frozen = tiny()
    frozen.model.save_pretrained(tmp_path / "base")
    told = spec(placement="prefix", embed_scale=2.0)
    P = torch.randn(5, frozen.dim, generator=torch.Generator().manual_seed(0)) * 0.2
    export_peft(P, spec=told, hub_id=str(tmp_path / "base"), folder=tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval()
    coded = frozen.encode("Two and two?", "four", placement="prefix")
    ids = torch.tensor([coded.after + coded.target])
    with torch.no_grad():
        theirs = wrapped(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, 5:]
        reading = read(frozen, [Row(as_input(P, told), coded)])
        said = theirs.log_softmax(-1)[len(coded.after) - 1 : -1]
    told_loss = -said.gather(1, torch.tensor([coded.target]).T).sum()
    assert reading.losses.item() == pytest.approx(told_loss.item(), rel=1e-5)
    torch.testing.assert_close(import_peft(tmp_path / "adapter"), 2 * P)
    assert RunSpec.from_dict(json.loads((tmp_path / "adapter/tsp.json").read_text())) == told
    with pytest.raises(InputError, match="exists already"):
        export_peft(P, spec=told, hub_id="x/y", folder=tmp_path / "adapter")
    with pytest.raises(InputError, match="no adapter_model"):
        import_peft(tmp_path)
