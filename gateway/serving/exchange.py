"""A request and its answer: one that the ASGI application answers, and one that was taken before it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from gateway.http.problems import Answer, Headers

if TYPE_CHECKING:
    from gateway.serving.protocol import Connection

Take = Callable[[bytes, Headers, bytes, Answer], bool]
"""Takes a POST whose body arrived together with its head: target, headers, body. Returns False, and does nothing, where
the application has to answer; otherwise the answer is sent later, exactly once."""


def whole_answer(status: int, media_type: bytes, body: bytes, lines: bytes) -> bytes:
    """A complete answer that caches must not store. `lines` are further lines of its head, each with its line break."""
    return b"%bcontent-type: %b\r\ncache-control: no-store\r\ncontent-length: %d\r\n%b\r\n%b" % (
        STATUS_LINE[status],
        media_type,
        len(body),
        lines,
        body,
    )


class TakenExchange:
    """A request that `Take` has taken: no task runs for it. Has what `Connection` and uvicorn's protocol use of an
    exchange."""

    __slots__ = ("_connection", "disconnected", "keep_alive", "response_complete")
    message_event: Final = asyncio.Event()  # nothing waits for it
    streams: Final = False

    def __init__(self, connection: Connection, keep_alive: bool) -> None:
        self._connection = connection
        self.keep_alive = keep_alive
        self.disconnected = False
        self.response_complete = False

    def answer(self, status: int, media_type: bytes, body: bytes, headers: Headers = ()) -> None:
        """See `Answer`. Sends nothing to a client that has left."""
        self.response_complete = True
        if self.disconnected:
            return
        connection = self._connection
        lines = connection.server_state.head_lines
        for header in headers:
            lines += b"%b: %b\r\n" % header
        if not self.keep_alive:
            lines += b"connection: close\r\n"
        connection.transport.write(whole_answer(status, media_type, body, lines))
        if not self.keep_alive:
            connection.transport.close()
        connection.on_response_complete()


class Exchange(RequestResponseCycle):
    """A request and its answer. Writes a complete answer, as all of the gateway's are, with one system call."""

    streams = False
    """Whether the answer comes in parts, over a time that the gateway decides."""
    _start: Any = None

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        start, self._start = self._start, None
        self.streams = self.streams or message.get("more_body", False)
        if start is None or not self._sent_whole(start["status"], start["headers"], message):
            if start is not None:
                await super().send(start)
            await super().send(message)

    def _sent_whole(self, status: int, headers: Any, message: Any) -> bool:
        """Send the answer in one write, if that is possible; returns whether it was. The base class sends answers
        without an exact length, and refuses those with a line break in a header."""
        body, lines, length = message.get("body", b""), [STATUS_LINE[status]], b""
        if message.get("more_body") or self.disconnected or self.flow.write_paused or self.scope["method"] == "HEAD":
            return False
        for name, value in (*self.default_headers, *headers):
            lines += name, b": ", value, b"\r\n"
            if name == b"content-length":
                length = value
            elif name == b"connection":
                self.keep_alive = False
        if not self.keep_alive and b"connection" not in lines:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        head = b"".join(lines)
        if (
            length != b"%d" % len(body)
            or head.count(b"\n") != head.count(b"\r\n")
            or head.index(b"\r\n\r\n") + 4 != len(head)
        ):
            return False
        self.transport.write(head + body)
        self.response_started = self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
        return True
