"""sql_values finds the customer who was asked for, and no other: statements that do not are refused."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asking import ask, problem_of, running, values_of
from databases import KINDS, Database, open_database
from running import read_config

from gateway.config.convert import ConfigError
from gateway.plugin_host.call import PluginFault
from gateway.plugin_host.load import load_plugins

URLS = {
    "sqlite": "sqlite:///customers.db",
    "mysql": "mysql://gateway@127.0.0.1/crm",
    "mariadb": "mariadb://gateway@127.0.0.1/crm",
    "postgresql": "postgresql://gateway@127.0.0.1/crm",
}
MAY_WRITE = "its role may write; give the gateway one that may only SELECT"
UIDS = ("123456", "7", "A1b2", "00042")


def config(url: str, sql: str) -> str:
    return f"[plugins.sql_values]\nurl = {url}\n[[plugins.sql_values.queries]]\nsql = '''{sql}'''\n"


def refusal(directory: Path, kind: str, sql: str) -> str | None:
    """The sentence with which the config is refused for this statement, or None where it is accepted."""
    try:
        load_plugins(read_config(directory, config(f'"{URLS[kind]}"', sql)))
    except ConfigError as error:
        [problem] = error.problems
        assert problem.path == "plugins.sql_values.queries[0].sql"
        return problem.message
    return None


async def check(directory: Path, database: Database, condition: str) -> Any:
    """What the plugin's `check` returns for a statement with this condition, or the sentence it raises."""
    sql = f"SELECT name FROM {database.table} AS c WHERE {condition}"
    [plugin] = load_plugins(read_config(directory, config(database.config, sql)))
    try:
        found = await plugin.caller.call(plugin.hooks["check"], timeout=30)
    except PluginFault as fault:
        assert isinstance(fault.cause, ExceptionGroup)
        return "; ".join(map(str, fault.cause.exceptions)).replace(database.table, "customers")
    return [sentence.replace(database.table, "customers") for sentence in found if sentence != MAY_WRITE]


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Customers of each kind of database, by a text and, where that is a number, by a number."""
    with open_database(request.param, tmp_path) as database:
        database.execute(f"CREATE TABLE {database.table} (uid VARCHAR(50), id INTEGER, name VARCHAR(100))")
        for number, uid in enumerate(UIDS):
            digits = uid if uid.isdecimal() and uid[0] != "0" else 1_000_000 + number
            database.execute(f"INSERT INTO {database.table} VALUES ('{uid}', {digits}, 'of {uid}')")
        yield database


@pytest.mark.parametrize(
    ("kind", "condition", "safe"),
    [
        ("sqlite", "id = CAST(:customer_uid AS integer)", "CAST(id AS TEXT) = :customer_uid"),
        ("sqlite", "c.id = cast(trim(:customer_uid) as Numeric)", "CAST(id AS TEXT) = :customer_uid"),
        ("sqlite", "id = :customer_uid + 0", "CAST(id AS TEXT) = :customer_uid"),
        ("sqlite", "id = 1 * :customer_uid", "CAST(column AS TEXT) = :customer_uid"),
        ("mysql", "id = CAST(:customer_uid AS SIGNED)", "id = :customer_uid AND BINARY id = :customer_uid"),
        ("mariadb", "id = CONVERT(:customer_uid, UNSIGNED)", "id = :customer_uid AND BINARY id = :customer_uid"),
    ],
)
def test_a_parameter_is_not_cast_to_a_number_where_that_is_loose(
    tmp_path: Path, kind: str, condition: str, safe: str
) -> None:
    """SQLite and MariaDB make a number of any text; the sentence has what to write instead."""
    expected = f"a cast of :customer_uid to a number finds 123 for '0123' and ' 123', too; write {safe}"
    assert refusal(tmp_path, kind, f"SELECT name FROM customers c WHERE {condition}") == expected


@pytest.mark.parametrize("kind", URLS)
@pytest.mark.parametrize(
    ("operator", "operand"),
    [
        ("LIKE", ":customer_uid"),
        ("NOT LIKE", "(:customer_uid)"),
        ("LIKE", "'%' || :customer_uid"),
        ("LIKE", "concat('%', :customer_uid) ESCAPE '!'"),
        ("ILIKE", "lower(:customer_uid)"),
        ("GLOB", ":customer_uid"),
        ("REGEXP", ":customer_uid"),
        ("RLIKE", ":customer_uid"),
        ("SIMILAR TO", ":customer_uid"),
        ("~*", ":customer_uid"),
    ],
)
def test_a_parameter_is_not_a_pattern(tmp_path: Path, kind: str, operator: str, operand: str) -> None:
    """A customer who types "%56" would find the one whose number ends so."""
    name = operator.replace("NOT ", "").replace(" TO", "")
    expected = f":customer_uid after {name} is a pattern, which may find other customers; write = :customer_uid"
    sql = f"SELECT name FROM customers WHERE uid {operator} {operand} AND name <> ''"
    assert refusal(tmp_path, kind, sql) == expected


@pytest.mark.parametrize("kind", URLS)
@pytest.mark.parametrize(
    "condition",
    [
        "uid = :customer_uid",
        "CAST(id AS CHAR(20)) = :customer_uid",
        "uid = CAST(:customer_uid AS CHAR(20))",
        "name LIKE '%+%' AND uid = :customer_uid",
        "uid LIKE replace(:customer_uid, '%', '')",
        ":customer_uid LIKE uid",
        "uid = :customer_uid -- + 0, LIKE :address_digits",
        "uid = '::integer LIKE' || :customer_uid",
        "(SELECT count(*) * 2 FROM customers) = 4 AND uid = :customer_uid",
    ],
)
def test_other_statements_are_accepted(tmp_path: Path, kind: str, condition: str) -> None:
    """Texts, comments and casts to texts are no reason to refuse a statement."""
    assert refusal(tmp_path, kind, f"SELECT name FROM customers WHERE {condition}") is None


LOOSE = ["id = :customer_uid", "c.id = :customer_uid", ":customer_uid = c.id", "id IN (:organisation, :customer_uid)"]


@pytest.mark.parametrize("condition", [*LOOSE, "c.id BETWEEN :customer_uid AND :customer_uid"])
@pytest.mark.parametrize("kind", ["sqlite", "mariadb"])
async def test_check_refuses_a_number_column_compared_with_a_text(tmp_path: Path, kind: str, condition: str) -> None:
    """SQLite and MariaDB find 123 for '0123', and MariaDB for '123abc', too."""
    with open_database(kind, tmp_path) as database:
        database.execute(f"CREATE TABLE {database.table} (uid VARCHAR(50), id INTEGER, name VARCHAR(100))")
        found = await check(tmp_path, database, condition)
        safe = {
            "sqlite": "CAST(id AS TEXT) = :customer_uid",
            "mariadb": "id = :customer_uid AND BINARY id = :customer_uid",
        }
        expected = f"queries[0].sql: customers.id is a number: '0123' finds 123, too; write {safe[kind]}"
        assert expected in found


async def test_check_follows_the_names_of_several_tables(tmp_path: Path) -> None:
    """A column belongs to the table that its alias names."""
    with open_database("sqlite", tmp_path) as database:
        database.execute(f"CREATE TABLE {database.table} (uid TEXT, name TEXT)")
        database.execute("CREATE TABLE orders (uid INTEGER, customer TEXT)")
        join = 'JOIN orders "o" ON o.customer = c.name WHERE'
        for condition, refused in (("c.uid", False), ("o.uid", True), ("o.customer", False)):
            sql = f"SELECT o.customer AS name FROM main.{database.table} AS c {join} {condition} = :customer_uid"
            [plugin] = load_plugins(read_config(tmp_path, config(database.config, sql)))
            try:
                await plugin.caller.call(plugin.hooks["check"], timeout=30)
                found = ""
            except PluginFault as fault:
                assert isinstance(fault.cause, ExceptionGroup)
                found = str(fault.cause.exceptions)
            assert ("orders.uid is a number" in found) == refused, condition


async def test_check_warns_of_what_a_database_finds_for_other_texts(tmp_path: Path) -> None:
    """PostgreSQL casts '0123' to 123; MariaDB takes 'a1' for 'A1' unless the collation is binary."""
    with open_database("postgresql", tmp_path) as database:
        database.execute(f"CREATE TABLE {database.table} (uid VARCHAR(50), id INTEGER, name VARCHAR(100))")
        warning = (
            "queries[0].sql: a cast of :customer_uid to a number finds 123 for '0123' and ' 123', too; "
            "write CAST(id AS text) = :customer_uid"
        )
        assert await check(tmp_path, database, "id = CAST(:customer_uid AS integer)") == [warning]
        assert await check(tmp_path, database, "id = :customer_uid::int") == [warning]
        assert await check(tmp_path, database, "id::text = :customer_uid") == []
    with open_database("mariadb", tmp_path) as database:
        database.execute(
            f"CREATE TABLE {database.table} (uid VARCHAR(50) COLLATE utf8mb4_general_ci, "
            "code VARCHAR(50) COLLATE utf8mb4_bin, name VARCHAR(100))"
        )
        assert await check(tmp_path, database, "uid = :customer_uid") == [
            "queries[0].sql: customers.uid is utf8mb4_general_ci: 'a1' finds 'A1', too; "
            "write uid = :customer_uid AND BINARY uid = :customer_uid"
        ]
        for exact in ("code = :customer_uid", "uid = :customer_uid COLLATE utf8mb4_bin", "uid = :address_digits"):
            assert await check(tmp_path, database, exact) == []


EXACT = {
    "sqlite": ["uid = :customer_uid", "CAST(id AS TEXT) = :customer_uid"],
    "postgresql": ["uid = :customer_uid", "id::text = :customer_uid", "CAST(id AS text) = :customer_uid"],
    "mariadb": [f"{column} = :customer_uid AND BINARY {column} = :customer_uid" for column in ("uid", "id")],
}


def mistyped() -> list[str]:
    """At least 200 texts that are nearly a customer's UID."""
    blanks = [" ", "\u00a0", "\u2003", "\u2009", "\u200b", "\u200d", "\u3000", "\ufeff"]
    found: list[str] = ["%", "_", "*", "?", ".*", "[0-9]*", "0", "abc", "' OR 1=1 -- ", "NULL", "true", "1e5", "inf"]
    for uid in UIDS:
        for blank in blanks:
            found += [blank + uid, uid + blank, uid[:1] + blank + uid[1:]]
        found += [uid[:1] + mark + uid[1:] for mark in "-.,/_'’·:;+"] + [f"+{uid}", f"-{uid}", f"'{uid}'", f'"{uid}"']
        found += [f"{uid[:-1]}%", f"%{uid[1:]}", f"{uid[:-1]}_", f"{uid[:-1]}?", f"{uid}*", f"^{uid}$", f"[{uid[0]}]"]
        found += [
            "0" + uid,
            "00" + uid,
            uid.lstrip("0") + "0",
            f"{uid}.0",
            f"{uid}e0",
            f"{uid}abc",
            f"{uid} OR 1",
            f"x{uid}",
        ]
        found += [
            uid.swapcase(),
            uid.replace("1", "l"),
            uid.replace("0", "O"),
            uid.lstrip("0"),
            uid[::-1],
            uid * 2,
            uid + "\u0301",
        ]
        for zero in ("\u0660", "\u06f0", "\u0966", "\u09e6", "\u0e50", "\uff10", "\U0001d7ce", "\U0001d7d8"):
            assert unicodedata.digit(zero) == 0
            found.append("".join(chr(ord(zero) + int(c)) if c in "0123456789" else c for c in uid))
        found.append(uid.translate(dict(zip(map(ord, "0123456789"), "⁰¹²³⁴⁵⁶⁷⁸⁹", strict=True))))
    return [text for text in dict.fromkeys(found) if text not in UIDS and text.strip() and text.lower() != "null"]


async def test_a_mistyped_uid_finds_no_customer(database: Database, tmp_path: Path) -> None:
    """Whatever is wrong with it; the exact one finds its customer. With every form that `check` accepts without a
    warning."""
    texts = mistyped()
    assert len(texts) >= 200
    for condition in EXACT[database.kind]:
        assert await check(tmp_path, database, condition) == []
        known = [uid for uid in UIDS if not re.search(r"\bid\b", condition) or (uid.isdecimal() and uid[0] != "0")]
        sql = f"SELECT name FROM {database.table} WHERE {condition}"
        async with running(tmp_path, config(database.config, sql)) as (values, _):
            for uid in known:
                assert values_of(await ask(values, "name", uid=uid)) == {"name": f"of {uid}"}
            for text in texts:
                status, fields = problem_of(await ask(values, "name", uid=text))
                assert (status, fields) in ((404, ["name"]), (502, ["name"])), (condition, text)
