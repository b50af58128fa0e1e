"""What operators look up: every filter, states per plugin, pages, and reading beside a gateway that writes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from journal_kit import ACME, Clock, config_of, fill, message, move_cursor, opened, payment, put, reading, take

from gateway.config.tables import Config
from gateway.journal.append import moment
from gateway.journal.interface import DEAD, RETRYING, WAITING, Filter, Parked
from gateway.journal.sqlite import reader
from gateway.journal.sqlite.journal import SqliteJournal
from gateway.journal.sqlite.reader import SqliteSearch
from gateway.json_text import one_line

START = 1_700_000_000.0
OTHER = "umbrella"


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(START, UTC) + timedelta(seconds=seconds)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return config_of(tmp_path)


async def mixed(journal: SqliteJournal, clock: Clock) -> list[str]:
    """Ten events, a minute apart: two organisations, two hooks, three conversations; their ids."""
    ids = []
    for number in range(10):
        raw = message(conversationId=str(number % 3)) if number % 2 else payment(conversationId=str(number % 3))
        ids.append((await put(journal, raw, OTHER if number in (3, 4) else ACME)).id)
        clock.advance(60)
    return ids


async def journal_with_ten(config: Config) -> list[str]:
    clock = Clock(START)

    async def scenario() -> list[str]:
        async with opened(config, clock=clock) as journal:
            return await mixed(journal, clock)

    return await scenario()


@pytest.mark.parametrize(
    ("which", "numbers"),
    [
        (Filter(), range(10)),
        (Filter(hook="payment"), (0, 2, 4, 6, 8)),
        (Filter(hook="set-status"), ()),
        (Filter(organisation=OTHER), (3, 4)),
        (Filter(conversation="1"), (1, 4, 7)),
        (Filter(conversation="1", organisation=ACME), (1, 7)),
        (Filter(conversation="1' OR '1'='1"), ()),
        (Filter(since=at(180)), range(3, 10)),
        (Filter(since=at(180.000_001)), range(4, 10)),
        (Filter(until=at(180)), (0, 1, 2)),
        (Filter(until=at(180.000_001)), (0, 1, 2, 3)),
        (Filter(since=at(60), until=at(240)), (1, 2, 3)),
        (Filter(since=at(240), until=at(60)), ()),
        (Filter(since=datetime(1, 1, 2, tzinfo=UTC), until=datetime(9999, 12, 30, tzinfo=UTC)), range(10)),
        (Filter(hook="payment", conversation="0", since=at(1)), (6,)),
        (Filter(ids=("nobody's",)), ()),
    ],
    ids=repr,
)
async def test_every_condition_of_a_filter_must_hold(config: Config, which: Filter, numbers: Iterator[int]) -> None:
    """Events in the order of receipt; `since` counts its moment in and `until` does not; counting agrees."""
    ids = await journal_with_ten(config)
    with reading(config) as journal:
        found = [row.id for row in journal.events(which)]
        assert found == [ids[number] for number in numbers]
        assert journal.count(which) == len(found)


async def test_events_are_found_by_their_ids(config: Config) -> None:
    """In the order of receipt, whatever order they were asked in."""
    ids = await journal_with_ten(config)
    which = Filter(ids=(ids[7], "unknown", ids[2], ids[2]))
    with reading(config) as journal:
        assert [row.id for row in journal.events(which)] == [ids[2], ids[7]]
        assert journal.count(which) == 2


@pytest.mark.parametrize("limit", [1, 3, 10, 50])
async def test_a_limit_gives_the_oldest_or_the_newest_oldest_first(config: Config, limit: int) -> None:
    """The newest twenty, for a terminal, still read downwards in time."""
    ids = await journal_with_ten(config)
    with reading(config) as journal:
        assert [row.id for row in journal.events(Filter(), limit)] == ids[:limit]
        assert [row.id for row in journal.events(Filter(), limit, newest=True)] == ids[-limit:]
        payments = [row.id for row in journal.events(Filter(hook="payment"), limit, newest=True)]
        assert payments == ids[0:10:2][-limit:]
        assert list(journal.events(Filter(hook="set-status"), limit, newest=True)) == []


@pytest.mark.parametrize("page", [1, 3, 5, 100])
async def test_pages_lose_nothing_and_repeat_nothing(
    config: Config, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    """A listing of any length is read in pages, which its caller does not notice."""
    monkeypatch.setattr(reader, "PAGE", page)
    ids = await journal_with_ten(config)
    with reading(config) as journal:
        assert [row.id for row in journal.events(Filter())] == ids
        assert [row.id for row in journal.events(Filter(hook="payment"), 4)] == ids[0:8:2]
        assert [row.id for row in journal.events(Filter(), 7, newest=True)] == ids[3:]


async def test_a_row_is_the_event_as_received(config: Config) -> None:
    """The body is its own text on one line, the moment is exact, empty texts are none."""
    clock = Clock(START + 0.123_456)
    raw = message(customerUID="", conversationId="7").replace(b", ", b",\n  ")

    async def scenario() -> str:
        async with opened(config, clock=clock) as journal:
            return (await put(journal, raw)).id

    event_id = await scenario()
    with reading(config) as journal:
        [row] = journal.events(Filter())
    assert (row.id, row.organisation, row.hook, row.conversation_id) == (event_id, ACME, "inbound-message", "7")
    assert (row.customer_uid, row.readable, row.conflict, row.deliveries) == (None, True, False, {})
    assert row.received_at == moment(int(clock() * 1_000_000))
    assert row.received_at.tzinfo is UTC
    assert bytes(row.body) == one_line(raw)


# Two plugins and eight events. `late` began after the second; `archive` is through the sixth, `late` the fifth.
PARKED = {
    "archive": [
        Parked(seq=2, state=DEAD, attempts=12, error="ValueError: odd", since=START),
        Parked(seq=3, state=RETRYING, attempts=1),
        Parked(seq=4, state=WAITING),
    ],
    "late": [
        Parked(seq=4, state=DEAD, attempts=3, error="OSError", since=START + 5),
        Parked(seq=7, state=RETRYING, attempts=2),
    ],
}
ARCHIVE = ["delivered", "dead", "retrying", "waiting", "delivered", "delivered", "waiting", "waiting"]
LATE = [None, None, "delivered", "dead", "delivered", "waiting", "retrying", "waiting"]


async def journal_with_states(config: Config) -> list[str]:
    async def scenario() -> list[str]:
        async with opened(config) as journal:
            await take(journal, "archive")
            ids = await fill(journal, 2)
            await take(journal, "late", from_start=False)
            await take(journal, "gone")
            ids += await fill(journal, 6)
            await move_cursor(journal, "gone", park=[Parked(seq=1, state=RETRYING)])
            for plugin, cursor in (("archive", 6), ("late", 5)):
                await move_cursor(journal, plugin, cursor, PARKED[plugin])
            await journal.retire_cursors(["archive", "late"])
            return ids

    return await scenario()


async def test_each_event_says_how_far_each_plugin_is_with_it(config: Config) -> None:
    """Plugins that began later or are gone say nothing of an event."""
    await journal_with_states(config)
    expected = [
        {plugin: state for plugin, state in (("archive", archive), ("late", late)) if state is not None}
        for archive, late in zip(ARCHIVE, LATE, strict=True)
    ]
    with reading(config) as journal:
        assert [row.deliveries for row in journal.events(Filter())] == expected
        assert sorted(journal.plugins()) == ["archive", "late"]


@pytest.mark.parametrize("state", ["dead", "retrying", "waiting", "delivered"])
@pytest.mark.parametrize("plugin", ["archive", "late"])
async def test_a_state_of_one_plugin_finds_what_its_deliveries_say(config: Config, plugin: str, state: str) -> None:
    """The filter agrees with what the listing shows."""
    ids = await journal_with_states(config)
    states = ARCHIVE if plugin == "archive" else LATE
    expected = [event_id for event_id, found in zip(ids, states, strict=True) if found == state]
    with reading(config) as journal:
        which = Filter(plugin=plugin, state=state)
        assert [row.id for row in journal.events(which)] == expected
        assert journal.count(which) == len(expected)


@pytest.mark.parametrize("state", ["dead", "retrying", "waiting"])
async def test_a_state_without_a_plugin_finds_it_at_any_plugin(config: Config, state: str) -> None:
    """Where anything is left to do for anyone that is there."""
    ids = await journal_with_states(config)
    pairs = zip(ids, ARCHIVE, LATE, strict=True)
    expected = [event_id for event_id, *states in pairs if state in states]
    with reading(config) as journal:
        assert [row.id for row in journal.events(Filter(state=state))] == expected


async def test_delivered_without_a_plugin_means_delivered_to_all(config: Config) -> None:
    """An event that one plugin still has before it is not delivered."""
    ids = await journal_with_states(config)
    expected = [
        event_id
        for event_id, *states in zip(ids, ARCHIVE, LATE, strict=True)
        if all(state in ("delivered", None) for state in states)
    ]
    with reading(config) as journal:
        assert [row.id for row in journal.events(Filter(state="delivered"))] == expected


async def test_dead_letters_are_listed_by_event_and_plugin(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """With attempts, error and moment; a plugin, an event's own fields and a limit narrow them."""
    ids = await journal_with_states(config)
    monkeypatch.setattr(reader, "PAGE", 1)
    with reading(config) as journal:
        rows = list(journal.dead(Filter()))
        assert [(row.id, row.plugin, row.attempts, row.error) for row in rows] == [
            (ids[1], "archive", 12, "ValueError: odd"),
            (ids[3], "late", 3, "OSError"),
        ]
        assert [row.dead_since for row in rows] == [at(0), at(5)]
        assert [row.id for row in journal.dead(Filter(plugin="late"))] == [ids[3]]
        assert [row.id for row in journal.dead(Filter(ids=(ids[1],)))] == [ids[1]]
        assert list(journal.dead(Filter(hook="payment"))) == []
        assert [row.id for row in journal.dead(Filter(), 1)] == [ids[1]]
        assert [journal.count_dead(Filter()), journal.count_dead(Filter(plugin="late"))] == [2, 1]


async def test_one_event_that_is_dead_for_two_plugins_is_two_dead_letters(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a page ends between the two."""
    monkeypatch.setattr(reader, "PAGE", 1)

    async def scenario() -> None:
        async with opened(config) as journal:
            await fill(journal, 2)
            for plugin in ("one", "two"):
                await take(journal, plugin)
                parked = [Parked(seq=seq, state=DEAD) for seq in (1, 2)]
                await move_cursor(journal, plugin, 2, parked)

    await scenario()
    with reading(config) as journal:
        assert [row.plugin for row in journal.dead(Filter())] == ["one", "two"] * 2
        assert len(list(journal.events(Filter(state="dead")))) == 2


async def test_a_listing_beside_a_gateway_that_writes_is_in_order_and_without_gaps(config: Config) -> None:
    """Every listing is a beginning of the journal at its time; neither side waits for the other."""

    async def scenario() -> tuple[list[str], list[list[str]]]:
        ids: list[str] = []
        async with opened(config) as journal:
            done = asyncio.Event()

            async def write() -> None:
                for _ in range(60):
                    ids.extend(await fill(journal, 20))
                done.set()

            writing = asyncio.create_task(write())
            listings = []
            with reading(config) as other:
                while not done.is_set():
                    listings.append(await asyncio.to_thread(listed, other))
            await writing
        return ids, listings

    def listed(other: SqliteSearch) -> list[str]:
        return [row.id for row in other.events(Filter())]

    ids, listings = await scenario()
    assert len(listings) > 1
    assert all(listing == ids[: len(listing)] for listing in listings)


async def test_a_reader_changes_nothing(config: Config) -> None:
    """Not even by mistake: its connection refuses to write."""
    await journal_with_ten(config)
    with reading(config) as journal, pytest.raises(Exception, match="attempt to write a readonly database"):
        journal._connection.execute("DELETE FROM events")


async def test_what_a_killed_gateway_left_is_read_without_it(config: Config) -> None:
    """The write-ahead log of a process that died is part of the journal."""

    async def scenario() -> list[str]:
        journal = SqliteJournal(config)
        await journal.start()
        ids = await fill(journal, 5)
        with reading(config) as other:
            return ids if [row.id for row in other.events(Filter())] == ids else []

    assert len(await scenario()) == 5


def steps_of(journal: SqliteSearch, which: Filter, limit: int | None = None) -> tuple[int, int]:
    """How many events a listing gives, and how many hundreds of steps SQLite took for it."""
    steps = 0

    def step() -> bool:
        nonlocal steps
        steps += 1
        return False

    journal._connection.set_progress_handler(step, 100)
    found = sum(1 for _ in journal.events(which, limit))
    journal._connection.set_progress_handler(None)
    return found, steps


async def test_a_listing_by_time_reads_little_more_than_it_gives(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place in time is found by an index, and each page begins where the last one ended."""
    clock = Clock(START)

    async def scenario() -> None:
        async with opened(config, clock=clock) as journal:
            for _ in range(20):
                await asyncio.gather(*(put(journal, b'{"type":"payment"}') for _ in range(500)))
                clock.advance(60)

    await scenario()
    monkeypatch.setattr(reader, "PAGE", 50)
    with reading(config) as journal:
        _, everything = steps_of(journal, Filter())
        found, steps = steps_of(journal, Filter(since=at(1140)), 20)
        assert found == 20
        assert steps < everything / 10
        found, steps = steps_of(journal, Filter(until=at(60)))
        assert found == 500
        assert steps < everything / 5
        found, steps = steps_of(journal, Filter(since=at(0), until=at(10_000)))
        assert found == 10_000
        assert steps < everything * 3
