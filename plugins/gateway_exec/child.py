"""One run of a program, in a process group of its own that does not outlive it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from gateway_exec.guard import Guard

GRACE: Final = 0.5
"""Seconds that a program has to end by itself once it was sent SIGTERM."""
_LAST: Final = 4096
"""Bytes of standard error that are kept: the last ones."""
_READS: Final = 32
"""Reads of what is left in the pipe once the process has ended, at most."""
_LINE: Final = 200
"""Characters of the last line that are kept."""


class Ended(NamedTuple):
    """The exit code, negative for a signal, and the last line of standard error."""

    code: int
    said: str


class Children:
    """The processes that run now."""

    def __init__(self, words: Sequence[str], directory: Path, environment: Mapping[str, str], *, listen: bool) -> None:
        """Without `listen`, standard error is thrown away."""
        self._words = words
        self._directory = directory
        self._environment = environment
        self._listen = listen
        self._running: set[Process] = set()
        self._guard = Guard()
        self._calls = 0
        self._ending = False
        self._none = asyncio.Event()
        self._none.set()

    async def run(self, given: bytes, environment: Mapping[str, str]) -> Ended:
        """Run the program with `given` on its standard input. When this returns or is cancelled, the process and
        everything in its group have ended; a cancelled one gets SIGTERM first. `OSError` where it cannot be started."""
        self._calls += 1
        self._none.clear()
        try:
            return await self._run(given, environment)
        finally:
            self._calls -= 1
            if not self._calls:
                self._none.set()

    async def end(self) -> None:
        """End those that still run, also those that are being started: with SIGTERM, and after `GRACE` with SIGKILL."""
        self._ending = True
        for process in self._running:
            _signal(process, signal.SIGTERM)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GRACE):
                    await self._none.wait()
            for process in self._running:
                _signal(process, signal.SIGKILL)
            await self._none.wait()
        finally:  # also where the time for shutdown is over
            await self._guard.close()

    async def _run(self, given: bytes, environment: Mapping[str, str]) -> Ended:
        await self._guard.start()
        said = _StandardError() if self._listen else None
        try:
            process = await asyncio.create_subprocess_exec(
                *self._words,
                stdin=PIPE,
                stdout=DEVNULL,
                stderr=DEVNULL if said is None else said.theirs,
                cwd=self._directory,
                env={**self._environment, **environment},
                start_new_session=True,
            )
        except BaseException:
            if said is not None:
                said.begun()
                said.close()
            raise
        if said is not None:
            said.begun()
        self._running.add(process)
        if self._ending:
            _signal(process, signal.SIGKILL)
        feeding: asyncio.Task[None] | None = None
        try:
            await self._guard.add(process.pid)  # without it, the program does not get the event
            feeding = asyncio.create_task(_feed(process, given))
            code = await process.wait()
        except asyncio.CancelledError:
            _signal(process, signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GRACE):
                    await process.wait()
            raise
        finally:
            _signal(process, signal.SIGKILL)  # also what it left behind in its group, which would go on for ever
            if feeding is not None:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)
            await process.wait()
            self._guard.discard(process.pid)
            self._running.discard(process)
            last = "" if said is None else said.close()
        return Ended(code, last)


def _signal(process: Process, number: signal.Signals) -> None:
    """Send it to the process and its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


async def _feed(process: Process, given: bytes) -> None:
    if process.stdin is None:
        return
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a program may end without having read it
        process.stdin.write(given)
        await process.stdin.drain()
        process.stdin.close()
        await process.stdin.wait_closed()


class _StandardError:
    """The end of what a process writes to its standard error. Other processes may keep their end of the pipe open for
    longer than that process runs, so this does not wait for the pipe's end."""

    def __init__(self) -> None:
        self._last = b""
        self._loop = asyncio.get_running_loop()
        self._ours, self.theirs = os.pipe()
        os.set_blocking(self._ours, False)
        self._loop.add_reader(self._ours, self._read)

    def begun(self) -> None:
        """The process has its end."""
        os.close(self.theirs)

    def close(self) -> str:
        """The last line that there is by now."""
        for _ in range(_READS):
            if not self._read():
                break
        self._loop.remove_reader(self._ours)
        os.close(self._ours)
        lines = self._last.decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")[:_LINE]

    def _read(self) -> bool:
        try:
            chunk = os.read(self._ours, 65536)
        except BlockingIOError:
            return False
        if not chunk:
            self._loop.remove_reader(self._ours)
        self._last = (self._last + chunk)[-_LAST:]
        return bool(chunk)
