"""Hosts that can be cut off from one another: network namespaces on a bridge where this process may make them, else
ports of this machine with a small TCP proxy for each way from one host to another."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Coroutine, Sequence
from typing import Any, Final, Protocol

from machine import free_ports, watch_group

INSIDE: Final = "GATEWAY_TEST_NAMESPACE"
"""Set in a process that runs in a network namespace of its own, in which it may make bridges and further namespaces."""
_NET: Final = "10.77.0"
_NUMBERS: Final = itertools.count(1)
"""Of bridges and cables, whose names come free some time after they are gone."""


class Host:
    """A machine of the cluster. `prefix` starts a command on it; servers on it listen at `listen`."""

    def __init__(self, name: str, listen: str, prefix: Sequence[str] = ()) -> None:
        self.name = name
        self.listen = listen
        self.prefix = tuple(prefix)


class Network(Protocol):
    """Hosts, and what lies between them."""

    def host(self, name: str) -> Host:
        """A new host."""

    def port(self) -> int:
        """A free port, for a server on a host."""

    def way(self, source: Host, target: Host, port: int) -> tuple[str, int]:
        """The address and port at which `source` reaches `port` of `target`."""

    def cut(self, one: Host, other: Host) -> None:
        """Lose all packets between two hosts from now on, without a word to either."""

    def heal(self, one: Host, other: Host) -> None:
        """Undo `cut`."""

    def close(self) -> None: ...


def enter_namespace() -> None:
    """Become the same program in a network namespace of its own, where that is allowed. Returns where it is not, or
    where this process is in one already."""
    tools = all(map(shutil.which, ("unshare", "nsenter", "ip")))
    if INSIDE in os.environ or os.geteuid() != 0 or not tools:
        return
    attempt = "ip link add bridge0 type bridge && unshare --net true"
    if subprocess.run(["unshare", "--net", "sh", "-c", attempt], capture_output=True, check=False).returncode:
        return
    os.environ[INSIDE] = "1"
    inside = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh", sys.executable, *sys.argv]
    os.execvp("unshare", ["unshare", "--net", *inside])


def open_network() -> Network:
    return Namespaces() if INSIDE in os.environ else Proxies()


class Namespaces:
    """Each host is a network namespace, held by a process that sleeps, with a cable to a bridge of this namespace."""

    def __init__(self) -> None:
        self._holders: list[subprocess.Popen[bytes]] = []
        self._ports = itertools.count(5432)
        self._bridge = f"bridge{next(_NUMBERS)}"
        _run("ip", "link", "add", self._bridge, "type", "bridge")
        _run("ip", "link", "set", self._bridge, "up")
        _run("ip", "addr", "add", f"{_NET}.254/24", "dev", self._bridge)

    def host(self, name: str) -> Host:
        address, cable = f"{_NET}.{len(self._holders) + 1}", f"cable{next(_NUMBERS)}"
        holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; exec sleep infinity"], stdout=subprocess.PIPE, process_group=0
        )
        self._holders.append(holder)
        watch_group(holder.pid)
        assert holder.stdout is not None
        holder.stdout.readline()  # it has its namespace now
        _run("ip", "link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid))
        _run("ip", "link", "set", cable, "master", self._bridge, "up")
        host = Host(name, address, ("nsenter", "--net", "--target", str(holder.pid), "--"))
        for words in ("link set lo up", "link set eth0 up", f"addr add {address}/24 dev eth0"):
            _run(*host.prefix, "ip", *words.split())
        return host

    def port(self) -> int:
        return next(self._ports)

    def way(self, source: Host, target: Host, port: int) -> tuple[str, int]:
        return target.listen, port

    def cut(self, one: Host, other: Host) -> None:
        """Each sends to a hardware address that nothing has: packets vanish, as behind a pulled plug."""
        for source, target in ((one, other), (other, one)):
            nowhere = ("lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "permanent")
            _run(*source.prefix, "ip", "neigh", "replace", target.listen, *nowhere)

    def heal(self, one: Host, other: Host) -> None:
        for source, target in ((one, other), (other, one)):
            with contextlib.suppress(subprocess.CalledProcessError):  # it was not cut
                _run(*source.prefix, "ip", "neigh", "del", target.listen, "dev", "eth0")

    def close(self) -> None:
        for holder in self._holders:
            holder.kill()
            holder.wait()
            if holder.stdout is not None:
                holder.stdout.close()
        with contextlib.suppress(subprocess.CalledProcessError):
            _run("ip", "link", "del", self._bridge)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


class Proxies:
    """All hosts are this machine. Each way from one to another goes through a proxy of its own, which can stop passing
    bytes on."""

    def __init__(self) -> None:
        self._ways: dict[tuple[str, str, int], int] = {}
        self._open: dict[frozenset[str], asyncio.Event] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies", daemon=True)
        self._thread.start()

    def host(self, name: str) -> Host:
        return Host(name, "127.0.0.1")

    def port(self) -> int:
        return free_ports(1)[0]

    def way(self, source: Host, target: Host, port: int) -> tuple[str, int]:
        if source.name == target.name:
            return "127.0.0.1", port
        key = (source.name, target.name, port)
        if key not in self._ways:
            self._ways[key] = free_ports(1)[0]
            passing = self._passing(source, target)
            self._call(self._serve(self._ways[key], port, passing))
        return "127.0.0.1", self._ways[key]

    def cut(self, one: Host, other: Host) -> None:
        self._loop.call_soon_threadsafe(self._passing(one, other).clear)

    def heal(self, one: Host, other: Host) -> None:
        self._loop.call_soon_threadsafe(self._passing(one, other).set)

    def close(self) -> None:
        async def end() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self._call(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _passing(self, one: Host, other: Host) -> asyncio.Event:
        pair = frozenset((one.name, other.name))
        if pair not in self._open:
            self._open[pair] = asyncio.Event()
            self._open[pair].set()
        return self._open[pair]

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _serve(self, port: int, target: int, passing: asyncio.Event) -> None:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                await passing.wait()
                there_reader, there_writer = await asyncio.open_connection("127.0.0.1", target)
                try:
                    await asyncio.gather(_pump(reader, there_writer, passing), _pump(there_reader, writer, passing))
                finally:
                    there_writer.close()
            writer.close()

        await asyncio.start_server(connected, "127.0.0.1", port)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passing: asyncio.Event) -> None:
    """Pass bytes on until one side ends, which ends the other, too."""
    try:
        while data := await reader.read(2**16):
            await passing.wait()
            writer.write(data)
            await writer.drain()
        await passing.wait()
    finally:
        writer.close()
