"""What an expression reads of an event, as values that CEL has.

CEL's numbers are 64-bit integers and doubles. A number that neither holds to its last digit is refused, so that an
amount is never compared as another amount.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from gateway.events import Event
from gateway.plugin_host.where.outcome import NotEvaluated
from gateway.plugin_host.where.rules import EXACT, NUMBERS, WIRE_NAMES, Portable, is_number

MOST_TEXT: Final = 16 * 2**10
"""Characters of all texts that an expression reads of one event: a regular expression takes milliseconds for them."""
MOST_VALUES: Final = 1000
DEEPEST_VALUE: Final = 16
_LARGEST: Final = 2**63
_LONGEST_NUMBER: Final = 64


class Values:
    """Reads the same names of one event after the other."""

    def __init__(self, portable: Portable) -> None:
        self._event = [name for name in portable.names if name.startswith("event_")]
        self._own = [name for name in portable.names if name.startswith("payload_")]
        self._fields = portable.fields if "payload" in portable.names else None
        self._numeric = portable.numeric if NUMBERS in portable.names else None

    def of(self, event: Event) -> dict[str, Any]:
        """The values by name; `NotEvaluated` where one is too large, or a number that CEL does not have."""
        values = {name: getattr(event, name.removeprefix("event_")) for name in self._event}
        if not (self._own or self._fields is not None or self._numeric is not None):
            return values
        body, room = _BodyFields(event), _Room()
        for name in self._own:
            value = body.get(name.removeprefix("payload_"))
            if value is not msgspec.UNSET:
                values[name] = room.value(value, numeric=False)
        for name, fields, numeric in (("payload", self._fields, False), (NUMBERS, self._numeric, True)):
            if fields is not None:
                found = {field: body.get(field) for field in fields}
                values[name] = {
                    field: True if hasattr(value, "tzinfo") else room.value(value, numeric)  # read as `payload_...`
                    for field, value in found.items()
                    if value is not msgspec.UNSET
                }
        return values


class _BodyFields:
    """The fields of an event's body, by their names in an expression. A documented field without a value is not there;
    of a body that cannot be read, or of an unknown hook, the fields are as received."""

    def __init__(self, event: Event) -> None:
        self._payload = event.payload
        self._raw: Mapping[str, Any] = event.fields() if event.payload is None else event.payload.extra
        self._known = () if event.payload is None else event.payload.__struct_fields__

    def get(self, name: str) -> Any:
        """The value, or `UNSET`."""
        if name in self._known and name != "extra":
            value = getattr(self._payload, name)
            return msgspec.UNSET if value is None else value
        if name == "outcome" and "outcome" not in self._raw:
            return getattr(self._payload, "outcome", None) or msgspec.UNSET
        if self._payload is None:
            return self._raw.get(WIRE_NAMES.get(name, name), msgspec.UNSET)
        return self._raw.get(name, msgspec.UNSET)


class _Room:
    """Brings values into CEL's types, as many as there is room for."""

    def __init__(self) -> None:
        self._text = MOST_TEXT
        self._values = MOST_VALUES

    def value(self, value: Any, numeric: bool, depth: int = 0) -> Any:
        """A value as CEL has it; with `numeric`, text that is a number becomes one."""
        self._values -= 1
        if self._values < 0 or depth > DEEPEST_VALUE:
            raise NotEvaluated("the body has more values in a field than a filter reads")
        if type(value) is str:
            self._text -= len(value)
            if self._text < 0:
                raise NotEvaluated(f"the body has more text in a field than a filter reads ({MOST_TEXT} characters)")
            return _number(value) if numeric and is_number(value) else value
        if type(value) is list:
            return [self.value(inner, numeric, depth + 1) for inner in value]
        if type(value) is dict:
            self._text -= sum(map(len, value))
            return {key: self.value(inner, numeric, depth + 1) for key, inner in value.items()}
        if type(value) is int or isinstance(value, Decimal):
            return _number(str(value))
        return value


def _number(text: str) -> int | float:
    if len(text) <= _LONGEST_NUMBER:
        if text.lstrip("-").isdigit() and -_LARGEST <= int(text) < _LARGEST:
            return int(text)
        try:
            if (exact := Decimal(text)) == Decimal(repr(value := float(text))):
                return int(exact) if EXACT <= abs(value) < _LARGEST else value
        except ArithmeticError:
            pass
    raise NotEvaluated("a number has more digits than can be compared")
