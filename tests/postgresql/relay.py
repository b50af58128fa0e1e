"""What lies between a gateway and its database: it can lose answers, and connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Relay:
    """Passes connections on to a port of this machine. While `swallows` is true, no answer arrives. With `replaces`,
    the process that a server names as a session's is another one, as behind a connection pooler."""

    def __init__(self, port: int, *, replaces: bool = False) -> None:
        self.swallows = False
        self.port = 0
        self._target = port
        self._replaces = replaces
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """End all connections, and pass on those that come."""
        self.swallows = False
        for writer in self._writers:
            writer.transport.abort()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        for source, target, answers in ((reader, back, False), (there, writer, True)):
            self._writers.add(target)
            pump = asyncio.create_task(self._pump(source, target, answers))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: bool) -> None:
        replaces = answers and self._replaces
        try:
            while data := await reader.read(2**16):
                if replaces and (at := data.find(_KEY_DATA)) >= 0:
                    data, replaces = data[: at + 5] + b"\x00\x00\x00\x07" + data[at + 9 :], False
                if not (answers and self.swallows):
                    writer.write(data)
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def end(self) -> None:
        self.cut()
        if self._pumps:
            await asyncio.wait(self._pumps)


_KEY_DATA = b"K\x00\x00\x00\x0c"
"""The begin of the message in which a server names a session's process, in the next four bytes."""


@asynccontextmanager
async def relaying(port: int, *, replaces: bool = False) -> AsyncIterator[Relay]:
    """A relay to a port of this machine."""
    relay = Relay(port, replaces=replaces)
    async with await asyncio.start_server(relay.accept, "127.0.0.1", 0) as server:
        relay.port = server.sockets[0].getsockname()[1]
        try:
            yield relay
        finally:
            await relay.end()
