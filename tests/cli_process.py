"""Runs `gateway` commands as processes that are forks of one process, which has imported what commands need: a command
starts in a hundredth of the time that an interpreter and its imports take."""

from __future__ import annotations

import atexit
import gc
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

GATEWAY = str(Path(sys.executable).with_name("gateway"))


class CliProcess:
    """A running command, with the methods of `subprocess.Popen` that tests use."""

    def __init__(
        self,
        arguments: Sequence[str | Path],
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: int,
        stderr: int,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        new_session: bool = False,
    ) -> None:
        """Start it on these three file descriptors, with `environment` over this process's own."""
        self.returncode: int | None = None
        request = {
            "arguments": [GATEWAY, *map(str, arguments)],
            "environment": {**os.environ, **(environment or {})},
            "directory": str(directory or Path.cwd()),
            "new_session": new_session,
        }
        self._status, theirs = socket.socketpair()
        with theirs, tempfile.TemporaryFile() as file, Path(os.devnull).open() as nothing:
            file.write(json.dumps(request).encode())
            file.flush()
            descriptors = [theirs.fileno(), file.fileno(), stdin, stdout, stderr]
            given = [nothing.fileno() if number == subprocess.DEVNULL else number for number in descriptors]
            socket.send_fds(_starter(), [b"!"], given)
        self._words = self._status.makefile("r")
        self.pid = int(self._words.readline())

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, or the negative number of a signal; raises `subprocess.TimeoutExpired`, as `Popen` does."""
        if self.returncode is None:
            ready = select.select([self._status], (), (), timeout)[0]
            if not ready:
                raise subprocess.TimeoutExpired("gateway", timeout or 0)
            self.returncode = int(self._words.readline())
            self._words.close()
            self._status.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run_cli(
    arguments: Sequence[str | Path],
    *,
    input: str | None = None,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """A command as a process of its own, for what only a process shows."""
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        stdin.write((input or "").encode())
        stdin.seek(0)
        process = CliProcess(
            arguments,
            stdin=stdin.fileno(),
            stdout=stdout.fileno(),
            stderr=stderr.fileno(),
            environment=environment,
            directory=directory,
        )
        try:
            code = process.wait(60)
        finally:
            process.kill()
        texts = [_read(file) for file in (stdout, stderr)]
    return subprocess.CompletedProcess(list(map(str, arguments)), code, *texts)


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode().replace("\r\n", "\n")


@cache
def _starter() -> socket.socket:
    """The way to the process that starts commands. It ends when this process does."""
    ours, theirs = socket.socketpair()
    with theirs:
        number = theirs.fileno()
        command = [sys.executable, __file__, str(number)]
        starter = subprocess.Popen(command, pass_fds=[number], stdin=subprocess.DEVNULL, process_group=0)

    def end() -> None:
        ours.close()
        starter.wait()

    atexit.register(end)
    return ours


def _serve(control: socket.socket) -> None:
    """Start a command for each request, and report its process id and how it ended."""
    woken, wakeup = socket.socketpair()
    for end in (woken, wakeup):
        end.setblocking(False)
    signal.set_wakeup_fd(wakeup.fileno())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, int] = {}
    while True:
        ready = select.select([control, woken], (), ())[0]
        if woken in ready:
            woken.recv(4096)
            while running and (ended := os.waitpid(-1, os.WNOHANG))[0]:
                status = running.pop(ended[0])
                with suppress(OSError):
                    os.write(status, b"%d\n" % os.waitstatus_to_exitcode(ended[1]))
                os.close(status)
        if control in ready:
            data, descriptors, _, _ = socket.recv_fds(control, 1, 5)
            if not data:
                return
            process = os.fork()
            if process == 0:
                for end in (control, woken, wakeup):
                    end.close()
                for status in running.values():
                    os.close(status)
                _become(descriptors)
            status, *others = descriptors
            os.write(status, b"%d\n" % process)
            running[process] = status
            for descriptor in others:
                os.close(descriptor)


def _become(descriptors: list[int]) -> None:
    """Be the command of a request, as if an interpreter had just started it."""
    _, file, *streams = descriptors
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background may ignore it
        request = json.loads(os.pread(file, os.fstat(file).st_size, 0))
        for number, descriptor in enumerate(streams):
            os.dup2(descriptor, number)
        for descriptor in descriptors:
            os.close(descriptor)
        if request["new_session"]:
            os.setsid()
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["directory"])
        sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        sys.argv = request["arguments"]
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)))
        sys.stdout = _writer(1)
        sys.stderr = _writer(2, errors="backslashreplace", line_buffering=True)
        from gateway.cli import main

        main()
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        _flush()
        os._exit(code)
    except BaseException:
        traceback.print_exc()
        _flush()
        os._exit(1)
    _flush()
    os._exit(0)


def _writer(number: int, **options: Any) -> io.TextIOWrapper:
    """Standard output or error as an interpreter opens it: buffered by lines on a terminal."""
    options = {"line_buffering": os.isatty(number), "write_through": False, **options}
    return io.TextIOWrapper(io.BufferedWriter(io.FileIO(number, "w", closefd=False)), **options)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()


if __name__ == "__main__":
    import importlib

    from gateway.cli import SECTIONS

    sys.path.remove(str(Path(__file__).parent))
    for names in SECTIONS.values():
        for name in names:
            importlib.import_module(f"gateway.cli.{name.replace('-', '_')}")
    for module in ("gateway.preflight", "gateway.service", "httpx", "rich.table", "rich.progress"):
        importlib.import_module(module)
    gc.freeze()
    with socket.socket(fileno=int(sys.argv[1])) as control:
        _serve(control)
