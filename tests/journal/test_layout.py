"""Journals of an older layout open, after a checked copy; those of a newer one are refused."""

from __future__ import annotations

import logging
import shutil
import stat
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import pytest
from journal_kit import config_of, fill, opened, take

from gateway.config.tables import Config
from gateway.journal import check_journal, examine_journal, open_journal, open_reader
from gateway.journal.interface import RETRYING, WAITING, Filter, JournalError, Parked, Standing, Track
from gateway.journal.search import ValueRecord, ValueRecordFilter
from gateway.journal.sqlite import layout
from gateway.journal.sqlite.connection import open_writer

FIRST = Path(__file__).with_name("layout_1.sql")
NOW = 1_790_000_600.0


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """The journal that version 0.1.0 left when it was killed in the middle of its work."""
    made = config_of(tmp_path)
    made.journal.path.parent.mkdir()
    with closing(apsw.Connection(str(made.journal.path))) as database:
        database.execute(FIRST.read_text())
    return made


def query(path: Path, sql: str) -> list[Sequence[Any]]:
    with closing(apsw.Connection(str(path))) as database:
        return list(database.execute(sql))


def layout_in(path: Path) -> int:
    return int(query(path, "PRAGMA user_version")[0][0])


async def upgrade(config: Config, copy: bool = True) -> None:
    journal = open_journal(config, clock=lambda: NOW, copy_before_upgrade=copy)
    await journal.start()
    await journal.close()


async def test_a_journal_of_the_first_version_is_read_completely(config: Config) -> None:
    """Events, deliveries, dead letters, a replay, suspects of a crash and the records of custom value requests."""
    journal = open_journal(config, clock=lambda: NOW)
    await journal.start()
    events = [event for _, event in await journal.read(0, 100)]
    assert [event.hook for event in events] == ["inbound-message"] * 7 + ["unknown", "inbound-message", "payment"]
    assert [event.name for event in events] == [None] * 7 + ["somethingNew"] + [None] * 2
    assert [event.readable for event in events] == [True] * 8 + [False, True]
    assert [event.conflict for event in events] == [False] * 6 + [True] + [False] * 3
    assert [event.conversation_id for event in events] == ["c1"] * 4 + ["c2"] * 2 + ["c1"] + [None] * 3
    standing = await journal.take_cursor(Track("crm"), from_start=False)
    assert isinstance(standing, Standing)
    assert (standing.cursor, standing.clean, standing.dead_ahead, standing.crashes) == (7, False, [9], {8: 1})
    assert standing.parked == [
        Parked(
            seq=2,
            state=RETRYING,
            attempts=2,
            next_at=NOW + 300,
            error="OSError: down",
            since=NOW,
            conversation="acme/c1",
        ),
        Parked(seq=3, state=WAITING, since=NOW, conversation="acme/c1"),
    ]
    [replay] = standing.replays
    assert (replay.filter.hook, replay.position, replay.matched, replay.done) == ("inbound-message", 2, 8, 2)
    raw = events[0].raw
    repeated = journal.append("acme", journal.decoder.decode("acme", raw, None), raw)
    assert (await repeated).id == events[0].id
    await journal.close()
    with closing(open_reader(config)) as reader:
        deliveries = [row.deliveries for row in reader.events(Filter())]
        assert [found["archive"] for found in deliveries] == ["delivered"] * 10
        assert [found.get("crm") for found in deliveries] == [
            *("delivered", "retrying", "waiting", "dead", None, "delivered", "delivered"),
            *("waiting", "dead", "waiting"),
        ]
        assert not any("gone" in found for found in deliveries)
        assert [(row.plugin, row.attempts, row.error) for row in reader.dead(Filter())] == [
            ("crm", 12, "ValueError: odd"),
            ("crm", 1, "no"),
        ]
        first, second = reader.value_records(ValueRecordFilter())
        assert second.customer_uid == "78"
        assert first == ValueRecord(
            at=datetime.fromtimestamp(NOW, UTC),
            organisation="acme",
            customer_uid="77",
            address="…777",
            fields={"balance": {"outcome": "value", "provider": "sql", "ms": 1.5}},
            status=200,
        )


async def test_an_upgraded_journal_has_the_layout_of_a_new_one(config: Config, tmp_path: Path) -> None:
    """Table for table and index for index."""
    await upgrade(config)
    (tmp_path / "new").mkdir()
    new = config_of(tmp_path / "new")
    async with opened(new):
        pass
    schema = "SELECT name, sql FROM sqlite_schema ORDER BY name"
    assert query(config.journal.path, schema) == query(new.journal.path, schema)


@pytest.mark.parametrize("number", [2, 3])
async def test_a_journal_of_each_layout_is_brought_up_to_date(tmp_path: Path, number: int) -> None:
    """Completely, to the layout of a new one, and each row with its checksum."""
    old = config_of(tmp_path)
    old.journal.path.parent.mkdir()
    with closing(apsw.Connection(str(old.journal.path))) as database:
        database.execute(FIRST.with_name(f"layout_{number}.sql").read_text())
    assert layout_in(old.journal.path) == number
    journal = open_journal(old, clock=lambda: NOW)
    await journal.start()
    events = [event for _, event in await journal.read(0, 100)]
    assert [(event.hook, event.name) for event in events] == [
        *[("inbound-message", None)] * 3,
        ("unknown", "somethingNew"),
    ]
    assert events[3].raw == b'{"type": "somethingNew", "amount": 12.50}'
    standing = await journal.take_cursor(Track("crm"), from_start=False)
    assert isinstance(standing, Standing)
    assert (standing.cursor, standing.clean, standing.dead_ahead, standing.crashes) == (3, False, [], {4: 1})
    assert [(row.seq, row.state, row.attempts, row.conversation) for row in standing.parked] == [
        (1, RETRYING, 2, "acme/c1"),
        (2, WAITING, 0, "acme/c1"),
    ]
    assert [(replay.filter.hook, replay.matched) for replay in standing.replays] == [("inbound-message", 3)]
    await journal.close()
    with closing(open_reader(old)) as reader:
        assert [(row.plugin, row.attempts, row.error) for row in reader.dead(Filter())] == [
            ("crm", 12, "ValueError: odd")
        ]
        assert [record.customer_uid for record in reader.value_records(ValueRecordFilter())] == ["77"]
    found = examine_journal(old)
    assert (found.ok, found.sound) == (True, 4)
    (tmp_path / "new").mkdir()
    new = config_of(tmp_path / "new")
    async with opened(new):
        pass
    schema = "SELECT name, sql FROM sqlite_schema ORDER BY name"
    assert query(old.journal.path, schema) == query(new.journal.path, schema)
    assert layout_in(old.journal.path.with_name(f"journal.db.before-{layout.LAYOUT}")) == number


async def test_a_journal_is_copied_before_it_is_upgraded(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    """The copy is the journal as it was, for its owner only, and the log says where it is; it is made once."""
    caplog.set_level(logging.WARNING)
    before = list(query(config.journal.path, "SELECT * FROM parked"))
    await upgrade(config)
    copy = config.journal.path.with_name("journal.db.before-8")
    assert layout_in(copy) == 1
    assert query(copy, "SELECT * FROM parked") == before
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert sorted(path.name for path in copy.parent.glob("journal.*")) == ["journal.db", "journal.db.before-8"]
    path = config.journal.path
    assert [record.message for record in caplog.records] == [
        f"journal: copying {path} to journal.db.before-8 before it is upgraded to layout 8",
        f"journal: {path} was upgraded from layout 1 to 8",
    ]
    copy.unlink()
    await upgrade(config)
    assert not copy.exists()


async def test_the_copy_can_be_left_out(config: Config) -> None:
    """For a journal that is copied by other means, or where there is no room for a copy."""
    await upgrade(config, copy=False)
    assert layout_in(config.journal.path) == layout.LAYOUT
    assert [path.name for path in config.journal.path.parent.glob("journal.*")] == ["journal.db"]


async def test_without_room_for_the_copy_nothing_is_upgraded(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence says how much is needed, and how to do without."""
    usage = shutil.disk_usage(config.journal.path.parent)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(JournalError) as refused:
        await upgrade(config)
    assert str(refused.value) == (
        f"the journal {config.journal.path} is copied before it is upgraded to layout 8, which needs 0 MiB; 0 MiB are "
        "free. Make room, or do without the copy: `gateway run --no-copy`"
    )
    assert layout_in(config.journal.path) == 1


async def test_a_copy_that_is_damaged_is_not_relied_on(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal itself is left as it is, and no copy stays."""
    damaged = apsw.Connection(":memory:")

    class Connection(apsw.Connection):
        def execute(self, *values: Any, **named: Any) -> Any:
            if "integrity_check" in values[0]:
                return damaged.execute("SELECT 'row 1 missing'")
            return super().execute(*values, **named)

    journal = open_journal(config, clock=lambda: NOW)
    with monkeypatch.context() as patch:
        patch.setattr(apsw, "Connection", Connection)
        with pytest.raises(JournalError, match=r"^the copy of the journal .* is damaged \(row 1 missing\)"):
            await journal.start()
    assert [path.name for path in config.journal.path.parent.glob("journal.*")] == ["journal.db"]
    assert layout_in(config.journal.path) == 1


async def test_a_step_that_fails_halfway_leaves_the_journal_as_it_was(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step is one transaction; the next start takes it again."""
    with monkeypatch.context() as patch:
        patch.setitem(layout.STEPS, 2, f"{layout.STEPS[2]}; INSERT INTO nowhere VALUES (1)")
        with pytest.raises(JournalError, match="no such table: nowhere"):
            await upgrade(config)
    assert layout_in(config.journal.path) == 1
    assert ("held",) in query(config.journal.path, "SELECT state FROM parked")
    await upgrade(config)
    assert layout_in(config.journal.path) == layout.LAYOUT


async def test_an_older_journal_is_shown_before_the_upgrade(config: Config) -> None:
    """By the check as a warning; a search says what to do. Neither changes anything."""
    path = config.journal.path
    before = path.read_bytes()
    assert check_journal(config) == (
        f"{path} is of layout 1; `gateway run` brings it to layout 8, after a copy of it to journal.db.before-8"
    )
    with pytest.raises(JournalError) as refused:
        open_reader(config)
    assert str(refused.value) == f"{path}: is of layout 1; run `gateway run` once to bring it to layout 8"
    assert path.read_bytes() == before
    await upgrade(config)
    assert check_journal(config) is None


async def test_a_newer_journal_is_refused(tmp_path: Path) -> None:
    """By whatever opens it, with what to do."""
    config = config_of(tmp_path)
    async with opened(config) as journal:
        await take(journal, "crm")
        await fill(journal, 1)
    with closing(apsw.Connection(str(config.journal.path))) as later:
        later.pragma("user_version", 9)
    sentence = (
        f"{config.journal.path}: was written by a newer version of the gateway (layout 9); this one knows up to 8: "
        "install that version"
    )
    before = config.journal.path.read_bytes()
    for attempt in (open_reader, check_journal):
        with pytest.raises(JournalError) as refused:
            attempt(config)
        assert str(refused.value) == sentence
    with pytest.raises(JournalError) as refused:
        await upgrade(config)
    assert str(refused.value) == sentence
    assert config.journal.path.read_bytes() == before


def test_an_older_journal_is_copied_when_it_is_opened_to_write(config: Config) -> None:
    """The copy is the journal as it was."""
    open_writer(config.journal.path).close()
    assert layout_in(config.journal.path) == layout.LAYOUT
    assert layout_in(config.journal.path.with_name("journal.db.before-8")) == 1
