"""What a broker refuses: one event or all of them, and what is told about it."""

from __future__ import annotations

from pathlib import Path

import pytest
from brokers_kit import SECRET_WORD, broker_of, ids_of, records_of
from gateway_brokers import BrokerFailed
from test_brokers import gateway_to, made, send_numbered

from gateway.testing import make_context, make_event, running_gateway


async def test_an_event_that_no_queue_takes_fails_alone() -> None:
    """RabbitMQ returns it, as messages are mandatory. All others arrive, and nothing is lost."""
    async with gateway_to("amqp", "confirm_timeout = '60s'\nmax_attempts = 2\n") as (gateway, broker, _):
        await broker.take_only("payment")
        ids = await send_numbered(gateway, 20, 4)
        lost = await gateway.webio.send("set-status", conversationId="c1")
        while not gateway.dead_letters():  # its attempts count where others are taken
            ids.append(await gateway.webio.send("payment", conversationId="c2", n=100 + len(ids)))
        await gateway.until_settled()
        [dead] = gateway.dead_letters()
        lines = await broker.lines()
    assert dead.event_id == lost
    assert "no queue is bound to the exchange " in dead.error
    assert ".acme.set-status" in dead.error
    assert set(ids_of(lines)) == set(ids)


async def test_an_event_that_is_too_long_is_a_dead_letter_at_once() -> None:
    """NATS takes at most 1 MiB unless it is configured otherwise."""
    async with gateway_to("nats", "confirm_timeout = '60s'\n[server]\nmax_body = '4 MiB'\n") as (gateway, broker, _):
        ids = await send_numbered(gateway, 5, 2)
        long = await gateway.webio.send("payment", conversationId="c0", n=9, text="x" * (2 * 2**20))
        after = await gateway.webio.send("payment", conversationId="c0", n=10)
        await gateway.until_settled()
        [dead] = gateway.dead_letters()
        lines = await broker.lines()
    assert dead.event_id == long
    assert "more than the server takes (max_payload)" in dead.error
    assert set(ids_of(lines)) == {*ids, after}


async def test_a_stream_that_is_full_or_gone_says_so(tmp_path: Path) -> None:
    """What the server answers stands in the error."""
    async with broker_of("nats") as (broker, cable):
        plugin = made(broker, cable, tmp_path)
        await plugin.startup(make_context(tmp_path))
        await broker.limit_to(1)
        await plugin.on_event(make_event())
        await plugin.checkpoint()
        await plugin.on_event(make_event(secret=SECRET_WORD))
        with pytest.raises(BrokerFailed) as failed:
            await plugin.checkpoint()
        assert str(failed.value) == f"the stream {broker.stream} refused: maximum messages exceeded"
        await broker.clean()
        event = make_event()
        await plugin.on_event(event)
        with pytest.raises(BrokerFailed, match=r"no stream takes|refused"):
            await plugin.checkpoint()
        await plugin.shutdown()


async def test_an_error_of_redis_quotes_nothing_of_an_event(tmp_path: Path) -> None:
    """Only its code."""
    async with broker_of("redis") as (broker, cable):
        await broker.client.set(broker.key, "a text")
        plugin = made(broker, cable, tmp_path)
        with pytest.raises(BrokerFailed) as failed:
            await plugin.check()
        assert str(failed.value) == f"stream: the key {broker.key} exists and is not a stream"
        await plugin.startup(make_context(tmp_path))
        await plugin.on_event(make_event(secret=SECRET_WORD))
        with pytest.raises(BrokerFailed) as failed:
            await plugin.checkpoint()
        assert str(failed.value) == f"127.0.0.1:{cable.port}: the server refused with WRONGTYPE"
        await plugin.shutdown()


async def test_redis_without_enough_replicas_confirms_nothing(tmp_path: Path) -> None:
    """`min_replicas`: an entry that is on the master alone does not count."""
    async with broker_of("redis") as (broker, cable):
        plugin = made(broker, cable, tmp_path, "min_replicas = 1\nconfirm_timeout = '1s'\n")
        assert "min_replicas: 1 must confirm, but 0 are connected" in await plugin.check()
        await plugin.startup(make_context(tmp_path))
        await plugin.on_event(make_event())
        with pytest.raises(BrokerFailed):
            await plugin.checkpoint()
        await plugin.shutdown()


async def test_a_stream_of_redis_keeps_about_its_newest_entries(tmp_path: Path) -> None:
    """`max_length`: Redis drops whole nodes of entries."""
    async with broker_of("redis") as (broker, cable):
        plugin = made(broker, cable, tmp_path, "max_length = 100\nconfirm_timeout = '60s'\n")
        await plugin.startup(make_context(tmp_path))
        events = [make_event() for _ in range(1000)]
        for event in events:
            await plugin.on_event(event)
        await plugin.checkpoint()
        await plugin.shutdown()
        lines = await broker.lines()
    assert 100 <= len(lines) < 500
    assert lines == [event.record() for event in events[-len(lines) :]]


async def test_an_idempotent_producer_of_kafka(tmp_path: Path) -> None:
    """As the plugin is by default, against the mock cluster of librdkafka."""
    kafka = pytest.importorskip("confluent_kafka")
    cluster = kafka.Producer({"test.mock.num.brokers": 1, "log_level": 0})
    [server] = cluster.list_topics(timeout=60).brokers.values()
    config = f'[plugins.kafka]\nservers = ["{server.host}:{server.port}"]\ntopic = "mock"\nconfirm_timeout = "60s"\n'
    async with running_gateway(config) as gateway:
        ids = await send_numbered(gateway, 100, 5)
        await gateway.until_delivered()
    records = await records_of(f"{server.host}:{server.port}", "mock")
    assert sorted(ids_of([record.value for record in records])) == sorted(ids)
