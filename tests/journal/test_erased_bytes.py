"""Erasing, in files: no byte of what was erased is left in any of them."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from pathlib import Path

import apsw
import msgspec
import pytest
from journal_kit import ACME, config_of, message, move_cursor, opened, put, reading, take, until

from gateway.journal import examine_journal
from gateway.journal.interface import DEAD, Filter, JournalError, Parked
from gateway.journal.search import ValueRecord
from gateway.journal.sqlite import connection, indexer
from gateway.journal.sqlite.queries import keep_record
from gateway.journal.sqlite.search_file import SearchFile, search_path

UID, ADDRESS, CONVERSATION, WORD = "uid-77731905", "353867773190", "conversation-77731905", "zanzibar77731905"
OF_THEM = (UID, ADDRESS, CONVERSATION, WORD)


def left_in(folder: Path) -> dict[str, int]:
    """How often each file below a folder has a trace of the customer."""
    found = {}
    for file in folder.rglob("*"):
        if file.is_file() and (count := sum(file.read_bytes().count(trace.encode()) for trace in OF_THEM)):
            found[file.name] = count
    return found


def theirs() -> bytes:
    return message(customerUID=UID, outboundChannelAddress=ADDRESS, conversationId=CONVERSATION, body=f"about {WORD}")


def record(uid: str) -> ValueRecord:
    return ValueRecord(
        at=datetime.now(UTC), organisation=ACME, customer_uid=uid, address=None, fields={"balance": {}}, status=200
    )


def live(connection: apsw.Connection, longest: int = 200) -> None:
    """Requests of many customers, every tenth by the one, and retries that come, change and go: rows move between
    pages. Some rows are of `longest` bytes."""
    chance = random.Random(1)
    parked = "INSERT OR REPLACE INTO parked VALUES (?, ?, 'retrying', 1, 0, ?, 0, ?, 0, 0, 0)"
    for number in range(1, 20_000):
        uid = f"c{chance.randrange(10**6):06d}{UID}" if number % 10 == 0 else f"cust{chance.randrange(10**9):09d}"
        fields: dict[str, dict[str, object]] = {"f" * (longest if number % 8 == 0 else chance.randrange(20, 200)): {}}
        keep_record(connection, msgspec.structs.replace(record(uid), fields=fields))
        if number % 3 == 0:
            plugin, error = chance.choice("abc"), "e" * chance.randrange(10, 300)
            connection.execute(parked, (plugin, number, error, f"{ACME}/{uid}"))
        if number % 9 == 0:
            error = "f" * chance.randrange(10, 400)
            connection.execute("UPDATE parked SET error = ? WHERE seq = ?", (error, number - 3))
        if number % 11 == 0:
            connection.execute("DELETE FROM parked WHERE seq = ?", (number - 33,))
    connection.execute(f"DELETE FROM value_records WHERE customer_uid LIKE '%{UID}'")
    connection.execute(f"DELETE FROM parked WHERE conversation LIKE '%{UID}'")


@pytest.mark.parametrize(
    "which",
    [Filter(customer=UID), Filter(address=f"+{ADDRESS}"), Filter(conversation=CONVERSATION)],
    ids=["customer", "address", "conversation"],
)
async def test_no_byte_is_left_in_any_file(tmp_path: Path, which: Filter) -> None:
    """While the journal is open, and after it was closed: database, log and search index."""
    config = config_of(tmp_path)
    async with opened(config) as journal:
        for number in range(60):
            await put(journal, theirs() if number % 5 == 0 else message())
        journal.record_value_request(record(UID))
        await take(journal, "crm")
        await move_cursor(journal, "crm", 60, [Parked(seq=1, state=DEAD, error=WORD, conversation=f"{ACME}/{UID}")])
        await journal.new_replay(msgspec_with(which, plugin="crm"))
        await until(lambda: search_path(config.journal.path).exists())
        await asyncio.sleep(0)
        assert left_in(tmp_path)
        erased = await journal.forget(which)
        records = 1 if which.customer else 0
        assert (erased.events, erased.value_records) == (12, records)
        if which.customer is None:  # requests name no conversation and no whole address
            await journal.forget(Filter(customer=UID))
        assert left_in(tmp_path) == {}
    assert left_in(tmp_path) == {}
    with reading(config) as reader:
        assert reader.count(Filter()) == 48


def msgspec_with(which: Filter, **changes: str) -> Filter:
    return msgspec.structs.replace(which, **changes)


@pytest.mark.parametrize("longest", [200, 32_000], ids=["small", "more than 64 MiB"])
async def test_rows_that_moved_between_pages_leave_nothing(tmp_path: Path, longest: int) -> None:
    """SQLite leaves copies in unused parts of pages, which overwriting a deleted row does not reach. They are removed
    whatever the size of the journal, while events are received; the journal is sound afterwards."""
    config = config_of(tmp_path)
    async with opened(config) as journal:
        await journal.operate(live, longest)
        assert left_in(tmp_path)
        assert (config.journal.path.stat().st_size > 64 * 2**20) == (longest > 200)
        forgetting = asyncio.create_task(journal.forget(Filter(customer=UID)))
        received = 0
        while not forgetting.done():
            await put(journal, message())
            received += 1
        await forgetting
        assert left_in(tmp_path) == {}
    assert left_in(tmp_path) == {}
    assert received > 2
    with reading(config) as reader:
        assert reader.count(Filter()) == received
    assert examine_journal(config).pages == []


async def test_a_reader_keeps_the_command_waiting_and_then_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies may be left in the log while another process reads; once it has ended, a second attempt removes them."""
    monkeypatch.setattr("gateway.journal.sqlite.writer.SECONDS", 0.5)
    config = config_of(tmp_path)
    async with opened(config) as journal:
        for _ in range(10):
            await put(journal, theirs())
        reader = connection.open_reader_connection(config.journal.path)
        look = reader.execute("SELECT seq FROM events")
        next(look)
        with pytest.raises(Exception, match="another process has been reading"):
            await journal.forget(Filter(customer=UID))
        look.close()
        reader.close()
        assert (await journal.forget(Filter(customer=UID))).events == 0
        assert left_in(tmp_path) == {}


async def test_an_index_that_lags_makes_no_difference(tmp_path: Path) -> None:
    """Events are found by reading them all, also those that the index does not have."""
    config = config_of(tmp_path)
    search_path(config.journal.path).parent.mkdir(parents=True, exist_ok=True)
    search_path(config.journal.path).write_bytes(b"another file, where the index would be")
    async with opened(config) as journal:
        for _ in range(10):
            await put(journal, theirs())
        assert (await journal.forget(Filter(customer=UID))).events == 10
    assert left_in(tmp_path) == {}


async def test_a_note_without_personal_data_stays(tmp_path: Path) -> None:
    """When, how many, and by which kind of selector."""
    config = config_of(tmp_path)
    async with opened(config) as journal:
        await put(journal, theirs())
        await journal.forget(Filter(customer=UID, organisation=ACME))

        def notes(connection: object) -> list[tuple[str, str]]:
            return list(connection.execute("SELECT key, value FROM meta WHERE key LIKE 'erasure %'"))  # type: ignore[attr-defined]

        [(_, note)] = await journal.query(notes)
    assert '"by":"customer","events":1,"value_records":0' in note


async def test_an_index_that_could_not_be_changed_is_cleaned_by_a_second_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal has nothing of the events any more then, but still knows which parts of the index have."""
    config = config_of(tmp_path)
    index = search_path(config.journal.path)
    async with opened(config) as journal:
        for _ in range(10):
            await put(journal, theirs())
        await until(lambda: any(WORD.encode() in file.read_bytes() for file in tmp_path.rglob("*-search*")))

        def refuse(*_: object) -> None:
            raise OSError(30, "Read-only file system")

        with monkeypatch.context() as broken:
            broken.setattr(SearchFile, "drop", refuse)
            broken.setattr(indexer, "remove", refuse)
            with pytest.raises(JournalError, match="not in the search index"):
                await journal.forget(Filter(customer=UID))
        assert (await journal.forget(Filter(customer=UID))).events == 0
        assert index.exists()
        assert left_in(tmp_path) == {}
