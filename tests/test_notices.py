"""The hook `notice`: what an operator should know of, told to plugins once, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from delivering import Rig, journal_config
from kit import make_plugin

from gateway import Context, Event, Notice, Reject, hookimpl
from gateway.service import Gateway


@pytest.fixture(autouse=True)
def in_haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.notices.PAUSE", 0.01)
    monkeypatch.setattr("gateway.notices.HELD", 0.05)
    monkeypatch.setattr("gateway.monitoring.PAUSE", 0.01)
    monkeypatch.setattr("gateway.monitoring.SHARE", 0)


class Hears:
    """Notes every notice."""

    def __init__(self) -> None:
        self.heard: list[Notice] = []

    @hookimpl
    async def notice(self, notice: Notice) -> None:
        self.heard.append(notice)


class Crm:
    """Takes events, refuses them, or is down."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    @hookimpl
    async def on_event(self, event: Event) -> None:
        if self.error is not None:
            raise self.error


@contextlib.asynccontextmanager
async def watched(directory: Path, text: str = "", **plugins: object) -> AsyncIterator[tuple[Rig, Gateway]]:
    config = journal_config(directory, text)
    gateway = Gateway(config, [make_plugin(name, instance, timeout=0.5) for name, instance in plugins.items()])
    await gateway.start(lambda failure: None)
    try:
        yield Rig(config, gateway.journal, gateway.delivery), gateway
    finally:
        gateway.drain()
        await gateway.stop()


async def test_dead_letters_are_told_and_their_end(tmp_path: Path) -> None:
    """With their number, again when they become more, and once more when none is left."""
    hears, crm = Hears(), Crm()
    crm.error = Reject("no account +447700900123")
    async with watched(tmp_path, hears=hears, crm=crm) as (rig, gateway):
        await rig.until(lambda: gateway.monitor.counted)
        await asyncio.sleep(0.05)
        await rig.send("x")
        await rig.until(lambda: len(hears.heard) == 1)
        await rig.send("y")
        await rig.until(lambda: len(hears.heard) == 2)
        crm.error = None
        await rig.retry_dead()
        await rig.until(lambda: len(hears.heard) == 3)
    first, second, third = hears.heard
    assert (first.kind, first.plugin, first.count, first.recovered) == ("dead-letters", "crm", 1, False)
    assert first.sentence == "plugin crm has 1 dead letter: gateway dead --plugin crm"
    assert (second.count, second.key, second.since) == (2, first.key, first.since)
    assert abs((datetime.now(UTC) - first.since).total_seconds()) < 60
    assert (third.recovered, third.key, third.count) == (True, first.key, 0)
    assert third.sentence == "plugin crm has no new dead letters left"
    assert "447700900123" not in str(hears.heard)


async def test_what_there_was_before_the_start_is_no_news(tmp_path: Path) -> None:
    """Only what comes after it is."""
    crm = Crm()
    crm.error = Reject("no")
    async with watched(tmp_path, crm=crm) as (rig, _):
        await rig.send("x")
        await rig.until(lambda: len(rig.dead()) == 1)
    hears = Hears()
    async with watched(tmp_path, hears=hears, crm=crm) as (rig, gateway):
        await rig.until(lambda: gateway.monitor.dead["crm"] == 1)
        await asyncio.sleep(0.1)
        assert hears.heard == []
        await rig.send("y")
        await rig.until(lambda: bool(hears.heard))
        assert hears.heard[0].count == 2


async def test_a_plugin_that_is_not_healthy_is_told_and_its_recovery(tmp_path: Path) -> None:
    """Without what its exceptions say."""
    hears, crm = Hears(), Crm()
    crm.error = ConnectionError("+447700900123")
    async with watched(tmp_path, hears=hears, crm=crm) as (rig, _):
        await rig.send("x")
        await rig.until(lambda: bool(hears.heard))
        crm.error = None
        await rig.until(lambda: len(hears.heard) == 2)
    down, up = hears.heard
    assert (down.kind, down.plugin, down.recovered) == ("plugin", "crm", False)
    assert down.sentence.startswith("plugin crm is not healthy: crm has taken nothing since ")
    assert "ConnectionError, at test_notices.py:" in down.sentence
    assert (up.kind, up.key, up.recovered, up.sentence) == ("plugin", down.key, True, "plugin crm is healthy again")
    assert "447700900123" not in str(hears.heard)


async def test_an_unknown_type_is_told_once_with_its_number(tmp_path: Path) -> None:
    """Without long numbers in its name."""
    hears = Hears()
    async with watched(tmp_path, hears=hears) as (rig, gateway):
        await rig.until(lambda: gateway.monitor.counted)
        await asyncio.sleep(0.05)
        await rig.send("x", type="refund-447700900123")
        await rig.until(lambda: bool(hears.heard))
        await asyncio.sleep(0.1)
        [notice] = hears.heard
    assert (notice.kind, notice.count, notice.plugin) == ("unknown-type", 1, None)
    assert notice.sentence == 'an event of the type "refund-…" came in, which no hook has; 1 event by it'


async def test_unknown_types_that_differ_in_a_number_only_are_one(tmp_path: Path) -> None:
    """Their events count together."""
    hears = Hears()
    async with watched(tmp_path, hears=hears) as (rig, gateway):
        await rig.until(lambda: gateway.monitor.counted)
        await asyncio.sleep(0.05)
        for number in range(3):
            await rig.send("x", type=f"refund-44770090012{number}")
            await rig.until(lambda number=number: bool(hears.heard) and hears.heard[-1].count == number + 1)  # type: ignore[misc]
    assert len({notice.key for notice in hears.heard}) == 1
    assert hears.heard[-1].sentence == 'an event of the type "refund-…" came in, which no hook has; 3 events by it'


async def test_a_task_of_a_plugin_that_failed_is_told(tmp_path: Path) -> None:
    """Also of a plugin that takes no events, without what the exception says."""

    class Refreshes:
        @hookimpl
        async def startup(self, context: Context) -> None:
            context.spawn(self.refresh(), "refresh")

        async def refresh(self) -> None:
            raise ValueError("+447700900123")

    def told() -> list[Notice]:
        return [one for one in hears.heard if "plugin crm is not healthy: its task refresh ended " in one.sentence]

    hears = Hears()
    async with watched(tmp_path, hears=hears, crm=Refreshes()) as (rig, _):
        await rig.until(lambda: bool(told()))  # a busy machine tells of the startup first
    assert told()[0].kind == "plugin"
    assert "447700900123" not in str(hears.heard)


async def test_a_look_that_fails_is_logged_and_the_next_one_comes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hears = Hears()
    async with watched(tmp_path, hears=hears) as (rig, gateway):
        monitor: Any = gateway.monitor
        health = monitor.plugins_health
        monitor.plugins_health = lambda: 1 / 0
        await rig.until(lambda: "notices: cannot look for what is wrong: ZeroDivisionError" in caplog.text)
        monitor.plugins_health = health
        await rig.until(lambda: gateway.monitor.counted)
        await asyncio.sleep(0.2)
        await rig.send("x", type="refund")
        await rig.until(lambda: bool(hears.heard))


async def test_a_journal_that_refuses_is_told_and_that_it_does_no_more(tmp_path: Path) -> None:
    hears = Hears()
    async with watched(tmp_path, hears=hears) as (rig, gateway):
        writer: Any = gateway.journal
        refusal = writer.refusal
        writer.refusal = lambda: "the disk has 1 MiB free"
        await rig.until(lambda: bool(hears.heard))
        writer.refusal = refusal
        await rig.until(lambda: len(hears.heard) == 2)
    full, free = hears.heard
    assert (full.kind, full.sentence) == ("journal", "new events are refused with 503: the disk has 1 MiB free")
    assert (free.recovered, free.sentence) == (True, "new events are kept again")


async def test_a_listener_that_fails_or_hangs_costs_nobody_else_anything(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged without its message, and the next notice comes."""
    caplog.set_level(logging.WARNING)

    class Bad(Hears):
        @hookimpl
        async def notice(self, notice: Notice) -> None:
            self.heard.append(notice)
            if len(self.heard) == 1:
                raise ValueError("+447700900123")
            if len(self.heard) == 2:
                await asyncio.Event().wait()

    bad, hears, crm = Bad(), Hears(), Crm()
    crm.error = Reject("no")
    async with watched(tmp_path, bad=bad, hears=hears, crm=crm) as (rig, gateway):
        await rig.until(lambda: gateway.monitor.counted)
        for number in range(1, 4):
            await rig.send(str(number))
            await rig.until(lambda number=number: len(hears.heard) == number)  # type: ignore[misc]
        await rig.until(lambda: len(bad.heard) == 3)
    assert "plugin bad: notice failed: ValueError at test_notices.py:" in caplog.text
    assert "it is not told again" in caplog.text
    assert "447700900123" not in caplog.text


async def test_so_many_notices_wait_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The oldest make way, and the log says so."""
    monkeypatch.setattr("gateway.notices.MOST", 2)

    class Slow(Hears):
        @hookimpl
        async def notice(self, notice: Notice) -> None:
            self.heard.append(notice)
            await asyncio.sleep(0.4)

    slow, hears, crm = Slow(), Hears(), Crm()
    crm.error = Reject("no")
    async with watched(tmp_path, slow=slow, hears=hears, crm=crm) as (rig, gateway):
        await rig.until(lambda: gateway.monitor.counted)
        for number in range(1, 7):
            await rig.send(str(number))
            await rig.until(lambda number=number: len(hears.heard) == number)  # type: ignore[misc]
        await rig.until(lambda: bool(slow.heard) and slow.heard[-1].count == 6)
    assert len(slow.heard) < 6
    assert "plugin slow: 2 notices wait; dropped the oldest: plugin crm has " in caplog.text
