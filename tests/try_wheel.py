"""Install a wheel into a fresh virtual environment and run the gateway from an empty folder.

python tests/try_wheel.py dist/*.whl
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sample_ports import use_free_ports

STARTS_WITHIN = 30.0
NOTARY = Path(__file__).parent / "external" / "notary"


def main(wheel: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        environment, folder = Path(temporary, "venv"), Path(temporary, "empty")
        venv.create(environment, with_pip=True)
        binaries = environment / "bin"
        subprocess.run([binaries / "pip", "install", "--quiet", wheel.resolve()], check=True)
        folder.mkdir()
        gateway = binaries / "gateway"
        subprocess.run([gateway, "init"], cwd=folder, check=True)
        use_free_ports(folder / "config.toml")
        subprocess.run([gateway, "check", "--offline"], cwd=folder, check=True)
        _serve(gateway, folder)
        _try_third_party(binaries, folder, Path(temporary, "elsewhere"))
        _try_scaffold(binaries, Path(temporary, "new"))
    print("the wheel installs and runs from an empty folder, with a plugin of a third party and a new one")


def _try_third_party(binaries: Path, folder: Path, place: Path) -> None:
    """Build the package of `tests/external` outside the tree, install it beside the wheel, and have it work."""
    shutil.copytree(NOTARY, place)
    subprocess.run([binaries / "pip", "install", "--quiet", "--no-deps", place], check=True)
    config = folder / "config.toml"
    config.write_text(config.read_text() + '\n[plugins.notary]\nregister = "var/register.jsonl"\n')
    gateway = binaries / "gateway"
    subprocess.run([gateway, "check", "--offline"], cwd=folder, check=True)
    with _running(gateway, folder):
        payment = [str(gateway), "send", "payment", "--field", "customerUID=4711", "--field", "amount=12.50"]
        subprocess.run(payment, cwd=folder, check=True, timeout=20)
        ask = [str(gateway), "ask", "last_payment", "--customer", "4711"]
        deadline = time.monotonic() + STARTS_WITHIN
        while "12.50" not in subprocess.run(ask, cwd=folder, capture_output=True, text=True, timeout=20).stdout:
            assert time.monotonic() < deadline, "the plugin of a third party did not answer what a customer paid"
    assert '"4711"' in (folder / "var" / "register.jsonl").read_text()


def _try_scaffold(binaries: Path, folder: Path) -> None:
    """The packages that `gateway new-plugin` writes: their tests pass where they are installed."""
    folder.mkdir()
    subprocess.run([binaries / "pip", "install", "--quiet", "pytest"], check=True)
    for arguments in (["ledger"], ["balances", "--values"]):
        subprocess.run([binaries / "gateway", "new-plugin", *arguments], cwd=folder, check=True)
        subprocess.run([binaries / "pip", "install", "--quiet", "--no-deps", folder / arguments[0]], check=True)
        python, place = binaries / "python", folder / arguments[0]
        subprocess.run([python, "-m", "pytest", "-q", "-p", "no:cacheprovider"], cwd=place, check=True, timeout=200)


def _serve(gateway: Path, folder: Path) -> None:
    """Run; send one event of each kind, ask, list, stop."""
    with _running(gateway, folder) as admin:
        for path, part in (("sign-in", b"<h1>Sign in</h1>"), ("static/style.css", b"color-scheme")):
            with urllib.request.urlopen(f"{admin}{path}") as answer:
                assert part in answer.read(), f"{admin}{path} is not complete"
        for command in (["send", "--all"], ["ask", "balance", "ID", "--customer", "123456"], ["events"]):
            subprocess.run([gateway, *command], cwd=folder, check=True, timeout=20)


@contextmanager
def _running(gateway: Path, folder: Path) -> Iterator[str]:
    """Run it, and stop it at the end; gives the URL of the admin listener."""
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
        yield line.split()[-1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0, f"the gateway exited {process.returncode} after SIGTERM"
    finally:
        watchdog.cancel()
        process.kill()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
