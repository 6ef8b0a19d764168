"""Fill in a model's chat template, a small program from anybody, in a process that can be stopped.

One process serves all templates of ours. It runs this file alone, without torch or the rest of the
package, and ends when its input does, so also when we are killed.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

SECONDS = 10.0  # of processor time a template may take; a real one takes a ten-thousandth of one
MEMORY = 2 * 2**30  # bytes it may need; only Linux holds a process to it
LONGEST = 1_000_000  # characters it may write besides those of the messages
COMMAND = [sys.executable, "-P", __file__]  # -P: this folder's modules are not the library's

_lock = threading.Lock()
_process: subprocess.Popen[bytes] | None = None


def start() -> None:
    """Start the process if there is none, and do not wait: it needs half a second to be ready."""
    with _lock:
        _running()


def rendered(
    tokenizer: Any, messages: list[dict[str, str]], *, add_generation_prompt: bool = False
) -> str:
    """Text of a conversation as ``tokenizer.apply_chat_template(tokenize=False)`` gives it.

    Raises
    ------
    ValueError
        If the template fails, takes too long, needs too much memory or writes too much.
    """
    told = {
        "conversations": [messages],
        "chat_template": tokenizer.get_chat_template(),
        "add_generation_prompt": add_generation_prompt,
        **tokenizer.special_tokens_map,
    }
    longest = LONGEST + sum(len(message["content"]) for message in messages)
    request = {"told": told, "seconds": SECONDS, "longest": longest}
    answer = _answered(json.dumps(request).encode() + b"\n")
    if "error" in answer:
        raise ValueError(f"its chat template {answer['error']}")
    return str(answer["text"])


def _answered(request: bytes) -> dict[str, Any]:
    with _lock:
        process = _running()
        try:
            line = _asked(process, request)
            answer = json.loads(line) if line.endswith(b"\n") else None
        except BaseException:  # an answer that nobody has read must not become the next one's
            _end(process)
            raise
        code = _end(process) if answer is None or answer["full"] else 0
    if answer is not None:
        return dict(answer)
    if code == -signal.SIGPROF:
        return {"error": f"runs longer than {SECONDS:g} s"}
    return {"error": f"ended the process that fills it in (status {code})"}


def _asked(process: subprocess.Popen[bytes], request: bytes) -> bytes:
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):
        # Not through the buffer: a copy of it in a forked process could be written there again.
        while request:
            request = request[os.write(process.stdin.fileno(), request) :]
    return process.stdout.readline()


def _running() -> subprocess.Popen[bytes]:
    global _process
    if _process is None or _process.poll() is not None:
        # In a session of its own, so that Ctrl-C reaches us alone.
        _process = subprocess.Popen(
            [*COMMAND, str(MEMORY)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    return _process


def _end(process: subprocess.Popen[bytes]) -> int:
    with process:  # closes its pipes and waits for it
        process.kill()
    return process.returncode


def _forget() -> None:
    """A forked process shares neither our process, whose answers are ours, nor a lock we held."""
    global _lock, _process
    _lock, _process = threading.Lock(), None


os.register_at_fork(after_in_child=_forget)


# --- in the process -----------------------------------------------------------------------


def serve(memory: int) -> None:
    """Answer requests, a line of JSON each, until there are no more; ``memory`` is in bytes."""
    from transformers.utils.chat_template_utils import render_jinja_template

    first = _size()
    if first:
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        with suppress(ValueError):  # it is held to less already
            resource.setrlimit(resource.RLIMIT_AS, (first + memory, hard))
    # The timer counts our processor time, and its signal ends us even within one computation in C.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for line in sys.stdin.buffer:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, request["seconds"])
        answer = _tried(render_jinja_template, request["told"], request["longest"])
        signal.setitimer(signal.ITIMER_PROF, 0)  # what is left is not for the next one
        # What one template keeps in the library's cache, the next would lack.
        answer["full"] = _size() > first + memory // 8
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


def _size() -> int:
    """Bytes of address space that this process has, where Linux says it."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except FileNotFoundError:
        return 0


def _tried(render: Any, told: dict[str, Any], longest: int) -> dict[str, Any]:
    try:
        text = render(**told)[0][0]
    except MemoryError:
        return {"error": "needs too much memory"}
    except Exception as error:  # a program from anybody fails in any way
        return {"error": f"fails ({str(error)[:1000]})"}
    if len(text) > longest:
        return {"error": "writes too many characters"}
    return {"text": text}


if __name__ == "__main__":
    serve(int(sys.argv[1]))
