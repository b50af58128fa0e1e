"""How fast one gateway takes events with its journal in PostgreSQL, and with one in a file, in the same run.

python benchmarks/engines.py [--clients 64] [--seconds 10] [--rounds 3] [--url postgresql://root@127.0.0.1:5432/test]

Over HTTP, with `wrk`, and without it: there each client appends an event, waits until it is durable, and appends the
next. PostgreSQL runs on the same machine, and takes a part of the processor that the journal in a file has to itself.
The goals: at least 0.6 times the rate of the file, and at most 3 times its slowest hundredth.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import subjects
from victim import Victim

from gateway import simulate
from gateway.journal import open_journal

HERE = Path(__file__).resolve().parent

from running import read_config  # noqa: E402
from schemas import Schema  # noqa: E402

RATE, SLOWEST = 0.6, 3.0
PREPARED = 20_000
"""Bodies that are made before the clock starts."""
MARK = b"~" * 24


class Figures(NamedTuple):
    """Events a second, and how many milliseconds 99 of 100 of them took at most."""

    rate: float
    p99: float


def bodies() -> list[bytes]:
    """Bodies of about 600 bytes, with a place for what makes them differ."""
    kinds = ("inbound-message", "message-send", "delivery-report")
    fields = {"note": "x" * 200, "unique": MARK.decode()}
    return [simulate.encode(simulate.body(kinds[number % 3]) | fields) for number in range(PREPARED)]


async def appends(folder: Path, table: str, clients: int, seconds: float) -> Figures:
    """The journal alone."""
    journal = open_journal(read_config(folder, f"[journal]\n{table}\n"))
    await journal.start()
    made, latencies, number = bodies(), list[float](), 0
    begun = time.perf_counter()

    async def client() -> None:
        nonlocal number
        while (began := time.perf_counter()) < begun + seconds:
            number += 1
            raw = made[number % PREPARED].replace(MARK, b"%024d" % number)
            await journal.append("acme", journal.decoder.decode("acme", raw, None), raw)
            latencies.append(time.perf_counter() - began)

    await asyncio.gather(*(client() for _ in range(clients)))
    took = time.perf_counter() - begun
    await journal.close()
    return Figures(len(latencies) / took, sorted(latencies)[int(len(latencies) * 0.99)] * 1000)


def requests(folder: Path, table: str, clients: int, seconds: float) -> Figures:
    """A gateway that runs, with the journal as its only work."""
    with subjects.running(Victim(folder, f"[journal]\n{table}\n")) as victim:
        found = subjects.flood(victim, seconds, clients)
    assert not found["not_2xx"], f"{found['not_2xx']} requests were refused"
    return Figures(found["rate"], found["p99_ms"])


def measured(how: str, table: str, clients: int, seconds: float) -> Figures:
    with tempfile.TemporaryDirectory(dir=HERE) as folder:
        if how == "http":
            return requests(Path(folder), table, clients, seconds)
        return asyncio.run(appends(Path(folder), table, clients, seconds))


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--clients", type=int, default=64)
    arguments.add_argument("--seconds", type=float, default=10)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--url", help="by default, the server of the tests")
    given = arguments.parse_args()
    missed = False
    for how in ("journal", "http") if shutil.which("wrk") else ("journal",):
        rates, slowest = [], []
        for _ in range(given.rounds):
            schema = Schema(given.url)
            try:
                file = measured(how, 'path = "journal.db"', given.clients, given.seconds)
                database = measured(how, f'url = "{schema.url}"', given.clients, given.seconds)
            finally:
                schema.drop()
            rates.append(database.rate / file.rate)
            slowest.append(database.p99 / file.p99)
            print(f"{how}: file {file.rate:,.0f}/s, p99 {file.p99:.1f} ms;", end=" ")
            print(f"PostgreSQL {database.rate:,.0f}/s, p99 {database.p99:.1f} ms", flush=True)
        rate, slow = statistics.median(rates), statistics.median(slowest)
        held = rate >= RATE and slow <= SLOWEST
        missed = missed or not held
        print(f"{how}: {rate:.2f} times the rate (goal {RATE}), {slow:.2f} times the p99 (goal {SLOWEST:g}):", end=" ")
        print("held" if held else "MISSED", flush=True)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
