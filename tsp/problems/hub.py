"""Is the Hugging Face hub within reach? Its own client tries for minutes before it says no."""

import os
import socket
from functools import cache
from urllib.parse import urlparse

SECONDS = 5


@cache
def reachable() -> bool:
    """Return whether the hub answers; loaders look in its local cache alone if it does not.

    Behind a proxy the answer is yes, and the hub's client decides.
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
