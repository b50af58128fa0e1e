"""Decodes a body: its hook, its typed payload where it fits the hook, and the keys that the journal needs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from gateway.events import HOOKS, PAYLOADS, UNKNOWN, Payload
from gateway.json_text import BOM, parse_object, whole_characters
from gateway.large_bodies import no_collections
from gateway.text import printable

if TYPE_CHECKING:
    from gateway.config.tables import Config

# `type` strings as Webio documents them, and the hooks' own names for those it does not; read forgivingly.
_TYPES = {
    "inboundMessage": "inbound-message",
    "inboundMessages": "inbound-message",
    "messageSend": "message-send",
    "messageStatusUpdate": "delivery-report",
}
_SEPARATORS = str.maketrans("", "", " -_/")
_NAME_LENGTH = 64
_ALIASES = {"communicationActionID": "communicationActionId"}  # Webio's prose spells it so
_WIRE_NAMES = {
    hook: frozenset(f.encode_name for f in msgspec.structs.fields(kind)) - {"extra"} for hook, kind in PAYLOADS.items()
}
_DOCUMENTED = frozenset(
    hook
    for hook, kind in PAYLOADS.items()
    if any(f.required and f.name == "date_created" for f in msgspec.structs.fields(kind))
)
_IDENTIFIERS = frozenset({"conversationId", "customerUID"})
_TEXTS = {  # decoders of the JSON text of each documented member
    hook: msgspec.json.Decoder(
        msgspec.defstruct("Texts", [(name, msgspec.Raw, msgspec.Raw()) for name in sorted({*names, *_ALIASES})])
    )
    for hook, names in {**_WIRE_NAMES, UNKNOWN: _IDENTIFIERS}.items()
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_ABSENT = (None, "")
_NO_DATE = 0


class Decoded(msgspec.Struct, frozen=True, gc=False):
    """A decoded body. `created` is `dateCreated` in microseconds since 1970, 0 where its form is unknown, None where it
    is missing (such an event is never a duplicate). Two different bodies with one `natural_key` are a conflict. `name`
    is what an event of the unknown hook came by; see `Event`."""

    hook: str
    payload: Payload | None
    readable: bool
    conversation_id: str | None
    customer_uid: str | None
    created: int | None
    natural_key: str | None
    name: str | None = None


class Decoder:
    """Decodes bodies by a config's hook names and its organisations' time zones."""

    def __init__(self, config: Config) -> None:
        self.names: Mapping[str, str] = hook_names({name: hook.types for name, hook in config.hooks.items()})
        self._zones: dict[str, tzinfo] = {name: org.timezone for name, org in config.organisations.items()}
        self._large = asyncio.Lock()

    def hook_of(self, name: str) -> str | None:
        """The hook of a name that an event came by, or None."""
        return self.names.get(name) or self.names.get(normalise(name))

    def decode(self, organisation: str, raw: bytes, hook: str | None) -> Decoded:
        """Decode a POST body of an organisation; see `decode`."""
        return decode(raw, hook, self.names, self._zones.get(organisation, UTC))

    def decode_kept(self, organisation: str, raw: bytes, hook: str, name: str | None) -> Decoded:
        """Decode a body that was kept as this hook, and by this name where no hook had it: what was unknown, or could
        not be read, is tried again. A body that is no longer a JSON object is not readable."""
        path = hook if hook != UNKNOWN else name if name is not None and name.startswith("/") else None
        try:
            return self.decode(organisation, raw, path)
        except ValueError:
            return Decoded(hook, None, False, None, None, None, None, name)

    async def decode_large(self, organisation: str, raw: bytes, hook: str | None) -> Decoded:
        """Like `decode`, in a thread, one body after the other. The result has no payload: millions of objects would
        slow down each garbage collection. The journal decodes the event again for its delivery."""
        async with self._large:
            return await asyncio.to_thread(self._without_payload, organisation, raw, hook)

    def _without_payload(self, organisation: str, raw: bytes, hook: str | None) -> Decoded:
        with no_collections():
            return msgspec.structs.replace(self.decode(organisation, raw, hook), payload=None)


def normalise(spelling: str) -> str:
    """A `type`, or a name in a path, in lower case, without spaces, `-`, `_` and `/`."""
    return spelling.translate(_SEPARATORS).lower()


def bounded(name: str) -> str:
    """A name that a sender chose, as it is kept and shown: at most 64 characters, all of them printable."""
    return printable(name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 1]}…")


def hook_names(aliases: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Hooks by `type`, with further spellings for each hook: each as it is written (for speed) and normalised."""
    spellings = {**{hook: hook for hook in HOOKS}, **_TYPES}
    for hook, further in aliases.items():
        spellings.update(dict.fromkeys(further, hook))
    names = {normalise(spelling): hook for spelling, hook in spellings.items()}
    return {spelling: names[normalise(spelling)] for spelling in spellings} | names


def decode(raw: bytes, hook: str | None, names: Mapping[str, str], zone: tzinfo) -> Decoded:
    """Decode a POST body. `hook` is the one that its path names, or `/` and a name to look up, or None where `type`
    decides. `ValueError` where the body is not a JSON object."""
    body = parse_object(raw)
    name = None
    if hook is None or hook[0] == "/":
        spelling = body.get("type") if hook is None else hook
        hook = None
        if type(spelling) is str:
            hook = names.get(spelling) or names.get(normalise(spelling))
            name = bounded(spelling) if hook is None else None
        hook = hook or UNKNOWN
    created = _date(body.get("dateCreated"), zone)
    payload = _payload(body, hook, created)
    if payload is None:
        body = _repaired(raw, body, hook)
        payload = _payload(body, hook, created)
    if created is not None:
        micros: int | None = (created - _EPOCH) // _MICROSECOND
    else:
        micros = None if body.get("dateCreated") in _ABSENT else _NO_DATE
    if payload is None:
        conversation_id, customer_uid = _text(body, "conversationId"), _text(body, "customerUID")
        return Decoded(hook, None, hook == UNKNOWN, conversation_id, customer_uid, micros, None, name)
    action = getattr(payload, "communication_action_id", None)
    natural_key = f"{action}:{getattr(payload, 'status_code', '')}" if action else None
    return Decoded(hook, payload, True, payload.conversation_id or None, payload.customer_uid, micros, natural_key)


def _payload(body: dict[str, Any], hook: str, created: datetime | None) -> Payload | None:
    """The body as its hook's struct, or None where it does not fit."""
    if hook == UNKNOWN:
        return None
    names = _WIRE_NAMES[hook]
    if body.keys() <= names:
        known, extra = body.copy(), {}
    else:
        known = {key: value for key, value in body.items() if key in names}
        extra = {key: value for key, value in body.items() if key not in names}
    if created is not None:
        known["dateCreated"] = created
    elif "dateCreated" in known:  # where the date is documented, the struct then fails for lack of it
        extra["dateCreated"] = known.pop("dateCreated")
    if known.get("customerUID") == "":
        known["customerUID"] = None
    known["extra"] = extra
    try:
        return msgspec.convert(known, PAYLOADS[hook])
    except msgspec.ValidationError:
        return None


def _repaired(raw: bytes, body: dict[str, Any], hook: str) -> dict[str, Any]:
    """The body with numbers as text where Webio documents a string, and with Webio's other spelling of a name."""
    texts = _TEXTS[hook].decode(whole_characters(raw.removeprefix(BOM)))
    sources = {name: name for name in _WIRE_NAMES.get(hook, _IDENTIFIERS)}
    repaired = dict(body)
    for alias, name in _ALIASES.items():
        if hook in _DOCUMENTED and alias in repaired and name not in repaired:
            repaired[name] = repaired.pop(alias)
            sources[name] = alias
    for name, source in sources.items():
        if type(repaired.get(name)) in (int, float, Decimal):
            repaired[name] = bytes(getattr(texts, source)).decode()
    return repaired


def _date(value: Any, zone: tzinfo) -> datetime | None:
    """An ISO 8601 date with dashes; None for compact forms, whose digits may be seconds since 1970 instead."""
    if type(value) is not str or value[4:5] != "-" or value[7:8] != "-":
        return None
    try:
        parsed = datetime.fromisoformat(value)
        if parsed.tzinfo is None:
            parsed = parsed.replace(tzinfo=zone)
        if not 1 < parsed.year < 9999:
            parsed.astimezone(UTC)  # OverflowError where UTC cannot express it
        return parsed
    except (ValueError, OverflowError):
        return None


def _text(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    return value or None if type(value) is str else None
