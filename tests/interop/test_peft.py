"""Adapters of prompts: written once, read as they were written."""

import json

import pytest
import torch

from tests.conftest import spec
from tsp.errors import InputError
from tsp.interop.peft import export_peft, import_peft
from tsp.training.spec import RunSpec


def test_an_adapter_holds_the_scaled_prompt_and_the_spec(tmp_path):
    run, folder = spec(placement="prefix", embed_scale=2.0), tmp_path / "adapter"
    P = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    export_peft(P, spec=run, hub_id="x/y", folder=folder)
    torch.testing.assert_close(import_peft(folder), 2 * P)
    assert RunSpec.from_dict(json.loads((folder / "tsp.json").read_text())) == run
    with pytest.raises(InputError, match="exists already"):
        export_peft(P, spec=run, hub_id="x/y", folder=folder)
    with pytest.raises(InputError, match="no adapter_model"):
        import_peft(tmp_path)
