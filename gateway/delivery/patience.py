"""Reading the journal when it cannot be read for a while: a disk that stutters, too many open files."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from gateway.journal.interface import JournalError
from gateway.log import RateLimit

T = TypeVar("T")
log = RateLimit(logging.getLogger("gateway.delivery"))

AGAIN: Final = 0.5


async def patiently(read: Callable[[], Awaitable[T]]) -> T:
    """What `read` gives, once it does."""
    while True:
        try:
            return await read()
        except JournalError as error:
            log.warning("trying again in %g s: %s", AGAIN, error)
            await asyncio.sleep(AGAIN)
