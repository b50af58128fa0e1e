"""`gateway.testing`: what hooks are called with, made without a gateway."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from gateway.events import HOOKS, PAYLOADS, InboundMessage, Payment
from gateway.testing import event_of, make_body, make_context, make_event, make_request, until, until_true


@pytest.mark.parametrize("hook", HOOKS)
def test_an_event_of_each_hook(hook: str) -> None:
    """It is readable, typed, and new: with an id, a time and a conversation of its own."""
    first, second = make_event(hook), make_event(hook)
    assert type(first.payload) is PAYLOADS[hook]
    assert (first.hook, first.readable, first.organisation) == (hook, True, "acme")
    assert first.id < second.id
    assert first.received_at < second.received_at
    assert first.conversation_id not in (None, second.conversation_id)


def test_fields_of_a_body() -> None:
    """Fields are Webio's; `...` takes one out."""
    event = make_event("payment", amount="12.50", customerUID=..., note="é")
    assert event.customer_uid is None
    assert "customerUID" not in event.fields()
    assert isinstance(event.payload, Payment)
    assert (event.payload.extra["amount"], event.payload.extra["note"]) == ("12.50", "é")


def test_an_unknown_event() -> None:
    event = make_event("unknown")
    assert (event.hook, event.name, event.payload) == ("unknown", "newType", None)


def test_the_event_of_a_body_as_received() -> None:
    """Bytes stay as they are; the organisation's time zone and spellings of `type` count."""
    raw = b'{"type": "webioPayment",  "amount": 12.50, "dateCreated": "2026-07-01 12:00:00.000"}'
    event = event_of(raw, types={"payment": ["webioPayment"]}, timezone=ZoneInfo("Europe/Dublin"), attempt=3)
    assert (event.raw, event.hook, event.attempt) == (raw, "payment", 3)
    assert isinstance(event.payload, Payment)
    assert event.payload.extra["amount"] == Decimal("12.50")
    assert event.payload.date_created is not None
    assert event.payload.date_created.astimezone(UTC) == datetime(2026, 7, 1, 11, tzinfo=UTC)


def test_an_event_that_does_not_fit_its_hook() -> None:
    event = event_of('{"body": 5}', hook="inbound-message")
    assert (event.hook, event.readable, event.payload) == ("inbound-message", False, None)
    assert isinstance(make_event("inbound-message").payload, InboundMessage)
    with pytest.raises(ValueError, match="not"):
        event_of("[1]")


def test_a_body_is_a_new_mapping() -> None:
    assert make_body("set-status")["type"] == "setStatus"
    assert make_body("set-status")["conversationId"] != make_body("set-status")["conversationId"]


def test_a_request_for_values() -> None:
    request = make_request("balance", "name", customer_uid=None, address="44 7700 900 001", not_by_address=["name"])
    assert request.fields_for("address_digits") == ("balance",)
    assert request.fields_for("customer_uid") == ()
    assert 2 < request.time_left <= 3


def test_a_context(tmp_path: Path) -> None:
    context = make_context(tmp_path, name="ledger", organisations=["acme", "beta"])
    assert (context.name, context.organisations) == ("ledger", ("acme", "beta"))
    assert context.state_dir == tmp_path / "plugins" / "ledger"


async def test_waiting() -> None:
    """A wait ends as soon as the condition holds, or fails and says for what it waited."""
    rounds = iter([False, False, True])
    await until(lambda: next(rounds))
    with pytest.raises(AssertionError, match="not within 0 s: rain"):
        await until(lambda: False, "rain", seconds=0)
    with pytest.raises(AssertionError, match="not within 0 s: sun"):
        until_true(lambda: False, "sun", seconds=0)


@pytest.mark.parametrize(
    ("module", "without"),
    [("gateway.pytest_plugin", ["httpx", "litestar", "apsw"]), ("gateway.testing", ["pytest", "litestar", "uvicorn"])],
)
def test_what_an_import_brings(module: str, without: list[str]) -> None:
    """pytest loads the fixtures in every run: the kit comes with their first use, and the server with a gateway."""
    code = f"import sys, {module}; print([name for name in {without} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
