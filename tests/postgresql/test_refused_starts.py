"""A start on a database that cannot keep events: one sentence for each reason, and nothing is changed there."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from cli_process import run_cli
from click.testing import CliRunner
from clusters import Cluster, clusters
from machine import free_ports
from postgresql.conftest import Configure, opened
from postgresql.relay import relaying
from running import write_config
from schemas import Schema, execute

from gateway.cli import cli
from gateway.config.tables import Config
from gateway.journal import check_database, open_journal
from gateway.journal.interface import JournalError, JournalRefused
from gateway.journal.postgresql.layout import LAYOUT


async def refusal(config: Config, kind: type[JournalError] = JournalRefused) -> str:
    """The sentence with which a start is refused."""
    with pytest.raises(JournalError) as raised:
        async with opened(config):
            pass
    assert type(raised.value) is kind
    return str(raised.value)


async def checked(config: Config) -> list[str]:
    """What `gateway check` says of it."""
    return (await asyncio.to_thread(check_database, config)).errors


async def test_no_server(configure: Configure) -> None:
    """After it was tried for a minute, which here is none."""
    config = configure(f"postgresql://gateway@127.0.0.1:{free_ports(1)[0]}/gateway")

    sentence = await refusal(config, JournalError)

    assert sentence == "the database cannot be reached (Connection refused), after 0 s of trying"
    assert await checked(config) == ["the database cannot be reached (Connection refused)"]


async def test_no_database(cluster: Cluster, configure: Configure) -> None:
    """The server is there, the database is not."""
    config = configure(cluster.url.removesuffix("gateway") + "nothing")

    assert await refusal(config) == "the database in journal.url does not exist; create it, or name another"


async def test_a_wrong_password_and_an_unknown_user(configure: Configure, tmp_path: Path) -> None:
    """The password is not shown."""
    (tmp_path / "password").write_text("the wrong one")
    with clusters(1) as (server,):
        server.make()
        (server.folder / "data" / "pg_hba.conf").write_text(
            "host all gateway all trust\nhost all all all scram-sha-256\n"
        )
        server.start()
        server.execute("CREATE ROLE app LOGIN PASSWORD 'the right one'")
        url = server.url.replace("gateway@", "app@")
        assert await refusal(configure(url, 'password = { file = "password" }')) == (
            "the database refuses the password; look at journal.password"
        )
        (tmp_path / "password").write_text("the right one")
        right = configure(url, 'password = { file = "password" }')
        assert "may not make tables in the schema public" in (await checked(right))[0]
        assert await refusal(right) == ("the user in journal.url lacks a right on the database or the journal's tables")


async def test_a_standby_takes_no_writes(configure: Configure) -> None:
    """Of several hosts, only one that takes writes is used; where there is none, the start is refused."""
    with clusters(2) as (primary, standby):
        primary.make()
        primary.start()
        standby.follow(primary)
        standby.start()
        one = configure(standby.url)
        assert await refusal(one) == (
            "no host of journal.url takes writes: what answers is a standby, or read-only, after 0 s of trying"
        )
        both = f"postgresql://gateway@127.0.0.1:{standby.port},127.0.0.1:{primary.port}/gateway"
        async with opened(configure(both)):
            pass


@pytest.mark.parametrize(
    ("setting", "value", "sentence"),
    [
        ("fsync", "off", "the database has fsync = off, and could lose events that were answered; set fsync = on"),
        (
            "full_page_writes",
            "off",
            "the database has full_page_writes = off, and could lose events that were answered; set full_page_writes"
            " = on",
        ),
        (
            "synchronous_commit",
            "remote_write",
            "the database has synchronous_commit = remote_write for this user, and could lose events that were"
            " answered; set it to on, or to remote_apply",
        ),
    ],
)
async def test_settings_that_lose_events(
    cluster: Cluster, schema: Schema, configure: Configure, setting: str, value: str, sentence: str
) -> None:
    """Each is named with what to set."""
    config = configure(schema.url)
    cluster.change(**{setting: value})
    try:
        assert await checked(config) == [sentence]
        assert await refusal(config) == sentence
    finally:
        execute(cluster.admin, f"ALTER SYSTEM RESET {setting}", "SELECT pg_reload_conf()")
    async with opened(config):
        pass


async def test_a_standby_that_is_required_and_missing(schema: Schema, configure: Configure) -> None:
    """`require_standby` is checked at the start."""
    config = configure(schema.url, "require_standby = true")

    assert await refusal(config) == (
        "journal.require_standby is true, and the database has no synchronous standby: set synchronous_standby_names,"
        " or leave require_standby out"
    )


async def test_the_tables_of_another_application(schema: Schema, configure: Configure) -> None:
    """They are left alone."""
    schema.execute("CREATE TABLE events (id integer)")
    config = configure(schema.url)

    sentence = await refusal(config)

    assert sentence == (
        "journal.url: the database has tables, but not those of a journal; it is another application's. Name an empty"
        " database, or an empty schema with ?search_path="
    )
    assert await checked(config) == [sentence]
    assert schema.execute("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()") == [("events",)]


async def test_a_schema_that_does_not_exist(cluster: Cluster, configure: Configure) -> None:
    """It is not created by the gateway."""
    config = configure(f"{cluster.url}?search_path=nowhere")

    assert await refusal(config) == (
        "journal.url: the search_path names no schema that exists; create it, or name another"
    )


async def test_the_layout_of_a_newer_version(schema: Schema, configure: Configure) -> None:
    """It is not touched."""
    config = configure(schema.url)
    async with opened(config):
        pass
    schema.execute("UPDATE gateway_journal SET layout = 99")

    assert await refusal(config) == (
        f"the journal was written by a newer version of the gateway (layout 99); this one knows up to {LAYOUT}: install"
        " that version"
    )


async def test_a_dropped_table(schema: Schema, configure: Configure) -> None:
    """It is named, instead of made again: what was in it is lost."""
    config = configure(schema.url)
    async with opened(config):
        pass
    schema.execute("DROP TABLE cursors CASCADE")

    sentence = await refusal(config)

    assert sentence == "the table cursors of the journal is missing in the database; restore it"
    assert await checked(config) == [sentence]


async def test_another_cluster_than_the_one_the_journal_was_made_in(schema: Schema, configure: Configure) -> None:
    """A copy, or a restored database: an operator has to say that it is the journal now."""
    config = configure(schema.url)
    async with opened(config):
        pass
    [(made,)] = schema.execute("SELECT system_identifier FROM gateway_journal")
    schema.execute("UPDATE gateway_journal SET system_identifier = '42'")

    sentence = await refusal(config)

    assert sentence.startswith(
        f"the journal was made in another database cluster (system_identifier 42, now {made}): it is a copy, or was"
    )
    assert await checked(config) == [sentence]


async def test_a_connection_pooler(cluster: Cluster, schema: Schema, configure: Configure) -> None:
    """It would take the session, with its settings and notifications, away between two statements."""
    async with relaying(cluster.port, replaces=True) as relay:
        config = configure(schema.url.replace(f":{cluster.port}/", f":{relay.port}/"))
        assert await refusal(config) == (
            "journal.url leads to a connection pooler, which takes the session away between two statements: name the"
            " database server itself"
        )


async def test_limits_of_the_role_do_not_end_a_commit(cluster: Cluster, configure: Configure) -> None:
    """A `statement_timeout` of the role is for people; a commit is never cancelled."""
    execute(cluster.admin, "DROP ROLE IF EXISTS limited", "CREATE ROLE limited LOGIN")
    execute(cluster.admin, "ALTER ROLE limited SET statement_timeout = '1ms'")
    schema = Schema(cluster.url)
    try:
        schema.execute(f"GRANT ALL ON SCHEMA {schema.name} TO limited")
        config = configure(schema.url.replace("gateway@", "limited@"))
        async with opened(config) as journal, journal.database.connection() as connection:
            assert await connection.fetchval("SHOW statement_timeout") == "0"
    finally:
        schema.drop()


def test_a_driver_that_is_not_installed(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that installs it. A journal in a file needs none."""
    config = configure("postgresql://gateway@127.0.0.1/gateway")
    for name in [name for name in sys.modules if name.startswith("gateway.journal.postgresql")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "asyncpg", None)

    for use in (open_journal, check_database):
        with pytest.raises(JournalRefused) as raised:
            use(config)
        assert str(raised.value) == (
            "journal.url needs the driver of PostgreSQL; install it: pip install 'webio-gateway[postgresql]'"
        )


def test_gateway_run_ends_with_78_and_the_sentence(schema: Schema, tmp_path: Path) -> None:
    """As for every other mistake of the config; `gateway check` says the same."""
    schema.execute("CREATE TABLE customers (id integer)")
    config = write_config(tmp_path, f'[journal]\nurl = "{schema.url}"\n')

    run = run_cli(["run", "-c", str(config)])
    check = CliRunner().invoke(cli, ["check", "-c", str(config)])

    assert (run.returncode, check.exit_code) == (78, 78)
    assert "gateway: journal.url: the database has tables, but not those of a journal" in run.stderr
    assert "Traceback" not in run.stderr
