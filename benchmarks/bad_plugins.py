"""What a plugin that misbehaves costs the others: `python benchmarks/bad_plugins.py [--rounds 7] [KIND ...]`.

For each kind of misbehaviour a gateway with the archive alone and one with the bad plugin beside it take turns
(A/B/B/A), the other one being suspended (SIGSTOP) meanwhile. Printed are ratios, B over A: events that the archive took
while as many as go were sent (median of the rounds; goal: at least 0.95), and the 99th percentile of the time to the
answer at a steady rate (medians of the rounds; goal: at most 1.10, and 1.20 beside `blocks_its_loop`), of webhooks and
of custom values from another provider. The kind `none` has no second plugin and
`behaves` a good one: what the machine's noise and any plugin at all make of these ratios.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import tempfile
from pathlib import Path
from typing import NamedTuple

from subjects import behind, delivered, flood, running, steady

# isort: split
from misbehaving import BAD, source
from victim import Victim

BEHAVES = """
from gateway import hookimpl

class Plugin:
    @hookimpl
    def on_event(self, event):
        pass
"""
KINDS = (
    *("none", "behaves", "raises", "exits", "sleeps", "refuses_to_be_cancelled", "blocks", "blocks_its_loop"),
    *("floods", "talks_nonsense", "breaks_its_checkpoint", "hangs_in_its_checkpoint"),
)


VALUES = '\n[plugins.static_values]\nvalues = { balance = "120.50" }\n'


class Figures(NamedTuple):
    """Events a second that the archive took, and that were acknowledged; the p99 of acknowledgements and of custom
    values in ms."""

    archived: float
    acknowledged: float
    p99: float
    values: float

    def __str__(self) -> str:
        return (
            f"{self.archived:.0f}/s archived, {self.acknowledged:.0f}/s acknowledged, p99 {self.p99:.2f} ms,"
            f" of values {self.values:.2f} ms"
        )


def measure(victim: Victim, options: argparse.Namespace) -> Figures:
    os.killpg(victim.supervisor, signal.SIGCONT)
    try:
        before = delivered(victim, "archive")
        figures = flood(victim, options.seconds, options.connections)
        archived = (delivered(victim, "archive") - before) / figures["seconds"]
        victim.wait(lambda: not behind(victim, "archive"), "delivered", 60)
        tail = steady(victim, options.rate, options.seconds)["p99_ms"]
        values = steady(victim, options.rate, options.seconds, "balance")["p99_ms"]
    finally:
        os.killpg(victim.supervisor, signal.SIGSTOP)
    return Figures(archived, figures["rate"], tail, values)


def compare(alone: Victim, beside: Victim, options: argparse.Namespace) -> str:
    rounds: dict[Victim, list[Figures]] = {alone: [], beside: []}
    for victim in rounds:
        steady(victim, options.rate, 1)
        os.killpg(victim.supervisor, signal.SIGSTOP)
    try:
        for number in range(options.rounds):
            for victim in (alone, beside) if number % 2 == 0 else (beside, alone):
                rounds[victim].append(measure(victim, options))
            print(f"  {rounds[alone][-1]} alone; {rounds[beside][-1]} beside it", flush=True)
    finally:
        for victim in rounds:
            os.killpg(victim.supervisor, signal.SIGCONT)
    pairs = list(zip(rounds[alone], rounds[beside], strict=True))
    archived = statistics.median(b.archived / a.archived for a, b in pairs)
    acknowledged = statistics.median(b.acknowledged / a.acknowledged for a, b in pairs)
    tail = statistics.median(b.p99 for b in rounds[beside]) / statistics.median(a.p99 for a in rounds[alone])
    values = statistics.median(b.values for b in rounds[beside]) / statistics.median(a.values for a in rounds[alone])
    return f"archive {archived:.2f}, acknowledged {acknowledged:.2f}, p99 {tail:.2f}, p99 of values {values:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of none, behaves, {', '.join(BAD)}")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--rate", type=float, default=500, help="events a second, for the p99")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument(
        "--folder", type=Path, default=Path(), help="for the journals; one in memory keeps a disk's own moods out"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder.resolve()) as folder:
        for kind in options.kinds or KINDS:
            plugins = {kind: BEHAVES if kind == "behaves" else source(kind)} if kind != "none" else {}
            table = VALUES + "".join(f"\n[plugins.{name}]\n" for name in plugins)
            beside = Victim(Path(folder) / kind, table, plugins)
            alone = Victim(Path(folder) / f"{kind}-alone", VALUES)
            with running(alone), running(beside):
                print(f"{kind}: {compare(alone, beside, options)}", flush=True)


if __name__ == "__main__":
    main()
