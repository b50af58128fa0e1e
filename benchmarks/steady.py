"""Events at a steady rate, whatever the answers take: `python benchmarks/steady.py CONFIG [--rate 1000]`. With
`--ask FIELD`, custom value requests instead.

Prints one JSON object. Times count from the moment at which an event was due, so that an answer that comes late
delays no later event and hides none.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import uvloop

from gateway import simulate
from gateway.config.load import load_config
from gateway.config.tables import Config


class Steady:
    """Sends at `rate` a second over so many connections, each with one request under way at most."""

    def __init__(self, config: Config, rate: float, seconds: float, connections: int, field: str | None) -> None:
        self.latencies: list[float] = []
        self.failed = 0
        self._server = config.server
        self._rate = rate
        self._seconds = seconds
        self._connections = connections
        self._field = field
        name, organisation = next(iter(config.organisations.items()))
        self._headers = f" HTTP/1.1\r\nhost: {name}\r\nx-webio-token: {simulate.token(organisation)}\r\n"

    async def run(self) -> None:
        due: asyncio.Queue[float | None] = asyncio.Queue()
        senders = [asyncio.create_task(self._send(due)) for _ in range(self._connections)]
        start = time.perf_counter()
        for number in itertools.count():
            moment = start + number / self._rate
            if moment - start > self._seconds:
                break
            if (left := moment - time.perf_counter()) > 0:
                await asyncio.sleep(left)
            due.put_nowait(moment)
        for _ in senders:
            due.put_nowait(None)
        await asyncio.gather(*senders)

    async def _send(self, due: asyncio.Queue[float | None]) -> None:
        reader, writer = await asyncio.open_connection(self._server.host, self._server.port)
        while (moment := await due.get()) is not None:
            writer.write(self._request())
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            if b" 200 " in head[:13]:
                self.latencies.append(time.perf_counter() - moment)
            else:
                self.failed += 1
        writer.close()

    def _request(self) -> bytes:
        if self._field is not None:
            query = urlencode(simulate.query([self._field], "123456"))
            return f"GET {self._server.path}?{query}{self._headers}\r\n".encode()
        body = simulate.encode(simulate.body("inbound-message"))
        head = f"POST {self._server.path}{self._headers}content-type: application/json\r\ncontent-length: {len(body)}"
        return head.encode() + b"\r\n\r\n" + body


def percentile(values: list[float], share: float) -> float:
    """The value that so large a share of them does not exceed; 0.0 for none."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else 0.0


def measure(config: Config, rate: float, seconds: float, connections: int, field: str | None) -> dict[str, Any]:
    """Send; what came of it, times in milliseconds."""
    steady = Steady(config, rate, seconds, connections, field)
    uvloop.run(steady.run())
    return {
        "acknowledged": len(steady.latencies),
        "failed": steady.failed,
        **{f"p{share}_ms": round(percentile(steady.latencies, share / 100) * 1000, 3) for share in (50, 99)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--ask", metavar="FIELD")
    options = parser.parse_args()
    config = load_config(options.config)
    print(json.dumps(measure(config, options.rate, options.seconds, options.connections, options.ask)))


if __name__ == "__main__":
    main()
