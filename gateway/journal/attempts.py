"""What is kept of deliveries that did not go well at once: each failed attempt, and the one with which a parked event
succeeded. Where the cursor passed, the marks tell when."""

from __future__ import annotations

from typing import Final

import msgspec

MOST: Final = 20
"""Attempts that are kept of one event and plugin: the last ones."""


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """One attempt of a plugin at the event at `seq`. `at` is when it ended, in seconds since 1970, `ms` how long it
    took; None where the process died with it. `error` has type and place, and is empty where the attempt succeeded."""

    seq: int
    number: int
    at: float
    ms: float | None
    error: str = ""
