"""Waiting for what another thread, process or task does: a poll with a deadline, never a fixed pause."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

PATIENCE: Final = 60.0
"""Seconds until a wait fails. It is long: a test that fails only on a busy machine is worse than a slow one."""
_POLL: Final = 0.002


async def until(condition: Callable[[], object], what: str = "", *, seconds: float = PATIENCE) -> None:
    """Wait until `condition()` is true, while the event loop runs on. `AssertionError` after `seconds`, which says what
    was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(_late(what, seconds))
        await asyncio.sleep(_POLL)


def until_true(condition: Callable[[], object], what: str = "", *, seconds: float = PATIENCE) -> None:
    """The same for a test without an event loop."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(_late(what, seconds))
        time.sleep(_POLL)


def _late(what: str, seconds: float) -> str:
    return f"not within {seconds:g} s: {what or 'the condition that was waited for'}"
