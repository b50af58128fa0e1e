"""`gateway check`: does each statement work on the database as it is now, and could the role write?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from gateway_sql_values.database_url import file_of
from gateway_sql_values.engine import Database
from gateway_sql_values.failures import DatabaseFailed
from gateway_sql_values.statement import Statement

_TIMEOUT: Final = 5.0
"""Seconds for the whole look."""
_MAY_WRITE: Final = Statement("""
    SELECT rolsuper OR EXISTS (
        SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
          AND has_table_privilege(c.oid, 'INSERT,UPDATE,DELETE,TRUNCATE'))
    FROM pg_roles WHERE rolname = current_user
""")
_GRANTED: Final = Statement("""
    SELECT 1 FROM (
        SELECT grantee, privilege_type FROM information_schema.user_privileges
        UNION SELECT grantee, privilege_type FROM information_schema.schema_privileges
        UNION SELECT grantee, privilege_type FROM information_schema.table_privileges) AS granted
    WHERE grantee = CONCAT(CHAR(39), REPLACE(CURRENT_USER(), '@', CONCAT(CHAR(39), '@', CHAR(39))), CHAR(39))
      AND privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'CREATE', 'DROP', 'ALTER')
""")
_WARNING: Final = "its role may write; give the gateway one that may only SELECT"


async def look(database: Database, queries: Sequence[tuple[Statement, tuple[str, ...] | None]]) -> list[str]:
    """Warnings; `ValueError` with a sentence for everything that does not work."""
    _file_is_there(database)
    try:
        async with asyncio.timeout(_TIMEOUT):
            await _first(database, Statement("SELECT 1" if database.kind != "oracle" else "SELECT 1 FROM dual"))
            faults = [fault for index, query in enumerate(queries) for fault in await _faults(database, index, *query)]
            if faults:
                raise ValueError("; ".join(faults))
            return [_WARNING] if await _may_write(database) else []
    except TimeoutError:
        raise ValueError(f"the database did not answer within {_TIMEOUT:g} s") from None
    except DatabaseFailed as error:
        raise ValueError(f"the database cannot be asked: {error.told}") from None


def _file_is_there(database: Database) -> None:
    path = file_of(database.engine.url)
    if path is not None and not path.is_file():
        raise ValueError(f"the database file {path} does not exist")


async def _faults(database: Database, index: int, sql: Statement, fields: tuple[str, ...] | None) -> list[str]:
    """Runs the statement for a customer that is nobody: every parameter is NULL."""
    try:
        names, rows = await database.fetch(database.prepare(sql), dict.fromkeys(sql.parameters))
    except DatabaseFailed as error:
        return [f"queries[{index}].sql: {error.told}"]
    found = []
    if len(set(names)) < len(names):
        found.append(f"queries[{index}].sql gives two columns of one name: {', '.join(names)}")
    if len(rows) > 1:
        found.append(f"queries[{index}].sql gives several rows whoever the customer is")
    missing = [field for field in fields or () if field not in names]
    if missing:
        near = " (upper case needs quotes in the statement)" if _differ_by_case(missing, names) else ""
        found.append(f"queries[{index}].fields: no column {', '.join(missing)}, there are {', '.join(names)}{near}")
    return found


def _differ_by_case(missing: list[str], names: list[str]) -> bool:
    return not {name.lower() for name in missing}.isdisjoint(name.lower() for name in names)


async def _may_write(database: Database) -> bool:
    """PostgreSQL and MySQL only: a SQLite file is opened read-only, and others have no short way to tell."""
    if database.kind == "postgresql":
        return bool(await _first(database, _MAY_WRITE))
    return database.kind in ("mysql", "mariadb") and await _first(database, _GRANTED) is not None


async def _first(database: Database, statement: Statement) -> Any:
    rows = (await database.fetch(database.prepare(statement), {})).rows
    return rows[0][0] if rows else None
