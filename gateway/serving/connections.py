"""What the connections of one listener share: which of them wait for a request, for how long, and what was refused."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from email.utils import formatdate
from typing import TYPE_CHECKING, Final

from uvicorn.server import ServerState

from gateway.log import RateLimit
from gateway.metrics import Metrics

if TYPE_CHECKING:
    from gateway.serving.protocol import Connection

log = logging.getLogger("gateway.server")

HEAD_SECONDS: Final = 5.0
"""From the first byte of a request to the end of its head; also how long an idle connection is kept."""
LAST_HEADS: Final = 1.0
"""Seconds that a head has to arrive in when the gateway drains."""
SWEEP_SECONDS: Final = 1.0


class Connections(ServerState):
    """The state of one listener."""

    def __init__(self, limit: int, metrics: Metrics, prefix: str) -> None:
        """`prefix` begins the sentence of each log line."""
        super().__init__()
        self.limit = limit
        self.draining = False
        self.none_left = asyncio.Event()
        self.waiting: dict[Connection, float] = {}
        """Connections without a request under way and when they began to wait (loop time); the oldest is the first."""
        self._metrics = metrics
        self._prefix = prefix
        self._lines: defaultdict[int, RateLimit] = defaultdict(lambda: RateLimit(log))

    async def closed(self) -> None:
        """Wait until the last connection has ended; for a listener that accepts nothing more."""
        while self.connections:
            self.none_left.clear()
            await self.none_left.wait()

    def note(self, status: int, client: str, sentence: str) -> None:
        """Count a refusal and write a line, at a bounded rate for each status."""
        self._metrics.refused[str(status), "head"] += 1
        self._lines[status].warning("%d from %s: %s%s", status, client, self._prefix, sentence)

    def sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close the connections that have waited for too long; runs every second."""
        self.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        latest = loop.time() - (LAST_HEADS if self.draining else HEAD_SECONDS)
        for connection, since in list(self.waiting.items()):
            if since > latest:
                break
            connection.expire()
