"""Reads a request's body within limits of size and time. The HTTP server does not limit the time."""

from __future__ import annotations

import asyncio
from typing import Any, Final

SWEEPS: Final = 8
"""Sweeps within the time that a body may take: a slow body is refused late by at most an eighth of that time."""


class TooLarge(Exception):
    """The body is larger than the limit. Its rest was not read."""


class TooSlow(Exception):
    """The body was not complete in time."""


class Gone(Exception):
    """The client disconnected before its body was complete."""


class BodyReader:
    """Reads bodies of at most `limit` bytes within `timeout` seconds, whatever their Content-Length says.

    One timer serves all bodies that are being read: a timer for each would cost more than reading the body.
    """

    def __init__(self, limit: int, timeout: float) -> None:
        self._limit = limit
        self._timeout = timeout
        self._reading: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._sweeping = False

    def drain(self, seconds: float) -> None:
        """From now on a body may take at most `seconds`. This holds for bodies that are being read already, too."""
        self._timeout = min(self._timeout, seconds)
        loop = asyncio.get_running_loop()
        loop.call_later(seconds, self._sweep, loop)

    async def read(self, headers: list[tuple[bytes, bytes]], receive: Any) -> bytes:
        """The whole body. Raises `TooLarge`, `TooSlow` or `Gone`."""
        length = -1
        for name, value in headers:
            if name == b"content-length" and value.isdigit():
                length = int(value[:20])
                if length > self._limit:
                    raise TooLarge
        loop = asyncio.get_running_loop()
        task: Any = asyncio.current_task(loop)
        self._reading[task] = loop.time()
        if not self._sweeping:
            self._sweeping = True
            loop.call_later(self._timeout / SWEEPS, self._sweep, loop)
        try:
            message = await receive()
            if message["type"] != "http.request":
                raise Gone
            body: bytes = message.get("body", b"")
            if len(body) != length and message.get("more_body", False):
                body = await self._read_on(body, receive)
            elif len(body) > self._limit:
                raise TooLarge
            return body
        except asyncio.CancelledError:
            if task not in self._late:
                raise
            task.uncancel()
            raise TooSlow from None
        finally:
            del self._reading[task]
            self._late.discard(task)

    async def _read_on(self, first: bytes, receive: Any) -> bytes:
        chunks, size = [first], len(first)
        while size <= self._limit:
            message = await receive()
            if message["type"] != "http.request":
                raise Gone
            chunk = message.get("body", b"")
            chunks.append(chunk)
            size += len(chunk)
            if not message.get("more_body", False) and size <= self._limit:
                return b"".join(chunks)
        raise TooLarge

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        latest = loop.time() - self._timeout
        for task, began in self._reading.items():
            if began <= latest and task not in self._late:
                self._late.add(task)
                task.cancel()
        self._sweeping = bool(self._reading)
        if self._sweeping:
            loop.call_later(self._timeout / SWEEPS, self._sweep, loop)
