"""How the nodes of a cluster are shared out among workers."""

import pytest

pytest.importorskip("ray", reason="needs the extra `ray`")

import torch

from tsp.experiments.ray_engine import Room

BOX = {"CPU": 96.0, "GPU": 8.0}


@pytest.fixture(autouse=True)
def threads():
    """This machine's torch takes four threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_every_gpu_has_a_worker_whatever_the_processors_are():
    assert Room.of([BOX], "cuda") == Room(threads=12, workers=8, beside=1)
    assert Room.of([BOX, {"CPU": 8.0, "GPU": 4.0}], "cuda") == Room(2, 12, 1)
    head = {"CPU": 32.0}  # no GPU: it has no worker, and does not ask for its threads elsewhere
    assert Room.of([head, {"CPU": 8.0, "GPU": 1.0}], "cuda") == Room(8, 1, 1)


def test_without_gpus_a_worker_has_the_threads_that_torch_takes():
    assert Room.of([{"CPU": 16.0}, {"CPU": 6.0}], "cpu") == Room(threads=4, workers=5, beside=4)
    assert Room.of([{"CPU": 1.0}, {"CPU": 1.0}], "cpu") == Room(1, 2, 1)


def test_nodes_without_room_have_no_worker():
    assert Room.of([{"CPU": 96.0}], "cuda").workers == 0
    assert Room.of([], "cpu").workers == 0
