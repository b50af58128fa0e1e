"""What the connections of one listener share (limits, waiting connections, refusals), and how an answer is written."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle
from uvicorn.server import ServerState

from gateway.log import RateLimit
from gateway.metrics import Metrics

if TYPE_CHECKING:
    from gateway.serving.protocol import Connection

log = logging.getLogger("gateway.server")

HEAD_SECONDS: Final = 5.0
"""The longest time from the first byte of a request to the end of its head, and the longest idle time."""
DRAIN_HEAD_SECONDS: Final = 1.0
"""The same time while the gateway drains."""
SWEEP_SECONDS: Final = 1.0


class Connections(ServerState):
    """The state of one listener."""

    def __init__(self, metrics: Metrics, prefix: str) -> None:
        """`prefix` begins the sentence of each log line."""
        super().__init__()
        self.draining = False
        self.none_left = asyncio.Event()
        """Set whenever the last connection has ended."""
        self.waiting: dict[Connection, float] = {}
        """Connections that wait for a request, and since when (loop time); the one that waits longest is the first."""
        self._metrics = metrics
        self._prefix = prefix
        self._lines: defaultdict[int, RateLimit] = defaultdict(lambda: RateLimit(log))

    def note(self, status: int, client: str, sentence: str, reason: str = "head") -> None:
        """Count a refusal and log it, at a limited rate for each status. `reason` is a label of the metrics."""
        self._metrics.refused[str(status), reason] += 1
        self._lines[status].warning("%d from %s: %s%s", status, client, self._prefix, sentence)

    def sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close the connections that have waited for too long. Runs every second."""
        self.default_headers = [(b"date", formatdate(usegmt=True).encode()), (b"x-content-type-options", b"nosniff")]
        latest = loop.time() - (DRAIN_HEAD_SECONDS if self.draining else HEAD_SECONDS)
        for connection, since in list(self.waiting.items()):
            if since > latest:
                break
            connection.expire()


class Exchange(RequestResponseCycle):
    """A request and its answer. Writes a complete answer, as all of the gateway's are, with one system call."""

    _start: Any = None

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        start, self._start = self._start, None
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
