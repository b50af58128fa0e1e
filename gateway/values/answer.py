"""The answer to a custom value request, what became of each field, and a value as text. Values appear only in the
answer's body."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from http import HTTPStatus
from typing import Any, Final, Self

import msgspec

from gateway.config.formats import without_negative_zero

VALUE: Final = "value"
NULL: Final = "null"
DEFAULT: Final = "default"
CACHED: Final = "cached"
UNKNOWN: Final = "unknown"
REFUSED: Final = "refused"
SEVERAL: Final = "several"
FAILED: Final = "failed"
SKIPPED: Final = "skipped"
LATE: Final = "late"
STARTING: Final = "starting"
"""The outcomes of a field. The first four are answers; each of the others fails the request. `refused`: the look-up
needs a customer UID, and the request has none. `skipped`: the provider's circuit breaker is open. `starting`: the
provider has not started."""

STATUS: Final = {
    SEVERAL: 409,
    FAILED: 502,
    SKIPPED: 502,
    STARTING: 502,
    LATE: 504,
    UNKNOWN: 404,
    REFUSED: 404,
}
_PRECEDENCE: Final = (409, 502, 504, 404)
_DETAILS: Final = {
    404: "no provider knows this customer or this field",
    409: "several customers match",
    502: "a provider failed",
    504: "a provider did not answer in time",
}
_NEEDS_UID: Final = "a field needs a customer UID, and the request has none"
JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
_MOST_LOGGED: Final = 5
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.-]{1,40}", re.ASCII)
_DIGITS: Final = re.compile(r"\d{5}")
MAX_TEXT: Final = 4096
"""Characters of one value; a longer one is a failure of its provider."""
_ZERO_DATE = re.compile(r"0000-00-00(?:[ T]00:00:00(?:\.0+)?)?")
_INFINITE: Final = frozenset({date.min, date.max, datetime.min, datetime.max})
_encode = msgspec.json.Encoder().encode


class FieldDetail(msgspec.Struct, frozen=True):
    """What became of one field: its outcome, the provider that decided it (for `unknown` the last one asked; None when
    none was asked), and the milliseconds that this provider took."""

    outcome: str
    provider: str | None = None
    ms: float = 0.0


class Found(msgspec.Struct, frozen=True):
    """A field's outcome with its text, which is None for null and for a failure."""

    detail: FieldDetail
    text: str | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer to a custom value request. `details` has what became of each field, by the name asked for, without
    values. `problem` says why the request failed; it is empty for a success."""

    status: int
    body: bytes
    media_type: str
    details: dict[str, FieldDetail] = {}
    problem: str = ""

    def reason(self) -> str:
        """Why the request failed and which fields failed, for the log. At most 5 fields are named, and a name that is
        not `loggable` shows as "…"."""
        failed = [(name, detail) for name, detail in self.details.items() if detail.outcome in STATUS]
        named = [
            f"{name if loggable(name) else '…'} {detail.outcome}" + (f" ({detail.provider})" if detail.provider else "")
            for name, detail in failed[:_MOST_LOGGED]
        ]
        more = [f"and {len(failed) - _MOST_LOGGED} more"] if len(failed) > _MOST_LOGGED else []
        return ": ".join(filter(None, [self.problem, ", ".join([*named, *more])]))


class Explanation(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An answer with what became of each field, for an operator; Webio gets the answer alone. `problem` is the problem
    document of a failure, and `values` is empty then."""

    status: int
    values: dict[str, str | None]
    fields: dict[str, FieldDetail]
    problem: dict[str, Any] | None = None

    @classmethod
    def of(cls, answer: Answer) -> Self:
        document = msgspec.json.decode(answer.body)
        if answer.status == 200:
            return cls(status=200, values=document, fields=answer.details)
        return cls(status=answer.status, values={}, fields=answer.details, problem=document)


def answer_of(found: Mapping[str, Found]) -> Answer:
    """The answer for these outcomes, by the name asked for: every field, or a failure that names the fields without
    an answer."""
    details = {name: field.detail for name, field in found.items()}
    failed = {name: STATUS[detail.outcome] for name, detail in details.items() if detail.outcome in STATUS}
    if failed:
        status = next(status for status in _PRECEDENCE if status in failed.values())
        refused = status == 404 and REFUSED in (detail.outcome for detail in details.values())
        return problem(status, _NEEDS_UID if refused else _DETAILS[status], failed, details)
    body = _encode({name: field.text for name, field in found.items()})
    return Answer(status=200, body=body, media_type=JSON, details=details)


def loggable(name: str) -> bool:
    """Whether a field's name may appear in the log: a name made up by a caller may hold personal data."""
    return _PLAIN.fullmatch(name) is not None and _DIGITS.search(name) is None


def problem(
    status: int, detail: str, fields: Iterable[str] = (), details: dict[str, FieldDetail] | None = None
) -> Answer:
    """An RFC 9457 problem document; `fields` are the names asked for that have no answer."""
    title = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, "fields": list(fields)}
    return Answer(status=status, body=_encode(body), media_type=PROBLEM, details=details or {}, problem=detail)


class BadValue(Exception):
    """A provider returned something that is not a value. The message never contains it."""


def as_text(value: object) -> str:
    """The text of a provider's value (not None): decimals plain and exact, dates ISO 8601. Raises `BadValue`, also for
    what drivers return where a column holds no date: the earliest or latest date for infinity, a text for zero."""
    if type(value) is str:
        text = value
    elif isinstance(value, str):
        text = str.__str__(value)
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, Decimal):
        text = _plain(value)
    elif isinstance(value, int):
        if value.bit_length() > MAX_TEXT * 3:
            raise BadValue("a number that is too long")
        text = int.__repr__(value)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise BadValue("a number that is not finite")
        text = _plain(Decimal(float.__repr__(value)))
    elif isinstance(value, date):
        if (value.replace(tzinfo=None) if isinstance(value, datetime) else value) in _INFINITE:
            raise BadValue("a date that is not finite")
        text = value.isoformat()
    else:
        raise BadValue(f"a value of type {type(value).__name__}")
    if len(text) > MAX_TEXT:
        raise BadValue(f"a value longer than {MAX_TEXT} characters")
    if text.startswith("0000-00-00") and _ZERO_DATE.fullmatch(text):
        raise BadValue("a zero date")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BadValue("a text that is not valid Unicode") from None
    return text


def _plain(value: Decimal) -> str:
    if not value.is_finite():
        raise BadValue("a number that is not finite")
    exponent = value.as_tuple().exponent
    if abs(value.adjusted()) > MAX_TEXT or (isinstance(exponent, int) and abs(exponent) > MAX_TEXT):
        raise BadValue("a number that is too long")
    return format(without_negative_zero(value), "f")
