"""Settings of each database's sessions: read-only, with a time limit for statements, and few rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any, Final

MAX_ROWS: Final = 2
"""Rows to fetch: a second one tells that several customers match."""
_STEPS: Final = 10_000  # instructions of SQLite's virtual machine between two looks at the clock
_TRUNCATED: Final = {1265, 1292, 1366, 1411, 1918}


def prepare_session(kind: str, statement_timeout: float, connection: Any, record: Any) -> None:
    """Set up a new DBAPI connection with its pool record; for async drivers this runs in a greenlet."""
    if kind in SESSIONS:
        SESSIONS[kind](statement_timeout, connection, record)


def _sqlite(statement_timeout: float, connection: Any, record: Any) -> None:
    _execute(connection, "PRAGMA query_only = ON", f"PRAGMA busy_timeout = {_milliseconds(statement_timeout)}")
    late = partial(_is_late, record.info)
    connection.set_progress_handler(late, _STEPS)


def _is_late(info: dict[str, Any]) -> bool:
    return time.monotonic() > float(info.get("expires", float("inf")))


def _postgresql(statement_timeout: float, connection: Any, record: Any) -> None:
    _execute(
        connection,
        "SET default_transaction_read_only = on",
        f"SET statement_timeout = {_milliseconds(statement_timeout)}",
    )
    # The driver converts a `real` to a double, which shows digits that the `real` does not have.
    connection.run_async(
        lambda driver: driver.set_type_codec("float4", schema="pg_catalog", encoder=str, decoder=Decimal)
    )


def _mysql(statement_timeout: float, connection: Any, record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("SELECT VERSION()")
    mariadb = "mariadb" in str(cursor.fetchone()[0]).lower()
    cursor.close()
    limit = f"max_statement_time = {statement_timeout:.3f}"
    if not mariadb:
        limit = f"max_execution_time = {_milliseconds(statement_timeout)}"
    _execute(
        connection,
        "SET SESSION TRANSACTION READ ONLY",
        f"SET SESSION {limit}",
        f"SET SESSION sql_select_limit = {MAX_ROWS}",
    )


def _execute(connection: Any, *statements: str) -> None:
    cursor = connection.cursor()
    for statement in statements:
        cursor.execute(statement)
    cursor.close()
    connection.commit()


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


SESSIONS: Final[dict[str, Callable[[float, Any, Any], None]]] = {
    "sqlite": _sqlite,
    "postgresql": _postgresql,
    "mysql": _mysql,
    "mariadb": _mysql,
}
"""The databases with read-only sessions. On others only the role's privileges prevent writes."""


def truncated(kind: str, connection: Any) -> bool:
    """Whether MySQL cut a text to convert it to a number or a date: then `'123abc'` finds customer 123."""
    if kind not in ("mysql", "mariadb"):
        return False
    if getattr(getattr(connection.driver_connection, "_result", None), "warning_count", None) == 0:
        return False  # known without a round trip
    cursor = connection.cursor()
    cursor.execute("SHOW WARNINGS")
    warnings = cursor.fetchall()
    cursor.close()
    return any(int(code) in _TRUNCATED for _, code, _ in warnings)
