"""`amqp` beside a bare aio-pika client with publisher confirms."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import aio_pika
from bare import IN_FLIGHT, Subject, at_the_same_time

URL = os.environ.get("GATEWAY_TEST_RABBITMQ", "amqp://guest:guest@127.0.0.1:5672/")
NAME = "webio-benchmark"


@contextmanager
def subject(folder: Path) -> Iterator[Subject]:
    async def bare(records: Sequence[bytes], concurrency: int) -> None:
        async with await aio_pika.connect(URL) as connection:
            channel = await connection.channel(on_return_raises=True)
            exchange = await channel.declare_exchange(NAME, "topic", durable=True)
            queue = await channel.declare_queue(NAME, durable=True)
            await queue.bind(exchange, "#")

            async def send(record: bytes) -> None:
                message = aio_pika.Message(record, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
                await exchange.publish(message, "a.b", mandatory=True)

            await at_the_same_time(records, concurrency, send)
            await queue.purge()

    secret = folder / "amqp.url"
    secret.write_text(URL)
    yield Subject(f'url = {{ file = "{secret}" }}\nexchange = "{NAME}"\n', bare, in_flight=IN_FLIGHT)
