"""The plugin `sql_events`: every event as a row, on SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from brokers_kit import Cable
from databases import KINDS, Database, open_database
from gateway_databases import DatabaseFailed
from gateway_sql_events import SqlEventsPlugin
from tiers import require_tier

from gateway import Event, Reject, Selector
from gateway.config.convert import ConfigError
from gateway.testing import PluginCase, event_of, make_body, make_context, running_gateway

DELIVERY = '[delivery]\ntimeout = "60s"\nmax_attempts = 2\nbackoff = "5ms"\nbackoff_max = "50ms"\n'
COLUMNS = '[plugins.sql_events.columns]\namount = "payload.amount decimal"\nreference = "payload.deal.reference"\n'


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with open_database(request.param, tmp_path) as database:
        yield database


def table(database: Database, more: str = "") -> str:
    return f'{DELIVERY}[plugins.sql_events]\nurl = {database.config}\ntable = "{database.table}"\n{more}'


def made(config: str, directory: Path) -> Any:
    from gateway.testing.settings import testing_config, testing_plugins

    given = {"sql_events": SqlEventsPlugin}
    return testing_plugins(testing_config(config, given, directory), given)[0].instance


def rows(database: Database, columns: str = "id") -> list[tuple[Any, ...]]:
    return database.execute(f"SELECT {columns} FROM {database.table} ORDER BY id")


async def write(plugin: Any, *events: Event) -> None:
    for event in events:
        await plugin.on_event(event)
    await plugin.checkpoint()


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_complete(kind: str, tmp_path: Path) -> None:
    """Each check has a table of its own; the target fails where another one is in its place."""
    made_tables: list[Database] = []

    def case(folder: Path) -> PluginCase:
        opened = open_database(kind, folder)
        database = opened.__enter__()
        made_tables.append(database)

        @contextmanager
        def replaced() -> Iterator[None]:
            database.execute(f"ALTER TABLE {database.table} RENAME TO {database.table}_away")
            database.execute(f"CREATE TABLE {database.table} (id VARCHAR(36))")
            try:
                yield
            finally:
                database.execute(f"DROP TABLE {database.table}")
                database.execute(f"ALTER TABLE {database.table}_away RENAME TO {database.table}")

        config = tomllib.loads(f'url = {database.config}\ntable = "{database.table}"')
        return PluginCase(config=config, taken=lambda: [row[0] for row in rows(database)], fails=replaced)

    try:
        require_tier(SqlEventsPlugin, case)
    finally:
        for database in made_tables:
            if kind != "sqlite":
                database.execute(f"DROP TABLE IF EXISTS {database.table}")


async def test_a_row_has_the_event_as_received(database: Database, tmp_path: Path) -> None:
    """The body is the JSON text itself: digits, order of keys and repeated keys stay. Columns are exact, too."""
    body = '{"type":"payment", "amount": 12345678901234567890.50, "deal":{"reference":"Ünï 🎉"}, "customerUID":"77",'
    body += '\r\n"a":1,"a":2}'
    async with running_gateway(
        table(database, COLUMNS), {"sql_events": SqlEventsPlugin}, directory=tmp_path
    ) as gateway:
        answer = await gateway.webio.post(body.encode())
        await gateway.webio.send("inbound-message", conversationId="c 1")
        await gateway.until_delivered()
    first, second = rows(database, "id, organisation, hook, conversation_id, customer_uid, body, amount, reference")
    assert first[:5] == (answer.document["id"], "acme", "payment", None, "77")
    assert first[5] == body.replace("\r\n", "  ")
    assert (f"{first[6]}".rstrip("0"), first[7]) == ("12345678901234567890.5", "Ünï 🎉")
    assert (second[2], second[3], second[6], second[7]) == ("inbound-message", "c 1", None, None)


async def test_times_are_in_utc_to_the_microsecond(database: Database, tmp_path: Path) -> None:
    """Whatever the time zone of the session is."""
    plugin = made(table(database), tmp_path)
    await plugin.startup(make_context(tmp_path))
    event = event_of(make_body())
    await write(plugin, event)
    await plugin.shutdown()
    zone = " AT TIME ZONE 'UTC'" if database.kind == "postgresql" else ""
    [(found,)] = rows(database, f"received_at{zone}")
    assert str(found).startswith(event.received_at.isoformat(" ", "milliseconds")[:23])


async def test_an_event_that_comes_again_replaces_its_row(database: Database, tmp_path: Path) -> None:
    """Once, whatever is repeated; a replay fills a column that was added. What the company added is left alone."""
    plugin = made(table(database), tmp_path)
    await plugin.startup(make_context(tmp_path))
    events = [event_of(make_body(amount="12.50")) for _ in range(3)]
    await write(plugin, *events)
    await plugin.shutdown()
    database.execute(f"ALTER TABLE {database.table} ADD COLUMN amount VARCHAR(20)")
    database.execute(f"ALTER TABLE {database.table} ADD COLUMN booked VARCHAR(20)")
    database.execute(f"UPDATE {database.table} SET booked = 'yes'")
    plugin = made(table(database, 'columns = { amount = "payload.amount" }\n'), tmp_path)
    await plugin.startup(make_context(tmp_path))
    await write(plugin, *events, *events)
    await plugin.shutdown()
    assert rows(database, "amount, booked") == [("12.50", "yes")] * 3


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"customerUID": "x" * 300}, "column customer_uid: 300 characters, and it takes 20"),
        ({"amount": "1.005"}, "column amount: the number has more digits than "),
        ({"amount": "twelve"}, "payload.amount: expected decimal, found text"),
        ({"amount": True}, "payload.amount: expected decimal, found true or false"),
        ({"reference": {"a": 1}}, "payload.reference: expected text, found an object"),
        ({"amount": 666}, "the table refuses its row: the database answered "),
    ],
)
async def test_a_row_that_the_table_refuses_is_a_dead_letter_and_the_others_are_written(
    database: Database, tmp_path: Path, fields: dict[str, Any], reason: str
) -> None:
    """Also where only the database knows that it does, as by a constraint of the company's. The reason has no value."""
    if database.kind == "sqlite" and reason.startswith("column"):
        pytest.skip("SQLite has no limits of this kind")
    number = "TEXT" if database.kind == "sqlite" else "DECIMAL(10, 2)"
    amount = f"{number} CHECK (amount <> '666')"
    time = {"postgresql": "TIMESTAMPTZ", "mariadb": "DATETIME(6)", "sqlite": "DATETIME"}[database.kind]
    database.execute(
        f"CREATE TABLE {database.table} (id VARCHAR(36) PRIMARY KEY, received_at {time}, organisation VARCHAR(50), "
        f"hook VARCHAR(50), conversation_id VARCHAR(50), customer_uid VARCHAR(20), "
        f"body TEXT, amount {amount}, reference TEXT)"
    )
    columns = 'columns = { amount = "payload.amount decimal", reference = "payload.reference" }\n'
    async with running_gateway(
        table(database, columns), {"sql_events": SqlEventsPlugin}, directory=tmp_path
    ) as gateway:
        sent = [await gateway.webio.send(amount="5.25", reference="r") for _ in range(20)]
        bad = await gateway.webio.send(**{"amount": "5.25", **fields})
        sent += [await gateway.webio.send(amount=7, reference="r") for _ in range(20)]
        await gateway.until_settled()
        [letter] = gateway.dead_letters("sql_events")
        assert gateway.health("sql_events")["healthy"]
    assert (letter.event_id, letter.attempts) == (bad, 1)
    assert reason in letter.error
    assert not [value for value in fields.values() if isinstance(value, str) and value in letter.error]
    assert {id for (id,) in rows(database)} == set(sent)


async def test_a_nul_character_is_refused_by_postgresql_only(database: Database, tmp_path: Path) -> None:
    """In the body it is the six characters of its escape, which every database takes."""
    plugin = made(table(database), tmp_path)
    await plugin.startup(make_context(tmp_path))
    in_body, in_column = event_of('{"x":"a\\u0000b"}'), event_of('{"customerUID":"a\\u0000b"}')
    if database.kind == "postgresql":
        with pytest.raises(Reject, match="column customer_uid: a NUL character"):
            await plugin.on_event(in_column)
    else:
        await plugin.on_event(in_column)
    await write(plugin, in_body)
    await plugin.shutdown()
    assert ('{"x":"a\\u0000b"}',) in rows(database, "body")


async def test_a_column_that_was_widened_takes_what_it_refused(database: Database, tmp_path: Path) -> None:
    """Without a restart: `gateway dead retry` is enough."""
    if database.kind == "sqlite":
        pytest.skip("SQLite has no lengths")
    plugin = made(table(database, 'columns = { reference = "payload.reference" }\n'), tmp_path)
    await plugin.startup(make_context(tmp_path))
    modify = {"postgresql": "ALTER COLUMN reference TYPE VARCHAR({})", "mariadb": "MODIFY reference VARCHAR({})"}
    database.execute(f"ALTER TABLE {database.table} {modify[database.kind].format(5)}")
    event = event_of(make_body(reference="longer than five"))
    await plugin.on_event(event)
    with pytest.raises(Exception, match="the table refuses 1 of 1 rows"):
        await plugin.checkpoint()
    with pytest.raises(Reject):
        await plugin.on_event(event)
    database.execute(f"ALTER TABLE {database.table} {modify[database.kind].format(50)}")
    plugin._looked = float("-inf")
    await write(plugin, event)
    await plugin.shutdown()
    assert rows(database, "reference") == [("longer than five",)]


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
async def test_a_connection_that_is_lost_costs_no_attempt(kind: str, tmp_path: Path, monkeypatch: Any) -> None:
    """It is cut again and again, in the middle of a transaction, too."""
    with open_database(kind, tmp_path) as database:
        cable = Cable(database.url.host or "", database.url.port or 0)
        await cable.mend()
        url = database.url.set(host="127.0.0.1", port=cable.port).render_as_string(hide_password=False)
        monkeypatch.setenv("GATEWAY_TEST_CABLE", url)
        config = table(database, 'transaction_timeout = "20s"\n').replace(
            database.config, '{ env = "GATEWAY_TEST_CABLE" }'
        )
        async with running_gateway(config, {"sql_events": SqlEventsPlugin}) as gateway:
            sent: list[str] = []
            for round_ in range(6):
                cable.cut_after = cable.passed + 500 + 3_333 * round_
                sent += await gateway.webio.send_burst(100, conversations=7)
                await gateway.until(lambda: not cable.connected or gateway.idle("sql_events"), "cut")
                await cable.mend()
            await gateway.until_delivered(seconds=60)
            assert gateway.dead_letters() == []
            assert cable.connections > 2
        await cable.stop()
        assert [id for (id,) in rows(database)] == sorted(sent)


async def test_what_is_collected_is_bounded(database: Database, tmp_path: Path) -> None:
    """Rows are written before a checkpoint once they are more than 4 MiB."""
    plugin = made(table(database), tmp_path)
    await plugin.startup(make_context(tmp_path))
    large = "x" * 900_000
    for _ in range(6):
        await plugin.on_event(event_of({"x": large}))
    assert len(rows(database)) >= 5
    assert len(plugin._rows) <= 1
    await plugin.checkpoint()
    await plugin.shutdown()
    assert len(rows(database)) == 6


async def test_forgetting_finds_bodies_that_no_column_tells_of(database: Database, tmp_path: Path) -> None:
    """In every page of the table, of one organisation where it names one, and what is not written yet."""
    plugin = made(table(database), tmp_path)
    await plugin.startup(make_context(tmp_path))
    other = [event_of(make_body(customerUID=f"c{number}")) for number in range(450)]
    theirs = [event_of(make_body(customerUID="77", conversationId=f"x{number}")) for number in range(450)]
    foreign = event_of(make_body(customerUID="77"), organisation="other")
    await write(plugin, *[event for pair in zip(other, theirs, strict=True) for event in pair], foreign)
    waiting = event_of(make_body(customerUID="77"))
    await plugin.on_event(waiting)
    assert await plugin.forget(Selector(customer_uid="77", organisation="acme")) == 450
    assert await plugin.forget(Selector(customer_uid="77", organisation="acme")) == 0
    await plugin.checkpoint()
    await plugin.shutdown()
    assert {id for (id,) in rows(database)} == {event.id for event in (*other, foreign)}


async def test_check_tells_what_of_a_table_does_not_suit(database: Database, tmp_path: Path) -> None:
    """Every fault at once, with what to do; nothing is made."""
    plugin = made(table(database, COLUMNS), tmp_path)
    [warning] = await plugin.check()
    assert warning.endswith("does not exist; it is made when the gateway starts")
    strict = made(table(database, f"create = false\n{COLUMNS}"), tmp_path)
    with pytest.raises(ValueError, match="does not exist; make it, or write create = true"):
        await strict.check()
    database.execute(
        f"CREATE TABLE {database.table} (id VARCHAR(36), received_at TIMESTAMP, organisation INTEGER, hook VARCHAR(9),"
        " body TEXT, conversation_id VARCHAR(9), amount FLOAT, owner INTEGER NOT NULL)"
    )
    with pytest.raises(ExceptionGroup) as found:
        await plugin.check()
    told = [str(error) for error in found.value.exceptions]
    for beginning in (
        "table: the table has no column customer_uid; ALTER TABLE",
        "columns.reference: the table has no column reference; ALTER TABLE",
        "table: the column organisation is INTEGER, expected text",
        "columns.amount: the column amount is ",
        "table: the column owner is NOT NULL and has no default",
        "table: the column id is neither the primary key nor UNIQUE",
    ):
        assert [sentence for sentence in told if sentence.startswith(beginning)], (beginning, told)
    with pytest.raises(ExceptionGroup):
        await plugin.startup(make_context(tmp_path))
    await plugin.shutdown()


async def test_jsonb_is_refused_because_it_changes_numbers(tmp_path: Path) -> None:
    """PostgreSQL's jsonb keeps neither the order of keys nor those that are repeated."""
    with open_database("postgresql", tmp_path) as database:
        plugin = made(table(database), tmp_path)
        await plugin.startup(make_context(tmp_path))
        database.execute(f"ALTER TABLE {database.table} ALTER COLUMN body TYPE jsonb USING body::jsonb")
        with pytest.raises(ExceptionGroup) as found:
            await plugin.check()
        await plugin.shutdown()
    assert "table: the column body is JSONB, expected text" in str(found.value.exceptions)


async def test_a_role_that_may_not_write_is_found_by_check(tmp_path: Path, monkeypatch: Any) -> None:
    """It names the privileges that are lacking."""
    with open_database("postgresql", tmp_path) as database:
        plugin = made(table(database), tmp_path)
        await plugin.startup(make_context(tmp_path))
        await plugin.shutdown()
        role = f"reader_{database.table[-8:]}"
        database.transaction(f"CREATE ROLE {role} LOGIN", f"GRANT SELECT ON {database.table} TO {role}")
        try:
            url = database.url.set(username=role).render_as_string(hide_password=False)
            monkeypatch.setenv("GATEWAY_TEST_ROLE", url)
            config = table(database).replace(database.config, '{ env = "GATEWAY_TEST_ROLE" }')
            with pytest.raises(ExceptionGroup) as found:
                await made(config, tmp_path).check()
        finally:
            database.transaction(f"REVOKE ALL ON {database.table} FROM {role}", f"DROP ROLE {role}")
    assert "table: the role lacks INSERT, UPDATE, DELETE on " in str(found.value.exceptions)


async def test_a_database_that_is_away_is_told_of_without_a_password(tmp_path: Path, monkeypatch: Any) -> None:
    """By check and by startup, which can be repeated."""
    (tmp_path / "password").write_text("keep-this-out")
    url = 'url = "postgresql://gateway@127.0.0.1:1/x"\npassword = { file = "password" }\n'
    plugin = made(f"[plugins.sql_events]\n{url}", tmp_path)
    with pytest.raises(ValueError, match="the database cannot be asked: ") as found:
        await plugin.check()
    with pytest.raises(DatabaseFailed, match="no connection to the database: ") as failed:
        await plugin.startup(make_context(tmp_path))
    await plugin.shutdown()
    assert "keep-this-out" not in f"{found.value} {failed.value} {plugin!r}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('url = "postgresql://u:KEEPOUT@h/d"', "a password must not be in the config file"),
        ('url = "sqlite:///e.db"\ntable = "a;b"', 'expected the name of a table, such as "webio_events"'),
        (
            'url = "sqlite:///e.db"\ncolumns = { body = "payload.body" }',
            "columns.body: the table has this column anyway",
        ),
        ('url = "sqlite:///e.db"\ncolumns = { a = "amount" }', "sql_events.columns.a: expected a field and a type"),
        ('url = "sqlite:///e.db"\ncolumns = { "a b" = "payload.a" }', "letters, digits and _, at most 63"),
        ('url = "sqlite:///e.db"\ncolumns = { a = "payload.amount money" }', "a type of text, integer, decimal"),
        ('url = "sqlite:///e.db"\ntransaction_timeout = "0s"', "expected a duration longer than 0 s"),
    ],
)
def test_a_mistake_in_the_config_is_a_sentence(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        made(f"[plugins.sql_events]\n{text}\n", tmp_path)
    assert told in str(refused.value)
    assert "KEEPOUT" not in str(refused.value)
