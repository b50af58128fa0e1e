"""Values remembered for a while, by question: organisation, customer UID, address and field must all be the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.values.answer import Found
from gateway.values.question import Question

MAX_ENTRIES: Final = 20_000


class Cache:
    """Holds at most `max_entries` values; when it is full, the oldest entry goes."""

    def __init__(self, monotonic: Callable[[], float], max_entries: int = MAX_ENTRIES) -> None:
        self._monotonic = monotonic
        self._max_entries = max_entries
        self._entries: dict[Question, tuple[float, Found]] = {}

    def get(self, question: Question) -> Found | None:
        """What was found for a question of one field, or None once it has expired."""
        entry = self._entries.get(question)
        if entry is None:
            return None
        if entry[0] <= self._monotonic():
            del self._entries[question]
            return None
        return entry[1]

    def put(self, question: Question, found: Found, seconds: float) -> None:
        self._entries.pop(question, None)
        while len(self._entries) >= self._max_entries:
            del self._entries[next(iter(self._entries))]
        self._entries[question] = (self._monotonic() + seconds, found)
