"""What changed on disk is not served as what was written."""

from __future__ import annotations

import asyncio
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import apsw
import pytest
from click.testing import CliRunner
from damaging import PAGE, run
from journal_kit import Clock, config_of, fill, ids_in, message, move_cursor, opened, put, reading, take

from gateway.cli import cli
from gateway.config.tables import Config
from gateway.journal import examine_journal, repair_journal
from gateway.journal.erasing import Retention
from gateway.journal.interface import RETRYING, Filter, JournalDamaged, Parked, Track
from gateway.journal.search import ValueRecord, ValueRecordFilter
from gateway.journal.sqlite.retention import prune


def change(config: Config, sql: str) -> None:
    with closing(apsw.Connection(str(config.journal.path))) as database:
        database.execute(sql)


async def test_no_damage_is_served(tmp_path: Path) -> None:
    """Flipped bits, zeroed pages and truncations, drawn with a seed."""
    assert await run(config_of(tmp_path), 150, seed=1) == []


@pytest.mark.parametrize(
    "flip",
    [
        *("received_at = received_at + 1", "organisation = 'other'", "hook = 'payment'", "conversation_id = NULL"),
        *("customer_uid = '1'", "readable = 0", "conflict = 1", "created = 1", "digest = NULL", "natural_key = 'x'"),
        *("raw = X'7B7D'", "name = 'x'", "checksum = 0", "organisation = CAST(X'FF' AS TEXT)", "id = 'x'"),
    ],
)
async def test_a_damaged_event_stops_readers_and_is_left_out_of_lists(tmp_path: Path, flip: str) -> None:
    """Whichever column changed. Its place is named and counted once; the events before it are read."""
    config = config_of(tmp_path)
    async with opened(config) as journal:
        ids = await fill(journal, 3)
    change(config, f"UPDATE events SET {flip} WHERE seq = 2")
    async with opened(config) as journal:
        assert [event.id for _, event in await journal.read(0, 10)] == ids[:1]
        assert journal.damaged == 0 or journal.damaged == 1
        for attempt in (journal.read(1, 10), journal.fetch([1, 2]), journal.scan(Filter(), 1, 3, 10)):
            with pytest.raises(JournalDamaged, match="is damaged: the event at position 2 is not what was written"):
                await attempt
        assert journal.damaged == 1
    with reading(config) as search:
        assert [row.id for row in search.events(Filter())] == [ids[0], ids[2]]
        assert search.damaged == [2]


async def test_a_repeat_of_a_damaged_event_is_kept(tmp_path: Path) -> None:
    """It is not answered as a duplicate of what cannot be delivered."""
    config, raw = config_of(tmp_path), message()
    async with opened(config) as journal:
        await put(journal, raw)
    change(config, "UPDATE events SET raw = X'7B7D'")
    async with opened(config) as journal:
        assert not (await put(journal, raw)).duplicate
        assert journal.damaged == 1
        assert [event.raw for _, event in await journal.read(1, 10)] == [raw]


async def test_a_damaged_cursor_is_not_followed(tmp_path: Path) -> None:
    """Moved forward, it would skip events."""
    config = config_of(tmp_path)
    async with opened(config) as journal:
        await take(journal, "crm")
    change(config, "UPDATE cursors SET seq = 64")
    async with opened(config) as journal:
        with pytest.raises(JournalDamaged, match="the cursor of plugin crm is not what was written"):
            await journal.take_cursor(Track("crm"), from_start=False)
        assert journal.damaged == 1


ROWS = {
    "parked": (
        "UPDATE parked SET state = 'delivered' WHERE seq = 1",
        "the row of plugin crm for the event at position 1",
    ),
    "error": ("UPDATE parked SET error = CAST(X'FF' AS TEXT)", "the row of plugin crm for the event at position 1"),
    "suspects": ("UPDATE suspects SET seq = 3", "the suspicion of plugin crm about the event at position 3"),
    "replays": ("UPDATE replays SET until = 1", "replay 1 of plugin crm"),
    "takes": ("UPDATE takes SET hooks = ',payment,' WHERE plugin = 'crm'", "the hooks of plugin crm from position 0"),
}


async def busy(config: Config) -> None:
    """A journal of 3 events; of plugin crm one is retrying, one is being delivered, and there is a replay."""
    async with opened(config) as journal:
        await fill(journal, 3)
        await take(journal, "crm")
        parked = Parked(seq=1, state=RETRYING, attempts=1, error="OSError", conversation="acme/c1")
        await move_cursor(journal, "crm", 1, [parked])
        await journal.mark_running(Track("crm"), 1, 2)
        await journal.new_replay(Filter(plugin="crm"))
        await take(journal, "archive")


@pytest.mark.parametrize("change_made", ROWS)
async def test_a_damaged_row_of_a_plugin_stops_that_plugin(tmp_path: Path, change_made: str) -> None:
    """It is not followed: it might hide an event. Other plugins go on, and the repair makes it good."""
    config, (sql, place) = config_of(tmp_path), ROWS[change_made]
    await busy(config)
    change(config, sql)
    async with opened(config) as journal:
        for _ in range(2):
            with pytest.raises(JournalDamaged, match=f"is damaged: {place} is not what was written"):
                await take(journal, "crm")
        assert journal.damaged == 1
        await take(journal, "archive")
    repair_journal(config, examine_journal(config))
    assert examine_journal(config).ok
    async with opened(config) as journal:
        standing = await take(journal, "crm")
        assert [(row.seq, row.state) for row in standing.parked] == [(1, RETRYING)]
        assert len(standing.replays) == (0 if change_made == "replays" else 1)


@pytest.mark.parametrize(
    "sql",
    ["UPDATE cursors SET seq = 4611686018427387904 WHERE plugin = 'crm'", "UPDATE parked SET state = 'discarded'"],
)
async def test_what_is_damaged_deletes_no_event(tmp_path: Path, sql: str) -> None:
    """Retention does not follow it, nor do new positions."""
    config, clock = config_of(tmp_path, retention="1d"), Clock()
    async with opened(config, clock=clock) as journal:
        ids = await fill(journal, 3)
        await take(journal, "crm")
        await move_cursor(journal, "crm", 1, [Parked(seq=1, state=RETRYING)])
    change(config, sql)
    clock.advance(90_000)
    async with opened(config, clock=clock) as journal:
        retention = Retention(86_400_000_000, {})
        for _ in range(5):
            await journal.operate(lambda connection: prune(connection, int(clock() * 1_000_000), retention, 0))
        await fill(journal, 1)
        assert journal.newest == 4
    assert ids_in(config)[:3] == ids


async def test_a_row_that_is_damaged_later_is_not_followed(tmp_path: Path) -> None:
    """When a plugin looks again for what operators have changed."""
    config = config_of(tmp_path)
    await busy(config)
    async with opened(config) as journal:
        await take(journal, "crm")
        change(config, "UPDATE parked SET seq = 3")
        with pytest.raises(JournalDamaged, match="the row of plugin crm for the event at position 3"):
            await journal.changes(Track("crm"))


async def test_damaged_rows_are_left_out_of_lists(tmp_path: Path) -> None:
    """A state that may be wrong is not shown, nor a dead letter or a record that may be another one's."""
    config = config_of(tmp_path)
    await busy(config)
    record = ValueRecord(
        at=datetime.fromtimestamp(0, UTC), organisation="acme", customer_uid="7", address=None, fields={}, status=200
    )
    async with opened(config) as journal:
        journal.record_value_request(record)
        await journal.probe()
    change(config, "UPDATE parked SET state = 'dead' WHERE seq = 1; UPDATE value_records SET customer_uid = '8'")
    with reading(config) as search:
        assert [row.deliveries.get("crm") for row in search.events(Filter())] == [None, "waiting", "waiting"]
        assert search.damaged == [1]
        assert list(search.dead(Filter())) == []
        assert list(search.value_records(ValueRecordFilter())) == []
        assert search.damaged_records == 1
    found = examine_journal(config)
    assert found.rows == [ROWS["parked"][1], "the record of custom value request 1"]


async def test_a_row_that_is_missing_is_found(tmp_path: Path) -> None:
    """Where a page was overwritten with zeros, whichever."""
    config = config_of(tmp_path)
    await busy(config)
    path = config.journal.path
    sound = path.read_bytes()
    used = [start for start in range(PAGE, len(sound), PAGE) if any(sound[start : start + PAGE])]
    for start in used:
        path.write_bytes(sound[:start] + bytes(PAGE) + sound[start + PAGE :])
        assert not examine_journal(config).ok


async def test_a_listing_of_rows_out_of_order_ends(tmp_path: Path) -> None:
    """Where the position of the last row was damaged within its page, the next page would begin before it."""
    config = config_of(tmp_path)
    async with opened(config) as journal:
        ids = await fill(journal, 20)
    content = config.journal.path.read_bytes()
    place = content.rindex(ids[-1].encode())
    start = content.rindex(bytes([20, 17, 0]), 0, place)  # its position, and the head of its record
    config.journal.path.write_bytes(content[:start] + b"\0" + content[start + 1 :])
    with reading(config) as search, pytest.raises(JournalDamaged, match="the order of its rows"):
        list(search.events(Filter()))


def test_damage_is_shown_and_repaired_on_request(tmp_path: Path) -> None:
    """After a copy; the events behind the damaged one are delivered then."""
    config = config_of(tmp_path)

    async def prepare() -> None:
        async with opened(config) as journal:
            await fill(journal, 3)
            await take(journal, "crm")

    asyncio.run(prepare())
    change(config, "UPDATE events SET raw = X'7B7D' WHERE seq = 2; UPDATE cursors SET seq = 64")
    arguments = ["journal", "check", "-c", str(config.source)]
    shown = CliRunner().invoke(cli, arguments)
    assert shown.exit_code == 1
    assert shown.output == (
        "the event at position 2 is damaged\nthe cursor of plugin crm is damaged\n"
        f"{config.journal.path}: 2 sound events, damage\n"
    )
    repaired = CliRunner().invoke(cli, [*arguments, "--repair"])
    copy = config.journal.path.with_name("journal.db.damaged")
    assert (repaired.exit_code, copy.stat().st_mode & 0o777) == (0, 0o600)

    async def positions() -> list[int]:
        async with opened(config) as journal:
            standing = await take(journal, "crm")
            return [seq for seq, _ in await journal.read(standing.cursor, 10)]

    assert asyncio.run(positions()) == [1, 3]
    assert CliRunner().invoke(cli, [*arguments, "--json"]).exit_code == 0
