"""Slow clients beside good ones: so many sockets drip their headers, then their bodies, a byte at a time.

    python benchmarks/slow_clients.py [--sockets 1000 4000] [--requests 3000]

Prints the good clients' 50th and 99th percentile without and beside the slow ones. Exits 1 if a good client saw an
error, or if its 99th percentile more than doubled. Slow clients and good ones share one process: what they take from
one another counts, too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from raw_http import Requests
from running import running

GOOD_CLIENTS = 16
PAUSE = 1.0


class Times(NamedTuple):
    """In milliseconds; `errors` are answers other than 200."""

    p50: float
    p99: float
    errors: int


async def good(requests: Requests, count: int) -> Times:
    """So many events over a few connections that are kept."""
    left, times, errors = iter(range(count)), [], 0

    async def client() -> None:
        nonlocal errors
        reader, writer = await asyncio.open_connection("127.0.0.1", requests.port)
        for number in left:
            began = time.perf_counter()
            writer.write(requests.post(b'{"type":"payment","n":%d}' % number))
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readuntil(b"}")
            times.append((time.perf_counter() - began) * 1000)
            errors += not head.startswith(b"HTTP/1.1 200 ")
        writer.close()

    await asyncio.gather(*(client() for _ in range(GOOD_CLIENTS)))
    return Times(statistics.median(times), statistics.quantiles(times, n=100)[98], errors)


async def drip(requests: Requests, head: bytes, number: int, count: int) -> None:
    """One slow client: a byte a second for as long as it is let, then the same again on a new connection."""
    await asyncio.sleep(PAUSE * number / count)
    while True:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            _, writer = await asyncio.open_connection("127.0.0.1", requests.port)
            writer.write(head)
            while not writer.is_closing():
                writer.write(b"a")
                await writer.drain()
                await asyncio.sleep(PAUSE)


async def measure(requests: Requests, sockets: int, count: int) -> bool:
    alone = await good(requests, count)
    print(f"alone:                  p50 {alone.p50:6.2f} ms   p99 {alone.p99:6.2f} ms   {alone.errors} errors")
    fine = alone.errors == 0
    heads = {
        "headers": requests.head(b"X-A: ")[:-4],
        "bodies": requests.head(b"Content-Length: 100000"),
    }
    for what, head in heads.items():
        slow = [asyncio.ensure_future(drip(requests, head, number, sockets)) for number in range(sockets)]
        await asyncio.sleep(2 * PAUSE)
        beside = await good(requests, count)
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
        print(
            f"{sockets:5} dripping {what:8} p50 {beside.p50:6.2f} ms   p99 {beside.p99:6.2f} ms  "
            f" {beside.errors} errors   p99 x {beside.p99 / alone.p99:.2f}"
        )
        fine = fine and beside.errors == 0 and beside.p99 <= 2 * alone.p99
    return fine


ONE_ADDRESS = "max_connections_per_address = 16384\n"
"""All of these clients have the same address."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sockets", type=int, nargs="+", default=[1000, 4000])
    parser.add_argument("--requests", type=int, default=3000)
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16_384), hard))
    results = []
    for sockets in arguments.sockets:
        with tempfile.TemporaryDirectory() as directory, running(Path(directory), ONE_ADDRESS) as gateway:
            results.append(asyncio.run(measure(Requests(gateway), sockets, arguments.requests)))
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
