"""What was found damaged in a journal since it was opened."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from gateway.journal.interface import JournalDamaged
from gateway.log import RateLimit

log = RateLimit(logging.getLogger("gateway.journal"))

MOST: Final = 10_000
"""Places that are remembered, at most."""


class DamagedPlace(JournalDamaged):
    """Something in the journal, such as "the cursor of plugin crm", is not what was written."""

    def __init__(self, place: str) -> None:
        super().__init__(f"the journal is damaged: {place} is not what was written; run `gateway journal check`")
        self.place = place


class Damage:
    """Counts each place once. Any thread may report one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: set[str] = set()

    @property
    def count(self) -> int:
        return len(self._places)

    def found(self, place: str) -> JournalDamaged:
        """The error to raise for a damaged place, such as "the event at position 7"; logs a place that is new."""
        error = JournalDamaged(
            f"the journal {self._path} is damaged: {place} is not what was written; run `gateway journal check`"
        )
        if place not in self._places and len(self._places) < MOST:
            self._places.add(place)
            log.error("%s", error)
        return error


def event_at(seq: int) -> str:
    """The place of an event."""
    return f"the event at position {seq}"
