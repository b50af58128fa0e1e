"""What a journal in memory keeps of an event and of a cursor."""

from __future__ import annotations

import msgspec

from gateway.events import Event
from gateway.journal.interface import Parked


class Kept(msgspec.Struct):
    seq: int
    event: Event
    micros: int
    digest: bytes | None


class Cursor(msgspec.Struct):
    begins: int
    seq: int
    epoch: int = 0
    clean: bool = True
    removed_at: float | None = None
    parked: dict[int, Parked] = {}
    running: set[int] = set()
    crashes: dict[int, int] = {}
    hooks: list[tuple[int, tuple[str, ...]]] = []
    """From which position on the plugin has which."""
