"""What goes back to Webio, and what the gateway keeps of it: never a value outside the answer's body."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

import msgspec

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
"""What became of a field: the first four are answers, each of the others fails the request. `refused`: looking it
up needs a customer UID, and there was none. `skipped`: its provider failed too often just now to be asked."""

STATUS: Final = {SEVERAL: 409, FAILED: 502, SKIPPED: 502, LATE: 504, UNKNOWN: 404, REFUSED: 404}
_PRECEDENCE: Final = (409, 502, 504, 404)
_TITLES: Final = {
    400: "Bad Request",
    404: "Not Found",
    409: "Conflict",
    502: "Bad Gateway",
    504: "Gateway Timeout",
}
_DETAILS: Final = {
    404: "nobody knows this customer or this field",
    409: "several customers match",
    502: "a provider failed",
    504: "a provider did not answer in time",
}
JSON: Final = "application/json"
PROBLEM: Final = "application/problem+json"
_NAMED: Final = 5
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.-]{1,40}", re.ASCII)
_DIGITS: Final = re.compile(r"\d{5}")
_encode = msgspec.json.Encoder().encode


class FieldDetail(msgspec.Struct, frozen=True):
    """What became of one field: its outcome, the provider it is from (of an unknown one: the last that was asked;
    None: nobody was), and the milliseconds that provider took."""

    outcome: str
    provider: str | None = None
    ms: float = 0.0


class Found(msgspec.Struct, frozen=True):
    """A field's outcome with its text, which is None for null and for a failure."""

    detail: FieldDetail
    text: str | None = None

    @property
    def answers(self) -> bool:
        return self.detail.outcome not in STATUS


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer to a custom value request. `details` tells by name as asked what became of each field; no values.
    `problem` says why there is no answer."""

    status: int
    body: bytes
    media_type: str
    details: dict[str, FieldDetail] = {}
    problem: str = ""

    def reason(self) -> str:
        """Why there is no answer, and of which fields, for the log; names that are not `tellable` are left out."""
        failed = [(name, detail) for name, detail in self.details.items() if detail.outcome in STATUS]
        named = [
            f"{name if tellable(name) else '…'} {detail.outcome}" + (f" ({detail.provider})" if detail.provider else "")
            for name, detail in failed[:_NAMED]
        ]
        more = [f"and {len(failed) - _NAMED} more"] if len(failed) > _NAMED else []
        return ": ".join(filter(None, [self.problem, ", ".join([*named, *more])]))


class ValuesRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the audit keeps of one request: never the values, and the address only masked."""

    at: datetime
    organisation: str
    customer_uid: str | None
    address_masked: str | None
    fields: dict[str, FieldDetail]
    status: int


EMPTY: Final = Answer(status=200, body=b"{}", media_type=JSON)


def answered(found: Mapping[str, Found]) -> Answer:
    """The answer for what was found, by name as asked: every field, or a failure that names those without."""
    details = {name: field.detail for name, field in found.items()}
    failed = {name: STATUS[detail.outcome] for name, detail in details.items() if detail.outcome in STATUS}
    if failed:
        status = next(status for status in _PRECEDENCE if status in failed.values())
        return problem(status, _DETAILS[status], failed, details)
    body = _encode({name: field.text for name, field in found.items()})
    return Answer(status=200, body=body, media_type=JSON, details=details)


def tellable(name: str) -> bool:
    """Whether a field's name may stand in the log: some might be a number or a text of somebody's."""
    return _PLAIN.fullmatch(name) is not None and _DIGITS.search(name) is None


def problem(
    status: int, detail: str, fields: Iterable[str] = (), details: dict[str, FieldDetail] | None = None
) -> Answer:
    """An RFC 9457 problem document; `fields` are the names asked for that have no answer."""
    body = {
        "type": "about:blank",
        "title": _TITLES[status],
        "status": status,
        "detail": detail,
        "fields": list(fields),
    }
    return Answer(status=status, body=_encode(body), media_type=PROBLEM, details=details or {}, problem=detail)


def masked(address: str | None) -> str | None:
    """An address of which only the last three characters can be read, if it is long enough for that."""
    if address is None:
        return None
    shown = 3 if len(address) >= 8 else 0
    return "*" * (len(address) - shown) + address[len(address) - shown :]
