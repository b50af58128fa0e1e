"""Hears of what other gateways append."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from gateway.journal.interface import JournalError
from gateway.journal.postgresql.connection import DatabaseConnection, connect
from gateway.journal.postgresql.failures import translated
from gateway.journal.postgresql.settling import CURSORS

if TYPE_CHECKING:
    from gateway.config.tables import Config

log = logging.getLogger("gateway.journal")

NEWEST: Final = "SELECT seq FROM head"
AGAIN: Final = 0.5
"""Seconds after which a lost connection is opened again."""
LOOK: Final = 1.0
"""Seconds between two looks at the newest position, for a notification that a network swallowed."""


class AppendListener:
    """Calls `heard` with the newest position whenever there is a newer one. One that lost its connection connects again
    and looks at the newest position itself."""

    def __init__(
        self, config: Config, channel: str, heard: Callable[[int], None], turned_over: Callable[[], None]
    ) -> None:
        """`turned_over` is called when a cursor has come free, or a gateway has come, changed or gone."""
        self._config = config
        self._channel = channel
        self._heard = heard
        self._turned_over = turned_over
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen. Raises `JournalError` where the first connection fails."""
        connection = await self._listening()
        self._task = asyncio.create_task(self._run(connection))

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _listening(self) -> DatabaseConnection:
        connection = await connect(self._config, "listener")
        with translated():
            await connection.add_listener(self._channel, self._notified)
        return connection

    async def _run(self, connection: DatabaseConnection | None) -> None:
        try:
            while True:
                with contextlib.suppress(JournalError):
                    connection = connection or await self._listening()
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
        elif payload == CURSORS:
            self._turned_over()
