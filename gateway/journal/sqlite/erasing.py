"""Erases events with all that is kept of them, in steps, and then whatever copies the files may still have.

Events are found by reading all of them: the search index may lag, and does not have what is damaged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import apsw
import msgspec

from gateway.journal.erasing import Erased, names_in
from gateway.journal.interface import Filter
from gateway.journal.sqlite.checksum import SEAL, SOUND
from gateway.journal.sqlite.connection import rows
from gateway.journal.sqlite.operations import ERASED, count_erased
from gateway.journal.sqlite.queries import where
from gateway.journal.sqlite.search_file import part_of

if TYPE_CHECKING:
    from gateway.journal.sqlite.indexer import Indexer
    from gateway.journal.sqlite.operator import SqliteOperator
    from gateway.journal.sqlite.tail import Tail
    from gateway.journal.sqlite.writer import Writer

WINDOW: Final = 20_000
"""Positions that one statement reads: a long read would keep the write-ahead log from being restarted."""
STEP: Final = 500
"""Events or records that one commit erases, at most."""
_PART: Final = "index part "
_OF_EVENTS: Final = ("parked", "retried", "suspects", "attempts", "events")


async def forget(
    journal: SqliteOperator,
    which: Filter,
    number: int | None,
    now: float,
    tail: Tail,
    indexer: Indexer,
    writer: Writer,
) -> Erased:
    """See `Operator.forget`; `now` is seconds since 1970."""
    until = writer.last_seq
    after, found = await journal.query(first_position) - 1, list[int]()
    while after < until:
        upto = min(until, after + WINDOW)
        found += await journal.query(find, which, after, upto)
        after = upto
    events = records = 0
    for start in range(0, len(found), STEP):
        events += await journal.operate(erase, found[start : start + STEP], number)
    while count := await journal.operate(erase_records, which, number):
        records += count
    await journal.operate(end_replays, which, now)
    await journal.operate(end_operations, which, now, number)
    await journal.operate(note, which, events, records, now)
    tail.forget(found)
    await asyncio.to_thread(indexer.forget, await journal.query(parts_to_drop))
    await journal.operate(parts_dropped)
    if number is None:  # else the end of the operation does that, once its own filter is cleared
        await writer.wipe()
    return Erased(events, records, found)


def first_position(connection: apsw.Connection) -> int:
    """The position of the oldest event, or 1."""
    return int(rows(connection, "SELECT min(seq) FROM events")[0][0] or 1)


def find(connection: apsw.Connection, which: Filter, after: int, until: int) -> list[int]:
    """The positions of matching events between two positions, `until` included."""
    condition, values = where(which)
    sql = f"SELECT seq FROM events NOT INDEXED WHERE seq > ? AND seq <= ? AND {condition} ORDER BY seq"
    return [seq for (seq,) in rows(connection, sql, (after, until, *values))]


def erase(connection: apsw.Connection, seqs: Sequence[int], number: int | None = None) -> int:
    """Erase the events at these positions, at most `STEP`, with their dead letters, retries, attempts and suspicions.
    Returns how many events there were."""
    [(newest,)] = connection.execute("SELECT coalesce(max(seq), 0) FROM events")
    if newest in seqs:  # its position must not be given to another event
        last = "max(?, coalesce((SELECT value FROM meta WHERE key = 'erased up to'), 0))"
        connection.execute(f"INSERT OR REPLACE INTO meta VALUES ('erased up to', {last})", (newest,))
    parts = [(part, part) for part in {part_of(seq) for seq in seqs}]
    connection.executemany(f"INSERT OR REPLACE INTO meta VALUES ('{_PART}' || ?, ?)", parts)
    for table in _OF_EVENTS:
        connection.execute(f"DELETE FROM {table} WHERE seq IN ({','.join('?' * len(seqs))})", seqs)
    erased = connection.changes()
    if number is not None:
        count_erased(connection, number, erased, 0)
    return erased


def parts_to_drop(connection: apsw.Connection) -> list[int]:
    """The parts of the search index that have erased events, also of an erasure that was broken off."""
    return [part for (part,) in rows(connection, f"SELECT value FROM meta WHERE key LIKE '{_PART}%'")]


def parts_dropped(connection: apsw.Connection) -> None:
    """The search index has nothing of them any more."""
    connection.execute(f"DELETE FROM meta WHERE key LIKE '{_PART}%'")


def erase_records(connection: apsw.Connection, which: Filter, number: int | None = None) -> int:
    """Erase at most `STEP` records of requests about `which.customer`; returns how many."""
    if which.customer is None:
        return 0
    found = "SELECT number FROM value_records WHERE customer_uid = ?1 AND organisation = coalesce(?2, organisation)"
    connection.execute(
        f"DELETE FROM value_records WHERE number IN ({found} LIMIT ?3)", (which.customer, which.organisation, STEP)
    )
    erased = connection.changes()
    if number is not None:
        count_erased(connection, number, 0, erased)
    return erased


def end_replays(connection: apsw.Connection, which: Filter, now: float) -> None:
    """End the replays that were asked for by this customer, address or conversation, and forget that they were."""
    for number, text in rows(connection, f"SELECT number, filter FROM replays WHERE {SOUND['replays']}"):
        asked = msgspec.json.decode(text, type=Filter)
        if not _names_them(asked, which):
            continue
        kept = msgspec.json.encode(Filter(plugin=asked.plugin, ids=("erased",))).decode()
        connection.execute(
            "UPDATE replays SET filter = ?, position = until, finished_at = coalesce(finished_at, ?) WHERE number = ?",
            (kept, now, number),
        )
        connection.execute(f"{SEAL['replays']} WHERE number = ?", (number,))


def _names_them(asked: Filter, which: Filter) -> bool:
    """Whether a filter that an operator gave names whom the erasure is about."""
    elsewhere = None not in (asked.organisation, which.organisation) and asked.organisation != which.organisation
    return bool(not elsewhere and names_in(asked) & names_in(which))


def end_operations(connection: apsw.Connection, which: Filter, now: float, number: int | None) -> None:
    """The same for all operations but the one with this number, which is this erasure."""
    for other, text in rows(connection, "SELECT number, filter FROM operations"):
        if other != number and _names_them(msgspec.json.decode(text, type=Filter), which):
            kept = msgspec.json.encode(ERASED).decode()
            ended = "iif(state = 'running', 'finished', state), ended_at = coalesce(ended_at, ?)"
            connection.execute(
                f"UPDATE operations SET filter = ?, state = {ended} WHERE number = ?", (kept, now, other)
            )
            connection.execute(f"{SEAL['operations']} WHERE number = ?", (other,))


def note(connection: apsw.Connection, which: Filter, events: int, records: int, now: float) -> None:
    """Keep when how much was erased by which kind of selector: nothing of the selector itself."""
    kind = "+".join(kind for kind, _ in sorted(names_in(which)))
    told = msgspec.json.encode({"at": now, "by": kind, "events": events, "value_records": records}).decode()
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('erasure ' || ?, ?)", (f"{now:.6f}", told))
