"""Install a wheel into a fresh virtual environment and run the gateway from an empty folder.

python tests/try_wheel.py dist/webio_gateway-0.1.0-py3-none-any.whl
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
import venv
from pathlib import Path

STARTS_WITHIN = 30.0


def main(wheel: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        environment, folder = Path(temporary, "venv"), Path(temporary, "empty")
        venv.create(environment, with_pip=True)
        binaries = environment / "bin"
        subprocess.run([binaries / "pip", "install", "--quiet", wheel.resolve()], check=True)
        folder.mkdir()
        gateway = binaries / "gateway"
        subprocess.run([gateway, "init"], cwd=folder, check=True)
        _use_free_ports(folder / "config.toml")
        subprocess.run([gateway, "check", "--offline"], cwd=folder, check=True)
        _serve(gateway, folder)
    print("the wheel installs and runs from an empty folder")


def _use_free_ports(config: Path) -> None:
    """The machine that tries this may have a gateway of its own on the usual ports."""
    text = config.read_text()
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        for usual, probe in ((8080, one), (8081, two)):
            text = text.replace(f"#port = {usual}", f"port = {probe.getsockname()[1]}")
    config.write_text(text)


def _serve(gateway: Path, folder: Path) -> None:
    """Run; send one event of each kind, ask, list, stop."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.Popen([gateway, "run"], cwd=folder, stdout=subprocess.PIPE, text=True, env=environment)
    watchdog = threading.Timer(STARTS_WITHIN, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        for _ in ("public", "admin"):
            line = process.stdout.readline()
            assert line, f"the gateway ended with {process.wait()} instead of listening"
            print(line, end="")
        admin = line.split()[-1]
        for path, part in (("sign-in", b"The admin password"), ("static/style.css", b"color-scheme")):
            with urllib.request.urlopen(f"{admin}{path}") as answer:
                assert part in answer.read(), f"{admin}{path} is not complete"
        for command in (["send", "--all"], ["ask", "balance", "ID", "--customer", "123456"], ["events"]):
            subprocess.run([gateway, *command], cwd=folder, check=True, timeout=20)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0, f"the gateway exited {process.returncode} after SIGTERM"
    finally:
        watchdog.cancel()
        process.kill()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
