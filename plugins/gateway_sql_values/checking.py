"""`gateway check`: whether each statement works on the database, finds only the exact customer, and only reads."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from gateway_databases import DatabaseFailed, file_of
from sqlalchemy import TextClause, text

from gateway_sql_values.comparisons import cast_faults, comparisons, exact, is_number, tables, tokens_of
from gateway_sql_values.engine import Database
from gateway_sql_values.statement import Statement

_TIMEOUT: Final = 5.0
"""Seconds for all of it."""
_MAY_WRITE: Final = text("""
    SELECT rolsuper OR EXISTS (
        SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
          AND has_table_privilege(c.oid, 'INSERT,UPDATE,DELETE,TRUNCATE'))
    FROM pg_roles WHERE rolname = current_user
""")
_GRANTED: Final = text("""
    SELECT 1 FROM (
        SELECT grantee, privilege_type FROM information_schema.user_privileges
        UNION SELECT grantee, privilege_type FROM information_schema.schema_privileges
        UNION SELECT grantee, privilege_type FROM information_schema.table_privileges) AS granted
    WHERE grantee = CONCAT(CHAR(39), REPLACE(CURRENT_USER(), '@', CONCAT(CHAR(39), '@', CHAR(39))), CHAR(39))
      AND privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'CREATE', 'DROP', 'ALTER')
""")
_COLUMN_OF_MYSQL: Final = text("""
    SELECT data_type, COALESCE(collation_name, '') FROM information_schema.columns
    WHERE table_schema = COALESCE(NULLIF(:schema, ''), DATABASE()) AND table_name = :table AND column_name = :column
""")
_COLUMN: Final = {
    "sqlite": text("""
        SELECT type, '' FROM pragma_table_xinfo(:table) WHERE lower(name) = lower(:column)
        UNION ALL SELECT 'INTEGER', '' WHERE lower(:column) IN ('rowid', 'oid', '_rowid_')
    """),
    "mysql": _COLUMN_OF_MYSQL,
    "mariadb": _COLUMN_OF_MYSQL,
}
"""Type and collation of a column, on the databases that compare numbers with texts."""
_WARNING: Final = "its role may write; give the gateway one that may only SELECT"


async def look(database: Database, queries: Sequence[tuple[Statement, tuple[str, ...] | None]]) -> list[str]:
    """Warnings; `ValueError` with a sentence, or a group of them, for everything that does not work."""
    _file_is_there(database)
    faults: list[str] = []
    warnings: list[str] = []
    try:
        async with asyncio.timeout(_TIMEOUT):
            await _first(database, text("SELECT 1" if database.kind != "oracle" else "SELECT 1 FROM dual"))
            for index, (sql, fields) in enumerate(queries):
                faults += await _faults(database, index, sql, fields)
                for fault, sentence in await _loose(database, sql):
                    (faults if fault else warnings).append(f"queries[{index}].sql: {sentence}")
            if faults:
                raise ExceptionGroup("faults of the statements", [ValueError(fault) for fault in faults])
            return [*warnings, *([_WARNING] if await _may_write(database) else [])]
    except TimeoutError:
        raise ValueError(f"the database did not answer within {_TIMEOUT:g} s") from None
    except DatabaseFailed as error:
        raise ValueError(f"the database cannot be asked: {error.told}") from None


def _file_is_there(database: Database) -> None:
    path = file_of(database.engine.url)
    if path is not None and not path.is_file():
        raise ValueError(f"the database file {path} does not exist")


async def _faults(database: Database, index: int, sql: Statement, fields: tuple[str, ...] | None) -> list[str]:
    """Runs the statement with NULL for every parameter, which finds no customer."""
    try:
        names, rows = await database.fetch(database.prepare(sql.clause), dict.fromkeys(sql.parameters))
    except DatabaseFailed as error:
        return [f"queries[{index}].sql: {error.told}"]
    found = []
    if len(set(names)) < len(names):
        found.append(f"queries[{index}].sql: gives two columns of one name: {', '.join(names)}")
    if len(rows) > 1:
        found.append(f"queries[{index}].sql: gives several rows for every customer")
    missing = [field for field in fields or () if field not in names]
    if missing:
        near = " (upper case needs quotes in the statement)" if _differ_by_case(missing, names) else ""
        found.append(f"queries[{index}].fields: no column {', '.join(missing)}, there are {', '.join(names)}{near}")
    return found


def _differ_by_case(missing: list[str], names: list[str]) -> bool:
    return not {name.lower() for name in missing}.isdisjoint(name.lower() for name in names)


async def _loose(database: Database, sql: Statement) -> list[tuple[bool, str]]:
    """Sentences about comparisons that find other customers, too, each with whether it is a fault."""
    kind, places = database.kind, tables(sql.tokens)
    if kind not in _COLUMN:
        return [(False, sentence) for sentence in cast_faults(sql.tokens, kind)]
    found = []
    for table, column, parameter in sorted(comparisons(sql.tokens)):
        for schema, name in [places[table.lower()]] if table.lower() in places else places.values():
            values = {"schema": schema, "table": name, "column": column}
            rows = (await database.fetch(database.prepare(_COLUMN[kind]), values)).rows
            declared, collation = rows[0] if rows else ("", "")
            safe = exact(column, parameter, kind)
            if is_number(tokens_of(declared), kind):
                found.append((True, f"{name}.{column} is a number: '0123' finds 123, too; write {safe}"))
            elif collation and not collation.endswith("_bin") and parameter != ":address_digits":
                found.append((False, f"{name}.{column} is {collation}: 'a1' finds 'A1', too; write {safe}"))
    return found


async def _may_write(database: Database) -> bool:
    """On PostgreSQL and MySQL only: a SQLite file is opened read-only, and other databases have no short query."""
    if database.kind == "postgresql":
        return bool(await _first(database, _MAY_WRITE))
    return database.kind in ("mysql", "mariadb") and await _first(database, _GRANTED) is not None


async def _first(database: Database, clause: TextClause) -> Any:
    rows = (await database.fetch(database.prepare(clause), {})).rows
    return rows[0][0] if rows else None
