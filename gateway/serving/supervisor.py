"""The process that watches over the worker's: Granian's supervisor with our own rules."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from typing import Any, Final

from granian.server.mp import MPServer

log = logging.getLogger("gateway.supervisor")

HURRY: Final = signal.SIGUSR1
"""Tells the worker that SIGTERM comes next: Granian waits for the requests that are on their way, however slow."""
EXIT_START: Final = 71
"""The worker could not start. The first one need not try again; one that takes the place of another has to."""
EXIT_JOURNAL: Final = 74
"""A commit failed; what is durable is unknown, so nothing may go on."""
QUICK_DEATH: Final = 5.0
LONGEST_PAUSE: Final = 5.0


class Supervisor(MPServer):
    """A worker that died is started again, with growing pauses when it dies quickly; not where another try is no
    use. A second signal ends everything at once."""

    def signal_handler_interrupt(self, *args: Any, **kwargs: Any) -> None:
        if self.interrupt_signal:
            for worker in self.wrks:
                worker.kill()  # type: ignore[no-untyped-call]
            os._exit(1)
        for worker in self.wrks:
            worker.interrupt_by_parent = True  # it may end before it is told to: the terminal told it, too
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.inner.pid, HURRY)
        super().signal_handler_interrupt(*args, **kwargs)  # type: ignore[no-untyped-call]

    def _serve_loop(self, spawn_target: Any, target_loader: Any) -> None:
        pause, first = 0.0, True
        while True:
            self.main_loop_interrupt.wait()
            self.main_loop_interrupt.clear()
            if self.interrupt_signal:
                return
            if not self.interrupt_children:
                continue
            dead = self.wrks.pop()
            code = dead.inner.exitcode
            if code == EXIT_JOURNAL or (first and code == EXIT_START):
                return
            first = False
            lived = time.monotonic() - dead.birth
            pause = min(LONGEST_PAUSE, pause * 2 + 0.1) if lived < QUICK_DEATH else 0.0
            log.error("the worker process died (%s); starting it again", _death(code))
            interrupted = pause and self._interrupted_within(pause)
            self.interrupt_children.clear()
            if interrupted:
                return
            worker = self._spawn_worker(idx=0, target=spawn_target, callback_loader=target_loader)
            worker.start()  # type: ignore[no-untyped-call]
            self.wrks.append(worker)

    def _interrupted_within(self, seconds: float) -> bool:
        self.main_loop_interrupt.wait(seconds)
        return bool(self.interrupt_signal)


def _death(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):  # a real-time signal has no name
        return signal.Signals(-code).name
    return f"signal {-code}"
