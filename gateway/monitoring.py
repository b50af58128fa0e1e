"""What health and metrics tell of the gateway's parts. What only the journal knows is counted in the background."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from gateway.config.tables import Config
from gateway.delivery.service import Delivery
from gateway.journal import journal_space
from gateway.journal.interface import Filter, Journal, JournalError
from gateway.journal.search import UnknownName
from gateway.plugin_host.load import Plugin
from gateway.unknown import advice, public, types_of
from gateway.values.service import CustomValues

PAUSE: Final = 1.0
"""Seconds between two counts of the dead letters, at least."""
SHARE: Final = 50
"""A pause is at least this many times as long as the count before it took."""


DATABASE_PAUSE: Final = 60.0
"""Seconds between two looks at the size of a database's tables."""


class Space(NamedTuple):
    """The size of the journal's files or tables, and the free space on their disk, in bytes; that of a database is not
    known."""

    used: int
    free: int | None


class Monitor:
    """`dead` is how many dead letters each plugin has, `unknown` what is kept as unknown, and `space` what the journal
    takes, as of the last count."""

    def __init__(
        self,
        config: Config,
        plugins: Sequence[Plugin],
        journal: Journal,
        delivery: Delivery,
        values: CustomValues,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._plugins = plugins
        self.dead = dict.fromkeys(delivery.consumers, 0)
        self.unknown: list[UnknownName] = []
        self.space = Space(0, None)
        self._measured = float("-inf")
        self._oldest: dict[str, float] = {}
        self.config = config
        self._journal = journal
        self._delivery = delivery
        self._values = values
        self._clock = clock
        self._tasks: list[asyncio.Task[None]] = []
        self.counted = False
        """Whether `dead` and `unknown` were counted."""

    def start(self) -> None:
        if self.config.journal.url is None:
            self.space = Space(*journal_space(self.config))
        self._tasks = [
            asyncio.create_task(self._count(), name="count of dead letters"),
            asyncio.create_task(self._watch(), name="watch over the journal"),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self) -> None:
        """Have the log tell of a disk that hangs, although no request comes."""
        while True:
            self._journal.refusal()
            await asyncio.sleep(PAUSE)

    async def _count(self) -> None:
        while True:
            began = time.monotonic()
            with contextlib.suppress(JournalError):
                await self._measure()
            with contextlib.suppress(JournalError):
                for name in self.dead:
                    self.dead[name] = await self._journal.count_dead(Filter(plugin=name))
                self.unknown = await self._journal.unknown_names()
                self._oldest = await self._journal.oldest_undelivered()
                self.counted = True
            await asyncio.sleep(max(PAUSE, SHARE * (time.monotonic() - began)))

    async def _measure(self) -> None:
        """Look at the space that the journal takes; of a database not each time."""
        pause = 0.0 if self.config.journal.url is None else DATABASE_PAUSE
        if time.monotonic() - self._measured >= pause:
            self._measured = time.monotonic()
            self.space = Space(*await asyncio.to_thread(journal_space, self.config))

    def age(self, name: str) -> float:
        """The seconds since the oldest event came that a plugin has not taken, dead letters left out; 0 where there is
        none. As of the last count."""
        return max(0.0, self._clock() - self._oldest[name]) if name in self._oldest else 0.0

    def plugins_health(self) -> list[dict[str, Any]]:
        """The health of each plugin that takes events, that is starting, or whose own task failed. `behind` is in
        positions, `parked` and `dead` in events, `oldest` in seconds (see `age`); see `Where` for what it held back. Of
        the plugin's `shards`, this gateway `owns` some, by number, and the gateways named in `elsewhere` deliver
        others; `behind` and `parked` are of its own."""
        return [
            self._health_of(plugin)
            for plugin in self._plugins
            if plugin.takes_events or not plugin.startup.done.is_set() or plugin.tasks.trouble is not None
        ]

    def _health_of(self, plugin: Plugin) -> dict[str, Any]:
        name, trouble = plugin.name, plugin.startup.trouble
        consumer = self._delivery.consumers.get(name)
        healthy = trouble is None and (consumer is None or consumer.healthy)
        if trouble is not None and plugin.loop.blocked is not None:
            trouble = f"{trouble}; {plugin.loop.blocked}"
        elif consumer is not None and not healthy:
            trouble = trouble or consumer.trouble
        trouble = trouble or plugin.tasks.trouble
        healthy = healthy and plugin.tasks.trouble is None
        return {
            "name": name,
            "state": plugin.startup.state,
            "healthy": healthy,
            "error": trouble,
            "behind": 0 if consumer is None else self._delivery.lag(name),
            "parked": 0 if consumer is None else consumer.parked,
            "dead": self.dead.get(name, 0),
            "oldest": round(self.age(name), 1),
            "held_back": plugin.where.held_back,
            "where_failures": plugin.where.failures,
            "where_failure": plugin.where.last_failure,
            "shards": plugin.delivery.shards,
            "owns": [] if consumer is None else consumer.owned,
            "elsewhere": {} if consumer is None else {str(shard): name for shard, name in consumer.elsewhere.items()},
        }

    def all_well(self) -> bool:
        """Whether every plugin has started and takes its events, and every provider answers."""
        return all(health["healthy"] for health in self.plugins_health()) and all(
            provider.state == "started" and provider.breaker == "closed" and provider.blocked is None
            for provider in self._values.health()
        )

    def unknown_health(self) -> list[dict[str, Any]]:
        """The names that no hook has: how many events are kept by each, since when, and what to add to the config."""
        types = types_of(self.config)
        return [
            {
                "name": public(one.name),
                "count": one.number,
                "first": one.first,
                "last": one.last,
                "advice": advice(one.name, types),
            }
            for one in self.unknown
        ]
