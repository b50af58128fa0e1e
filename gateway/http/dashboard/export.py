"""A timeline as JSON Lines, with personal data taken out: for a report to Webio, or a bug tracker."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any, Final

import msgspec

from gateway.journal.search import EventHappened, ValuesAsked
from gateway.json_text import parse_object
from gateway.selector import address_key
from gateway.unknown import public

MOST: Final = 10_000
"""Lines of one export."""
_KINDS: Final = {
    "customerUID": "customer",
    "conversationId": "conversation",
    "communicationActionId": "message",
    "outboundChannelAddress": "address",
    "inboundChannelAddress": "address",
    "body": "text",
}
"""What a value of these fields is called; any other text is a text, and any other number a number."""
_LEFT: Final = {
    "type": re.compile(r"[A-Za-z][A-Za-z_-]{0,39}"),
    "dateCreated": re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d{1,9})?Z?"),
    "statusCode": re.compile(r"\d{1,4}"),
}
"""Fields that stay as they are where they have the form that Webio documents."""


class Placeholders:
    """A placeholder for each personal value, such as "customer 1": the same one wherever the value is in the export, so
    that a reader can still follow who is who."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str] = {}
        self._counts: dict[str, int] = {}

    def of(self, kind: str, value: str) -> str:
        """The placeholder of a value; an address is compared by its digits, as a search does."""
        key = kind, address_key(value) if kind == "address" else value
        if key not in self._known:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            self._known[key] = f"{kind} {self._counts[kind]}"
        return self._known[key]

    def value(self, key: str, value: Any) -> Any:
        """A value of a body: objects and lists keep their shape, and only what has no text or number stays."""
        if isinstance(value, dict):
            return {str(public(name)): self.value(name, one) for name, one in value.items()}
        if isinstance(value, list):
            return [self.value(key, one) for one in value]
        left = _LEFT.get(key)
        if value is None or isinstance(value, bool) or value == "" or (left and left.fullmatch(str(value))):
            return value
        number = isinstance(value, int | Decimal)
        return self.of(_KINDS.get(key, "number" if number else "text"), str(value))


def exported(lines: Iterable[EventHappened | ValuesAsked]) -> Iterator[bytes]:
    """The lines, each a JSON object; at most `MOST` of them, and then one that says so."""
    known = Placeholders()
    for number, line in enumerate(lines):
        if number == MOST:
            yield _line({"note": f"only the first {MOST} lines are here"})
            return
        yield _line(_exported(line, known))


def _exported(line: EventHappened | ValuesAsked, known: Placeholders) -> dict[str, Any]:
    found: dict[str, Any] = {"at": line.at, "organisation": line.organisation}
    if line.conversation_id is not None:
        found["conversation"] = known.of("conversation", line.conversation_id)
    if line.customer_uid is not None:
        found["customer"] = known.of("customer", line.customer_uid)
    if isinstance(line, ValuesAsked):
        return {
            "kind": "value",
            **found,
            "status": line.status,
            "fields": {str(public(name)): detail for name, detail in line.fields.items()},
        }
    body = known.value("", parse_object(bytes(line.body)))
    readable = {} if line.readable else {"readable": False}
    return {"kind": "event", **found, "id": line.id, "hook": line.hook, **readable, "body": body}


def _line(document: dict[str, Any]) -> bytes:
    return msgspec.json.encode(document) + b"\n"
