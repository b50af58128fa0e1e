"""Event ids: UUIDv7 as text, so that ids sort by the time of receipt."""

from __future__ import annotations

import random


class Ids:
    """Makes ids; those of one moment differ by 62 random bits."""

    def __init__(self, seed: int | None = None) -> None:
        seed = random.SystemRandom().getrandbits(256) if seed is None else seed
        self._bits = random.Random(seed)  # noqa: S311 - ids must differ, not be secret

    def new(self, micros: int) -> str:
        """An id for a moment in microseconds since 1970; its upper 60 bits are that moment in 1/4096 ms."""
        tick = (micros // 1000 << 12) | (micros % 1000 * 4096 // 1000)
        text = f"{tick << 64 | 0x8000000000000000 | self._bits.getrandbits(62):031x}"
        return f"{text[:8]}-{text[8:12]}-7{text[12:15]}-{text[15:19]}-{text[19:]}"


def first_id(micros: int) -> str:
    """The smallest id of a moment, for searching by time."""
    text = f"{max(0, micros) // 1000 << 12:015x}"
    return f"{text[:8]}-{text[8:12]}-7{text[12:]}-0000-000000000000"
