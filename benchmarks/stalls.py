"""How long the gateway leaves other requests without an answer while it decodes the most costly bodies.

    python benchmarks/stalls.py [--size 1048576] [--limit 50]

Prints the longest pause for each kind of body, in milliseconds: of the answers to small requests that are sent one
after the other on another connection, the slowest. Exits 1 if a pause exceeds the limit. The size is in bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from heavy_bodies import heavy_bodies
from raw_http import Requests
from running import running

ROUNDS = 3


async def ask(requests: Requests, done: asyncio.Event) -> float:
    """Send requests that need no journal until `done`; returns the longest time to an answer, in milliseconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", requests.port)
    longest = 0.0
    while not done.is_set():
        began = time.perf_counter()
        writer.write(requests.head().replace(b"POST", b"GET", 1))
        await reader.readuntil(b"{}")
        longest = max(longest, (time.perf_counter() - began) * 1000)
        await asyncio.sleep(0.001)
    writer.close()
    return longest


async def pause(requests: Requests, body: bytes) -> tuple[float, float]:
    """The longest pause while this body is received, and the time to its own answer, in milliseconds."""
    done = asyncio.Event()
    asking = asyncio.ensure_future(ask(requests, done))
    await asyncio.sleep(0.05)
    reader, writer = await asyncio.open_connection("127.0.0.1", requests.port)
    began = time.perf_counter()
    writer.write(requests.post(body))
    await writer.drain()
    await reader.readuntil(b"}")
    took = (time.perf_counter() - began) * 1000
    writer.close()
    await asyncio.sleep(0.05)
    done.set()
    return await asking, took


async def measure(requests: Requests, size: int) -> float:
    worst = 0.0
    bodies = [("a small body", b'{"type":"payment"}'), *heavy_bodies(size)]
    for name, body in bodies:
        found = [await pause(requests, body + b" " * number) for number in range(ROUNDS)]
        longest, took = min(found)  # the rounds differ by what else the machine does
        print(f"{name:34} {len(body) / 2**20:5.2f} MiB   longest pause {longest:7.1f} ms   answered in {took:7.1f} ms")
        worst = max(worst, longest)
    return worst


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=2**20 - 1024)
    parser.add_argument("--limit", type=float, default=50)
    arguments = parser.parse_args()
    text = f'max_body = "{arguments.size // 2**20 + 1} MiB"\n'
    with tempfile.TemporaryDirectory() as directory, running(Path(directory), text) as gateway:
        worst = asyncio.run(measure(Requests(gateway), arguments.size))
    print(f"the longest pause: {worst:.1f} ms; the limit is {arguments.limit:g} ms")
    return 0 if worst <= arguments.limit else 1


if __name__ == "__main__":
    sys.exit(main())
