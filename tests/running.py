"""A config in a folder of its own, plugins made on the spot, and a gateway that really runs; see `conftest.py`."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from cli_process import CliProcess, run_cli
from machine import free_ports, watch_group

from gateway.config.load import load_config
from gateway.config.tables import Config
from gateway.simulate import Client

SECRET = "a secret of thirty-two bytes or more"
READY_WITHIN = 20.0
STOPPED_WITHIN = 10.0


def write_config(directory: Path, text: str = "", *, admin: str = "") -> Path:
    """A config file in `directory` with one organisation, `acme`, listeners on free ports, and `text` after them.
    `text` may hold keys of [server] at its top, before its first table; `admin` has further keys of [admin]."""
    public, own = free_ports(2)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "webio.secret").write_text(SECRET)
    (directory / "webio.secret").chmod(0o600)
    path = directory / "config.toml"
    path.write_text(
        f"[admin]\nport = {own}\n{admin}\n\n"
        '[organisations.acme]\nsecrets = [{ file = "webio.secret" }]\n\n'
        f"[server]\nport = {public}\n{textwrap.dedent(text)}"
    )
    return path


def read_config(directory: Path, text: str = "") -> Config:
    """The config that `write_config` writes."""
    return load_config(write_config(directory, text))


def write_plugin(folder: Path, name: str, source: str, *, version: str = "1.0") -> None:
    """Make an installed distribution of one plugin, as a third party would publish it, in `folder` (which must be
    on the path). The source defines a class named `Plugin`."""
    folder.mkdir(parents=True, exist_ok=True)
    module = f"plugin_{name}"
    (folder / f"{module}.py").write_text(textwrap.dedent(source))
    metadata = folder / f"{module}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module.replace('_', '-')}\nVersion: {version}\n")
    (metadata / "entry_points.txt").write_text(f"[gateway.plugins]\n{name} = {module}:Plugin\n")


class RunningGateway:
    """`gateway run` as a process of its own: the supervisor, which has its worker as a child."""

    def __init__(self, config_path: Path, *, environment: dict[str, str] | None = None) -> None:
        self.config_path = config_path
        self.config: Config = load_config(config_path)
        self.output: list[str] = []
        self._environment = {"PYTHONUNBUFFERED": "1", **(environment or {})}
        self._changed = threading.Condition()
        self._ended = False
        self.start()

    @property
    def directory(self) -> Path:
        return self.config.directory

    @property
    def url(self) -> str:
        """The callback URL."""
        return f"http://127.0.0.1:{self.config.server.port}{self.config.server.path}"

    @property
    def admin_url(self) -> str:
        return f"http://127.0.0.1:{self.config.admin.port}"

    @property
    def text(self) -> str:
        """Everything the process wrote so far, standard output and standard error together."""
        return "".join(self.output)

    def client(self, organisation: str = "acme", **options: Any) -> Client:
        return Client(self.config, organisation, **options)

    def start(self) -> None:
        """Start the process, and return once both listeners accept connections."""
        self._ended = False
        seen = len(self.output)
        output, theirs = os.pipe()
        try:
            self.process = CliProcess(
                ["run", "-c", self.config_path],
                stdout=theirs,
                stderr=theirs,
                environment=self._environment,
                directory=self.directory,
                new_session=True,
            )
        finally:
            os.close(theirs)
        watch_group(self.process.pid)
        self._reader = threading.Thread(target=self._read, args=(os.fdopen(output),), daemon=True)
        self._reader.start()
        for listener in ("gateway: webhooks at ", "gateway: admin at "):
            self.wait_for_line(listener, after=seen, within=READY_WITHIN)

    def _read(self, output: IO[str]) -> None:
        with output:
            for line in output:
                with self._changed:
                    self.output.append(line)
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for_line(self, part: str, *, after: int = 0, within: float = 10.0) -> str:
        """The first line (from number `after` on) that has `part` in it; fails when none comes in time."""
        deadline = time.monotonic() + within
        with self._changed:
            while True:
                for line in self.output[after:]:
                    if part in line:
                        return line
                left = deadline - time.monotonic()
                if self._ended or left <= 0:
                    break
                self._changed.wait(left)
        self.kill()
        raise AssertionError(f"no line with {part!r} came; the output was:\n{self.text}")

    def cli(self, *arguments: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run another `gateway` command beside it."""
        return self.cli_with(self.config_path, *arguments, input=input)

    def cli_with(self, config: Path, *arguments: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command with the same plugins installed and another config."""
        command = [*arguments, "-c", str(config)]
        return run_cli(command, input=input, environment=self._environment, directory=config.parent)

    def stop(self) -> int:
        """SIGTERM, as a service manager does; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"still running {STOPPED_WITHIN} s after SIGTERM; the output was:\n{self.text}"
            ) from None
        self._reader.join(5)
        return code

    def kill(self) -> None:
        """SIGKILL to all of its processes at once, as a power cut would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join(5)


@contextlib.contextmanager
def running(
    directory: Path,
    text: str = "",
    *,
    admin: str = "",
    plugins: dict[str, str] | None = None,
    environment: dict[str, str] | None = None,
) -> Iterator[RunningGateway]:
    """A gateway with `text` and `admin` in its config (see `write_config`), `plugins` (name to source, see
    `write_plugin`) installed for it, and `environment` over this process's own. At the end it is stopped and must exit
    0, without a traceback in its output, unless the test killed it."""
    site = directory / "site"
    for name, source in (plugins or {}).items():
        write_plugin(site, name, source)
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")]))
    gateway = RunningGateway(
        write_config(directory, text, admin=admin), environment={"PYTHONPATH": path, **(environment or {})}
    )
    try:
        yield gateway
        code = gateway.stop()
        assert code in (0, -signal.SIGKILL), f"exited {code}; the output was:\n{gateway.text}"
        assert "Traceback" not in gateway.text, gateway.text
    finally:
        gateway.kill()


def eventually(holds: Callable[[], bool], *, within: float = 30.0) -> None:
    """Wait until `holds()` is true, because of another process. Fails after `within` seconds."""
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


def on_a_terminal(
    arguments: Sequence[str | Path], *, answer: str = "", environment: dict[str, str] | None = None, columns: int = 120
) -> tuple[int, str]:
    """A `gateway` command on a terminal of its own, so many columns wide, with `answer` typed: its exit code, and what
    was to be seen."""
    terminal, ours = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    shown = {"TERM": "xterm-256color", **(environment or {})}
    process = CliProcess(arguments, stdin=ours, stdout=ours, stderr=ours, environment=shown)
    os.close(ours)
    if answer:
        os.write(terminal, answer.encode())
    seen = b""
    with contextlib.suppress(OSError):  # Linux: the last one on the other side has left
        while data := os.read(terminal, 65536):
            seen += data
    os.close(terminal)
    return process.wait(20), seen.decode()
