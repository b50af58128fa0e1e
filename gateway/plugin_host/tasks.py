"""Tasks of a plugin's own, which `context.spawn` begins: supervised, bounded, and cancelled before `shutdown`."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Coroutine
from typing import Any, Final

from gateway.plugin_host.fault_log import FaultLog
from gateway.plugin_host.loop import PluginLoop
from gateway.text import counted, lasting

log = logging.getLogger("gateway.plugins")

MOST: Final = 100
"""Tasks of one plugin that run at the same time, at most."""
CANCEL_SECONDS: Final = 1.0
"""How long cancelled tasks have to end, before `shutdown` is called."""
_NAMES: Final = 100


class _Failure:
    """The last failure of a task by its name."""

    def __init__(self, told: str) -> None:
        self.told = told
        self.at = time.monotonic()


class PluginTasks:
    """The tasks of one plugin. Thread-safe."""

    def __init__(self, plugin: str, loop: PluginLoop, faults: FaultLog) -> None:
        self.failures = 0
        """How many tasks ended with an exception."""
        self._plugin = plugin
        self._loop = loop
        self._faults = faults
        self._lock = threading.Lock()
        self._running: dict[asyncio.Task[None] | object, str] = {}
        self._failed: dict[str, _Failure] = {}
        self._open = True

    def __len__(self) -> int:
        return len(self._running)

    @property
    def trouble(self) -> str | None:
        """The task that failed last and was not begun again since, or None."""
        with self._lock:
            if not self._failed:
                return None
            name, failure = max(self._failed.items(), key=lambda one: one[1].at)
        ago = lasting(time.monotonic() - failure.at)
        return f"its task {name} ended {ago} ago with {failure.told} ({counted(self.failures, 'failed task')})"

    def open(self) -> None:
        """Tasks may begin, from the next call of `startup` on."""
        with self._lock:
            self._open = True
            self._failed.clear()

    def spawn(self, work: Coroutine[Any, Any, object], name: str | None = None) -> None:
        """See `Context.spawn`."""
        name = str(name or getattr(work, "__name__", "task"))
        place = object()
        with self._lock:
            refusal = None
            if not self._open:
                refusal = "the plugin is shut down"
            elif len(self._running) >= MOST:
                refusal = f"{MOST} tasks of this plugin run already"
            else:
                self._running[place] = name
                self._failed.pop(name, None)
        if refusal is not None:
            work.close()
            raise RuntimeError(f"task {name} cannot begin: {refusal}")
        there = self._loop.there()

        def ended(task: asyncio.Task[None]) -> None:
            work.close()  # it was not even begun where the task was cancelled at once
            with self._lock:
                self._running.pop(task, None)

        def begin() -> None:
            task = there.loop.create_task(self._supervised(work, name), name=name)
            with self._lock:
                del self._running[place]
                self._running[task] = name
                late = not self._open
            task.add_done_callback(ended)
            if late:
                task.cancel()

        there.put(begin)

    async def cancel(self, seconds: float = CANCEL_SECONDS) -> None:
        """Cancel all, and wait for their end; one that does not end is named in the log. None begins any more."""
        with self._lock:
            self._open = False
            running = list(self._running)
        if not running:
            return
        there = self._loop.there()

        def cancel_all() -> None:
            with self._lock:
                tasks = [task for task in self._running if isinstance(task, asyncio.Task)]
            for task in tasks:
                task.cancel()

        there.put(cancel_all)
        deadline = time.monotonic() + seconds
        while self._running and time.monotonic() < deadline:  # noqa: ASYNC110 - they end on another loop
            await asyncio.sleep(0.002)
        with self._lock:
            left = sorted(set(self._running.values()))
        if left:
            log.error("plugin %s: tasks did not end within %g s: %s", self._plugin, seconds, ", ".join(left))

    async def _supervised(self, work: Coroutine[Any, Any, object], name: str) -> None:
        try:
            await work
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:
            told = self._faults.warning(log, f"task {name} of plugin {self._plugin}", error)
            with self._lock:
                self.failures += 1
                while len(self._failed) >= _NAMES:
                    self._failed.pop(next(iter(self._failed)))
                self._failed[name] = _Failure(told)
