"""A scripted HTTP server, and certificates for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple


class Asked(NamedTuple):
    """A request as it came over the wire."""

    line: str
    headers: dict[str, str]
    body: bytes


class Service:
    """A scripted HTTP server: `reply` says what each request gets, as status and body (or raw bytes)."""

    def __init__(self, reply: Any) -> None:
        self.reply: Callable[[Asked], Any] = reply if callable(reply) else lambda asked: reply
        self.asked: list[Asked] = []
        self.connections = 0
        self.tasks: list[asyncio.Task[None] | None] = []
        self.extra = ""
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.tasks.append(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError), contextlib.closing(writer):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {
                    name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)
                }
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                asked = Asked(head[0].removesuffix(" HTTP/1.1"), headers, body)
                self.asked.append(asked)
                found = self.reply(asked)
                if asyncio.iscoroutine(found):
                    found = await found
                if isinstance(found, bytes):
                    writer.write(found)
                    break
                status, document = found
                content = document if isinstance(document, bytes) else json.dumps(document).encode()
                writer.write(
                    f"HTTP/1.1 {status} X\r\n{self.extra}Content-Length: {len(content)}\r\n\r\n".encode() + content
                )
                await writer.drain()


@contextlib.asynccontextmanager
async def service(reply: Any, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Service]:
    served = Service(reply)
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0, ssl=tls)
    served.port = server.sockets[0].getsockname()[1]
    try:
        yield served
    finally:
        for _ in range(5):  # what has just connected is accepted
            await asyncio.sleep(0)
        server.close()
        for task in filter(None, served.tasks):
            task.cancel()
        await asyncio.gather(*filter(None, served.tasks), return_exceptions=True)
        for _ in range(5):  # what has just been closed is gone
            await asyncio.sleep(0)


def make_certificates(folder: Path) -> None:
    """`ca.pem`, `server.pem` for 127.0.0.1 and crm.test, and `client.pem`, the last two with their `.key`."""
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    openssl(
        "req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test authority"
    )
    for name, extension in (
        ("server", "subjectAltName=IP:127.0.0.1,DNS:crm.test"),
        ("client", "extendedKeyUsage=clientAuth"),
    ):
        (folder / "extension").write_text(extension)
        openssl("req", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-days", "2", "-extfile", "extension", "-out", f"{name}.pem"),
        )
