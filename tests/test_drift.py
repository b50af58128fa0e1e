"""Drift of fields: what appeared in Webio's bodies, and what vanished from them."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asgi import InProcess, in_process

from gateway import drift
from gateway.drift import WatchState, changes_in, look
from gateway.events import Event

MESSAGE = {
    "type": "inboundMessage",
    "conversationId": "7",
    "communicationActionId": "1",
    "customerUID": "4711",
    "outboundChannelAddress": "1",
    "inboundChannelAddress": "50100",
    "dateCreated": "2026-01-31 12:00:00.000",
    "body": "hello",
}
START = datetime(2026, 1, 31, 12, tzinfo=UTC)


class Sender:
    """Looks at one event after the other, a minute apart."""

    def __init__(self) -> None:
        self.state = WatchState()
        self.number = 0

    def send(
        self, count: int = 1, hook: str = "inbound-message", organisation: str = "acme", fields: Any = (), **more: Any
    ) -> None:
        for _ in range(count):
            self.number += 1
            look(
                self.state,
                Event(
                    id=str(self.number),
                    received_at=START + timedelta(minutes=self.number),
                    organisation=organisation,
                    hook=hook,
                    payload=None,
                    raw=json.dumps({"type": "x", "customerUID": "1"} | dict(fields) | more).encode(),
                    readable=True,
                ),
            )

    def found(self) -> list[tuple[str, str, int, str]]:
        return [(one.field, one.change, one.count, one.example) for one in changes_in(self.state)]


def test_a_new_field_appears_once_the_hook_is_known() -> None:
    """With when it came first and last, in how many events, and the newest example."""
    sender = Sender()
    sender.send(200, odd=1)
    assert sender.found() == [("odd", "undocumented", 200, "200")]
    sender.send(odd=1, fresh=1)
    sender.send(odd=1)
    sender.send(odd=1, fresh=2)
    assert sender.found() == [("fresh", "appeared", 2, "203"), ("odd", "undocumented", 203, "203")]
    [fresh, _] = changes_in(sender.state)
    assert (fresh.first, fresh.last) == (START + timedelta(minutes=201), START + timedelta(minutes=203))


def test_a_field_that_was_always_there_vanishes_and_comes_back() -> None:
    """After 20 events without it; with the first of them."""
    sender = Sender()
    sender.send(200, body="5")
    sender.send(19)
    assert sender.found() == []
    sender.send()
    assert sender.found() == [("body", "vanished", 20, "201")]
    sender.send(body="1")
    assert sender.found() == []


def test_an_optional_field_does_not_drift() -> None:
    """Documented or not, it is missing now and then."""
    sender = Sender()
    for number in range(40):
        sender.send(10, fields={"body": 1, "note": "x"} if number % 4 else {})
    sender.send(200)
    assert sender.found() == [("note", "undocumented", 300, "400")]


def test_of_a_hook_without_documents_only_changes_are_told() -> None:
    """Webio says nothing of a payment's body, so all of its fields are undocumented."""
    sender = Sender()
    sender.send(200, hook="payment", odd=1)
    assert sender.found() == []
    sender.send(hook="payment", odd=1, fresh=1)
    assert sender.found() == [("fresh", "appeared", 1, "201")]


def test_each_organisation_and_hook_has_fields_of_its_own() -> None:
    """What one of them leaves out has not vanished from another."""
    sender = Sender()
    sender.send(200, body="1")
    sender.send(50, organisation="other")
    sender.send(50, hook="set-status")
    assert sender.found() == []


def test_what_is_kept_is_bounded_and_has_no_number_of_a_customer() -> None:
    """Names at most so many, each cut; a number in a name is hidden, and a value is never kept."""
    sender = Sender()
    sender.send(fields={f"field{number}x": "secret" for number in range(300)})
    assert len(sender.state.fields["acme/inbound-message"].known) == drift.FIELDS
    sender = Sender()
    sender.send(fields={"x" * 500: "secret", "447700900123": "secret"})
    names = [field for field, *_ in sender.found()]
    assert sorted(map(len, names)) == [1, 64]
    assert "447700900123" not in repr(sender.state)
    assert "secret" not in repr(sender.state)


def test_a_field_that_no_event_has_is_forgotten_in_the_end() -> None:
    """After 30 days."""
    sender = Sender()
    sender.send(200, body="5")
    sender.send(20)
    assert [change for _, change, *_ in sender.found()] == ["vanished"]
    sender.number += 31 * 24 * 60
    sender.send()
    assert sender.found() == []


def test_what_cannot_be_read_is_left_out() -> None:
    """Bodies that do not fit their hook or are large, and events of no hook."""
    state = WatchState()
    for fields in ({"readable": False}, {"hook": "unknown"}, {"raw": b'{"a":"' + b"x" * drift.LARGE + b'"}'}):
        event: dict[str, Any] = {"hook": "payment", "raw": b'{"a":1}', "readable": True} | fields
        look(state, Event(id="1", received_at=START, organisation="acme", payload=None, **event))
    assert state.fields == {}


async def fields_of(gateway: InProcess) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await gateway.manage("GET", "/api/drift")).document["fields"]
    return found


async def test_drift_is_told_and_outlives_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the API, on the page, and in a metric."""
    monkeypatch.setattr(drift, "LEARN", 3)
    for start in range(2):
        async with in_process(tmp_path) as gateway, asyncio.timeout(60):
            for number in range(3):
                await gateway.post(json.dumps(MESSAGE | {"n": f"{start}-{number}"}).encode())
            if start:
                await gateway.post(json.dumps(MESSAGE | {"n": "x", "newField": "secret"}).encode())
            wanted = 7 if start else 3
            while not (found := await fields_of(gateway)) or found[0]["count"] < wanted:
                await asyncio.sleep(0.01)
    assert [(one["field"], one["change"], one["count"]) for one in found] == [
        ("n", "undocumented", 7),
        ("newField", "appeared", 1),
    ]
    async with in_process(tmp_path) as gateway, asyncio.timeout(60):
        while not await fields_of(gateway):
            await asyncio.sleep(0.01)
        page = (await gateway.manage("GET", "/drift")).body.decode()
        assert "<code>newField</code></th><td>inbound-message</td><td>acme</td>" in page
        assert ">appeared</span> at " in page
        assert "secret" not in page
        metrics = gateway.metrics()
        assert metrics['gateway_drifted_fields{change="appeared",hook="inbound-message"}'] == 1
        assert metrics['gateway_drifted_fields{change="vanished",hook="inbound-message"}'] == 0
