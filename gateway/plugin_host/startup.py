"""How far one plugin is with its startup: what delivery and custom values wait for, and what health tells of it."""

from __future__ import annotations

import asyncio
import time
from enum import Enum

from gateway.text import counted


class Phase(Enum):
    """`WAITING` for the plugins before it, `RUNNING` its hook, `PAUSING` before the next attempt, or `DONE`."""

    WAITING = "waiting"
    RUNNING = "running"
    PAUSING = "pausing"
    DONE = "done"


class Startup:
    """The startup of one plugin. It is done from the beginning where the plugin has no `startup` hook."""

    def __init__(self, needed: bool) -> None:
        self.phase = Phase.WAITING if needed else Phase.DONE
        self.done = asyncio.Event()
        """Set once the plugin has started; never cleared."""
        self.attempted = asyncio.Event()
        """Set once the first attempt is over, however it ended."""
        self.failures = 0
        self._error = ""
        self._began = 0.0
        self._next = 0.0
        if not needed:
            self.done.set()

    @property
    def seconds(self) -> float:
        """How long the hook has been running."""
        return time.monotonic() - self._began

    @property
    def state(self) -> str:
        """`"started"`, or `"starting"` until then."""
        return "started" if self.phase is Phase.DONE else "starting"

    @property
    def trouble(self) -> str | None:
        """What the plugin is waiting for, for the operator; None once it has started."""
        if self.phase is Phase.DONE:
            return None
        if self.phase is Phase.WAITING:
            return "its startup waits for the plugins before it"
        failed = f"{counted(self.failures, 'attempt')} failed, the last one: {self._error}" if self.failures else ""
        if self.phase is Phase.PAUSING:
            left = max(0.0, self._next - time.monotonic())
            return f"its startup is tried again in {left:.0f} s; {failed}"
        return f"its startup has taken {self.seconds:.0f} s{'; before that ' if failed else ''}{failed}"

    def begin(self) -> None:
        """The hook is being called."""
        self.phase, self._began = Phase.RUNNING, time.monotonic()

    def failed(self, told: str, pause: float) -> None:
        """The hook failed, with an error that may be logged; the next attempt begins after `pause` seconds."""
        self.phase, self._error, self._next = Phase.PAUSING, told, time.monotonic() + pause
        self.failures += 1
        self.attempted.set()

    def succeed(self) -> None:
        """The plugin has started."""
        self.phase = Phase.DONE
        self.attempted.set()
        self.done.set()
