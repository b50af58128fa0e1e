"""Events through a plugin's hooks, several at a time."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from gateway.events import Event
from gateway.hookspecs import Reject
from gateway.plugin_host.call import GRACE, CallTimeout, Job, Stuck, call_on, run
from gateway.plugin_host.load import Plugin
from gateway.plugin_host.loop import LoopCall

if TYPE_CHECKING:
    from gateway.journal.lease import Lease

LONGEST: Final = 0.1
"""Seconds after which a batch begins no further event, so that a plugin that has become slow is noticed in time."""

Outcome = BaseException | None
"""Of an event: None where the plugin took it."""


class _Skipped(Exception):
    """Not attempted: an earlier event of its conversation failed."""


SKIPPED: Final = _Skipped()
NOT_TAKEN: Final = "the plugin does not take such events any more: it has no hook for it now, or its filter excludes it"
"""Why an event that was parked for the plugin becomes a dead letter: it was not delivered, so it must not look so."""


class Deliverable(Protocol):
    """An event to call hooks with; the events of one `conversation` are called in order."""

    @property
    def event(self) -> Event | None: ...
    @property
    def conversation(self) -> Hashable: ...


class EventCalls:
    """Several events through a plugin's hooks, one after the other, under a guard and a timeout each.

    The hooks of several events share one trip to the plugin's loop or, where all are plain, into one of its threads, so
    that a fast plugin pays little for it. What was given up does not count when it ends after all. With a lease, no
    hook is called once that is over, and each event has the epoch."""

    def __init__(self, plugin: Plugin, items: Sequence[Deliverable], lease: Lease | None = None) -> None:
        self._plugin = plugin
        self._items = items
        self._lease = lease
        self._timeout = float(plugin.delivery.timeout)
        self._outcomes: list[Outcome] = []
        self.seconds: list[float] = []
        """How long each event with an outcome took."""
        self.broken_off: Deliverable | None = None
        """What has no outcome because the lease was over before the last of its hooks was called."""
        self._failed: set[Hashable] = set()
        self._lock = threading.Lock()
        self._given_up = False
        self._now = plugin.loop.time
        self._started = self._now()
        self._began = time.monotonic()

    async def run(self) -> list[Outcome]:
        """An outcome for each event that was begun, the last one `CallTimeout` where time ran out. `Stuck` where no
        thread comes free, the plugin's loop is blocked, or too many calls that were given up still run."""
        work: Job | LoopCall
        if self._plugin.threaded:
            work = Job(self._plugin.threads, self._in_thread)
        else:
            work = call_on(self._plugin.loop, self._on_loop)
        try:
            while not work.done.done():
                left = self._started + self._timeout - self._now()
                if left <= 0 and self._give_up(work):
                    break
                await asyncio.wait((work.done,), timeout=max(left, 0.001))
        finally:
            if not work.done.done():  # given up, or abandoned
                self._given_up = True
                work.give_up()
        if isinstance(work, LoopCall) and not work.done.done():
            await asyncio.wait((work.done,), timeout=GRACE)
            if work.waits_for_another():
                self._outcomes[-1] = Stuck(self._blocked())
        return self._outcomes

    def _in_thread(self) -> None:
        self._started, self._began = self._now(), time.monotonic()
        lease = self._lease
        for item in self._items:
            outcome: Outcome = SKIPPED if item.conversation in self._failed else None
            if outcome is None and (event := item.event) is not None:
                if lease is not None:
                    if lease.is_over:
                        return
                    event = msgspec.structs.replace(event, epoch=lease.epoch)
                calls = self._plugin.calls(event)
                outcome = None if calls else Reject(NOT_TAKEN)
                for impl in calls:
                    if lease is not None and lease.is_over:
                        self.broken_off = item
                        return
                    _, outcome = run(impl, (event,) if impl.name == "on_event" else (event, event.payload))
                    if outcome is not None:
                        break
            if not self._end(item, outcome):
                return

    async def _on_loop(self) -> None:
        self._started, self._began = self._now(), time.monotonic()
        lease = self._lease
        for item in self._items:
            outcome: Outcome = SKIPPED if item.conversation in self._failed else None
            if outcome is None and (event := item.event) is not None:
                if lease is not None:
                    if lease.is_over:
                        return
                    event = msgspec.structs.replace(event, epoch=lease.epoch)
                try:
                    calls = self._plugin.calls(event)
                    outcome = None if calls else Reject(NOT_TAKEN)
                    for impl in calls:
                        if lease is not None and lease.is_over:
                            self.broken_off = item
                            return
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
            now = self._now()
            self.seconds.append(now - self._started)
            self._started = now
        if outcome is not None and item.conversation is not None:
            self._failed.add(item.conversation)
        return time.monotonic() - self._began < LONGEST and not isinstance(outcome, Stuck)

    def _give_up(self, work: Job | LoopCall) -> bool:
        with self._lock:
            if len(self._outcomes) == len(self._items) or self._now() - self._started < self._timeout:
                return False
            self._given_up = True
            if not work.give_up():
                threaded = self._plugin.threaded
                raise Stuck(f"no thread came free within {self._timeout:g} s" if threaded else self._blocked())
            self.seconds.append(self._now() - self._started)
            self._outcomes.append(CallTimeout(f"exceeded its {self._timeout:g} s"))
            return True

    def _blocked(self) -> str:
        return f"its event loop has been blocked for {self._timeout:g} s, at {self._plugin.loop.place()}"
