"""The rate of durable POSTs: the gateway beside an earlier commit of it, an empty Litestar handler and a receiver
written by hand, in one run.

    python benchmarks/post.py [--against REV] [--seconds 10] [--rounds 3]

The server runs on one core and wrk on another. Each round measures every subject once, in turn, so that the machine's
drift affects all of them; ratios are taken within a round and the median round is printed, with its goal. The commit to
compare with is installed into an environment of its own, which is kept for the next run.
"""

from __future__ import annotations

import argparse
import contextlib
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
from typing import Any, NamedTuple

import httpx
import psutil

from gateway.config.load import load_config
from gateway.http import tokens

HERE = Path(__file__).parent
SECRET = "a secret of thirty-two bytes or more"
SERVER_CORE, LOAD_CORE = "0", "1"
GATEWAY = Path(sys.executable).with_name("gateway")
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

    def cpu_seconds(self) -> float:
        """The processor time of its processes so far."""
        processes = [psutil.Process(self.process.pid)]
        times = [one.cpu_times() for one in (*processes, *processes[0].children(recursive=True))]
        return float(sum(one.user + one.system for one in times))

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def gateway(name: str, directory: Path, text: str, command: Path = GATEWAY) -> tuple[Subject, int]:
    """A gateway that runs, and its admin port."""
    directory.mkdir()
    (directory / "webio.secret").write_text(SECRET)
    port, admin = free_port(), free_port()
    (directory / "config.toml").write_text(
        f"[server]\nport = {port}\n[admin]\nport = {admin}\n"
        f'[organisations.acme]\nsecrets = [{{ file = "webio.secret" }}]\n{text}'
    )
    return Subject(name, [str(command), "run"], port, directory), admin


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
        before = subject.cpu_seconds()
        done = subprocess.run(
            ["taskset", "-c", LOAD_CORE, *wrk],
            env={**os.environ, "TOKEN": self.token, "START": str(self.start)},
            capture_output=True,
            text=True,
            check=True,
        )
        figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        figures["rate"] = figures["requests"] / figures["seconds"]
        figures["cpu_us"] = (subject.cpu_seconds() - before) * 1e6 / figures["requests"]
        if figures["not_2xx"] or figures["failed"]:
            print(f"  {subject.name}: {figures['not_2xx']} answers were no 2xx, {figures['failed']} failed")
        return figures


def behind(admin: int) -> int:
    """How far the slowest plugin is behind."""
    plugins = httpx.get(f"http://127.0.0.1:{admin}/health/ready", timeout=30).json()["plugins"]
    return max((int(plugin["behind"]) for plugin in plugins), default=0)


def installed(revision: str) -> Path:
    """The command `gateway` of a commit of this repository."""
    git = ["git", "-C", str(HERE.parent)]
    commit = subprocess.run([*git, "rev-parse", revision], capture_output=True, text=True, check=True).stdout.strip()
    folder = Path(tempfile.gettempdir()) / f"gateway-{os.getuid()}-{commit[:12]}"
    done = folder / "installed"
    if not done.exists():
        print(f"installing {commit[:12]} into {folder}", flush=True)
        (folder / "source").mkdir(parents=True, exist_ok=True)
        archive = subprocess.run([*git, "archive", commit], capture_output=True, check=True).stdout
        subprocess.run(["tar", "-x", "-C", str(folder / "source")], input=archive, check=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
        pip = [str(folder / "venv/bin/python"), "-m", "pip", "install", "--quiet", str(folder / "source")]
        subprocess.run(pip, check=True)
        done.touch()
    return folder / "venv/bin/gateway"


class Round:
    """What one round measured by subject and connections: rates a second, 99th percentiles (ms), and processor time a
    request (microseconds), which tells more than the rate where other work takes the cores."""

    def __init__(self) -> None:
        self.rate: dict[tuple[str, int], float] = {}
        self.p99: dict[tuple[str, int], float] = {}
        self.cpu: dict[tuple[str, int], float] = {}


class Goal(NamedTuple):
    """A ratio of two subjects: `at_least` for rates, otherwise at most, for 99th percentiles."""

    text: str
    over: tuple[str, int]
    under: tuple[str, int]
    goal: float
    at_least: bool = True

    def show(self, rounds: list[Round]) -> str:
        tables = [one.rate if self.at_least else one.p99 for one in rounds]
        ratio = statistics.median(table[self.over] / table[self.under] for table in tables)
        met = ratio >= self.goal if self.at_least else ratio <= self.goal
        sign = ">=" if self.at_least else "<="
        return f"{self.text}: {ratio:.2f} (goal {sign} {self.goal:g}{'' if met else ', MISSED'})"


GOALS = [
    Goal("durable POST over the earlier commit, 64 connections", ("now", 64), ("then", 64), 1.4),
    Goal("durable POST over the earlier commit, 16 connections", ("now", 16), ("then", 16), 1.5),
    Goal("p99 over that of the earlier commit, 64 connections", ("now", 64), ("then", 64), 1.0, at_least=False),
    Goal("p99 over that of the earlier commit, 16 connections", ("now", 16), ("then", 16), 1.0, at_least=False),
    Goal("with logging and archive, 64 connections", ("now-plugins", 64), ("then-plugins", 64), 1.3),
    Goal("durable POST over an empty Litestar handler, 64 connections", ("now", 64), ("empty", 64), 1.3),
    Goal("durable POST over one written by hand, a commit per request", ("now", 64), ("by-hand", 64), 8),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", metavar="REV", help="a commit to compare with")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", metavar="SUBJECT", help="now, then, now-plugins, then-plugins, ...")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is needed (Debian: apt-get install wrk)")
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, contextlib.ExitStack() as stack:
        run(Path(folder), options, stack)


def run(folder: Path, options: argparse.Namespace, stack: contextlib.ExitStack) -> None:
    commands = {"now": GATEWAY}
    if options.against:
        commands["then"] = installed(options.against)
    subjects: dict[str, Subject] = {}
    admins: dict[str, int] = {}
    for name, command in commands.items():
        for kind, text in ((name, ""), (f"{name}-plugins", BUNDLED)):
            if not options.only or kind in options.only:
                subjects[kind], admins[kind] = gateway(kind, folder / kind, text, command)
    (folder / "floors").mkdir()
    for name, arguments in {
        "empty": ["litestar"],
        "by-hand": ["fastapi", str(folder / "floors/events.db"), SECRET],
    }.items():
        if not options.only or name in options.only:
            port = free_port()
            floor = [sys.executable, str(HERE / "floors.py"), arguments[0], str(port), *arguments[1:]]
            subjects[name] = Subject(name, floor, port, folder / "floors")
    for subject in subjects.values():
        stack.callback(subject.stop)
    token = tokens.mint(load_config(folder / "now/config.toml").organisations["acme"])
    load = Load(token, options.seconds)
    for subject in subjects.values():
        Load(token, 1).on(subject, 64)
    rounds: list[Round] = []
    for number in range(options.rounds):
        rounds.append(measured := Round())
        for connections in (64, 16):
            for name, subject in subjects.items():
                if connections == 64 or name in commands:
                    figures = load.on(subject, connections)
                    measured.rate[name, connections] = figures["rate"]
                    measured.p99[name, connections] = figures["p99_ms"]
                    measured.cpu[name, connections] = figures["cpu_us"]
                if name.endswith("-plugins"):
                    while behind(admins[name]):
                        time.sleep(0.05)
        shown = [f"{n} {c}: {rate:.0f}/s {measured.cpu[n, c]:.0f} us" for (n, c), rate in measured.rate.items()]
        print(f"round {number + 1}: {'; '.join(shown)}", flush=True)
    for goal in GOALS:
        if {goal.over, goal.under} <= rounds[0].rate.keys():
            print(goal.show(rounds))


if __name__ == "__main__":
    main()
