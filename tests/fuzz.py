"""Fuzz the package's doors with atheris, guided by what of `tsp` an input reaches.

    python tests/fuzz.py [TARGET ...] [--runs N] [--seed N]

Without a target all of `tests.hostile.TARGETS` take turns, each in a process of its own.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))


def main() -> None:
    """Run each target in a process of its own, with its own temporary folder; exit 1 on a crash."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("targets", nargs="*", metavar="TARGET")
    words.add_argument("--runs", type=int, default=10_000, help="Inputs a target.")
    words.add_argument("--seed", type=int, default=0, help="Of the search; 0: another each time.")
    words.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    told = words.parse_args()
    if told.inside:
        fuzz(told.targets[0], told.runs, told.seed)
    many = ["--runs", str(told.runs), "--seed", str(told.seed)]
    command = [sys.executable, __file__, *many, "--inside"]
    crashed = []
    for target in told.targets or names():
        print(f"--- {target}", flush=True)
        with tempfile.TemporaryDirectory() as place:  # atheris ends a process without cleaning up
            done = subprocess.run([*command, target], env=os.environ | {"TMPDIR": place})
            crashed += [target] if done.returncode else []
    if crashed:
        sys.exit(f"crashed: {', '.join(crashed)}")


def names() -> list[str]:
    """The targets, in order."""
    from tests.hostile import TARGETS

    return list(TARGETS)


def fuzz(target: str, runs: int, seed: int) -> None:
    """Send so many inputs through one door; ends the process."""
    import atheris

    with atheris.instrument_imports(include=["tsp"], enable_loader_override=False):
        from tests import hostile

    if target not in hostile.TARGETS:
        sys.exit(f"{target}: choose from {', '.join(hostile.TARGETS)}")
    hostile.prepare(target)
    draw, corpus = random.Random(0), tempfile.mkdtemp()
    for number in range(50):  # decisions at random, for the guided search to begin with
        Path(corpus, str(number)).write_bytes(draw.randbytes(64))
    options = [f"-runs={runs}", f"-timeout={3 * hostile.SECONDS}", "-max_len=300", "-len_control=0"]
    options += [f"-seed={seed}", "-rss_limit_mb=4096", "-print_final_stats=1", corpus]
    atheris.Setup([sys.argv[0], *options], lambda data: hostile.attack(target, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
