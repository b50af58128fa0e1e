"""A body's bytes into a typed payload: which hook, does it fit, and nothing of it lost."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.decoding import Decoded, decode, hook_names, normalise
from gateway.events import HOOKS, PAYLOADS, UNKNOWN, DeliveryReport, InboundMessage, MessageSend, Payment
from gateway.json_text import MAX_DEPTH

NAMES = hook_names({})
UNDOCUMENTED = ["payment", "set-status", "conversation-closed", "move-to-queue", "conversation-assignment"]
DOCUMENTED = ["inbound-message", "message-send", "delivery-report"]

# As Webio's article "Change Update - Webhooks" prints them.
INBOUND = b"""{"type": "inboundMessage", "conversationId": "97847", "communicationActionId": "220859",
 "outboundChannelAddress": "447717472695", "inboundChannelAddress": "WhatsApp QA Test",
 "customerUID": "", "body": "No I don't", "dateCreated": "2021-01-28 12:21:28.373"}"""
SEND = b"""{"type": "messageSend", "conversationId": "97847", "communicationActionId": "220860",
 "outboundChannelAddress": "447717472695", "inboundChannelAddress": "WhatsApp QA Test",
 "customerUID": "", "body": "yes", "dateCreated": "2021-01-28 12:22:08.377", "statusCode": "1"}"""
REPORT = b"""{"type": "messageStatusUpdate", "conversationId": "97847", "communicationActionId": "220860",
 "outboundChannelAddress": "447717472695", "inboundChannelAddress": "WhatsApp QA Test",
 "customerUID": "", "dateCreated": "2021-01-28 12:22:15.397", "statusCode": "2"}"""


def read(body: bytes | dict[str, Any], hook: str | None = None, zone: Any = UTC, names: Any = NAMES) -> Decoded:
    return decode(body if isinstance(body, bytes) else json.dumps(body).encode(), hook, names, zone)


def report(**changes: Any) -> dict[str, Any]:
    """The documented delivery report with fields changed, or left out where the change is `...`."""
    return {name: value for name, value in {**json.loads(REPORT), **changes}.items() if value is not ...}


def micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def test_the_documented_inbound_message() -> None:
    """Every field, typed; an empty customerUID is none."""
    created = datetime(2021, 1, 28, 12, 21, 28, 373000, tzinfo=UTC)
    assert read(INBOUND) == Decoded(
        hook="inbound-message",
        payload=InboundMessage(
            type="inboundMessage",
            conversation_id="97847",
            communication_action_id="220859",
            outbound_channel_address="447717472695",
            inbound_channel_address="WhatsApp QA Test",
            customer_uid=None,
            body="No I don't",
            date_created=created,
            extra={},
        ),
        readable=True,
        conversation_id="97847",
        customer_uid=None,
        created=micros(created),
        natural_key="220859:",
    )


def test_the_documented_message_send() -> None:
    """It carries a body and a status code."""
    created = datetime(2021, 1, 28, 12, 22, 8, 377000, tzinfo=UTC)
    assert read(SEND) == Decoded(
        hook="message-send",
        payload=MessageSend(
            type="messageSend",
            conversation_id="97847",
            communication_action_id="220860",
            outbound_channel_address="447717472695",
            inbound_channel_address="WhatsApp QA Test",
            body="yes",
            date_created=created,
            status_code="1",
        ),
        readable=True,
        conversation_id="97847",
        customer_uid=None,
        created=micros(created),
        natural_key="220860:1",
    )


def test_the_documented_delivery_report() -> None:
    """Its type is messageStatusUpdate; the outcome's name stands beside the code as received."""
    decoded = read(REPORT)
    created = datetime(2021, 1, 28, 12, 22, 15, 397000, tzinfo=UTC)
    assert decoded == Decoded(
        hook="delivery-report",
        payload=DeliveryReport(
            type="messageStatusUpdate",
            conversation_id="97847",
            communication_action_id="220860",
            outbound_channel_address="447717472695",
            inbound_channel_address="WhatsApp QA Test",
            date_created=created,
            status_code="2",
        ),
        readable=True,
        conversation_id="97847",
        customer_uid=None,
        created=micros(created),
        natural_key="220860:2",
    )
    assert isinstance(decoded.payload, DeliveryReport)
    assert decoded.payload.outcome == "unavailable"


@pytest.mark.parametrize("hook", UNDOCUMENTED)
def test_an_undocumented_hook_gives_the_family_of_fields_and_keeps_the_rest(hook: str) -> None:
    """All of them optional; amounts stay exact."""
    body = (
        b'{"type": "anything", "conversationId": "7", "customerUID": "C1", "outboundChannelAddress": "4477",'
        b' "inboundChannelAddress": "WhatsApp", "dateCreated": "2026-03-01 10:00:00.000",'
        b' "amount": 12.50, "currency": "EUR", "lines": [{"n": 1}], "paid": true, "note": null}'
    )
    decoded = read(body, hook)
    kind: Any = PAYLOADS[hook]
    assert decoded.readable and decoded.hook == hook
    assert decoded.payload == kind(
        type="anything",
        conversation_id="7",
        customer_uid="C1",
        outbound_channel_address="4477",
        inbound_channel_address="WhatsApp",
        date_created=datetime(2026, 3, 1, 10, tzinfo=UTC),
        extra={"amount": Decimal("12.50"), "currency": "EUR", "lines": [{"n": 1}], "paid": True, "note": None},
    )
    assert decoded.payload is not None
    assert str(decoded.payload.extra["amount"]) == "12.50"
    assert (decoded.conversation_id, decoded.customer_uid, decoded.natural_key) == ("7", "C1", None)


@pytest.mark.parametrize("hook", UNDOCUMENTED)
def test_an_undocumented_hook_may_be_empty(hook: str) -> None:
    """Nothing is required where nothing is documented."""
    kind: Any = PAYLOADS[hook]
    assert read(b"{}", hook) == Decoded(hook, kind(), True, None, None, None, None)


@pytest.mark.parametrize("hook", DOCUMENTED)
def test_a_documented_hook_may_not_be_empty(hook: str) -> None:
    """It is kept, and said to be unreadable."""
    assert read(b"{}", hook) == Decoded(hook, None, False, None, None, None, None)


@pytest.mark.parametrize(
    ("spelling", "hook"),
    [
        ("inboundMessage", "inbound-message"),
        ("InboundMessage", "inbound-message"),
        ("INBOUND_MESSAGE", "inbound-message"),
        ("Inbound messages", "inbound-message"),
        ("inbound-message", "inbound-message"),
        ("messageSend", "message-send"),
        ("Message Send", "message-send"),
        ("messageStatusUpdate", "delivery-report"),
        ("message_status_update", "delivery-report"),
        ("Delivery Report", "delivery-report"),
        ("payment", "payment"),
        ("Payment ", "payment"),
        ("setStatus", "set-status"),
        ("conversationClosed", "conversation-closed"),
        ("move to queue", "move-to-queue"),
        ("MoveToQueue", "move-to-queue"),
        ("conversation assignment", "conversation-assignment"),
        ("Conversation-Assignment", "conversation-assignment"),
        ("somethingNew", UNKNOWN),
        ("", UNKNOWN),
        ("unknown", UNKNOWN),
        ("pay.ment", UNKNOWN),
    ],
)
def test_type_is_read_forgivingly(spelling: str, hook: str) -> None:
    """Case, spaces, `-` and `_` do not count; the spelling as received stays in the payload."""
    decoded = read(report(type=spelling, body="text"))
    assert decoded.hook == hook
    assert decoded.readable
    assert decoded.payload is None if hook == UNKNOWN else decoded.payload.type == spelling  # type: ignore[union-attr]


def test_further_spellings_come_from_the_config() -> None:
    """They are read as forgivingly."""
    names = hook_names({"payment": ["webioPayment"], "set-status": ["status.set"]})
    assert read({"type": "WEBIO-payment"}, names=names).hook == "payment"
    assert read({"type": "Status.Set"}, names=names).hook == "set-status"
    assert read({"type": "webioPayment"}).hook == UNKNOWN


def test_the_config_has_the_last_word_on_a_spelling() -> None:
    """However it is written."""
    names = hook_names({"payment": ["MessageSend"]})
    for spelling in ("messageSend", "MessageSend", "message-send", "message send"):
        assert read({"type": spelling}, names=names).hook == "payment"


def test_every_hook_answers_to_its_own_name() -> None:
    """As in the path."""
    assert [NAMES[normalise(hook)] for hook in HOOKS] == list(HOOKS)


def test_the_hook_of_the_path_wins_over_type() -> None:
    """Whatever type says, or if it is missing."""
    decoded = read(INBOUND, "payment")
    assert isinstance(decoded.payload, Payment)
    assert decoded.payload.type == "inboundMessage"
    assert decoded.payload.extra == {"communicationActionId": "220859", "body": "No I don't"}
    assert isinstance(read(report(type=...), "delivery-report").payload, DeliveryReport)
    assert read(REPORT, "inbound-message").readable is False


@pytest.mark.parametrize("value", [None, 5, 1.5, True, [], ["payment"], {}, {"name": "payment"}])
def test_a_type_that_is_no_text_names_no_hook(value: Any) -> None:
    """Kept as unknown, readable in so far as there is nothing to read."""
    assert read({"type": value, "conversationId": "1"}) == Decoded(UNKNOWN, None, True, "1", None, None, None)
    assert read({"conversationId": "1"}).hook == UNKNOWN


def test_an_unknown_event_still_tells_its_conversation() -> None:
    """So that its order is kept; numbers as their text."""
    body = b'{"type": "new", "conversationId": 12.50, "customerUID": 0, "dateCreated": "2026-01-01 00:00:00"}'
    expected = Decoded(UNKNOWN, None, True, "12.50", "0", micros(datetime(2026, 1, 1, tzinfo=UTC)), None, "new")
    assert read(body) == expected


@pytest.mark.parametrize("text", ["1", "0", "-0", "1.50E2", "1.50", "1e5", "9" * 30, "0.1000", "-7", "1E-7"])
def test_a_number_where_a_text_is_documented_is_its_text(text: str) -> None:
    """Exactly as received, for every documented text field."""
    names = ["conversationId", "communicationActionId", "outboundChannelAddress", "inboundChannelAddress"]
    for name in [*names, "customerUID", "statusCode", "type"]:
        raw = REPORT.replace(b'"' + json.loads(REPORT)[name].encode() + b'"', text.encode())
        raw = raw if name != "customerUID" else REPORT.replace(b'"customerUID": ""', b'"customerUID": ' + text.encode())
        payload = read(raw, "delivery-report").payload
        assert payload is not None
        field = {f.encode_name: f.name for f in msgspec.structs.fields(DeliveryReport)}[name]
        assert getattr(payload, field) == text


def test_numbers_in_undocumented_hooks_are_texts_too() -> None:
    """Where the field is one of the common family; others keep their type."""
    decoded = read(b'{"conversationId": 97847, "customerUID": 1.0, "amount": 1.0, "n": 3}', "payment")
    assert decoded.payload == Payment(
        conversation_id="97847", customer_uid="1.0", extra={"amount": Decimal("1.0"), "n": 3}
    )
    assert (decoded.conversation_id, decoded.customer_uid) == ("97847", "1.0")


def test_the_spelling_of_the_prose_is_accepted() -> None:
    """communicationActionID, where the other one is missing; where both are there the second is extra."""
    body = report(communicationActionId=..., communicationActionID="5")
    decoded = read(body)
    assert decoded.payload is not None and decoded.payload.extra == {}
    assert decoded.natural_key == "5:2"
    both = read(report(communicationActionID="5"))
    assert both.payload is not None and both.payload.extra == {"communicationActionID": "5"}
    assert both.natural_key == "220860:2"
    number = json.dumps(body).replace('"5"', "5.0").encode()
    assert read(number).natural_key == "5.0:2"


@pytest.mark.parametrize(
    "changes",
    [
        {"conversationId": ...},
        {"conversationId": None},
        {"conversationId": ["97847"]},
        {"communicationActionId": ...},
        {"outboundChannelAddress": True},
        {"inboundChannelAddress": {"name": "x"}},
        {"statusCode": ...},
        {"statusCode": False},
        {"customerUID": []},
        {"customerUID": False},
        {"type": ["messageStatusUpdate"]},
        {"dateCreated": ...},
        {"dateCreated": None},
        {"dateCreated": ""},
        {"dateCreated": 20210128},
        {"dateCreated": "20210128"},
        {"dateCreated": "1611836488373"},
        {"dateCreated": "1612010112345"},
        {"dateCreated": "yesterday"},
        {"dateCreated": "2021-02-30 12:00:00"},
        {"dateCreated": "28/01/2021 12:22:15"},
        {"dateCreated": "0001-01-01 00:00:00+01:00"},
        {"dateCreated": "9999-12-31 23:59:59-01:00"},
        {"dateCreated": {"date": "2021-01-28"}},
    ],
    ids=str,
)
def test_what_does_not_fit_a_documented_hook_is_unreadable(changes: dict[str, Any]) -> None:
    """Kept, never refused; what it says of its conversation is still used."""
    decoded = read(report(**changes), "delivery-report")
    assert (decoded.hook, decoded.payload, decoded.readable) == ("delivery-report", None, False)
    assert decoded.conversation_id == (None if "conversationId" in changes else "97847")
    assert (decoded.customer_uid, decoded.natural_key) == (None, None)
    if "dateCreated" in changes:
        assert decoded.created == (None if changes["dateCreated"] in (None, "", ...) else 0)


@pytest.mark.parametrize("value", ["garbage", "", None, 5, 1.5, [], {}, "20260301", "9999-12-31 23:59:59-01:00"])
def test_a_date_that_is_none_is_kept_in_extra_of_an_undocumented_hook(value: Any) -> None:
    """Readable all the same: nothing is documented there."""
    decoded = read({"dateCreated": value, "conversationId": "1"}, "payment")
    assert decoded.payload == Payment(conversation_id="1", extra={"dateCreated": value})
    assert decoded.readable
    assert decoded.created == (None if value in (None, "") else 0)


@pytest.mark.parametrize("value", [["1"], {"id": 1}, True])
def test_a_common_field_of_another_kind_makes_an_undocumented_hook_unreadable(value: Any) -> None:
    """A plugin may trust the types it was promised."""
    assert read({"conversationId": value}, "payment") == Decoded("payment", None, False, None, None, None, None)


@pytest.mark.parametrize("uid", [None, ""])
def test_no_customer_is_none(uid: Any) -> None:
    """Empty text and null."""
    for body, hook in (
        (report(customerUID=uid), None),
        ({"customerUID": uid}, "payment"),
        ({"customerUID": uid}, None),
    ):
        assert read(body, hook).customer_uid is None


@pytest.mark.parametrize("uid", ["0", "null", " ", "None", "ü" * 500])
def test_any_other_text_is_a_customer(uid: str) -> None:
    """Nothing is guessed."""
    assert read(report(customerUID=uid)).customer_uid == uid


def test_an_empty_conversation_is_none() -> None:
    """It binds no events together."""
    assert read(report(conversationId="")).conversation_id is None
    assert read({"conversationId": ""}, "payment").conversation_id is None
    assert read({"conversationId": ""}).conversation_id is None


def test_a_date_without_zone_is_in_the_organisations_zone() -> None:
    """Summer and winter."""
    dublin = ZoneInfo("Europe/Dublin")
    summer = read(report(dateCreated="2021-07-28 12:22:15.397"), zone=dublin)
    winter = read(REPORT, zone=dublin)
    assert summer.payload is not None and summer.payload.date_created is not None
    assert summer.payload.date_created.utcoffset() == timedelta(hours=1)
    assert summer.created == micros(datetime(2021, 7, 28, 11, 22, 15, 397000, tzinfo=UTC))
    assert winter.created == micros(datetime(2021, 1, 28, 12, 22, 15, 397000, tzinfo=UTC))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2021-01-28 12:22:15.397Z", datetime(2021, 1, 28, 12, 22, 15, 397000, tzinfo=UTC)),
        ("2021-01-28T12:22:15+02:00", datetime(2021, 1, 28, 12, 22, 15, tzinfo=timezone(timedelta(hours=2)))),
        ("2021-01-28T12:22:15.123456-05:30", datetime(2021, 1, 28, 17, 52, 15, 123456, tzinfo=UTC)),
        ("2021-01-28T12:22:15.123456789Z", datetime(2021, 1, 28, 12, 22, 15, 123456, tzinfo=UTC)),
        ("2021-01-28", datetime(2021, 1, 28, tzinfo=timezone(timedelta(hours=9)))),
        ("0001-01-01 00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31 23:59:59.999999Z", datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
        ("1969-12-31 23:59:59.999999Z", datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
    ],
)
def test_a_date_with_a_zone_keeps_it(text: str, moment: datetime) -> None:
    """Aware in any case, exact to the microsecond, from year 1 to 9999."""
    for body, hook in ((report(dateCreated=text), None), ({"dateCreated": text}, "payment")):
        decoded = read(body, hook, zone=ZoneInfo("Asia/Tokyo"))
        assert decoded.payload is not None and decoded.payload.date_created is not None
        assert decoded.payload.date_created == moment
        assert decoded.payload.date_created.utcoffset() is not None
        assert decoded.created == micros(moment)


@given(st.datetimes(timezones=st.just(UTC)))
@settings(max_examples=100)
def test_created_is_exact(moment: datetime) -> None:
    """To the microsecond, whatever a float would make of it."""
    assert read(report(dateCreated=moment.isoformat(" "))).created == micros(moment)


NO_OBJECTS: dict[str, bytes] = {
    "nothing": b"",
    "white space": b" \n",
    "a byte order mark": b"\xef\xbb\xbf",
    "a list": b"[]",
    "a list with an object": b"[{}]",
    "a text": b'""',
    "a number": b"5",
    "null": b"null",
    "true": b"true",
    "no JSON": b"type=payment&amount=5",
    "XML": b"<event/>",
    "cut": INBOUND[:-1],
    "two": b"{}{}",
    "something after": b"{} x",
    "NUL after": b"{}\0",
    "trailing comma": b'{"a":1,}',
    "single quotes": b"{'a':1}",
    "NaN": b'{"a":NaN}',
    "Infinity": b'{"a":-Infinity}',
    "1e999": b'{"a":1e999}',
    "-1e999": b'{"a":-1e999}',
    "an exponent of 30 digits": b'{"a":1e' + b"9" * 30 + b"}",
    "5000 digits": b'{"a":' + b"9" * 5000 + b"}",
    "5000 digits and a fraction": b'{"a":' + b"9" * 5000 + b".5}",
    "a leading zero": b'{"a":01}',
    "invalid UTF-8": b'{"a":"\xff"}',
    "invalid UTF-8 in a key": b'{"\xff":1}',
    "cut UTF-8": b'{"a":"\xe2\x82"}',
    "overlong UTF-8": b'{"a":"\xc0\xaf"}',
    "UTF-8 surrogate": b'{"a":"\xed\xa0\x80"}',
    "UTF-16": '{"a":1}'.encode("utf-16"),
    "UTF-16 without mark": '{"a":1}'.encode("utf-16-le"),
    "two byte order marks": b"\xef\xbb\xbf\xef\xbb\xbf{}",
    "raw line break in a text": b'{"a":"\n"}',
    "raw NUL in a text": b'{"a":"\0"}',
    "objects 100,000 deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "lists 100,000 deep": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "open lists 100,000 deep": b'{"a":' + b"[" * 100_000,
    "lists deeper than allowed": b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}",
    "objects deeper than allowed": b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1),
}


@pytest.mark.parametrize("hook", [None, "payment", "inbound-message"])
@pytest.mark.parametrize("raw", NO_OBJECTS.values(), ids=NO_OBJECTS.keys())
def test_what_is_no_json_object_is_a_value_error(raw: bytes, hook: str | None) -> None:
    """And nothing else, with a message that quotes nothing of it."""
    with pytest.raises(ValueError, match=r"^the body (is|contains) ") as caught:
        decode(raw, hook, NAMES, UTC)
    assert str(caught.value) in {
        "the body contains a number outside the range of a float",
        "the body is not valid JSON",
        "the body is valid JSON, but not an object",
        f"the body is nested deeper than {MAX_DEPTH} levels",
    }


@pytest.mark.parametrize("raw", [INBOUND, SEND, REPORT, b'{"conversationId": 7}'])
@pytest.mark.parametrize("hook", [None, "payment"])
def test_a_byte_order_mark_before_the_object_is_no_part_of_it(raw: bytes, hook: str | None) -> None:
    """An authentic event is not lost for three bytes."""
    assert read(b"\xef\xbb\xbf" + raw, hook) == read(raw, hook)


def test_what_is_nested_as_deep_as_allowed_is_kept() -> None:
    """For every hook."""
    raw = b'{"a":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b', "conversationId": 1}'
    for hook in (None, *UNDOCUMENTED):
        assert read(raw, hook).conversation_id == "1"


def test_many_brackets_are_not_depth() -> None:
    """Beside each other, or inside of texts."""
    wide = {"conversationId": "1", "list": [[] for _ in range(5000)], "text": "[{" * 5000}
    assert read(wide, "payment").readable


def test_extra_keeps_everything_else() -> None:
    """Names that look like ours, odd names, a field called extra."""
    rest = {
        "extra": {"a": 1},
        "conversation_id": "x",
        "customerUid": "y",
        "": 0,
        "Type": 1,
        "ü": [None],
        "__class__": 1,
    }
    decoded = read(report(**rest))
    assert decoded.payload is not None
    assert decoded.payload.extra == rest
    assert decoded.payload.conversation_id == "97847"


def test_of_repeated_keys_the_last_counts() -> None:
    """In every reading; the text as received has them all."""
    raw = b'{"type": "payment", "conversationId": 1, "conversationId": 2.0, "a": 1, "a": 2}'
    assert read(raw).payload == Payment(type="payment", conversation_id="2.0", extra={"a": 2})
    assert read(b'{"type": "payment", "type": "setStatus"}').hook == "set-status"


def test_payloads_do_not_share_what_they_hold() -> None:
    """A plugin that changes `extra` does not change it for other plugins."""
    one, two = read(REPORT).payload, read(REPORT).payload
    assert one is not None and two is not None
    one.extra["mine"] = True
    assert two.extra == {}
    assert read(REPORT).payload.extra == {}  # type: ignore[union-attr]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    | st.sampled_from(
        ["2021-01-28 12:22:15.397", "2021-01-28", "0001-01-01 00:00:00+14:00", "payment", "inboundMessage", ""]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=3), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ["type", "conversationId", "communicationActionId", "communicationActionID", "outboundChannelAddress", "extra"]
FIELDS += ["inboundChannelAddress", "customerUID", "body", "dateCreated", "statusCode", "amount"]
BODIES = st.dictionaries(
    st.sampled_from(FIELDS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=5), JSON, max_size=10
)
NEAR = BODIES.map(lambda body: {**json.loads(REPORT), **body})


@given(body=BODIES | NEAR, hook=st.sampled_from([None, *HOOKS]))
@example(body={"dateCreated": None}, hook="payment")
@settings(max_examples=150)
def test_any_object_is_an_event_and_nothing_of_it_is_lost(body: dict[str, Any], hook: str | None) -> None:
    """No exception for any JSON object; struct fields and extra together are the body."""
    decoded = read(body, hook)
    assert decoded.hook == (hook or decoded.hook)
    assert decoded.readable is (decoded.payload is not None or decoded.hook == UNKNOWN)
    if decoded.payload is None:
        return
    kind = PAYLOADS[decoded.hook]
    assert type(decoded.payload) is kind
    received = json.loads(json.dumps(body), parse_float=Decimal)
    kept = dict(decoded.payload.extra)
    for field in msgspec.structs.fields(kind):
        value, name = getattr(decoded.payload, field.name), field.encode_name
        if name == "communicationActionId" and name not in body:
            name = "communicationActionID"
        if name != "extra" and value is not None:
            assert name not in kept
            kept[name] = _as_received(value, received[name])
    lost = {name: value for name, value in received.items() if name not in kept}
    assert all(value is None or (name, value) == ("customerUID", "") for name, value in lost.items())
    assert kept == {name: value for name, value in received.items() if name in kept}


def _as_received(value: str | datetime, received: Any) -> Any:
    """A field of a struct turned back into what the body had."""
    if isinstance(value, datetime):
        assert value == datetime.fromisoformat(received).replace(tzinfo=value.tzinfo)
        return received
    return value if isinstance(received, str) else type(received)(value)


OUT_OF_RANGE = "the body contains a number outside the range of a float"


@given(raw=st.binary(max_size=200) | st.text('{}[]",:0123456789.eE+-nulltruefs\\ ', max_size=60).map(str.encode))
@example(raw=b"1E310")
@settings(max_examples=300)
def test_arbitrary_bytes_are_an_event_or_a_value_error(raw: bytes) -> None:
    """Never anything else; what is accepted is an object for Python's own reader too."""
    try:
        read(raw)
    except ValueError as error:
        sentence = str(error)
        assert sentence.startswith("the body is ") or sentence == OUT_OF_RANGE
    else:
        assert isinstance(json.loads(raw.removeprefix(b"\xef\xbb\xbf")), dict)


HALVES = {
    r'{"type":"payment","a":"x \ud83d"}': "x \ufffd",
    r'{"type":"payment","a":"\ude00 x"}': "\ufffd x",
    r'{"type":"payment","a":"\ud83d\ud83d\ude00"}': "\ufffd\U0001f600",
    r'{"type":"payment","a":"\\\\ud83d\ud83d"}': r"\\ud83d" + "\ufffd",
    r'{"type":"payment","a":"\ud83d\u0041"}': "\ufffdA",
}


@pytest.mark.parametrize("text", HALVES, ids=range(len(HALVES)))
def test_an_emoji_cut_in_two_is_no_reason_to_lose_an_event(text: str) -> None:
    """Half a surrogate pair is JSON, and what senders make that cut texts: it reads as U+FFFD, whole pairs stay."""
    decoded = decode(text.encode(), None, hook_names({}), UTC)
    assert decoded.readable
    assert decoded.payload is not None
    assert decoded.payload.extra == {"a": HALVES[text]}


def test_half_a_pair_beside_a_number_where_a_text_is_documented() -> None:
    raw = json.dumps({**json.loads(INBOUND), "conversationId": 5, "body": "cut \ud83d"}).encode()
    decoded = decode(raw, None, hook_names({}), UTC)
    assert decoded.conversation_id == "5"
    assert isinstance(decoded.payload, InboundMessage)
    assert decoded.payload.body == "cut \ufffd"
