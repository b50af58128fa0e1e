"""Reading on from a position: from memory and from disk, after a restart, after retention."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from journal_kit import config_of, fill, message, opened, payment, put

from gateway import simulate
from gateway.events import Event
from gateway.journal.interface import Filter
from gateway.journal.sqlite import journal as sqlite
from gateway.journal.sqlite import tail
from gateway.journal.sqlite.journal import SqliteJournal

UNREADABLE = b'{"type": "inboundMessage", "body": ["no text"], "dateCreated": "2026-01-01 10:00:00"}'
UNKNOWN = b'{"type": "somethingNew", "conversationId": "7", "amount": 1.10}'


async def everything(journal: SqliteJournal, page: int = 100) -> list[tuple[int, Event]]:
    """All that a plugin would read from the start."""
    found: list[tuple[int, Event]] = []
    while entries := await journal.read(found[-1][0] if found else 0, page):
        found += entries
    return found


async def test_memory_and_disk_tell_the_same_of_every_event(tmp_path: Path) -> None:
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

    remembered, restored, fetched = await scenario()
    assert len(remembered) == len(bodies) + 1
    assert restored == remembered
    assert fetched == dict(remembered)
    assert [event.readable for _, event in remembered].count(False) == 1
    assert [event.conflict for _, event in remembered].count(True) == 1


@pytest.mark.parametrize("limit", ["events", "bytes"])
async def test_what_no_longer_fits_into_memory_is_read_from_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """Memory keeps the newest only, bounded in number and in bytes; readers behind it miss nothing."""
    if limit == "events":
        monkeypatch.setattr(tail, "TAIL_EVENTS", 50)
    else:
        monkeypatch.setattr(tail, "TAIL_BYTES", 20_000)
    config = config_of(tmp_path)

    async def scenario() -> tuple[list[str], list[str], int]:
        async with opened(config) as journal:
            ids = []
            for count in (1, 60, 3, 200, 7, 400):
                ids += await fill(journal, count)
            found = [event.id for _, event in await everything(journal, 37)]
            return ids, found, len(await journal.read(journal.newest - 5, 100))

    ids, found, newest = await scenario()
    assert found == ids
    assert newest == 5


async def test_one_body_larger_than_the_memory_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bound on memory does not limit the size of an event."""
    monkeypatch.setattr(tail, "TAIL_BYTES", 1000)
    config = config_of(tmp_path)

    async def scenario() -> list[int]:
        async with opened(config) as journal:
            for size in (10, 5000, 10, 10):
                await put(journal, message(body="x" * size))
            return [seq for seq, _ in await everything(journal)]

    assert await scenario() == [1, 2, 3, 4]


async def test_large_events_come_in_smaller_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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

    pages, scanned = await scenario()
    assert pages == [2, 2, 2, 1]
    assert scanned == [1, 2]
