"""Nothing of a request ever becomes SQL: 500 payloads as field, customer UID and address, on all three databases."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asking import query, running
from asyncmy.connection import Connection
from databases import KINDS, Database, open_database, statement_log

_SQL = [
    "' OR '1'='1",
    "' OR 1=1 -- ",
    "' OR 1=1 #",
    "' OR 1=1 /*",
    "') OR ('1'='1",
    "1 OR 1=1",
    '" OR ""="',
    "` OR 1=1 -- ",
    "'; DROP TABLE {table}; -- ",
    "'; DELETE FROM {table}; -- ",
    "'; UPDATE {table} SET balance = 0; -- ",
    "'; INSERT INTO {table} VALUES ('x','x','x'); -- ",
    "'; CREATE TABLE {table}_new (a int); -- ",
    "'; ALTER TABLE {table} ADD COLUMN hacked int; -- ",
    "'; COMMIT; SET SESSION TRANSACTION READ WRITE; DELETE FROM {table}; -- ",
    "'; SET default_transaction_read_only = off; DELETE FROM {table}; -- ",
    "'; PRAGMA query_only = OFF; DELETE FROM {table}; -- ",
    "'; ATTACH DATABASE '/tmp/injected.db' AS x; -- ",
    "'; COPY {table} TO PROGRAM 'touch /tmp/injected'; -- ",
    "' UNION SELECT balance FROM {table} -- ",
    "' UNION ALL SELECT uid FROM {table} LIMIT 1 -- ",
    "' AND (SELECT pg_sleep(5)) IS NULL -- ",
    "' AND SLEEP(5) -- ",
    "' AND 1=CAST((SELECT balance FROM {table} LIMIT 1) AS int) -- ",
    "' AND extractvalue(1, concat(0x7e, (SELECT version()))) -- ",
    "' INTO OUTFILE '/tmp/injected' -- ",
    "'||(SELECT balance FROM {table} LIMIT 1)||'",
    "$$; DELETE FROM {table}; $$",
    "\\'; DELETE FROM {table}; -- ",
    "\\\\'; DELETE FROM {table}; -- ",
    "\xbf'; DELETE FROM {table}; -- ",
    "ʼ; DELETE FROM {table}; -- ",
    "＇ OR ＇1＇=＇1",
    "%' OR '%'='",
    "%",
    "_",
    "______",
    "*",
    "balance, uid",
    "balance FROM {table} --",
    "balance) FROM {table}; --",
    "{table}.balance",
    ":customer_uid",
    ":organisation",
    "%(customer_uid)s",
    "%s",
    "$1",
    "$1::VARCHAR",
    "?",
    "{{customer_uid}}",
    "../../etc/passwd",
    "NULL",
    "0x313233343536",
    "CHAR(49,50,51)",
]
_AROUND = ["{}", "{} ", " {}", "1{}", "123456{}", "{}123456", "({})", "A{}", "{}\t", "{}\\"]
STATEMENTS = (
    "SELECT balance FROM {table} WHERE uid = :customer_uid AND :organisation = 'acme'",
    "SELECT balance FROM {table} WHERE phone = :outbound_channel_address",
)


def payloads(table: str) -> list[str]:
    """At least 500, each once, and none of them a customer."""
    bases = [base.format(table=table) for base in _SQL]
    return list(dict.fromkeys(around.format(base) for around, base in itertools.product(_AROUND, bases)))


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with open_database(request.param, tmp_path) as database:
        database.execute(f"CREATE TABLE {database.table} (uid VARCHAR(50), phone VARCHAR(50), balance VARCHAR(50))")
        database.execute(f"INSERT INTO {database.table} VALUES ('123456', '44777', 'canary'), ('7', '44888', 'canary')")
        yield database


def state(database: Database) -> tuple[Any, ...]:
    """The rows, and every table of the schema with its columns."""
    tables = {
        "sqlite": "SELECT name, sql FROM sqlite_master ORDER BY 1",
        "postgresql": "SELECT table_name, column_name FROM information_schema.columns WHERE table_name LIKE '{}%'",
        "mariadb": "SELECT table_name, column_name FROM information_schema.columns WHERE table_name LIKE '{}%'",
    }[database.kind]
    rows = database.execute(f"SELECT uid, phone, balance FROM {database.table} ORDER BY uid")
    return rows, sorted(database.execute(tables.format(database.table)))


async def test_only_configured_statements_reach_the_database(database: Database, tmp_path: Path) -> None:
    """The statement log holds the configured texts and nothing else, every payload was bound, no customer's value came
    out, and rows and schema are as before."""
    sent = payloads(database.table)
    assert len(sent) >= 500
    before = state(database)
    queries = "".join(
        f'[[plugins.sql_values.queries]]\nsql = "{sql.format(table=database.table)}"\n' for sql in STATEMENTS
    )
    text = f'[values]\ndeadline = "30s"\n[plugins.sql_values]\nurl = {database.config}\n{queries}'

    async with running(tmp_path, text) as (values, _):
        with statement_log() as log:
            for batch in _batched(sent, 20):
                questions = [query(payload, "balance", uid=payload, address=payload) for payload in batch]
                questions += [query("balance", uid=None, address=payload) for payload in batch]
                questions += [query(payload) for payload in batch]
                for answer in await asyncio.gather(*(values.answer("acme", question) for question in questions)):
                    assert answer.status in (400, 404)
                    assert b"canary" not in answer.body
        assert all(health.failures == 0 for health in values.health())
    own = [(statement, parameters) for statement, parameters in log if database.table in statement]
    shapes = {statement for statement, _ in own}
    assert len(shapes) == len(STATEMENTS)
    assert len(own) > 800  # a payload with a control character is refused before
    known = {*sent, "acme"}
    bound = {value for _, parameters in own for value in _values(parameters)}
    assert bound <= known
    assert len(bound) > 450
    rest = {statement for statement, _ in log} - shapes
    assert all(statement.split(None, 1)[0].upper() in {"PRAGMA", "SET", "SHOW", "SELECT"} for statement in rest)
    assert state(database) == before


def _values(parameters: Any) -> list[Any]:
    return list(parameters.values()) if isinstance(parameters, dict) else list(parameters)


def _batched(items: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


async def test_what_mariadb_gets_is_one_statement_whatever_was_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its driver writes values into the text itself: on the wire each is one literal, and the rest is as configured."""
    wire: list[str] = []
    query_on_the_wire: Any = Connection.query

    async def note(self: Any, sql: str, *rest: Any, **more: Any) -> Any:
        wire.append(sql)
        return await query_on_the_wire(self, sql, *rest, **more)

    monkeypatch.setattr(Connection, "query", note)
    with open_database("mariadb", tmp_path) as database:
        database.execute(f"CREATE TABLE {database.table} (uid VARCHAR(50), phone VARCHAR(50), balance VARCHAR(50))")
        sql = STATEMENTS[0].format(table=database.table)
        text = f'[plugins.sql_values]\nurl = {database.config}\n[[plugins.sql_values.queries]]\nsql = "{sql}"\n'
        async with running(tmp_path, text) as (values, _):
            wire.clear()
            for payload in payloads(database.table):
                await values.answer("acme", query("balance", uid=payload))
        literal = re.compile(r"'(?:[^'\\]|\\.)*'", re.DOTALL)
        own = [literal.sub("?", statement) for statement in wire if database.table in statement]
        expected = literal.sub("?", re.sub(r":\w+", "?", sql))
        assert len(own) > 400
        assert set(own) == {expected}
