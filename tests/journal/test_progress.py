"""When deliveries happened: attempts that failed, and marks of where a cursor was at a time."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import apsw
import msgspec
import pytest
from journal_kit import Clock, config_of, fill, move_cursor, opened, reading, take, until

from gateway.config.tables import Config
from gateway.journal.attempts import Attempt
from gateway.journal.interface import Filter, Settlement, Track
from gateway.journal.sqlite import writer
from gateway.journal.sqlite.journal import SqliteJournal

START = 1_700_000_000.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "HOUSEKEEPING", 0.01)


def count(config: Config, table: str) -> int:
    connection = apsw.Connection(str(config.journal.path))
    try:
        return int(next(connection.execute(f"SELECT count(*) FROM {table}"))[0])
    finally:
        connection.close()


def between(config: Config) -> list[tuple[float, float] | None]:
    """For each event the seconds after the start between which the cursor of `crm` passed it."""
    found: list[tuple[float, float] | None] = []
    with reading(config) as search:
        for row in search.events(Filter(), times=True):
            times = row.delivered_between
            assert times is not msgspec.UNSET
            limits = times.get("crm")
            found.append(limits and (limits[0].timestamp() - START, limits[1].timestamp() - START))
    return found


async def settle(journal: SqliteJournal, *attempts: Attempt) -> None:
    await journal.settle(Settlement(track=Track("crm"), epoch=1, attempts=list(attempts)))


async def test_a_mark_in_ten_seconds_tells_when_events_were_passed(tmp_path: Path) -> None:
    """At most one for each plugin, and none while its cursor stands still; the last one comes with the end."""
    config, clock = config_of(tmp_path), Clock(START)
    async with opened(config, clock=clock) as journal:
        await take(journal, "crm")
        await fill(journal, 6)
        await move_cursor(journal, "crm", 1)
        await until(lambda: count(config, "marks") == 1)
        for seconds, cursor in ((1, 2), (2, 3), (2, 4)):
            clock.advance(seconds)
            await move_cursor(journal, "crm", cursor)
        assert between(config) == [(0.0, 0.0), None, None, None, None, None]
        clock.advance(6)
        await until(lambda: count(config, "marks") == 2)
        assert between(config) == [(0.0, 0.0), *[(0.0, 5.0)] * 3, None, None]
        clock.advance(100)
        assert count(config, "marks") == 2
        await move_cursor(journal, "crm", 5)
        await until(lambda: count(config, "marks") == 3)
        clock.advance(1)
        await move_cursor(journal, "crm", 6)
    assert between(config) == [(0.0, 0.0), *[(0.0, 5.0)] * 3, (5.0, 111.0), (111.0, 112.0)]


async def test_an_event_is_not_passed_before_it_came(tmp_path: Path) -> None:
    """The earliest time is that of receipt."""
    config, clock = config_of(tmp_path), Clock(START)
    async with opened(config, clock=clock) as journal:
        await take(journal, "crm")
        await fill(journal, 1)
        await move_cursor(journal, "crm", 1)
        await until(lambda: count(config, "marks") == 1)
        clock.advance(60)
        await fill(journal, 1)
        clock.advance(1)
        await move_cursor(journal, "crm", 2)
    assert between(config) == [(0.0, 0.0), (60.0, 61.0)]


async def test_attempts_of_each_plugin_in_order(tmp_path: Path) -> None:
    """When it ended, its number, the error and how long it took; the last 20 of an event."""
    config, clock = config_of(tmp_path), Clock(START)
    async with opened(config, clock=clock) as journal:
        await take(journal, "crm")
        await fill(journal, 2)
        await settle(
            journal, Attempt(1, 1, START + 1, 84.25, "ValueError at crm.py:8"), Attempt(1, 2, START + 3, None, "died")
        )
        await settle(journal, Attempt(1, 3, START + 9, 12.5))
        await settle(journal, *(Attempt(2, number, START + number, 1.0, "late") for number in range(1, 31)))
        await move_cursor(journal, "crm", 2)
    with reading(config) as search:
        first, second = search.events(Filter(), times=True)
    rows = [(one.at, one.attempt, one.error, one.ms) for one in first.attempts["crm"]]
    assert rows == [
        (datetime.fromtimestamp(START + 1, UTC), 1, "ValueError at crm.py:8", 84.25),
        (datetime.fromtimestamp(START + 3, UTC), 2, "died", None),
        (datetime.fromtimestamp(START + 9, UTC), 3, None, 12.5),
    ]
    assert [one.attempt for one in second.attempts["crm"]] == list(range(11, 31))
    assert (first.deliveries, first.delivered_between) == ({"crm": "delivered"}, {})


async def test_retention_deletes_attempts_and_marks(tmp_path: Path) -> None:
    """With the event, and when they are as old as it may get."""
    config, clock = config_of(tmp_path, retention="1h"), Clock(START)
    async with opened(config, clock=clock) as journal:
        await take(journal, "crm")
        await fill(journal, 2)
        await settle(journal, Attempt(1, 1, START, 1.0, "late"), Attempt(2, 1, START, 1.0, "late"))
        await move_cursor(journal, "crm", 2)
        await until(lambda: count(config, "marks") == 1)
        clock.advance(3599)
        await fill(journal, 1)
        clock.advance(2)
        await until(lambda: count(config, "events") == 1)
        await until(lambda: (count(config, "attempts"), count(config, "marks")) == (0, 0))
