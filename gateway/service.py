"""The gateway as a whole: its parts, and in which order they start and stop."""

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
        self.metrics.watch(self._samples)
        self.values.keep_record = self.journal.record_value_request

    async def start(self, on_failure: Callable[[JournalFailed], None]) -> None:
        """`JournalError` or `StartFailed`; then nothing is left running."""
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
        """Prepare for `stop`: bodies that stall are refused soon, and plugins get no new events, while the requests
        that are on their way are still answered."""
        self.receiver.drain()
        if self._draining is None:
            self._draining = asyncio.create_task(self.delivery.stop(DRAIN_SECONDS))

    async def stop(self) -> None:
        """Deliver what plugins have in hand, checkpoint, shut down, close."""
        await (self._draining or self.delivery.stop(DRAIN_SECONDS))
        await self.values.close()
        await self._lifecycle.stop(SHUTDOWN_SECONDS)
        await self.journal.close()

    def plugins_health(self) -> list[dict[str, Any]]:
        """How each plugin that takes events is doing."""
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

    def _samples(self) -> Iterator[Sample]:
        for name, consumer in self.delivery.consumers.items():
            labels = {"plugin": name}
            health = consumer.health
            yield "counter", "gateway_deliveries", "Events taken by a plugin", labels, health.delivered
            yield "counter", "gateway_delivery_failures", "Failed calls of a plugin", labels, health.failures
            yield "counter", "gateway_dead_letters", "Events that became dead letters", labels, health.buried_count
            yield "gauge", "gateway_plugin_healthy", "1 when the plugin takes events", labels, float(health.healthy)
            yield "gauge", "gateway_plugin_behind", "Positions behind the newest event", labels, self.delivery.lag(name)
            yield "gauge", "gateway_plugin_parked", "Events retrying or held", labels, consumer.parked
        refusing = self.journal.refusal() is not None
        yield "gauge", "gateway_journal_refusing", "1 when new events cannot be kept", {}, float(refusing)
        for provider in self.values.health():
            labels = {"provider": provider.name}
            yield "counter", "gateway_provider_asked", "Requests put to a provider", labels, provider.asked
            yield "counter", "gateway_provider_failed", "Requests a provider failed", labels, provider.failed
            yield "counter", "gateway_provider_late", "Answers that came too late", labels, provider.late
            yield (
                "counter",
                "gateway_provider_skipped",
                "Requests not put to a broken provider",
                labels,
                provider.skipped,
            )
            open_breaker = float(provider.breaker != "closed")
            yield "gauge", "gateway_provider_broken", "1 while a provider is passed over", labels, open_breaker
        yield (
            "counter",
            "gateway_value_records_lost",
            "Value requests without a record",
            {},
            self.journal.value_records_lost,
        )
        yield "gauge", "gateway_journal_position", "Position of the newest event", {}, self.journal.newest
