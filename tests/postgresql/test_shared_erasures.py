"""An erasure reaches every gateway on the journal: each may keep files of its own, and has read ahead."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
from clusters import Cluster
from conformance.engines import PostgresqlEngine, events_in, fill
from kit import make_plugin

from gateway import hookimpl
from gateway.config.bounded_types import NodeName
from gateway.config.database_url import DatabaseUrl
from gateway.config.tables import NodeSettings
from gateway.journal import open_console
from gateway.journal.interface import Filter
from gateway.selector import Selector
from gateway.service import Gateway


class Keeper:
    """Keeps two records of everyone, on the machine that it runs on."""

    def __init__(self) -> None:
        self.asked: list[Selector] = []

    @hookimpl
    def forget(self, selector: Selector) -> int:
        self.asked.append(selector)
        return 2


@pytest.fixture
async def engine(tmp_path: Path, cluster: Cluster) -> AsyncIterator[PostgresqlEngine]:
    made = PostgresqlEngine(tmp_path, cluster.url)
    yield made
    await made.close_all()


@asynccontextmanager
async def gateway_named(engine: PostgresqlEngine, name: str, keeper: Keeper) -> AsyncIterator[Gateway]:
    config = msgspec.structs.replace(engine.config, node=NodeSettings(name=NodeName(name)))
    plugin = make_plugin("keeper", keeper)
    gateway = Gateway(config, [plugin], clock=engine.clock)
    await gateway.start(lambda error: None)
    try:
        yield gateway
    finally:
        await gateway.stop()
        plugin.close()


async def test_the_plugins_of_all_gateways_are_asked(engine: PostgresqlEngine) -> None:
    """Each once, whichever gateway was told; the answer counts them all."""
    keepers = [Keeper() for _ in range(3)]
    async with (
        gateway_named(engine, "one", keepers[0]) as one,
        gateway_named(engine, "two", keepers[1]),
        gateway_named(engine, "three", keepers[2]),
    ):
        await fill(one.journal, 5, customerUID="4711")
        begun = await one.operations.start("forget", Filter(customer="4711"))
        operation = await one.operations.ended(begun.number)
    assert (operation.state, operation.done, operation.answers.erased) == ("finished", 5, {"keeper": 6})
    assert operation.answers.failed == {}
    assert [keeper.asked for keeper in keepers] == [[Selector(customer_uid="4711")]] * 3


async def test_a_gateway_that_dies_before_it_has_answered_is_named(engine: PostgresqlEngine) -> None:
    """What it keeps is still there: the operator erases again once it runs."""
    keeper = Keeper()
    async with gateway_named(engine, "one", keeper) as one:
        await fill(one.journal, 1, customerUID="4711")
        await engine.execute(
            "INSERT INTO nodes (id, name, beat_at, version, layout, about)"
            " VALUES (gen_random_uuid(), 'gone', clock_timestamp() - interval '8 s', '1', 1, '{}')"
        )
        begun = await one.operations.start("forget", Filter(customer="4711"))
        operation = await one.operations.ended(begun.number)
    assert (operation.state, operation.answers.erased) == ("finished", {"keeper": 2})
    assert operation.answers.failed == {"keeper (gone)": "its gateway stopped before it had answered"}


async def test_a_user_without_the_tables_erases_too(engine: PostgresqlEngine) -> None:
    """PostgreSQL only skips `VACUUM` then, with a warning, which must not count as a commit that no standby has."""
    journal = await engine.open()
    await fill(journal, 3, customerUID="4711")
    role = f"gateway_{secrets.token_hex(4)}"
    schema = engine.schema
    await engine.execute(
        f"CREATE ROLE {role} LOGIN",
        f"GRANT USAGE ON SCHEMA {schema} TO {role}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}",
    )
    try:
        user = urlsplit(str(engine.config.journal.url))
        url = user._replace(netloc=f"{role}@{user.netloc.rpartition('@')[2]}").geturl()
        settings = msgspec.structs.replace(engine.config.journal, url=DatabaseUrl(url))
        async with open_console(msgspec.structs.replace(engine.config, journal=settings)) as console:
            assert (await console.forget(Filter(customer="4711"))).events == 3
            await console.probe()
        assert await events_in(journal) == []
    finally:
        await engine.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")
