"""`redis` beside a bare redis-py client: pipelines of as many XADD as the plugin's have."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bare import Subject
from redis.asyncio import Redis

URL = os.environ.get("GATEWAY_TEST_REDIS", "redis://127.0.0.1:6379")
PIPELINE: Final = 500
"""Events that the plugin sends together, at most."""


@contextmanager
def subject(folder: Path) -> Iterator[Subject]:
    async def bare(records: Sequence[bytes], concurrency: int) -> None:
        async with Redis.from_url(URL) as client:
            for first in range(0, len(records), concurrency):
                pipeline = client.pipeline(transaction=False)
                for record in records[first : first + concurrency]:
                    event = {"id": json.loads(record)["id"], "event": record}
                    pipeline.xadd("webio-benchmark", event, maxlen=1)  # type: ignore[arg-type]
                await pipeline.execute()
            await client.delete("webio-benchmark")

    yield Subject(
        f'url = "{URL}"\nstream = "webio-benchmark"\nmax_length = 1\n', bare, events=10000, in_flight=PIPELINE
    )
