"""What the connections of one listener share: limits, waiting connections, refusals."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from email.utils import formatdate
from typing import TYPE_CHECKING, Final, cast

from uvicorn.server import ServerState

from gateway.http.request_id import RequestId
from gateway.log import RateLimit
from gateway.metrics import Metrics

if TYPE_CHECKING:
    from gateway.serving.exchange import Take
    from gateway.serving.protocol import Connection

log = logging.getLogger("gateway.server")

HEAD_SECONDS: Final = 5.0
"""The longest time from the first byte of a request to the end of its head, and the longest idle time."""
DRAIN_HEAD_SECONDS: Final = 1.0
"""The same time while the gateway drains."""
SWEEP_SECONDS: Final = 1.0


class Connections(ServerState):
    """The state of one listener."""

    def __init__(self, metrics: Metrics, prefix: str, take: Take | None) -> None:
        """`prefix` begins the sentence of each log line; `take` takes ordinary requests before the application."""
        super().__init__()
        self.take = take
        self.draining = False
        self.none_left = asyncio.Event()
        """Set whenever the last connection has ended."""
        self.waiting: dict[Connection, float] = {}
        """Connections that wait for a request, and since when (loop time); the one that waits longest is the first."""
        self.head_lines = b""
        """`default_headers` as the lines that they are in an answer."""
        self._metrics = metrics
        self._prefix = prefix
        self._lines: defaultdict[int, RateLimit] = defaultdict(lambda: RateLimit(log))

    def unanswered(self) -> int:
        """How many connections have a request that is not answered yet."""
        cycles = [cast("Connection", connection).cycle for connection in self.connections]
        return sum(cycle is not None and not cycle.response_complete for cycle in cycles)

    def note(self, status: int, client: str, sentence: str, reason: str = "head") -> None:
        """Count a refusal and log it, at a limited rate for each status. `reason` is a label of the metrics."""
        self._metrics.refused[str(status), reason] += 1
        self._lines[status].warning(
            "%d from %s: %s%s", status, client, self._prefix, sentence, request_id=str(RequestId())
        )

    def sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close the connections that have waited for too long. Runs every second."""
        self.default_headers = [(b"date", formatdate(usegmt=True).encode()), (b"x-content-type-options", b"nosniff")]
        self.head_lines = b"".join(b"%b: %b\r\n" % header for header in self.default_headers)
        latest = loop.time() - (DRAIN_HEAD_SECONDS if self.draining else HEAD_SECONDS)
        for connection, since in list(self.waiting.items()):
            if since > latest:
                break
            connection.expire()
