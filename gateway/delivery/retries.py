"""When parked events are due again, by the monotonic clock: a jump of the wall clock neither delays nor hurries."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from typing import Any, Final

from gateway.journal.interface import Parked

AT_ONCE: Final = 64
FULL_PAUSE: Final = 0.02


class Retries:
    """A queue by time; `deliver` gets those whose time has come, a few at once, while `has_room`."""

    def __init__(
        self, deliver: Callable[[list[Parked]], Coroutine[Any, Any, None]], has_room: Callable[[], bool]
    ) -> None:
        self._deliver = deliver
        self._has_room = has_room
        self._due: list[tuple[float, int, Parked]] = []
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> asyncio.Task[None]:
        self._task = asyncio.create_task(self._run())
        return self._task

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def add(self, row: Parked, seconds: float = 0.0) -> None:
        """Deliver this event again so many seconds from now."""
        heapq.heappush(self._due, (asyncio.get_running_loop().time() + seconds, row.seq, row))
        self._changed.set()

    def clear(self) -> None:
        self._due.clear()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._has_room():  # noqa: ASYNC110 - whoever makes room need not know
                await asyncio.sleep(FULL_PAUSE)
            ready: list[Parked] = []
            while self._due and self._due[0][0] <= loop.time() and len(ready) < AT_ONCE:
                ready.append(heapq.heappop(self._due)[2])
            if ready:
                await self._deliver(ready)
                continue
            self._changed.clear()
            try:
                async with asyncio.timeout_at(self._due[0][0] if self._due else None):
                    await self._changed.wait()
            except TimeoutError:
                continue
