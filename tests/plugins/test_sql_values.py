"""sql_values: custom values from a database, on SQLite, PostgreSQL and MariaDB alike."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asking import ask, check, problem_of, running, values_of
from databases import KINDS, SERVERS, Database, open_database, statement_log
from gateway_databases import DatabaseFailed, DatabaseUrl
from gateway_sql_values.engine import Database as SqlDatabase
from gateway_sql_values.engine import Prepared
from running import read_config

from gateway.cli.init import init
from gateway.config.convert import ConfigError
from gateway.plugin_host.load import load_plugins

COLUMNS = "customer_uid VARCHAR(50), phone VARCHAR(50), balance NUMERIC(12,2), due DATE, name VARCHAR(100)"
ROWS: list[dict[str, Any]] = [
    {
        "uid": "123456",
        "phone": "44777777777",
        "balance": "120.50",
        "due": "2026-09-01",
        "name": "Siobhán Ní Ghallchóir",
    },
    {"uid": "123457", "phone": "447700900101", "balance": "0.00", "due": None, "name": "Tom"},
    {"uid": "200001", "phone": "447700900200", "balance": "45.10", "due": "2026-09-20", "name": "Mary"},
    {"uid": "200002", "phone": "447700900200", "balance": "310.00", "due": "2026-10-05", "name": "John"},
]
BY_UID = "SELECT balance, due, name FROM {table} WHERE customer_uid = :customer_uid"
BY_PHONE = "SELECT balance, due, name FROM {table} WHERE phone = :address_digits"


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database of each kind with the customers in its table."""
    with open_database(request.param, tmp_path) as database:
        types = (
            COLUMNS.replace("NUMERIC(12,2)", "TEXT").replace("DATE", "TEXT") if request.param == "sqlite" else COLUMNS
        )
        database.execute(f"CREATE TABLE {database.table} ({types})")
        cast = {
            "sqlite": (":balance", ":due"),
            "postgresql": ("CAST(CAST(:balance AS text) AS numeric)", "CAST(CAST(:due AS text) AS date)"),
        }
        balance, due = cast.get(request.param, (":balance", ":due"))
        database.execute(f"INSERT INTO {database.table} VALUES (:uid, :phone, {balance}, {due}, :name)", *ROWS)
        yield database


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    with open_database("sqlite", tmp_path) as database:
        yield database


def configured(database: Database, *queries: str, options: str = "", values: str = "") -> str:
    """The config's text for statements on the database's table."""
    text = f"{values}\n[plugins.sql_values]\nurl = {database.config}\n{options}\n"
    for query in queries:
        sql, more, rest = query.partition("\nfields")
        text += f'[[plugins.sql_values.queries]]\nsql = """{sql.format(table=database.table)}"""{more}{rest}\n'
    return text


async def test_the_founding_example_answers_from_the_sample_database(tmp_path: Path) -> None:
    """What `gateway init` writes answers the founding document's own request."""
    init(tmp_path / "config.toml")
    text = (tmp_path / "config.toml").read_text().partition("[plugins.sql_values]")[2]
    async with running(tmp_path, f"[plugins.sql_values]{text}") as (values, _):
        answer = await values.answer(
            "acme", b"customerUID=123456&outboundChannelAddress=44777777777&param1=balance&param2=ID"
        )
        assert values_of(answer) == {"balance": "120.50", "ID": "ID-4711"}


async def test_a_row_is_its_columns_as_text(database: Database, tmp_path: Path) -> None:
    """Decimals keep their scale, dates are ISO 8601, names keep their letters; one statement for all fields."""
    async with running(tmp_path, configured(database, BY_UID)) as (values, _):
        with statement_log() as log:
            answer = await ask(values, "name", "balance", "due")
        assert values_of(answer) == {"name": "Siobhán Ní Ghallchóir", "balance": "120.50", "due": "2026-09-01"}
        assert [statement.split(None, 1)[0] for statement, _ in log] == ["SELECT"]


async def test_no_row_is_not_known_and_two_are_a_conflict(database: Database, tmp_path: Path) -> None:
    """Two customers with one phone number: nothing of either."""
    async with running(tmp_path, configured(database, BY_UID, BY_PHONE)) as (values, _):
        assert problem_of(await ask(values, "balance", uid="999")) == (404, ["balance"])
        shared = await ask(values, "balance", "name", uid=None, address="447700900200")
        assert problem_of(shared) == (409, ["balance", "name"])
        assert not any(text in shared.body for text in (b"45.10", b"310", b"Mary", b"John"))


async def test_sql_null_is_null_for_nullable_fields_only(database: Database, tmp_path: Path) -> None:
    """For all others the column is not found."""
    async with running(tmp_path, configured(database, BY_UID)) as (values, _):
        assert problem_of(await ask(values, "balance", "due", uid="123457")) == (404, ["due"])
    text = configured(database, BY_UID, values='[values]\nnullable = ["due"]\n')
    async with running(tmp_path, text) as (values, _):
        assert values_of(await ask(values, "balance", "due", uid="123457")) == {"balance": "0.00", "due": None}


@pytest.mark.parametrize("address", ["44777777777", "+44 777 777-777", "(44) 777/777.777", "tel:+44777777777"])
async def test_a_customer_is_found_by_the_digits_of_the_address(
    database: Database, tmp_path: Path, address: str
) -> None:
    """In any notation of the address. A statement that needs the customer UID is skipped without one."""
    async with running(tmp_path, configured(database, BY_UID, BY_PHONE)) as (values, _):
        with statement_log() as log:
            answer = await ask(values, "balance", uid=None, address=address)
        assert values_of(answer) == {"balance": "120.50"}
        assert [statement.partition("WHERE ")[2].partition(" ")[0] for statement, _ in log] == ["phone"]
        for none in ("no digits", "john44777777777@mail.com"):
            assert problem_of(await ask(values, "balance", uid=None, address=none)) == (404, ["balance"])
        assert problem_of(await ask(values, "balance", uid=None)) == (404, ["balance"])


async def test_the_phone_does_not_answer_for_a_customer_who_was_named(database: Database, tmp_path: Path) -> None:
    """The UID that the customer typed finds no customer; the owner of the phone must not be answered instead."""
    async with running(tmp_path, configured(database, BY_UID, BY_PHONE)) as (values, _):
        assert problem_of(await ask(values, "balance", uid="999", address="44777777777")) == (404, ["balance"])
        answer = await ask(values, "name", uid="123457", address="44777777777")
        assert values_of(answer) == {"name": "Tom"}


async def test_only_the_statements_whose_fields_are_asked_for_run(database: Database, tmp_path: Path) -> None:
    """Declared `fields` narrow what a statement is run for; a field that none gives costs no statement."""
    text = configured(
        database,
        BY_UID + '\nfields = ["balance"]',
        "SELECT name AS {table}_name FROM {table} WHERE customer_uid = :customer_uid",
        "SELECT :organisation AS org, '+' AS plus",
    )
    async with running(tmp_path, text) as (values, _):
        with statement_log() as log:
            assert values_of(await ask(values, "balance")) == {"balance": "120.50"}
            assert len(log) == 1
            assert values_of(await ask(values, "org", uid=None)) == {"org": "acme"}
            assert len(log) == 2
            assert problem_of(await ask(values, "name", "due", "nonsense")) == (404, ["name", "due", "nonsense"])
            assert len(log) == 2
        answer = await ask(values, "org", "balance", f"{database.table}_name")
        assert list(values_of(answer).values()) == ["acme", "120.50", "Siobhán Ní Ghallchóir"]


async def test_a_value_comes_before_a_null_of_an_earlier_statement(database: Database, tmp_path: Path) -> None:
    """A column without a value does not know the field."""
    later = "SELECT customer_uid AS due FROM {table} WHERE customer_uid = :customer_uid"
    async with running(tmp_path, configured(database, BY_UID, later)) as (values, _):
        assert values_of(await ask(values, "due", uid="123457")) == {"due": "123457"}
        assert values_of(await ask(values, "due", uid="123456")) == {"due": "2026-09-01"}


async def test_statements_of_one_request_run_together(tmp_path: Path) -> None:
    """Three that take 0.3 seconds each take less than their sum."""
    with open_database("postgresql", tmp_path) as database:
        queries = [f"SELECT 1 AS {name}, CAST(pg_sleep(0.3) AS text) AS s{name}" for name in "abc"]
        async with running(tmp_path, configured(database, *queries)) as (values, _):
            started = time.perf_counter()
            assert values_of(await ask(values, "a", "b", "c")) == {"a": "1", "b": "1", "c": "1"}
            assert time.perf_counter() - started < 0.8


async def test_a_statement_that_fails_or_takes_too_long_fails_its_own_fields_only(tmp_path: Path) -> None:
    """What the others found is told before it is too late for that."""
    with open_database("postgresql", tmp_path) as database:
        fast = "SELECT 1 AS fast"
        slow = "SELECT CAST(pg_sleep(3) AS text) AS slow\nfields = ['slow']"
        broken = "SELECT 1 / CAST(:customer_uid AS integer) AS broken\nfields = ['broken']"
        text = configured(database, fast, slow, broken, values='[values]\ndeadline = "700ms"')
        async with running(tmp_path, text) as (values, _):
            assert problem_of(await ask(values, "fast", "slow")) == (504, ["slow"])
            assert problem_of(await ask(values, "fast", "broken", uid="0")) == (502, ["broken"])
            assert values_of(await ask(values, "fast")) == {"fast": "1"}


async def test_a_uuid_and_a_truth_are_texts_too(tmp_path: Path) -> None:
    """PostgreSQL's own types; what has no text, such as an array, is a failure."""
    with open_database("postgresql", tmp_path) as database:
        sql = (
            "SELECT CAST('7d444840-9dc0-11d1-b245-5ffdce74fad2' AS uuid) AS id, true AS active, "
            "CAST('2026-09-01 10:00+02' AS timestamptz) AS at, ARRAY[1,2] AS list, 'NaN'::numeric AS nan"
        )
        async with running(tmp_path, configured(database, sql)) as (values, _):
            assert values_of(await ask(values, "id", "active", "at")) == {
                "id": "7d444840-9dc0-11d1-b245-5ffdce74fad2",
                "active": "true",
                "at": "2026-09-01T08:00:00+00:00",
            }
            assert problem_of(await ask(values, "list", "nan")) == (502, ["list", "nan"])


class Held:
    """SQLite connections that block: in their making, or in their first statement, until `release`."""

    def __init__(self, place: str) -> None:
        self.place = place
        self.reached = threading.Event()
        self.release = threading.Event()

    def connect(self, *args: Any, **options: Any) -> sqlite3.Connection:
        held = self

        class Connection(sqlite3.Connection):
            def commit(self) -> None:
                held.wait("statement")
                super().commit()

        self.wait("connection")
        return sqlite3.Connection(*args, **options) if self.place == "connection" else Connection(*args, **options)

    def wait(self, place: str) -> None:
        if place == self.place:
            self.reached.set()
            assert self.release.wait(60)


@pytest.mark.parametrize("place", ["connection", "statement"])
async def test_a_look_up_that_is_cancelled_leaves_no_task(
    sqlite: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Its thread goes on, but nothing in the event loop waits for it, and the plugin shuts down."""
    sqlite.execute(f"CREATE TABLE {sqlite.table} ({COLUMNS})")
    held = Held(place)
    before = asyncio.all_tasks()
    text = configured(sqlite, BY_UID + '\nfields = ["balance"]', values='[values]\ndeadline = "100ms"')
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3.dbapi2, "connect", held.connect)
        try:
            async with running(tmp_path, text) as (values, _):
                assert problem_of(await ask(values, "balance")) == (504, ["balance"])
                assert held.reached.wait(60)
            assert asyncio.all_tasks() == before
        finally:
            held.release.set()


async def test_a_text_that_is_not_a_number_finds_no_number(tmp_path: Path) -> None:
    """MariaDB reads '123abc' as 123 and 'abc' as 0: such a match fails its own request only."""
    with open_database("mariadb", tmp_path) as database:
        database.execute(f"CREATE TABLE {database.table} (id INT PRIMARY KEY, name VARCHAR(20))")
        database.execute(f"INSERT INTO {database.table} VALUES (0, 'zero'), (123, 'right')")
        sql = "SELECT name FROM {table} WHERE id = :customer_uid"
        async with running(tmp_path, configured(database, sql)) as (values, _):
            for uid in ["123abc", "abc", "' OR 1=1 -- ", "123 OR 1"] * 3:
                answer = await ask(values, "name", uid=uid)
                assert problem_of(answer) == (502, ["name"])
            assert values_of(await ask(values, "name", uid="123")) == {"name": "right"}
            assert problem_of(await ask(values, "name", uid="124")) == (404, ["name"])


async def test_a_uid_of_the_wrong_kind_is_that_requests_fault(tmp_path: Path) -> None:
    """PostgreSQL refuses to cast it: a failure, but the provider stays on for everybody else."""
    with open_database("postgresql", tmp_path) as database:
        database.execute(f"CREATE TABLE {database.table} (id INT PRIMARY KEY, name VARCHAR(20))")
        database.execute(f"INSERT INTO {database.table} VALUES (123, 'right')")
        sql = "SELECT name FROM {table} WHERE id = CAST(:customer_uid AS integer)"
        async with running(tmp_path, configured(database, sql)) as (values, _):
            for _ in range(8):
                assert problem_of(await ask(values, "name", uid="abc")) == (502, ["name"])
            assert values_of(await ask(values, "name", uid="123")) == {"name": "right"}


async def test_a_real_number_goes_out_as_the_database_shows_it(tmp_path: Path) -> None:
    """PostgreSQL's `real` has no digits that were never written; infinity is a failure still."""
    with open_database("postgresql", tmp_path) as database:
        sql = "SELECT 120.1::real AS a, 1e10::float4 AS b, 0.1::float8 AS c, 'Infinity'::real AS d, NULL::real AS e"
        async with running(tmp_path, configured(database, sql)) as (values, _):
            assert values_of(await ask(values, "a", "b", "c")) == {"a": "120.1", "b": "10000000000", "c": "0.1"}
            assert problem_of(await ask(values, "d")) == (502, ["d"])
            assert problem_of(await ask(values, "e")) == (404, ["e"])


@pytest.mark.parametrize(
    ("column", "connection"),
    [("latin1", "utf8mb4"), ("ascii", "utf8mb4"), ("utf8mb3", "utf8mb4"), ("latin1", "latin1")],
)
async def test_a_uid_that_no_character_set_holds_is_that_requests_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: str, connection: str
) -> None:
    """MariaDB or its driver refuses to compare it: a failure, but the provider stays on for everybody else."""
    with open_database("mariadb", tmp_path) as database:
        database.execute(f"CREATE TABLE {database.table} (id VARCHAR(9), name VARCHAR(9)) CHARACTER SET {column}")
        database.execute(f"INSERT INTO {database.table} VALUES ('123', 'right')")
        url = database.url.set(query={"charset": connection})
        monkeypatch.setenv("CRM_URL", url.render_as_string(hide_password=False))
        database.config = '{ env = "CRM_URL" }'
        sql = "SELECT name FROM {table} WHERE id = :customer_uid"
        async with running(tmp_path, configured(database, sql)) as (values, _):
            for _ in range(8):
                assert problem_of(await ask(values, "name", uid="\N{GRINNING FACE}")) == (502, ["name"])
            assert values_of(await ask(values, "name", uid="123")) == {"name": "right"}


CAST_WITH_COLONS = """
SELECT 'it''s :customer_uid::text' AS a, ':x::y'::text AS ":z::z", :customer_uid::text::int AS b /* :c::d */
WHERE '7'::text = ANY(ARRAY[:customer_uid::text])  -- :e::f"""


async def test_a_parameter_may_be_cast_as_postgresql_does(tmp_path: Path) -> None:
    """`::` after a parameter is a cast; in a text, a name or a comment it is what it was."""
    with open_database("postgresql", tmp_path) as database:
        async with running(tmp_path, configured(database, CAST_WITH_COLONS)) as (values, _):
            answer = await ask(values, "a", "b", ":z::z", uid="7")
            assert values_of(answer) == {"a": "it's :customer_uid::text", "b": "7", ":z::z": ":x::y"}


async def test_two_columns_of_one_name_are_a_failure(database: Database, tmp_path: Path) -> None:
    """Neither is a pick, whether the statement's fields are declared or learned."""
    sql = "SELECT 1 AS twice, 2 AS twice FROM {table} WHERE customer_uid = :customer_uid"
    for query in (sql + '\nfields = ["twice"]', sql):
        async with running(tmp_path, configured(database, query)) as (values, _):
            assert problem_of(await ask(values, "twice")) == (502, ["twice"])


@pytest.mark.parametrize(
    ("sql", "change"),
    [
        ("SELECT balance FROM {table} WHERE customer_uid = :customer_uid", "ALTER COLUMN balance TYPE text"),
        ("SELECT * FROM {table} WHERE customer_uid = :customer_uid", "ADD COLUMN more text"),
        ("SELECT * FROM {table} WHERE customer_uid = :customer_uid", "DROP COLUMN due"),
    ],
)
@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_a_table_that_is_altered_meanwhile_costs_no_answer(
    database: Database, tmp_path: Path, sql: str, change: str
) -> None:
    """Every pooled connection remembers it as it was; each is replaced, and the statement sent again."""
    async with running(tmp_path, configured(database, sql)) as (values, _):
        for step in ("before", "after"):
            if step == "after":
                await asyncio.to_thread(database.execute, f"ALTER TABLE {database.table} {change}")
            questions = (ask(values, "balance", address=f"{step} {number}") for number in range(10))
            answers = await asyncio.gather(*questions)
            assert [values_of(answer) for answer in answers] == [{"balance": "120.50"}] * 10
        assert [health.failed for health in values.health()] == [0]


async def test_a_sqlite_file_that_is_replaced_answers_at_once(tmp_path: Path) -> None:
    """Not the old one through connections that are open still; and one that was deleted answers nothing."""

    def write(name: str, balance: str) -> None:
        with sqlite3.connect(tmp_path / name) as connection:
            connection.execute("CREATE TABLE c (uid TEXT, balance TEXT)")
            connection.execute("INSERT INTO c VALUES ('123456', ?)", (balance,))
        connection.close()

    text = (
        '[plugins.sql_values]\nurl = "sqlite:///crm.db"\n[[plugins.sql_values.queries]]\n'
        'sql = "SELECT balance FROM c WHERE uid = :customer_uid"\n'
    )
    write("crm.db", "1")
    async with running(tmp_path, text) as (values, _):
        assert values_of(await ask(values, "balance")) == {"balance": "1"}
        write("new.db", "2")
        (tmp_path / "new.db").rename(tmp_path / "crm.db")
        assert values_of(await ask(values, "balance")) == {"balance": "2"}
        (tmp_path / "crm.db").unlink()
        assert problem_of(await ask(values, "balance")) == (502, ["balance"])
        write("crm.db", "3")
        assert values_of(await ask(values, "balance")) == {"balance": "3"}


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("DELETE FROM customers", "expected one SELECT statement"),
        ("UPDATE customers SET balance = 0", "expected one SELECT statement"),
        ("PRAGMA table_info(customers)", "expected one SELECT statement"),
        ("", "expected one SELECT statement"),
        ("SELECT 1; DROP TABLE customers", "expected one SELECT statement, found several"),
        (
            "WITH gone AS (DELETE FROM c RETURNING *) SELECT * FROM gone",
            "expected a SELECT that only reads, found DELETE",
        ),
        ("SELECT * INTO copy FROM customers", "expected a SELECT that only reads, found INTO"),
        ("SELECT * FROM c FOR UPDATE", "expected a SELECT that only reads, found UPDATE"),
        ("SELECT :name AS x", "unknown parameter :name; known: :customer_uid"),
        ("SELECT ';--' AS a FROM c WHERE d = :customer", "unknown parameter :customer; known"),
    ],
)
def test_only_one_select_is_taken(sqlite: Database, tmp_path: Path, sql: str, message: str) -> None:
    """What else stands in the config is an error at start, with its path."""
    with pytest.raises(ConfigError) as raised:
        load_plugins(read_config(tmp_path, configured(sqlite, sql)))
    [problem] = raised.value.problems
    assert problem.path == "plugins.sql_values.queries[0].sql"
    assert problem.message.startswith(message)


@pytest.mark.parametrize(
    "sql",
    [
        "  select 'DELETE; it''s' AS a  ;\n",
        "-- DROP it\nSELECT /* ; */ replace('a', 'b', 'c') AS a",
        "(SELECT 1 AS a)",
        "WITH one AS (SELECT 1 AS a) SELECT a FROM one",
        "SELECT last_update AS a FROM (SELECT 1 AS last_update) AS q",
        "SELECT '12:30' AS a, CAST(1 AS text) AS b",
    ],
)
def test_a_select_may_be_written_in_any_way(sqlite: Database, tmp_path: Path, sql: str) -> None:
    """Words in texts, names and comments are no statements."""
    load_plugins(read_config(tmp_path, configured(sqlite, sql)))


@pytest.mark.parametrize("database", SERVERS, indirect=True)
async def test_the_database_itself_refuses_to_write(database: Database, tmp_path: Path) -> None:
    """A SELECT can call what writes: the session is read-only, and nothing has changed."""
    function = f"f{database.table}"
    insert = f"INSERT INTO {database.table} (customer_uid) VALUES ('written')"
    if database.kind == "postgresql":
        database.execute(
            f"CREATE FUNCTION {function}() RETURNS integer LANGUAGE sql VOLATILE AS $$ {insert} RETURNING 1 $$"
        )
    else:
        database.execute(f"CREATE FUNCTION {function}() RETURNS INT MODIFIES SQL DATA BEGIN {insert}; RETURN 1; END")

    text = configured(database, f"SELECT {function}() AS a" + '\nfields = ["a"]')
    try:
        async with running(tmp_path, text) as (values, _):
            assert problem_of(await ask(values, "a")) == (502, ["a"])
        assert database.execute(f"SELECT count(*) FROM {database.table}") == [(len(ROWS),)]
    finally:
        database.execute(f"DROP FUNCTION {function}")


async def test_a_sqlite_file_is_opened_read_only(tmp_path: Path) -> None:
    """Neither made when it is missing, nor written when it is there, whatever is sent to it."""

    async def send(sql: str) -> str:
        url = DatabaseUrl.from_config("sqlite:///customers.db", tmp_path).url
        options: dict[str, float] = {"pool_timeout": 1, "statement_timeout": 1, "ping_after": 1, "recycle": 60}
        database = SqlDatabase(url, pool_size=1, **options)
        try:
            return str((await database.fetch(Prepared(sql, ()), {})).rows)
        except DatabaseFailed as error:
            return error.told
        finally:
            await database.close()

    assert await send("CREATE TABLE x (a)") == "unable to open database file"
    with sqlite3.connect(tmp_path / "customers.db") as connection:
        connection.execute("CREATE TABLE x (a)")
    connection.close()
    for sql in ("INSERT INTO x VALUES (1)", "DROP TABLE x", "CREATE TABLE y (a)", "PRAGMA user_version = 5"):
        assert await send(sql) == "attempt to write a readonly database"
    assert await send("SELECT count(*) FROM x") == "[(0,)]"


async def test_the_database_is_missing_at_start_and_found_later(sqlite: Database, tmp_path: Path) -> None:
    """The gateway starts, requests fail as a failed provider, and the first after its return is answered."""
    async with running(tmp_path, configured(sqlite, BY_UID)) as (values, _):
        assert problem_of(await ask(values, "balance")) == (502, ["balance"])
        assert not (tmp_path / "customers.db").exists()
        with sqlite3.connect(tmp_path / "customers.db") as connection:
            connection.execute(f"CREATE TABLE {sqlite.table} ({COLUMNS})")
            connection.execute(f"INSERT INTO {sqlite.table} VALUES ('123456', '', '1', '', '')")
        connection.close()
        assert values_of(await ask(values, "balance")) == {"balance": "1"}


async def test_a_statement_that_takes_too_long_is_ended_in_the_database(database: Database, tmp_path: Path) -> None:
    """504 after the statement's own timeout, well before the deadline, and the connection is good again."""
    slow = {
        "sqlite": "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) AS slow FROM n",
        "postgresql": "SELECT CAST(pg_sleep(60) AS text) AS slow",
        "mariadb": "SELECT SLEEP(60) AS slow",
    }[database.kind]
    text = configured(
        database, slow + '\nfields = ["slow"]', BY_UID, options='statement_timeout = "200ms"\npool_size = 1'
    )
    async with running(tmp_path, text) as (values, _):
        started = time.perf_counter()
        assert problem_of(await ask(values, "slow")) == (504, ["slow"])
        assert time.perf_counter() - started < 1
        assert values_of(await ask(values, "balance")) == {"balance": "120.50"}


async def test_more_requests_than_connections_wait_their_turn(database: Database, tmp_path: Path) -> None:
    """Two connections answer a hundred customers at once, each with their own row."""
    patient = {"options": 'pool_size = 2\npool_timeout = "60s"', "values": '[values]\ndeadline = "60s"'}
    async with running(tmp_path, configured(database, BY_UID, **patient)) as (values, _):
        uids = [row["uid"] for row in ROWS] * 25
        answers = await asyncio.gather(*(ask(values, "name", uid=uid, address=str(n)) for n, uid in enumerate(uids)))
        names = {row["uid"]: row["name"] for row in ROWS}
        assert [values_of(answer)["name"] for answer in answers] == [names[uid] for uid in uids]


async def test_check_is_content_with_what_works(database: Database, tmp_path: Path) -> None:
    """Every statement is tried; a role that may write is warned of, where the database can tell."""
    exact = BY_UID + (" AND BINARY customer_uid = :customer_uid" if database.kind == "mariadb" else "")
    found = await check(tmp_path, configured(database, exact, BY_PHONE))
    warning = "its role may write; give the gateway one that may only SELECT"
    assert found == ([] if database.kind == "sqlite" else [warning])


async def test_check_does_not_warn_of_a_role_that_only_reads(tmp_path: Path) -> None:
    """A role of PostgreSQL that may SELECT from one table and nothing else."""
    with open_database("postgresql", tmp_path) as database:
        role = f"r{database.table}"
        database.execute(f"CREATE TABLE {database.table} ({COLUMNS})")
        database.execute(f"CREATE ROLE {role} LOGIN")
        database.execute(f"GRANT SELECT ON {database.table} TO {role}")
        try:
            url = database.url.set(username=role, password=None).render_as_string()
            database.config = f'"{url}"'
            assert await check(tmp_path, configured(database, BY_UID)) == []
        finally:
            database.execute(f"DROP OWNED BY {role}")
            database.execute(f"DROP ROLE {role}")


async def test_check_says_which_column_table_or_name_is_wrong(database: Database, tmp_path: Path) -> None:
    """All statements in one run, each by its place in the config, in the database's own words."""
    found = await check(
        tmp_path,
        configured(
            database,
            "SELECT balanc FROM {table} WHERE customer_uid = :customer_uid",
            "SELECT a FROM no_such_table WHERE b = :customer_uid",
            BY_UID + '\nfields = ["balance", "DUE"]',
            "SELECT name, balance AS name FROM {table} WHERE customer_uid = :customer_uid",
            "SELECT name FROM {table}",
            BY_UID,
        ),
    )
    column, table, fields, twice, several = found.split("; ")
    assert column.startswith("queries[0].sql: ")
    assert "balanc" in column
    assert table.startswith("queries[1].sql: ")
    assert "no_such_table" in table
    assert fields == (
        "queries[2].fields: no column DUE, there are balance, due, name (upper case needs quotes in the statement)"
    )
    assert twice == "queries[3].sql: gives two columns of one name: name, name"
    assert several == "queries[4].sql: gives several rows for every customer"


@pytest.mark.parametrize("quoted", ["':customer_uid'", "'%:customer_uid%'", '":customer_uid"', "$x$ :customer_uid $x$"])
def test_a_parameter_in_quotes_is_an_error(tmp_path: Path, quoted: str) -> None:
    """The database would look for a customer of that name."""
    query = f"sql = '''SELECT a FROM b WHERE c = {quoted} '''\n"
    text = f"[plugins.sql_values]\nurl = 'sqlite:///x.db'\n[[plugins.sql_values.queries]]\n{query}"
    with pytest.raises(ConfigError) as raised:
        load_plugins(read_config(tmp_path, text))
    [problem] = raised.value.problems
    assert problem.path == "plugins.sql_values.queries[0].sql"
    assert problem.message == (
        ":customer_uid in quotes is a text, not the parameter; write :customer_uid without quotes"
    )


async def test_a_comment_may_name_a_parameter(sqlite: Database, tmp_path: Path) -> None:
    """It is not bound there."""
    sqlite.execute(f"CREATE TABLE {sqlite.table} (uid TEXT, a TEXT)")
    sqlite.execute(f"INSERT INTO {sqlite.table} VALUES ('7', 'found')")
    sql = "SELECT a /* by :organisation: */ FROM {table} WHERE uid = :customer_uid -- not :address_digits"
    async with running(tmp_path, configured(sqlite, sql)) as (values, _):
        assert values_of(await ask(values, "a", uid="7")) == {"a": "found"}


@pytest.mark.parametrize("url", ["postgresql://root@127.0.0.1:1/test", "mariadb://root@127.0.0.1:1/test"])
async def test_a_refused_connection_is_not_an_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, url: str
) -> None:
    """The log says that there is no connection."""
    text = f"[plugins.sql_values]\nurl = '{url}'\n[[plugins.sql_values.queries]]\nsql = 'SELECT 1 AS a'\n"
    async with running(tmp_path, text):
        pass
    assert "no connection to the database: " in caplog.text
    assert "answered" not in caplog.text


async def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncpg reads files in ~/.postgresql, and says only "Permission denied"."""
    import asyncpg

    async def connect(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    forbidden = tmp_path / ".postgresql" / "root.crl"
    forbidden.parent.mkdir()
    forbidden.touch()
    access = os.access
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(asyncpg, "connect", connect)
    monkeypatch.setattr(os, "access", lambda path, mode: path != forbidden and access(path, mode))
    text = "[plugins.sql_values]\nurl = 'postgresql://db/crm'\n[[plugins.sql_values.queries]]\nsql = 'SELECT 1 AS a'\n"
    assert await check(tmp_path, text) == f"the database cannot be asked: Permission denied: {forbidden}"


async def test_check_says_when_there_is_no_database(sqlite: Database, tmp_path: Path) -> None:
    """A missing file, a closed port."""
    assert (
        await check(tmp_path, configured(sqlite, BY_UID)) == f"the database file {tmp_path}/customers.db does not exist"
    )
    for url in ("postgresql+asyncpg://root@127.0.0.1:1/test", "mariadb+asyncmy://root@127.0.0.1:1/test"):
        sqlite.config = f'"{url}"'
        found = await check(tmp_path, configured(sqlite, BY_UID))
        assert found.startswith("the database cannot be asked: ")
        assert "connect" in found.lower()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ('"postgresql://gateway:hunter2@db/crm"', "a password must not be in the config file"),
        ('"postgresql://gateway@db/crm?password=hunter2"', "a password must not be in the config file"),
        ('"mssql+aioodbc:///?odbc_connect=Driver%3DX%3BPWD%3Dhunter2"', "a password must not be in the config file"),
        ('"hunter2"', 'expected a database URL such as "postgresql+asyncpg://user@host/database"'),
        ("7", 'expected a database URL such as "sqlite:///var/customers.db"'),
        ('"sqlite+pysqlcipher:///x.db"', "the driver of sqlite+pysqlcipher:// is not supported; write sqlite:///"),
        *(
            (
                f'"{kind}+{driver}://db/crm"',
                f"the driver of {kind}+{driver}:// is not supported; write {kind}+{better}://",
            )
            for kind, driver, better in (
                ("postgresql", "psycopg2", "asyncpg"),
                ("postgresql", "psycopg", "asyncpg"),
                ("mysql", "pymysql", "asyncmy"),
                ("mysql", "mysqldb", "asyncmy"),
                ("mariadb", "pymysql", "asyncmy"),
            )
        ),
        ('"sqlite://"', "expected the path of a SQLite file"),
        ('"nosuch://host/x"', "SQLAlchemy knows no database 'nosuch'"),
        ('"oracle://gateway@db/crm"', 'the driver oracledb is not installed; pip install "webio-gateway[oracle]"'),
        ('{ env = "NO_SUCH_VARIABLE" }', "the environment variable NO_SUCH_VARIABLE is not set"),
        ('{ env = "BAD_URL" }', "expected a database URL in environment variable BAD_URL such as"),
    ],
)
def test_a_url_that_will_not_do_is_an_error_at_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, message: str
) -> None:
    """With a sentence that says what to write instead, and without the password."""
    monkeypatch.setenv("BAD_URL", "hunter2")
    text = f"[plugins.sql_values]\nurl = {url}\n[[plugins.sql_values.queries]]\nsql = 'SELECT 1 AS a'\n"
    with pytest.raises(ConfigError) as raised:
        load_plugins(read_config(tmp_path, text))
    [problem] = raised.value.problems
    assert problem.path == "plugins.sql_values.url"
    assert problem.message.startswith(message)
    assert "hunter2" not in str(raised.value)


async def test_a_password_comes_from_a_file_and_shows_nowhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in a repr, nor in the log, nor in an answer or a check, whatever the database says."""
    caplog.set_level(logging.DEBUG)
    (tmp_path / "db.password").write_text("canary-pa55word\n")
    monkeypatch.setenv("CRM_URL", "postgresql://gateway:canary-url-pa55word@127.0.0.1:1/crm")
    tables = (
        '[plugins.sql_values]\nurl = "postgresql://gateway@127.0.0.1:1/crm"\npassword = { file = "db.password" }\n',
        '[plugins.sql_values]\nurl = { env = "CRM_URL" }\n',
    )
    query = "[[plugins.sql_values.queries]]\nsql = 'SELECT a FROM b WHERE c = :customer_uid'\n"

    for table in tables:
        async with running(tmp_path, table + query) as (values, [plugin]):
            answer = await ask(values, "a")
            assert problem_of(answer) == (502, ["a"])
            assert "canary" not in f"{answer}{plugin.instance._config!r}{values.health()}"
        assert "canary" not in await check(tmp_path, table + query)
    assert "canary" not in caplog.text
    assert "the statements' columns are not known yet" in caplog.text


async def test_no_customer_shows_in_the_log(
    database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not even when everything logs all it can, and the database complains."""
    caplog.set_level(logging.DEBUG)
    broken = "SELECT CAST(name AS DECIMAL(1,1)) + 1/0 AS a FROM {table} WHERE customer_uid = :customer_uid"
    async with running(tmp_path, configured(database, BY_UID, broken + '\nfields = ["a"]')) as (values, _):
        for name in ("sqlalchemy", "asyncpg", "gateway"):
            logging.getLogger(name).setLevel(logging.DEBUG)
        for field in ("balance", "a"):
            await ask(values, field, uid="123456")
            await ask(values, field, uid="canary'7001", address="44777777777")
    for secret in ("123456", "canary", "44777777777", "Siobhán", "120.50"):
        assert secret not in caplog.text
