"""Notices that another host has become the primary while a commit waits for an answer of the former one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar

from gateway.journal.interface import JournalError
from gateway.journal.postgresql.connection import DatabaseConnection, connect

if TYPE_CHECKING:
    from gateway.config.tables import Config

T = TypeVar("T")
LOOK_AROUND: Final = 2.0
"""Seconds that a commit may take before the other hosts are asked which one is the primary."""


async def on_the_primary(config: Config, connection: DatabaseConnection, commit: Coroutine[Any, Any, T]) -> T:
    """Wait for a commit on a connection, only as long as no other host has become the primary: the connection is then
    given up. What became of the commit is to be looked up there."""
    task = asyncio.create_task(commit)
    while not (await asyncio.wait((task,), timeout=LOOK_AROUND))[0]:
        if await _is_superseded(config, connection):
            connection.terminate()
    return await task


async def _is_superseded(config: Config, connection: DatabaseConnection) -> bool:
    try:
        other = await connect(config, "look")
    except JournalError:
        return False
    other.terminate()
    return other.timeline > connection.timeline
