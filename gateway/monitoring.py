"""What health and metrics tell of the gateway's parts. What only the journal knows is counted in the background."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from gateway.config.tables import Config
from gateway.delivery.service import Delivery
from gateway.journal import journal_space
from gateway.journal.interface import Filter, Journal, JournalError
from gateway.journal.search import UnknownName
from gateway.metrics import Sample
from gateway.plugin_host.load import Plugin
from gateway.unknown import advice, public, types_of
from gateway.values.provider import ProviderHealth
from gateway.values.service import CustomValues

PAUSE: Final = 1.0
"""Seconds between two counts of the dead letters, at least."""
SHARE: Final = 50
"""A pause is at least this many times as long as the count before it took."""


class Monitor:
    """`dead` is how many dead letters each plugin has, and `unknown` what is kept as unknown, as of the last count."""

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
        self._oldest: dict[str, float] = {}
        self.config = config
        self._journal = journal
        self._delivery = delivery
        self._values = values
        self._clock = clock
        self._counting: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._counting = asyncio.create_task(self._count(), name="count of dead letters")

    async def stop(self) -> None:
        if self._counting is not None:
            self._counting.cancel()
            await asyncio.gather(self._counting, return_exceptions=True)

    async def _count(self) -> None:
        while True:
            began = time.monotonic()
            for name in self.dead:
                with contextlib.suppress(JournalError):
                    self.dead[name] = await self._journal.count_dead(Filter(plugin=name))
            with contextlib.suppress(JournalError):
                self.unknown = await self._journal.unknown_names()
                self._oldest = await self._journal.oldest_undelivered()
            await asyncio.sleep(max(PAUSE, SHARE * (time.monotonic() - began)))

    def age(self, name: str) -> float:
        """The seconds since the oldest event came that a plugin has not taken, dead letters left out; 0 where there is
        none. As of the last count."""
        return max(0.0, self._clock() - self._oldest[name]) if name in self._oldest else 0.0

    def plugins_health(self) -> list[dict[str, Any]]:
        """The health of each plugin that takes events, and of each that is starting. `behind` is in positions, `parked`
        and `dead` in events, `oldest` in seconds (see `age`)."""
        return [
            self._health_of(plugin)
            for plugin in self._plugins
            if plugin.takes_events or not plugin.startup.done.is_set()
        ]

    def _health_of(self, plugin: Plugin) -> dict[str, Any]:
        name, trouble = plugin.name, plugin.startup.trouble
        consumer = self._delivery.consumers.get(name)
        healthy = trouble is None and (consumer is None or consumer.healthy)
        if trouble is not None and plugin.loop.blocked is not None:
            trouble = f"{trouble}; {plugin.loop.blocked}"
        elif consumer is not None and not healthy:
            trouble = trouble or consumer.trouble
        return {
            "name": name,
            "state": plugin.startup.state,
            "healthy": healthy,
            "error": trouble,
            "behind": 0 if consumer is None else self._delivery.lag(name),
            "parked": 0 if consumer is None else consumer.parked,
            "dead": self.dead.get(name, 0),
            "oldest": round(self.age(name), 1),
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

    def samples(self) -> Iterator[Sample]:
        """The metrics of delivery, custom values and journal."""
        for plugin in self._plugins:
            labels, startup = {"plugin": plugin.name}, plugin.startup
            starting, text = startup.trouble is not None, "1 while the plugin has not started"
            yield Sample("gauge", "gateway_plugin_starting", text, labels, starting)
            text = "Attempts to start a plugin that failed"
            yield Sample("counter", "gateway_startup_failures_total", text, labels, startup.failures)
        for name in self._delivery.consumers:
            yield from self._of_plugin(name)
        for plugin in self._plugins:
            yield _blocked(plugin)
        for provider in self._values.health():
            yield from _of_provider(provider)
        yield from self._of_journal()

    def _of_plugin(self, name: str) -> Iterator[Sample]:
        consumer = self._delivery.consumers[name]
        health, labels = consumer.health, {"plugin": name}
        for metric, text, count in (
            ("deliveries", "Events taken by a plugin", health.delivered),
            ("delivery_failures", "Failed calls of a plugin", health.failures),
            ("dead_letters", "Events that became dead letters", health.buried_count),
        ):
            yield Sample("counter", f"gateway_{metric}_total", text, labels, count)
        behind = self._delivery.lag(name)
        for metric, text, value in (
            ("plugin_healthy", "1 while the plugin takes events", consumer.healthy),
            ("plugin_behind", "Positions between the cursor of a plugin and the newest event", behind),
            ("plugin_parked", "Events that wait for a retry or an earlier event", consumer.parked),
            ("dead_letters", "Dead letters that wait for a decision", self.dead[name]),
            ("oldest_undelivered_seconds", "Age of the oldest event that a plugin has not taken, or 0", self.age(name)),
        ):
            yield Sample("gauge", f"gateway_{metric}", text, labels, value)

    def _of_journal(self) -> Iterator[Sample]:
        journal = self._journal
        used, free = journal_space(self.config)
        lost = "Custom value requests not recorded"
        yield Sample("counter", "gateway_value_records_lost_total", lost, {}, journal.value_records_lost)
        for metric, text, value in (
            ("journal_refusing", "1 while the journal refuses new events", journal.refusal() is not None),
            ("journal_position", "Position of the newest event", journal.newest),
            ("journal_damaged", "Damaged places found since the start", journal.damaged),
            ("journal_bytes", "Size of the journal's files", used),
            ("disk_free_bytes", "Free space on the journal's disk", free),
        ):
            yield Sample("gauge", f"gateway_{metric}", text, {}, value)


def _of_provider(provider: ProviderHealth) -> Iterator[Sample]:
    labels = {"provider": provider.name}
    for metric, text, count in (
        ("asked", "Requests sent to a provider", provider.asked),
        ("failed", "Requests that a provider failed to answer", provider.failed),
        ("late", "Answers of a provider after the deadline", provider.late),
        ("skipped", "Requests not sent to a provider because its circuit breaker was open", provider.skipped),
    ):
        yield Sample("counter", f"gateway_provider_{metric}_total", text, labels, count)
    broken = "1 while its circuit breaker is not closed"
    yield Sample("gauge", "gateway_provider_broken", broken, labels, provider.breaker != "closed")


def _blocked(plugin: Plugin) -> Sample:
    """The place that blocks its loop is a label, which is one of the places in its code."""
    blocked = plugin.loop.blocked
    labels = {"plugin": plugin.name} if blocked is None else {"plugin": plugin.name, "at": blocked.place}
    text = "Seconds for which the event loop of a plugin has not answered"
    return Sample("gauge", "gateway_plugin_blocked_seconds", text, labels, 0.0 if blocked is None else blocked.seconds)
