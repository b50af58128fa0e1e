"""An event loop whose time jumps to the next timer when nothing is ready, and which runs what is ready in an order that
depends on a seed only."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections import deque
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Deadlock(Exception):
    """Nothing is ready, and no timer is left."""


class _Jumps(selectors.SelectSelector):
    """Waits for nothing: time passes instead."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.now = 0.0
        self.steps = 0
        self.ready: deque[Any] = deque()
        self._chance = chance

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.steps += 1
        if timeout is None:
            raise Deadlock("nothing is ready, and no timer is left")
        if timeout > 0:
            self.now += timeout
        elif len(self.ready) > 1:
            self._chance.shuffle(self.ready)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """One thread, no files, no sockets: only tasks and timers."""

    def __init__(self, seed: int | str) -> None:
        self._jumps = _Jumps(random.Random(f"schedule {seed}"))
        super().__init__(self._jumps)
        self._jumps.ready = self._ready  # type: ignore[attr-defined]

    def time(self) -> float:
        return self._jumps.now

    @property
    def steps(self) -> int:
        """How often it has looked for what is ready."""
        return self._jumps.steps


def run_virtually(seed: int | str, main: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns on a loop of its own."""
    loop = VirtualLoop(seed)
    try:
        return loop.run_until_complete(main)
    finally:
        _end_tasks(loop)
        loop.close()


def _end_tasks(loop: VirtualLoop) -> None:
    """End the tasks that a failed history leaves behind, as far as they end without any time passing."""
    for _ in range(100):
        left = asyncio.all_tasks(loop)
        if not left:
            return
        for task in left:
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
