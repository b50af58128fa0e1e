"""The body of a request as the operator writes it: JSON with `{body.amount}` and the like in its texts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from pathlib import Path
from typing import Any, Final, Self

import msgspec

from gateway import Event

_PLACE: Final = re.compile(r"\{([^{}]*)\}")
_FIELD: Final = re.compile(r"body(?:\.[^.{}]+)+")
_HEAD: Final = ("id", "received_at", "organisation", "hook", "conversation_id", "customer_uid", "body")
_encode: Final = msgspec.json.Encoder(decimal_format="number").encode


class Template:
    """A JSON value. In its texts, `{id}`, `{hook}` and the other names of `_HEAD` stand for what surrounds the event,
    `{body}` for the whole body, and `{body.a.b}` for a field in it; an entry of a list is named by its number. A text
    that is one such name alone becomes the value itself, of whatever type. What an event does not have is null, and
    nothing within a longer text. No other names, no expressions: nothing of an event is evaluated."""

    def __init__(self, source: Any) -> None:
        """`ValueError` for a name that there is not."""
        names = _names_in(source)
        for name in names:
            if name not in _HEAD and not _FIELD.fullmatch(name):
                known = ", ".join(f"{{{one}}}" for one in _HEAD)
                raise ValueError(f"unknown name {{{name}}}; known: {known}, and fields such as {{body.amount}}")
        self._source = source
        self._reads_fields = any(name.startswith("body.") for name in names)

    @classmethod
    def from_config(cls, value: Any, directory: Path) -> Self:
        if not isinstance(value, dict):
            raise ValueError('expected a table such as { amount = "{body.amount}" }')
        return cls(value)

    def write(self, event: Event) -> bytes:
        """The body for an event, as JSON."""
        received = event.received_at.astimezone(UTC).isoformat(timespec="microseconds")
        values = {name: getattr(event, name, None) for name in _HEAD}
        values["received_at"] = f"{received[:-6]}Z"
        values["body"] = msgspec.Raw(event.line())
        return _encode(_filled(self._source, values, event.fields() if self._reads_fields else {}))

    def __repr__(self) -> str:
        return f"Template({self._source!r})"


def _names_in(source: Any) -> set[str]:
    match source:
        case dict():
            return set().union(*map(_names_in, source.values()))
        case list():
            return set().union(*map(_names_in, source))
        case str():
            return set(_PLACE.findall(source))
    return set()


def _filled(source: Any, values: Mapping[str, Any], fields: dict[str, Any]) -> Any:
    match source:
        case dict():
            return {key: _filled(value, values, fields) for key, value in source.items()}
        case list():
            return [_filled(value, values, fields) for value in source]
        case str():
            whole = _PLACE.fullmatch(source)
            if whole is not None:
                return _find(whole[1], values, fields)
            return _PLACE.sub(lambda match: _text(_find(match[1], values, fields)), source)
    return source


def _find(name: str, values: Mapping[str, Any], fields: dict[str, Any]) -> Any:
    """The value of a name; None where the event has none."""
    if name in values:
        return values[name]
    found: Any = fields
    for step in name.split(".")[1:]:
        if isinstance(found, dict):
            found = found.get(step)
        elif isinstance(found, list) and step.isdecimal() and int(step) < len(found):
            found = found[int(step)]
        else:
            return None
    return found


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else _encode(value).decode()
