"""What the tests take from the machine: ports that no other test process uses, and processes that end with the run."""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
from contextlib import suppress
from functools import cache

FIRST_PORT = 10_000
LAST_PORT = 32_700
"""Below the range from which Linux (32768 on) and macOS (49152 on) take the ports of outgoing connections."""
BLOCK = 100

_REAPER = """
import os, signal, sys

def running(group):
    try:
        os.killpg(group, 0)
    except OSError:
        return False
    return True

groups = set()
for line in sys.stdin:
    groups = {int(line), *filter(running, groups)}
for group in filter(running, groups):
    os.killpg(group, signal.SIGKILL)
"""
"""Reads process groups, one a line, until the test process has ended; kills those that still run."""


class _Ports:
    """A block of ports for this process. Its first port stays bound, so that another process takes another block."""

    def __init__(self) -> None:
        worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
        starts = range(FIRST_PORT, LAST_PORT, BLOCK)
        for number in range(len(starts)):
            self._start = starts[(worker + number) % len(starts)]
            with suppress(OSError):
                self._claim = socket.create_server(("127.0.0.1", self._start))
                break
        else:
            raise OSError(f"no free block of {BLOCK} ports from {FIRST_PORT} to {LAST_PORT}")
        self._next = 0

    def take(self) -> int:
        """A port of the block that nothing listens on. A port comes again only after all others of the block."""
        for _ in range(BLOCK):
            self._next = self._next % (BLOCK - 1) + 1
            with suppress(OSError):
                socket.create_server(("127.0.0.1", self._start + self._next)).close()
                return self._start + self._next
        raise OSError(f"no free port from {self._start} to {self._start + BLOCK - 1}")


@cache
def _ports() -> _Ports:
    return _Ports()


def free_ports(count: int) -> list[int]:
    """Ports on which nothing listens, all different. No other test process is given them."""
    return [_ports().take() for _ in range(count)]


@cache
def _reaper() -> subprocess.Popen[str]:
    command = [sys.executable, "-I", "-S", "-c", _REAPER]
    reaper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, process_group=0)

    def end() -> None:
        assert reaper.stdin is not None
        reaper.stdin.close()
        reaper.wait()

    atexit.register(end)
    return reaper


def watch_group(group: int) -> None:
    """Kill this process group when the test process has ended, however it ends (interrupted, killed)."""
    reaper = _reaper()
    assert reaper.stdin is not None
    reaper.stdin.write(f"{group}\n")
    reaper.stdin.flush()
