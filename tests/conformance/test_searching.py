"""What a search tells of a journal, over each engine that has one: a process of its own reads beside the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
from conformance.engines import Engine, PostgresqlEngine, SqliteEngine, fill, put, take
from journal_kit import ACME, WAIT, message, payment

from gateway.journal import open_reader
from gateway.journal.attempts import Attempt
from gateway.journal.interface import DEAD, RETRYING, Filter, Journal, Parked, Settlement, Track
from gateway.journal.postgresql import journal as postgresql
from gateway.journal.search import Search, ValueRecord, ValueRecordFilter
from gateway.journal.sqlite import writer

T = TypeVar("T")
START = 1_700_000_000.0


@pytest.fixture(params=[SqliteEngine, PostgresqlEngine])
async def searched(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Engine]:
    """An engine that has a search."""
    for module in (writer, postgresql):
        monkeypatch.setattr(module, "HOUSEKEEPING", 0.02)
    made: Engine = request.param(tmp_path)
    yield made
    await made.close_all()


async def told(engine: Engine, work: Callable[[Search], T]) -> T:
    """What a search in a thread tells."""

    def run() -> T:
        with closing(open_reader(engine.config)) as search:
            return work(search)

    return await asyncio.to_thread(run)


async def until_told(engine: Engine, work: Callable[[Search], bool]) -> None:
    async with asyncio.timeout(WAIT):
        while not await told(engine, work):
            await asyncio.sleep(0.02)


async def test_each_event_says_how_far_each_plugin_is(searched: Engine) -> None:
    """Plugins that began later, or had no hook for it, say nothing of an event."""
    journal = await searched.open()
    await fill(journal, 2)
    crm, late = await take(journal, "crm"), await take(journal, "late", from_start=False, hooks=("payment",))
    await fill(journal, 2)
    await put(journal, payment())
    await crm.settle(4, park=[Parked(seq=2, state=DEAD, attempts=1, error="OSError", since=START)])
    await late.settle(4)

    def states(search: Search) -> list[dict[str, str]]:
        return [row.deliveries for row in search.events(Filter())]

    assert await told(searched, states) == [
        {"crm": "delivered"},
        {"crm": "dead"},
        {"crm": "delivered"},
        {"crm": "delivered"},
        {"crm": "waiting", "late": "waiting"},
    ]
    waiting = Filter(state="waiting", plugin="late")
    assert await told(searched, lambda search: [search.count(waiting), search.count(Filter(state=DEAD))]) == [1, 1]


async def test_pages_backwards_lose_nothing(searched: Engine) -> None:
    """Each page begins before the oldest event of the page before it."""
    journal = await searched.open()
    ids = await fill(journal, 7, customerUID="1")
    await fill(journal, 2, customerUID="2")

    def pages(search: Search) -> list[list[str]]:
        found: list[list[str]] = []
        before = None
        while page := [row.id for row in search.events(Filter(customer="1"), 3, newest=True, before=before)]:
            found.append(page)
            before = page[0]
        return found

    assert await told(searched, pages) == [ids[4:], ids[1:4], ids[:1]]


async def test_attempts_and_the_next_try(searched: Engine) -> None:
    """Of an event that is retrying: what failed when, and when it comes again."""
    journal = await searched.open()
    crm = await take(journal)
    await fill(journal, 1)
    attempts = [Attempt(1, number, START + number, 1.5, "OSError at crm.py:8") for number in (1, 2)]
    parked = [Parked(seq=1, state=RETRYING, attempts=2, error="OSError", since=START, next_at=START + 60.25)]
    await journal.settle(
        Settlement(track=Track("crm"), epoch=crm.standing.epoch, cursor=1, park=parked, attempts=attempts)
    )

    [row] = await told(searched, lambda search: list(search.events(Filter())))
    made = [(one.at, one.attempt, one.error, one.ms) for one in row.attempts["crm"]]
    assert made == [
        (datetime.fromtimestamp(START + number, UTC), number, "OSError at crm.py:8", 1.5) for number in (1, 2)
    ]
    assert row.next_try == {"crm": datetime.fromtimestamp(START + 60.25, UTC)}


async def test_between_which_times_a_cursor_passed_an_event(searched: Engine) -> None:
    """By marks of where it was, at the latest when its owner stops: never before the event came."""

    async def deliver(seq: int) -> None:
        journal = await searched.open()
        crm = await take(journal)
        await fill(journal, 1)
        searched.clock.advance(5)
        await crm.settle(seq)
        await searched.close(journal)
        searched.clock.advance(60)

    def between(search: Search) -> list[tuple[float, float] | None]:
        found: list[tuple[float, float] | None] = []
        for row in search.events(Filter(), times=True):
            assert row.delivered_between is not msgspec.UNSET
            limits = row.delivered_between.get("crm")
            found.append(limits and (limits[0].timestamp() - START, limits[1].timestamp() - START))
        return found

    await deliver(1)
    assert await told(searched, between) == [(0.0, 5.0)]
    await deliver(2)
    await fill(await searched.open(), 1)
    assert await told(searched, between) == [(0.0, 5.0), (65.0, 70.0), None]


async def test_dead_letters_in_groups_of_one_cause(searched: Engine) -> None:
    """The largest group first, with its first and its last time and its newest event; a cause narrows a listing."""
    journal = await searched.open()
    crm = await take(journal)
    ids = await fill(journal, 4, customerUID="7")
    errors = [f"ValueError at a.py:8: id {number}" for number in (17, 18, 19)]
    errors.insert(1, "OSError at a.py:9")
    parked = [
        Parked(seq=seq, state=DEAD, attempts=1, error=error, since=START + seq) for seq, error in enumerate(errors, 1)
    ]
    await crm.settle(4, park=parked)

    groups = await told(searched, lambda search: search.dead_groups(Filter(customer="7")))
    assert [(group.plugin, group.error, group.count, group.sample) for group in groups] == [
        ("crm", "ValueError at a.py:8: id …", 3, ids[3]),
        ("crm", "OSError at a.py:9", 1, ids[1]),
    ]
    assert [group.first.timestamp() - START for group in groups] == [1.0, 2.0]
    assert [group.last.timestamp() - START for group in groups] == [4.0, 2.0]
    cause = Filter(error=groups[0].error)
    assert await told(searched, lambda search: [row.id for row in search.dead(cause)]) == [ids[0], ids[2], ids[3]]
    assert await told(searched, lambda search: [search.count_dead(cause), search.count_dead(cause, ["other"])]) == [
        3,
        0,
    ]
    assert await told(searched, lambda search: search.dead_groups(Filter(customer="8"))) == []


async def test_the_timeline_of_a_customer(searched: Engine) -> None:
    """With events of its conversation that name nobody, and with what bots asked."""
    journal = await searched.open()
    ids = await fill(journal, 1, customerUID="7", conversationId="a")
    ids += await fill(journal, 1, customerUID="", conversationId="a")
    await fill(journal, 1, customerUID="8", conversationId="b")
    await record(journal, "7", START + 1)
    await record(journal, "8", START + 1)
    await until_told(searched, lambda search: len(list(search.value_records(ValueRecordFilter()))) == 2)

    def lines(search: Search) -> list[object]:
        return [getattr(line, "id", getattr(line, "status", None)) for line in search.timeline(Filter(customer="7"))]

    assert await told(searched, lines) == [*ids, 200]


async def record(journal: Journal, customer: str, at: float) -> None:
    journal.record_value_request(
        ValueRecord(
            at=datetime.fromtimestamp(at, UTC),
            organisation=ACME,
            customer_uid=customer,
            address="…567",
            fields={"balance": {"outcome": "value", "provider": "crm", "ms": 1.5}},
            status=200,
        )
    )


async def test_unreadable_and_unknown_bodies(searched: Engine) -> None:
    """By hook and by name, with how many there are and the last one."""
    journal = await searched.open()
    unreadable = b'{"type":"inboundMessage","conversationId":{}}'
    ids = [(await put(journal, raw)).id for raw in (unreadable, b'{"type":"odd"}', unreadable, b'{"type":"odd"}')]
    await put(journal, b'{"no":"type"}')
    await put(journal, message())

    [found] = await told(searched, lambda search: search.unreadable())
    assert (found.hook, found.count, found.sample) == ("inbound-message", 2, ids[2])
    names = await told(searched, lambda search: search.unknown_names())
    assert [(one.name, one.number) for one in names] == [("odd", 2), (None, 1)]
    assert await told(searched, lambda search: search.names()) == ["odd"]
