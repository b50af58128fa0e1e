"""What pages show of customers before an operator asks for more, and what a viewer gets from pages and API: no number,
customer UID or text in full."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from gateway.http.audit import hint
from gateway.json_text import parse_object
from gateway.plugin_host.place import without_message
from gateway.text import counted
from gateway.unknown import public

SHOWN: Final = frozenset({"type", "conversationId", "communicationActionId", "dateCreated", "statusCode"})
"""Fields of Webio's that tell nothing of the customer."""
_PEOPLE: Final = frozenset({"customerUID", "outboundChannelAddress", "inboundChannelAddress"})
_FEW_DIGITS: Final = 4
_BY_KEY: Final[dict[str, Callable[[str], str | None]]] = {
    "customer_uid": hint,
    "address": hint,
    "name": public,
    "error": without_message,
    "failed": without_message,  # of an erasure, by plugin
}
"""Keys of the API's documents whose texts, or the texts below them, may tell of a customer."""


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
    if key in SHOWN:  # the type may be any text: one that no hook has may have a number in it
        return str(public(str(value))) if key == "type" else str(value)
    if isinstance(value, int | Decimal):
        text = str(value)
        return text if sum(map(str.isdigit, text)) <= _FEW_DIGITS else "…"
    text = str(value)
    return hint(text) if key in _PEOPLE else f"… ({counted(len(text), 'character')})"


def masked_document(value: Any, key: str = "") -> Any:
    """A document of the API for a viewer: bodies, customer UIDs, and what exceptions said are masked."""
    if isinstance(value, msgspec.Raw):
        return dict(masked_fields(bytes(value)))
    if isinstance(value, msgspec.Struct):
        config = value.__struct_config__
        tag = {} if config.tag_field is None else {config.tag_field: config.tag}
        fields = {field.encode_name: getattr(value, field.name) for field in msgspec.structs.fields(value)}
        return tag | {name: masked_document(one, name) for name, one in fields.items() if one is not msgspec.UNSET}
    if isinstance(value, Mapping):
        return {name: masked_document(one, key if key in _BY_KEY else str(name)) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [masked_document(one, key) for one in value]
    return _BY_KEY[key](value) if isinstance(value, str) and key in _BY_KEY else value
