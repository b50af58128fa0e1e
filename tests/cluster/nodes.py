"""The gateways of a cluster: each a `gateway run` on a host of its own, to be killed, stopped and frozen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from machine import watch_group
from network import Host, Network
from recorder import SOURCE, Delivery, read
from running import SECRET, write_plugin
from servers import Pair, wait_until

from gateway.config.load import load_config
from gateway.config.tables import Config

GATEWAY: Final = str(Path(sys.executable).with_name("gateway"))
PATCHES: Final = Path(__file__).with_name("patches")
FAKETIME: Final = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
DELIVERY: Final = """
[delivery]
backoff = "20ms"
backoff_max = "200ms"
"""
RECORDERS: Final = """
[plugins.spread]
use = "recorder"
shards = 8
fails = 0.01

[plugins.single]
use = "recorder"
fails = 0.01
"""


class Node:
    """A gateway on `host`. Its folder has its config, its log, and what its recorders wrote."""

    def __init__(
        self, host: Host, folder: Path, ports: tuple[int, int], journal: str, text: str = DELIVERY + RECORDERS
    ) -> None:
        """`ports` are those of the public and the admin listener. `journal` has the keys of `[journal]`, `text` the
        tables after it."""
        folder.mkdir(parents=True)
        write_plugin(folder / "site", "recorder", SOURCE)
        (folder / "webio.secret").write_text(SECRET)
        (folder / "webio.secret").chmod(0o600)
        self.name = host.name
        self.host = host
        self.folder = folder
        self.port, admin = ports
        self.log = folder / "gateway.log"
        self.config_path = folder / "config.toml"
        self._tables = (
            f'[node]\nname = "{host.name}"\n'
            f'[server]\nhost = "{host.listen}"\nport = {self.port}\n'
            f"[admin]\nport = {admin}\n"
            f"[journal]\n{journal}\n"
            f'[organisations.acme]\nsecrets = [{{ file = "webio.secret" }}]\n'
        )
        self.configure(text)
        self._process: subprocess.Popen[bytes] | None = None

    def configure(self, text: str) -> None:
        """Write its config anew, with `text` as its last tables."""
        self.config_path.write_text(self._tables + text)

    @property
    def config(self) -> Config:
        return load_config(self.config_path)

    def start(self, *, clock: int = 0, patch: str = "") -> None:
        """Start it, and do not wait. `clock` are the seconds by which its wall clock is wrong; `patch` is a module of
        `patches/` that changes the product in its processes."""
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "CLUSTER_PATCH": patch}
        environment["PYTHONPATH"] = os.pathsep.join([str(self.folder / "site"), str(PATCHES)])
        if clock and FAKETIME is not None:
            faked = {"FAKETIME": f"{clock:+d}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}
            environment |= {"LD_PRELOAD": str(FAKETIME), **faked}
        elif clock:
            environment["CLUSTER_CLOCK"] = str(clock)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.host.prefix, GATEWAY, "run", "-c", str(self.config_path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=environment,
                start_new_session=True,
            )
        watch_group(self._process.pid)

    @property
    def lives(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal to all of its processes at once."""
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def kill(self) -> None:
        """`kill -9` to all of its processes at once."""
        if self.lives:
            self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def terminate(self, within: float = 30) -> int:
        """SIGTERM, as a service manager does; the exit code, -9 where it had to be killed."""
        assert self._process is not None
        self._process.terminate()
        try:
            return self._process.wait(within)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL

    def words(self) -> str:
        """Everything it wrote to its log."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def wait_for_words(self, words: str, within: float = 60) -> None:
        """Wait until it says something; fails at once where it ends without."""
        wait_until(
            lambda: words in self.words() or not self.lives, f"{self.name} says {words!r}; ", within, words=self.words
        )
        assert words in self.words(), f"{self.name} has ended: {self.words()[-2000:]}"

    def deliveries(self) -> list[Delivery]:
        return read(self.folder, self.name)


def gateways(
    network: Network, pair: Pair, folder: Path, count: int = 3, text: str = DELIVERY + RECORDERS
) -> list[Node]:
    """Gateways on hosts of their own, not started, with the pair as their journal."""
    nodes = []
    for number in range(1, count + 1):
        host = network.host(f"gw{number}")
        ports = network.port(), network.port()
        nodes.append(Node(host, folder / host.name, ports, f'url = "{pair.url(host)}"', text))
    return nodes
