"""A process that outlives the gateway for a moment, to end what the gateway has left behind, after `kill -9`, too."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from typing import Final

_PROGRAM: Final = """
import os, signal, sys
groups = set()
for line in sys.stdin:
    (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        pass
"""
"""Reads which process groups run, and kills them once its standard input ends, which only the gateway holds open."""

_ENDING: Final = 1.0
"""Seconds that it may take to end."""


class Guard:
    """Kills the process groups that it was told of once this process has ended, however that comes about."""

    def __init__(self) -> None:
        self._groups: set[int] = set()
        self._process: Process | None = None
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Start the process, unless it runs. `OSError` where that fails."""
        async with self._starting:
            if self._process is not None and self._process.returncode is None:
                return
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-c", _PROGRAM),
                stdin=PIPE,
                stdout=DEVNULL,
                stderr=DEVNULL,
                cwd="/",
                env={},
                start_new_session=True,  # what ends the gateway's group does not end it
            )
            self._tell("".join(f"+{group}\n" for group in self._groups))

    async def add(self, group: int) -> None:
        """Watch over a process group from now on. `OSError` where the guard has ended."""
        self._groups.add(group)
        self._tell(f"+{group}\n")
        if self._process is not None and self._process.stdin is not None:
            await self._process.stdin.drain()

    def discard(self, group: int) -> None:
        """Its processes have ended."""
        self._groups.discard(group)
        self._tell(f"-{group}\n")

    async def close(self) -> None:
        """End it. What it still watches over is killed."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            try:
                async with asyncio.timeout(_ENDING):
                    await process.wait()
            except TimeoutError:  # it is stopped, or the machine stands still
                process.kill()
                await process.wait()

    def _tell(self, lines: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(lines.encode())
