"""A POST whose body arrives together with its head is taken without a task: to a client this makes no difference."""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import apsw
import pytest
from asgi import InProcess, in_process
from test_receiver import NO_EVENTS

from gateway import simulate
from gateway.decoding import Decoded
from gateway.events import HOOKS
from gateway.journal.interface import Done, JournalFull, Receipt
from gateway.journal.sqlite.journal import SqliteJournal
from gateway.serving.listener import Listener

EVENT = b'{"type":"payment"}'


class Client:
    """One connection to the public listener."""

    def __init__(self, gateway: InProcess, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._token = gateway.tokens["acme"]
        self._reader = reader
        self._writer = writer

    def send(self, body: bytes, *, path: bytes = b"/webio", apart: bool = False, tokens: int = 1) -> None:
        """Send a POST. `apart`: its body is the second packet, so that the request gets a task."""
        head = b"POST %b HTTP/1.1\r\nHost: gateway\r\nContent-Length: %d\r\n" % (path, len(body))
        head += b"x-webio-token: %b\r\n" % self._token * tokens
        self._writer.write(head + b"\r\n" + (b"" if apart else body))
        self._later = body if apart else b""

    async def answer(self) -> bytes:
        """The next answer, without its date; empty where the server closed the connection."""
        if self._later:
            await asyncio.sleep(0.02)  # so that the server has read the head: then it does not matter how long
            self._writer.write(self._later)
            self._later = b""
        with suppress(asyncio.IncompleteReadError):
            head = await self._reader.readuntil(b"\r\n\r\n")
            length = int(re.search(rb"content-length: (\d+)", head)[1])  # type: ignore[index]
            return re.sub(rb"date: [^\r]*\r\n", b"", head) + await self._reader.readexactly(length)
        return b""

    async def leave(self) -> None:
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()


class Public:
    """The public listener of a gateway in this process."""

    def __init__(self, gateway: InProcess) -> None:
        receiver = gateway.gateway.receiver
        self.gateway = gateway
        self.tasks = 0

        async def counted(scope: object, receive: object, send: object) -> None:
            self.tasks += 1
            await gateway.app(scope, receive, send)  # type: ignore[arg-type]

        self.listener = Listener(counted, 100, gateway.gateway.metrics, take=receiver.take)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._clients: list[Client] = []
        self._drained = False

    async def client(self) -> Client:
        self._clients.append(Client(self.gateway, *await asyncio.open_connection(*self._socket.getsockname()[:2])))
        return self._clients[-1]

    async def start(self) -> None:
        await self.listener.start(self._socket)

    async def stop(self) -> None:
        for client in self._clients:
            await client.leave()
        await self.drain()

    async def drain(self) -> None:
        if not self._drained:
            self._drained = True
            await self.listener.drain()


@asynccontextmanager
async def served(directory: Path, text: str = "") -> AsyncIterator[Public]:
    async with in_process(directory, text) as gateway:
        public = Public(gateway)
        await public.start()
        try:
            yield public
        finally:
            await public.stop()


@asynccontextmanager
async def writer_held_up(gateway: InProcess) -> AsyncIterator[None]:
    """Commits wait until the end of the block."""
    begun, go = threading.Event(), threading.Event()
    journal = gateway.gateway.journal
    assert isinstance(journal, SqliteJournal)

    def occupy(connection: apsw.Connection) -> None:
        begun.set()
        go.wait(30)

    waiting: Awaitable[None] = asyncio.ensure_future(journal.operate(occupy))
    await asyncio.to_thread(begun.wait, 30)
    try:
        yield
    finally:
        go.set()
        await waiting


def plain(answer: bytes) -> tuple[list[bytes], bytes]:
    """An answer without the ids of event and request, and its head as sorted lines."""
    answer = re.sub(rb"x-request-id: [0-9a-f]{16}", b"x-request-id:", answer)
    head, _, body = re.sub(rb'"id":"[0-9a-f-]{36}"', b'"id":""', answer).partition(b"\r\n\r\n")
    return sorted(head.splitlines()), body


async def test_a_request_is_taken_from_the_second_on(tmp_path: Path) -> None:
    """The first one with a token needs a task, since the token must be verified; those after it need none."""
    async with served(tmp_path) as public:
        client = await public.client()
        for _ in range(3):
            client.send(EVENT)
            assert b'"hook":"payment"' in await client.answer()
        assert public.tasks == 1
        client.send(EVENT, apart=True)
        assert b'"hook":"payment"' in await client.answer()
        assert public.tasks == 2


@pytest.mark.parametrize("path", ["", *HOOKS, "setStatus", "nothing-known"])
async def test_the_answer_is_the_same_with_and_without_a_task(tmp_path: Path, path: str) -> None:
    """For every hook's body, repeats, bodies that are not an event, and bodies at the limit of size."""
    async with served(tmp_path, 'max_body = "2 KiB"\n') as public:
        client = await public.client()
        target = f"/webio/{path}".rstrip("/").encode()
        bodies = [simulate.encode(simulate.body(hook)) for hook in HOOKS]
        sizes = [b'{"type":"payment","a":"%b"}' % (b"x" * (size - 26)) for size in (2048, 2049)]
        for body in [*bodies, *bodies, EVENT, b'{"type":"odd"}', b'{"payload":7}', *sizes, *NO_EVENTS.values()]:
            answers = []
            for apart in (True, False):
                client.send(body if b"dateCreated" not in body else body + b" " * apart, path=target, apart=apart)
                answers.append(plain(await client.answer()))
                if b"connection: close" in answers[-1][0]:
                    client = await public.client()
            assert answers[0] == answers[1], body


async def test_two_tokens_are_refused(tmp_path: Path) -> None:
    """401 although each of them is in the cache."""
    async with served(tmp_path) as public:
        client = await public.client()
        client.send(EVENT)
        await client.answer()
        client.send(EVENT, tokens=2)
        assert (await client.answer()).startswith(b"HTTP/1.1 401 ")
        assert len(public.gateway.events()) == 1


async def test_no_answer_before_the_commit(tmp_path: Path) -> None:
    """And a request that comes behind it on the connection is answered behind it."""
    async with served(tmp_path) as public:
        client = await public.client()
        client.send(EVENT)
        await client.answer()
        async with writer_held_up(public.gateway):
            client.send(EVENT)
            client.send(b"[]")
            answer = asyncio.ensure_future(client.answer())
            done, _ = await asyncio.wait({answer}, timeout=0.2)
            assert not done
        assert (await answer).startswith(b"HTTP/1.1 200 ")
        assert (await client.answer()).startswith(b"HTTP/1.1 400 ")


async def test_a_client_that_leaves_before_the_commit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its event is kept, nothing is logged, and others go on."""
    async with served(tmp_path) as public:
        client, other = await public.client(), await public.client()
        client.send(EVENT)
        await client.answer()
        async with writer_held_up(public.gateway):
            client.send(EVENT)
            await asyncio.sleep(0.05)
            await client.leave()
            other.send(EVENT)
        assert (await other.answer()).startswith(b"HTTP/1.1 200 ")
        assert len(public.gateway.events()) == 3
    assert caplog.messages == []


async def test_a_drain_waits_for_the_commit(tmp_path: Path) -> None:
    """The answer then closes the connection."""
    async with served(tmp_path) as public:
        client = await public.client()
        client.send(EVENT)
        await client.answer()
        async with writer_held_up(public.gateway):
            client.send(EVENT)
            await asyncio.sleep(0.05)
            draining = asyncio.ensure_future(public.drain())
            await asyncio.sleep(0.05)
            assert not draining.done()
        answer = await client.answer()
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close\r\n" in answer
        assert await client.answer() == b""
        await draining


async def test_a_commit_that_fails_is_answered_503(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With `Retry-After` and an id, and counted in the metrics, as for a request with a task. The log has no line for
    each of them: the journal says why when it begins to refuse."""
    async with served(tmp_path) as public:
        client = await public.client()
        client.send(EVENT)
        await client.answer()
        journal = public.gateway.gateway.journal
        keep = journal.append_then

        def fails(organisation: str, decoded: Decoded, raw: bytes, done: Done) -> None:
            keep(organisation, decoded, raw, lambda _: done(JournalFull("the disk is full")))

        journal.append_then = fails  # type: ignore[method-assign]
        client.send(EVENT)
        answer = await client.answer()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 5\r\n" in answer
        assert re.search(rb"\r\nx-request-id: [0-9a-f]{16}\r\n", answer)
        assert public.gateway.metrics()['gateway_requests_refused_total{reason="journal",status="503"}'] == 1
        assert public.tasks == 1
        client.send(EVENT)
        assert (await client.answer()).startswith(b"HTTP/1.1 503 ")
    assert caplog.messages == []


async def test_an_answer_that_fails_costs_the_others_of_its_group_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A fault of the gateway while it answers one client: the log has its type, and the next one is answered."""
    async with served(tmp_path) as public:
        first, second = await public.client(), await public.client()
        first.send(EVENT)
        await first.answer()
        receiver = public.gateway.gateway.receiver
        kept = receiver._kept
        bodies = iter([ValueError("of 447700900123")])

        def fails_once(organisation: str, decoded: Decoded, receipt: Receipt) -> bytes:
            for error in bodies:
                raise error
            return kept(organisation, decoded, receipt)

        receiver._kept = fails_once  # type: ignore[method-assign]
        async with writer_held_up(public.gateway):
            first.send(EVENT)
            await asyncio.sleep(0.05)
            second.send(EVENT)
            await asyncio.sleep(0.05)
        failed = await first.answer()
        assert failed.startswith(b"HTTP/1.1 503 ")
        assert b"could not handle this request" in failed
        assert (await second.answer()).startswith(b"HTTP/1.1 200 ")
    assert caplog.messages == ["a request failed and was answered 503: ValueError"]
