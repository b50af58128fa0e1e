"""A range that an operator asked for again, read beside the live log and delivered to one plugin."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from gateway.delivery.items import Window
from gateway.delivery.patience import patiently
from gateway.events import Event
from gateway.journal.interface import Cursors, Replay, ReplayProgress

PAGE: Final = 200
AHEAD: Final = 1000
AHEAD_BYTES: Final = 32 * 2**20


class Replaying:
    """A plugin's replays, one after the other. An event whose live delivery is still ahead waits for that."""

    def __init__(
        self,
        journal: Cursors,
        cursor: Callable[[], int],
        admit: Callable[[int, Event], None],
        changed: Callable[[], None],
        ended: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self._journal = journal
        self._cursor = cursor
        self._admit = admit
        self._changed = changed
        self._ended = ended
        self._queue: deque[Replay] = deque()
        self._known: set[int] = set()
        self._window = Window(0)
        self._read_to = 0
        self._go_on = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        return not self._queue

    def take_up(self, replays: Iterable[Replay]) -> None:
        """Add replays, or go on with those of the last run."""
        for replay in replays:
            if replay.number not in self._known:
                self._known.add(replay.number)
                self._queue.append(replay)
                if len(self._queue) == 1:
                    self.rewind()
        if self._queue and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run())
            self._task.add_done_callback(self._ended)
        self._go_on.set()

    def rewind(self) -> None:
        """Go back to what is settled."""
        if self._queue:
            self._read_to = self._queue[0].position
            self._window = Window(self._read_to)
            self._go_on.set()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def settle(self, seq: int) -> None:
        self._window.settle(seq)

    def progress(self) -> ReplayProgress | None:
        """The running replay's number, new position, and how many events more are done; None: nothing new."""
        if not self._queue:
            return None
        replay = self._queue[0]
        done = self._window.advance()
        position = self._window.position
        if not len(self._window) and self._read_to >= replay.until:
            position = replay.until
        if position == replay.position < replay.until:
            return None
        replay.position = position
        replay.done += done
        if position >= replay.until:
            self._queue.popleft()
            self.rewind()
        return ReplayProgress(replay.number, position, done)

    def go_on(self) -> None:
        """Something was settled: there may be room, or the cursor has moved."""
        self._go_on.set()

    async def _run(self) -> None:
        while self._queue:
            replay, window = self._queue[0], self._window
            until = min(replay.until, self._cursor())
            if len(window) < AHEAD and window.size <= AHEAD_BYTES and self._read_to < until:
                entries = await patiently(partial(self._journal.scan, replay.filter, self._read_to, until, PAGE))
                if window is not self._window:
                    continue
                for seq, event in entries:
                    window.add(seq, len(event.raw))
                    self._admit(seq, event)
                self._read_to = entries[-1].seq if entries else until
                self._changed()
            else:
                self._go_on.clear()
                self._changed()
                await self._go_on.wait()
