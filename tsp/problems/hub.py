"""Is the Hugging Face hub within reach? Its own client tries for minutes before it says no."""

import os
import socket
from functools import cache
from urllib.parse import urlparse

SECONDS = 5


@cache
def reachable() -> bool:
    """Say whether the hub answers; behind a proxy or a mirror that is left to its client.

    When it does not, loaders look in the hub's local cache alone, so that what was downloaded
    before still loads, and what was not fails at once.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        return False
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY")):
        return True
    endpoint = urlparse(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    try:
        port = endpoint.port or (80 if endpoint.scheme == "http" else 443)
        with socket.create_connection((endpoint.hostname or "", port), timeout=SECONDS):
            return True
    except OSError:
        return False
