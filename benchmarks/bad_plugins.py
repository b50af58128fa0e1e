"""What a plugin that misbehaves costs the others: `python benchmarks/bad_plugins.py [--rounds 3] [KIND ...]`.

For each kind of misbehaviour a gateway with the archive alone and one with the bad plugin beside it take turns
(A/B/A/B), the other one being suspended (SIGSTOP) meanwhile. Printed are the median ratios of the rounds, B over A:
events that the archive took while as many as go were sent (goal: at least 0.95), and the 99th percentile of the time to
the answer at a steady rate (goal: at most 1.10).
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import tempfile
from pathlib import Path

from subjects import behind, delivered, flood, running, steady

# isort: split
from misbehaving import BAD, source
from victim import Victim

KINDS = ("raises", "exits", "sleeps", "refuses_to_be_cancelled", "blocks", "floods", "talks_nonsense")
KINDS += ("breaks_its_checkpoint", "hangs_in_its_checkpoint")


def measure(victim: Victim, options: argparse.Namespace) -> tuple[float, float, float]:
    """The archive's events a second, those acknowledged a second, and the p99 of acknowledgements in ms."""
    os.killpg(victim.supervisor, signal.SIGCONT)
    try:
        before = delivered(victim, "archive")
        figures = flood(victim, options.seconds, options.connections)
        taken = (delivered(victim, "archive") - before) / figures["seconds"]
        victim.wait(lambda: not behind(victim, "archive"), "delivered", 60)
        tail = steady(victim, options.rate, options.seconds)["p99_ms"]
    finally:
        os.killpg(victim.supervisor, signal.SIGSTOP)
    return taken, figures["rate"], tail


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(BAD)}")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rate", type=float, default=500, help="events a second, for the p99")
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        for kind in options.kinds or KINDS:
            beside = Victim(Path(folder) / kind, f"\n[plugins.{kind}]\n", {kind: source(kind)})
            alone = Victim(Path(folder) / f"{kind}-alone")
            with running(alone), running(beside):
                print(f"{kind}: {_compare(alone, beside, options)}", flush=True)


def _compare(alone: Victim, beside: Victim, options: argparse.Namespace) -> str:
    ratios = []
    for victim in (alone, beside):
        steady(victim, options.rate, 1)
        os.killpg(victim.supervisor, signal.SIGSTOP)
    try:
        for _ in range(options.rounds):
            figures = measure(alone, options), measure(beside, options)
            ratios.append([b / a for a, b in zip(*figures, strict=True)])
            print(f"  {_show(figures[0])} alone, {_show(figures[1])} beside it", flush=True)
    finally:
        for victim in (alone, beside):
            os.killpg(victim.supervisor, signal.SIGCONT)
    taken, acknowledged, tail = (statistics.median(column) for column in zip(*ratios, strict=True))
    return f"archive {taken:.2f}, acknowledged {acknowledged:.2f}, p99 {tail:.2f}"


def _show(figures: tuple[float, float, float]) -> str:
    taken, acknowledged, tail = figures
    return f"{taken:.0f}/s archived, {acknowledged:.0f}/s acknowledged, p99 {tail:.2f} ms"


if __name__ == "__main__":
    main()
