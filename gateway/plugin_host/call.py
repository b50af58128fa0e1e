"""Calling plugin code: its threads, timeouts and guards. Async code runs on the plugin's own loop (`loop.py`).

Whether an implementation is async is decided once, when it is bound. Whatever a plugin raises, `SystemExit` too,
becomes a `PluginFault`. A call that exceeds its time is given up: a task is cancelled; a thread is left behind and
replaced, as long as not too many are.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final

from gateway.plugin_host.loop import LoopCall, PluginLoop, Result
from gateway.text import describe

GRACE: Final = 1.0
"""Seconds that a cancelled call has to end before it is left behind."""


class PluginFault(Exception):
    """A plugin's call failed; `cause` is what it raised."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(describe(cause))
        self.cause = cause


class CallTimeout(Exception):
    """A plugin's call exceeded its time."""


class Stuck(Exception):
    """No call can begin: too many that were given up still run."""


class Impl:
    """One hook implementation, bound to its plugin's instance. Call it with the hook's arguments in order."""

    __slots__ = ("call", "is_async", "name")

    def __init__(self, name: str, function: Callable[..., Any], order: tuple[int, ...] | None = None) -> None:
        """`order` names, by position, the hook's arguments that the function takes; None: all, in order."""
        self.name = name
        self.is_async = inspect.iscoroutinefunction(function)
        self.call: Callable[..., Any] = (
            function if order is None else lambda *args: function(*(args[index] for index in order))
        )


class Threads:
    """A plugin's own bounded pool of daemon threads. A thread whose call was given up is replaced, at most `size`
    times."""

    def __init__(self, name: str, size: int) -> None:
        self._name = name
        self._size = size
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._idle = 0  # threads that wait for work, less the work that waits for a thread
        self._stuck = 0

    def submit(self, work: Callable[[], None]) -> None:
        """Run `work`, which must not raise, in a thread; `Stuck` where none will come free."""
        with self._lock:
            if self._capacity() <= 0:
                raise Stuck(f"{self._stuck} threads are stuck in calls that exceeded their time")
            self._idle -= 1
            self._grow()
        self._work.put(work)

    def abandon(self) -> None:
        """A call was given up: its thread no longer counts."""
        with self._lock:
            self._stuck += 1
            self._grow()

    def recover(self) -> None:
        """A call that was given up has returned after all."""
        with self._lock:
            self._stuck -= 1

    def close(self) -> None:
        for _ in range(self._threads):
            self._work.put(None)

    def _capacity(self) -> int:
        return min(self._size, 2 * self._size - self._stuck)

    def _grow(self) -> None:
        if self._idle < 0 and self._threads - self._stuck < self._capacity():
            self._threads += 1
            self._idle += 1
            threading.Thread(target=self._run, name=f"plugin-{self._name}", daemon=True).start()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            del work
            with self._lock:
                self._idle += 1


class Job:
    """Work in one of a plugin's threads; `done` once it has ended, unless it was given up."""

    def __init__(self, threads: Threads, work: Callable[[], None]) -> None:
        self._begun = False
        self._given_up = False
        self._lock = threading.Lock()
        self._threads = threads
        self._work = work
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self._loop.create_future()
        threads.submit(self._run)

    def give_up(self) -> bool:
        """Wait no longer. Returns whether the work has begun; otherwise it never will."""
        with self._lock:
            if self._begun and not self._given_up:
                self._threads.abandon()
            self._given_up = True
            return self._begun

    def _run(self) -> None:
        with self._lock:
            self._begun = not self._given_up
        if self._begun:
            self._work()
        try:
            self._loop.call_soon_threadsafe(self._finish)
        except RuntimeError:  # the loop is closed
            return

    def _finish(self) -> None:
        if not self._given_up:
            if not self.done.done():
                self.done.set_result(None)
        elif self._begun:
            self._threads.recover()


class Caller:
    """Single calls to one plugin instance: lifecycle hooks, checkpoints and custom values."""

    def __init__(self, threads: Threads, loop: PluginLoop) -> None:
        self._threads = threads
        self._loop = loop

    async def call(self, impl: Impl, *args: Any, timeout: float) -> Any:
        """The implementation's result; `PluginFault`, `CallTimeout` (after `timeout` seconds) or `Stuck`."""
        result, error = await (self._on_loop if impl.is_async else self._in_thread)(impl, args, timeout)
        if error is not None:
            raise PluginFault(error)
        return result

    async def _on_loop(self, impl: Impl, args: tuple[Any, ...], timeout: float) -> Result:
        call = call_on(self._loop, impl.call, *args)
        # a timer of our own: asyncio.wait and asyncio.timeout cost several times as much
        timer = asyncio.get_running_loop().call_later(timeout, call.expire)
        try:
            await call.done
        finally:
            timer.cancel()
            begun = call.result is not None or call.give_up()
        if call.result is None:
            raise CallTimeout(
                _late(timeout) + ("" if begun else f"; its event loop is blocked at {self._loop.place()}")
            )
        return call.result

    async def _in_thread(self, impl: Impl, args: tuple[Any, ...], timeout: float) -> Result:
        results: list[Result] = []
        job = Job(self._threads, lambda: results.append(run(impl, args)))
        try:
            await asyncio.wait((job.done,), timeout=timeout)
        finally:
            if not job.done.done():
                job.give_up()
        if not job.done.done():
            raise CallTimeout(_late(timeout))
        return results[0]


def call_on(loop: PluginLoop, function: Callable[..., Any], *args: Any) -> LoopCall:
    """Begin a call on a plugin's loop; `Stuck` where none may begin."""
    reason = loop.refusal()
    if reason is not None:
        raise Stuck(reason)
    return LoopCall(loop, function, *args)


def run(impl: Impl, args: tuple[Any, ...]) -> Result:
    """Call a plain implementation in this thread: its result, or what it raised."""
    try:
        result = impl.call(*args)
    except BaseException as error:
        return None, error
    if inspect.iscoroutine(result):
        result.close()
        return None, TypeError(f"{impl.name} is a plain def, but returned a coroutine; make it async def")
    return result, None


def _late(timeout: float) -> str:
    return f"no answer within {timeout:g} s"
