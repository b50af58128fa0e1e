"""Reading on from a position: from memory and from disk, after a restart, after retention."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from journal_kit import ACME, Clock, config_of, fill, ids_in, message, move_cursor, opened, payment, put, take, until

from gateway import simulate
from gateway.events import Event
from gateway.journal.interface import Filter
from gateway.journal.sqlite import journal as sqlite
from gateway.journal.sqlite.journal import SqliteJournal

UNREADABLE = b'{"type": "inboundMessage", "body": ["no text"], "dateCreated": "2026-01-01 10:00:00"}'
UNKNOWN = b'{"type": "somethingNew", "conversationId": "7", "amount": 1.10}'


async def everything(journal: SqliteJournal, page: int = 100) -> list[tuple[int, Event]]:
    """All that a plugin would read from the start."""
    found: list[tuple[int, Event]] = []
    while entries := await journal.read(found[-1][0] if found else 0, page):
        found += entries
    return found


def test_memory_and_disk_tell_the_same_of_every_event(tmp_path: Path) -> None:
    """What a plugin gets does not depend on where it was read: typed payload, flags, bytes, moment, order."""
    config = config_of(tmp_path)
    report = simulate.body("delivery-report")
    bodies = [simulate.encode(body) for _, body in simulate.conversation()]
    bodies += [UNREADABLE, UNKNOWN, payment(), message(customerUID=""), b'{"type": "payment"}', b"{}"]
    bodies += [simulate.encode(report), simulate.encode(report | {"note": "conflict"})]

    async def scenario() -> tuple[list[tuple[int, Event]], list[tuple[int, Event]], dict[int, Event]]:
        async with opened(config) as journal:
            await asyncio.gather(*(put(journal, raw) for raw in bodies), put(journal, message(), hook="payment"))
            remembered = await everything(journal)
            fetched = await journal.fetch([seq for seq, _ in remembered])
        async with opened(config) as journal:
            return remembered, await everything(journal), fetched

    remembered, restored, fetched = asyncio.run(scenario())
    assert len(remembered) == len(bodies) + 1
    assert restored == remembered
    assert fetched == dict(remembered)
    assert [event.readable for _, event in remembered].count(False) == 1
    assert [event.conflict for _, event in remembered].count(True) == 1


@pytest.mark.parametrize("limit", ["events", "bytes"])
def test_what_no_longer_fits_into_memory_is_read_from_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """Memory keeps the newest only, bounded in number and in bytes; readers behind it miss nothing."""
    if limit == "events":
        monkeypatch.setattr(sqlite, "TAIL_EVENTS", 50)
    else:
        monkeypatch.setattr(sqlite, "TAIL_BYTES", 20_000)
    config = config_of(tmp_path)

    async def scenario() -> tuple[list[str], list[str], int]:
        async with opened(config) as journal:
            ids = []
            for count in (1, 60, 3, 200, 7, 400):
                ids += await fill(journal, count)
            found = [event.id for _, event in await everything(journal, 37)]
            return ids, found, len(await journal.read(journal.newest - 5, 100))

    ids, found, newest = asyncio.run(scenario())
    assert found == ids
    assert newest == 5


def test_one_body_larger_than_the_memory_is_read_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound on memory is no bound on events."""
    monkeypatch.setattr(sqlite, "TAIL_BYTES", 1000)
    config = config_of(tmp_path)

    async def scenario() -> list[int]:
        async with opened(config) as journal:
            for size in (10, 5000, 10, 10):
                await put(journal, message(body="x" * size))
            return [seq for seq, _ in await everything(journal)]

    assert asyncio.run(scenario()) == [1, 2, 3, 4]


def test_large_events_come_in_smaller_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page from disk is bounded in bytes too, and never empty for that."""
    monkeypatch.setattr(sqlite, "READ_BYTES", 100_000)
    config = config_of(tmp_path)

    async def scenario() -> tuple[list[int], list[int]]:
        async with opened(config) as journal:
            for _ in range(6):
                await put(journal, message(body="x" * 60_000))
            await put(journal, message(body="x" * 500_000))
        async with opened(config) as journal:
            pages, after = [], 0
            while entries := await journal.read(after, 100):
                pages.append(len(entries))
                after = entries[-1].seq
            scanned = await journal.scan(Filter(), 0, 100, 100)
            return pages, [seq for seq, _ in scanned]

    pages, scanned = asyncio.run(scenario())
    assert pages == [2, 2, 2, 1]
    assert scanned == [1, 2]


def test_numbering_goes_on_after_a_restart(tmp_path: Path) -> None:
    """Positions are never given twice."""
    config = config_of(tmp_path)

    async def scenario() -> list[int]:
        for _ in range(3):
            async with opened(config) as journal:
                await fill(journal, 4)
        async with opened(config) as journal:
            return [seq for seq, _ in await everything(journal)]

    assert asyncio.run(scenario()) == list(range(1, 13))


def test_numbering_goes_on_after_retention_emptied_the_journal(tmp_path: Path) -> None:
    """A cursor that stands at the end of an emptied journal must not pass by what comes next."""
    clock = Clock()
    config = config_of(tmp_path, retention="1h")

    async def scenario() -> tuple[list[str], list[str], int]:
        async with opened(config, clock=clock) as journal:
            await take(journal, "archive", from_start=False)
            await fill(journal, 10)
            await move_cursor(journal, "archive", 10)
            clock.advance(3601)
            await until(lambda: not ids_in(config))
        async with opened(config, clock=clock) as journal:
            standing = await take(journal, "archive", from_start=False)
            ids = await fill(journal, 3)
            entries = await journal.read(standing.cursor, 100)
            return ids, [event.id for _, event in entries], entries[0].seq

    ids, delivered, first = asyncio.run(scenario())
    assert delivered == ids
    assert first == 11


def test_a_new_plugin_begins_at_the_end_or_at_the_start(tmp_path: Path) -> None:
    """And stays where it stood when it comes back later."""
    config = config_of(tmp_path)

    async def scenario() -> tuple[int, int, int]:
        async with opened(config) as journal:
            await fill(journal, 5)
            end = await take(journal, "late", from_start=False)
            start = await take(journal, "early")
            await fill(journal, 5)
            await journal.retire_cursors(["early"])
        async with opened(config) as journal:
            again = await take(journal, "late")
            return end.cursor, start.cursor, again.cursor

    assert asyncio.run(scenario()) == (5, 0, 5)


def test_whoever_waits_for_events_is_told_once_they_can_be_read(tmp_path: Path) -> None:
    """After the call, reading on from where one stood gives what is new."""
    config = config_of(tmp_path)

    async def scenario() -> tuple[list[str], list[str]]:
        read: list[str] = []
        woken = asyncio.Event()
        async with opened(config) as journal:
            journal.on_commit.append(woken.set)
            adding = asyncio.gather(*(fill(journal, 50) for _ in range(4)))
            position = 0
            while len(read) < 200:
                await asyncio.wait_for(woken.wait(), 10)
                woken.clear()
                for entry in await journal.read(position, 1000):
                    position = entry.seq
                    read.append(entry.event.id)
            return read, [event_id for ids in await adding for event_id in ids]

    read, ids = asyncio.run(scenario())
    assert read == ids


def test_a_scan_gives_what_a_filter_means_up_to_a_position(tmp_path: Path) -> None:
    """The way a replay reads."""
    config = config_of(tmp_path)

    async def scenario() -> tuple[list[int], list[int]]:
        async with opened(config) as journal:
            for number in range(10):
                await put(journal, message(conversationId=str(number % 2)))
            which = Filter(conversation="1", organisation=ACME)
            first = await journal.scan(which, 0, 9, 3)
            rest = await journal.scan(which, first[-1].seq, 9, 3)
            return [seq for seq, _ in first], [seq for seq, _ in rest]

    assert asyncio.run(scenario()) == ([2, 4, 6], [8])
