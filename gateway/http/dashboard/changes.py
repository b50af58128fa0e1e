"""`/changes`: tells an open page that something has changed. It does not tell what; the page asks for itself again."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Hashable
from typing import Any, Final

from litestar import Response, get
from litestar.response import Stream

from gateway.http.access import peer
from gateway.http.api.context import AnyRequest
from gateway.http.dashboard.rendering import SAFE, Renderer
from gateway.service import Gateway

TICK: Final = 0.25
"""Seconds between two looks at what the pages show."""
SLOWEST: Final = 2.0
"""The same while one change follows another: a page need not be made four times a second."""
HEARTBEAT: Final = 15.0
LONGEST: Final = 600.0
"""Seconds until a stream ends. The browser opens another one, for which it needs a session that has not ended."""
MOST: Final = 24
"""Streams at a time. A further one is answered 204, which tells a browser not to ask again; the page then looks every
few seconds."""
MOST_OF_ONE: Final = 4
"""Streams of one session, or of one address without a session: a browser opens 6 connections to a server, and needs
some for the pages."""


class ChangeStreams:
    """The open streams."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._open: Counter[str] = Counter()

    def is_full(self, viewer: str) -> bool:
        """Whether this viewer gets no further stream."""
        return self._open.total() >= MOST or self._open[viewer] >= MOST_OF_ONE

    async def stream(self, viewer: str) -> AsyncIterator[bytes]:
        """Server-sent events: one at most every `TICK`, and none that has any content but its word."""
        self._open[viewer] += 1
        try:
            began = told = time.monotonic()
            seen, pause = self._seen(), TICK
            yield b"retry: 2000\n\n"
            while time.monotonic() < began + LONGEST and not await self._draining(pause):
                now = self._seen()
                if now != seen:
                    seen, pause, told = now, min(2 * pause, SLOWEST), time.monotonic()
                    yield b"data: changed\n\n"
                    continue
                pause = TICK
                if time.monotonic() >= told + HEARTBEAT:
                    told = time.monotonic()
                    yield b": still here\n\n"
        finally:
            self._open[viewer] -= 1
            self._open += Counter()  # forgets the viewers that have none

    async def _draining(self, seconds: float) -> bool:
        """Wait for so long, or until the gateway drains; returns whether it does."""
        try:
            async with asyncio.timeout(seconds):
                return await self._gateway.draining.wait()
        except TimeoutError:
            return False

    def _seen(self) -> Hashable:
        """What is different once a page would be. From memory only. The minute is in it, since pages tell of ages."""
        gateway = self._gateway
        metrics, monitor = gateway.metrics, gateway.monitor
        return (
            int(time.time()) // 60,
            gateway.journal.newest,
            gateway.journal.refusal() is None,
            metrics.values.total(),
            metrics.refused.total(),
            tuple(monitor.dead.values()),
            tuple((plugin.startup.state, plugin.startup.failures) for plugin in gateway.plugins),
            tuple(
                (name, one.health.delivered, one.health.failures, one.parked, gateway.delivery.lag(name))
                for name, one in gateway.delivery.consumers.items()
            ),
            tuple(provider.breaker for provider in gateway.values.health()),
        )


def change_routes(renderer: Renderer) -> list[Any]:
    """The handler."""
    changes = ChangeStreams(renderer.context.gateway)

    @get("/changes")
    async def stream(request: AnyRequest) -> Response[Any]:
        viewer = renderer.access.sessions.of(request) or peer(request)
        if changes.is_full(viewer):
            return Response(None, status_code=204, headers={"cache-control": "no-store", **SAFE})
        headers = {"cache-control": "no-store", "x-accel-buffering": "no", **SAFE}
        return Stream(changes.stream(viewer), media_type="text/event-stream", headers=headers)

    return [stream]
