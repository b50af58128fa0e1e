"""What `where` costs: `python benchmarks/filters.py [--seconds 3] [--rounds 3]`.

Prints the time of an expression on one event (median of the rounds), then for a plugin that takes every event at once
how many it takes while as many as go are sent, and how many are acknowledged: with a `where` that is true of all, and
with one that holds all back (each then has a row in the journal), over none. Each has a gateway of its own.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from subjects import behind, flood, running

# isort: split
from victim import Victim

from gateway.plugin_host.where.expression import Expression
from gateway.testing import make_event

TAKER = """
class Plugin:
    async def on_event(self, event):
        pass
"""
EXPRESSIONS = (
    "event.hook == 'payment'",
    "payload.amount > 100 && has(payload.reference)",
    "payload.amount > 100 && payload.reference.matches('^[A-Z]{2}[0-9]+$')",
    "event.received_at > timestamp('2026-01-01T00:00:00Z') && event.customer_uid in ['123456', '7']",
)
CALLS = 5000
TABLES = {
    "none": "",
    "true of all": "where = \"payload.body.contains('I') && payload.conversation_id > 5\"\n",
    "true of none": "where = \"payload.body.contains('x') && payload.conversation_id > 5\"\n",
}


def microseconds(text: str, rounds: int) -> float:
    """Of one event, with what is taken out of it."""
    expression, event = Expression(text), make_event("payment", amount="120.50", reference="AB12")

    def once() -> float:
        began = time.perf_counter()
        for _ in range(CALLS):
            expression.matches(event)
        return (time.perf_counter() - began) / CALLS * 1e6

    return statistics.median(once() for _ in range(rounds))


def measure(victim: Victim, options: argparse.Namespace) -> tuple[float, float]:
    """Events a second that were acknowledged, and that the plugin's cursor passed."""
    began = time.monotonic()
    figures = flood(victim, options.seconds, options.connections)
    victim.wait(lambda: not behind(victim, "taker"), "delivered", 60)
    return figures["rate"], figures["requests"] / (time.monotonic() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--folder", type=Path, default=Path(), help="for the journals")
    options = parser.parse_args()
    for text in EXPRESSIONS:
        print(f"{microseconds(text, options.rounds):6.1f} us  {text}", flush=True)
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in TABLES}
    with tempfile.TemporaryDirectory(dir=options.folder.resolve()) as folder:
        for name, where in TABLES.items():
            victim = Victim(Path(folder) / name.replace(" ", "-"), f"\n[plugins.taker]\n{where}", {"taker": TAKER})
            with running(victim):
                rates[name] = [measure(victim, options) for _ in range(options.rounds)]
    base = [statistics.median(column) for column in zip(*rates["none"], strict=True)]
    for name, found in rates.items():
        acknowledged, passed = (statistics.median(column) for column in zip(*found, strict=True))
        ratios = f"acknowledged {acknowledged / base[0]:.2f}, passed {passed / base[1]:.2f}"
        print(f"{name}: {acknowledged:.0f}/s acknowledged, {passed:.0f}/s passed; over none: {ratios}", flush=True)


if __name__ == "__main__":
    main()
