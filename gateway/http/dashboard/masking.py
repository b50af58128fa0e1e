"""What pages show of customers before an operator asks for more: no number, customer UID or text in full."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

from gateway.http.audit import hint
from gateway.json_text import parse_object
from gateway.text import counted
from gateway.unknown import public

SHOWN: Final = frozenset({"type", "conversationId", "communicationActionId", "dateCreated", "statusCode"})
"""Fields of Webio's that tell nothing of the customer."""
_PEOPLE: Final = frozenset({"customerUID", "outboundChannelAddress", "inboundChannelAddress"})
_FEW_DIGITS: Final = 4


def masked_fields(raw: bytes) -> list[tuple[str, str]]:
    """The fields of a body, with their values masked."""
    try:
        body = parse_object(raw)
    except ValueError:
        return []
    return [(str(public(key)), _masked(key, value)) for key, value in body.items()]


def _masked(key: str, value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict | list):
        return "{…}" if isinstance(value, dict) else "[…]"
    if key in SHOWN:
        return str(value)
    if isinstance(value, int | Decimal):
        text = str(value)
        return text if sum(map(str.isdigit, text)) <= _FEW_DIGITS else "…"
    text = str(value)
    return hint(text) if key in _PEOPLE else f"… ({counted(len(text), 'character')})"
