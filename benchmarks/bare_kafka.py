"""`kafka` beside a bare aiokafka client; both send to Tansu, or to a server of GATEWAY_TEST_KAFKA."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import subjects  # noqa: F401  (finds the tests' modules)
from aiokafka import AIOKafkaProducer
from bare import IN_FLIGHT, Subject, at_the_same_time

# isort: split
from brokers_kit import KafkaBroker, address_of, server_of


@contextmanager
def subject(folder: Path) -> Iterator[Subject]:
    with server_of(KafkaBroker.variable, KafkaBroker.default, through_cable=False) as url:
        host, port = address_of(url)

        async def bare(records: Sequence[bytes], concurrency: int) -> None:
            producer = AIOKafkaProducer(bootstrap_servers=f"{host}:{port}", acks="all")
            await producer.start()

            async def send(record: bytes) -> None:
                await producer.send_and_wait("webio-benchmark", record)

            await at_the_same_time(records, concurrency, send)
            await producer.stop()

        yield Subject(
            f'servers = ["{host}:{port}"]\ntopic = "webio-benchmark"\nidempotent = false\n', bare, in_flight=IN_FLIGHT
        )
