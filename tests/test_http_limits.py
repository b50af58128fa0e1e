"""What the public listener refuses, and that one request never becomes two events."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import resource
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from asgi import NEVER, InProcess, chunks, in_process, scope_of
from raw_http import CLOSE, EVENT, Part, Raw, Requests, talk
from running import RunningGateway, eventually, running

from gateway.events import HOOKS

LIMIT = 65536
BODY_TIMEOUT = 1.0


class Served:
    """The real server, and how many events it has kept."""

    def __init__(self, gateway: RunningGateway) -> None:
        self.gateway = gateway
        self.requests = Requests(gateway)
        self.admin = httpx.Client(base_url=gateway.admin_url)

    def talk(self, *parts: Part, wait: float = 0.3) -> Raw:
        return talk(self.requests.port, *parts, wait=wait)

    def kept(self, hook: str = ".*") -> int:
        text = self.admin.get("/metrics").text
        counted = re.findall(rf'^gateway_events_received_total{{hook="{hook}",.*}} (.*)$', text, re.MULTILINE)
        return sum(int(float(number)) for number in counted)

    @contextlib.contextmanager
    def keeps(self, count: int) -> Iterator[None]:
        """The block must add exactly `count` events."""
        before = self.kept()
        yield
        assert self.talk(self.requests.post(EVENT, CLOSE), wait=5).statuses == [200]  # everything before it is through
        assert self.kept() == before + count + 1

    def worker(self) -> psutil.Process:
        [worker] = psutil.Process(self.gateway.process.pid).children()
        return worker


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    text = f'max_body = "{LIMIT} B"\nbody_timeout = "{BODY_TIMEOUT:g}s"\n'
    with running(tmp_path_factory.mktemp("served"), text) as gateway:
        served = Served(gateway)
        with served.admin:
            yield served


# Paths, methods, addresses


NOWHERE = [
    "/",
    "/WEBIO",
    "/webi",
    "/webio2",
    "*",
]
NOWHERE += ["/schema", "/schema/openapi.json", "/docs", "/openapi.json", "/favicon.ico", "/metrics", "/health/live"]


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_there_is_nothing_elsewhere(tmp_path: Path, method: str) -> None:
    """404 with a problem document on every other path, with a token or without, and none of Litestar's own pages."""
    async with in_process(tmp_path) as gateway:
        for path in NOWHERE:
            for organisation in ("acme", None):
                answer = await gateway.request(method, path, [NEVER], organisation=organisation)
                assert (answer.status, answer.problem) == (404, "There is nothing at this path."), path
                assert answer.headers["cache-control"] == "no-store"
        counted = gateway.metrics()['gateway_requests_refused_total{reason="path",status="404"}']
        assert counted == 2 * len(NOWHERE)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/webhook/payments", "/webhook/payments"),
        ("/hooks/447700900123", "/hooks/…"),
        ("/hooks/eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpYXQiOjE3.QtZILCgKm3chs4", "/hooks/…"),
        ("/hooks/No I don't", "a path with odd characters"),
        ("/hooks/a\nb", "a path with odd characters"),
    ],
)
async def test_a_wrong_path_leaves_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, path: str, shown: str
) -> None:
    """The log shows which path was requested, so that a mistyped URL is found, without numbers, tokens and texts."""
    async with in_process(tmp_path) as gateway:
        await gateway.request("POST", path)
    assert caplog.messages == [f"404 POST from 127.0.0.1: there is nothing at {shown}"]


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "PROPFIND", "get"])
async def test_other_methods(tmp_path: Path, method: str) -> None:
    """405 with `Allow`, before the token is checked."""
    places = {"/webio": "GET, POST", "/webio/custom-values": "GET", **{f"/webio/{hook}": "POST" for hook in HOOKS}}

    async with in_process(tmp_path) as gateway:
        for path, allowed in places.items():
            for organisation in ("acme", None):
                answer = await gateway.request(method, path, [NEVER], organisation=organisation)
                assert (answer.status, answer.problem) == (405, "This method is not allowed here.")
                assert answer.headers["allow"] == allowed
        for method_, path in (("POST", "/webio/custom-values"), ("GET", "/webio/payment")):
            assert (await gateway.request(method_, path)).status == 405
        for path in ("/webio/nope", "/webio/payment/x", "/webio/Payment", "/webio/unknown"):
            assert (await gateway.request(method, path)).status == 404  # these names are of events alone


NETWORKS = 'allowed_networks = ["203.0.113.0/24", "2001:db8::/32"]\n'
PROXIES = 'trusted_proxies = ["10.0.0.0/8", "::1"]\n'


@pytest.mark.parametrize("address", ["203.0.113.7", "2001:db8::7", "::ffff:203.0.113.7"])
async def test_allowed_networks_let_in(tmp_path: Path, address: str) -> None:
    """An address of `allowed_networks` is accepted, also as IPv4 within IPv6."""
    async with in_process(tmp_path, NETWORKS) as gateway:
        assert (await gateway.request("GET", client=address)).status == 200


@pytest.mark.parametrize("address", ["203.0.114.7", "127.0.0.1", "2001:db9::1", "10.0.0.1", "", "nonsense"])
async def test_allowed_networks_keep_out(tmp_path: Path, address: str) -> None:
    """Any other address gets 403, whatever its X-Forwarded-For says, before its token is checked."""
    async with in_process(tmp_path, NETWORKS) as gateway:
        forwarded = [(b"x-forwarded-for", b"203.0.113.7"), (b"forwarded", b"for=203.0.113.7")]
        for organisation in ("acme", None):
            answer = await gateway.request(
                "POST", body=[NEVER], headers=forwarded, client=address, organisation=organisation
            )
            assert (answer.status, answer.problem) == (403, "This address is not allowed.")
        assert gateway.events() == []


@pytest.mark.parametrize(
    ("forwarded", "status"),
    [
        (["203.0.113.7"], 200),
        (["203.0.113.7, 10.1.1.1"], 200),
        (["203.0.113.7", "10.1.1.1"], 200),
        (["198.51.100.1, 203.0.113.7"], 200),
        (["nonsense, 203.0.113.7"], 200),
        (["203.0.113.7:51234"], 200),
        (["[2001:db8::7]:443, 10.1.1.1:80"], 200),
        (["2001:db8::7"], 200),
        (["203.0.113.7, 198.51.100.1"], 403),
        (["203.0.113.7, 198.51.100.1, 10.1.1.1"], 403),
        (["203.0.113.7, nonsense"], 403),
        (["203.0.113.7, "], 403),
        (["2001:db8::7%evil"], 403),
        (["203.0.113.7.5"], 403),
        ([], 403),
    ],
)
async def test_behind_a_trusted_proxy(tmp_path: Path, forwarded: list[str], status: int) -> None:
    """The caller is the last address of `X-Forwarded-For` that is not a trusted proxy, because a caller can write what
    stands before it. An address that cannot be read is not skipped."""
    async with in_process(tmp_path, NETWORKS + PROXIES) as gateway:
        headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
        answer = await gateway.request("GET", headers=headers, client="10.0.0.1")
        assert answer.status == status


@pytest.mark.parametrize("headers", [[], [(b"x-forwarded-for", b"nonsense")], [(b"x-forwarded-for", b"")]])
async def test_a_proxy_that_tells_no_address_is_not_the_client(
    tmp_path: Path, headers: list[tuple[bytes, bytes]]
) -> None:
    """403, also where the proxy's own address is in `allowed_networks`."""
    async with in_process(tmp_path, 'allowed_networks = ["10.0.0.0/8"]\n' + PROXIES) as gateway:
        assert (await gateway.request("GET", headers=headers, client="10.0.0.1")).status == 403


async def test_a_host_header_that_is_none(tmp_path: Path) -> None:
    """400 with a problem document that does not repeat it."""
    async with in_process(tmp_path) as gateway:
        answer = await gateway.request("GET", "/elsewhere", headers=[(b"host", b'"><script>')])
        assert (answer.status, answer.problem) == (400, "This request is not valid.")


# Bodies: how large, how slow


def small(directory: Path) -> contextlib.AbstractAsyncContextManager[InProcess]:
    return in_process(directory, f'max_body = "{LIMIT} B"\nbody_timeout = "200ms"\n')


async def test_a_body_of_the_limit_and_one_more(tmp_path: Path) -> None:
    """Exactly `max_body` bytes are accepted, one more is 413 and the end of the connection; in one piece, in many,
    and whatever Content-Length says."""
    async with small(tmp_path) as gateway:
        for size, status in ((LIMIT, 200), (LIMIT + 1, 413)):
            body = EVENT + b" " * (size - len(EVENT))
            for headers in ([], [(b"content-length", b"%d" % size)], [(b"content-length", b"5")]):
                for parts in (body, chunks(body, 4096), chunks(body, LIMIT)):
                    answer = await gateway.request("POST", body=parts, headers=headers)
                    assert answer.status == status
                    if status == 413:
                        assert answer.problem == f"The body is larger than {LIMIT} bytes."
                        assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("length", [b"65537", b"9" * 19, b"9" * 400])
async def test_a_body_announced_as_too_large_is_not_waited_for(tmp_path: Path, length: bytes) -> None:
    """Content-Length alone is enough for a 413."""
    async with small(tmp_path) as gateway:
        answer = await gateway.request("POST", body=[NEVER], headers=[(b"content-length", length)])
        assert answer.status == 413


async def test_a_slow_body(tmp_path: Path) -> None:
    """408 and the end of the connection, when nothing comes, when it stops, and when it never ends; others are not
    delayed meanwhile, and nothing is kept."""

    async def dripping(gateway: InProcess) -> None:
        async def receive() -> dict[str, object]:
            await asyncio.sleep(0.01)
            return {"type": "http.request", "body": b" ", "more_body": True}

        sent: list[dict[str, object]] = []

        async def send(message: dict[str, object]) -> None:
            sent.append(message)

        headers = [(b"x-webio-token", gateway.tokens["acme"])]
        app: Any = gateway.app
        await app(scope_of("POST", "/webio", b"", headers, "127.0.0.1"), receive, send)
        assert sent[0]["status"] == 408

    async def stalled(gateway: InProcess, parts: list[bytes | str]) -> None:
        answer = await gateway.request("POST", body=parts)
        assert (answer.status, answer.problem) == (408, "The body did not arrive in time.")
        assert answer.headers["connection"] == "close"

    async with small(tmp_path) as gateway:
        slow = asyncio.gather(
            dripping(gateway), stalled(gateway, [NEVER]), *(stalled(gateway, [EVENT, NEVER]) for _ in range(50))
        )
        await asyncio.sleep(0)
        assert (await gateway.post(EVENT)).status == 200
        assert not slow.done()
        began = time.monotonic()
        await slow
        assert time.monotonic() - began < 1
        assert gateway.metrics()['gateway_requests_refused_total{reason="slow",status="408"}'] == 52
        assert len(gateway.events()) == 1


async def test_a_request_that_is_cancelled_is_not_called_slow(tmp_path: Path) -> None:
    """A cancellation from outside is passed on."""
    reading = asyncio.Event()

    def nothing() -> Iterator[str]:
        reading.set()
        yield NEVER

    async with in_process(tmp_path) as gateway:
        request = asyncio.ensure_future(gateway.request("POST", body=nothing()))
        await reading.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request


# The real server


@pytest.mark.parametrize("drip", [False, True], ids=["no bytes", "dripping"])
def test_served_slow_bodies_end(served: Served, drip: bool) -> None:
    """A body that does not come, or comes byte by byte, is answered 408 in time, and the connection is closed."""
    pieces: list[Part] = [x for _ in range(60 if drip else 0) for x in (b" ", 0.05)]
    with served.keeps(0):
        answer = served.talk(served.requests.head(b"Content-Length: 1000"), *pieces, wait=BODY_TIMEOUT * 3)
    assert answer.statuses == [408]
    assert answer.closed
    assert BODY_TIMEOUT * 0.9 < answer.seconds < BODY_TIMEOUT * 4


def test_served_large_bodies_end(served: Served) -> None:
    """Too large by Content-Length or in chunks: 413, and the connection is closed."""
    with served.keeps(0):
        announced = served.talk(served.requests.head(b"Content-Length: %d" % (LIMIT + 1)), wait=5)
        head = served.requests.head(b"Transfer-Encoding: chunked")
        chunk = b"1000\r\n" + b" " * 4096 + b"\r\n"
        chunked = served.talk(head, chunk * 17, wait=5)
    for answer in (announced, chunked):
        assert answer.statuses == [413]
        assert answer.closed
        assert json.loads(answer.body)["detail"] == f"The body is larger than {LIMIT} bytes."


def test_served_large_bodies_take_no_memory(served: Served) -> None:
    """200 clients at the same time that send 2 MB each, in chunks or announced: the worker stays as it is."""
    heads = (served.requests.head(b"Transfer-Encoding: chunked"), served.requests.head(b"Content-Length: 2000000"))
    chunk = b"8000\r\n" + b" " * 32768 + b"\r\n"

    def send(number: int) -> None:
        head = heads[number % 2]
        answer = served.talk(head, *([chunk] * 64), wait=5)
        assert set(answer.statuses) <= {413}

    memory = served.worker().memory_info().rss
    with served.keeps(0):
        threads = [threading.Thread(target=send, args=(number,)) for number in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    grown = (served.worker().memory_info().rss - memory) / 2**20
    print(f"200 oversize bodies of 2 MB: {grown:.1f} MiB more")
    assert grown < 40


FRAMES: dict[str, tuple[bytes, bytes]] = {
    "Content-Length and chunked": (
        b"Content-Length: %d\r\nTransfer-Encoding: chunked" % len(EVENT),
        b"0\r\n\r\n" + EVENT,
    ),
    "chunked and Content-Length": (
        b"Transfer-Encoding: chunked\r\nContent-Length: %d" % len(EVENT),
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(EVENT), EVENT),
    ),
    "Content-Length twice": (b"Content-Length: %d\r\nContent-Length: %d" % (len(EVENT), len(EVENT)), EVENT),
    "two Content-Lengths": (b"Content-Length: %d\r\nContent-Length: 5" % len(EVENT), EVENT),
    "Content-Length as a list": (b"Content-Length: %d, %d" % (len(EVENT), len(EVENT)), EVENT),
    "Content-Length with a sign": (b"Content-Length: +%d" % len(EVENT), EVENT),
    "Content-Length with a minus": (b"Content-Length: -%d" % len(EVENT), EVENT),
    "Content-Length in hexadecimal": (b"Content-Length: 0x%x" % len(EVENT), EVENT),
    "Content-Length with an underscore": (b"Content-Length: 1_8", EVENT),
    "Content-Length beyond all numbers": (b"Content-Length: 99999999999999999999999", EVENT),
    "a folded header": (b"X-A: b\r\n c\r\nContent-Length: %d" % len(EVENT), EVENT),
    "a folded Content-Length": (b"Content-Length:\r\n %d" % len(EVENT), EVENT),
    "a space before the colon": (b"Content-Length : %d" % len(EVENT), EVENT),
    "chunked, a space before the colon": (b"Transfer-Encoding : chunked", b"0\r\n\r\n" + EVENT),
    "chunked, chunked": (b"Transfer-Encoding: chunked, chunked", b"0\r\n\r\n" + EVENT),
    "gzip, chunked": (b"Transfer-Encoding: gzip, chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(EVENT), EVENT)),
    "a chunk line of a megabyte": (
        b"Transfer-Encoding: chunked",
        b"%x;a=%b\r\n%b\r\n0\r\n\r\n" % (len(EVENT), b"a" * 2**20, EVENT),
    ),
    "a chunk's size with many zeros": (
        b"Transfer-Encoding: chunked",
        b"%b%x\r\n%b\r\n0\r\n\r\n" % (b"0" * 2**20, len(EVENT), EVENT),
    ),
    "a bare line feed between headers": (b"X-A: b\nContent-Length: %d" % len(EVENT), EVENT),
    "a bare line feed, then a second head": (
        b"Content-Length: 0\n\nPOST /webio HTTP/1.1\nContent-Length: %d" % len(EVENT),
        EVENT,
    ),
    "a second Host": (b"Host: other\r\nContent-Length: %d" % len(EVENT), EVENT),
    "xchunked": (b"Transfer-Encoding: xchunked", b"0\r\n\r\n" + EVENT),
    "chunked in quotes": (b'Transfer-Encoding: "chunked"', b"0\r\n\r\n" + EVENT),
    "chunked after a tab": (b"Transfer-Encoding:\tchunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(EVENT), EVENT)),
    "chunked after a vertical tab": (b"Transfer-Encoding: \x0bchunked", b"0\r\n\r\n" + EVENT),
    "chunked twice": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"0\r\n\r\n" + EVENT),
    "chunked twice, well made": (
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(EVENT), EVENT),
    ),
    "gzip, then chunked in a header of its own": (
        b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(EVENT), EVENT),
    ),
    "chunked, chunked, well made": (
        b"Transfer-Encoding: chunked, chunked",
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(EVENT), EVENT),
    ),
    "gzip alone": (b"Transfer-Encoding: gzip", EVENT),
    "the same Host twice": (b"Host: gateway\r\nContent-Length: %d" % len(EVENT), EVENT),
    "chunked, then identity": (b"Transfer-Encoding: chunked, identity", b"0\r\n\r\n" + EVENT),
    "identity, then chunked": (b"Transfer-Encoding: identity, chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(EVENT), EVENT)),
    "a minus before a chunk's size": (b"Transfer-Encoding: chunked", b"-1\r\n" + EVENT + b"\r\n0\r\n\r\n"),
    "0x before a chunk's size": (b"Transfer-Encoding: chunked", b"0x%x\r\n%b\r\n0\r\n\r\n" % (len(EVENT), EVENT)),
    "a chunk beyond all numbers": (b"Transfer-Encoding: chunked", b"F" * 17 + b"\r\n" + EVENT + b"\r\n0\r\n\r\n"),
    "an empty chunk's size": (b"Transfer-Encoding: chunked", b"\r\n" + EVENT + b"\r\n0\r\n\r\n"),
    "a chunk longer than it says": (b"Transfer-Encoding: chunked", b"2\r\n" + EVENT + b"\r\n0\r\n\r\n"),
    "a chunk with an extension": (
        b"Transfer-Encoding: chunked",
        b"%x;a=b\r\n%b\r\n0\r\n\r\n" % (len(EVENT), EVENT),
    ),
    "a line break in an extension": (
        b"Transfer-Encoding: chunked",
        b"%x;a=\n%b\r\n0\r\n\r\n" % (len(EVENT), EVENT),
    ),
    "chunks with bare line feeds": (b"Transfer-Encoding: chunked", b"%x\n%b\n0\n\n" % (len(EVENT), EVENT)),
    "a trailer": (b"Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\nX-A: b\r\n\r\n" % (len(EVENT), EVENT)),
    "a bare carriage return in a header": (b"X-A: b\rContent-Length: %d" % len(EVENT), EVENT),
    "NUL in a header": (b"X-A: \0\r\nContent-Length: %d" % len(EVENT), EVENT),
    "an empty header name": (b": b\r\nContent-Length: %d" % len(EVENT), EVENT),
    "a header without a colon": (b"Content-Length %d" % len(EVENT), EVENT),
    "no length": (b"X-A: b", EVENT),
    "upgrade to HTTP/2": (
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nContent-Length: %d"
        % len(EVENT),
        EVENT,
    ),
}


GOOD_FRAMES = {
    "chunked after a tab",
    "a chunk with an extension",
    "a trailer",
    "upgrade to HTTP/2",
}


@pytest.mark.parametrize("frame", FRAMES)
def test_never_two_events_out_of_one_request(served: Served, frame: str) -> None:
    """A request with any framing is one event, or is refused, and nothing after it on its connection is served: two
    readers cannot disagree on where it ends."""
    headers, body = FRAMES[frame]
    following = served.requests.post(b'{"type":"setStatus"}', CLOSE)
    first, second = served.kept("payment"), served.kept("set-status")
    answer = served.talk(served.requests.head(headers) + body + following, wait=5)
    assert answer.closed
    kept = served.kept("payment") - first, served.kept("set-status") - second
    if frame in GOOD_FRAMES:
        assert (answer.statuses, kept) in (([200, 200], (1, 1)), ([200], (1, 0)))
    else:
        assert set(answer.statuses) == {400}
        assert kept == (0, 0)


def test_content_length_with_chunks_ends_the_connection(served: Served) -> None:
    """Request smuggling: a request with both lengths is refused, and nothing after it is served."""
    headers = b"Content-Length: 4\r\nTransfer-Encoding: chunked"
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(EVENT), EVENT)
    with served.keeps(0):
        answer = served.talk(served.requests.head(headers) + body + served.requests.post())
    assert answer.statuses == [400]
    assert answer.closed


def test_a_request_without_host(served: Served) -> None:
    """HTTP/1.1 requires one: 400."""
    head = served.requests.head(b"Content-Length: %d" % len(EVENT), CLOSE).replace(b"Host: gateway\r\n", b"")
    with served.keeps(0):
        answer = served.talk(head + EVENT, wait=5)
    assert answer.statuses == [400]
    assert answer.closed


def test_a_trailer_is_not_a_header(served: Served) -> None:
    """A token behind the body does not count: 401."""
    head = served.requests.head(b"Transfer-Encoding: chunked", CLOSE, token=False)
    trailer = b"x-webio-token: " + served.requests.token
    with served.keeps(0):
        answer = served.talk(head + b"%x\r\n%b\r\n0\r\n%b\r\n\r\n" % (len(EVENT), EVENT, trailer), wait=5)
    assert answer.statuses == [401]


def test_an_offer_of_http_2_is_not_taken(served: Served) -> None:
    """The way Java's client sends a POST: one event, and the connection stays open for the next."""
    offer = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk"
    with served.keeps(2):
        answer = served.talk(served.requests.post(EVENT, offer), 0.05, served.requests.post(EVENT, CLOSE), wait=5)
    assert answer.statuses == [200, 200]


def test_a_client_that_only_listens_is_answered(served: Served) -> None:
    """A client may close its sending side after its request; one that does so within the body gets 400."""
    whole = served.requests.post(EVENT)
    for data, status in ((whole, b"200"), (whole[:-1], b"400")):
        with socket.create_connection(("127.0.0.1", served.requests.port)) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(5)
            assert connection.recv(65536).startswith(b"HTTP/1.1 " + status)


def test_noise_after_a_request_is_refused_after_its_answer(served: Served) -> None:
    """The event is answered 200, and the connection is closed."""
    with served.keeps(1):
        answer = served.talk(served.requests.post(EVENT) + b"\0\0\0\r\n\r\n", wait=5)
    assert answer.statuses == [200]
    assert answer.closed


def test_pipelining_keeps_its_order(served: Served) -> None:
    """Ten requests in one packet: ten answers in order, ten events; a bad one among them is one 400."""
    bodies = [b'{"type":"payment","n":%d}' % n for n in range(9)]
    bodies[4] = b"[]"
    with served.keeps(8):
        answer = served.talk(b"".join(map(served.requests.post, bodies)))
    assert answer.statuses == [200, 200, 200, 200, 400, 200, 200, 200, 200]
    ids = re.findall(rb'"id":"([0-9a-f-]+)"', answer.data)
    assert len(set(ids)) == 8


@pytest.mark.parametrize(
    ("data", "statuses"),
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [400]),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", [400]),
        (b"GET /webio\r\n\r\n", [400]),
        (b"GET /webio HTTP/9.9\r\n\r\n", [400]),
        (b"GET  /webio HTTP/1.1\r\n\r\n", [400]),
        (b"GET /webio HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", [400]),
        (b"GET /\xff HTTP/1.1\r\n\r\n", [400]),
        (b"\r\n\r\n\0\0\0", [400]),
    ],
)
def test_what_is_not_http(served: Served, data: bytes, statuses: list[int]) -> None:
    """HTTP/2's preface, TLS and noise are refused at once."""
    answer = served.talk(data, wait=2)
    assert answer.statuses == statuses
    assert answer.closed


@pytest.mark.parametrize(
    ("name", "status"),
    [("many headers", 431), ("a long header", 431), ("a long address", 414), ("long headers", 431)],
)
def test_header_bombs(served: Served, name: str, status: int) -> None:
    """Too many or too long headers are refused by the server, and the connection is closed."""
    heads = {
        "many headers": served.requests.head(*(b"X-%d: a" % n for n in range(200))),
        "a long header": served.requests.head(b"X-A: " + b"a" * 100_000),
        "long headers": served.requests.head(*(b"X-%d: %b" % (n, b"a" * 4000) for n in range(50))),
        "a long address": served.requests.head(path=b"/webio?" + b"a" * 100_000, method=b"GET"),
    }
    answer = served.talk(heads[name], wait=2)
    assert answer.statuses == [status] or (name == "a long address" and answer.statuses == [431])
    assert answer.closed


def test_slow_headers_end(served: Served) -> None:
    """A client that does not finish its head gets 408 after five seconds, not sooner, and a client that sends nothing
    is disconnected; the log names the former."""
    before = len(served.gateway.output)
    ends: list[Raw] = []

    def wait(*parts: Part) -> None:
        ends.append(served.talk(*parts, wait=30))

    drip: list[Part] = [x for n in range(100) for x in (b"X-%d: a\r\n" % n, 0.1)]
    beginnings: list[list[Part]] = [[], [b"POST /we"], [served.requests.head()[:-2]], [b"GET / HTTP/1.1\r\n", *drip]]
    threads = [threading.Thread(target=wait, args=parts) for parts in beginnings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(end.statuses for end in ends) == [[], [408], [408], [408]]
    assert all(end.closed and end.seconds > 4 for end in ends), ends
    served.gateway.wait_for_line("408 from 127.0.0.1: a request's head did not arrive within 5 s", after=before)


def test_a_thousand_idle_connections(served: Served) -> None:
    """1,000 connections that send nothing, or half a head, do not delay another client."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    try:
        with contextlib.ExitStack() as stack:
            for number in range(1000):
                idle = stack.enter_context(socket.create_connection(("127.0.0.1", served.requests.port)))
                idle.sendall(b"POST /webio HTTP/1.1\r\nHost: a\r\n" if number % 2 else b"")
            times = []
            with httpx.Client(headers={"x-webio-token": served.requests.token.decode()}) as client:
                for _ in range(20):
                    began = time.monotonic()
                    assert client.post(served.gateway.url, content=EVENT).status_code == 200
                    times.append(time.monotonic() - began)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    print(f"the slowest of 20 answers beside 1,000 idle connections: {max(times) * 1000:.1f} ms")
    assert max(times) < 1


def test_a_client_that_hangs_up_is_no_fault(served: Served) -> None:
    """A client that hangs up at any point causes no error: no 5xx, no traceback, and the next client is served."""
    whole = served.requests.post(EVENT)
    for cut in range(0, len(whole), 9):
        with socket.create_connection(("127.0.0.1", served.requests.port)) as connection:
            connection.sendall(whole[:cut])
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # a reset, not an end
    with served.keeps(0):
        pass
    assert "Traceback" not in served.gateway.text


def test_what_answers_say_of_the_server(served: Served) -> None:
    """No answer names a server or a version; every answer is JSON, and says that a browser must not guess its type."""
    requests = served.requests
    heads = (requests.head(CLOSE, path=b"/nope"), requests.head(CLOSE, token=False))
    ports = (requests.port, served.gateway.config.admin.port)
    asked = [(requests.port, data) for data in (requests.post(EVENT, CLOSE), requests.post(b"[]", CLOSE), *heads)]
    asked += [(port, data) for port in ports for data in (b"noise\r\n\r\n", requests.head(CLOSE, path=b"/nope"))]
    for port, data in asked:
        answer = talk(port, data, wait=5)
        assert not re.search(rb"^(server|x-powered-by|via):", answer.headers, re.MULTILINE)
        assert answer.headers.split(b"\r\n").count(b"x-content-type-options: nosniff") == 1
        assert re.search(rb"content-type: application/(problem\+)?json\r?$", answer.headers, re.MULTILINE)


def test_the_log_of_all_this(served: Served) -> None:
    """Many refusals write a few lines, all of them warnings, and one line with the number that were left out."""
    for _ in range(30):
        served.talk(b"nonsense\r\n\r\n", wait=5)
    eventually(lambda: "lines were left out" in served.gateway.text)
    lines = [line for line in served.gateway.output if not re.search("^gateway: | info ", line)]
    assert [line for line in lines if " warning " not in line] == []
    assert served.worker().is_running()
