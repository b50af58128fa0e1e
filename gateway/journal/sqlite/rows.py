"""Rows of the journal back into typed events."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from typing import Any, Final

from gateway.config.tables import Config
from gateway.decoding import Decoded, decode, hook_names
from gateway.events import UNKNOWN, Event

COLUMNS: Final = "seq, id, received_at, organisation, hook, conversation_id, customer_uid, readable, conflict, raw"


def moment(micros: int) -> datetime:
    """Microseconds since 1970 as an aware datetime in UTC."""
    return datetime.fromtimestamp(micros / 1_000_000, UTC)


class Decoder:
    """Decodes bodies by the config's hook names and organisations' time zones."""

    def __init__(self, config: Config) -> None:
        self.names: Mapping[str, str] = hook_names({name: s.types for name, s in config.hooks.items()})
        self._zones: dict[str, tzinfo] = {name: org.timezone for name, org in config.organisations.items()}

    def decode(self, organisation: str, raw: bytes, hook: str | None) -> Decoded:
        """Decode a POST body as its organisation sends it. `ValueError` where it is no JSON object."""
        return decode(raw, hook, self.names, self._zones.get(organisation, UTC))

    def restore(self, row: tuple[Any, ...]) -> Event:
        """An event from a row of `COLUMNS`; what could not be read when it came is tried again."""
        _, event_id, received_at, organisation, hook, conversation_id, customer_uid, readable, conflict, raw = row
        try:
            decoded = self.decode(organisation, raw, None if hook == UNKNOWN else hook)
            hook, payload, readable = decoded.hook, decoded.payload, decoded.readable
        except ValueError:
            payload, readable = None, False
        return Event(
            id=event_id,
            received_at=moment(received_at),
            organisation=organisation,
            hook=hook,
            payload=payload,
            raw=raw,
            readable=bool(readable),
            conflict=bool(conflict),
            conversation_id=conversation_id,
            customer_uid=customer_uid,
        )
