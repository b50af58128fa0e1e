"""The plugins that send events to a broker, each against the real server: nothing is lost, and order holds."""

from __future__ import annotations

import asyncio
import importlib.util
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from brokers_kit import BROKERS, SECRET_WORD, Cable, broker_of, by_conversation, ids_of, server_of
from gateway_brokers import BrokerFailed

from gateway import Selector
from gateway.config.convert import ConfigError
from gateway.testing import GatewayUnderTest, make_context, make_event, running_gateway, until

NAMES = sorted(BROKERS)
DELIVERY = '[delivery]\ntimeout = "90s"\nmax_attempts = 3\nbackoff = "5ms"\nbackoff_max = "50ms"\n'
PATIENT = 'confirm_timeout = "60s"\n'

pytestmark = pytest.mark.parametrize("name", NAMES)


@asynccontextmanager
async def gateway_to(name: str, more: str = PATIENT) -> AsyncIterator[tuple[GatewayUnderTest, Any, Cable]]:
    """A gateway that sends to a broker, over a cable."""
    async with broker_of(name) as (broker, cable):
        config = f"{DELIVERY}[plugins.{name}]\n{broker.table('127.0.0.1', cable.port)}{more}"
        async with running_gateway(config, {name: broker.plugin}) as gateway:
            yield gateway, broker, cable


async def send_numbered(gateway: GatewayUnderTest, count: int, conversations: int, first: int = 0) -> list[str]:
    """Send events whose bodies are numbered, in order within each conversation."""

    async def one(conversation: int) -> list[str]:
        return [
            await gateway.webio.send("payment", conversationId=f"c{conversation}", n=number, secret=SECRET_WORD)
            for number in range(first, first + count, 1)
            if number % conversations == conversation
        ]

    return [id for ids in await asyncio.gather(*map(one, range(conversations))) for id in ids]


def in_order(lines: list[bytes]) -> bool:
    return all(numbers == sorted(numbers) for numbers in by_conversation(lines).values())


async def test_every_event_arrives_once_as_received_and_in_order(name: str) -> None:
    """Of every hook, unknown ones and odd bodies too: the archive's line, the body as Webio has sent it."""
    async with gateway_to(name) as (gateway, broker, _):
        ids = await send_numbered(gateway, 300, 7)
        body = b'{"type": "payment",\r\n "conversationId": "c0", "n": 300, "amount": 1.50, "x": "\\u00e9 \xc3\xa9"}'
        answer = await gateway.webio.post(body)
        await gateway.webio.send_all()
        await gateway.webio.send_broken()
        await gateway.until_delivered()
        lines = await broker.lines()
    assert len(ids_of(lines)) == len(set(ids_of(lines)))
    assert set(ids) < set(ids_of(lines))
    numbered = [line for line in lines if b'"n": ' in line]
    assert in_order(numbered)
    [odd] = [line for line in lines if json.loads(line)["id"] == answer.document["id"]]
    assert odd.endswith(b'"organisation":"acme","hook":"payment","body":' + body.replace(b"\r\n", b"  ") + b"}")


async def test_a_connection_that_is_lost_in_the_middle_loses_nothing(name: str) -> None:
    """It is cut again and again, at any byte. What was confirmed is not sent again, and order holds."""
    async with gateway_to(name, f"{PATIENT}max_attempts = 100\n") as (gateway, broker, cable):
        ids: list[str] = []
        for round_ in range(6):
            cable.cut_after = cable.passed + 4_000 + 2_777 * round_
            ids += await send_numbered(gateway, 100, 5, first=100 * round_)
            await until(lambda: not cable.connected, seconds=60)
            await cable.mend()
        await gateway.until_delivered(seconds=60)
        lines = await broker.lines()
        assert cable.connections > 3
    assert set(ids_of(lines)) == set(ids)
    assert in_order(lines)
    assert len(lines) < 2 * len(ids)


async def test_an_outage_costs_the_events_nothing_but_time(name: str) -> None:
    """However long it lasts: no attempt counts, no event is a dead letter, and what is told has no body in it."""
    async with gateway_to(name, 'confirm_timeout = "5s"\n') as (gateway, broker, cable):
        first = await send_numbered(gateway, 20, 4)
        await gateway.until_delivered(seconds=60)
        cable.cut()
        ids = await send_numbered(gateway, 60, 4, first=100)
        await until(lambda: not gateway.health(name)["healthy"], seconds=60)
        trouble = str(gateway.health(name))
        await cable.mend()
        await gateway.until_delivered(seconds=60)
        lines = await broker.lines()
    assert set(ids_of(lines)) == {*first, *ids}
    assert in_order(lines)
    assert SECRET_WORD not in trouble


async def test_a_crash_before_the_checkpoint_repeats_events_with_the_same_ids(name: str) -> None:
    """At least once: whoever reads them recognises the repeats by their ids."""
    async with gateway_to(name) as (gateway, broker, _):
        gateway.hold_checkpoints(name)
        ids = await send_numbered(gateway, 30, 3)
        await gateway.until_held(name, 30)
        await gateway.crash()
        await gateway.until_delivered()
        lines = await broker.lines()
    assert set(ids_of(lines)) == set(ids)
    assert in_order(lines)


async def test_a_gateway_that_starts_before_its_broker_waits_for_it(name: str, tmp_path: Path) -> None:
    """The startup fails with a sentence, cleans up, and can be repeated."""
    async with broker_of(name) as (broker, cable):
        plugin = made(broker, cable, tmp_path)
        cable.cut()
        with pytest.raises(BrokerFailed):
            await plugin.startup(make_context(tmp_path))
        await plugin.shutdown()
        await cable.mend()
        await plugin.startup(make_context(tmp_path))
        event = make_event()
        await plugin.on_event(event)
        await plugin.checkpoint()
        await plugin.shutdown()
        await plugin.shutdown()
        assert await broker.lines() == [event.record()]


async def test_a_server_that_does_not_answer_is_given_up(name: str, tmp_path: Path) -> None:
    """The checkpoint fails after `confirm_timeout`, and the event goes over another connection."""
    async with broker_of(name) as (broker, cable):
        plugin = made(broker, cable, tmp_path, "confirm_timeout = '2s'")
        await plugin.startup(make_context(tmp_path))
        cable.deaf = True
        event = make_event()
        await plugin.on_event(event)
        with pytest.raises(BrokerFailed):
            await plugin.checkpoint()
        await cable.mend()
        for _ in range(20):  # a machine that is very busy may be late once more
            try:
                await plugin.on_event(event)
                await plugin.checkpoint()
            except BrokerFailed:
                continue
            break
        await plugin.shutdown()
        assert set(await broker.lines()) == {event.record()}


async def test_check_reaches_the_server_and_changes_nothing(name: str, tmp_path: Path) -> None:
    """It says where it could not, without the password."""
    async with broker_of(name) as (broker, cable):
        plugin = made(broker, cable, tmp_path)
        assert all(isinstance(sentence, str) for sentence in await plugin.check())
        cable.cut()
        with pytest.raises(BrokerFailed) as failed:
            await plugin.check()
        assert f"127.0.0.1:{cable.port}: " in str(failed.value)
        await cable.mend()
        assert await broker.lines() == []


async def test_what_was_sent_cannot_be_called_back(name: str) -> None:
    """`gateway forget` tells the operator, and does not fail."""
    async with gateway_to(name) as (gateway, _, _):
        await gateway.webio.send("payment", customerUID="77")
        await gateway.until_delivered()
        told = await gateway.forget(Selector(customer_uid="77"))
    assert list(told) == [name]
    assert str(told[name]).startswith("events that were sent to the broker cannot be called back")


async def test_without_its_extra_it_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sentence of `gateway check`; the settings can be listed all the same."""
    found = importlib.util.find_spec
    packages = {"redis": "redis", "nats": "nats", "amqp": "aio_pika", "mqtt": "aiomqtt", "kafka": "aiokafka"}
    missing = packages[name]
    monkeypatch.setattr(importlib.util, "find_spec", lambda one, *more: None if one == missing else found(one, *more))
    with server_of(BROKERS[name].variable, BROKERS[name].default) as url:
        broker = BROKERS[name](url)
        with pytest.raises(ConfigError) as refused:
            async with running_gateway(f"[plugins.{name}]\n{broker.table('h', 1)}", {name: broker.plugin}):
                pass
    assert f"plugins.{name}: the package {missing} is not installed; pip install 'webio-gateway[{name}]'" in str(
        refused.value
    )


def made(broker: Any, cable: Cable, directory: Path, more: str = PATIENT) -> Any:
    """An instance of the plugin, its settings read from TOML."""
    from gateway.testing.settings import testing_config, testing_plugins

    config = f"[plugins.{broker.name}]\n{broker.table('127.0.0.1', cable.port)}{more}"
    given = {broker.name: broker.plugin}
    return testing_plugins(testing_config(config, given, directory), given)[0].instance
