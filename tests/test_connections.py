"""How many connections a client may hold, and that the listeners do not take them from each other."""

from __future__ import annotations

import contextlib
import resource
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from raw_http import EVENT, Raw, Requests, talk
from running import RunningGateway, eventually

StartGateway = Callable[..., RunningGateway]
Held = list[socket.socket]


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """This process may open as many connections as these tests need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def held() -> Iterator[Held]:
    """Connections that are closed after the test."""
    connections: Held = []
    yield connections
    for connection in connections:
        connection.close()


def hold(held: Held, port: int, count: int, data: bytes = b"", source: str = "127.0.0.1") -> Held:
    """So many new connections that send `data` and then nothing."""
    new = []
    for _ in range(count):
        new.append(socket.create_connection(("127.0.0.1", port), source_address=(source, 0)))
        held.append(new[-1])
        new[-1].sendall(data)
    return new


def is_open(connection: socket.socket) -> bool:
    """Whether the gateway has not closed a connection on which it has sent nothing."""
    connection.setblocking(False)
    try:
        return bool(connection.recv(1))
    except BlockingIOError:
        return True
    except ConnectionError:
        return False


def still_open(connections: Held) -> Held:
    return [connection for connection in connections if is_open(connection)]


def worker(gateway: RunningGateway) -> psutil.Process:
    [found] = psutil.Process(gateway.process.pid).children()
    return found


def accepted(gateway: RunningGateway, port: int) -> int:
    """The connections that the worker has on a port."""
    return sum(
        c.laddr.port == port and c.status == psutil.CONN_ESTABLISHED for c in worker(gateway).net_connections("tcp")
    )


def limit_descriptors(gateway: RunningGateway, limit: int) -> None:
    """Let the worker open at most `limit` files: it is started again, and inherits the supervisor's limit."""
    seen = len(gateway.output)
    resource.prlimit(gateway.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
    worker(gateway).kill()
    gateway.wait_for_line("ready after", after=seen, within=20)


def test_silent_connections_to_the_admin_listener_leave_the_public_one_alone(
    start_gateway: StartGateway, held: Held
) -> None:
    """With room for 1,024 files, 1,100 silent connections: events are taken, operators get in, and the log says so."""
    gateway = start_gateway()
    limit_descriptors(gateway, 1024)
    requests, admin = Requests(gateway), gateway.config.admin.port
    hold(held, admin, 1100)
    for _ in range(20):
        assert talk(requests.port, requests.post(EVENT, b"Connection: close"), wait=5).statuses == [200]
    assert httpx.get(f"{gateway.admin_url}/health/ready").status_code == 200
    assert accepted(gateway, admin) <= 64
    gateway.wait_for_line(
        "503 from 127.0.0.1: admin listener: all 64 connections are in use; closing the one that waits longest"
    )
    counted = httpx.get(f"{gateway.admin_url}/metrics").text
    assert 'gateway_requests_refused_total{reason="connections",status="503"}' in counted


def test_silent_connections_to_both_listeners_take_no_more_than_there_is(
    start_gateway: StartGateway, held: Held
) -> None:
    """With room for 256 files only, an event is still kept, and the operator's page still answers."""
    gateway = start_gateway("max_connections_per_address = 100000\n")
    limit_descriptors(gateway, 256)
    requests = Requests(gateway)
    for port in (requests.port, gateway.config.admin.port):
        hold(held, port, 400)
    assert talk(requests.port, requests.post(EVENT, b"Connection: close"), wait=5).statuses == [200]
    assert httpx.get(f"{gateway.admin_url}/health/ready").json()["journal"] == "ok"
    assert "cannot accept" not in gateway.text


def test_the_admin_listener_waits_five_seconds_for_a_head_and_ten_for_a_body(start_gateway: StartGateway) -> None:
    """Then 408, the end of the connection, and a line in the log."""
    gateway = start_gateway()
    port, ends = gateway.config.admin.port, dict[str, Raw]()
    head = b"POST /api/operations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

    def slow(name: str, data: bytes) -> None:
        ends[name] = talk(port, data, wait=30)

    sent = {"silent": b"", "head": head, "body": head + b"Content-Length: 10\r\n\r\n{"}
    threads = [threading.Thread(target=slow, args=item) for item in sent.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: (end.statuses, end.closed) for name, end in ends.items()} == {
        "silent": ([], True),
        "head": ([408], True),
        "body": ([408], True),
    }
    assert min(ends["silent"].seconds, ends["head"].seconds) > 4
    assert ends["body"].seconds > 9
    gateway.wait_for_line("408 from 127.0.0.1: admin listener: a request's head did not arrive within 5 s")
    gateway.wait_for_line("408 POST from 127.0.0.1: admin listener: the body did not arrive within 10 s")


def test_an_address_has_so_many_connections(start_gateway: StartGateway, held: Held) -> None:
    """One more closes the one that waits longest for a request. Another address is not affected."""
    gateway = start_gateway("max_connections_per_address = 64\n")
    requests = Requests(gateway)
    [other] = hold(held, requests.port, 1, source="127.0.0.2")
    mine = hold(held, requests.port, 120)
    eventually(lambda: len(still_open(mine)) == 64)
    assert still_open(mine) == mine[56:]
    assert is_open(other)
    assert talk(requests.port, requests.post(EVENT, b"Connection: close"), wait=5).statuses == [200]
    gateway.wait_for_line(
        "503 from 127.0.0.1: its address has 64 connections (server.max_connections_per_address);"
        " closing the one that waits longest for a request"
    )


def test_busy_connections_make_no_room(start_gateway: StartGateway, held: Held) -> None:
    """A new connection is refused while all of its address are in the middle of a request; these are answered."""
    gateway = start_gateway("max_connections_per_address = 4\n")
    requests = Requests(gateway)
    whole = requests.post(EVENT, b"Connection: close")
    busy = hold(held, requests.port, 4, whole[:-1])
    [refused] = hold(held, requests.port, 1)
    eventually(lambda: not is_open(refused))
    gateway.wait_for_line("(server.max_connections_per_address); closing the new one")
    for connection in busy:
        connection.setblocking(True)
        connection.sendall(whole[-1:])
        connection.settimeout(5)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert talk(requests.port, whole, wait=5).statuses == [200]  # places are given back


def test_a_trusted_proxy_may_have_more(start_gateway: StartGateway, held: Held) -> None:
    """Behind it are many clients."""
    gateway = start_gateway('max_connections_per_address = 8\ntrusted_proxies = ["127.0.0.1"]\n')
    mine = hold(held, gateway.config.server.port, 20)
    eventually(lambda: accepted(gateway, gateway.config.server.port) == 20)
    assert still_open(mine) == mine


def test_a_tls_handshake_is_a_connection(start_gateway: StartGateway, certificate: Path, held: Held) -> None:
    """Connections without a handshake count, and a client with one is served once they are gone."""
    gateway = start_gateway(
        "max_connections_per_address = 8\n"
        f'[server.tls]\ncertificate = "{certificate}/certificate.pem"\nkey = "{certificate}/key.pem"\n'
    )
    port = gateway.config.server.port
    mine = hold(held, port, 20)
    eventually(lambda: len(still_open(mine)) == 8)
    gateway.wait_for_line("(server.max_connections_per_address); closing the new one")
    for connection in mine:
        connection.close()

    context = ssl.create_default_context(cafile=f"{certificate}/certificate.pem")

    def served() -> bool:
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port)) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            secure.sendall(Requests(gateway).post())
            return secure.recv(1000).startswith(b"HTTP/1.1 200 ")
        return False

    eventually(served)


def half_closed(port: int, context: ssl.SSLContext, data: bytes) -> bytes:
    """What a client gets that sends `data` and `close_notify` at once, until the gateway closes the connection."""
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls, answer = context.wrap_bio(received, sent, server_hostname="localhost"), b""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(5)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                connection.sendall(sent.read())
                received.write(connection.recv(65536))
        if data:
            tls.write(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.unwrap()  # writes close_notify, and would then wait for the other one
        connection.sendall(sent.read())
        while raw := connection.recv(65536):
            received.write(raw)
            with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
                while part := tls.read(65536):
                    answer += part
    return answer


def test_a_tls_client_that_only_listens_is_answered(start_gateway: StartGateway, certificate: Path) -> None:
    """It may send `close_notify` with its request. A connection that waits for a request is closed then."""
    gateway = start_gateway(
        f'[server.tls]\ncertificate = "{certificate}/certificate.pem"\nkey = "{certificate}/key.pem"\n'
    )
    port, context = gateway.config.server.port, ssl.create_default_context(cafile=f"{certificate}/certificate.pem")
    assert half_closed(port, context, Requests(gateway).post()).startswith(b"HTTP/1.1 200 ")
    assert half_closed(port, context, b"") == b""
