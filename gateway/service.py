"""The whole gateway: its parts, and the order in which they start and stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

from gateway.config.tables import Config
from gateway.decoding import Decoder
from gateway.delivery.service import Delivery
from gateway.drift import DriftWatch
from gateway.http.receiver import Receiver
from gateway.journal import open_journal
from gateway.journal.interface import Journal, JournalFailed
from gateway.metrics import Metrics, page
from gateway.monitoring import Monitor
from gateway.notices import Notices
from gateway.operations import OperationRunner
from gateway.plugin_host.config_summary import ConfigSummary
from gateway.plugin_host.lifecycle import Lifecycle
from gateway.plugin_host.load import Plugin
from gateway.plugin_host.own_metrics import own_samples
from gateway.plugin_host.watch import Watch
from gateway.process import process_samples
from gateway.rates import Rates
from gateway.samples import drift_samples, journal_samples, plugin_samples, secret_samples, value_samples
from gateway.tracing import Tracing
from gateway.values.service import CustomValues

DRAIN_SECONDS: Final = 4.0
SHUTDOWN_SECONDS: Final = 2.0


class Gateway:
    """Journal, delivery, custom values and plugins. Events are kept as soon as the journal is open, whether the plugins
    have started or not: each of them gets its events, and requests for its values, once it has."""

    def __init__(
        self,
        config: Config,
        plugins: Sequence[Plugin],
        *,
        clock: Callable[[], float] = time.time,
        copy_before_upgrade: bool = True,
        journal: Journal | None = None,
    ) -> None:
        """With `journal`, which is not started, instead of the one that the config names."""
        self.config = config
        self.plugins = plugins
        self.metrics = Metrics()
        self.rates = Rates(self.metrics, clock)
        self.draining = asyncio.Event()
        """Set when the gateway begins to drain: what would stay open ends."""
        self.journal = journal or open_journal(config, clock=clock, copy_before_upgrade=copy_before_upgrade)
        self.values = CustomValues(config, plugins)
        self.delivery = Delivery(plugins, self.journal, clock)
        self.operations = OperationRunner(self.journal, self.values, self.delivery, plugins)
        self.drift = DriftWatch(self.journal, clock)
        self.monitor = Monitor(config, plugins, self.journal, self.delivery, self.values, clock)
        self.receiver = Receiver(config, self.journal, self.values, self.metrics)
        self.notices = Notices(plugins, self.monitor, self.journal)
        self.started_at = 0.0
        """Seconds since 1970."""
        self._clock = clock
        self._tracing = self._trace()
        self._lifecycle = Lifecycle(config, plugins)
        self._watch = Watch(plugins)
        self._draining: asyncio.Task[None] | None = None
        self.values.keep_record = self.journal.record_value_request
        summary = ConfigSummary(plugins)
        self.journal.about = lambda: summary.of(self.config)

    async def start(self, on_failure: Callable[[JournalFailed], None]) -> None:
        """Open the journal, and start the plugins in the background; `on_failure` is called when a commit fails later.
        Raises `JournalError`, after it has stopped what it started."""
        self.started_at = self._clock()
        await self.journal.start()
        self.journal.on_failure = on_failure
        self._watch.start()
        try:
            await self.operations.prepare()
            await self.delivery.start()
            await self.operations.resume()
        except BaseException:
            await self._watch.stop()
            await self.operations.stop()
            await self.delivery.abandon()
            await self.journal.close()
            raise
        self.values.begin()
        self.monitor.start()
        self.rates.start()
        self.drift.start()
        self._lifecycle.begin()
        self.notices.start()

    def _trace(self) -> Tracing | None:
        """Begin to trace requests and the calls of plugins, where the config has it."""
        if self.config.tracing.endpoint is None:
            return None
        tracing = Tracing(self.config.tracing, self.config.node.name)
        self.receiver.tracing = tracing
        for consumer in self.delivery.consumers.values():
            consumer.health.tracing = tracing
        return tracing

    def apply(self, config: Config) -> None:
        """Work by another config from now on: its organisations, hooks, values and delivery."""
        self.config = self.monitor.config = config
        self.journal.decoder = Decoder(config)
        self.receiver.apply(config)
        self.values.apply(config)
        self.delivery.apply()

    def drain(self) -> None:
        """Prepare for `stop`: refuse bodies that stall, and hand no new events to plugins, while the requests that have
        begun are still answered."""
        self.draining.set()
        self.receiver.drain()
        self._lifecycle.halt()
        if self._draining is None:
            self._draining = asyncio.create_task(self.delivery.stop(DRAIN_SECONDS))

    async def stop(self) -> None:
        """Wait for the running deliveries, checkpoint, shut the plugins down, and close the journal."""
        await self._end(abandoned=False)

    async def abandon(self) -> None:
        """Break off as the death of the process does: nothing more is delivered, checkpointed or settled. The plugins
        are shut down, so that they let go of what they hold."""
        await self._end(abandoned=True)

    async def _end(self, abandoned: bool) -> None:
        await self.rates.stop()
        await self.notices.stop()
        await self.monitor.stop()
        await self.drift.stop(keep=not abandoned)
        await self.operations.stop()
        await self._watch.stop()
        if abandoned:
            await self.delivery.abandon()
        else:
            await (self._draining or self.delivery.stop(DRAIN_SECONDS))
        await self.values.close()
        await self._lifecycle.stop(SHUTDOWN_SECONDS)
        await self.journal.close()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.stop)

    def metrics_page(self) -> bytes:
        """The page that `/metrics` answers with. Asks neither the journal nor its disk."""
        return page(
            (
                *self.metrics.samples(),
                *plugin_samples(self.plugins, self.delivery, self.monitor),
                *own_samples(self.plugins),
                *value_samples(self.values),
                *journal_samples(self.journal, self.monitor),
                *drift_samples(self.drift),
                *secret_samples(self.receiver.secrets_last_used()),
                *process_samples(),
            )
        )
