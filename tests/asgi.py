"""The gateway in this process, without a server: its ASGI application is called directly."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from running import write_config

from gateway.config.load import load_config
from gateway.config.tables import Config
from gateway.http.access import Access
from gateway.http.admin import create_admin
from gateway.http.app import create_app
from gateway.http.tokens import mint
from gateway.journal import open_reader
from gateway.journal.interface import Filter
from gateway.journal.search import EventRow
from gateway.plugin_host.load import Plugin, load_plugins
from gateway.reload import Reloader
from gateway.service import Gateway

GONE = "gone"
"""In a body: the client hangs up here."""
NEVER = "never"
"""In a body: nothing comes any more."""
Body = bytes | Iterable[bytes | str]
Headers = Iterable[tuple[bytes, bytes]]


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def problem(self) -> str:
        """The detail of a problem document that is one in every way."""
        document = self.document
        assert self.headers["content-type"] == "application/problem+json"
        assert document["status"] == self.status
        assert document.keys() >= {"type", "title", "status", "detail"}
        return str(document["detail"])


async def call(app: Any, scope: dict[str, Any], body: Body = b"") -> Answer:
    """One request to an ASGI application."""
    parts = iter([body] if isinstance(body, bytes) else body)
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        part = next(parts, None)
        if part == NEVER:
            await asyncio.Event().wait()
        if part == GONE:
            return {"type": "http.disconnect"}
        if part is None:
            return {"type": "http.request", "body": b"", "more_body": False}
        return {"type": "http.request", "body": part, "more_body": not isinstance(body, bytes)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start, *rest = sent
    names = [name for name, _ in start["headers"]]
    assert len(names) == len(set(names)), names
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    content = b"".join(message.get("body", b"") for message in rest)
    assert headers["content-length"] == str(len(content))
    return Answer(start["status"], headers, content)


def scope_of(method: str, path: str, query: bytes, headers: Headers, client: str) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": "",
        "headers": list(headers),
        "client": (client, 50000),
        "server": ("127.0.0.1", 8080),
        "state": {},
    }


class InProcess:
    """A gateway that runs in this process."""

    def __init__(self, config: Config, gateway: Gateway, clock: Callable[[], float]) -> None:
        self.config = config
        self.app = create_app(gateway)
        self.gateway = gateway
        self.admin = create_admin(gateway, Reloader(gateway), Access(config.admin, clock))
        self.tokens = {name: mint(settings).encode() for name, settings in config.organisations.items()}

    async def request(
        self,
        method: str,
        path: str = "/webio",
        body: Body = b"",
        *,
        query: bytes = b"",
        headers: Headers = (),
        organisation: str | None = "acme",
        client: str = "127.0.0.1",
    ) -> Answer:
        """One request to the public listener, with the organisation's token (None: without)."""
        token = [] if organisation is None else [(b"x-webio-token", self.tokens[organisation])]
        return await call(self.app, scope_of(method, path, query, [*token, *headers], client), body)

    async def post(self, body: Body, hook: str | None = None, organisation: str = "acme") -> Answer:
        path = "/webio" if hook is None else f"/webio/{hook}"
        return await self.request("POST", path, body, organisation=organisation)

    async def manage(
        self,
        method: str,
        path: str,
        document: Any = None,
        headers: Headers = ((b"host", b"127.0.0.1"),),
        *,
        query: bytes = b"",
        client: str = "127.0.0.1",
    ) -> Answer:
        """One request to the admin listener; a document goes as JSON, bytes as they are."""
        body = document if isinstance(document, bytes) else b"" if document is None else msgspec.json.encode(document)
        if document is not None and not any(name == b"content-type" for name, _ in headers):
            headers = [*headers, (b"content-type", b"application/json")]
        sized = [*headers, (b"content-length", str(len(body)).encode())]
        return await call(self.admin, scope_of(method, path, query, sized, client), body)

    async def operate(self, kind: str, which: dict[str, Any], **asked: Any) -> Any:
        """Carry out an operation; returns its end."""
        answer = await self.manage("POST", "/api/operations", {"kind": kind, "filter": which, **asked})
        assert answer.status == 202, answer.body
        path = f"/api/operations/{answer.document['number']}"
        while not (state := (await self.manage("GET", path)).document)["finished"]:
            await asyncio.sleep(0.005)
        return state

    def events(self) -> list[EventRow]:
        """What is in the journal, oldest first."""
        reader = open_reader(self.config)
        try:
            return list(reader.events(Filter()))
        finally:
            reader.close()

    def metrics(self) -> dict[str, float]:
        """The page of metrics: each line's name with labels, and its value."""
        lines = self.gateway.metrics_page().decode().splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


@asynccontextmanager
async def in_process(
    directory: Path,
    text: str = "",
    *,
    admin: str = "",
    plugins: Callable[[Config], list[Plugin]] = load_plugins,
    clock: Callable[[], float] = time.monotonic,
    started: bool = True,
) -> AsyncIterator[InProcess]:
    """A gateway in this process with `text` in its config (see `write_config`), and `admin` in its table [admin].
    `clock` times failed passwords. Its plugins have started, unless `started` is false."""
    config = load_config(write_config(directory, text, admin=admin))
    loaded = plugins(config)
    gateway = Gateway(config, loaded)
    await gateway.start(lambda failure: None)
    try:
        async with asyncio.timeout(10 if started else 0):
            for plugin in loaded if started else ():
                await plugin.startup.done.wait()
        yield InProcess(config, gateway, clock)
    finally:
        await gateway.stop()


def chunks(body: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]
