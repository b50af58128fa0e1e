"""Parts of the delivery alone: what a batch takes, what is forgotten, and how counting begins."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from delivering import delivering

from gateway import Event, Reject, Retry, hookimpl
from gateway.delivery.conversations import Conversations
from gateway.delivery.health import Health
from gateway.delivery.items import Item
from gateway.delivery.machine import Machine
from gateway.delivery.parked import ParkedEvents
from gateway.delivery.retry import RetryPolicy
from gateway.delivery.state import State
from gateway.journal.interface import RETRYING, Parked, Standing
from gateway.plugin_host.fault_log import FaultLog


def clock() -> float:
    return 1_700_000_000.0


def queues() -> Conversations:
    return Conversations(0, ParkedEvents(clock, (), ()), RetryPolicy(3, 1.0, 1.0, 60.0), clock, asyncio.Event())


def add(conversations: Conversations, seq: int, key: str | None = None, *, careful: bool = False) -> Item:
    item = Item(seq, None, key, careful=careful)
    conversations.append(item)
    return item


async def test_a_batch_takes_events_with_and_without_a_conversation() -> None:
    """As many as it may, in their order; those that are taken are running."""
    conversations = queues()
    items = [add(conversations, seq, key) for seq, key in enumerate((None, None, "a", "a", None, "b"), 1)]
    taken = conversations.take(5)
    assert [item.seq for item in taken] == [1, 2, 3, 4, 5]
    assert [item.state for item in items] == [State.RUNNING] * 5 + [State.QUEUED]
    assert [item.seq for item in conversations.take(5)] == [6]
    assert conversations.take(5) == []


async def test_a_careful_event_is_a_batch_of_its_own() -> None:
    """It comes neither behind another one nor before one, within a conversation and without any."""
    for key in (None, "a"):
        conversations = queues()
        for seq in range(1, 5):
            add(conversations, seq, key, careful=seq == 2)
        taken: list[list[int]] = []
        while items := conversations.take(10):
            taken.append([item.seq for item in items])
            if key is not None:
                for item in items:
                    assert item.conversation is not None
                    item.conversation.running -= 1
                    conversations.go_on(item.conversation)
        assert taken == [[1], [2], [3, 4]]


async def test_what_is_cleared_is_not_handed_out() -> None:
    """Neither events without a conversation nor those of one."""
    conversations = queues()
    for seq, key in enumerate((None, "a", "b"), 1):
        add(conversations, seq, key)
    assert len(list(conversations)) == 3
    conversations.clear(0)
    assert list(conversations) == []
    assert conversations.next_item() is None
    assert [item.seq for item in (add(conversations, 1),)] == [item.seq for item in conversations.take(10)]


async def test_a_dead_letter_that_the_cursor_has_passed_is_forgotten() -> None:
    """Only those ahead of the cursor can be met again."""
    parked = ParkedEvents(clock, (), ())
    for seq in (1, 2, 3):
        parked.bury(Item(seq, None, None), 3, "ValueError")
    assert [row.seq for row in parked.changes(2)[0]] == [1, 2, 3]
    assert parked.dead_ahead == {3}
    assert not parked.unwritten


def standing(health: Health) -> tuple[bool, bool, str | None]:
    return health.healthy, health.outage.probing, health.trouble


def test_health_counts_from_zero() -> None:
    """A plugin is unhealthy after three failures in a row, and probed after those of ten events. `Retry` and `Reject`
    are no failures of the plugin; an event that it takes ends the row."""
    health = Health("crm", FaultLog("crm", False), clock)
    assert (health.delivered, health.failures, health.buried_count) == (0, 0, 0)
    seen = [standing(health)]
    for number in range(11):
        health.failed(KeyError("7001"), number / 10, max(1, number))
        health.failed(Retry(after=1.0), number / 10, 100 + number)
        health.failed(Reject("no"), number / 10, 200 + number)
        seen.append(standing(health))
    trouble = "crm has taken nothing since 22:13: KeyError"
    assert seen == [(True, False, None)] * 3 + [(False, False, trouble)] * 8 + [(False, True, trouble)]
    health.succeeded(2)
    health.outage.end(2.0)
    assert standing(health) == (True, False, None)
    assert (health.delivered, health.failures) == (2, 33)


class Meets:
    """Returns from an event once it has another one at the same time."""

    def __init__(self) -> None:
        self.met = threading.Barrier(2)
        self.began = threading.Event()

    @hookimpl
    def on_event(self, event: Event) -> None:
        self.began.set()
        self.met.wait(15)


async def test_a_slow_plugin_gets_a_second_event_although_nothing_new_comes(tmp_path: Path) -> None:
    """The second event comes while the first is with the plugin; soon they are handed out beside one another."""
    plugin = Meets()
    async with delivering(tmp_path, {"a": plugin}, timeout=20.0) as rig:
        await rig.send("x")
        assert await asyncio.to_thread(plugin.began.wait, 15)
        await rig.send("y")
        await rig.idle()
        assert rig.states("a") == ["delivered", "delivered"]
        assert not plugin.met.broken


@pytest.mark.parametrize(
    ("clean", "next_at", "cautious"), [(False, 0.0, True), (True, 0.0, False), (False, 9e9, False)]
)
async def test_what_may_have_killed_the_process_makes_the_next_start_careful_too(
    clean: bool, next_at: float, cautious: bool
) -> None:
    """A cursor is not released cleanly while an event that was due before an unclean end is not tried again."""
    row = Parked(seq=1, state=RETRYING, attempts=1, next_at=next_at, since=0.0)
    machine = Machine(
        Standing(1, 1, clean, [row], [], [], {}),
        RetryPolicy(3, 1.0, 1.0, 60.0),
        Health("crm", FaultLog("crm", False)),
        clock,
    )
    assert machine.cautious is cautious
