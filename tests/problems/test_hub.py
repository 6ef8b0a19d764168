"""Whether the hub can be reached."""

import socket

import pytest

from tsp.problems import hub


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Forget earlier answers and this machine's settings."""
    for name in ("HF_HUB_OFFLINE", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    hub.reachable.cache_clear()
    yield
    hub.reachable.cache_clear()


def test_offline_is_believed(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert not hub.reachable()


def test_a_listening_endpoint_is_reachable_and_a_closed_one_is_not(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{port}")
        assert hub.reachable()
    hub.reachable.cache_clear()
    assert not hub.reachable()
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    hub.reachable.cache_clear()
    assert hub.reachable()  # behind a proxy the client decides


def test_an_endpoint_that_is_silent_is_not_waited_for(monkeypatch):
    def silent(address, timeout):
        assert timeout == hub.SECONDS
        raise TimeoutError

    monkeypatch.setattr(hub.socket, "create_connection", silent)
    assert not hub.reachable()
