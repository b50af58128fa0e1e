"""What a consumer does about its shards when cursors come free, are lost or are given back; shared checkpoints."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Any

import pytest
from delivering import Plain, Rig, delivering, journal_config
from kit import make_plugin

from gateway import Event, hookimpl
from gateway.delivery.checkpoint import NOT_CALLED, Checkpoint
from gateway.delivery.health import Health
from gateway.delivery.service import Delivery
from gateway.delivery.shared import Shared
from gateway.journal import open_journal
from gateway.journal.interface import HeldBy, Share, Standing, Track
from gateway.journal.lease import Lease
from gateway.plugin_host.event_calls import EventCalls
from gateway.plugin_host.fault_log import FaultLog

Take = Callable[[Track, bool, Collection[str], int], Awaitable[Standing | HeldBy]]


async def test_an_answer_that_is_older_than_a_release_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cursor comes free while it is being asked for; it is asked for again at once, not at the end of the lease."""
    monkeypatch.setattr("gateway.delivery.shard.TAKE_AGAIN", 1e6)
    config = journal_config(tmp_path)
    journal = open_journal(config)
    await journal.start()
    take, asked = journal.take_cursor, 0

    async def slow(track: Track, from_start: bool, hooks: Collection[str], shards: int) -> Standing | HeldBy:
        nonlocal asked
        asked += 1
        if asked == 1:
            return HeldBy("node-2", 1e12)
        if asked == 2:  # released after the answer was made, told before it came
            for listener in journal.on_turnover:
                listener()
            return HeldBy("node-2", 1e12)
        return await take(track, from_start, hooks, shards)

    monkeypatch.setattr(journal, "take_cursor", slow)
    one = Plain()
    delivery = Delivery([make_plugin("a", one)], journal)
    await delivery.start()
    rig = Rig(config, journal, delivery)
    await rig.send("x")
    for listener in journal.on_turnover:
        listener()
    await rig.idle()
    assert (one.taken, asked) == ([1], 3)
    await delivery.stop(2.0)
    await journal.close()


async def test_a_lost_cursor_is_asked_for_when_one_comes_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only after the pause that follows on the loss."""
    monkeypatch.setattr("gateway.delivery.shard.TAKE_AGAIN", 1e6)
    one = Plain()
    async with delivering(tmp_path, {"a": one}) as rig:
        await rig.journal.take_cursor(Track("a"), True)
        await rig.send("x")
        await rig.until(lambda: not rig.consumer("a").owns)
        for listener in rig.journal.on_turnover:
            listener()
        await rig.idle()
        assert rig.consumer("a").healthy


async def test_a_cursor_that_was_given_back_is_left_to_others_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although others come free; then it is asked for again, when nobody has taken it."""
    monkeypatch.setattr("gateway.delivery.consumer.REST", 1e6)
    async with delivering(tmp_path, {"a": Plain()}) as rig:
        consumer = rig.consumer("a")
        await rig.send("x")
        await rig.idle()
        monkeypatch.setattr(rig.journal, "share", lambda plugin, shards, owned: Share(1, owned))
        for listener in rig.journal.on_turnover:
            listener()
        await rig.until(lambda: not consumer.owns)
        asked: list[Track] = []
        take = rig.journal.take_cursor

        async def counted(track: Track, from_start: bool, hooks: Collection[str], shards: int) -> Standing | HeldBy:
            asked.append(track)
            return await take(track, from_start, hooks, shards)

        monkeypatch.setattr(rig.journal, "take_cursor", counted)
        monkeypatch.setattr(rig.journal, "share", lambda plugin, shards, owned: Share(1, 0))
        for _ in range(20):
            for listener in rig.journal.on_turnover:
                listener()
            await asyncio.sleep(0.001)
        assert asked == []
        consumer._rests_until = 0.0
        for listener in rig.journal.on_turnover:
            listener()
        await rig.until(lambda: consumer.owns)


async def test_a_shard_that_broke_off_gives_its_cursor_back_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a crash: what the plugin may have had comes again marked."""
    released: list[tuple[Track, bool]] = []
    async with delivering(tmp_path, {"a": Plain()}) as rig:
        release = rig.journal.release_cursor

        async def noted(track: Track, epoch: int, *, clean: bool) -> None:
            released.append((track, clean))
            await release(track, epoch, clean=clean)

        async def broken(settlement: Any) -> None:
            raise RuntimeError("a mistake")

        monkeypatch.setattr(rig.journal, "release_cursor", noted)
        monkeypatch.setattr(rig.journal, "settle", broken)
        await rig.send("x")
        await rig.until(lambda: rig.consumer("a").health.broken is not None)
    assert released == [(Track("a"), False)]


async def test_a_shard_that_leaves_wakes_the_others() -> None:
    """They may have waited for what it had with the plugin, in an outage."""

    class Stub:
        def __init__(self) -> None:
            self.machine = self
            self.ready = asyncio.Event()

    plugin = make_plugin("a", Plain())
    shared = Shared(plugin, Health("a", FaultLog("a", False)))
    one, two = Stub(), Stub()
    shared.join(one)  # type: ignore[arg-type]
    shared.join(two)  # type: ignore[arg-type]
    shared.leave(one)  # type: ignore[arg-type]
    assert two.ready.is_set()
    plugin.close()


async def test_a_checkpoint_that_waits_for_another_looks_at_the_lease_again() -> None:
    """It is not called once no shard that asked for it may call; one that may is enough."""

    class Buffers:
        def __init__(self) -> None:
            self.calls = 0
            self.begun, self.release = threading.Event(), threading.Event()

        @hookimpl
        def checkpoint(self) -> None:
            self.calls += 1
            self.begun.set()
            self.release.wait(20)

    now = 0.0
    plugin = make_plugin("a", one := Buffers(), shards=2, timeout=20.0)
    checkpoint = Checkpoint(plugin)
    first = asyncio.create_task(checkpoint.make_durable(Lease(1, 10.0, lambda: now)))
    assert await asyncio.to_thread(one.begun.wait, 20)
    second = asyncio.create_task(checkpoint.make_durable(Lease(1, 5.0, lambda: now)))
    await asyncio.sleep(0)
    now = 6.0
    one.release.set()
    assert (await first, await second, one.calls) == (None, NOT_CALLED, 1)
    both = [checkpoint.make_durable(Lease(1, until, lambda: now)) for until in (5.0, 10.0)]
    assert (await asyncio.gather(*both), one.calls) == ([None, None], 2)
    plugin.close()


@pytest.mark.parametrize("is_async", [False, True])
async def test_no_hook_is_called_once_the_lease_is_over(is_async: bool) -> None:
    """Not even the second one of an event; that event has no outcome, and comes again."""
    now, called = 0.0, []

    def note(hook: str) -> None:
        nonlocal now
        called.append(hook)
        now = 10.0

    class Two:
        @hookimpl
        def on_event(self, event: Event) -> None:
            note("on_event")

        @hookimpl
        def on_payment(self, event: Event, payload: Any) -> None:
            note("on_payment")

    class TwoAsync:
        @hookimpl
        async def on_event(self, event: Event) -> None:
            note("on_event")

        @hookimpl
        async def on_payment(self, event: Event, payload: Any) -> None:
            note("on_payment")

    class Item:
        event = Event(id="1", received_at=None, organisation="acme", hook="payment", payload=object(), raw=b"")  # type: ignore[arg-type]
        conversation = "x"

    plugin = make_plugin("a", TwoAsync() if is_async else Two())
    assert len(plugin.calls(Item.event)) == 2
    item = Item()
    calls = EventCalls(plugin, [item], Lease(1, 5.0, lambda: now))
    assert (await calls.run(), len(called), calls.broken_off) == ([], 1, item)
    plugin.close()
