"""A whole gateway in this process with installed plugins, for plugins that pass events on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from delivering import Rig
from running import read_config

from gateway import Event
from gateway.journal.interface import JournalFailed
from gateway.plugin_host.load import load_plugins
from gateway.service import Gateway

RECEIVED = datetime(2026, 11, 22, 15, 54, 24, 123456, tzinfo=UTC)


def event(number: int = 1, raw: bytes = b"", **fields: Any) -> Event:
    """An event of the hook `payment` by default, of any body."""
    fields = {"organisation": "acme", "received_at": RECEIVED, "hook": "payment", "payload": None, **fields}
    return Event(id=f"01935498-0000-7000-8000-{number:012x}", raw=raw or b'{"number": %d}' % number, **fields)


def settings_of(directory: Path, text: str) -> Any:
    """The `Config` of the config's only plugin."""
    [plugin] = load_plugins(read_config(directory, text))
    return plugin.instance._config


@asynccontextmanager
async def sending(directory: Path, text: str) -> AsyncIterator[Rig]:
    """A gateway that runs with the plugins of `text`."""
    config = read_config(directory, text)
    gateway = Gateway(config, load_plugins(config))
    failures: list[JournalFailed] = []
    await gateway.start(failures.append)
    try:
        yield Rig(config, gateway.journal, gateway.delivery)
    finally:
        gateway.drain()
        await gateway.stop()
        assert not failures
