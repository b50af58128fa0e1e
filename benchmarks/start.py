"""How quickly the gateway starts, and how much memory it needs when idle.

python benchmarks/start.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GATEWAY = str(Path(sys.executable).with_name("gateway"))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def ready(directory: Path) -> tuple[float, float, float]:
    """Seconds until both listeners accept connections, and the memory a second later, both processes added up (MB):
    resident (RSS), and with shared pages divided among those that share them (PSS)."""
    began = time.perf_counter()
    process = subprocess.Popen([GATEWAY, "run"], cwd=directory, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(2):
        assert process.stdout.readline().startswith("gateway: ")
    seconds = time.perf_counter() - began
    time.sleep(1)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True).stdout
    pids = [str(process.pid), *children.split()]
    rss, pss = (sum(memory(pid, kind) for pid in pids) for kind in ("Rss", "Pss"))
    os.kill(process.pid, signal.SIGTERM)
    process.wait(15)
    return seconds, rss, pss


def memory(pid: str, kind: str) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise SystemExit(f"/proc/{pid}/smaps_rollup has no {kind}")


def help_text() -> float:
    began = time.perf_counter()
    subprocess.run([GATEWAY, "--help"], capture_output=True, check=True)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        subprocess.run([GATEWAY, "init"], cwd=directory, capture_output=True, check=True)
        text = (directory / "config.toml").read_text()
        for port in ("8080", "8081"):
            text = text.replace(port, str(free_port()))
        (directory / "config.toml").write_text(text)
        starts = [ready(directory) for _ in range(rounds)]
    seconds, rss, pss = (statistics.median(values) for values in zip(*starts, strict=True))
    print(f"gateway run to ready, the example configuration: {seconds:.2f} s (goal <= 0.7)")
    print(f"memory when idle, supervisor and worker: RSS {rss:.0f} MB (goal <= 85), PSS {pss:.0f} MB")
    print(f"gateway --help: {statistics.median(help_text() for _ in range(rounds)):.2f} s")


if __name__ == "__main__":
    main()
