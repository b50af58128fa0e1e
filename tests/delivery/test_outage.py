"""What stands behind a plugin is down for long: its events wait and lose no attempts. Events that can never be taken
become dead letters all the same. On virtual time."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from delivering import journal_config
from kit import make_plugin
from virtual_time import run_virtually

from gateway import Event, hookimpl
from gateway.delivery.service import Delivery
from gateway.journal.interface import Filter
from gateway.journal.memory import MemoryJournal

HOUR = 3600.0


@pytest.fixture(autouse=True)
def without_housekeeping(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would look at the journal twice in every virtual second."""
    monkeypatch.setattr("gateway.journal.memory.HOUSEKEEPING", 1e9)


class Crm:
    """Takes nothing while it is down, and its `poison` never."""

    def __init__(self) -> None:
        self.down = False
        self.poison: set[int] = set()
        self.taken: list[tuple[str | None, int]] = []
        self.calls: list[tuple[int, int]] = []

    @hookimpl
    async def on_event(self, event: Event) -> None:
        n = event.fields()["n"]
        self.calls.append((n, event.attempt))
        if self.down or n in self.poison:
            raise ConnectionRefusedError("447700900123")
        self.taken.append((event.conversation_id, n))


class Buffer(Crm):
    """Takes everything, but cannot make it durable while it is down."""

    @hookimpl
    async def on_event(self, event: Event) -> None:
        n = event.fields()["n"]
        self.calls.append((n, event.attempt))
        self.taken.append((event.conversation_id, n))

    @hookimpl
    async def checkpoint(self) -> None:
        if self.down:
            raise ConnectionRefusedError("447700900123")


class Site:
    """A gateway with one plugin, `crm`, with the limits that are the default."""

    def __init__(self, directory: Path, plugin: Crm, **limits: Any) -> None:
        def clock() -> float:
            return 1_700_000_000.0 + asyncio.get_running_loop().time()

        defaults = {"max_attempts": 12, "backoff": 1.0, "backoff_max": 300.0, "timeout": 30.0, **limits}
        self.plugin = plugin
        self.sent = 0
        self.journal = MemoryJournal(journal_config(directory, 'retention = "1000d"\n'), clock=clock, seed=1)
        self.delivery = Delivery(
            [make_plugin("crm", plugin, loop=asyncio.get_running_loop(), **defaults)], self.journal, clock
        )

    async def send(self, conversation: str | None) -> None:
        self.sent += 1
        raw = json.dumps({"type": "payment", "conversationId": conversation, "n": self.sent}).encode()
        await self.journal.append("acme", self.journal.decoder.decode("acme", raw, None), raw)

    async def traffic(self, seconds: float, every: float) -> None:
        until = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < until:
            await self.send(random.choice((None, *(f"c{n}" for n in range(30)))))
            await asyncio.sleep(random.uniform(0, 2 * every))

    async def until(self, condition: Callable[[], bool], seconds: float) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.5)

    @property
    def idle(self) -> bool:
        return self.delivery.consumers["crm"].idle

    def dead(self) -> dict[int, int]:
        """The attempts of each dead letter, by the event's number."""
        return {row.seq: row.attempts for _, row in self.journal.store.dead(Filter())}


def play(directory: Path, plugin: Crm, story: Callable[[Site], Awaitable[None]], seed: int = 0, **limits: Any) -> Site:
    random.seed(seed)

    async def main() -> Site:
        site = Site(directory, plugin, **limits)
        await site.journal.start()
        await site.delivery.start()
        await story(site)
        await site.delivery.stop(10.0)
        await site.journal.close()
        return site

    return run_virtually(seed, main())


@pytest.mark.parametrize("kind", [Crm, Buffer])
@pytest.mark.parametrize(("hours", "every", "seed"), [(1, 20.0, 0), (62, 900.0, 1)])
def test_an_outage_makes_no_dead_letters(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: type[Crm], hours: int, every: float, seed: int
) -> None:
    """An hour and a weekend: few calls meanwhile, everything in order afterwards, and the log tells since when, why,
    for how long, and how many waited."""
    caplog.set_level(logging.INFO, "gateway")
    during = []

    async def story(site: Site) -> None:
        await site.traffic(20 * every, every)
        site.plugin.down = True
        before = len(site.plugin.calls)
        await site.traffic(hours * HOUR, every)
        during.append((len(site.plugin.calls) - before, str(site.delivery.consumers["crm"].health.trouble)))
        site.plugin.down = False
        await site.until(lambda: site.idle, 900.0)

    site = play(tmp_path, kind(), story, seed)
    assert site.dead() == {}
    assert {n for _, n in site.plugin.taken} == set(range(1, site.sent + 1))
    if kind is Crm:
        for conversation in {c for c, _ in site.plugin.taken if c is not None}:
            numbers = [n for c, n in site.plugin.taken if c == conversation]
            assert numbers == sorted(numbers)
    [(calls, trouble)] = during
    assert calls < 400 + 40 * hours
    sentence = r"crm has taken nothing since (\d{4}-\d\d-\d\d )?\d\d:\d\d: (its checkpoint fails: )?"
    sentence += r"ConnectionRefusedError, at test_outage\.py:\d+"
    assert re.fullmatch(sentence, trouble)
    assert [line for line in caplog.messages if re.match(f"plugin {sentence}; ", line)]
    assert [
        line
        for line in caplog.messages
        if re.match(r"plugin crm takes events again after .+; \d+ events? waited", line)
    ]
    assert not [line for line in caplog.messages if "447700900123" in line]


@pytest.mark.parametrize("seed", range(5))
def test_an_event_that_fails_beside_others_dies_after_its_attempts(tmp_path: Path, seed: int) -> None:
    """An outage between costs it nothing, and it holds nothing up."""
    plugin = Crm()
    plugin.poison = {3}

    async def story(site: Site) -> None:
        await site.traffic(60.0, 1.0)
        plugin.down = True
        await site.traffic(2 * HOUR, 30.0)
        assert site.dead() == {}
        plugin.down = False
        await site.traffic(2 * HOUR, 10.0)
        await site.until(lambda: site.idle, 900.0)

    site = play(tmp_path, plugin, story, seed)
    assert site.dead() == {3: 12}


def test_a_few_others_are_enough_where_attempts_follow_soon(tmp_path: Path) -> None:
    """The others come once, with the event that can never be taken: each of its calls counts."""
    plugin = Crm()
    plugin.poison = {1, 4}

    async def story(site: Site) -> None:
        await asyncio.gather(*(site.send(f"c{n}") for n in range(6)))
        await site.until(lambda: site.idle, 60.0)

    site = play(tmp_path, plugin, story, max_attempts=3, backoff=0.1, backoff_max=0.2)
    assert site.dead() == {1: 3, 4: 3}
    assert [attempt for n, attempt in plugin.calls if n == 4] == [1, 2, 3]


def test_an_event_that_nothing_passes_beside_is_given_up(tmp_path: Path) -> None:
    """Not before `give_up_after`, however often it was tried; its number of tries goes on."""
    plugin = Crm()
    plugin.poison = {1}
    times: list[float] = []

    async def story(site: Site) -> None:
        await site.send("x")
        await site.until(lambda: bool(site.dead()), 3 * HOUR)
        times.append(asyncio.get_running_loop().time())

    site = play(tmp_path, plugin, story, max_attempts=3, give_up_after=2 * HOUR)
    assert site.dead() == {1: 1}
    assert 2 * HOUR <= times[0] <= 2 * HOUR + 301
    assert [attempt for _, attempt in plugin.calls] == list(range(1, len(plugin.calls) + 1))


def test_events_that_can_never_be_taken_do_not_keep_the_others_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many that no more may be parked: the others are looked for past them."""
    monkeypatch.setattr("gateway.delivery.reading.PARKED", 40)
    plugin = Crm()
    plugin.poison = set(range(1, 61))

    async def story(site: Site) -> None:
        for n in range(400):
            await site.send(f"c{n}")
        await site.until(lambda: len(plugin.taken) == 340, 24 * HOUR)

    play(tmp_path, plugin, story, max_attempts=3, give_up_after=100 * HOUR)
    assert {n for _, n in plugin.taken} == set(range(61, 401))


def test_a_plugin_that_asks_for_patience_in_an_outage_loses_no_event(tmp_path: Path) -> None:
    """`Retry(after=..., counts=False)` is a pause and no attempt: nothing dies however long it lasts."""
    from gateway import Retry

    class Patient(Crm):
        @hookimpl
        async def on_event(self, event: Event) -> None:
            self.calls.append((event.fields()["n"], event.attempt))
            if asyncio.get_running_loop().time() - began < HOUR:
                raise Retry("later", after=60, counts=False)
            self.taken.append(("x", event.fields()["n"]))

    plugin, health, began = Patient(), set[bool](), 0.0

    async def story(site: Site) -> None:
        nonlocal began
        began = asyncio.get_running_loop().time()
        await site.send("x")
        await asyncio.sleep(HOUR / 2)
        health.add(site.delivery.consumers["crm"].health.healthy)
        await asyncio.sleep(HOUR)
        health.add(site.delivery.consumers["crm"].health.healthy)

    site = play(tmp_path, plugin, story, max_attempts=3, backoff=1.0, backoff_max=2.0)
    assert (site.dead(), len(plugin.taken), health) == ({}, 1, {False, True})
    assert 55 <= len(plugin.calls) <= 62


def test_a_plugin_that_asks_for_patience_uses_up_attempts_and_is_well(tmp_path: Path) -> None:
    from gateway import Retry

    class Patient(Crm):
        @hookimpl
        async def on_event(self, event: Event) -> None:
            self.calls.append((event.fields()["n"], event.attempt))
            raise Retry("later", after=60)

    plugin, healthy = Patient(), set[bool]()

    async def story(site: Site) -> None:
        await site.send("x")
        while not site.dead():
            healthy.add(site.delivery.consumers["crm"].health.healthy)
            await asyncio.sleep(5.0)

    site = play(tmp_path, plugin, story, max_attempts=5)
    assert (site.dead(), healthy) == ({1: 5}, {True})
    assert [attempt for _, attempt in plugin.calls] == [1, 2, 3, 4, 5]
