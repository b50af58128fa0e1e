"""POST figures: the gateway over an empty Litestar handler and over a receiver written by hand, in one run.

    python benchmarks/post.py [--seconds 10] [--rounds 3] [--connections 64]

The server runs on one core and wrk on another. Each round measures every subject once, in turn, so that the machine's
drift hits all of them; ratios are taken within a round and the median round is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from gateway.config.load import load_config
from gateway.http import tokens

HERE = Path(__file__).parent
SECRET = "a secret of thirty-two bytes or more"
SERVER_CORE, LOAD_CORE = "0", "1"
BUNDLED = """
[plugins.logging]
output = "events.log"

[plugins.archive]
directory = "archive"
"""


class Subject:
    """Something that answers POSTs: a process, its URL and what its readiness looks like."""

    def __init__(self, name: str, command: list[str], port: int, directory: Path) -> None:
        self.name = name
        self.port = port
        self.directory = directory
        self.output = (directory / f"{name}.out").open("wb")
        self.process = subprocess.Popen(
            ["taskset", "-c", SERVER_CORE, *command],
            cwd=directory,
            stdout=self.output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise SystemExit(f"{name} does not start; see {self.output.name}") from None
                time.sleep(0.05)

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def gateway(name: str, directory: Path, text: str) -> tuple[Subject, int]:
    directory.mkdir()
    (directory / "webio.secret").write_text(SECRET)
    port, admin = free_port(), free_port()
    (directory / "config.toml").write_text(
        f"[server]\nport = {port}\n[admin]\nport = {admin}\n"
        f'[organisations.acme]\nsecrets = [{{ file = "webio.secret" }}]\n{text}'
    )
    return Subject(name, [str(Path(sys.executable).with_name("gateway")), "run"], port, directory), admin


class Load:
    """wrk with unique bodies."""

    def __init__(self, token: str, seconds: int) -> None:
        self.token = token
        self.seconds = seconds
        self.start = int(time.time()) % 100_000 * 10_000_000

    def on(self, subject: Subject, connections: int) -> dict[str, Any]:
        self.start += 10_000_000
        url = f"http://127.0.0.1:{subject.port}"
        wrk = ["wrk", "-t1", f"-c{connections}", f"-d{self.seconds}s", "--latency", "-s", str(HERE / "load.lua"), url]
        done = subprocess.run(
            ["taskset", "-c", LOAD_CORE, *wrk],
            env={**os.environ, "TOKEN": self.token, "START": str(self.start)},
            capture_output=True,
            text=True,
            check=True,
        )
        figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        figures["rate"] = figures["requests"] / figures["seconds"]
        if figures["not_2xx"] or figures["failed"]:
            print(f"  {subject.name}: {figures['not_2xx']} answers were no 2xx, {figures['failed']} failed")
        return figures


def behind(admin: int) -> int:
    """How far the slowest plugin is behind."""
    plugins = httpx.get(f"http://127.0.0.1:{admin}/health/ready", timeout=30).json()["plugins"]
    return max((int(plugin["behind"]) for plugin in plugins), default=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is needed (Debian: apt-get install wrk)")
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        run(Path(folder), options)


def run(folder: Path, options: argparse.Namespace) -> None:
    (folder / "floors").mkdir()
    floors = [sys.executable, str(HERE / "floors.py")]
    empty_port, hand_port = free_port(), free_port()
    bare, _ = gateway("gateway", folder / "bare", "")
    full, admin = gateway("gateway-with-plugins", folder / "full", BUNDLED)
    empty = Subject("litestar-empty", [*floors, "litestar", str(empty_port)], empty_port, folder / "floors")
    hand = Subject(
        "by-hand",
        [*floors, "fastapi", str(hand_port), str(folder / "floors/events.db"), SECRET],
        hand_port,
        folder / "floors",
    )
    subjects = [empty, bare, full, hand]
    token = tokens.mint(load_config(folder / "bare/config.toml").organisations["acme"])
    load = Load(token, options.seconds)
    rates: dict[str, list[float]] = {subject.name: [] for subject in subjects}
    tails: dict[str, list[float]] = {empty.name: [], bare.name: []}
    backlogs = []
    try:
        for subject in subjects:
            Load(token, 1).on(subject, options.connections)
        for number in range(options.rounds):
            for subject in subjects:
                rates[subject.name].append(load.on(subject, options.connections)["rate"])
                if subject is full:
                    backlogs.append(behind(admin))
                    while behind(admin):
                        time.sleep(0.05)
            for subject in (empty, bare):
                tails[subject.name].append(load.on(subject, 16)["p99_ms"])
            print(
                f"round {number + 1}:",
                {name: round(values[-1]) for name, values in rates.items()},
                {f"p99 {name}": round(values[-1], 2) for name, values in tails.items()},
                f"backlog {backlogs[-1]}",
            )
    finally:
        for subject in subjects:
            subject.stop()

    def ratio(over: Subject, under: Subject, of: dict[str, list[float]]) -> float:
        return statistics.median(a / b for a, b in zip(of[over.name], of[under.name], strict=True))

    print(
        f"durable POST over empty Litestar handler, {options.connections} connections: {ratio(bare, empty, rates):.2f}"
    )
    print(f"the same with logging and archive on: {ratio(full, empty, rates):.2f}; backlog at the end {max(backlogs)}")
    print(f"durable POST over one written by hand, a commit per request: {ratio(bare, hand, rates):.1f}")
    print(f"p99 at 16 connections over that of the empty handler: {ratio(bare, empty, tails):.2f}")


if __name__ == "__main__":
    main()
