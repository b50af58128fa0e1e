"""A few events through a plugin's hooks, one after the other, under a guard and a timeout each.

Plain hooks of several events share one trip into a thread, so that a fast plugin pays little for it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from gateway.delivery.items import Item, Key
from gateway.events import Event
from gateway.plugin_host.bind import EVENT_HOOKS
from gateway.plugin_host.call import GRACE, CallTimeout, Impl, Stuck, run
from gateway.plugin_host.load import Plugin

LONGEST: Final = 0.1
"""Seconds after which a run begins no further event: a plugin that has become slow is noticed, and stopped in time."""


class _Skipped(Exception):
    """Not attempted: an earlier event of its conversation failed."""


SKIPPED: Final = _Skipped()
Outcome = BaseException | None


def calls_of(plugin: Plugin) -> Callable[[Event], tuple[Impl, ...]]:
    """Which of a plugin's hooks an event goes to: `on_event`, then its own hook's where it could be read."""
    general = (plugin.hooks["on_event"],) if "on_event" in plugin.hooks else ()
    own = {
        name.removeprefix("on_").replace("_", "-"): (*general, plugin.hooks[name])
        for name in EVENT_HOOKS & plugin.hooks.keys()
        if name != "on_event"
    }
    return lambda event: own.get(event.hook, general) if event.payload is not None else general


def is_threaded(plugin: Plugin) -> bool:
    """Whether all of a plugin's event hooks are plain functions."""
    return not any(impl.is_async for name, impl in plugin.hooks.items() if name in EVENT_HOOKS)


class Run:
    """One lane's work: `items` in order, as many as `LONGEST` seconds are enough for to be begun. What was given up
    after its time is not counted when it ends after all."""

    def __init__(
        self, plugin: Plugin, items: Sequence[Item], calls: Callable[[Event], tuple[Impl, ...]], threaded: bool
    ) -> None:
        self._plugin = plugin
        self._items = items
        self._calls = calls
        self._threaded = threaded
        self._outcomes: list[Outcome] = []
        self._failed: set[Key] = set()
        self._lock = threading.Lock()
        self._begun = not threaded
        self._given_up = False
        self._started = self._began = time.monotonic()

    async def run(self) -> list[Outcome]:
        """An outcome per item that was begun; the last one is `CallTimeout` where time ran out. `Stuck` where all of
        the plugin's threads are, or too many calls that were over their time."""
        timeout = self._plugin.delivery.timeout
        done = self._start_thread() if self._threaded else self._start_task()
        while not done.done():
            left = self._started + timeout - time.monotonic()
            if left <= 0 and self._give_up(timeout):
                if not self._threaded:
                    done.cancel()
                    await asyncio.wait((done,), timeout=GRACE)
                    self._plugin.caller.leave_behind(done)
                elif self._begun:
                    self._plugin.threads.abandon()
                else:
                    raise Stuck(f"no thread came free within {timeout:g} s")
                break
            await asyncio.wait((done,), timeout=max(left, 0.001))
        return self._outcomes

    def _start_task(self) -> asyncio.Future[None]:
        self._plugin.caller.check()
        return asyncio.ensure_future(self._in_task())

    def _start_thread(self) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def finish() -> None:
            if self._given_up and self._begun:
                self._plugin.threads.recover()
            elif not done.done():
                done.set_result(None)

        def work() -> None:
            self._in_thread()
            try:
                loop.call_soon_threadsafe(finish)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return

        self._plugin.threads.submit(work)
        return done

    def _in_thread(self) -> None:
        with self._lock:
            if self._given_up:
                return
            self._begun = True
            self._started = self._began = time.monotonic()
        for item in self._items:
            if item.key in self._failed:
                outcome: Outcome = SKIPPED
            else:
                outcome, event = None, item.event
                for impl in self._calls(event):
                    _, outcome = run(impl, (event,) if impl.name == "on_event" else (event, event.payload))
                    if outcome is not None:
                        break
            if not self._end(item, outcome):
                return

    async def _in_task(self) -> None:
        for item in self._items:
            if item.key in self._failed:
                outcome: Outcome = SKIPPED
            else:
                outcome = None
                try:
                    event = item.event
                    for impl in self._calls(event):
                        args = (event,) if impl.name == "on_event" else (event, event.payload)
                        if impl.is_async:
                            await impl.call(*args)
                        else:
                            await self._plugin.caller.call(impl, *args, timeout=self._plugin.delivery.timeout)
                except BaseException as error:
                    outcome = error
            if not self._end(item, outcome):
                return

    def _end(self, item: Item, outcome: Outcome) -> bool:
        with self._lock:
            if self._given_up:
                return False
            self._outcomes.append(outcome)
            self._started = time.monotonic()
        if outcome is not None and item.key is not None:
            self._failed.add(item.key)
        return self._started - self._began < LONGEST and not isinstance(outcome, Stuck)

    def _give_up(self, timeout: float) -> bool:
        with self._lock:
            if len(self._outcomes) == len(self._items) or time.monotonic() - self._started < timeout:
                return False
            self._given_up = True
            if self._begun:
                self._outcomes.append(CallTimeout(f"not over within {timeout:g} s"))
            return True
