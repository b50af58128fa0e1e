"""Webio as the cluster sees it: many conversations at once, each with one event under way, that is sent again, to
another gateway where one fails, until it is acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from gateway import simulate
from gateway.config.tables import Config
from gateway.http.tokens import mint

CLOCKS_DIFFER: Final = 900.0
"""The token is this many seconds old, so that a gateway whose clock is behind accepts it."""
AVOIDED: Final = 1.0
"""Seconds for which a conversation sends nothing to a gateway that did not answer it."""
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Target(NamedTuple):
    """A gateway, as the load balancer knows it."""

    name: str
    address: str
    port: int


class Acknowledged(NamedTuple):
    """An event that got its 200: the `number`-th of its conversation (None: it has none) by the name `action`, at
    `at` seconds of the monotonic clock by `gateway`."""

    id: str
    action: str
    conversation: str | None
    number: int
    at: float
    gateway: str


class Load:
    """So many conversations; `with` starts and ends them. `pause` are the seconds between an acknowledgement and the
    conversation's next event, `timeout` those until an answer is not waited for any more."""

    def __init__(
        self,
        config: Config,
        targets: Sequence[Target],
        conversations: int = 24,
        *,
        pause: float = 0.05,
        timeout: float = 2.0,
        name: str = "t",
    ) -> None:
        self.acknowledged: list[Acknowledged] = []
        self.answers: Counter[int] = Counter()
        self.broken = 0
        """How often a connection broke, could not be made, or did not answer in time."""
        self.unexpected: list[str] = []
        """Answers that are neither 200 nor an honest refusal."""
        self.targets = list(targets)
        """Those that events are sent to; may be changed meanwhile."""
        self._path = config.server.path
        self._token = mint(config.organisations["acme"], now=time.time() - CLOCKS_DIFFER)
        self._conversations = conversations
        self._pause, self._timeout, self._name = pause, timeout, name
        self._ending = self._given_up = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load", daemon=True)

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

    def wait_acknowledged(self, more: int, within: float = 60, *, by: str | None = None) -> float:
        """Wait until so many more events are acknowledged (`by` one gateway); the time of the last of them."""
        start, deadline = len(self.acknowledged), time.monotonic() + within
        while time.monotonic() < deadline:
            found = [one for one in self.acknowledged[start:] if by in (None, one.gateway)]
            if len(found) >= more:
                return found[more - 1].at
            time.sleep(0.01)
        raise AssertionError(f"not within {within:g} s: {more} acknowledgements{f' by {by}' if by else ''}")

    async def _run(self) -> None:
        await asyncio.gather(*(self._talk(number) for number in range(self._conversations)))

    async def _talk(self, talker: int) -> None:
        """One of eight talkers has events without a conversation, which have no order."""
        conversation = f"{self._name}{talker}" if talker % 8 else None
        connections: dict[Target, Connection] = {}
        silent: dict[Target, float] = {}
        number = 0
        while not self._ending:
            number += 1
            action = f"{self._name}{talker}-{number}"
            request = self._request(action, conversation)
            while not self._given_up:
                target = self._choose(silent)
                answer = await self._send(connections, target, request)
                if answer is None:
                    silent[target] = time.monotonic() + AVOIDED
                if answer is not None and answer[0] == 200:
                    self.acknowledged.append(
                        Acknowledged(answer[1]["id"], action, conversation, number, time.monotonic(), target.name)
                    )
                    break
                await asyncio.sleep(random.uniform(0.01, 0.05))
            await asyncio.sleep(self._pause * random.uniform(0.5, 1.5))
        for connection in connections.values():
            _close(connection)

    def _choose(self, silent: dict[Target, float]) -> Target:
        """Any gateway, but for a moment none that has not answered, unless there is no other."""
        now = time.monotonic()
        good = [target for target in self.targets if silent.get(target, 0.0) <= now]
        return random.choice(good or self.targets)

    async def _send(
        self, connections: dict[Target, Connection], target: Target, request: bytes
    ) -> tuple[int, dict[str, Any]] | None:
        """The answer, or None where there is none."""
        connection = connections.pop(target, None)
        try:
            async with asyncio.timeout(self._timeout):
                connection = connection or await asyncio.open_connection(target.address, target.port)
                status, body, keep = await _exchange(connection, request)
        except (OSError, EOFError, TimeoutError, ValueError):
            self.broken += 1
            _close(connection)
            return None
        if keep:
            connections[target] = connection
        else:
            _close(connection)
        self.answers[status] += 1
        if status not in (200, 503):
            self.unexpected.append(f"{target.name}: {status} {body}")
        return status, body

    def _request(self, action: str, conversation: str | None) -> bytes:
        fields = simulate.body("inbound-message", conversation_id=conversation)
        fields |= {"communicationActionId": action, "body": "x" * random.randint(0, 300)}
        if conversation is None:
            fields |= {"type": "conversationClosed", "conversationId": ""}
        body = simulate.encode(fields)
        return (
            f"POST {self._path} HTTP/1.1\r\nhost: gateway\r\nx-webio-token: {self._token}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode() + body


async def _exchange(connection: Connection, request: bytes) -> tuple[int, dict[str, Any], bool]:
    """Send a request; status, body, and whether the connection stays open. `EOFError` without a whole answer."""
    reader, writer = connection
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = int(head.partition("content-length:")[2].partition("\r\n")[0])
    body = await reader.readexactly(length)
    return int(head.split(" ", 2)[1]), json.loads(body) if body else {}, "connection: close" not in head


def _close(connection: Connection | None) -> None:
    if connection is not None:
        with contextlib.suppress(OSError):
            connection[1].close()
