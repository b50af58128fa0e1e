"""`mqtt` beside a bare aiomqtt client, quality of service 1."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import aiomqtt
from bare import IN_FLIGHT, Subject, at_the_same_time

SERVER = urlsplit(os.environ.get("GATEWAY_TEST_MQTT", "mqtt://127.0.0.1:1883"))


@contextmanager
def subject(folder: Path) -> Iterator[Subject]:
    host, port = SERVER.hostname or "", SERVER.port or 1883

    async def bare(records: Sequence[bytes], concurrency: int) -> None:
        async with aiomqtt.Client(
            host, port, protocol=aiomqtt.ProtocolVersion.V5, max_inflight_messages=concurrency
        ) as client:
            client.pending_calls_threshold = concurrency  # no line in the log for each message above 10

            async def send(record: bytes) -> None:
                await client.publish("webio-benchmark/a", record, qos=1)

            await at_the_same_time(records, concurrency, send)

    yield Subject(f'host = "{host}"\nport = {port}\ntopic = "webio-benchmark/a"\n', bare, in_flight=IN_FLIGHT)
