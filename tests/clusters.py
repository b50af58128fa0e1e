"""PostgreSQL servers of a test's own, from the binaries of this machine: to be stopped, killed and misconfigured.

`GATEWAY_TEST_POSTGRESQL_BIN` names the folder of the binaries; without it they are where Debian puts them, or on the
path. Where there are none, tests are skipped; in CI (`CI=true`) they fail.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from machine import free_ports, watch_group
from schemas import execute

USER: Final = "postgres"
"""Who runs the servers where this process is root, as whom PostgreSQL does not start."""
MEMORY: Final = Path("/dev/shm")
SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "fsync": "on",
    "max_connections": "60",
    "shared_buffers": "16MB",
    "wal_receiver_timeout": "5s",
    "wal_sender_timeout": "5s",
    "wal_retrieve_retry_interval": "200ms",
}


def binaries() -> Path:
    """The folder of PostgreSQL's programs. Skips the test where there is none; fails it in CI."""
    named = os.environ.get("GATEWAY_TEST_POSTGRESQL_BIN")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    found = shutil.which("initdb")
    places = [Path(named)] if named else [*reversed(debian), *([Path(found).resolve().parent] if found else [])]
    for place in places:
        if (place / "initdb").exists():
            return place
    message = "no PostgreSQL programs (GATEWAY_TEST_POSTGRESQL_BIN, or the package postgresql)"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


class Cluster:
    """One server in a folder of its own. `url` is the address of its database `gateway`, whose owner is `gateway`."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.port = free_ports(1)[0]
        self.url = f"postgresql://gateway@127.0.0.1:{self.port}/gateway"
        self.settings = SETTINGS | settings
        self._bin = binaries()
        self._server: subprocess.Popen[bytes] | None = None

    def make(self) -> None:
        """Make an empty server that trusts this machine."""
        self._prepare()
        self.run("initdb", "-D", "data", "-A", "trust", "-U", "gateway", "-E", "UTF8", "--no-locale", "--no-sync")
        with (self.folder / "data" / "postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in self.settings.items())

    def follow(self, primary: Cluster) -> None:
        """Become a standby of another server, which runs; its name for `synchronous_standby_names` is `standby`."""
        self._prepare()
        source = f"host=127.0.0.1 port={primary.port} user=gateway application_name=standby"
        self.run("pg_basebackup", "-d", source, "-D", "data", "-R", "-c", "fast", "--no-sync")

    def _prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            shutil.chown(self.folder, USER, USER)

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs in the server's folder."""
        done = subprocess.run(
            [*_as_owner(), str(self._bin / program), *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{program}: {done.stderr}"

    def start(self, **settings: str) -> None:
        """Start it, with further settings, and return once it answers. The database is made by the first start."""
        options = [f"--{name}={value}" for name, value in settings.items()]
        with (self.folder / "server.log").open("ab") as log:
            self._server = subprocess.Popen(
                [*_as_owner(), str(self._bin / "postgres"), "-D", "data", "-p", str(self.port), "-k", "", *options],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        watch_group(self._server.pid)
        deadline = time.monotonic() + 60
        while True:
            assert self._server.poll() is None, (self.folder / "server.log").read_text()
            try:
                if not execute(self.admin, "SELECT 1 FROM pg_database WHERE datname = 'gateway'"):
                    execute(self.admin, "CREATE DATABASE gateway")
                return
            except Exception:  # it starts
                assert time.monotonic() < deadline, (self.folder / "server.log").read_text()
                time.sleep(0.02)

    @property
    def admin(self) -> str:
        """The address of the database `postgres`."""
        return f"postgresql://gateway@127.0.0.1:{self.port}/postgres"

    def execute(self, *statements: str) -> list[Any]:
        """Run statements in the database; the rows of the last one."""
        return execute(self.url, *statements)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: fast (SIGINT), immediately (SIGQUIT), or `kill -9` (SIGKILL)."""
        if self._server is None:
            return
        self._server.send_signal(how)
        self._server.wait(60)
        self._server = None

    def change(self, **settings: str) -> None:
        """Change settings that need no restart, for sessions that there are, too."""
        for name, value in settings.items():
            execute(self.admin, f"ALTER SYSTEM SET {name} = '{value}'")
        execute(self.admin, "SELECT pg_reload_conf()")

    def promote(self) -> None:
        """Make a standby the primary."""
        execute(self.admin, "SELECT pg_promote()")


def _as_owner() -> list[str]:
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups"] if os.geteuid() == 0 else []


@contextlib.contextmanager
def clusters(count: int = 1, **settings: str) -> Iterator[list[Cluster]]:
    """So many servers, none made yet; they are stopped and their folders deleted at the end."""
    place = MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 2**30 else None
    folder = Path(tempfile.mkdtemp(prefix="gateway-postgresql-", dir=place))
    folder.chmod(0o755)
    made = [Cluster(folder / str(number), **settings) for number in range(count)]
    try:
        yield made
    finally:
        for one in made:
            one.stop(signal.SIGQUIT)
        shutil.rmtree(folder, ignore_errors=True)
