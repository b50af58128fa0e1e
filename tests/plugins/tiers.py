"""The bundled plugins with their targets, for the checks that any plugin should pass."""

from __future__ import annotations

import errno
import http.server
import importlib
import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from gateway.testing import PluginCase, check_plugin

PASSWORD = "bearer-of-the-service"


def require_tier(plugin: type, case: Callable[[Path], PluginCase]) -> None:
    """The plugin reaches the tier that its package states as `TIER`, and no higher one."""
    report = check_plugin(plugin, case)
    stated = importlib.import_module(plugin.__module__.partition(".")[0]).TIER
    report.require(stated)
    assert report.tier == stated, report


def archive(folder: Path) -> PluginCase:
    """A folder on a disk that can be full."""

    @contextmanager
    def full_disk() -> Iterator[None]:
        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with mock.patch("os.fdatasync", full), mock.patch("os.fsync", full):
            yield

    def ids() -> Iterator[str]:
        for path in (folder / "archive").glob("*/*/*.jsonl"):
            yield from (json.loads(line)["id"] for line in path.read_text().splitlines())

    return PluginCase(config={"directory": str(folder / "archive")}, taken=ids, fails=full_disk)


def logging(folder: Path) -> PluginCase:
    """A file, in whose place there can be a folder. It has lines again after a crash, marked as redelivered."""
    path, away = folder / "events.log", folder / "away.log"

    @contextmanager
    def in_the_way() -> Iterator[None]:
        if path.exists():
            path.rename(away)
        path.mkdir()
        try:
            yield
        finally:
            path.rmdir()

    def ids() -> Iterator[str]:
        for one in (path, away):
            if one.is_file():
                yield from (json.loads(line)["id"] for line in one.read_text().splitlines())

    return PluginCase(config={"output": str(path)}, taken=ids, fails=in_the_way, repeats=True, keeps=False)


def sql_values(folder: Path) -> PluginCase:
    """An SQLite database, whose table can be missing."""
    path = folder / "customers.db"

    def run(statement: str) -> None:
        connection = sqlite3.connect(path)
        with connection:
            connection.executescript(statement)
        connection.close()

    @contextmanager
    def without_table() -> Iterator[None]:
        run("ALTER TABLE customers RENAME TO elsewhere")
        try:
            yield
        finally:
            run("ALTER TABLE elsewhere RENAME TO customers")

    run("CREATE TABLE customers (uid TEXT, balance TEXT, name TEXT);")
    run("INSERT INTO customers VALUES ('123456', '120.50', 'Siobhán Ní Ghallchóir')")
    query = "SELECT balance, name FROM customers WHERE uid = :customer_uid"
    return PluginCase(
        config={"url": f"sqlite+aiosqlite:///{path}", "queries": [{"sql": query, "fields": ["balance", "name"]}]},
        values={"balance": "120.50", "name": "Siobhán Ní Ghallchóir"},
        fails=without_table,
    )


class _Service(http.server.ThreadingHTTPServer):
    """A REST service with one customer; `down` makes it answer 500."""

    daemon_threads = True
    down = False


class _Answer(http.server.BaseHTTPRequestHandler):
    server: _Service

    def do_GET(self) -> None:
        known = self.path == "/customers/123456"
        status = 500 if self.server.down else 200 if known else 404
        body = json.dumps({"balance": "120.50", "name": "Siobhán Ní Ghallchóir"}).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None: ...


@contextmanager
def rest_service() -> Iterator[Callable[[Path], PluginCase]]:
    """Cases of `http_values` with a service that runs."""
    service = _Service(("127.0.0.1", 0), _Answer)
    serving = threading.Thread(target=service.serve_forever, daemon=True)
    serving.start()

    @contextmanager
    def down() -> Iterator[None]:
        service.down = True
        try:
            yield
        finally:
            service.down = False

    def case(folder: Path) -> PluginCase:
        (folder / "token").write_text(PASSWORD)
        url = f"http://127.0.0.1:{service.server_address[1]}/customers/{{customer_uid}}"
        fields: Mapping[str, str] = {"balance": "/balance", "name": "/name"}
        return PluginCase(
            config={"bearer": {"file": "token"}, "requests": [{"url": url, "fields": fields}]},
            values={"balance": "120.50", "name": "Siobhán Ní Ghallchóir"},
            fails=down,
            secrets=(PASSWORD,),
        )

    try:
        yield case
    finally:
        service.shutdown()
        service.server_close()
        serving.join()


def static_values(folder: Path) -> PluginCase:
    return PluginCase(config={"values": {"hours": "9 to 5"}}, values={"hours": "9 to 5"}, for_everyone=True)
