"""A primary and its standby, as PostgreSQL servers of their own from the binaries of this machine, to be killed and
promoted."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psutil
from machine import watch_group
from network import Host, Network

PLACES: Final = "/usr/lib/postgresql/*/bin"
USER: Final = "postgres"
"""Who runs the servers where this process is root, as whom PostgreSQL does not start."""
DATABASE: Final = "gateway"
SETTINGS: Final = """
listen_addresses = '*'
fsync = on
full_page_writes = on
synchronous_commit = on
max_connections = 120
shared_buffers = 64MB
max_wal_size = 2GB
wal_keep_size = 256MB
wal_sender_timeout = 4s
wal_receiver_timeout = 4s
wal_retrieve_retry_interval = 500ms
tcp_user_timeout = 4000
tcp_keepalives_idle = 2
tcp_keepalives_interval = 1
tcp_keepalives_count = 2
"""


def binaries() -> Path | None:
    """The folder of PostgreSQL's programs: `GATEWAY_TEST_POSTGRESQL_BIN`, or the newest version that Debian installed,
    or that of the `PATH`. None where there are none."""
    named = os.environ.get("GATEWAY_TEST_POSTGRESQL_BIN")
    found = shutil.which("initdb")
    debian = sorted(Path("/").glob(PLACES.removeprefix("/")), key=lambda path: float(path.parent.name))
    places = [Path(named)] if named else [*reversed(debian), *([Path(found).parent] if found else [])]
    return next((place for place in places if (place / "initdb").exists()), None)


def as_owner() -> list[str]:
    """The prefix of a command that runs as the servers' owner."""
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups"] if os.geteuid() == 0 else []


class Server:
    """One PostgreSQL server in a folder, on a host. What it says is in `server.log` beside its data."""

    def __init__(self, host: Host, folder: Path, port: int) -> None:
        found = binaries()
        assert found is not None, "there is no PostgreSQL here"
        self.host = host
        self.port = port
        self.folder = folder
        self.data = folder / "data"
        self._bin = found
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)
        if os.geteuid() == 0:
            shutil.chown(folder, USER, USER)

    def make(self) -> None:
        """Make an empty cluster."""
        options = ["--auth=trust", f"--username={DATABASE}", "--encoding=UTF8", "--no-locale", "--no-sync"]
        self._run("initdb", "--pgdata", str(self.data), *options)
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(SETTINGS)
        with (self.data / "pg_hba.conf").open("a") as file:
            file.write("host all all 0.0.0.0/0 trust\nhost replication all 0.0.0.0/0 trust\n")

    def follow(self, network: Network, primary: Server) -> None:
        """Become a copy of a primary, and its standby from the next start on."""
        shutil.rmtree(self.data, ignore_errors=True)
        address, port = network.way(self.host, primary.host, primary.port)
        source = f"host={address} port={port} user={DATABASE} application_name={self.host.name} connect_timeout=3"
        self._run("pg_basebackup", "--dbname", source, "--pgdata", str(self.data), "-R", "-c", "fast", "--no-sync")

    def start(self) -> None:
        """Start it, and return once it answers."""
        with (self.folder / "server.log").open("ab") as log:
            program = [str(self._bin / "postgres"), "-D", str(self.data), "-p", str(self.port), "-k", str(self.folder)]
            self._process = subprocess.Popen(
                [*self.host.prefix, *as_owner(), *program],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        watch_group(self._process.pid)
        wait_until(
            lambda: self.ask("SELECT 1", database="postgres", quietly=True) == "1", f"{self.host.name} answers", 60
        )

    @property
    def lives(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """`kill -9` to all of its processes at once."""
        if self._process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            postmaster = psutil.Process(self._process.pid)
            for process in (postmaster, *postmaster.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process = None
        wait_until(self._has_ended, f"{self.host.name} has ended", 30)

    def _has_ended(self) -> bool:
        return not any(
            str(self.data) in " ".join(process.info["cmdline"] or ())
            for process in psutil.process_iter(["cmdline"])
            if process.info["cmdline"] and "postgres" in process.info["cmdline"][0]
        )

    def promote(self) -> float:
        """Make a standby the primary; the monotonic time at which that began."""
        self.configure(synchronous_standby_names="")
        began = time.monotonic()
        self.ask("SELECT pg_promote()")
        return began

    def configure(self, **settings: str) -> None:
        """Change settings that need no restart."""
        for name, value in settings.items():
            self.ask(f"ALTER SYSTEM SET {name} = '{value}'")
        self.ask("SELECT pg_reload_conf()")

    def ask(self, statement: str, *, database: str = DATABASE, quietly: bool = False, within: float = 60) -> str:
        """What a statement returns, as psql prints it; by the server's own socket, which no cut reaches."""
        place = ["-h", str(self.folder), "-p", str(self.port), "-U", DATABASE, "-d", database]
        command = [str(self._bin / "psql"), *place, "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement]
        done = subprocess.run(command, capture_output=True, text=True, timeout=within, check=False)
        if done.returncode and not quietly:
            raise AssertionError(f"{self.host.name}: {statement}: {done.stderr.strip()}")
        return done.stdout.strip()

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self.host.prefix, *as_owner(), str(self._bin / program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, timeout=300, check=False)
        assert not done.returncode, f"{program}: {done.stderr.strip()}"


class Pair:
    """Two database hosts: one has the primary, the other its standby or nothing."""

    def __init__(self, network: Network, folder: Path, *, synchronous: bool = True) -> None:
        """`synchronous` is whether the primary waits for its standby with each commit."""
        self.network = network
        self.synchronous = synchronous
        self._folder = folder
        self.hosts = [network.host(name) for name in ("db1", "db2")]
        self.ports = [network.port() for _ in self.hosts]
        self._servers = 0
        self._dead: Server | None = None
        self.primary = self._server(0)
        self.standby: Server | None = None

    def _server(self, number: int) -> Server:
        self._servers += 1
        return Server(
            self.hosts[number], self._folder / f"{self.hosts[number].name}-{self._servers}", self.ports[number]
        )

    def start(self) -> None:
        """Make the primary and its standby, and wait until the standby keeps up."""
        self.primary.make()
        self.primary.start()
        self.primary.ask(f"CREATE DATABASE {DATABASE}", database="postgres")
        self.rebuild()

    def url(self, host: Host) -> str:
        """The journal's URL for a gateway on this host: it names both database hosts."""
        ways = [self.network.way(host, there, port) for there, port in zip(self.hosts, self.ports, strict=True)]
        hosts = ",".join(f"{address}:{port}" for address, port in ways)
        return f"postgresql://{DATABASE}@{hosts}/{DATABASE}?sslmode=disable"

    def promote(self) -> float:
        """Kill what is left of the primary, and make the standby the primary; the monotonic time when that began."""
        assert self.standby is not None
        self.primary.kill()
        return self.replace_primary()

    def replace_primary(self) -> float:
        """Make the standby the primary, whatever the primary does; the monotonic time when that began."""
        assert self.standby is not None
        began = self.standby.promote()
        self._dead, self.primary, self.standby = self.primary, self.standby, None
        return began

    def rebuild(self) -> None:
        """Make a new standby on the other host, and wait until commits wait for it. What is left there goes."""
        other = 1 - self.hosts.index(self.primary.host)
        if self._dead is not None:
            shutil.rmtree(self._dead.data)
            self._dead = None
        server = self._server(other)
        server.follow(self.network, self.primary)
        server.start()
        if self.synchronous:
            self.primary.configure(synchronous_standby_names=server.host.name)
        self.standby = server
        self.wait_streaming()

    def wait_streaming(self, within: float = 60) -> None:
        """Wait until the standby keeps up (with `synchronous`, until commits wait for it)."""
        state = "sync_state = 'sync'" if self.synchronous else "state = 'streaming'"
        count = f"SELECT count(*) FROM pg_stat_replication WHERE {state}"
        wait_until(lambda: self.primary.ask(count) == "1", "the standby keeps up", within)

    def close(self) -> None:
        for server in (self.primary, self.standby):
            if server is not None:
                server.kill()


def wait_until(holds: Callable[[], bool], what: str, within: float, *, words: Callable[[], str] = lambda: "") -> None:
    """Wait for a condition of another process, and fail, with the end of its `words`, where it does not come."""
    deadline = time.monotonic() + within
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what}{words()[-2000:]}")
        time.sleep(0.02)
