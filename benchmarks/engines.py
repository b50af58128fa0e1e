"""How fast one gateway's journal takes events: in PostgreSQL, and in a file on the same disk in the same run.

python benchmarks/engines.py [--clients 64] [--seconds 10] [--url postgresql://root@127.0.0.1:5432/test]

Each client appends an event, waits until it is durable, and appends the next one; there is no HTTP. PostgreSQL runs on
the same machine, so it has a part of the processor that the journal in a file does not need.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from running import read_config  # noqa: E402
from schemas import Schema  # noqa: E402

from gateway import simulate  # noqa: E402
from gateway.journal import open_journal  # noqa: E402

PREPARED = 20_000
"""Bodies that are made before the clock starts."""


def bodies() -> list[bytes]:
    """Bodies of about 600 bytes with one place each for what makes them differ."""
    made = []
    for number in range(PREPARED):
        kind = ("inbound-message", "message-send", "delivery-report")[number % 3]
        made.append(simulate.encode(simulate.body(kind) | {"note": "x" * 200, "unique": "~" * 24}))
    return made


async def rate(table: str, clients: int, seconds: float) -> dict[str, float]:
    """Events a second, and the latency in milliseconds that 50 and 99 % of them had at most."""
    with tempfile.TemporaryDirectory(dir=HERE) as folder:
        config = read_config(Path(folder), f"[journal]\n{table}\n")
        journal = open_journal(config)
        await journal.start()
        made, latencies, number = bodies(), list[float](), 0
        end = time.perf_counter() + seconds
        begun = time.perf_counter()

        async def client(own: int) -> None:
            nonlocal number
            while (began := time.perf_counter()) < end:
                number += 1
                raw = made[number % PREPARED].replace(b"~" * 24, b"%024d" % number)
                await journal.append("acme", journal.decoder.decode("acme", raw, None), raw)
                latencies.append(time.perf_counter() - began)

        await asyncio.gather(*map(client, range(clients)))
        took = time.perf_counter() - begun
        await journal.close()
        latencies.sort()
        groups: Any = journal.commits.events
        figures = {"rate": len(latencies) / took, "p50": latencies[len(latencies) // 2] * 1000}
        figures["p99"] = latencies[int(len(latencies) * 0.99)] * 1000
        figures["group"] = groups.sum / max(1, groups.count)
        return figures


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--clients", type=int, default=64)
    arguments.add_argument("--seconds", type=float, default=10)
    arguments.add_argument("--rounds", type=int, default=2)
    arguments.add_argument("--url")
    given = arguments.parse_args()
    for _ in range(given.rounds):
        file = asyncio.run(rate('path = "journal.db"', given.clients, given.seconds))
        schema = Schema(given.url)
        with contextlib.closing(contextlib.ExitStack()) as stack:
            stack.callback(schema.drop)
            database = asyncio.run(rate(f'url = "{schema.url}"', given.clients, given.seconds))
        for name, found in (("file", file), ("postgresql", database)):
            print(name, " ".join(f"{key} {value:.1f}" for key, value in found.items()))
        print(f"ratio: rate {database['rate'] / file['rate']:.2f}, p99 {database['p99'] / file['p99']:.2f}")


if __name__ == "__main__":
    assert secrets
    main()
