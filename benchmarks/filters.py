"""What `where` costs: `python benchmarks/filters.py [--seconds 3] [--rounds 3]`.

Prints the time of an expression on one event (median of the rounds), then for a plugin that takes every event at once
how many it takes while as many as go are sent, and how many are acknowledged: with a `where` that is true of all, and
with one that holds all back (each event then has a row in the journal), over none. Each has a gateway of its own, which
take turns; ratios are medians of the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
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
        victims = {
            name: Victim(Path(folder) / name.replace(" ", "-"), f"\n[plugins.taker]\n{where}", {"taker": TAKER})
            for name, where in TABLES.items()
        }
        with contextlib.ExitStack() as stack:
            for victim in victims.values():
                stack.enter_context(running(victim))
            for _ in range(options.rounds):
                for name, victim in victims.items():
                    rates[name].append(measure(victim, options))
    for name, found in rates.items():
        acknowledged, passed = (statistics.median(column) for column in zip(*found, strict=True))
        pairs = list(zip(found, rates["none"], strict=True))
        ratios = [statistics.median(one[index] / other[index] for one, other in pairs) for index in (0, 1)]
        over = f"over none: acknowledged {ratios[0]:.2f}, passed {ratios[1]:.2f}"
        print(f"{name}: {acknowledged:.0f}/s acknowledged, {passed:.0f}/s passed; {over}", flush=True)


if __name__ == "__main__":
    main()
