"""HTTP/1.1 on one connection: uvicorn's protocol, with the limits and the drain that uvicorn lacks.

A connection either waits for the head of a request, or handles a request. One that waits for longer than
`HEAD_SECONDS` is closed, so a silent or slow client holds a connection for at most that long. The receiver limits the
time of a body.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.serving.admission import Place
from gateway.serving.connections import HEAD_SECONDS, Connections
from gateway.serving.exchange import Exchange, TakenExchange
from gateway.serving.head import HEAD_BYTES, HeadRefused, check_head, refusal

FRAMING_BYTES: Final = 4096
FRAMING_RATIO: Final = 16
"""Chunk lines and trailers may have at most `FRAMING_BYTES`, plus this many bytes for each byte of the body."""


class Connection(HttpToolsProtocol):
    """One connection of a listener."""

    server_state: Connections
    place: Place
    cycle: Exchange | TakenExchange  # type: ignore[assignment]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.place.open(self)
        self._in_head = True
        self._begun = False
        self._ended = False
        self._unsent = 0
        self._received = self._body_size = 0
        self._parts: list[bytes] | None = None
        """The body so far of a request that may be taken; None where there is no such request."""
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self.server_state.waiting.pop(self, None)
        self._ended = True
        super().connection_lost(exc)
        self.place.leave()

    def abort(self) -> None:
        """End the connection without an answer."""
        self.server_state.waiting.pop(self, None)
        self.transport.abort()
        self.place.leave()

    def _wait(self) -> None:
        waiting = self.server_state.waiting
        waiting.pop(self, None)
        waiting[self] = self.loop.time()

    def _from(self) -> str:
        return self.client[0] if self.client else "an unknown address"

    def expire(self) -> None:
        """End the wait for a request: its time is over."""
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
        """Begin to drain: answer the requests that have begun, then close the connection."""
        if self.cycle is None or self.cycle.response_complete:
            if self.cycle is not None and not self._begun:
                self.transport.close()
        else:
            self.cycle.keep_alive = False

    # Reading requests

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
        except httptools.HttpParserError as error:
            self._parts = None
            refused = error.__context__
            self._refuse(
                *refused.args if isinstance(refused, HeadRefused) else (400, f"the request is not HTTP/1.1: {error}")
            )
            return
        if self._parts is not None:  # the body is not complete
            self._begin_exchange()
        if self._in_head:
            if self._begun:
                self._received += len(data)
                if self._received > HEAD_BYTES:
                    self._refuse(431, f"a request's head is larger than {HEAD_BYTES} bytes")
            elif not in_body and (self.cycle is None or self.cycle.response_complete):
                self._begun = True
                self._received = len(data)
                self._wait()
        elif in_body:
            self._received += len(data)
            if self._received > FRAMING_BYTES + (FRAMING_RATIO + 1) * self._body_size:
                self._refuse(400, "the chunks of a body are mostly extensions or trailers")

    def _without_upgrade(self, rest: bytes) -> None:
        """Serve a request that offers an upgrade to another protocol, as Java's client offers HTTP/2, without the
        upgrade. The parser would skip the body of such a request, so a new parser reads it without that header."""
        head = [self.parser.get_method() + b" " + self.url + b" HTTP/1.1"]
        head += [name + b": " + value for name, value in self.headers if name not in (b"connection", b"upgrade")]
        self.parser = httptools.HttpRequestParser(self)
        self._begun = False
        self.data_received(b"\r\n".join(head) + b"\r\n\r\n" + rest)

    def eof_received(self) -> bool:  # type: ignore[override]
        return self.scheme != "https" and self.input_ended()

    def input_ended(self) -> bool:
        """A client may stop sending before it has read the answer. Returns whether it waits for one."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete or cycle.streams:  # one that reads a stream has left
            return False
        self._ended = True
        if isinstance(cycle, Exchange) and cycle.more_body:
            self._break_off(cycle, 400)
        cycle.keep_alive = False
        return True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # otherwise it is a trailer, which must not count as a header
            name = name.lower()
            if name == b"expect":
                self.expect_100_continue = value.lower() == b"100-continue"
            self.headers.append((name, value))

    def on_message_begin(self) -> None:
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        parser, before, shared = self.parser, self.cycle, self.server_state
        version = parser.get_http_version()
        check_head(version, self.url, self.headers)
        if parser.should_upgrade():
            return  # see `_without_upgrade`
        self._in_head = self._begun = False
        self._received = self._body_size = 0
        shared.waiting.pop(self, None)
        self._version = version
        self._keep_alive = version == "1.1" and parser.should_keep_alive() and not shared.draining
        if (
            shared.take is not None
            and parser.get_method() == b"POST"
            and (before is None or before.response_complete)
            and not self.expect_100_continue
            and not self.flow.write_paused
        ):
            self._parts = []
        else:
            self._begin_exchange()

    def _begin_exchange(self) -> None:
        """Hand the request to the application, with what has arrived of its body where it was not taken."""
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        self.scope = {
            "type": "http",
            "asgi": {"version": self.config.asgi_version, "spec_version": "2.3"},
            "http_version": self._version,
            "method": self.parser.get_method().decode("ascii"),
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme or "http",
            "root_path": "",
            "path": unquote(path) if "%" in path else path,
            "raw_path": url.path,
            "query_string": url.query or b"",
            "headers": self.headers,
            "state": self.app_state.copy(),
        }
        before = self.cycle
        self.cycle = exchange = Exchange(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=self._keep_alive,
            on_response=self.on_response_complete,
        )
        if before is None or before.response_complete:
            self._start_asgi_task(exchange, self.app)
        else:  # pipelined: it waits for the answer to the request before it
            self.flow.pause_reading()
            self.pipeline.appendleft((exchange, self.app))
        parts, self._parts = self._parts or (), None
        for part in parts:
            self._add(exchange, part)

    def on_body(self, body: bytes) -> None:
        self._body_size += len(body)
        if self._parts is not None:
            self._parts.append(body)
        elif not self.cycle.response_complete and isinstance(self.cycle, Exchange):
            self._add(self.cycle, body)

    def _add(self, exchange: Exchange, body: bytes) -> None:
        exchange.body += body
        if len(exchange.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        exchange.message_event.set()

    def on_message_complete(self) -> None:
        if self._in_head:  # the body was skipped; see `_without_upgrade`
            return
        self._in_head = True
        if self._parts is not None:
            taken, take = TakenExchange(self, self._keep_alive), self.server_state.take
            if take is not None and take(self.url, self.headers, b"".join(self._parts), taken.answer):
                self._parts = None
                self.cycle = taken
                return
            self._begin_exchange()
        cycle = self.cycle
        if cycle.response_complete:
            self._wait()
        elif isinstance(cycle, Exchange):
            cycle.more_body = False
            cycle.message_event.set()

    # Answering

    def on_response_complete(self) -> None:
        if self.pipeline and not self.transport.is_closing():
            self.flow.resume_reading()
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        else:
            self.flow.resume_reading()
            self._unsent = 0
            self._wait()

    def _refuse(self, status: int, sentence: str) -> None:
        """Refuse the newest request, after the answers to the requests before it; then close the connection."""
        self._ended = True
        self.server_state.note(status, self._from(), sentence)
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            self._answer(status)
        elif isinstance(cycle, Exchange) and cycle.more_body:
            self._break_off(cycle, status)
        else:
            cycle.keep_alive = False

    def _break_off(self, cycle: Exchange, status: int) -> None:
        """Refuse the newest request: the rest of its body cannot be read."""
        if self.pipeline:  # it waits for the answers to the requests before it

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
        self.transport.write(refusal(status))
        self.transport.close()
        self._wait()
