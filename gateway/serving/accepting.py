"""Accepts the connections of one listener, as many as its admission gives places to.

asyncio's own servers accept without a limit, and count a connection only after its TLS handshake.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

from gateway.log import RateLimit
from gateway.serving.admission import Admission, Place
from gateway.serving.protocol import Connection

log = logging.getLogger("gateway.server")

BATCH: Final = 16
"""Connections that are accepted in one turn of the event loop. They need two more turns until one of them may be closed
to make room for another."""
PAUSE_SECONDS: Final = 0.5
HANDSHAKE_SECONDS: Final = 5.0


class Acceptor:
    """Accepts on one listening socket until it is stopped."""

    def __init__(
        self,
        listening: socket.socket,
        admission: Admission,
        connection: Callable[[Place], Connection],
        tls: ssl.SSLContext | None,
    ) -> None:
        """`connection` makes the protocol for a new connection with this place."""
        self._listening = listening
        self._admission = admission
        self._connection = connection
        # asyncio refuses a handshake timeout without TLS
        self._options: dict[str, Any] = {"ssl": tls, "ssl_handshake_timeout": HANDSHAKE_SECONDS} if tls else {}
        self._opening: set[asyncio.Task[None]] = set()
        self._failures = RateLimit(log, 1, 10.0)
        self._resume: asyncio.TimerHandle | None = None

    def start(self, backlog: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._listening.setblocking(False)
        self._listening.listen(backlog)
        self._loop.add_reader(self._listening, self._accept)

    def stop(self) -> None:
        """Stop accepting and close the socket. Handshakes that have begun go on."""
        self._pause()
        self._listening.close()

    def abort(self) -> None:
        """End the handshakes that have begun."""
        for task in self._opening:
            task.cancel()

    def _pause(self) -> None:
        self._loop.remove_reader(self._listening)
        if self._resume is not None:
            self._resume.cancel()
            self._resume = None

    def _accept(self) -> None:
        for _ in range(BATCH):
            try:
                accepted, peer = self._listening.accept()
            except BlockingIOError:
                return
            except ConnectionError:  # it has ended already
                continue
            except OSError as error:  # no descriptor or no memory is left; the listener would be ready again at once
                self._failures.error("cannot accept a connection: %s; trying again after a pause", error.strerror)
                self._pause()
                self._resume = self._loop.call_later(
                    PAUSE_SECONDS, self._loop.add_reader, self._listening, self._accept
                )
                return
            place = self._admission.admit(str(peer[0]))
            if place is None:
                accepted.close()
                continue
            accepted.setblocking(False)
            task = self._loop.create_task(self._open(accepted, place))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open(self, accepted: socket.socket, place: Place) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: self._connection(place), accepted, **self._options)
        except (OSError, asyncio.CancelledError):  # the client went away, or the handshake failed
            accepted.close()
            place.leave()
