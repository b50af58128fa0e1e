"""A listener: a socket, the application that it serves, and its connections."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import resource
import socket
import ssl
from collections.abc import Sequence
from typing import Any, Final

import uvicorn

from gateway.config.field_types import Network
from gateway.config.rules import is_loopback
from gateway.config.tables import AdminSettings, ServerSettings, TlsSettings
from gateway.metrics import Metrics
from gateway.serving.accepting import Acceptor
from gateway.serving.admission import Admission, Place
from gateway.serving.connections import DRAIN_HEAD_SECONDS, SWEEP_SECONDS, Connections
from gateway.serving.exchange import Take
from gateway.serving.half_close import HalfClosing
from gateway.serving.protocol import Connection
from gateway.text import counted

log = logging.getLogger("gateway.server")

CONNECTIONS: Final = 16_384
ADMIN_CONNECTIONS: Final = 64
OTHER_FILES: Final = 384
"""File descriptors for everything else: the journal, the log, connections of plugins, and what is being closed."""
BACKLOG: Final = 4096
DRAIN_SECONDS: Final = 5.0


class Listener:
    """Serves one ASGI application on one socket; at most `limit` connections at a time, and at most `per_address` from
    one client address that is not one of `proxies`. `take` may take ordinary requests before the application."""

    def __init__(
        self,
        app: Any,
        limit: int,
        metrics: Metrics,
        *,
        prefix: str = "",
        per_address: int | None = None,
        proxies: Sequence[Network] = (),
        take: Take | None = None,
    ) -> None:
        self._connections = Connections(metrics, prefix, take)
        self._admission = Admission(self._connections, limit, per_address, proxies)
        self._config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
        )
        self._config.load()

    async def start(self, listening: socket.socket, tls: TlsSettings | None = None) -> None:
        """Accept connections."""
        self._sweep(asyncio.get_running_loop())
        context = None if tls is None else _context(tls)
        self._acceptor = Acceptor(listening, self._admission, self._connect, context)
        self._acceptor.start(BACKLOG)

    def _connect(self, place: Place) -> Connection:
        connection = Connection(self._config, self._connections, {})
        connection.place = place
        return connection

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._connections.sweep(loop)
        self._timer = loop.call_later(SWEEP_SECONDS, self._sweep, loop)

    async def drain(self) -> None:
        """Stop accepting, answer the requests that have begun, and close every connection within `DRAIN_SECONDS`."""
        loop = asyncio.get_running_loop()
        shared = self._connections
        self._acceptor.stop()
        self._timer.cancel()
        shared.draining = True
        loop.call_later(DRAIN_HEAD_SECONDS, shared.sweep, loop)
        for connection in list(shared.connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while self._admission.taken:
                    shared.none_left.clear()
                    await shared.none_left.wait()
        if unanswered := shared.unanswered():
            log.warning(
                "drain: %s had no answer within %g s; closing the connections",
                counted(unanswered, "request"),
                DRAIN_SECONDS,
            )
        self._acceptor.abort()
        for connection in list(shared.connections):
            connection.transport.abort()


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on a host, which may be a name (IPv4 is preferred). Raises `OSError` with a sentence for
    the operator."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        raise OSError(f"{host} is not a name or an address that this machine can resolve") from None
    family, _, _, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
    try:
        return socket.create_server((str(address[0]), port), family=family, backlog=BACKLOG)
    except OSError as error:
        used = error.errno == errno.EADDRINUSE
        reason = "is in use by another process" if used else os.strerror(error.errno or 0)
        raise OSError(f"{bracketed(str(address[0]))}:{port} {reason}") from None


def obtain(descriptor: int, settings: ServerSettings | AdminSettings) -> socket.socket:
    """The socket of a listener: a new one where `descriptor` is negative, else the one that the service manager or an
    earlier worker has opened. The address of such a socket counts, not that of the config. Raises `OSError` with a
    sentence for the operator, also where other machines could reach an admin listener without a password."""
    if descriptor < 0:
        return listen(settings.host, settings.port)
    listening = socket.socket(fileno=descriptor)
    host, port = listening.getsockname()[:2]
    if isinstance(settings, AdminSettings) and settings.password is None and not is_loopback(host):
        raise OSError(
            f"the admin listener's socket, which is open already, listens on {bracketed(host)}:{port}, not on loopback,"
            ' and [admin] has no password; write password = { file = "path" } in [admin], or correct the socket'
        )
    if port != settings.port:
        log.warning(
            "%s: the socket that is open already listens on %s:%d, and the config has port %d; commands use the config",
            "admin" if isinstance(settings, AdminSettings) else "server",
            bracketed(host),
            port,
            settings.port,
        )
    return listening


def bracketed(host: str) -> str:
    """A host as it is written in a URL."""
    return f"[{host}]" if ":" in host else host


def connection_limits() -> tuple[int, int]:
    """The highest numbers of connections of the public and of the admin listener. They leave file descriptors free for
    the rest of the process: without a free one, accepting would fail in an endless loop."""
    wanted, limits = CONNECTIONS + ADMIN_CONNECTIONS + OTHER_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = (wanted if limit == resource.RLIM_INFINITY else limit for limit in limits)
    if soft < min(hard, wanted):
        soft = min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, limits[1]))
    total = max(soft - OTHER_FILES, soft // 2)
    admin = min(ADMIN_CONNECTIONS, total // 4)
    return min(CONNECTIONS, total - admin), admin


def _context(tls: TlsSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.sslobject_class = HalfClosing
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(tls.certificate, tls.key)
    return context
