"""Many senders at once that repeat each event until it is acknowledged, as a careful Webio would, and remember it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
import time
from collections import Counter
from types import TracebackType
from typing import Any, NamedTuple, Self

from gateway import simulate
from gateway.config.tables import Config

ORGANISATION = "acme"
CONVERSATIONS = 5


class Acknowledged(NamedTuple):
    """An event that got its 200: its number among all events, the id in the answer, seconds from the first try."""

    number: int
    id: str
    seconds: float


class Senders:
    """So many connections, each sending one event after the other; `with` starts and ends them.

    An event without an answer, or with a 503, is sent again, the same to the byte. `pause` is how long a sender
    rests after each acknowledgement, in seconds."""

    def __init__(self, config: Config, count: int = 16, *, pause: float = 0.0, first: int = 0) -> None:
        self.acknowledged: list[Acknowledged] = []
        self.answers: Counter[int] = Counter()
        self.broken = 0
        """How often a connection broke, or could not be made."""
        self.unexpected: list[str] = []
        """Answers that are neither 200 nor an honest refusal."""
        self._server = config.server
        self._token = simulate.token(config.organisations[ORGANISATION])
        self._count = count
        self._pause = pause
        self._next = first
        self._ending = False
        self._given_up = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="senders", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._given_up = kind is not None
        self.finish(30)

    def finish(self, within: float) -> None:
        """Begin no new event, and wait until those under way are acknowledged."""
        self._ending = True
        self._thread.join(within)
        if self._thread.is_alive():
            self._given_up = True
            self._thread.join(10)

    @property
    def sent(self) -> int:
        """How many events were begun, acknowledged or not."""
        return self._next

    async def _run(self) -> None:
        await asyncio.gather(*(self._sender(number) for number in range(self._count)))

    async def _sender(self, sender: int) -> None:
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not self._ending:
            number, self._next = self._next, self._next + 1
            request = self._request(number, sender)
            began = time.monotonic()
            while not self._given_up:
                try:
                    if connection is None:
                        connection = await asyncio.open_connection(self._server.host, self._server.port)
                    async with asyncio.timeout(20):
                        status, body, keep = await _exchange(connection, request)
                except (OSError, EOFError, TimeoutError, ValueError):
                    self.broken += 1
                    _close(connection)
                    connection = None
                    await asyncio.sleep(0.01 + random.random() * 0.02)
                    continue
                self.answers[status] += 1
                if not keep:
                    _close(connection)
                    connection = None
                if status == 200:
                    self.acknowledged.append(Acknowledged(number, body["id"], time.monotonic() - began))
                    break
                if status != 503:
                    self.unexpected.append(f"{status} {body}")
                await asyncio.sleep(0.05)
            if self._pause:
                await asyncio.sleep(self._pause)
        _close(connection)

    def _request(self, number: int, sender: int) -> bytes:
        """Messages of several conversations, few of them long, and some of another hook and without a conversation."""
        text = "x" * (random.randint(0, 20_000) if number % 16 == 7 else random.randint(0, 200))
        fields = simulate.body("inbound-message", conversation_id=f"{sender}-{number % CONVERSATIONS}")
        fields |= {"communicationActionId": f"n{number}", "body": text}
        if number % 16 == 3:
            fields |= {"type": "conversationClosed", "conversationId": ""}
        body = simulate.encode(fields)
        return (
            f"POST {self._server.path} HTTP/1.1\r\nhost: gateway\r\nx-webio-token: {self._token}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode() + body


def number_of(body: dict[str, Any]) -> int:
    """The number of an event, out of its body."""
    return int(body["communicationActionId"].removeprefix("n"))


async def _exchange(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: bytes
) -> tuple[int, dict[str, Any], bool]:
    """Send a request; status, body, and whether the connection stays open. `EOFError` without a whole answer."""
    reader, writer = connection
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = int(head.partition("content-length:")[2].partition("\r\n")[0])
    body = await reader.readexactly(length)
    return int(head.split(" ", 2)[1]), json.loads(body) if body else {}, "connection: close" not in head


def _close(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None) -> None:
    if connection is not None:
        with contextlib.suppress(OSError):
            connection[1].close()
