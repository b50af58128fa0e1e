"""`gateway run` under a service manager that speaks systemd's protocols: it takes sockets that are open already, and
tells how it is."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import httpx
import pytest
from raw_http import EVENT
from running import write_config
from service_manager import READY_WITHIN, ServiceManager, managed

from gateway.simulate import Client


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
