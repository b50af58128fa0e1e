"""What changed on disk is not served as what was written."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from click.testing import CliRunner
from damaging import run
from journal_kit import config_of, fill, message, opened, put, reading, take

from gateway.cli import cli
from gateway.config.tables import Config
from gateway.journal.interface import Filter, JournalDamaged, Track


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
        with pytest.raises(JournalDamaged, match="the cursor of plugin crm is damaged"):
            await journal.take_cursor(Track("crm"), from_start=False)


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
