"""The records of custom value requests: who asked for which fields and how it went, never the values."""

from __future__ import annotations

from typing import Any, Final

import apsw
import msgspec

from gateway.journal.append import moment
from gateway.journal.search import ValueRecord, ValueRecordFilter
from gateway.journal.sqlite.filters import micros

STEP: Final = 500
COLUMNS: Final = "number, at, organisation, customer_uid, address, fields, status"


def keep(connection: apsw.Connection, record: ValueRecord) -> None:
    """Keep one record."""
    fields = msgspec.json.encode(record.fields).decode()
    connection.execute(
        f"INSERT INTO value_records ({COLUMNS}) VALUES (NULL, ?, ?, ?, ?, ?, ?)",
        (micros(record.at), record.organisation, record.customer_uid, record.address, fields, record.status),
    )


def restore(row: tuple[Any, ...]) -> ValueRecord:
    """A record from a row of `COLUMNS`."""
    _, at, organisation, customer_uid, address, fields, status = row
    return ValueRecord(
        at=moment(at),
        organisation=organisation,
        customer_uid=customer_uid,
        address=address,
        fields=msgspec.json.decode(fields),
        status=status,
    )


def expire(connection: apsw.Connection, before: int) -> bool:
    """Drop at most `STEP` records older than `before` (microseconds since 1970); returns whether there may be more."""
    oldest = "SELECT number FROM value_records WHERE at < ? ORDER BY at LIMIT ?"
    connection.execute(f"DELETE FROM value_records WHERE number IN ({oldest})", (before, STEP))
    return connection.changes() == STEP


def where(which: ValueRecordFilter) -> tuple[str, tuple[Any, ...]]:
    """A condition on `value_records`, and its values."""
    fields = msgspec.json.encode(which.fields).decode() if which.fields else None
    conditions = {
        "organisation = ?": which.organisation,
        "customer_uid = ?": which.customer_uid,
        "EXISTS (SELECT 1 FROM json_each(fields) WHERE key IN (SELECT value FROM json_each(?)))": fields,
        "status = ?": which.status,
        "at >= ?": which.since and micros(which.since),
        "at < ?": which.until and micros(which.until),
    }
    given = {condition: value for condition, value in conditions.items() if value is not None}
    return " AND ".join(("1", *given)), tuple(given.values())
