"""Fuzz the package's doors with atheris, guided by what of `tsp` an input reaches.

    python tests/fuzz.py [TARGET ...] [--runs N]

Without a target all of `tests.hostile.TARGETS` take turns, each in a process of its own.
"""

import argparse
import random
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))


def main() -> None:
    """Run one target here, or many in processes of their own; exit 1 if one crashed."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("targets", nargs="*", metavar="TARGET")
    words.add_argument("--runs", type=int, default=10_000, help="Inputs a target.")
    told = words.parse_args()
    if len(told.targets) == 1:
        fuzz(told.targets[0], told.runs)
    command = [sys.executable, __file__, "--runs", str(told.runs)]
    crashed = [it for it in told.targets or names() if subprocess.run([*command, it]).returncode]
    if crashed:
        sys.exit(f"crashed: {', '.join(crashed)}")


def names() -> list[str]:
    """The targets, in order."""
    from tests.hostile import TARGETS

    return list(TARGETS)


def fuzz(target: str, runs: int) -> None:
    """Send so many inputs through one door; ends the process."""
    import atheris

    with atheris.instrument_imports(include=["tsp"], enable_loader_override=False):
        from tests import hostile

    if target not in hostile.TARGETS:
        sys.exit(f"{target}: choose from {', '.join(hostile.TARGETS)}")
    hostile.prepare(target)
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as corpus:
        for number in range(50):  # decisions at random, for the guided search to begin with
            Path(corpus, str(number)).write_bytes(draw.randbytes(64))
        seconds = f"-timeout={3 * hostile.SECONDS}"
        options = [
            f"-runs={runs}",
            "-max_len=300",
            "-rss_limit_mb=0",
            seconds,
            "-print_final_stats=1",
        ]
        atheris.Setup([sys.argv[0], *options, corpus], lambda data: hostile.attack(target, data))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
