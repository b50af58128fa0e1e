"""Proofs and figures of several gateways on one PostgreSQL journal: `python benchmarks/cluster.py PROOF [--seed S]`.

The servers are started from the installed binaries of PostgreSQL: a primary with a synchronous standby, and three
gateways, each on a host of its own: a network namespace where that is allowed (by root), else ports behind proxies.
Each proof prints its figures with their goals, and the command exits 1 when one is missed.

    rounds    gateways killed, frozen, cut off, with wrong clocks; primaries killed, cut off, replaced: nothing
              acknowledged is lost, skipped or out of order, and what is delivered again says so
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "cluster")]

from cluster_rounds import cluster_rounds  # noqa: E402
from network import enter_namespace  # noqa: E402


def rounds(folder: Path, seed: str, count: int) -> bool:
    """Disasters at random under load, then the verdict on the whole history."""
    print(f"rounds: {count}, 24 conversations on 3 gateways, seed {seed}", flush=True)
    outcome = cluster_rounds(folder, count, seed, say=say)
    print(f"  {outcome.findings}")
    print(f"  struck {outcome.struck}")
    print(f"  answers {outcome.answers}, without an answer {outcome.broken}, slowest return {outcome.slowest:.1f} s")
    for fault in outcome.faults()[:20]:
        print(f"  FAULT {fault}")
    return not outcome.faults()


def say(line: str) -> None:
    print(f"  {time.strftime('%H:%M:%S')} {line}", flush=True)


PROOFS: dict[str, tuple[Callable[[Path, str, int], bool], int]] = {"rounds": (rounds, 200)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("proof", nargs="?", choices=[*PROOFS, "all"], default="all")
    parser.add_argument("count", nargs="?", type=int, help="rounds, in place of the proof's own number")
    parser.add_argument("--seed", default=f"{random.SystemRandom().getrandbits(32):08x}")
    parser.add_argument("--directory", type=Path, help="where to work, and to leave what was found")
    arguments = parser.parse_args()
    folder = arguments.directory or Path(tempfile.mkdtemp(prefix="gateways-"))
    failed = []
    for name, (prove, count) in PROOFS.items():
        if arguments.proof in (name, "all"):
            began = time.monotonic()
            if not prove(folder / name, arguments.seed, arguments.count or count):
                failed.append(name)
            print(f"  {'FAILED' if name in failed else 'held'} after {time.monotonic() - began:.0f} s", flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}; seed {arguments.seed}; what they left is in {folder}")
    return 1 if failed else 0


if __name__ == "__main__":
    enter_namespace()
    sys.exit(main())
