"""A gateway that is there to be killed: its processes by name, its end waited for, its words kept in a file."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
from cli_process import GATEWAY, CliProcess, run_cli
from machine import watch_group
from running import write_config, write_plugin

from gateway.config.load import load_config
from gateway.config.tables import Config
from gateway.journal.lock import JournalLock

READY_WITHIN = 30.0

RECORDER = """
import os, random
from gateway import hookimpl

class Plugin:
    '''Writes down what it takes, at once, and fails now and then.'''

    @hookimpl
    def startup(self, context):
        path = context.directory / 'recorded'
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    @hookimpl
    def on_event(self, event):
        if random.random() < 0.01:
            raise RuntimeError('not this time')
        os.write(self.file, f'{event.id} {event.redelivered:d}\\n'.encode())
"""
"""A plugin whose file tells, also after `kill -9`, what it was given, in which order, and whether that was a repeat."""

DEADLY = """
import asyncio, ctypes, os, signal
from gateway import hookimpl

class Plugin:
    '''Does not survive some of its events; writes down the others.'''

    @hookimpl
    def startup(self, context):
        self.file = os.open(context.directory / 'survived', os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    @hookimpl
    {define} on_event(self, event):
        if event.fields()['communicationActionId'] in {deadly}:
            {end}
        os.write(self.file, event.id.encode() + b'\\n')
"""
"""A plugin whose process ends over some of its events: in `define on_event`, by the statements `end`, at `deadly`."""


class Victim:
    """`gateway run` in `directory`, with the archive, and further `plugins` (name to source) as `text` sets them."""

    def __init__(self, directory: Path, text: str = "", plugins: dict[str, str] | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        for name, source in (plugins or {}).items():
            write_plugin(directory / "site", name, source)
        self.config_path = write_config(directory, f'{text}\n[plugins.archive]\ndirectory = "archive"\n')
        self.config: Config = load_config(self.config_path)
        self.directory = directory
        self.log = directory / "gateway.log"
        path = os.pathsep.join(filter(None, [str(directory / "site"), os.environ.get("PYTHONPATH", "")]))
        self.environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": path}
        self.process: subprocess.Popen[bytes] | CliProcess | None = None

    def spawn(self, prefix: Sequence[str] = ()) -> None:
        """Start it, and do not wait; `prefix` is a command that runs it."""
        with self.log.open("ab") as log:
            arguments = ["run", "-c", str(self.config_path)]
            if prefix:
                self.process = subprocess.Popen(
                    [*prefix, GATEWAY, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.directory,
                    env=self.environment,
                    start_new_session=True,
                )
            else:
                output = log.fileno()
                self.process = self._command(arguments, output, new_session=True)
        watch_group(self.process.pid)

    def start(self, prefix: Sequence[str] = ()) -> None:
        """Start it, and return once it takes events."""
        self.spawn(prefix)
        self.wait_ready()

    def ready(self) -> tuple[int, dict[str, Any]]:
        """The answer of `/health/ready`; status 0 where there is none."""
        url = f"http://127.0.0.1:{self.config.admin.port}/health/ready"
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())
        except (OSError, ValueError):
            return 0, {}

    def wait_ready(self, within: float = READY_WITHIN) -> float:
        """Wait until it is ready; how many seconds that took."""
        return self.wait(lambda: self.ready()[0] == 200, "ready", within)

    def wait_delivered(self, within: float = 60.0) -> float:
        """Wait until every plugin has everything."""

        def delivered() -> bool:
            status, details = self.ready()
            return status == 200 and not any(plugin["behind"] or plugin["parked"] for plugin in details["plugins"])

        return self.wait(delivered, "delivered", within)

    def wait(self, condition: Callable[[], bool], what: str, within: float) -> float:
        """Wait for a condition, and fail with the gateway's own words where it does not come."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > within:
                raise AssertionError(f"not {what} within {within:g} s; the log ends with:\n{self.words()[-4000:]}")
            time.sleep(0.02)
        return time.monotonic() - began

    @property
    def supervisor(self) -> int:
        """The process id of the supervisor (under a prefix, its first child that is a gateway)."""
        assert self.process is not None
        return self.process.pid

    def workers(self) -> list[int]:
        """The process ids of the workers that live now."""
        try:
            children = psutil.Process(self.supervisor).children()
        except psutil.NoSuchProcess:
            return []
        return [child.pid for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]

    def kill(self) -> None:
        """`kill -9` to all of its processes at once; returns when they are gone."""
        if self.process is None:
            return
        pids = [self.supervisor, *self.workers()]
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.supervisor, signal.SIGKILL)
        self.process.wait()
        self.wait(lambda: not any(alive(pid) for pid in pids), "gone", 10)
        self.wait_gone()

    def wait_gone(self, within: float = 10.0) -> float:
        """Wait until the last of its threads has let go of journal and ports."""
        ports = (self.config.server.port, self.config.admin.port)
        lock = JournalLock(self.config.journal.path)
        return self.wait(lambda: not lock.is_held() and all(map(is_free, ports)), "gone", within)

    def terminate(self, within: float = 10.0) -> tuple[int, float]:
        """SIGTERM; the exit code, and how many seconds it took. Killed, and code -9, where that was too long."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()
            code = -signal.SIGKILL
        return code, time.monotonic() - began

    def words(self) -> str:
        """Everything it wrote."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def operate(self, *arguments: str) -> CliProcess:
        """Start another `gateway` command, and neither wait for it nor check how it ends."""
        return self._command([*arguments, "-c", str(self.config_path)], subprocess.DEVNULL)

    def cli(self, *arguments: str) -> str:
        """What another `gateway` command prints; it must succeed."""
        command = [*arguments, "-c", str(self.config_path)]
        done = run_cli(command, environment=self.environment, directory=self.directory)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _command(self, arguments: list[str], output: int, new_session: bool = False) -> CliProcess:
        return CliProcess(
            arguments,
            stdout=output,
            stderr=output,
            environment=self.environment,
            directory=self.directory,
            new_session=new_session,
        )


def is_free(port: int) -> bool:
    """Whether a port of this machine is free."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
