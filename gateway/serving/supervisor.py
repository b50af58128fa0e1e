"""The supervisor: the process that `gateway run` becomes. It starts the worker, keeps the worker's listening sockets
open, passes signals on, starts a new worker when one dies, and tells systemd how the gateway is.

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
READY: Final = b"r"
"""The worker sends it once it accepts connections, and after each reload that a signal asked for."""
PING: Final = b"?"
PONG: Final = b"!"
"""A worker that is ready answers each PING of the supervisor with it, as long as its loop runs."""


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


class ServiceManager:
    """Tells systemd, by datagrams to `NOTIFY_SOCKET`, how the gateway is. Without that variable it does nothing."""

    def __init__(self) -> None:
        """Takes the variables out of the environment: they are for this process only."""
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        seconds = os.environ.pop("WATCHDOG_USEC", "")
        ours = os.environ.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.every: float | None = None
        """Seconds between two signs of life that the watchdog needs, half of its limit; None without a watchdog."""
        if self._address and ours and seconds.isdecimal() and int(seconds):
            self.every = int(seconds) / 2_000_000

    def tell(self, *lines: str) -> None:
        if not self._address:
            return
        path = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(1.0)
            sender.sendto("\n".join(lines).encode(), path)


class Supervisor:
    """Keeps one worker running until a signal comes, or until another worker could not help either."""

    def __init__(self, config: str, options: Options, sockets: list[int]) -> None:
        """`sockets` are the file descriptors of the public and the admin listener; -1 is for one that the worker
        opens."""
        self._config = config
        self._options = options
        self._worker = 0
        self._control: socket.socket | None = None
        self._sockets = sockets
        self._json = False
        self._ready = False
        self._manager = ServiceManager()
        self._next_beat = time.monotonic()
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
            self._manager.tell(f"STATUS=the worker process died ({describe_exit(code)}); starts it again")
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
            if descriptor >= 0:
                os.set_inheritable(descriptor, True)
        module = ["-P", "-m", "gateway.serving.worker"]
        numbers = map(str, (os.getpid(), *passed))
        command = [sys.executable, *module, *self._options.arguments(), self._config, *numbers]
        # The worker unblocks the signals once it handles them, so a signal cannot end it in the middle of its start.
        blocked = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        self._worker = os.posix_spawn(sys.executable, command, os.environ, setsigmask=blocked)
        theirs.close()
        self._control, self._ready = ours, False

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
                self._worker, self._ready = 0, False
                while self._receive():
                    pass
                if self._control is not None:  # a process that a plugin forked has the other end, too
                    self._control.close()
                    self._control = None
                return os.waitstatus_to_exitcode(status)

    def _handle_signals(self, timeout: float | None) -> None:
        """Wait for a signal or for a word of the worker, at most `timeout` seconds."""
        if self._manager.every is not None:
            left = max(0.0, self._next_beat - time.monotonic())
            timeout = left if timeout is None else min(left, timeout)
        watched = [self._signals] if self._control is None else [self._signals, self._control]
        readable, _, _ = select.select(watched, (), (), timeout)
        if self._control in readable:
            self._receive()
        if self._signals in readable:
            for number in self._signals.recv(4096):
                if number in (signal.SIGTERM, signal.SIGINT):
                    self._stop()
                elif number == signal.SIGHUP:
                    self._reload()
        if self._manager.every is not None and time.monotonic() >= self._next_beat:
            self._next_beat = time.monotonic() + self._manager.every
            self._beat()

    def _receive(self) -> bool:
        """Receive one word of the worker; False where there is none. With the format of its log come the sockets that
        it listens on, so that its ports stay taken between two workers."""
        if self._control is None:
            return False
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, 1, 2)
        except BlockingIOError:
            return False
        except OSError:  # the worker died with a word unread
            data, descriptors = b"", []
        if not data:
            self._control.close()
            self._control = None
        elif descriptors:
            self._close_sockets()
            self._sockets, self._json = descriptors, data == JSON_LOG
        elif data == READY and not self._stopping():
            self._ready = True
            self._manager.tell("READY=1", "STATUS=receives events")
        elif data == PONG:
            self._manager.tell("WATCHDOG=1")
        return bool(data)

    def _beat(self) -> None:
        """The sign of life for the watchdog: of the worker once it is ready. Before that it may take long, because it
        upgrades a large journal, and cannot answer."""
        if self._ready and self._control is not None:
            with contextlib.suppress(OSError):  # not read for long
                self._control.send(PING)
        else:
            self._manager.tell("WATCHDOG=1")

    def _reload(self) -> None:
        """Have the worker read the config again. A worker that starts reads it anyway, and is ready after that."""
        if self._stopping():
            return
        self._manager.tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        if self._worker:
            os.kill(self._worker, signal.SIGHUP)

    def _stop(self) -> None:
        """The first signal makes the worker drain; the second ends both processes at once."""
        if self._stop_by is not None:
            if self._worker:
                os.kill(self._worker, signal.SIGKILL)
            os._exit(1)
        self._stop_by = time.monotonic() + STOP_SECONDS
        self._manager.tell("STOPPING=1", "STATUS=answers the requests that have begun, and stops")
        self._close_sockets()
        if self._worker:
            os.kill(self._worker, signal.SIGTERM)

    def _close_sockets(self) -> None:
        for descriptor in self._sockets:
            if descriptor >= 0:
                os.close(descriptor)
        self._sockets = [-1, -1]

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
    given, (path, *numbers) = Options.read(sys.argv[1:])
    sys.exit(Supervisor(path, given, list(map(int, numbers))).run())
