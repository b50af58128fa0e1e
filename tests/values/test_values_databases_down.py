"""A database that hangs, goes away or refuses, and comes back: every answer in time, and recovery by itself.

The real servers are shared, so a proxy before them plays the accidents. `benchmarks/databases_down.py` does the same
to servers of its own with SIGSTOP and SIGKILL.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from asking import Clock, Grace, ask, problem_of, running, values_of
from databases import SERVERS, Database, open_database
from machine import free_ports

from gateway.values.answer import Answer
from gateway.values.service import CustomValues

DEADLINE = 0.4


class Proxy:
    """A TCP proxy that can stall, cut and refuse."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._flows = asyncio.Event()
        self._flows.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._pairs: set[asyncio.Task[None] | None] = set()
        self._server: asyncio.Server | None = None
        [self.port] = free_ports(1)

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._pair, "127.0.0.1", self.port)

    def stall(self) -> None:
        """Connections stay open and new ones are taken, but nothing passes: a stopped process."""
        self._flows.clear()

    def flow(self) -> None:
        self._flows.set()

    async def cut(self) -> None:
        """Every connection is reset: a killed process that is back at once."""
        for writer in tuple(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def refuse(self) -> None:
        """The port is closed."""
        if self._server is not None:
            self._server.close()
        await self.cut()

    async def close(self) -> None:
        self.flow()
        await self.refuse()
        while pairs := [pair for pair in self._pairs if pair is not None and not pair.done()]:
            await self.cut()  # also what was accepted last
            await asyncio.wait(pairs, timeout=0.1)

    async def _pair(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._pairs.add(asyncio.current_task())
        with self._registered(writer):
            await self._flows.wait()
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            with self._registered(far_writer):
                copies = (self._copy(reader, far_writer), self._copy(far_reader, writer))
                await asyncio.gather(*copies, return_exceptions=True)

    @contextlib.contextmanager
    def _registered(self, writer: asyncio.StreamWriter) -> Iterator[None]:
        self._writers.add(writer)
        try:
            yield
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()


@pytest.fixture(params=SERVERS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with open_database(request.param, tmp_path) as database:
        database.execute(f"CREATE TABLE {database.table} (uid VARCHAR(50), balance VARCHAR(50))")
        database.execute(f"INSERT INTO {database.table} VALUES ('123456', '120.50')")
        yield database


@contextlib.asynccontextmanager
async def behind_a_proxy(
    database: Database, directory: Path, monkeypatch: pytest.MonkeyPatch, deadline: float = DEADLINE
) -> AsyncIterator[tuple[CustomValues, Proxy, Clock]]:
    proxy, clock = Proxy(database.url.host or "", database.url.port or 0), Clock()
    await proxy.listen()
    url = database.url.set(host="127.0.0.1", port=proxy.port)
    monkeypatch.setenv("PROXIED", url.render_as_string(hide_password=False))
    text = (
        f'[values]\ndeadline = "{deadline * 1000:.0f}ms"\n'
        '[plugins.sql_values]\nurl = { env = "PROXIED" }\n'
        f"[[plugins.sql_values.queries]]\nsql = 'SELECT balance FROM {database.table} WHERE uid = :customer_uid'\n"
    )
    try:
        async with running(directory, text, clock=clock) as (values, _):
            yield values, proxy, clock
    finally:
        await proxy.close()


async def timed(values: CustomValues, address: str) -> Answer:
    """Ask; the answer must come by about the deadline. Another address makes it another question."""
    with Grace() as grace:
        started = time.perf_counter()
        answer = await ask(values, "balance", address=address)
        assert time.perf_counter() - started < 3 * DEADLINE + grace.seconds
    return answer


async def test_a_stopped_database_costs_the_deadline_at_most(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """504 in time, for thirty at once too; then it is skipped; when it goes on, so do the answers."""
    async with behind_a_proxy(database, tmp_path, monkeypatch) as (values, proxy, clock):
        assert values_of(await timed(values, "1")) == {"balance": "120.50"}
        proxy.stall()
        with Grace() as grace:
            started = time.perf_counter()
            answers = await asyncio.gather(*(ask(values, "balance", address=str(n)) for n in range(30)))
            assert time.perf_counter() - started < 5 * DEADLINE + grace.seconds  # one after another would be 30
        assert {problem_of(answer)[0] for answer in answers} == {504}
        assert (await timed(values, "x")).details["balance"].outcome == "skipped"
        proxy.flow()
        await recovered(values, clock)


async def test_a_killed_database_that_is_back_is_not_noticed(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every pooled connection is dead; each request finds that out and is answered over a new one."""
    async with behind_a_proxy(database, tmp_path, monkeypatch, deadline=30) as (values, proxy, _):
        await asyncio.gather(*(ask(values, "balance", address=str(n)) for n in range(10)))
        for _ in range(3):
            await proxy.cut()
            answers = await asyncio.gather(*(ask(values, "balance", address=str(n)) for n in range(10)))
            assert [values_of(answer) for answer in answers] == [{"balance": "120.50"}] * 10


async def test_a_database_that_is_gone_fails_at_once(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """502 while the port is closed, and answers again when it is open, without a restart."""
    async with behind_a_proxy(database, tmp_path, monkeypatch) as (values, proxy, clock):
        assert values_of(await timed(values, "1")) == {"balance": "120.50"}
        await proxy.refuse()
        for number in range(8):
            assert problem_of(await timed(values, str(number))) == (502, ["balance"])
        await proxy.listen()
        await recovered(values, clock)


async def test_a_database_that_hangs_does_not_hold_up_the_shutdown(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plugin gives its connections two seconds to close, then leaves them."""

    async with behind_a_proxy(database, tmp_path, monkeypatch) as (values, proxy, _):
        await timed(values, "1")
        proxy.stall()
        assert problem_of(await timed(values, "2")) == (504, ["balance"])
        started = time.perf_counter()
    assert time.perf_counter() - started < 10


async def recovered(values: CustomValues, clock: Clock) -> None:
    """The provider answers again within its longest pause."""
    for _ in range(31):
        clock.ahead += 1
        answer = await timed(values, "again")
        if answer.status == 200:
            assert values_of(answer) == {"balance": "120.50"}
            return
    pytest.fail(f"still {answer} after half a minute")
