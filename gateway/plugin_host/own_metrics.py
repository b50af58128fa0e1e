"""What `/metrics` shows of the tasks and the metrics of plugins' own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from gateway.metrics import Histogram, Sample
from gateway.plugin_host.load import Plugin
from gateway.plugin_metrics import Buckets, PluginHistogram, PluginMetric

PREFIX: Final = "webio_gateway_plugin"
_OTHER: Final = re.compile(r"[^a-z0-9_]", re.ASCII)


def own_samples(plugins: Sequence[Plugin]) -> Iterator[Sample]:
    """The samples of every plugin. The name of a metric has the plugin's, so that two plugins may use one name."""
    kinds: dict[str, str] = {}
    for plugin in plugins:
        labels = {"plugin": plugin.name}
        failed = "Tasks of a plugin that ended with an exception"
        yield Sample("counter", "gateway_plugin_task_failures_total", failed, labels, plugin.tasks.failures)
        yield Sample("gauge", "gateway_plugin_tasks", "Tasks of a plugin that run", labels, len(plugin.tasks))
        for metric in plugin.metrics:
            name = f"{PREFIX}_{_OTHER.sub('_', plugin.plugin.lower())}_{metric.name}"
            name += "_total" if metric.kind == "counter" else ""
            if kinds.setdefault(name, metric.kind) == metric.kind:
                yield from _of_metric(name, labels, metric)


def _of_metric(name: str, labels: dict[str, str], metric: PluginMetric) -> Iterator[Sample]:
    values = getattr(metric, "values", {})
    for key, value in list(values.items()):
        own = labels | dict(zip(metric.labels, key, strict=True))
        if isinstance(metric, PluginHistogram):
            yield Sample(metric.kind, name, metric.help, own, _histogram(metric, value))
        else:
            yield Sample(metric.kind, name, metric.help, own, value)


def _histogram(metric: PluginHistogram, buckets: Buckets) -> Histogram:
    made = Histogram(metric.bounds)
    made.counts, made.sum = list(buckets.counts), buckets.sum
    return made
