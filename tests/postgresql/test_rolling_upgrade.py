"""Gateways of two versions on one journal, which the newer one brings to the next layout while the older one runs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from journal_kit import ACME
from postgresql.conftest import opened
from postgresql.test_node_list import answer, disagreements, text
from running import RunningGateway, eventually, read_config, running
from schemas import Schema

from gateway.journal import journal_nodes, upgrade_journal
from gateway.journal.interface import Standing, Track
from gateway.journal.postgresql import checking, layout, reading
from gateway.journal.postgresql.journal import PostgresqlJournal

OLD = layout.LAYOUT
NEW = OLD + 1
STEP = """
ALTER TABLE events ADD COLUMN colour text NOT NULL DEFAULT 'none';
CREATE TABLE colours (name text PRIMARY KEY);
"""
PLUGIN = """
    import os
    from gateway import Event, hookimpl

    class Plugin:
        @hookimpl
        def on_event(self, event: Event) -> None:
            with open(os.environ["CRM"], "a") as file:
                file.write(f'{event.fields()["n"]}\\n')
"""


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is of a version with one more layout; those that it starts are not."""
    monkeypatch.setitem(layout.STEPS, NEW, STEP)
    for module in (layout, reading, checking):
        monkeypatch.setattr(module, "LAYOUT", NEW)


def body(number: int) -> bytes:
    return json.dumps({"type": "payment", "conversationId": str(number % 3), "n": number}).encode()


def status(gateway: RunningGateway, number: int) -> int:
    """What a gateway answers to an event."""
    with gateway.client(timeout=60) as client:
        return client.post(body(number), "payment").status


async def append(journal: PostgresqlJournal, number: int) -> None:
    raw = body(number)
    await journal.append(ACME, journal.decoder.decode(ACME, raw, None), raw)


async def comes(holds: Callable[[], bool]) -> None:
    """Wait until it holds, while the journals of this process go on."""
    await asyncio.to_thread(eventually, holds, within=60)


@pytest.mark.usefixtures("newer")
async def test_gateways_are_replaced_one_by_one(schema: Schema, tmp_path: Path) -> None:
    """The older gateway receives, delivers and answers searches on the next layout, also after it lost its
    connections. Started again, it says what it needs; the newer one goes on where it was."""
    calls = tmp_path / "calls"

    def delivered(numbers: int) -> bool:
        return calls.exists() and set(map(int, calls.read_text().split())) == set(range(numbers))

    config = read_config(tmp_path, text(schema, "new", ""))
    with running(
        tmp_path / "old", text(schema, "old", ""), plugins={"crm": PLUGIN}, environment={"CRM": str(calls)}
    ) as old:
        assert await asyncio.to_thread(status, old, 0) == 200
        await comes(lambda: delivered(1))

        assert await asyncio.to_thread(upgrade_journal, config) == (OLD, NEW)

        async with opened(config) as new:
            await new.announce(dict)
            await append(new, 1)
            assert await asyncio.to_thread(status, old, 2) == 200
            await comes(lambda: delivered(3))
            assert [json.loads(entry.event.raw)["n"] for entry in await new.read(0, 10)] == [0, 1, 2]
            assert schema.execute("SELECT colour FROM events") == [("none",)] * 3

            assert {node.name: node.layout for node in await asyncio.to_thread(journal_nodes, config)} == {
                "old": OLD,
                "new": NEW,
            }
            await comes(lambda: len(disagreements(old)) == 1)
            sentence = disagreements(old)[0]
            assert sentence.startswith(f"the gateways old and new work with the layouts {OLD} (version ")
            found = await asyncio.to_thread(old.cli, "check")
            assert f"written by a newer version of the gateway (layout {NEW})" in " ".join(found.stdout.split())

            sessions = "application_name LIKE 'webio-gateway old %'"
            schema.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {sessions}")
            await comes(lambda: status(old, 3) == 200)
            await append(new, 4)
            await comes(lambda: delivered(5))
            events = (await asyncio.to_thread(answer, old, "/api/events"))["items"]
            assert len(events) == 5
            assert (await asyncio.to_thread(answer, old, "/health/ready"))["ready"]

            assert await asyncio.to_thread(old.stop) == 0
            standing = await new.take_cursor(Track("crm"), True)
            assert isinstance(standing, Standing)
            assert (standing.cursor, standing.clean) == (new.newest, True)

            again = await asyncio.to_thread(old.cli, "run")
            assert again.returncode == 78
            assert (
                f"gateway: the journal was written by a newer version of the gateway (layout {NEW}); this one knows up"
                f" to {OLD}: install that version\n"
            ) in again.stderr
