"""Events through a plugin's hooks, several at a time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Hashable, Sequence
from typing import Final, Protocol

from gateway.events import Event
from gateway.plugin_host.call import GRACE, CallTimeout, Job, Stuck, run
from gateway.plugin_host.load import Plugin

LONGEST: Final = 0.1
"""Seconds after which a batch begins no further event, so that a plugin that has become slow is noticed in time."""

Outcome = BaseException | None
"""Of an event: None where the plugin took it."""


class _Skipped(Exception):
    """Not attempted: an earlier event of its conversation failed."""


SKIPPED: Final = _Skipped()


class Deliverable(Protocol):
    """An event to call hooks with; the events of one `conversation` are called in order."""

    @property
    def event(self) -> Event | None: ...
    @property
    def conversation(self) -> Hashable: ...


class EventCalls:
    """Several events through a plugin's hooks, one after the other, under a guard and a timeout each.

    Plain hooks of several events share one trip into a thread, so that a fast plugin pays little for it. What was given
    up does not count when it ends after all."""

    def __init__(self, plugin: Plugin, items: Sequence[Deliverable]) -> None:
        self._plugin = plugin
        self._items = items
        self._timeout = float(plugin.delivery.timeout)
        self._outcomes: list[Outcome] = []
        self._failed: set[Hashable] = set()
        self._lock = threading.Lock()
        self._given_up = False
        # a loop's clock may stand still during a callback; its timers are what can be simulated
        self._now = time.monotonic if plugin.threaded else asyncio.get_running_loop().time
        self._started = self._now()
        self._began = time.monotonic()

    async def run(self) -> list[Outcome]:
        """An outcome for each event that was begun, the last one `CallTimeout` where time ran out. `Stuck` where no
        thread comes free, or too many calls that were given up still run."""
        job: Job | None = None
        if self._plugin.threaded:
            job = Job(self._plugin.threads, self._in_thread)
            done: asyncio.Future[None] = job.done
        else:
            self._plugin.caller.check()
            done = asyncio.ensure_future(self._in_task())
        try:
            while not done.done():
                left = self._started + self._timeout - self._now()
                if left <= 0 and self._give_up(job):
                    break
                await asyncio.wait((done,), timeout=max(left, 0.001))
        finally:
            if not done.done():  # given up, or abandoned
                self._given_up = True
                if job is not None:
                    job.give_up()
                else:
                    done.cancel()
                    self._plugin.caller.leave_behind(done)
        if job is None and not done.done():
            await asyncio.wait((done,), timeout=GRACE)
        return self._outcomes

    def _in_thread(self) -> None:
        self._started = self._began = time.monotonic()
        for item in self._items:
            outcome: Outcome = SKIPPED if item.conversation in self._failed else None
            if outcome is None and (event := item.event) is not None:
                for impl in self._plugin.calls(event):
                    _, outcome = run(impl, (event,) if impl.name == "on_event" else (event, event.payload))
                    if outcome is not None:
                        break
            if not self._end(item, outcome):
                return

    async def _in_task(self) -> None:
        for item in self._items:
            outcome: Outcome = SKIPPED if item.conversation in self._failed else None
            if outcome is None and (event := item.event) is not None:
                try:
                    for impl in self._plugin.calls(event):
                        args = (event,) if impl.name == "on_event" else (event, event.payload)
                        if impl.is_async:
                            await impl.call(*args)
                        else:
                            await self._plugin.caller.call(impl, *args, timeout=self._timeout)
                except BaseException as error:
                    outcome = error
            if not self._end(item, outcome):
                return

    def _end(self, item: Deliverable, outcome: Outcome) -> bool:
        with self._lock:
            if self._given_up:
                return False
            self._outcomes.append(outcome)
            self._started = self._now()
        if outcome is not None and item.conversation is not None:
            self._failed.add(item.conversation)
        return time.monotonic() - self._began < LONGEST and not isinstance(outcome, Stuck)

    def _give_up(self, job: Job | None) -> bool:
        with self._lock:
            if len(self._outcomes) == len(self._items) or self._now() - self._started < self._timeout:
                return False
            self._given_up = True
            if job is not None and not job.give_up():
                raise Stuck(f"no thread came free within {self._timeout:g} s")
            self._outcomes.append(CallTimeout(f"exceeded its {self._timeout:g} s"))
            return True
