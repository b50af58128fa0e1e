"""Answers while databases fail: PostgreSQL and MariaDB servers are stopped (SIGSTOP), killed, and made slow.

    python benchmarks/databases_down.py [--postgresql /usr/lib/postgresql/15/bin]

A gateway asks both, and takes events at the same time. Each phase prints the statuses of its answers, the slowest
answer, and the 99th percentile of the acknowledgements. Exits 1 if an answer took longer than the deadline and 50 ms,
if an event was not acknowledged, or if a database that runs again did not answer within 30 s.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
from post import Subject, free_port, gateway

from gateway.config.load import load_config
from gateway.http import tokens

DEADLINE, GRACE = 500, 50
"""Milliseconds."""
FIELDS = {"postgresql": "pg", "mariadb": "my"}
CONFIG = """
[values]
deadline = "{deadline}ms"
[plugins.postgresql]
use = "sql_values"
url = "postgresql://{user}@127.0.0.1:{pg}/postgres"
[[plugins.postgresql.queries]]
sql = "SELECT CAST(42 AS text) AS pg WHERE :customer_uid <> ''"
[[plugins.postgresql.queries]]
sql = "SELECT CAST(pg_sleep(60) AS text) AS pg_slow"
fields = ["pg_slow"]
[plugins.mariadb]
use = "sql_values"
url = "mariadb://root@127.0.0.1:{my}/mysql"
[[plugins.mariadb.queries]]
sql = "SELECT '42' AS my WHERE :customer_uid <> ''"
[[plugins.mariadb.queries]]
sql = "SELECT SLEEP(60) AS my_slow"
fields = ["my_slow"]
[plugins.archive]
directory = "archive"
"""


class Server:
    """A database server that this benchmark starts, run by a user without privileges."""

    def __init__(self, command: list[str], user: str, port: int, folder: Path) -> None:
        self.command, self.port = as_user(user, command), port
        self.output = (folder / f"{user}.log").open("wb")
        self.process: subprocess.Popen[bytes]

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=self.output, stderr=subprocess.STDOUT, cwd="/")

    def signal(self, number: int) -> None:
        """Send a signal to the server and its child processes."""
        top = psutil.Process(self.process.pid)
        for process in (top, *top.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait()


def as_user(user: str, command: list[str]) -> list[str]:
    """The command, run as that user where this process is root: neither server runs as root."""
    if os.geteuid():
        return command
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *command]


def make_servers(binaries: Path, folder: Path) -> tuple[dict[str, Server], str]:
    """Both servers with empty databases, not started, and the name of PostgreSQL's superuser."""
    me = "postgres" if os.geteuid() == 0 else psutil.Process().username()
    ports = {kind: free_port() for kind in FIELDS}
    homes = {"postgres": folder / "pg", "mysql": folder / "my"}
    for user, home in homes.items():
        home.mkdir()
        if os.geteuid() == 0:
            shutil.chown(home, user, user)
    quiet: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}
    pg, my = str(homes["postgres"] / "data"), str(homes["mysql"])
    subprocess.run(as_user("postgres", [str(binaries / "initdb"), "-A", "trust", "-D", pg]), **quiet)
    subprocess.run(
        as_user(
            "mysql",
            ["mariadb-install-db", "--no-defaults", f"--datadir={my}", "--auth-root-authentication-method=normal"],
        ),
        **quiet,
    )
    listen = ["-h", "127.0.0.1", "-p", str(ports["postgresql"]), "-k", str(homes["postgres"])]
    return {
        "postgresql": Server([str(binaries / "postgres"), "-D", pg, *listen], "postgres", ports["postgresql"], folder),
        "mariadb": Server(
            [
                *("mariadbd", "--no-defaults", f"--datadir={my}", f"--port={ports['mariadb']}"),
                *("--bind-address=127.0.0.1", f"--socket={my}/socket", f"--pid-file={my}/pid"),
            ],
            "mysql",
            ports["mariadb"],
            folder,
        ),
    }, me


class Client:
    """HTTP over a few connections that are kept open."""

    def __init__(self, port: int, token: str) -> None:
        self.port, self.token = port, token
        self._idle: list[Any] = []

    async def send(self, method: str, path: str, body: bytes = b"") -> tuple[int, float]:
        """Status and milliseconds."""
        started = time.perf_counter()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nx-webio-token: {self.token}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        while True:
            idle = bool(self._idle)
            reader, writer = self._idle.pop() if idle else await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(head.encode() + body)
            try:
                answer = await reader.readuntil(b"\r\n\r\n")
                break
            except (asyncio.IncompleteReadError, ConnectionError):
                if not idle:  # else the gateway had closed it for having been idle
                    raise
        await reader.readexactly(int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        self._idle.append((reader, writer))
        return int(answer.split(None, 2)[1]), (time.perf_counter() - started) * 1000

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()


class Load:
    """Events at 100 a second all the time; custom values at 50 a second while a phase runs."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.acks: list[float] = []
        self.lost = 0
        self.worst = 0.0
        self.number = 0

    async def events(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                self.number += 1
                group.create_task(self._event(self.number))
                await asyncio.sleep(0.01)

    async def _event(self, number: int) -> None:
        body = json.dumps({"type": "payment", "conversationId": str(number % 50), "reference": str(number)}).encode()
        status, ms = await self.client.send("POST", "/webio", body)
        self.acks.append(ms)
        self.lost += status != 200

    async def ask(self, *fields: str) -> tuple[int, float]:
        self.number += 1
        params = "&".join(f"param{number}={field}" for number, field in enumerate(fields, 1))
        status, ms = await self.client.send("GET", f"/webio?customerUID={self.number}&{params}")
        self.worst = max(self.worst, ms)
        return status, ms

    async def phase(self, name: str, seconds: float, *fields: str) -> None:
        self.acks.clear()
        asks = []
        for _ in range(int(seconds * 50)):
            asks.append(asyncio.ensure_future(self.ask(*fields)))
            await asyncio.sleep(0.02)
        answers = await asyncio.gather(*asks)
        slowest = max(ms for _, ms in answers)
        p99 = statistics.quantiles(self.acks, n=100)[98]
        statuses = dict(sorted(Counter(status for status, _ in answers).items()))
        print(f"{name:34} {statuses!s:32} slowest answer {slowest:6.1f} ms   events' p99 {p99:6.1f} ms")

    async def recovered(self, name: str, field: str) -> bool:
        began = time.perf_counter()
        while time.perf_counter() - began < 32:
            if (await self.ask(field))[0] == 200:
                print(f"{name:34} answers again after {time.perf_counter() - began:.1f} s")
                return True
            await asyncio.sleep(0.1)
        print(f"{name:34} does not answer again")
        return False


async def scenario(load: Load, servers: dict[str, Server]) -> bool:
    good = True
    await load.phase("calm", 4, *FIELDS.values())
    for kind, server in servers.items():
        field = FIELDS[kind]
        server.signal(signal.SIGSTOP)
        await load.phase(f"{kind} stopped", 4, field)
        server.signal(signal.SIGCONT)
        good &= await load.recovered(f"{kind} goes on", field)
        server.signal(signal.SIGKILL)
        await load.phase(f"{kind} killed", 3, field)
        server.start()
        good &= await load.recovered(f"{kind} started again", field)
        await load.phase(f"{kind} asked to sleep", 3, f"{field}_slow")
        good &= await load.recovered(f"{kind} awake", field)
    return good


@contextlib.asynccontextmanager
async def events_sent(load: Load) -> AsyncIterator[None]:
    sending = asyncio.ensure_future(load.events())
    try:
        yield
    finally:
        sending.cancel()
        await asyncio.sleep(0.5)


async def run(subject: Subject, token: str, servers: dict[str, Server]) -> bool:
    client = Client(subject.port, token)
    load = Load(client)
    for kind, field in FIELDS.items():
        if not await load.recovered(f"{kind} is up", field):
            return False
    load.worst = 0.0
    async with events_sent(load):
        good = await scenario(load, servers)
    client.close()
    print(f"slowest answer {load.worst:.1f} ms of {DEADLINE} ms; events not acknowledged: {load.lost}")
    return good and load.worst <= DEADLINE + GRACE and load.lost == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--postgresql", type=Path, default=Path("/usr/lib/postgresql/15/bin"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        servers, superuser = make_servers(options.postgresql, folder)
        subject = None
        try:
            for server in servers.values():
                server.start()
            ports = {"pg": servers["postgresql"].port, "my": servers["mariadb"].port}
            text = CONFIG.format(deadline=DEADLINE, user=superuser, **ports)
            subject, _ = gateway("gateway", folder / "gateway", text)
            token = tokens.mint(load_config(folder / "gateway/config.toml").organisations["acme"])
            good = asyncio.run(run(subject, token, servers))
        finally:
            if subject is not None:
                subject.stop()
            for server in servers.values():
                with contextlib.suppress(psutil.NoSuchProcess):
                    server.signal(signal.SIGKILL)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
