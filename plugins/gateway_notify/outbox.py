"""What is to be told to one target: grouped, at a limited rate, and again where it could not be delivered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from gateway import Notice

Send = Callable[[Sequence[Notice]], Awaitable[None]]
"""Delivers one message about these notices; `NotSent` where it cannot."""

MOST: Final = 100
"""Conditions that wait at most; a message names the first `NAMED` of them."""
LONGEST: Final = 300.0
"""Seconds between two attempts to deliver a message, at most."""


class NotSent(Exception):
    """A message was not delivered. What this says contains no secret."""

    loggable = True


class Outbox:
    """The notices for one target. The newest one about a condition replaces those before it; a condition that is over
    before its beginning was told is not told at all."""

    def __init__(self, name: str, send: Send, gather: float, every: float, log: logging.Logger) -> None:
        """The first message follows its first notice after `gather` seconds, and any other the one before it after
        `every` seconds at the earliest."""
        self._name = name
        self._send = send
        self._gather = gather
        self._every = every
        self._log = log
        self._waiting: dict[str, Notice] = {}
        self._told: set[str] = set()
        """Conditions that were told and whose end was not, by key."""
        self._sending: frozenset[str] = frozenset()
        """Conditions of the message that is under way, by key."""
        self._some = asyncio.Event()

    def put(self, notice: Notice) -> None:
        if notice.recovered and notice.key not in self._told | self._sending:
            self._waiting.pop(notice.key, None)
            return
        if notice.recovered or notice.key in self._waiting or len(self._waiting) < MOST:
            self._waiting[notice.key] = notice
            self._some.set()

    async def run(self) -> None:
        """Deliver until cancelled."""
        pause = 0.0
        while True:
            await self._some.wait()
            await asyncio.sleep(self._gather)
            notices = list(self._waiting.values())
            self._some.clear()
            if not notices:
                continue
            why = await self._attempt(notices)
            if why is not None:
                pause = min(LONGEST, max(1.0, 2 * pause))
                self._log.warning("%s: a message was not delivered: %s; next try in %.0f s", self._name, why, pause)
                self._some.set()
                await asyncio.sleep(pause)
                continue
            pause = 0.0
            for notice in notices:
                if self._waiting.get(notice.key) is notice:
                    del self._waiting[notice.key]
                (self._told.discard if notice.recovered else self._told.add)(notice.key)
            await asyncio.sleep(self._every)

    async def _attempt(self, notices: Sequence[Notice]) -> str | None:
        """Why the message was not delivered, or None."""
        self._sending = frozenset(notice.key for notice in notices)
        try:
            await self._send(notices)
        except NotSent as error:
            return str(error)
        except Exception as error:  # whatever it is, the next attempt comes
            return type(error).__name__
        finally:
            self._sending = frozenset()
            task = asyncio.current_task()
            if (
                task is not None and task.cancelling()
            ):  # `asyncio.wait_for` of Python 3.11 loses a cancellation at times
                raise asyncio.CancelledError
        return None
