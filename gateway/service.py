"""The whole gateway: its parts, and the order in which they start and stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from gateway.config.tables import Config
from gateway.delivery.service import Delivery
from gateway.http.receiver import Receiver
from gateway.journal import open_journal
from gateway.journal.interface import JournalFailed
from gateway.metrics import Metrics, Sample
from gateway.plugin_host.lifecycle import Lifecycle
from gateway.plugin_host.load import Plugin
from gateway.values.service import CustomValues

DRAIN_SECONDS: Final = 4.0
SHUTDOWN_SECONDS: Final = 2.0


class Gateway:
    """Journal, plugins, custom values and delivery; started in this order and stopped in reverse."""

    def __init__(
        self,
        config: Config,
        plugins: Sequence[Plugin],
        *,
        clock: Callable[[], float] = time.time,
        copy_before_upgrade: bool = True,
    ) -> None:
        self.config = config
        self.metrics = Metrics()
        self.journal = open_journal(config, clock=clock, copy_before_upgrade=copy_before_upgrade)
        self.values = CustomValues(config, plugins)
        self.delivery = Delivery(plugins, self.journal, clock)
        self.receiver = Receiver(config, self.journal, self.values, self.metrics)
        self._lifecycle = Lifecycle(config, plugins)
        self._draining: asyncio.Task[None] | None = None
        self.values.keep_record = self.journal.record_value_request

    async def start(self, on_failure: Callable[[JournalFailed], None]) -> None:
        """Start all parts; `on_failure` is called when a commit fails later. Raises `JournalError` or `StartFailed`,
        after it has stopped what it started."""
        await self.journal.start()
        self.journal.on_failure = on_failure
        try:
            await self._lifecycle.start()
            await self.values.start()
            await self.delivery.start()
        except BaseException:
            await self._lifecycle.stop(SHUTDOWN_SECONDS)
            await self.journal.close()
            raise

    def drain(self) -> None:
        """Prepare for `stop`: refuse bodies that stall, and hand no new events to plugins, while the requests that have
        begun are still answered."""
        self.receiver.drain()
        if self._draining is None:
            self._draining = asyncio.create_task(self.delivery.stop(DRAIN_SECONDS))

    async def stop(self) -> None:
        """Wait for the running deliveries, checkpoint, shut the plugins down, and close the journal."""
        await (self._draining or self.delivery.stop(DRAIN_SECONDS))
        await self.values.close()
        await self._lifecycle.stop(SHUTDOWN_SECONDS)
        await self.journal.close()

    def plugins_health(self) -> list[dict[str, Any]]:
        """The health of each plugin that takes events. `behind` is in positions, `parked` in events."""
        return [
            {
                "name": name,
                "healthy": consumer.health.healthy,
                "error": consumer.health.trouble,
                "behind": self.delivery.lag(name),
                "parked": consumer.parked,
            }
            for name, consumer in self.delivery.consumers.items()
        ]

    def metrics_page(self) -> bytes:
        """The page that `/metrics` answers with. Reads memory only."""
        return self.metrics.page(self._samples())

    def _samples(self) -> Iterator[Sample]:
        for name, consumer in self.delivery.consumers.items():
            health, labels = consumer.health, {"plugin": name}
            for metric, text, count in (
                ("deliveries", "Events taken by a plugin", health.delivered),
                ("delivery_failures", "Failed calls of a plugin", health.failures),
                ("dead_letters", "Events that became dead letters", health.buried_count),
            ):
                yield Sample("counter", f"gateway_{metric}_total", text, labels, count)
            for metric, text, value in (
                ("healthy", "1 while the plugin takes events", health.healthy),
                ("behind", "Positions between the cursor of a plugin and the newest event", self.delivery.lag(name)),
                (
                    "parked",
                    "Events that wait for a retry or an earlier event",
                    consumer.parked,
                ),
            ):
                yield Sample("gauge", f"gateway_plugin_{metric}", text, labels, value)
        for provider in self.values.health():
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
        lost, refusing = self.journal.value_records_lost, self.journal.refusal() is not None
        yield Sample(
            "counter",
            "gateway_value_records_lost_total",
            "Custom value requests not recorded",
            {},
            lost,
        )
        yield Sample("gauge", "gateway_journal_refusing", "1 while the journal refuses new events", {}, refusing)
        yield Sample("gauge", "gateway_journal_position", "Position of the newest event", {}, self.journal.newest)
