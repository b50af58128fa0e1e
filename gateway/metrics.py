"""What is counted, as Prometheus reads it. Labels come from the config and closed sets only.

Counting is on the way of every request, so it is plain arithmetic here; prometheus-client writes the page.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
Sample = tuple[str, str, str, dict[str, str], float]
"""Kind (`counter` or `gauge`), name, help, labels, value."""


class Seconds:
    """A histogram of times."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds


class Metrics:
    """One gateway's metrics in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.received: Counter[tuple[str, str, str]] = Counter()
        """Events answered 200, by organisation, hook and kind."""
        self.refused: Counter[tuple[str, str]] = Counter()
        """Requests not answered 200, by status and reason."""
        self.values: Counter[tuple[str, str]] = Counter()
        """Custom value requests, by organisation and status."""
        self.seconds = {"event": Seconds(), "custom_values": Seconds()}
        """Time to the answer, by kind of request."""
        self.registry.register(_Collector(self._collect))

    def watch(self, samples: Callable[[], Iterable[Sample]]) -> None:
        """Add samples that are looked up when the metrics are asked for."""
        self.registry.register(_Collector(lambda: _families(samples())))

    def page(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def _collect(self) -> Iterator[Metric]:
        labels: tuple[str, ...] = ("organisation", "hook", "kind")
        received = CounterMetricFamily("gateway_events_received", "Events answered 200", labels=labels)
        for key, count in self.received.items():
            received.add_metric(key, count)
        yield received
        refused = CounterMetricFamily("gateway_requests_refused", "Requests refused", labels=("status", "reason"))
        for refusal, count in self.refused.items():
            refused.add_metric(refusal, count)
        yield refused
        labels = ("organisation", "status")
        values = CounterMetricFamily("gateway_custom_value_requests", "Custom value requests", labels=labels)
        for request, count in self.values.items():
            values.add_metric(request, count)
        yield values
        seconds = HistogramMetricFamily("gateway_answer_seconds", "Time to the answer", labels=("request",))
        for request_kind, times in self.seconds.items():
            bounds = [*map(str, BUCKETS), "+Inf"]
            seconds.add_metric((request_kind,), list(zip(bounds, accumulate(times.counts), strict=True)), times.sum)
        yield seconds


class _Collector(Collector):
    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        return self._collect()

    def describe(self) -> Iterable[Metric]:
        return ()


def _families(samples: Iterable[Sample]) -> Iterable[Metric]:
    families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
    for kind, name, text, labels, value in samples:
        family = families.get(name)
        if family is None:
            make = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
            family = families[name] = make(name, text, labels=list(labels))
        family.add_metric(list(labels.values()), value)
    return families.values()
