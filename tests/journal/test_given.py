"""The record of custom value requests in the journal, and `gateway values`."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import pytest
from delivering import journal_config
from journal_kit import config_of, opened
from running import RunningGateway

from gateway.journal import open_reader
from gateway.journal.search import ValueRecord, ValueRecordFilter
from gateway.journal.sqlite.journal import SqliteJournal

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def row(number: int, **changes: object) -> ValueRecord:
    values: dict[str, object] = {
        "at": NOW + timedelta(minutes=number),
        "organisation": "acme",
        "customer_uid": str(number),
        "address": "…777",
        "fields": {"balance": {"outcome": "value", "provider": "sql", "ms": 1.5}},
        "status": 200,
        **changes,
    }
    return ValueRecord(**values)  # type: ignore[arg-type]


async def test_records_are_listed_oldest_first_and_filtered(tmp_path: Path) -> None:
    """Every filter that is given must hold; `newest` gives the last few, still oldest first."""
    config = journal_config(tmp_path)

    async def keep() -> None:
        journal = SqliteJournal(config, clock=NOW.timestamp)
        await journal.start()
        for number in range(4):
            journal.record_value_request(row(number))
        journal.record_value_request(
            row(4, status=404, fields={"odd '; name": {"outcome": "unknown", "provider": None, "ms": 0.0}})
        )
        journal.record_value_request(row(5, organisation="other"))
        await journal.close()
        assert journal.value_records_lost == 0

    await keep()
    reader = open_reader(config)

    def customers(limit: int | None = None, newest: bool = False, **which: object) -> list[str | None]:
        return [given.customer_uid for given in reader.value_records(ValueRecordFilter(**which), limit, newest)]  # type: ignore[arg-type]

    assert customers() == ["0", "1", "2", "3", "4", "5"]
    assert customers(limit=2) == ["0", "1"]
    assert customers(limit=2, newest=True) == ["4", "5"]
    assert customers(organisation="other") == ["5"]
    assert customers(customer_uid="2") == ["2"]
    assert customers(status=404) == ["4"]
    assert customers(fields=("odd '; name", "none")) == ["4"]
    assert customers(since=NOW + timedelta(minutes=1), until=NOW + timedelta(minutes=3)) == ["1", "2"]
    reader.close()


async def test_records_older_than_their_retention_go(tmp_path: Path) -> None:
    config = journal_config(tmp_path, '[values]\naudit_retention = "1h"\n')

    async def keep() -> None:
        journal = SqliteJournal(config, clock=lambda: (NOW + timedelta(hours=1, minutes=2)).timestamp())
        await journal.start()
        for number in range(5):
            journal.record_value_request(row(number))
        await journal.probe()
        while await journal.query(lambda connection: connection.execute("SELECT count(*) FROM value_records").get) != 3:
            await asyncio.sleep(0.02)
        await journal.close()

    await asyncio.wait_for(keep(), 10)


def test_what_a_bot_was_told_can_be_traced(start_gateway: Callable[..., RunningGateway]) -> None:
    """`gateway values` lists each request with its fields, their providers and outcomes; never the value."""
    gateway = start_gateway(
        '[values]\naudit = true\n[plugins.static_values]\n[plugins.static_values.values]\nhours = "9 to 5"\n'
    )
    with gateway.client() as client:
        assert client.ask(["hours"], "123456", "447717472695").status == 200
        assert client.ask(["hours", "none"]).status == 404

    def values(*options: str) -> list[dict[str, object]]:
        done = gateway.cli("values", "--json", *options)
        assert done.returncode == 0, done.stderr
        assert "9 to 5" not in done.stdout
        assert "447717472695" not in done.stdout
        return [json.loads(line) for line in done.stdout.splitlines()]

    first, second = values()
    assert first.keys() >= {"at", "organisation", "customer_uid", "fields", "status"}
    assert (first["customer_uid"], first["status"], second["status"]) == ("123456", 200, 404)
    fields = first["fields"]
    assert isinstance(fields, dict)
    assert fields["hours"].keys() >= {"outcome", "provider", "ms"}
    assert (fields["hours"]["outcome"], fields["hours"]["provider"]) == ("value", "static_values")
    assert values("--field", "none") == [second]


async def test_records_that_wait_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond `RECORDS` that wait, further records are lost and counted: the answer to the bot never waits."""
    monkeypatch.setattr("gateway.journal.sqlite.journal.RECORDS", 3)
    async with opened(config_of(tmp_path)) as journal:
        reached, release = threading.Event(), threading.Event()

        def occupy(connection: apsw.Connection) -> None:
            reached.set()
            release.wait(10)

        occupied = asyncio.create_task(journal.operate(occupy))
        assert await asyncio.to_thread(reached.wait, 10)
        for number in range(5):
            journal.record_value_request(row(number))
        release.set()
        await occupied
        sql = "SELECT customer_uid FROM value_records ORDER BY number"
        assert await journal.operate(lambda connection: [row[0] for row in connection.execute(sql)]) == ["0", "1", "2"]
        assert journal.value_records_lost == 2
