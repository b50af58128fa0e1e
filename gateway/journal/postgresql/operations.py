"""Operations in PostgreSQL: what operators asked for, with its progress. The functions do what the methods of
`Operator` state, each within one transaction; what can match millions of rows is changed in steps.

A step locks the row of its operation first. So it does not matter which gateway takes it, or whether two do.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway.journal.interface import Filter, JournalError, Replay
from gateway.journal.operator import CLEARED, KEPT_OPERATIONS, Kind, PluginAnswers, StoredOperation
from gateway.journal.postgresql.claims import tell_gateways
from gateway.journal.postgresql.columns import storable
from gateway.journal.postgresql.letters import PAGE, Letter, page_of
from gateway.journal.postgresql.queries import left_to_check, where
from gateway.journal.postgresql.retries import discard, retry

if TYPE_CHECKING:
    from gateway.journal.postgresql.connection import DatabaseConnection

ERASED: Final = Filter(ids=CLEARED)
"""What is kept of the filter of an erasure."""
_ERASED_TEXT: Final = msgspec.json.encode(ERASED).decode()
_KEPT_FILTER: Final = f"CASE WHEN kind = 'forget' THEN '{_ERASED_TEXT}' ELSE filter END"
_LEFT: Final = "(SELECT count(*) FROM retried t WHERE t.operation = o.number)"
_REPLAYS: Final = (
    "LEFT JOIN LATERAL (SELECT count(*) AS shards, sum(done) AS done, max(finished_at) AS finished_at,"
    " coalesce(bool_and(finished_at IS NOT NULL), true) AS over FROM replays WHERE number = o.number) r"
    " ON o.kind = 'replay'"
)
_SELECT: Final = (
    "SELECT o.number, o.kind, o.filter, o.in_order, o.begun_at, o.matched, o.value_records, o.told, o.error,"
    " CASE WHEN o.state = 'running' AND r.over THEN 'finished' ELSE o.state END AS state,"
    " coalesce(o.ended_at, r.finished_at) AS ended_at,"
    f" coalesce(r.done, o.done)::bigint AS done, {_LEFT} AS missing FROM operations o {_REPLAYS}"
)


async def newest(connection: DatabaseConnection) -> int:
    """The position of the newest event."""
    return int(await connection.fetchval("SELECT seq FROM head"))


async def last(connection: DatabaseConnection) -> int:
    """The number of the newest operation; 0 where there is none."""
    return int(await connection.fetchval("SELECT coalesce(max(number), 0) FROM operations"))


async def shards_of(connection: DatabaseConnection, plugin: str) -> int:
    """How many shards a plugin has, which does not change within this transaction; 1 where it has not begun yet."""
    return int(await connection.fetchval("SELECT shards FROM plugins WHERE plugin = $1 FOR SHARE", plugin) or 1)


async def count(connection: DatabaseConnection, which: Filter, until: int, shards: int = 1) -> dict[int, int]:
    """How many events up to a position match, for each shard."""
    condition, values = where(which, 4)
    source = f"FROM events WHERE events.seq > $1 AND events.seq <= $2 AND {condition}"
    shard = "(events.bucket % $3::int)::int AS shard"
    has_words = left_to_check(which)
    found = dict.fromkeys(range(shards), 0)
    if has_words is None:
        rows = await connection.fetch(
            f"SELECT {shard}, count(*) AS number {source} GROUP BY 1", 0, until, shards, *values
        )
        return found | {row["shard"]: row["number"] for row in rows}
    sql = f"SELECT events.seq, {shard}, events.raw {source} ORDER BY events.seq LIMIT {PAGE}"
    after = 0
    while rows := await connection.fetch(sql, after, until, shards, *values):
        for row in rows:
            found[row["shard"]] += has_words(row["raw"])
        after = rows[-1]["seq"]
    return found


async def begin(
    connection: DatabaseConnection,
    kind: Kind,
    which: Filter,
    in_order: bool,
    until: int,
    matched: Mapping[int, int],
    now: float,
) -> int:
    """Keep a new operation; returns its number. `matched` is for each shard, and so are the rows of a replay, which is
    of the events up to `until`."""
    text = msgspec.json.encode(which).decode()
    number = int(
        await connection.fetchval(
            "INSERT INTO operations (kind, filter, in_order, state, begun_at, at_plugin, at_seq, matched, done,"
            " value_records, told) VALUES ($1, $2, $3, 'running', $4, '', 0, $5, 0, 0, '{}') RETURNING number",
            kind, text, in_order, now, sum(matched.values()),
        )
    )  # fmt: skip
    if kind == "replay":
        if which.plugin is not None and (shards := await shards_of(connection, which.plugin)) != len(matched):
            matched = {shard: 0 if shard else sum(matched.values()) for shard in range(shards)}  # it has changed
        await connection.executemany(
            "INSERT INTO replays (number, shard, plugin, filter, position, until, matched, done)"
            " VALUES ($1, $2, $3, $4, 0, $5, $6, 0)",
            [(number, shard, which.plugin, text, until, count) for shard, count in matched.items()],
        )
    await tell_gateways(connection)
    over = (
        f"SELECT o.number FROM operations o {_REPLAYS} WHERE (o.state <> 'running' OR coalesce(r.over, false))"
        f" AND {_LEFT} = 0 ORDER BY o.number DESC OFFSET $1"
    )
    gone = [row["number"] for row in await connection.fetch(over, KEPT_OPERATIONS)]
    if gone:
        for table, column in (("operations", "number"), ("replays", "number"), ("erasures", "operation")):
            await connection.execute(f"DELETE FROM {table} WHERE {column} = ANY($1)", gone)
    return number


async def begin_once(
    connection: DatabaseConnection,
    after: int,
    kind: Kind,
    which: Filter,
    in_order: bool,
    until: int,
    matched: Mapping[int, int],
    now: float,
) -> int:
    """As `begin`, where a `begin` with the same values may have been committed: the number of its operation then, which
    is greater than `after`."""
    # Waits for a commit that is still under way. The change has this commit wait for the standby, too.
    await connection.execute("LOCK TABLE operations IN SHARE ROW EXCLUSIVE MODE")
    number = await connection.fetchval(
        "UPDATE operations SET begun_at = begun_at WHERE number > $1 AND kind = $2 AND filter = ANY($3)"
        " AND in_order = $4 AND begun_at = $5 RETURNING number",
        after, kind, [msgspec.json.encode(which).decode(), _ERASED_TEXT], in_order, now,
    )  # fmt: skip
    if number is not None:
        return int(number)
    return await begin(connection, kind, which, in_order, until, matched, now)


async def advance(
    connection: DatabaseConnection, number: int, plugins: Collection[str] | None, now: float
) -> StoredOperation:
    """See `Operator.advance`."""
    at = await connection.fetchrow("SELECT at_plugin, at_seq FROM operations WHERE number = $1 FOR UPDATE", number)
    operation = await one(connection, number)
    if at is None or operation.state != "running" or operation.kind not in ("retry", "discard"):
        return operation
    page = await page_of(connection, operation.filter, plugins, Letter(at["at_plugin"], at["at_seq"]), lock=True)
    if operation.kind == "discard":
        await discard(connection, page.letters)
    else:
        await retry(connection, number, page.letters, operation.in_order)
    await connection.execute(
        "UPDATE operations SET done = done + $2, at_plugin = $3, at_seq = $4 WHERE number = $1",
        number, len(page.letters), page.last.plugin, page.last.seq,
    )  # fmt: skip
    if not page.more:
        await tell_gateways(connection)
        await end(connection, number, None, now)
    return await one(connection, number)


async def found(connection: DatabaseConnection, number: int) -> StoredOperation | None:
    """See `Operator.operation`."""
    row = await connection.fetchrow(f"{_SELECT} WHERE o.number = $1", number)
    return None if row is None else _operation_of(row)


async def one(connection: DatabaseConnection, number: int) -> StoredOperation:
    """An operation; `JournalError` where it is missing."""
    if (operation := await found(connection, number)) is None:
        raise JournalError(f"the journal has no operation {number}")
    return operation


async def listed(connection: DatabaseConnection, limit: int, running: bool) -> list[StoredOperation]:
    """See `Operator.operations`."""
    unended = f"((o.state = 'running' AND o.kind <> 'replay') OR (o.state = 'cancelled' AND {_LEFT} > 0))"
    condition = f"WHERE {unended}" if running else ""
    rows = await connection.fetch(f"{_SELECT} {condition} ORDER BY o.number DESC LIMIT $1", limit)
    return [_operation_of(row) for row in rows]


def _operation_of(row: Mapping[str, Any]) -> StoredOperation:
    running, matched, done = row["state"] == "running", row["matched"], row["done"]
    return StoredOperation(
        number=row["number"],
        kind=row["kind"],
        filter=msgspec.json.decode(row["filter"], type=Filter),
        in_order=row["in_order"],
        state=row["state"],
        begun_at=row["begun_at"],
        ended_at=None if running else row["ended_at"],
        matched=max(matched, done),
        done=done,
        left=max(0, matched - done) if row["kind"] == "replay" and running else row["missing"],
        value_records=row["value_records"],
        error=row["error"],
        answers=msgspec.json.decode(row["told"], type=PluginAnswers),
    )


async def cancel(connection: DatabaseConnection, number: int, now: float) -> None:
    """See `Operator.cancel`."""
    await connection.execute("SELECT FROM operations WHERE number = $1 FOR UPDATE", number)
    operation = await one(connection, number)
    if operation.state == "running" or (operation.state == "finished" and operation.kind == "retry" and operation.left):
        await connection.execute(
            f"UPDATE operations SET state = 'cancelled', ended_at = $2, filter = {_KEPT_FILTER} WHERE number = $1",
            number, now,
        )  # fmt: skip
        await connection.execute(
            "UPDATE replays SET finished_at = coalesce(finished_at, $2) WHERE number = $1", number, now
        )
        await tell_gateways(connection)


async def count_erased(connection: DatabaseConnection, number: int, events: int, records: int) -> None:
    """An erasure has erased so many more events, and records of custom value requests."""
    await connection.execute(
        "UPDATE operations SET done = done + $2, value_records = value_records + $3 WHERE number = $1",
        number, events, records,
    )  # fmt: skip


async def tell_answers(connection: DatabaseConnection, number: int, answers: PluginAnswers) -> None:
    """See `Operator.tell_answers`."""
    told = msgspec.json.encode(answers).decode()
    await connection.execute("UPDATE operations SET told = $2 WHERE number = $1", number, told)


async def clear(connection: DatabaseConnection, number: int) -> None:
    """See `Operator.clear`."""
    await connection.execute(f"UPDATE operations SET filter = {_KEPT_FILTER} WHERE number = $1", number)


async def end(connection: DatabaseConnection, number: int, error: str | None, now: float) -> None:
    """See `Operator.end`."""
    await connection.execute(
        f"UPDATE operations SET state = $2, error = $3, ended_at = $4, filter = {_KEPT_FILTER} WHERE number = $1",
        number, "finished" if error is None else "failed", storable(error), now,
    )  # fmt: skip


async def replay(connection: DatabaseConnection, number: int) -> Replay:
    """A replay by the number of its operation, over all shards."""
    row = await connection.fetchrow(
        "SELECT plugin, filter, min(position) AS position, max(until) AS until, sum(matched)::bigint AS matched,"
        " sum(done)::bigint AS done FROM replays WHERE number = $1 GROUP BY plugin, filter",
        number,
    )
    if row is None:
        raise JournalError(f"the journal has no replay {number}")
    return Replay(
        number=number,
        plugin=row["plugin"],
        filter=msgspec.json.decode(row["filter"], type=Filter),
        position=row["position"],
        until=row["until"],
        matched=row["matched"],
        done=row["done"],
    )
