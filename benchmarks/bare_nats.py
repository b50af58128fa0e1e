"""`nats` beside a bare nats-py client that publishes to JetStream."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import nats
from bare import IN_FLIGHT, Subject, at_the_same_time

URL = os.environ.get("GATEWAY_TEST_NATS", "nats://127.0.0.1:4222")
STREAM = "WEBIO-BENCHMARK"


@contextmanager
def subject(folder: Path) -> Iterator[Subject]:
    async def bare(records: Sequence[bytes], concurrency: int) -> None:
        client = await nats.connect(URL)
        stream = client.jetstream()
        if any(one.config.name == STREAM for one in await stream.streams_info()):
            await stream.delete_stream(STREAM)
        await stream.add_stream(name=STREAM, subjects=["benchmark.*.*"])

        async def send(record: bytes) -> None:
            await stream.publish("benchmark.a.b", record, headers={"Nats-Msg-Id": json.loads(record)["id"]})

        await at_the_same_time(records, concurrency, send)
        await stream.delete_stream(STREAM)
        await client.close()

    table = f'servers = ["{URL}"]\nstream = "{STREAM}"\nsubject = "benchmark.{{organisation}}.{{hook}}"\n'
    yield Subject(table, bare, in_flight=IN_FLIGHT)
