"""What others read beside the gateways, and the least that each role may do: the views, and deploy/postgresql."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import msgspec
import pytest
from click.testing import CliRunner
from journal_kit import ACME, config_of, message
from rich_journal import PLUGINS, in_database, made
from schemas import Schema, execute, server_url

from gateway.cli import cli
from gateway.config.database_url import DatabaseUrl
from gateway.config.tables import Config
from gateway.journal import copy_journal, open_journal, open_reader
from gateway.journal.interface import DEAD, DISCARDED, Filter, JournalError, Parked, Settlement, Standing, Track
from gateway.journal.operator import carry_out
from gateway.json_text import one_line

ROOT = Path(__file__).parents[2]
GRANTS = (ROOT / "deploy" / "postgresql" / "grants.sql").read_text()
SCALE = (ROOT / "docs" / "scale.md").read_text()
ROLES = ("owner", "gateway", "reports")


@pytest.fixture
def schema() -> Iterator[Schema]:
    made = Schema()
    yield made
    made.drop()


def test_the_views_tell_what_a_search_tells(tmp_path: Path, schema: Schema) -> None:
    """Of each event, and of each plugin's delivery: state, attempts, error and times."""
    config = config_of(tmp_path)
    made(config)
    database = in_database(config, schema)
    copy_journal(config, database)
    with closing(open_reader(database)) as search:
        rows = list(search.events(Filter()))
        letters = {(row.id, row.plugin): (row.attempts, row.error, row.dead_since) for row in search.dead(Filter())}

    columns = "id::text, received_at, organisation, hook, conversation_id, customer_uid, readable, conflict, name, body"
    listed = schema.execute(f"SELECT {columns} FROM gateway_events ORDER BY seq")
    assert [(*row[:-1], one_line(row[-1])) for row in listed] == [
        (
            row.id,
            row.received_at,
            row.organisation,
            row.hook,
            row.conversation_id,
            row.customer_uid,
            row.readable,
            row.conflict,
            row.name,
            bytes(row.body),
        )
        for row in rows
    ]
    columns = "id::text, plugin, state, attempts, error, dead_since, next_try"
    told = schema.execute(f"SELECT {columns} FROM gateway_deliveries")
    states = {(row.id, plugin): state for row in rows for plugin, state in row.deliveries.items()}
    assert {row[:2]: row[2] for row in told if row[2] != DISCARDED} == states
    assert {row[:2]: row[3:6] for row in told if row[2] == DEAD} == letters
    next_tries = {(row.id, plugin): at for row in rows for plugin, at in row.next_try.items()}
    assert {row[:2]: row[6] for row in told if row[:2] in next_tries} == next_tries
    assert {row[1] for row in told} < set(PLUGINS)


def test_every_column_of_the_views_is_described(tmp_path: Path, schema: Schema) -> None:
    """In docs/scale.md, with its type, and no other."""
    open_and_close(in_database(config_of(tmp_path), schema))
    for view in ("gateway_events", "gateway_deliveries"):
        described = re.search(rf"\n\| `{view}` \| type \|.*\n\|---.*\n((?:\|.*\n)+)", SCALE)
        assert described is not None, view
        rows = [tuple(cell.strip() for cell in line.split("|")[1:3]) for line in described[1].splitlines()]
        columns = "SELECT column_name, data_type FROM information_schema.columns"
        found = schema.execute(
            f"{columns} WHERE table_schema = current_schema() AND table_name = '{view}' ORDER BY ordinal_position"
        )
        assert [(name.strip("`"), kind) for name, kind in rows] == found


def open_and_close(config: Config) -> None:
    async def run() -> None:
        journal = open_journal(config)
        await journal.start()
        await journal.close()

    asyncio.run(run())


class Roles:
    """The roles and the schema of deploy/postgresql/grants.sql, by names of their own."""

    def __init__(self) -> None:
        self.server = server_url()
        self.name = f"webio{secrets.token_hex(5)}"

    def grant(self) -> None:
        """Run the script."""
        execute(self.server, re.sub(r"\bwebio(?=_|\b)", self.name, GRANTS))

    def url(self, role: str) -> str:
        parts = urlsplit(self.server)
        place = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{self.name}_{role}@{place}"))

    def config(self, directory: Path, role: str) -> Config:
        config = config_of(directory)
        url = DatabaseUrl.from_config(self.url(role), directory)
        return msgspec.structs.replace(config, journal=msgspec.structs.replace(config.journal, url=url))

    def drop(self) -> None:
        execute(self.server, f"DROP SCHEMA IF EXISTS {self.name} CASCADE")
        for role in ROLES:
            execute(self.server, f"DROP OWNED BY {self.name}_{role} CASCADE", f"DROP ROLE {self.name}_{role}")


@pytest.fixture
def roles() -> Iterator[Roles]:
    made = Roles()
    [(superuser,)] = execute(made.server, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
    if not superuser:
        pytest.skip("makes roles: needs a superuser of the database")
    made.grant()
    try:
        execute(made.url("gateway"), "SELECT 1")
    except asyncpg.InvalidPasswordError:
        made.drop()
        pytest.skip("the database asks new roles for a password")
    yield made
    made.drop()


def test_a_gateway_works_with_the_gateways_role_only(roles: Roles, tmp_path: Path) -> None:
    """It appends, delivers, repairs, erases and searches, and may neither make nor drop a table."""
    config = roles.config(tmp_path, "gateway")
    with pytest.raises(JournalError, match="lacks a right"):
        open_and_close(config)
    arguments = ["journal", "upgrade", "-c", str(config.source), "--url", roles.url("owner")]
    made = CliRunner().invoke(cli, arguments)
    assert (made.exit_code, made.stdout) == (0, "the journal has layout 1 now\n"), made.output
    assert CliRunner().invoke(cli, arguments).stdout == "the journal has layout 1 already\n"
    roles.grant()

    async def work() -> list[str]:
        journal = open_journal(config)
        await journal.start()
        try:
            raws = [message(customerUID=str(number)) for number in range(4)]
            receipts = [await journal.append(ACME, journal.decoder.decode(ACME, raw, None), raw) for raw in raws]
            standing = await journal.take_cursor(Track("crm"), True)
            assert isinstance(standing, Standing)
            parked = [Parked(seq=seq, state=DEAD, attempts=1, error="OSError", since=1.0) for seq in (1, 2)]
            await journal.settle(Settlement(track=Track("crm"), epoch=standing.epoch, cursor=4, park=parked))
            assert await journal.discard_dead(Filter(customer="0")) == 1
            assert (await carry_out(journal, (await journal.begin("retry", Filter())).number)).done == 1
            await journal.new_replay(Filter(plugin="crm"))
            erased = await journal.forget(Filter(customer="3"))
            assert erased.events == 1
            await journal.wipe()
            await journal.keep_note("about", "something")
            await journal.release_cursor(Track("crm"), standing.epoch, True)
            return [receipt.id for receipt in receipts]
        finally:
            await journal.close()

    ids = asyncio.run(work())
    with closing(open_reader(config)) as search:
        assert [row.id for row in search.events(Filter())] == ids[:3]
    for statement in (
        "CREATE TABLE more (n int)",
        "DROP TABLE events",
        "TRUNCATE events",
        "ALTER TABLE head ADD n int",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            execute(roles.url("gateway"), statement)


def test_reports_read_the_views_and_nothing_else(roles: Roles, tmp_path: Path) -> None:
    """Neither the tables behind them, nor the functions."""
    owner = CliRunner().invoke(
        cli, ["journal", "upgrade", "-c", str(config_of(tmp_path).source), "--url", roles.url("owner")]
    )
    assert owner.exit_code == 0, owner.output
    roles.grant()
    reports = roles.url("reports")
    assert execute(reports, "SELECT count(*) FROM gateway_events") == [(0,)]
    assert execute(reports, "SELECT count(*) FROM gateway_deliveries") == [(0,)]
    for statement in ("SELECT count(*) FROM events", "SELECT count(*) FROM notes", "SELECT gateway_kept('{}')"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            execute(reports, statement)
    with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError)):
        execute(reports, "DELETE FROM gateway_events")
