"""Hears of what other gateways append, and of what operators change."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from gateway.journal.interface import JournalError
from gateway.journal.postgresql.connection import CONNECT_SECONDS, DatabaseConnection, connect
from gateway.journal.postgresql.failures import translated

if TYPE_CHECKING:
    from gateway.config.tables import Config

log = logging.getLogger("gateway.journal")

NEWEST: Final = "SELECT seq FROM head"
AGAIN: Final = 0.5
"""Seconds after which a lost connection is opened again."""
LOOK: Final = 1.0
"""Seconds between two looks at the newest position, for a notification that a network swallowed."""


class AppendListener:
    """Calls `heard` with the newest position whenever there is a newer one, and of `told` the function for what was
    notified. One that lost its connection connects again, looks at the newest position itself, and calls all of
    `told`."""

    def __init__(
        self, config: Config, channel: str, heard: Callable[[int], None], told: Mapping[str, Callable[[], None]]
    ) -> None:
        self._config = config
        self._channel = channel
        self._heard = heard
        self._told = told
        self._task: asyncio.Task[None] | None = None
        self._connection: DatabaseConnection | None = None

    async def start(self) -> None:
        """Listen. Raises `JournalError` where the first connection fails."""
        connection = await self._listening()
        self._task = asyncio.create_task(self._run(connection))

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def leave_server(self) -> None:
        """The primary is another server now: listen there."""
        if self._connection is not None:
            self._connection.terminate()

    async def _listening(self) -> DatabaseConnection:
        connection = await connect(self._config, "listener")
        try:
            with translated():
                async with asyncio.timeout(CONNECT_SECONDS):
                    await connection.add_listener(self._channel, self._notified)
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection
        return connection

    async def _run(self, connection: DatabaseConnection | None) -> None:
        try:
            while True:
                with contextlib.suppress(JournalError):
                    if connection is None:
                        connection = await self._listening()
                        for function in self._told.values():
                            function()
                    while True:
                        with translated():
                            self._heard(await connection.fetchval(NEWEST, timeout=LOOK * 5))
                        await asyncio.sleep(LOOK)
                if connection is not None:
                    connection.terminate()
                    connection = None
                await asyncio.sleep(AGAIN)
        finally:
            if connection is not None:
                connection.terminate()

    def _notified(self, connection: Any, process: int, channel: str, payload: Any) -> None:
        if str(payload).isdecimal():
            self._heard(int(payload))
        elif payload in self._told:
            self._told[payload]()
