"""Values remembered for a while, by organisation, customer, address and field: never one customer's for another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

MAX_ENTRIES: Final = 20_000


class Key(NamedTuple):
    organisation: str
    customer_uid: str | None
    address: str | None
    field: str


class Cache:
    """Bounded: when full, the oldest entry goes. A value may be None (null)."""

    def __init__(self, monotonic: Callable[[], float], max_entries: int = MAX_ENTRIES) -> None:
        self._monotonic = monotonic
        self._max_entries = max_entries
        self._entries: dict[Key, tuple[float, str | None, str | None]] = {}

    def get(self, key: Key) -> tuple[str | None, str | None] | None:
        """The text and the provider that gave it, or None where nothing fresh is known."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[0] <= self._monotonic():
            del self._entries[key]
            return None
        return entry[1], entry[2]

    def put(self, key: Key, text: str | None, provider: str | None, seconds: float) -> None:
        self._entries.pop(key, None)
        while len(self._entries) >= self._max_entries:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = (self._monotonic() + seconds, text, provider)
