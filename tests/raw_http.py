"""Bytes to and from a server, past every HTTP client that would know better."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterable
from typing import NamedTuple

from running import RunningGateway

from gateway.http.tokens import mint

EVENT = b'{"type":"payment"}'
CLOSE = b"Connection: close"
Part = bytes | float
"""What is sent, or a pause in seconds."""


class Raw(NamedTuple):
    """What came back, without the Date header; whether the server closed the connection, and after how long."""

    data: bytes
    closed: bool
    seconds: float

    @property
    def statuses(self) -> list[int]:
        """Of every answer in it."""
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", self.data)]

    @property
    def headers(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[0].lower()

    @property
    def body(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[2]


def talk(port: int, *parts: Part, wait: float = 0.3) -> Raw:
    """Send the parts, and read until the server closes or has been silent for `wait` seconds."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        began = time.monotonic()
        data, closed = b"", False
        try:
            for part in parts:
                if isinstance(part, float):
                    time.sleep(part)
                else:
                    connection.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            closed = True
        connection.settimeout(wait)
        try:
            while received := connection.recv(65536):
                data += received
            closed = True
        except TimeoutError:
            pass
        except ConnectionResetError:
            closed = True
        return Raw(re.sub(rb"date: [^\r]*\r\n", b"", data), closed, time.monotonic() - began)


class Requests:
    """Makes requests to one gateway."""

    def __init__(self, gateway: RunningGateway) -> None:
        self.port = gateway.config.server.port
        self.token = mint(gateway.config.organisations["acme"]).encode()

    def head(self, *headers: bytes, method: bytes = b"POST", path: bytes = b"/webio", token: bool = True) -> bytes:
        """A request's head, with its token, up to the empty line."""
        lines: Iterable[bytes] = [method + b" " + path + b" HTTP/1.1", b"Host: gateway", *headers]
        if token:
            lines = [*lines, b"x-webio-token: " + self.token]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def post(self, body: bytes = EVENT, *headers: bytes, token: bool = True) -> bytes:
        """A whole POST, well made."""
        return self.head(b"Content-Length: %d" % len(body), *headers, token=token) + body
