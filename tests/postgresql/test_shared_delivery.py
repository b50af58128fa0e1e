"""Several gateways that deliver from one journal: who delivers what, and how the others take over."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from kit import make_plugin
from postgresql.conftest import Configure
from schemas import Schema

from gateway import Event, hookimpl
from gateway.config.tables import Config
from gateway.delivery.consumer import Consumer
from gateway.delivery.service import Delivery
from gateway.journal.interface import Track
from gateway.journal.postgresql.journal import PostgresqlJournal
from gateway.journal.postgresql.leases import LeaseTimes
from gateway.plugin_host.load import Plugin

WAIT = 60.0
QUICK = LeaseTimes(lasts=2.0, own=1.2, every=0.1, trust=0.0)
"""Leases of which a test can wait for the end."""


class Site:
    """What stands behind the plugins of all gateways: it gets every event, by which gateway and with which epoch."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Event]] = []
        self.lock = threading.Lock()

    def take(self, gateway: str, event: Event) -> None:
        with self.lock:
            self.calls.append((gateway, event))

    def numbers(self) -> list[int]:
        with self.lock:
            return [event.fields()["n"] for _, event in self.calls]

    def by(self, gateway: str) -> int:
        """How many calls one gateway has made."""
        with self.lock:
            return sum(name == gateway for name, _ in self.calls)

    def check(self) -> None:
        """Within each conversation the first calls are in order, a repeat is marked, and no epoch goes back."""
        first: dict[str, list[int]] = defaultdict(list)
        epochs: Counter[str] = Counter()
        for _, event in self.calls:
            n, key = event.fields()["n"], str(event.conversation_id)
            assert event.epoch >= epochs[key], f"event {n} of epoch {event.epoch} came after one of {epochs[key]}"
            epochs[key] = event.epoch
            assert event.redelivered or n not in first[key], f"event {n} came again unmarked"
            if n not in first[key]:
                first[key].append(n)
        for numbers in first.values():
            assert all(one < other for one, other in pairwise(numbers)), numbers


class At:
    """The plugin of one gateway; `pause` is in seconds."""

    def __init__(self, site: Site, gateway: str, pause: float = 0.0) -> None:
        self.site = site
        self.gateway = gateway
        self.pause = pause
        self.fails: set[int] = set()

    @hookimpl
    def on_event(self, event: Event) -> None:
        time.sleep(self.pause)
        self.site.take(self.gateway, event)
        if event.fields()["n"] in self.fails:
            raise OSError("not now")


class Gateway:
    """The journal and the delivery of a gateway."""

    def __init__(self, config: Config, name: str, plugins: list[Plugin], lease: LeaseTimes) -> None:
        self.name = name
        self.journal = PostgresqlJournal(config, lease=lease)
        self.plugins = plugins
        self.delivery = Delivery(plugins, self.journal)

    def consumer(self) -> Consumer:
        return self.delivery.consumers["crm"]

    @property
    def owned(self) -> int:
        return len(self.consumer().owned)

    async def start(self) -> None:
        await self.journal.start()
        await self.delivery.start()
        for plugin in self.plugins:
            plugin.startup.succeed()

    async def stop(self) -> None:
        await self.delivery.stop(5.0)
        await self.journal.close()

    async def kill(self) -> None:
        """End as a killed process does: nothing is released."""
        await self.delivery.abandon()
        await self.journal.nodes.abandon()
        await self.journal.close()


class Together:
    """Gateways on one schema, and what they deliver."""

    def __init__(self, config: Config, shards: int) -> None:
        self.site = Site()
        self.running: list[Gateway] = []
        self._config = config
        self._shards = shards
        self._sent = 0

    async def start(
        self, name: str, plugin: object | None = None, lease: LeaseTimes = QUICK, **settings: Any
    ) -> Gateway:
        """A gateway with a plugin that is called `crm`, and delivery settings of it."""
        plugin = make_plugin("crm", plugin or At(self.site, name), **{"shards": self._shards, **settings})
        gateway = Gateway(self._config, name, [plugin], lease)
        await gateway.start()
        self.running.append(gateway)
        return gateway

    async def stop(self, gateway: Gateway, kill: bool = False) -> None:
        self.running.remove(gateway)
        await (gateway.kill() if kill else gateway.stop())
        for plugin in gateway.plugins:
            plugin.close()

    async def send(self, count: int, conversations: int = 20) -> None:
        """Append events; those of one conversation at the same gateway, so that their order is known."""
        futures = []
        for _ in range(count):
            self._sent += 1
            conversation = self._sent % conversations
            raw = json.dumps({"type": "payment", "conversationId": str(conversation), "n": self._sent}).encode()
            journal = self.running[conversation % len(self.running)].journal
            futures.append(journal.append("acme", journal.decoder.decode("acme", raw, None), raw))
            await asyncio.sleep(0)
        await asyncio.gather(*futures)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT):
            while not condition():
                await asyncio.sleep(0.01)

    async def all_delivered(self) -> None:
        """Wait until the plugin has every event that was sent."""
        await self.until(lambda: set(self.site.numbers()) == set(range(1, self._sent + 1)))
        self.site.check()


@asynccontextmanager
async def together(config: Config, shards: int = 1) -> AsyncIterator[Together]:
    made = Together(config, shards)
    try:
        yield made
    finally:
        for gateway in list(made.running):
            await made.stop(gateway)


async def test_one_gateway_delivers_and_another_goes_on_when_it_stops(schema: Schema, configure: Configure) -> None:
    """At once, although the lease would last for minutes; nothing comes again."""
    lease = LeaseTimes(600.0, 400.0, 0.1, 600.0)
    async with together(configure(schema.url)) as all_of_them:
        one, two = await all_of_them.start("one", lease=lease), await all_of_them.start("two", lease=lease)
        await all_of_them.send(50)
        await all_of_them.all_delivered()
        assert (one.owned, two.owned) == (1, 0)
        assert (two.consumer().healthy, two.consumer().trouble) == (True, None)
        assert two.consumer().elsewhere == {0: one.journal.config.node.name}
        assert all_of_them.site.by("two") == 0
        await all_of_them.stop(one)
        await all_of_them.send(50)
        await all_of_them.all_delivered()
        assert two.owned == 1
        assert sorted(all_of_them.site.numbers()) == list(range(1, 101))


async def test_another_gateway_takes_over_from_one_that_was_killed(schema: Schema, configure: Configure) -> None:
    """Once its lease has ended; what it may have delivered comes again, marked, with a later epoch."""
    async with together(configure(schema.url), shards=4) as all_of_them:
        one = await all_of_them.start("one", At(all_of_them.site, "one", pause=0.001))
        two = await all_of_them.start("two")
        await all_of_them.until(lambda: (one.owned, two.owned) == (2, 2))
        sending = asyncio.create_task(all_of_them.send(300))
        await all_of_them.until(lambda: all_of_them.site.by("one") > 20)
        await sending
        await all_of_them.stop(one, kill=True)
        await all_of_them.send(100)
        await all_of_them.all_delivered()
        await all_of_them.until(lambda: two.owned == 4)


async def test_gateways_share_the_shards_of_a_plugin(schema: Schema, configure: Configure) -> None:
    """A new one gets its share from the others, and one that stops leaves its share to them; order is kept."""
    async with together(configure(schema.url), shards=8) as all_of_them:

        async def spread(*counts: int) -> None:
            await all_of_them.until(lambda: tuple(sorted(one.owned for one in all_of_them.running)) == counts)
            await all_of_them.send(60)

        one = await all_of_them.start("one")
        await spread(8)
        await all_of_them.start("two")
        await spread(4, 4)
        three = await all_of_them.start("three")
        await spread(2, 3, 3)
        await all_of_them.stop(one)
        await spread(4, 4)
        await all_of_them.stop(three)
        await spread(8)
        await all_of_them.all_delivered()
        assert sorted(all_of_them.site.numbers()) == list(range(1, 301))


async def test_each_gateway_has_a_shard_where_there_are_few(schema: Schema, configure: Configure) -> None:
    """Also the last one, for which the others would have to own one less than the rounded share."""
    async with together(configure(schema.url), shards=5) as all_of_them:
        for name in ("one", "two", "three", "four"):
            await all_of_them.start(name)
        await all_of_them.until(lambda: sorted(one.owned for one in all_of_them.running) == [1, 1, 1, 2])


async def test_a_gateway_whose_plugin_has_not_started_leaves_the_events_to_others(
    schema: Schema, configure: Configure
) -> None:
    """Even where it was there first."""
    async with together(configure(schema.url)) as all_of_them:
        one = await all_of_them.start("one")
        one.plugins[0].startup.done.clear()
        await all_of_them.start("two")
        await all_of_them.until(lambda: [gateway.owned for gateway in all_of_them.running] == [0, 1])
        one.plugins[0].startup.done.set()
        await all_of_them.send(10)
        await all_of_them.all_delivered()


async def test_other_shards_come_after_a_restart_with_another_number(schema: Schema, configure: Configure) -> None:
    """Gateways are restarted one after the other; until the last one with the old number is gone, that one delivers."""
    async with together(configure(schema.url), shards=2) as all_of_them:
        one = await all_of_them.start("one")
        await all_of_them.send(40)
        two = await all_of_them.start("two", shards=6)
        await all_of_them.until(lambda: len(two.journal.nodes.live) == 2)
        assert one.owned == 2
        await all_of_them.send(40)
        await all_of_them.all_delivered()
        assert two.owned == 0
        await all_of_them.stop(one)
        await all_of_them.until(lambda: two.owned == 6)
        await all_of_them.send(40)
        one = await all_of_them.start("one", shards=6)
        await all_of_them.until(lambda: one.owned == 3)
        await all_of_them.send(40)
        await all_of_them.all_delivered()
        assert sorted(all_of_them.site.numbers()) == list(range(1, 161))


async def test_a_gateway_that_stands_still_hands_out_nothing_more(schema: Schema, configure: Configure) -> None:
    """Its settlement is refused, and its plugin gets no event after another gateway has begun."""

    class Frozen(At):
        def __init__(self, site: Site, gateway: str) -> None:
            super().__init__(site, gateway)
            self.reached, self.release = threading.Event(), threading.Event()

        @hookimpl
        def on_event(self, event: Event) -> None:
            super().on_event(event)
            if event.fields()["n"] == 3:
                self.reached.set()
                self.release.wait(WAIT)

    async with together(configure(schema.url)) as all_of_them:
        frozen = Frozen(all_of_them.site, "one")
        one = await all_of_them.start("one", frozen, timeout=WAIT)
        await all_of_them.send(30, conversations=1)
        await all_of_them.until(frozen.reached.is_set)
        async with one.journal.nodes.beating:  # no lease of it is renewed
            two = await all_of_them.start("two")
            await all_of_them.until(lambda: two.owned == 1)
            await all_of_them.until(lambda: set(all_of_them.site.numbers()) == set(range(1, 31)))
            frozen.release.set()
        await all_of_them.until(lambda: one.owned == 0)
        assert all_of_them.site.by("one") == 3
        await all_of_them.all_delivered()


async def test_a_retry_goes_on_where_another_gateway_takes_over(schema: Schema, configure: Configure) -> None:
    """With the attempts that it had, and the later events of its conversation behind it."""
    async with together(configure(schema.url), shards=2) as all_of_them:
        plugin = At(all_of_them.site, "one")
        plugin.fails = {1}
        one = await all_of_them.start("one", plugin, backoff=1.0, backoff_max=2.0, max_attempts=1000)
        await all_of_them.send(9, conversations=3)
        await all_of_them.until(lambda: all_of_them.site.numbers().count(1) > 1)
        await all_of_them.until(lambda: schema.execute("SELECT count(*) FROM parked") == [(3,)])
        assert {4, 7}.isdisjoint(all_of_them.site.numbers())
        two = await all_of_them.start("two", backoff=1.0, backoff_max=2.0, max_attempts=1000)
        await all_of_them.stop(one)
        await all_of_them.all_delivered()
        assert [n for n in all_of_them.site.numbers() if n % 3 == 1 and n > 1] == [4, 7]
        await all_of_them.until(lambda: two.consumer().idle)
        assert schema.execute("SELECT count(*) FROM parked") == [(0,)]


async def test_concurrency_counts_over_all_shards_of_a_gateway(schema: Schema, configure: Configure) -> None:
    """Each shard has its turn."""

    async with together(configure(schema.url), shards=8) as all_of_them:
        site = all_of_them.site

        class Counting:
            running, most = 0, 0

            @hookimpl
            async def on_event(self, event: Event) -> None:
                self.running += 1
                self.most = max(self.most, self.running)
                await asyncio.sleep(0.002)
                self.running -= 1
                site.take("one", event)

        plugin = Counting()
        await all_of_them.start("one", plugin, concurrency=3)
        await all_of_them.send(400, conversations=80)
        await all_of_them.all_delivered()
        assert plugin.most == 3


async def test_a_checkpoint_that_fails_undoes_what_every_shard_has_not_settled(
    schema: Schema, configure: Configure
) -> None:
    """The plugin throws its whole batch away, so all of it comes again, whichever shard its events are of."""

    class Buffering(At):
        def __init__(self, site: Site, gateway: str) -> None:
            super().__init__(site, gateway)
            self.batch: list[int] = []
            self.durable: set[int] = set()
            self.checkpoints = 0

        @hookimpl
        def on_event(self, event: Event) -> None:
            with self.site.lock:
                self.batch.append(event.fields()["n"])

        @hookimpl
        def checkpoint(self) -> None:
            with self.site.lock:
                batch, self.batch = self.batch, []
                self.checkpoints += 1
                if self.checkpoints % 3 == 1:
                    raise OSError("the disk is busy")
                self.durable.update(batch)

    async with together(configure(schema.url), shards=6) as all_of_them:
        plugin = Buffering(all_of_them.site, "one")
        one = await all_of_them.start("one", plugin)
        await all_of_them.until(lambda: one.owned == 6)
        for count in range(6):
            await all_of_them.send(50)
            await all_of_them.until(lambda count=count: len(plugin.durable) >= 20 * count)  # type: ignore[misc]
        await all_of_them.until(lambda: one.consumer().idle)
        assert plugin.durable == set(range(1, 301))


async def test_a_cursor_follows_over_the_events_of_other_shards(schema: Schema, configure: Configure) -> None:
    """Else retention would wait for a shard whose conversations are quiet."""
    async with together(configure(schema.url), shards=16) as all_of_them:
        one = await all_of_them.start("one")
        await all_of_them.send(100, conversations=1)
        await all_of_them.until(lambda: one.consumer().idle)
        await all_of_them.until(lambda: schema.execute("SELECT min(seq) FROM cursors") == [(100,)])
        assert Track("crm", 15).shard == 15


async def test_a_gateway_that_comes_gets_its_share_of_even_ones(schema: Schema, configure: Configure) -> None:
    """The others give one back each, and do not take each other's."""
    async with together(configure(schema.url), shards=4) as all_of_them:
        await all_of_them.start("one")
        await all_of_them.start("two")
        await all_of_them.until(lambda: [one.owned for one in all_of_them.running] == [2, 2])
        three = await all_of_them.start("three")
        await all_of_them.until(lambda: three.owned > 0 and sum(one.owned for one in all_of_them.running) == 4)
        await all_of_them.send(40)
        await all_of_them.all_delivered()


async def test_what_another_gateway_says_during_a_look_at_all_is_looked_at(
    schema: Schema, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it says first is passed on at once: a cursor may be free, whatever the look finds."""
    journal = PostgresqlJournal(configure(schema.url))
    await journal.start()
    looks, turns, go_on = 0, 0, asyncio.Event()

    async def look() -> None:
        nonlocal looks
        looks += 1
        await go_on.wait()

    def turned_over() -> None:
        nonlocal turns
        turns += 1

    monkeypatch.setattr(journal.nodes, "look", look)
    journal.on_turnover.append(turned_over)
    journal._look_around()
    assert turns == 1
    async with asyncio.timeout(WAIT):
        while not looks:
            await asyncio.sleep(0.001)
    journal._look_around()
    journal._look_around()
    go_on.set()
    async with asyncio.timeout(WAIT):
        while (looks, turns) != (2, 5):
            await asyncio.sleep(0.001)
    await journal.close()
