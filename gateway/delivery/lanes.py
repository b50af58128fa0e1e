"""Which events a plugin has at the same time: several conversations beside one another, one event after the other
within each."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from gateway.delivery.health import Health
from gateway.delivery.items import Item, Key
from gateway.delivery.run import Outcome, Run, calls_of, is_threaded
from gateway.delivery.suspicion import Suspicion
from gateway.journal.interface import JournalError, Track
from gateway.plugin_host.call import Stuck, describe
from gateway.plugin_host.load import Plugin

CHUNK: Final = 256
CHUNK_SECONDS: Final = 0.005
"""How long one lane's work should take; a slow plugin gets one event at a time."""
SECOND_LANE: Final = 0.01
"""Another lane opens when those at work have been so for this long: a fast plugin gains nothing from more threads."""
SLOW_EVENT: Final = 0.002
"""Seconds for an event that threads are worth their while for."""
STUCK_PAUSE: Final = 0.5
DOWN_PAUSE: Final = 0.02
"""Between single events to a plugin that fails all of them: so it costs the others nothing, and what comes while it is
down mostly waits in the journal instead of using up its attempts. As much again for every event that comes in
meanwhile, up to `DOWN_PAUSE_MOST`: the more there is to do for the others, the less is done for it."""
DOWN_PAUSE_MOST: Final = 0.5


class Lanes:
    """Hands events out to at most `concurrency` runs at once; `over` gets the items of each with their outcomes.
    `newest` tells the position of the journal's last event; `ended` gets the task of each run."""

    def __init__(
        self,
        plugin: Plugin,
        suspicion: Suspicion,
        health: Health,
        over: Callable[[Sequence[Item], Sequence[Outcome]], None],
        newest: Callable[[], int],
        ended: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self.epoch = 0
        self.crashes: dict[int, int] = {}
        self.closed = False
        self._plugin = plugin
        self._suspicion = suspicion
        self._health = health
        self._over = over
        self._newest = newest
        self._ended = ended
        self._calls = calls_of(plugin)
        self._threaded = is_threaded(plugin)
        self._ready: deque[Key | Item] = deque()
        self._queues: dict[Key, deque[Item]] = {}
        self._running: dict[asyncio.Task[None], tuple[float, Sequence[Item]]] = {}
        self._careful = False
        self._seconds = CHUNK_SECONDS
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._running)

    def put(self, item: Item) -> None:
        """Queue an item behind the others of its conversation."""
        if item.key is None:
            self._ready.append(item)
        elif (queue := self._queues.get(item.key)) is not None:
            queue.append(item)
        else:
            self._queues[item.key] = deque((item,))
            self._ready.append(item.key)

    def put_back(self, item: Item) -> None:
        """Queue an item of a run that is just over before the others of its conversation."""
        if item.key is None:
            self._ready.appendleft(item)
        else:
            self._queues.setdefault(item.key, deque()).appendleft(item)

    def take_back(self, key: Key) -> list[Item]:
        """What waits of a conversation, in order; it waits no more."""
        queue = self._queues.get(key, deque())
        items = list(queue)
        queue.clear()
        return items

    def waiting(self) -> Iterator[Item]:
        for queue in self._queues.values():
            yield from queue
        for head in self._ready:
            if isinstance(head, Item):
                yield head

    def running(self, longer: float = 0.0) -> Iterator[Item]:
        """What the plugin has had for longer than so many seconds."""
        now = time.monotonic()
        for began, items in self._running.values():
            if now - began >= longer:
                yield from items

    def clear(self) -> None:
        """Forget what waits."""
        self._ready.clear()
        self._queues.clear()

    async def drain(self, timeout: float | None = None) -> None:
        """Wait until no run is left."""
        while self._running:
            _, left = await asyncio.wait(self._running, timeout=timeout)
            if left:
                return
            await asyncio.sleep(0)

    def dispatch(self) -> None:
        """Open lanes for what waits, as many as make sense now."""
        while self._ready and not self.closed and self._may_open():
            items = self._take()
            if not items:
                continue
            task = asyncio.create_task(self._lane(items), name=f"lane {self._plugin.name}")
            self._running[task] = (time.monotonic(), items)
            self._careful = items[0].careful
            task.add_done_callback(self._lane_over)
        if self._timer is None and self._ready and 0 < len(self._running) < self._plugin.delivery.concurrency:
            self._timer = asyncio.get_running_loop().call_later(SECOND_LANE, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        self.dispatch()

    def _may_open(self) -> bool:
        if not self._running:
            return True
        if len(self._running) >= self._plugin.delivery.concurrency or self._careful or self._head_is_careful():
            return False
        if self._health.down:
            return False
        if not self._threaded or self._seconds >= SLOW_EVENT:
            return True
        return time.monotonic() - max(began for began, _ in self._running.values()) >= SECOND_LANE

    def _head_is_careful(self) -> bool:
        head = self._ready[0]
        if isinstance(head, Item):
            return head.careful
        queue = self._queues[head]
        return bool(queue) and queue[0].careful

    def _take(self) -> list[Item]:
        """The next run: as many items as should take `CHUNK_SECONDS`, a careful one alone."""
        size = 1 if self._health.down else max(1, min(CHUNK, int(CHUNK_SECONDS / self._seconds)))
        items: list[Item] = []
        while self._ready and len(items) < size:
            if self._head_is_careful():
                if items:
                    break
                size = 1
            head = self._ready.popleft()
            if isinstance(head, Item):
                items.append(head)
                continue
            queue = self._queues[head]
            if not queue:
                del self._queues[head]
            while queue and len(items) < size and not (items and queue[0].careful):
                items.append(queue.popleft())
        return items

    async def _lane(self, items: Sequence[Item]) -> None:
        began = time.monotonic()
        run = Run(self._plugin, items, self._calls, self._threaded)
        outcomes: Sequence[Outcome]
        try:
            if items[0].careful:
                seq = items[0].seq
                track, suspected = Track(self._plugin.name), self.crashes.get(seq, 0) > 0
                async with self._suspicion.recorded(track, self.epoch, seq, suspected):
                    outcomes = await run.run()
            else:
                outcomes = await run.run()
        except JournalError:
            outcomes = []
        except Exception as error:  # no thread to be had, say
            outcomes = [error if isinstance(error, Stuck) else Stuck(describe(error))]
        if not outcomes or isinstance(outcomes[-1], Stuck):
            await asyncio.sleep(STUCK_PAUSE)
        else:
            seconds = (time.monotonic() - began) / len(outcomes)
            self._seconds += 0.25 * (max(seconds, 1e-6) - self._seconds)
        self._over(items, outcomes)
        if self._health.down:
            await self._pause()
        for key in {item.key: None for item in items if item.key is not None}:
            if self._queues.get(key):
                self._ready.append(key)
            else:
                self._queues.pop(key, None)

    async def _pause(self) -> None:
        before = self._newest()
        await asyncio.sleep(DOWN_PAUSE)
        came = self._newest() - before
        if came and not self.closed:
            await asyncio.sleep(min(DOWN_PAUSE_MOST, came * DOWN_PAUSE))

    def _lane_over(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._careful = False
        self._ended(task)
        self.dispatch()
