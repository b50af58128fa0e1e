"""The record of what custom value requests were given: who asked for which fields, how it went, never the values."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

import apsw
import msgspec

from gateway.journal.interface import GivenRow
from gateway.journal.sqlite.filters import micros
from gateway.journal.sqlite.rows import moment
from gateway.journal.sqlite.schema import rows

STEP: Final = 500
PAGE: Final = 500


class GivenFilter(msgspec.Struct, kw_only=True, frozen=True):
    """Which requests an operator means; everything given must hold. Of `fields` one is enough."""

    organisation: str | None = None
    customer_uid: str | None = None
    fields: tuple[str, ...] = ()
    status: int | None = None
    since: datetime | None = None
    until: datetime | None = None


def note(connection: apsw.Connection, row: GivenRow) -> None:
    """Keep one request's record."""
    connection.execute(
        "INSERT INTO given (at, organisation, customer_uid, address, fields, status) VALUES (?, ?, ?, ?, ?, ?)",
        (
            micros(row.at),
            row.organisation,
            row.customer_uid,
            row.address,
            msgspec.json.encode(row.fields).decode(),
            row.status,
        ),
    )


def forget(connection: apsw.Connection, before: int) -> bool:
    """Drop some of the records older than `before` (microseconds since 1970); returns whether there are more."""
    connection.execute(
        "DELETE FROM given WHERE number IN (SELECT number FROM given WHERE at < ? ORDER BY at LIMIT ?)", (before, STEP)
    )
    return connection.changes() == STEP


def listed(
    connection: apsw.Connection, which: GivenFilter, limit: int | None = None, newest: bool = False
) -> Iterator[GivenRow]:
    """Matching records, oldest first; with `newest` the last `limit` of them, still oldest first."""
    condition, values = _where(which)
    after, left = 0, limit
    if newest and limit is not None:
        [(first,)] = rows(
            connection,
            f"SELECT min(number) FROM (SELECT number FROM given WHERE {condition} ORDER BY number DESC LIMIT ?)",
            (*values, limit),
        )
        after = (first or 1) - 1
    while left is None or left > 0:
        page = rows(
            connection,
            "SELECT number, at, organisation, customer_uid, address, fields, status FROM given"
            f" WHERE number > ? AND {condition} ORDER BY number LIMIT ?",
            (after, *values, PAGE if left is None else min(PAGE, left)),
        )
        if not page:
            return
        for number, at, organisation, customer_uid, address, fields, status in page:
            yield GivenRow(
                at=moment(at),
                organisation=organisation,
                customer_uid=customer_uid,
                address=address,
                fields=msgspec.json.decode(fields),
                status=status,
            )
            after = number
        if left is not None:
            left -= len(page)


def _where(which: GivenFilter) -> tuple[str, tuple[Any, ...]]:
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
