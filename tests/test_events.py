"""The border types: payloads, Event, the custom value request, and JSON text as received."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.events import HOOKS, OUTCOMES, PAYLOADS, CustomValueRequest, DeliveryReport, Event, Payment
from gateway.json_text import MAX_DEPTH, deeper_than, one_line, parse_object


def report(status_code: str) -> DeliveryReport:
    return DeliveryReport(
        conversation_id="1",
        communication_action_id="2",
        outbound_channel_address="3",
        inbound_channel_address="4",
        date_created=datetime(2026, 1, 1, tzinfo=UTC),
        status_code=status_code,
    )


def event(raw: bytes) -> Event:
    return Event(
        id="e1",
        received_at=datetime(2026, 1, 1, tzinfo=UTC),
        organisation="acme",
        hook="payment",
        payload=None,
        raw=raw,
    )


def test_there_are_eight_post_hooks() -> None:
    """Named as in the path, each with a payload of its own."""
    assert HOOKS == (
        "inbound-message",
        "message-send",
        "delivery-report",
        "payment",
        "set-status",
        "conversation-closed",
        "move-to-queue",
        "conversation-assignment",
    )
    assert len(set(PAYLOADS.values())) == 8


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("0", "delivered"),
        ("1", "invalid"),
        ("2", "unavailable"),
        ("3", "network error"),
        ("4", None),
        ("5", "expired"),
        ("6", "invalid message structure"),
        ("7", "invalid contact structure"),
        ("8", None),
        ("9", "overrun"),
        ("10", "blocklisted"),
        ("11", "profanity"),
        ("12", "rejected"),
        ("13", None),
        ("14", "unconfirmed"),
        ("15", None),
        ("00", None),
        ("2.0", None),
        ("", None),
        ("delivered", None),
    ],
)
def test_an_outcome_has_the_documented_name_or_none(code: str, name: str | None) -> None:
    """Numbers that Webio does not document get no name, and no error."""
    assert report(code).outcome == name
    assert OUTCOMES.get(code) == name


@pytest.mark.parametrize("kind", PAYLOADS.values(), ids=PAYLOADS.keys())
def test_wire_names_are_webios(kind: Any) -> None:
    """Camel case, with UID in capitals."""
    names = {field.name: field.encode_name for field in msgspec.structs.fields(kind)}
    expected = {
        "type": "type",
        "customer_uid": "customerUID",
        "conversation_id": "conversationId",
        "outbound_channel_address": "outboundChannelAddress",
        "inbound_channel_address": "inboundChannelAddress",
        "date_created": "dateCreated",
        "extra": "extra",
    }
    assert names.items() >= expected.items()
    assert names.keys() - expected.keys() <= {"communication_action_id", "body", "status_code"}


def test_events_and_payloads_cannot_be_changed() -> None:
    """Several plugins see the same object."""
    for value, field in ((event(b"{}"), "hook"), (Payment(), "conversation_id"), (report("1"), "status_code")):
        with pytest.raises(AttributeError, match="immutable type"):
            setattr(value, field, "x")


def test_fields_is_the_whole_body_with_webios_names() -> None:
    """Non-integers are exact."""
    fields = event(b'{"type": "payment", "amount": 12.50, "n": 30, "big": 123456789012345678901234567890}').fields()
    assert fields == {"type": "payment", "amount": Decimal("12.50"), "n": 30, "big": 123456789012345678901234567890}
    assert str(fields["amount"]) == "12.50"


def test_the_record_is_one_line_with_the_body_as_received() -> None:
    """The keys in this order, the time in UTC with microseconds, and every token of the body unchanged."""
    sent = msgspec.structs.replace(
        event(b'{"amount": 12.50,\r\n "n": 12345678901234567890, "n": 1e2}'),
        received_at=datetime(2026, 11, 22, 17, 54, 24, tzinfo=timezone(timedelta(hours=2))),
        organisation='a"b',
    )
    assert sent.record() == (
        b'{"id":"e1","received_at":"2026-11-22T15:54:24.000000Z","organisation":"a\\"b","hook":"payment",'
        b'"body":{"amount": 12.50,   "n": 12345678901234567890, "n": 1e2}}'
    )


def test_line_is_the_text_as_received_on_one_line() -> None:
    """Digits, order, repeated keys and white space inside stay; only line breaks become spaces."""
    raw = b'\xef\xbb\xbf{\r\n  "b": 12.50,\n  "a": 1.50E2, "b": "x\\ny",\n\t"n": 123456789012345678901234567890\r}\n'
    line = event(raw).line()
    assert line == b'{    "b": 12.50,   "a": 1.50E2, "b": "x\\ny", \t"n": 123456789012345678901234567890 }'
    assert event(raw).raw == raw


@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
        | st.floats(allow_nan=False, allow_infinity=False),
        max_size=5,
    ),
    st.sampled_from([None, 1, "\t", "\r\n"]),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=200)
def test_one_line_changes_no_meaning(body: dict[str, Any], indent: Any, ascii_only: bool, mark: bool) -> None:
    """Any JSON object, however it is written, is the same object afterwards, on one line."""
    raw = json.dumps(body, indent=indent, ensure_ascii=ascii_only).encode()
    line = one_line((b"\xef\xbb\xbf" if mark else b"") + raw)
    assert b"\n" not in line and b"\r" not in line
    assert json.loads(line) == body
    assert line[:1] == b"{" and line[-1:] == b"}"
    assert parse_object(line) == parse_object(raw)


def test_one_line_leaves_a_single_line_alone() -> None:
    """Byte for byte."""
    raw = '{"a":"ü  \u2028 x", "a":1.0}'.encode()
    assert one_line(raw) == raw


@pytest.mark.parametrize(
    ("value", "depth"), [({}, 1), ([], 1), ({"a": {}}, 2), ({"a": [[], {"b": []}]}, 4), (5, 0), ("[[", 0)]
)
def test_depth_is_counted_in_containers(value: Any, depth: int) -> None:
    """An empty object has one level."""
    assert not deeper_than(value, depth)
    assert depth == 0 or deeper_than(value, depth - 1)


def test_what_was_accepted_stays_readable_deep_in_a_stack() -> None:
    """A plugin that reads the fields in a few hundred calls' depth reads what the receiver read."""
    raw = b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH

    def at(depth: int) -> dict[str, Any]:
        return event(raw).fields() if depth == 0 else at(depth - 1)

    assert at(250).keys() == {"a"}
    with pytest.raises(ValueError, match=f"the body is nested deeper than {MAX_DEPTH} levels"):
        parse_object(b'{"a":' + raw + b"}")


def test_time_left_counts_down_to_zero() -> None:
    """Never below; without a deadline it is endless."""
    now = time.monotonic()
    request = CustomValueRequest(organisation="acme", fields=("balance",), expires=now + 60)
    assert 59 < request.time_left <= 60
    assert CustomValueRequest(organisation="acme", fields=(), expires=now - 1).time_left == 0.0
    assert CustomValueRequest(organisation="acme", fields=()).time_left == float("inf")


@pytest.mark.parametrize(
    ("address", "digits"),
    [
        ("44777000001", "44777000001"),
        ("+44 777 000-001", "44777000001"),
        ("(+44) 777.000/001", "44777000001"),
        ("whatsapp:+44777000001", "44777000001"),
        ("TEL:44777000001", "44777000001"),
        ("12345", "12345"),
        ("1234", None),
        ("john44777000001@mail.com", None),
        ("44777000001@c.us", None),
        ("messenger:44777000001", None),
        ("44777000001 ext", None),
        ("447+77000001", None),
        ("44777000001;44777000002", None),
        ("\u0664\u0664\u0667\u0667\u0667\u0660\u0660", None),
        ("+", None),
        (None, None),
    ],
)
def test_an_address_has_digits_where_it_is_a_phone_number(address: str | None, digits: str | None) -> None:
    """Digits in an address that is not a phone number do not become one."""
    request = CustomValueRequest(organisation="acme", fields=(), outbound_channel_address=address)
    assert request.address_digits == digits


def test_the_border_types_import_nothing_of_the_host() -> None:
    """`gateway` and `gateway.events` bring along neither Litestar nor any module of the gateway's inside."""
    script = "import sys, gateway, gateway.events; print(sorted(m for m in sys.modules if m.split('.')[0] in %r))"
    heavy = {"gateway", "litestar", "uvicorn", "apsw", "sqlalchemy", "jwt", "httpx"}
    run = subprocess.run([sys.executable, "-c", script % heavy], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.strip() == str(
        [
            "gateway",
            "gateway.config",
            "gateway.config.field_types",
            "gateway.events",
            "gateway.hookspecs",
            "gateway.json_text",
            "gateway.large_bodies",
            "gateway.plugin_metrics",
            "gateway.selector",
        ]
    )


@pytest.mark.parametrize(
    ("keys", "uid", "address", "fields"),
    [
        (("customer_uid",), "1", "44777", ("a", "b")),
        (("customer_uid",), None, "44777", ()),
        (("outbound_channel_address",), "1", "44777", ("a",)),
        (("outbound_channel_address",), "1", None, ()),
        (("address_digits", "organisation"), "1", "44777", ("a",)),
        (("address_digits",), "1", "mary@mail.com", ()),
        (("customer_uid", "address_digits"), "1", "44777", ("a", "b")),
        (("organisation",), None, None, ("a", "b")),
        ((), None, None, ("a", "b")),
    ],
)
def test_a_request_tells_which_fields_a_look_up_may_answer(
    keys: tuple[str, ...], uid: str | None, address: str | None, fields: tuple[str, ...]
) -> None:
    """By the keys that the look-up uses: all of them must be given, and the address alone does not answer every
    field."""
    request = CustomValueRequest(
        organisation="acme",
        fields=("a", "b"),
        customer_uid=uid,
        outbound_channel_address=address,
        not_by_address=frozenset({"b"}),
    )
    assert request.fields_for(*keys) == fields


def test_an_unknown_key_of_a_look_up_is_refused() -> None:
    """A misspelt key would let the address answer for every field."""
    request = CustomValueRequest(organisation="acme", fields=("a",), outbound_channel_address="44777")
    with pytest.raises(ValueError, match=r"^unknown key 'address'; use customer_uid, outbound_channel_address, "):
        request.fields_for("address")
