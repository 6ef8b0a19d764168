"""How the nodes of a cluster are shared out among tasks."""

import pytest

pytest.importorskip("ray", reason="needs the extra `ray`")

import torch

from tsp.errors import InputError
from tsp.experiments.ray_engine import resources

BOX, SMALL = {"CPU": 96.0, "GPU": 8.0}, {"CPU": 8.0, "GPU": 4.0}
HEAD = {"CPU": 32.0}  # no GPU: it has no task, and does not ask for its threads elsewhere


@pytest.mark.parametrize(
    ("nodes", "device", "threads", "beside"),
    [
        ([BOX], "cuda", 12, 1),
        ([BOX, SMALL], "cuda", 2, 1),
        ([HEAD, {"CPU": 8.0, "GPU": 1.0}], "cuda", 8, 1),
        ([{"CPU": 16.0}, {"CPU": 6.0}], "cpu", 4, 4),
        ([{"CPU": 1.0}, {"CPU": 1.0}], "cpu", 1, 1),
    ],
)
def test_nodes_are_shared_out(nodes, device, threads, beside, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    needs = (
        {"num_cpus": 1, "num_gpus": 1} if device == "cuda" else {"num_cpus": threads, "num_gpus": 0}
    )
    assert resources(nodes, device) == (needs, threads, beside)


@pytest.mark.parametrize(("nodes", "device"), [([HEAD], "cuda"), ([], "cpu")])
def test_a_cluster_without_room_is_refused(nodes, device):
    with pytest.raises(InputError, match="no node has room"):
        resources(nodes, device)
