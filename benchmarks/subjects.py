"""A gateway on one core and its load on another, for the benchmarks of the delivery."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [
    str(HERE.parent / "tests"),
    str(HERE.parent / "tests" / "torture"),
    str(HERE.parent / "tests" / "plugins"),
]

from victim import Victim  # noqa: E402

from gateway import simulate  # noqa: E402

SERVER_CORE, LOAD_CORE = "0", "1"


@contextlib.contextmanager
def running(victim: Victim) -> Iterator[Victim]:
    """Started on its core; stopped at the end."""
    try:
        victim.start(["taskset", "-c", SERVER_CORE])
        yield victim
        victim.terminate()
    finally:
        victim.kill()


def flood(victim: Victim, seconds: float, connections: int) -> dict[str, Any]:
    """As many events as go, by wrk: `rate` a second, `p99_ms`, `not_2xx`, `failed`."""
    start = int(time.time() * 1000) % 100_000_000 * 10_000
    done = subprocess.run(
        [
            *("taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency"),
            *("-s", str(HERE / "load.lua"), f"http://127.0.0.1:{victim.config.server.port}"),
        ],
        env={**os.environ, "TOKEN": simulate.token(victim.config.organisations["acme"]), "START": str(start)},
        capture_output=True,
        text=True,
        check=True,
    )
    figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    figures["rate"] = figures["requests"] / figures["seconds"]
    return figures


def steady(victim: Victim, rate: float, seconds: float, field: str | None = None) -> dict[str, Any]:
    """Events at a steady rate, or requests for the value of `field`; see `steady.py`."""
    done = subprocess.run(
        [
            *("taskset", "-c", LOAD_CORE, sys.executable, str(HERE / "steady.py"), str(victim.config_path)),
            *("--rate", str(rate), "--seconds", str(seconds)),
            *(() if field is None else ("--ask", field)),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def delivered(victim: Victim, plugin: str) -> float:
    """How many events a plugin has taken since the gateway started."""
    url = f"http://127.0.0.1:{victim.config.admin.port}/metrics"
    with urllib.request.urlopen(url, timeout=30) as response:
        for line in response.read().decode().splitlines():
            if line.startswith(f'gateway_deliveries_total{{plugin="{plugin}"}}'):
                return float(line.rpartition(" ")[2])
    raise LookupError(plugin)


def behind(victim: Victim, plugin: str) -> int:
    """How many events a plugin has yet to take."""
    [found] = [one for one in victim.ready()[1]["plugins"] if one["name"] == plugin]
    return int(found["behind"]) + int(found["parked"])
