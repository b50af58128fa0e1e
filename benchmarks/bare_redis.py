"""`redis` beside a bare redis-py client: one XADD after the other on each connection."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bare import Subject, at_the_same_time
from redis.asyncio import Redis

URL = os.environ.get("GATEWAY_TEST_REDIS", "redis://127.0.0.1:6379")


@contextmanager
def subject(folder: Path) -> Iterator[Subject]:
    async def bare(records: Sequence[bytes], concurrency: int) -> None:
        async with Redis.from_url(URL, max_connections=concurrency) as client:

            async def send(record: bytes) -> None:
                await client.xadd("webio-benchmark", {"event": record})

            await at_the_same_time(records, concurrency, send)
            await client.delete("webio-benchmark")

    yield Subject(f'url = "{URL}"\nstream = "webio-benchmark"\nmax_length = 1\n', bare, events=10000)
