"""What health and metrics tell of the gateway's parts. What only the journal knows is counted in the background."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import Any, Final

from gateway.config.tables import Config
from gateway.delivery.service import Delivery
from gateway.journal import journal_space
from gateway.journal.interface import Filter, Journal, JournalError
from gateway.journal.search import UnknownName
from gateway.metrics import Sample
from gateway.unknown import advice, public, types_of
from gateway.values.service import CustomValues

PAUSE: Final = 1.0
"""Seconds between two counts of the dead letters, at least."""
SHARE: Final = 50
"""A pause is at least this many times as long as the count before it took."""


class Monitor:
    """`dead` is how many dead letters each plugin has, and `unknown` what is kept as unknown, as of the last count."""

    def __init__(self, config: Config, journal: Journal, delivery: Delivery, values: CustomValues) -> None:
        self.dead = dict.fromkeys(delivery.consumers, 0)
        self.unknown: list[UnknownName] = []
        self._config = config
        self._journal = journal
        self._delivery = delivery
        self._values = values
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
            await asyncio.sleep(max(PAUSE, SHARE * (time.monotonic() - began)))

    def plugins_health(self) -> list[dict[str, Any]]:
        """The health of each plugin that takes events. `behind` is in positions, `parked` and `dead` in events."""
        return [
            {
                "name": name,
                "healthy": consumer.healthy,
                "error": None if consumer.healthy else consumer.health.trouble,
                "behind": self._delivery.lag(name),
                "parked": consumer.parked,
                "dead": self.dead[name],
            }
            for name, consumer in self._delivery.consumers.items()
        ]

    def unknown_health(self) -> list[dict[str, Any]]:
        """The names that no hook has: how many events are kept by each, since when, and what to add to the config."""
        types = types_of(self._config)
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
        for name, consumer in self._delivery.consumers.items():
            health, labels = consumer.health, {"plugin": name}
            for metric, text, count in (
                ("deliveries", "Events taken by a plugin", health.delivered),
                ("delivery_failures", "Failed calls of a plugin", health.failures),
                ("dead_letters", "Events that became dead letters", health.buried_count),
            ):
                yield Sample("counter", f"gateway_{metric}_total", text, labels, count)
            for metric, text, value in (
                ("healthy", "1 while the plugin takes events", consumer.healthy),
                ("behind", "Positions between the cursor of a plugin and the newest event", self._delivery.lag(name)),
                (
                    "parked",
                    "Events that wait for a retry or an earlier event",
                    consumer.parked,
                ),
            ):
                yield Sample("gauge", f"gateway_plugin_{metric}", text, labels, value)
        for provider in self._values.health():
            labels = {"provider": provider.name}
            for metric, text, count in (
                ("asked", "Requests sent to a provider", provider.asked),
                ("failed", "Requests that a provider failed to answer", provider.failed),
                ("late", "Answers of a provider after the deadline", provider.late),
                ("skipped", "Requests not sent to a provider because its circuit breaker was open", provider.skipped),
            ):
                yield Sample("counter", f"gateway_provider_{metric}_total", text, labels, count)
            broken = provider.breaker != "closed"
            yield Sample(
                "gauge",
                "gateway_provider_broken",
                "1 while its circuit breaker is not closed",
                labels,
                broken,
            )
        lost, refusing = self._journal.value_records_lost, self._journal.refusal() is not None
        yield Sample(
            "counter",
            "gateway_value_records_lost_total",
            "Custom value requests not recorded",
            {},
            lost,
        )
        yield Sample("gauge", "gateway_journal_refusing", "1 while the journal refuses new events", {}, refusing)
        yield Sample("gauge", "gateway_journal_position", "Position of the newest event", {}, self._journal.newest)
        yield Sample(
            "gauge", "gateway_journal_damaged", "Damaged places found since the start", {}, self._journal.damaged
        )
        for name, count in self.dead.items():
            text = "Dead letters that wait for a decision"
            yield Sample("gauge", "gateway_dead_letters", text, {"plugin": name}, count)
        used, free = journal_space(self._config)
        yield Sample("gauge", "gateway_journal_bytes", "Size of the journal's files", {}, used)
        yield Sample("gauge", "gateway_disk_free_bytes", "Free space on the journal's disk", {}, free)
