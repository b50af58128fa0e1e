"""Cursors that another gateway owns or takes, crashes at the wrong moment, and dead letters retried in order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from delivering import Batches, Plain, Rig, delivering, journal_config
from kit import make_plugin

from gateway import Event, Reject, hookimpl
from gateway.delivery.health import Health
from gateway.delivery.items import Item, Window
from gateway.delivery.machine import Machine
from gateway.delivery.retry import RetryPolicy
from gateway.delivery.service import Delivery
from gateway.delivery.state import State
from gateway.journal import open_journal
from gateway.journal.interface import Filter, HeldBy, Standing, Track
from gateway.plugin_host.fault_log import FaultLog


async def test_a_lost_cursor_ends_the_delivery_until_it_can_be_taken_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The plugin is unhealthy meanwhile; afterwards it has everything, repeats marked."""
    monkeypatch.setattr("gateway.delivery.shard.TAKE_AGAIN", 0.3)
    one = Plain()
    async with delivering(tmp_path, {"a": one}) as rig:
        await rig.send("x")
        await rig.idle()
        await rig.journal.take_cursor(Track("a"), True)
        await rig.send("x")
        await rig.until(lambda: not rig.consumer("a").healthy)
        assert rig.consumer("a").trouble == "another gateway has taken its cursor"
        assert [line for line in caplog.messages if "asking for the cursor again in 0.3 s" in line]
        await rig.send("x")
        await rig.idle()
        assert rig.consumer("a").health.healthy
        assert [(event.fields()["n"], event.redelivered) for event in one.calls] == [
            (1, False), (2, False), (2, True), (3, True)
        ]  # fmt: skip
        assert rig.states("a") == ["delivered"] * 3


async def test_a_gateway_stops_in_time_although_it_has_lost_a_cursor(tmp_path: Path) -> None:
    """It does not take the cursor back while it stops."""
    one = Plain()
    async with delivering(tmp_path, {"a": one}) as rig:
        standing = await rig.journal.take_cursor(Track("a"), True)
        assert isinstance(standing, Standing)
        await rig.send("x")
        await rig.delivery.stop(5.0)
        await rig.journal.release_cursor(Track("a"), standing.epoch, clean=True)


async def test_a_cursor_that_another_gateway_owns_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is no trouble; the other plugins go on."""
    config = journal_config(tmp_path)
    journal = open_journal(config)
    await journal.start()
    take, owned = journal.take_cursor, True

    async def owned_by_another(
        track: Track, from_start: bool, hooks: Collection[str], shards: int
    ) -> Standing | HeldBy:
        return HeldBy("node-2", 0.0) if owned and track.plugin == "a" else await take(track, from_start, hooks, shards)

    monkeypatch.setattr(journal, "take_cursor", owned_by_another)
    a, b = Plain(), Plain()
    delivery = Delivery([make_plugin("a", a), make_plugin("b", b)], journal)
    await delivery.start()
    rig = Rig(config, journal, delivery)
    await rig.send("x")
    await rig.idle("b")
    await rig.until(lambda: rig.consumer("a").elsewhere == {0: "node-2"})
    assert (rig.consumer("a").healthy, rig.consumer("a").trouble, rig.consumer("a").owns) == (True, None, False)
    assert (a.taken, b.taken) == ([], [1])
    owned = False
    await rig.idle()
    assert a.taken == [1]
    assert rig.consumer("a").health.healthy
    await delivery.stop(2.0)
    await journal.close()


async def test_what_was_delivered_while_a_settlement_was_written_is_marked_after_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window moves on before the settlement is durable, so that twice its size may come again."""
    monkeypatch.setattr("gateway.delivery.reading.WINDOW", 4)
    config = journal_config(tmp_path)
    one = Plain()
    journal = open_journal(config)
    await journal.start()
    settle = journal.settle

    async def hangs(settlement: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(journal, "settle", hangs)
    delivery = Delivery([make_plugin("a", one)], journal)
    await delivery.start()
    rig = Rig(config, journal, delivery)
    for _ in range(12):
        await rig.send("x")
    await rig.until(lambda: len(one.taken) > 4)
    await delivery.abandon()
    had = set(one.taken)
    monkeypatch.setattr(journal, "settle", settle)
    rig.delivery = Delivery([make_plugin("a", one)], journal)
    await rig.delivery.start()
    await rig.idle()
    again = [event for event in one.calls[len(had) :] if event.fields()["n"] in had]
    assert len(again) == len(had)
    assert all(event.redelivered for event in again)
    await rig.delivery.stop(2.0)
    await journal.close()


async def test_repeats_stay_marked_when_a_checkpoint_fails_again_before_all_have_come(tmp_path: Path) -> None:
    """The second time, not all that had come before the first has been read again."""

    class Slow(Batches):
        @hookimpl
        def on_event(self, event: Event) -> None:
            time.sleep(0.02)
            self._take(event)

    one = Slow(failures=3)
    async with delivering(tmp_path, {"a": one}) as rig:
        await asyncio.gather(*(rig.send("x") for _ in range(20)))
        await rig.idle()
        had = set()
        for event in one.calls:
            assert event.redelivered or event.id not in had
            had.add(event.id)


async def test_what_returns_after_a_failed_checkpoint_does_not_count() -> None:
    """The plugin may have thrown away what it took; the event comes again."""
    standing = Standing(1, 0, True, [], [], [], {})
    machine = Machine(standing, RetryPolicy(3, 1.0, 2.0, 60.0), Health("a", FaultLog("a", False)), lambda: 0.0)
    machine.reached(1)
    item = Item(1, Event(id="1", received_at=None, organisation="acme", hook="payment", payload=None, raw=b""), "acme/x", Window(0))  # type: ignore[arg-type]  # fmt: skip  # noqa: E501
    machine.admit(item)
    batch = machine.take(10)
    assert batch is not None
    machine.rewind([], 0)
    machine.over(batch, [None], [0.0])
    assert item.state is State.UNREAD
    assert machine.take_taken() == []
    with pytest.raises(RuntimeError, match="event 1 cannot go from unread to taken"):
        item.move_to(State.TAKEN)


async def test_dead_letters_retried_in_order_come_behind_one_another_and_before_newer_ones(tmp_path: Path) -> None:
    """Those of another conversation do not wait for them; one that fails again keeps its followers waiting."""
    one = Plain({n: [Reject("no")] for n in (1, 2, 4)})
    async with delivering(tmp_path, {"a": one}, backoff=0.5, backoff_max=0.5) as rig:
        for conversation in ("x", "x", "y", "x"):
            await rig.send(conversation)
        await rig.idle()
        assert one.taken == [3]
        one.script = {1: [ValueError("not yet")] * 2, 5: [ValueError("no")] * 1000}
        await rig.send("x")
        await rig.until(lambda: rig.states("a")[4] == "retrying")
        assert await rig.journal.retry_dead(Filter(), None, True) == 3
        await rig.delivery.refresh()
        one.script[5] = []
        await rig.send("x")
        await rig.send("y")
        await rig.idle()
        assert [n for n in one.taken if n not in (3, 7)] == [1, 2, 4, 5, 6]
        assert rig.states("a") == ["delivered"] * 7
        assert [event.attempt for event in one.calls if event.fields()["n"] == 1] == [1, 1, 2, 3]
