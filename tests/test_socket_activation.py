"""`gateway run` under a service manager that speaks systemd's protocols: it takes sockets that are open already, and
tells how it is. The service manager here is the test."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from cli_process import GATEWAY
from machine import watch_group
from raw_http import EVENT
from running import write_config

from gateway.config.load import load_config
from gateway.http.tokens import mint
from gateway.simulate import Client

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
RESTARTS = int(os.environ.get("GATEWAY_RESTARTS", "4"))


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


def serves(manager: ServiceManager) -> None:
    """Both listeners answer, each as itself."""
    config = manager.config
    with Client(config, "acme") as client:
        assert client.post(EVENT).status == 200
    assert httpx.get(f"http://127.0.0.1:{config.admin.port}/health/ready").status_code == 200


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("server admin", ""),
        ("server admin", "webio-gateway.socket:webio-gateway.socket"),
        ("admin server", "admin:webhooks"),
        ("server", "webhooks"),
        ("admin", "admin"),
        ("server", ""),
    ],
)
def test_sockets_are_taken_by_name_or_order(tmp_path: Path, given: str, names: str) -> None:
    """The gateway serves on those that were passed, and opens those that were not."""
    with managed(tmp_path, given=given, names=names) as manager:
        manager.told("READY=1")
        serves(manager)
        for variable in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET"):
            assert variable not in manager.worker.environ()
        manager.stop()
        for one in manager.sockets:  # the service manager's are open still
            assert one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)


@pytest.mark.parametrize(
    ("given", "names", "sentence"),
    [
        ("server admin", "webhooks:webhooks", "passed 2 sockets named 'webhooks:webhooks'; expected at most one"),
        ("server admin", "webhooks:metrics", "passed 2 sockets named 'webhooks:metrics'; expected at most one"),
        ("server admin", "webhooks", "passed 2 sockets named 'webhooks'; expected at most one"),
    ],
)
def test_sockets_that_cannot_be_told_apart(tmp_path: Path, given: str, names: str, sentence: str) -> None:
    """Exit 1, and what is expected."""
    with managed(tmp_path, given=given, names=names) as manager:
        assert manager.process.wait(READY_WITHIN) == 1
        assert sentence in manager.log.read_text()
        assert "Traceback" not in manager.log.read_text()


def test_a_socket_that_does_not_listen(tmp_path: Path) -> None:
    """A datagram socket: exit 1, and what to write."""
    manager = ServiceManager(write_config(tmp_path), given="", LISTEN_FDS="1")
    manager.sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM)]
    manager.start()
    try:
        assert manager.process.wait(READY_WITHIN) == 1
        assert "for the webhooks listener, which is not a listening TCP socket; use ListenStream=" in (
            manager.log.read_text()
        )
    finally:
        manager.end()


def test_sockets_for_another_process_are_left_alone(tmp_path: Path) -> None:
    """`LISTEN_PID` names a process: the variables of another one do not count."""
    with managed(tmp_path, given="", LISTEN_FDS="2", LISTEN_PID="1") as manager:
        manager.told("READY=1")
        serves(manager)


def test_an_admin_socket_that_other_machines_reach_needs_a_password(tmp_path: Path) -> None:
    """The config has the admin listener on loopback and no password: the address of the socket is what counts."""
    manager = ServiceManager(write_config(tmp_path), given="", LISTEN_FDS="1", LISTEN_FDNAMES="admin")
    manager.sockets = [socket.create_server(("0.0.0.0", manager.config.admin.port))]
    manager.start()
    try:
        assert manager.process.wait(READY_WITHIN) == 1
        log = manager.log.read_text()
        assert f"listens on 0.0.0.0:{manager.config.admin.port}, not on loopback, and [admin] has no password" in log
    finally:
        manager.end()


def test_restarts_refuse_no_connection(tmp_path: Path) -> None:
    """Clients connect again and again during restarts: each connection is accepted, and each event is kept."""
    with managed(tmp_path) as manager:
        manager.told("READY=1")
        url = f"http://127.0.0.1:{manager.config.server.port}/webio"
        headers = {"x-webio-token": mint(manager.config.organisations["acme"]), "connection": "close"}
        done, statuses, failures = threading.Event(), list[int](), list[str]()

        def load() -> None:
            while not done.is_set():
                try:
                    statuses.append(httpx.post(url, content=EVENT, headers=headers, timeout=60).status_code)
                except httpx.HTTPError as error:
                    failures.append(f"{type(error).__name__}: {error}")

        senders = [threading.Thread(target=load) for _ in range(3)]
        for sender in senders:
            sender.start()
        try:
            for _ in range(RESTARTS):
                before = len(statuses)
                manager.restart()
                while len(statuses) < before + 10 and not failures:
                    time.sleep(0.01)
        finally:
            done.set()
            for sender in senders:
                sender.join()
        print(f"{len(statuses)} events during {RESTARTS} restarts")
        assert failures == []
        assert set(statuses) == {200}


def test_it_tells_that_it_reloads_and_stops(tmp_path: Path) -> None:
    """READY=1 follows a reload also where the config has a fault, which is in the log."""
    with managed(tmp_path) as manager:
        manager.told("READY=1")
        for text in ("", "[server]\nnonsense = 1\n"):
            with manager.path.open("a") as config:
                config.write(text)
            manager.process.send_signal(signal.SIGHUP)
            assert "\nMONOTONIC_USEC=" in manager.told("RELOADING=1")
            manager.told("READY=1")
        assert "nothing was changed" in manager.log.read_text()
        manager.process.send_signal(signal.SIGTERM)
        manager.told("STOPPING=1")
        assert manager.process.wait(15) == 0


def test_a_worker_that_comes_back_is_told(tmp_path: Path) -> None:
    """The service stays up when its worker dies, on the same sockets."""
    with managed(tmp_path, names="webhooks:admin") as manager:
        manager.told("READY=1")
        manager.worker.kill()
        assert "SIGKILL" in manager.told("STATUS=the worker process died")
        manager.told("READY=1")
        serves(manager)


def test_the_watchdog_hears_of_a_worker_whose_loop_runs(tmp_path: Path) -> None:
    """WATCHDOG=1 comes while the worker answers, and not while it hangs: the supervisor alone does not count."""
    with managed(tmp_path, WATCHDOG_USEC="200000") as manager:
        manager.told("READY=1")
        for _ in range(3):
            manager.told("WATCHDOG=1")
        manager.worker.suspend()
        while manager.is_told("WATCHDOG=1", within=1.0):  # what is still on its way
            pass
        assert not manager.is_told("WATCHDOG=1", within=1.0)
        manager.worker.resume()
        manager.told("WATCHDOG=1")


def test_without_a_watchdog_nothing_is_sent(tmp_path: Path) -> None:
    """`WATCHDOG_PID` of another process: the watchdog is not ours."""
    with managed(tmp_path, WATCHDOG_USEC="200000", WATCHDOG_PID="1") as manager:
        manager.told("READY=1")
        assert not manager.is_told("WATCHDOG=1", within=1.0)
