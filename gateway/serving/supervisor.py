"""The supervisor: the process that `gateway run` becomes. It starts the worker, keeps the worker's listening sockets
open, passes signals on, and starts a new worker when one dies.

It runs as a script under `python -I -S` and imports nothing of the gateway: it needs little memory, and a fault of the
application cannot end it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time
from typing import Final, NamedTuple

EXIT_CONFIG: Final = 78
EXIT_START: Final = 71
"""The worker could not start. If it was the first worker, the supervisor ends, too; otherwise it tries again."""
EXIT_JOURNAL: Final = 74
"""A commit failed. What is on disk is not known, so the supervisor does not start another worker."""
STOP_SECONDS: Final = 9.0
"""The time from the first signal to SIGKILL."""
QUICK_DEATH: Final = 5.0
"""Seconds: the next start after a worker that lived for less is delayed."""
LONGEST_PAUSE: Final = 5.0
"""Seconds before the next start, at most."""
IGNORED: Final = (
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGVTALRM,
    signal.SIGPROF,
    signal.SIGIO,
)
"""Signals that would end a process by default, and have no meaning here."""
NO_COPY: Final = "--no-copy"
JSON: Final = "--json"
JSON_LOG: Final = b"j"
TEXT_LOG: Final = b"t"
"""The format of the log, which the worker sends together with its sockets."""


class Options(NamedTuple):
    """The options of `gateway run` that the supervisor hands on to each worker: whether the journal is copied before it
    is upgraded, and whether the lines about the listeners are JSON."""

    copy: bool
    json: bool

    @classmethod
    def read(cls, arguments: list[str]) -> tuple[Options, list[str]]:
        """The options among the arguments of a process, and the other arguments."""
        flags = (NO_COPY, JSON)
        return cls(NO_COPY not in arguments, JSON in arguments), [one for one in arguments if one not in flags]

    def arguments(self) -> list[str]:
        return [*([] if self.copy else [NO_COPY]), *([JSON] if self.json else [])]


class Supervisor:
    """Keeps one worker running until a signal comes, or until another worker could not help either."""

    def __init__(self, config: str, options: Options) -> None:
        self._config = config
        self._options = options
        self._worker = 0
        self._control: socket.socket | None = None
        self._sockets: list[int] = []
        self._json = False
        self._stop_by: float | None = None
        self._signals, self._wakeup = socket.socketpair()

    def run(self) -> int:
        """The exit code of `gateway run`."""
        self._signals.setblocking(False)
        self._wakeup.setblocking(False)
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        for number in IGNORED:  # the worker inherits this
            signal.signal(number, signal.SIG_IGN)
        pause, first = 0.0, True
        while True:
            born = time.monotonic()
            self._start_worker()
            code = self._wait_for_worker()
            if code == EXIT_JOURNAL:
                return 1
            if first and code in (EXIT_START, EXIT_CONFIG):
                return EXIT_CONFIG if code == EXIT_CONFIG else 1
            if self._stopping():
                return 0
            first = False
            pause = min(LONGEST_PAUSE, pause * 2 + 0.1) if time.monotonic() - born < QUICK_DEATH else 0.0
            self._log_error(f"the worker process died ({describe_exit(code)}); starting it again")
            resume_at = time.monotonic() + pause
            while (left := resume_at - time.monotonic()) > 0:
                self._handle_signals(left)
                if self._stopping():
                    return 0

    def _start_worker(self) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        passed = [theirs.fileno(), *self._sockets]
        for descriptor in passed:
            os.set_inheritable(descriptor, True)
        module = ["-P", "-m", "gateway.serving.worker"]
        numbers = map(str, (os.getpid(), *passed))
        command = [sys.executable, *module, *self._options.arguments(), self._config, *numbers]
        # The worker unblocks the signals once it handles them, so a signal cannot end it in the middle of its start.
        blocked = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        self._worker = os.posix_spawn(sys.executable, command, os.environ, setsigmask=blocked)
        theirs.close()
        self._control = ours

    def _wait_for_worker(self) -> int:
        """Pass signals on until the worker has ended; its exit code, or the negative number of the signal."""
        while True:
            timeout = None if self._stop_by is None else max(0.0, self._stop_by - time.monotonic())
            self._handle_signals(timeout)
            if self._stop_by is not None and time.monotonic() >= self._stop_by:
                self._log_error(f"the worker process did not stop within {STOP_SECONDS:g} s; killing it")
                self._stop_by += STOP_SECONDS
                os.kill(self._worker, signal.SIGKILL)
            pid, status = os.waitpid(self._worker, os.WNOHANG)
            if pid:
                self._worker = 0
                self._receive_sockets()
                if self._control is not None:
                    self._control.close()
                    self._control = None
                return os.waitstatus_to_exitcode(status)

    def _handle_signals(self, timeout: float | None) -> None:
        """Wait for a signal or for the worker's sockets, at most `timeout` seconds."""
        watched = [self._signals] if self._control is None else [self._signals, self._control]
        readable, _, _ = select.select(watched, (), (), timeout)
        if self._control in readable:
            self._receive_sockets()
        if self._signals in readable:
            for number in self._signals.recv(4096):
                if number in (signal.SIGTERM, signal.SIGINT):
                    self._stop()
                elif number == signal.SIGHUP and self._worker:  # reads the config again
                    os.kill(self._worker, signal.SIGHUP)

    def _receive_sockets(self) -> None:
        """Receive the sockets that the first worker listens on, so that its ports stay taken between two workers."""
        if self._control is None:
            return
        with contextlib.suppress(BlockingIOError):
            data, descriptors, _, _ = socket.recv_fds(self._control, 1, 2)
            if not data:
                self._control.close()
                self._control = None
            elif descriptors:
                self._sockets, self._json = descriptors, data == JSON_LOG

    def _stop(self) -> None:
        """The first signal makes the worker drain; the second ends both processes at once."""
        if self._stop_by is not None:
            if self._worker:
                os.kill(self._worker, signal.SIGKILL)
            os._exit(1)
        self._stop_by = time.monotonic() + STOP_SECONDS
        while self._sockets:
            os.close(self._sockets.pop())
        if self._worker:
            os.kill(self._worker, signal.SIGTERM)

    def _stopping(self) -> bool:
        return self._stop_by is not None

    def _log_error(self, message: str) -> None:
        """A line in the format of the gateway's log."""
        now = time.time()
        when = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03d}Z"
        name = "gateway.supervisor"
        if self._json:
            line = f'{{"time":"{when}","level":"error","logger":"{name}","message":"{message}"}}'
        else:
            line = f"{when} error    {name}: {message}"
        print(line, file=sys.stderr, flush=True)  # noqa: T201


def describe_exit(code: int) -> str:
    """An exit code, or the name of the signal that ended a process."""
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):  # a real-time signal has no name
        return signal.Signals(-code).name
    return f"signal {-code}"


if __name__ == "__main__":
    given, [path] = Options.read(sys.argv[1:])
    sys.exit(Supervisor(path, given).run())
