"""What the shards of one plugin share at this gateway: its health, its checkpoints, how many batches it has at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gateway.delivery.checkpoint import Checkpoint
from gateway.delivery.health import Health
from gateway.delivery.items import Batch
from gateway.plugin_host.load import Plugin

if TYPE_CHECKING:
    from gateway.delivery.pipeline import Pipeline


class Shared:
    """`batches` are those that the plugin has now, of all shards."""

    def __init__(self, plugin: Plugin, health: Health) -> None:
        self.health = health
        self.checkpoint = Checkpoint(plugin)
        self.batches: dict[asyncio.Task[None], Batch] = {}
        self._pipelines: list[Pipeline] = []
        self._told: Exception | None = None
        health.outage.on_end = self.wake

    @property
    def unproven(self) -> bool:
        """Whether the plugin has taken events that are not durable yet."""
        return any(pipeline.machine.attempts.unproven for pipeline in self._pipelines)

    @property
    def idle(self) -> bool:
        """Whether nothing is left that the plugin could take."""
        return all(pipeline.through and pipeline.machine.idle for pipeline in self._pipelines)

    def is_new(self, error: Exception) -> bool:
        """Whether no shard has told of this failure yet."""
        new, self._told = error is not self._told, error
        return new

    def join(self, pipeline: Pipeline) -> None:
        """This gateway delivers one more shard."""
        self._pipelines.append(pipeline)

    def leave(self, pipeline: Pipeline) -> None:
        """It delivers the shard no more: what it had, the others do not wait for any longer."""
        self._pipelines.remove(pipeline)
        self.wake()

    def wake(self) -> None:
        """Every shard may have something to dispatch: what held all of them up is over."""
        for pipeline in self._pipelines:
            pipeline.machine.ready.set()

    def begin(self, task: asyncio.Task[None], batch: Batch) -> None:
        """The plugin gets a batch."""
        self.batches[task] = batch

    def end(self, task: asyncio.Task[None], ready: asyncio.Event) -> None:
        """A batch is over: the other shards may begin one, then that of `ready`, whose batch it was."""
        del self.batches[task]
        signals = [pipeline.machine.ready for pipeline in self._pipelines]
        own = signals.index(ready) if ready in signals else -1
        for signal in (*signals[own + 1 :], *signals[:own]):  # in turn, or the first shard would always come first
            signal.set()
        ready.set()
