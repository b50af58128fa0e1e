"""A journal and its delivery in this process, with plugins made of plain classes."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from kit import make_plugin
from running import read_config

from gateway import Event, hookimpl
from gateway.config.tables import Config
from gateway.delivery.consumer import Consumer
from gateway.delivery.service import Delivery
from gateway.journal import open_journal, open_reader
from gateway.journal.interface import Filter, Journal, Receipt
from gateway.journal.search import Search

PATIENCE = 20.0


def journal_config(directory: Path, text: str = "") -> Config:
    """A config with `text` after the path in its [journal] table."""
    return read_config(directory, f'[journal]\npath = "journal.db"\n{text}')


class Rig:
    """A journal that is open and a delivery that runs."""

    def __init__(self, config: Config, journal: Journal, delivery: Delivery) -> None:
        self.config = config
        self.journal = journal
        self.delivery = delivery
        self._number = 0

    async def send(self, conversation: str | None = None, **fields: Any) -> Receipt:
        self._number += 1
        body = {"type": "payment", "conversationId": conversation, "n": self._number, **fields}
        raw = json.dumps(body).encode()
        return await self.journal.append("acme", self.journal.decoder.decode("acme", raw, None), raw)

    def consumer(self, name: str) -> Consumer:
        return self.delivery.consumers[name]

    async def until(self, condition: Callable[[], bool], what: str = "") -> None:
        """Wait until a condition holds; fail after `PATIENCE` seconds."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"still not so after {PATIENCE:g} s: {what or condition}"
            await asyncio.sleep(0.002)

    async def idle(self, *names: str) -> None:
        """Wait until these plugins (or all) have everything and that is settled."""
        wanted = names or tuple(self.delivery.consumers)
        await self.until(lambda: all(self.consumer(name).idle for name in wanted), f"{wanted} idle")

    def reader(self) -> Search:
        return open_reader(self.config)

    def states(self, name: str) -> list[str | None]:
        """How far a plugin is with each event, oldest first."""
        reader = self.reader()
        try:
            return [row.deliveries.get(name) for row in reader.events(Filter())]
        finally:
            reader.close()

    def dead(self) -> list[tuple[str, str, int, str]]:
        reader = self.reader()
        try:
            return [(row.id, row.plugin, row.attempts, row.error) for row in reader.dead(Filter())]
        finally:
            reader.close()

    async def retry_dead(self, which: Filter | None = None) -> int:
        count = await self.journal.retry_dead(which or Filter())
        await self.delivery.refresh()
        return count

    async def replay(self, name: str, **which: Any) -> int:
        replay = await self.journal.new_replay(Filter(plugin=name, **which))
        await self.delivery.refresh(name)
        return replay.number


@asynccontextmanager
async def delivering(
    directory: Path,
    plugins: Mapping[str, object],
    text: str = "",
    clock: Callable[[], float] = time.time,
    **settings: Any,
) -> AsyncIterator[Rig]:
    """A rig with these instances as plugins; `settings` are delivery settings of all of them."""
    config = journal_config(directory, text)
    journal = open_journal(config, clock=clock)
    await journal.start()
    made = [make_plugin(name, instance, **settings) for name, instance in plugins.items()]
    delivery = Delivery(made, journal, clock)
    await delivery.start()
    try:
        yield Rig(config, journal, delivery)
    finally:
        await delivery.stop(2.0)
        await journal.close()
        for one in made:
            one.close()


class Takes:
    """Notes what it gets; `script` says for an event's `n` what its calls raise, one after the other."""

    def __init__(self, script: dict[int, list[BaseException]] | None = None) -> None:
        self.script = script or {}
        self.calls: list[Event] = []
        self.taken: list[int] = []
        self._lock = threading.Lock()

    def _take(self, event: Event) -> None:
        n = event.fields()["n"]
        with self._lock:
            self.calls.append(event)
            errors = self.script.get(n)
            if errors:
                raise errors.pop(0)
            self.taken.append(n)


class Plain(Takes):
    @hookimpl
    def on_event(self, event: Event) -> None:
        self._take(event)


class Async(Takes):
    @hookimpl
    async def on_event(self, event: Event) -> None:
        await asyncio.sleep(0)
        self._take(event)


class Batches(Takes):
    """Has a checkpoint that fails as often as it is told to."""

    def __init__(self, failures: int = 0) -> None:
        super().__init__()
        self.failures = failures
        self.durable: list[int] = []

    @hookimpl
    def on_event(self, event: Event) -> None:
        self._take(event)

    @hookimpl
    def checkpoint(self) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError("disk full")
        self.durable = list(self.taken)
