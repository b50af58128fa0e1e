"""HTTP/1.1 on one connection: uvicorn's protocol with the limits and the drain that it lacks, and one write per answer.

A connection waits for a request's head, or has a request under way. One that waits for longer than `HEAD_SECONDS` is
closed, so silent and slow clients hold it for that long at most. The time of a body is the receiver's matter.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from email.utils import formatdate
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from gateway.http.problems import PROBLEM, problem
from gateway.log import RateLimit
from gateway.metrics import Metrics

log = logging.getLogger("gateway.server")

HEAD_SECONDS: Final = 5.0
"""From the first byte of a request to the end of its head; also how long an idle connection is kept."""
HEAD_BYTES: Final = 32 * 1024
MOST_HEADERS: Final = 100
FRAMING_BYTES: Final = 4096
FRAMING_RATIO: Final = 16
"""Chunk lines and trailers may take `FRAMING_BYTES`, and this many bytes for each byte of the body."""
LAST_HEADS: Final = 1.0
"""Seconds that a head has to arrive in when the gateway drains."""
SWEEP_SECONDS: Final = 1.0


class _Refused(Exception):
    """The request's head is refused; the connection knows with which answer."""


class Connections(ServerState):
    """What the connections of one listener share: which of them wait for a request, and for how long."""

    def __init__(self, limit: int, metrics: Metrics, prefix: str) -> None:
        """`prefix` begins the sentence of each log line."""
        super().__init__()
        self.limit = limit
        self.draining = False
        self.none_left = asyncio.Event()
        self.waiting: dict[Connection, float] = {}
        """Connections without a request under way and when they began to wait (loop time); the oldest is the first."""
        self._metrics = metrics
        self._prefix = prefix
        self._lines: defaultdict[int, RateLimit] = defaultdict(lambda: RateLimit(log))

    async def closed(self) -> None:
        """Wait until the last connection has ended; for a listener that accepts nothing more."""
        while self.connections:
            self.none_left.clear()
            await self.none_left.wait()

    def note(self, status: int, client: str, sentence: str) -> None:
        """Count a refusal and write a line, at a bounded rate for each status."""
        self._metrics.refused[str(status), "head"] += 1
        self._lines[status].warning("%d from %s: %s%s", status, client, self._prefix, sentence)

    def sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close the connections that have waited for too long; runs every second."""
        self.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        latest = loop.time() - (LAST_HEADS if self.draining else HEAD_SECONDS)
        for connection, since in list(self.waiting.items()):
            if since > latest:
                break
            connection.expire()


class Connection(HttpToolsProtocol):
    """One connection of a listener."""

    server_state: Connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        shared, connections = self.server_state, self.connections
        super().connection_made(transport)
        self._answers = OneWrite(transport)
        self._in_head = True
        self._begun = False
        self._ended = False
        self._unsent = 0
        self._size = self._hosts = self._received = self._body_size = 0
        self._coding = b""
        self._wait()
        if len(connections) > shared.limit:
            oldest = next(iter(shared.waiting))
            if oldest is self:
                shared.note(503, self._from(), f"there are {shared.limit} connections already, all of them busy")
            oldest.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.server_state.waiting.pop(self, None)
        self._ended = True
        super().connection_lost(exc)
        if not self.connections:
            self.server_state.none_left.set()

    def abort(self) -> None:
        """End the connection without an answer."""
        self.server_state.waiting.pop(self, None)
        self.transport.abort()

    def _wait(self) -> None:
        waiting = self.server_state.waiting
        waiting.pop(self, None)
        waiting[self] = self.loop.time()

    def _from(self) -> str:
        return self.client[0] if self.client else "an unknown address"

    def expire(self) -> None:
        """The time to wait for a request is over."""
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent != self._unsent:  # the client still reads an answer
            self._unsent = unsent
            self._wait()
        elif unsent or self.transport.is_closing():
            self.abort()
        elif self._begun and self._in_head:
            self._refuse(408, f"a request's head did not arrive within {HEAD_SECONDS:g} s")
        else:
            self.server_state.waiting.pop(self, None)
            self.transport.close()

    def shutdown(self) -> None:
        """The gateway drains: what is on its way is answered, and the connection closes after it."""
        if self.cycle is None or self.cycle.response_complete:
            if self.cycle is not None and not self._begun:
                self.transport.close()
        else:
            self.cycle.keep_alive = False

    # What arrives

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        in_body = not self._in_head
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self.parser.get_method() == b"CONNECT":
                self._refuse(400, "this listener is not a proxy")
            else:
                self._without_upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserCallbackError as error:
            refused = error.__context__
            if isinstance(refused, _Refused):
                status, sentence = refused.args
                self._refuse(status, sentence)
            else:
                self._refuse(400, "a request's head cannot be read")
            return
        except httptools.HttpParserError as error:
            self._refuse(400, f"this is not HTTP/1.1: {error}")
            return
        if self._in_head:
            if self._begun:
                self._received += len(data)
                if self._received > HEAD_BYTES:
                    self._refuse(431, f"a request's head is larger than {HEAD_BYTES} bytes")
            elif self.cycle is None or self.cycle.response_complete:
                self._begun = True
                self._received = len(data)
                self._wait()
        elif in_body:
            self._received += len(data)
            if self._received > FRAMING_BYTES + (FRAMING_RATIO + 1) * self._body_size:
                self._refuse(400, "the chunks of a body are mostly extensions or trailers")

    def _without_upgrade(self, rest: bytes) -> None:
        """Serve a request that offers another protocol (Java's client offers HTTP/2) as if it did not: the parser skips
        its body, so another parser, which does not see the offer, takes its place."""
        head = [self.parser.get_method() + b" " + self.url + b" HTTP/1.1"]
        head += [name + b": " + value for name, value in self.headers if name not in (b"connection", b"upgrade")]
        self.parser = httptools.HttpRequestParser(self)
        self._begun = False
        self.data_received(b"\r\n".join(head) + b"\r\n\r\n" + rest)

    def eof_received(self) -> bool:  # type: ignore[override]
        """A client that has sent its request may stop sending before it has read the answer."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete or self.scheme == "https":
            return False
        self._ended = True
        if cycle.more_body:
            self._break_off(400)
        cycle.keep_alive = False
        return True

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._size = self._hosts = 0
        self._coding = b""

    def on_url(self, url: bytes) -> None:
        self._size += len(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._size += len(name) + len(value)
        if self._size > HEAD_BYTES:
            raise _Refused(431, f"a request's head is larger than {HEAD_BYTES} bytes")
        if not self._in_head:  # a trailer: never a header, which would have been checked
            return
        super().on_header(name, value)
        name = self.headers[-1][0]
        if name == b"host":
            self._hosts += 1
        elif name == b"transfer-encoding":
            self._coding = value.strip().lower()

    def on_headers_complete(self) -> None:
        version = self.parser.get_http_version()
        if len(self.headers) > MOST_HEADERS:
            raise _Refused(431, f"a request has more than {MOST_HEADERS} headers")
        if version not in ("1.1", "1.0") or (self._hosts != 1 and (self._hosts or version == "1.1")):
            raise _Refused(400, "a request is not HTTP/1.1 with one Host header")
        if self._coding and (self._coding != b"chunked" or version == "1.0"):
            raise _Refused(400, "a request's Transfer-Encoding is not chunked")
        if self.parser.should_upgrade():
            return
        self._in_head = False
        self._begun = False
        self._received = self._body_size = 0
        self.server_state.waiting.pop(self, None)
        super().on_headers_complete()
        cycle = self.cycle
        cycle.transport = self._answers  # type: ignore[assignment]
        if self.server_state.draining:
            cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._body_size += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._in_head:  # without its body, since it offers another protocol
            return
        self._in_head = True
        super().on_message_complete()
        if self.cycle.response_complete:
            self._wait()

    # What is answered

    def on_response_complete(self) -> None:
        self._answers.flush()
        if self.pipeline and not self.transport.is_closing():
            self.flow.resume_reading()
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        else:
            self.flow.resume_reading()
            self._unsent = 0
            self._wait()

    def _refuse(self, status: int, sentence: str) -> None:
        """Refuse what the connection has sent last, after the answers to what came before it; then close."""
        self._ended = True
        self.server_state.note(status, self._from(), sentence)
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            self._answer(status)
        elif cycle.more_body:
            self._break_off(status)
        else:
            cycle.keep_alive = False

    def _break_off(self, status: int) -> None:
        """The body of the newest request cannot be read to its end."""
        cycle = self.cycle
        if self.pipeline:  # its turn has not come: the answers to those before it go first

            async def refuse(*_: Any) -> None:
                self._answer(status)

            self.pipeline[0] = cycle, refuse
        elif not cycle.disconnected:
            started = cycle.response_started
            cycle.disconnected = True
            cycle.message_event.set()
            if started:
                self.transport.close()
            else:
                self._answer(status)

    def _answer(self, status: int) -> None:
        body = problem(status, _DETAILS[status])
        head = b"%bcontent-type: %b\r\ncache-control: no-store\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (STATUS_LINE[status], PROBLEM, len(body)) + body)
        self.transport.close()
        self._wait()


class OneWrite:
    """The transport as an answer sees it: the head is held back until the body comes, and both go out in one write."""

    __slots__ = ("_head", "_transport", "is_closing")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        if self._head:
            self._transport.write(self._head + data)
            self._head = b""
        elif data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 100"):
            self._head = data
        else:
            self._transport.write(data)

    def flush(self) -> None:
        if self._head:  # an answer to HEAD has no body
            self._transport.write(self._head)
            self._head = b""

    def close(self) -> None:
        self.flush()
        self._transport.close()


_DETAILS: Final = {
    400: "This request is not valid HTTP/1.1.",
    408: "The head of the request did not arrive in time.",
    431: "The head of the request is too large.",
}
