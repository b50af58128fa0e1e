"""A plugin's own event loop, in a thread of its own, and the calls that cross to it from the loop that serves.

All async code of a plugin runs there, so code that blocks there holds up nothing but this plugin. Callbacks that wait
for a loop run together: calls that cross at the same time share one wake-up, and so do their results.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, Final, NamedTuple

from gateway.plugin_host.place import place_in

END_SECONDS: Final = 0.5
"""How long a loop that ends waits for the tasks that it has cancelled."""
WAITING: Final = 10_000
"""Calls that wait for one loop, at which no further call begins."""
LEFT_BEHIND: Final = 100
"""Calls of one plugin that were given up and still run, at which no further call begins."""

Result = tuple[Any, BaseException | None]
"""What a call returned, or what it raised."""
log = logging.getLogger("gateway.plugins")


class Blocked(NamedTuple):
    """For how many seconds a loop has not answered, and where it is."""

    seconds: float
    place: str

    def __str__(self) -> str:
        return f"its event loop has not answered for {self.seconds:.0f} s, blocked at {self.place}"


class Crossing:
    """The way to an event loop for callbacks from another thread. They run in order, and must not raise."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.waiting: deque[Callable[[], None]] = deque()
        self._waking = False

    def put(self, callback: Callable[[], None]) -> None:
        """Have the loop run `callback`, unless it is closed."""
        self.waiting.append(callback)
        if not self._waking:
            self._waking = True
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self.loop.call_soon_threadsafe(self._run)

    def _run(self) -> None:
        self._waking = False  # before the count, so that what comes after it wakes the loop again
        for _ in range(len(self.waiting)):
            self.waiting.popleft()()


class PluginLoop:
    """The loop of one plugin. Its thread starts with the first call. With `loop`, the calls run on that loop instead
    of one of their own, as a simulation needs it."""

    def __init__(self, name: str, package: str = "", loop: asyncio.AbstractEventLoop | None = None) -> None:
        """`package` is the plugin's own code, where the place that blocks the loop is looked for."""
        self.time: Callable[[], float] = time.monotonic if loop is None else loop.time
        """The clock of the calls' timeouts, on both sides."""
        self.left_behind: set[LoopCall] = set()
        """Calls that were given up and still run."""
        self.blocked: Blocked | None = None
        """Set while the loop does not answer (see `Watch`)."""
        self.asked: float | None = None
        """Since when a ping has not been answered, by the monotonic clock, or None."""
        self._name = name
        self._package = package
        self._there = None if loop is None else Crossing(loop)
        self._back: Crossing | None = None
        self._thread: threading.Thread | None = None
        self._closing = False

    @property
    def runs(self) -> bool:
        """Whether it has a thread."""
        return self._thread is not None and self._thread.is_alive()

    def refusal(self) -> str | None:
        """Why no call may begin now, or None."""
        if self._closing:
            return "its event loop has ended"
        if len(self.left_behind) >= LEFT_BEHIND:
            return f"{len(self.left_behind)} calls that exceeded their time do not end"
        if self._there is not None and len(self._there.waiting) >= WAITING:
            return f"{len(self._there.waiting)} calls wait for its event loop"
        return None

    def there(self) -> Crossing:
        """The way to the plugin's loop."""
        if self._there is None:
            loop = new_loop()
            self._there = Crossing(loop)
            self._thread = threading.Thread(
                target=self._serve, args=(loop,), name=f"plugin-{self._name}-loop", daemon=True
            )
            self._thread.start()
        return self._there

    def back(self) -> Crossing:
        """The way back to the running loop."""
        loop = asyncio.get_running_loop()
        if self._back is None or self._back.loop is not loop:
            self._back = Crossing(loop)
        return self._back

    def ping(self) -> None:
        """Ask whether it answers: then `asked` becomes None."""
        self.asked = time.monotonic()
        self.there().put(self._answer)

    def frame(self) -> FrameType | None:
        """What its thread executes now."""
        ident = None if self._thread is None else self._thread.ident
        return None if ident is None else sys._current_frames().get(ident)

    def place(self) -> str:
        """Where its thread is now: `crm.py:88 in on_event`."""
        frame = self.frame()
        return "an unknown place" if frame is None else place_in(frame, self._package)

    def close(self) -> None:
        """Cancel its tasks and end its thread, without waiting for that. A thread that is blocked is left behind."""
        self._closing = True
        if self._thread is not None and self._there is not None:
            self._there.put(self._there.loop.stop)

    async def closed(self, seconds: float) -> bool:
        """Wait at most `seconds` for the end of its thread. Returns whether it has ended."""
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, seconds)
        return not self.runs

    def _answer(self) -> None:
        self.asked = None

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        while not self._closing:
            try:
                loop.run_forever()
            except BaseException as error:  # of a task that the plugin made: `SystemExit`, for example
                log.error("plugin %s: a task of its own raised %s; its calls go on", self._name, type(error).__name__)
        try:
            loop.run_until_complete(_end())
        finally:
            loop.set_exception_handler(lambda *_: None)  # it would tell of each task that refused to end
            loop.close()


class LoopCall:
    """A call of a coroutine function on a plugin's loop, for the loop that makes it."""

    def __init__(self, loop: PluginLoop, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        self._loop = loop
        self._there, self._back = loop.there(), loop.back()
        self.done: asyncio.Future[None] = self._back.loop.create_future()
        """Done once the call has ended, or `expire` was called; of the loop that made the call."""
        self.result: Result | None = None
        """Set once the call has ended."""
        self._function: Callable[..., Coroutine[Any, Any, Any]] | None = function
        self._args = args
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()
        self._begun = self._given_up = self._heard = self._ended = False
        self._task: asyncio.Task[None] | None = None
        self._there.put(self._start)

    def expire(self) -> None:
        """Wait no longer for it."""
        if not self.done.done():
            self.done.set_result(None)

    def give_up(self) -> bool:
        """Cancel it. Returns whether it has begun; otherwise it never will."""
        with self._lock:
            if not self._given_up:
                self._given_up = True
                if not self._begun:
                    self._function, self._args = None, ()
                elif not self._ended:
                    self._loop.left_behind.add(self)
                    self._there.put(self._cancel)
            return self._begun

    def waits_for_another(self) -> bool:
        """Whether the loop has not even noticed that the call was given up, because another call blocks it."""
        task = None if self._heard else asyncio.current_task(self._there.loop)
        return task is not None and task is not self._task and _is_call(task)

    # On the plugin's loop

    def _start(self) -> None:
        if not self._given_up:
            self._task = self._there.loop.create_task(self._run(), context=self._context)

    async def _run(self) -> None:
        with self._lock:
            function, args = self._function, self._args
            self._begun = function is not None
        if function is None:
            return
        self.result = await guarded(function, args)
        self._back.put(self._finish)

    def _cancel(self) -> None:
        self._heard = True
        if self._task is not None:
            self._task.cancel()

    # On the loop that made the call

    def _finish(self) -> None:
        self._ended = True
        self._loop.left_behind.discard(self)
        self.expire()


async def guarded(function: Callable[..., Coroutine[Any, Any, Any]], args: tuple[Any, ...]) -> Result:
    """Call it: its result, or what it raised."""
    try:
        return await function(*args), None
    except BaseException as error:
        return None, error


def new_loop() -> asyncio.AbstractEventLoop:
    """A new event loop, of uvloop where that is installed."""
    with contextlib.suppress(ImportError):
        import uvloop

        return uvloop.new_event_loop()
    return asyncio.new_event_loop()


def _is_call(task: asyncio.Task[Any]) -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    return code is LoopCall._run.__code__


async def _end() -> None:
    """Cancel all other tasks of the running loop."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=END_SECONDS)
    await asyncio.get_running_loop().shutdown_asyncgens()
