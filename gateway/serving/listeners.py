"""The two listeners: their addresses, their sockets, and the admin listener in the worker."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import uvicorn

from gateway.config.tables import Config
from gateway.http.admin import create_admin
from gateway.service import Gateway


class Address(NamedTuple):
    """Where a listener listens: a numeric host and a port."""

    host: str
    port: int
    family: socket.AddressFamily


def resolve(host: str, port: int) -> Address:
    """A listener's host, which may be a name, as an address, IPv4 first; `OSError` with a sentence."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        raise OSError(f"{host} is no name or address that this machine knows") from None
    family, _, _, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
    return Address(str(address[0]), port, family)


def check_free(address: Address) -> None:
    """Granian shares ports (SO_REUSEPORT): without this look, two gateways would each get half of the events."""
    with listen(address):
        pass


def listen(address: Address) -> socket.socket:
    """A socket that is bound to the address, and listens; `OSError` with a sentence where that cannot be."""
    try:
        return socket.create_server((address.host, address.port), family=address.family)
    except OSError as error:
        used = error.errno == errno.EADDRINUSE
        reason = "is in use by another process" if used else os.strerror(error.errno or 0)
        raise OSError(f"{shown(address.host)}:{address.port} {reason}") from None


def reachable(host: str) -> str:
    """An address by which this machine reaches a listener of its own."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104


def shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@asynccontextmanager
async def listening(config: Config, admin: socket.socket, gateway: Gateway) -> AsyncIterator[None]:
    """The admin listener, for as long as the gateway runs; says when both listeners accept connections."""
    server = uvicorn.Server(
        uvicorn.Config(
            create_admin(gateway),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=1,
            timeout_keep_alive=5,
        )
    )
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    serving = asyncio.create_task(server.serve(sockets=[admin]))
    announcing = asyncio.create_task(_announce(config, server))
    try:
        yield
    finally:
        announcing.cancel()
        server.should_exit = True
        await asyncio.wait((serving,), timeout=2)


async def _announce(config: Config, admin: uvicorn.Server) -> None:
    host, port = config.server.host, config.server.port
    while not (admin.started and await _accepts(reachable(host), port)):  # noqa: ASYNC110 - neither says when it is up
        await asyncio.sleep(0.01)
    scheme = "https" if config.server.tls else "http"
    say(f"webhooks at {scheme}://{shown(host)}:{port}{config.server.path}")
    say(f"admin at http://{shown(config.admin.host)}:{config.admin.port}/")


def say(line: str) -> None:
    print(f"gateway: {line}", flush=True)  # noqa: T201


async def _accepts(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    return True
