"""A service manager that speaks systemd's protocols: it opens sockets, starts `gateway run` with them, and receives
what the gateway tells."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from cli_process import GATEWAY
from machine import watch_group
from running import write_config

from gateway.config.load import load_config

LAUNCH = """
import fcntl, os, sys
given = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 100) for number in sys.argv[1].split(",") if number]
for number, descriptor in enumerate(given):
    os.dup2(descriptor, 3 + number)
    os.close(descriptor)
os.environ["LISTEN_PID"] = os.environ.get("LISTEN_PID", str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""
READY_WITHIN = 30.0


class ServiceManager:
    """Opens the sockets of a config, starts `gateway run` with them, and receives what it tells. `names` are those of
    the sockets, in the order in which they are passed; `given` says which sockets these are."""

    def __init__(self, config: Path, *, names: str = "", given: str = "server admin", **variables: str) -> None:
        self.config = load_config(config)
        self.path = config
        self.sockets = [
            socket.create_server(("127.0.0.1", getattr(self.config, table).port), backlog=1024)
            for table in given.split()
        ]
        self._notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notified.bind(str(config.parent / "notify"))
        self._variables = {"NOTIFY_SOCKET": str(config.parent / "notify"), **variables}
        if self.sockets:
            self._variables["LISTEN_FDS"] = str(len(self.sockets))
        if names:
            self._variables["LISTEN_FDNAMES"] = names
        self.log = config.parent / "log"

    def start(self) -> None:
        numbers = [one.fileno() for one in self.sockets]
        command = [sys.executable, "-c", LAUNCH, ",".join(map(str, numbers)), GATEWAY, "run", "-c", str(self.path)]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                command,
                pass_fds=numbers,
                env={**os.environ, **self._variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        watch_group(self.process.pid)

    def told(self, part: str) -> str:
        """The next datagram that has `part` in it."""
        text = self.is_told(part, within=READY_WITHIN)
        assert text, f"{part} was not told; the log was:\n{self.log.read_text()}"
        return text

    def is_told(self, part: str, *, within: float) -> str:
        """The next datagram that has `part` in it, or an empty text when none comes in time."""
        deadline = time.monotonic() + within
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._notified], (), (), left)[0]:
                text = self._notified.recv(4096).decode()
                if part in text:
                    return text
        return ""

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(15) == 0, self.log.read_text()

    def restart(self) -> None:
        self.stop()
        self.start()
        self.told("READY=1")

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for one in (*self.sockets, self._notified):
            one.close()

    @property
    def worker(self) -> psutil.Process:
        [worker] = psutil.Process(self.process.pid).children()
        return worker


@contextlib.contextmanager
def managed(directory: Path, text: str = "", **options: str) -> Iterator[ServiceManager]:
    manager = ServiceManager(write_config(directory, text), **options)
    manager.start()
    try:
        yield manager
    finally:
        manager.end()
