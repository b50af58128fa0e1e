"""Metrics of a plugin's own: `context.metrics`. They are on the gateway's page of metrics, as
`webio_gateway_plugin_PLUGIN_NAME{plugin="INSTANCE"}`. Everything about them is bounded. Thread-safe."""

from __future__ import annotations

import re
import threading
from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from typing import Final, Literal, TypeVar

METRICS: Final = 50
"""Metrics of one plugin instance, at most."""
LABELS: Final = 4
"""Labels of one metric, at most."""
SERIES: Final = 100
"""Combinations of label values of one metric, at most; what is beyond counts as `other`."""
OTHER: Final = "other"
SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The bounds of a histogram of times."""
_BOUNDS: Final = 30
_LONGEST_VALUE: Final = 64
_LONGEST_HELP: Final = 200
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,47}", re.ASCII)
_RESERVED: Final = ("_total", "_bucket", "_sum", "_count")
_RESERVED_LABELS: Final = ("plugin", "le")

Kind = Literal["counter", "gauge", "histogram"]
Values = tuple[str, ...]


class PluginMetric:
    """What the three kinds share: a name, a help text, and values by the values of their labels."""

    kind: Kind

    def __init__(self, name: str, help: str, labels: tuple[str, ...]) -> None:
        self.name, self.help, self.labels = name, help, labels
        self._lock = threading.Lock()

    def _key(self, given: dict[str, str], known: Collection[Values]) -> Values:
        """The label values as a key; those of `other` where there are too many already. Holds the lock."""
        if given.keys() != set(self.labels):
            expected = ", ".join(self.labels) or "none"
            raise ValueError(f"metric {self.name}: expected the labels {expected}, found {', '.join(given) or 'none'}")
        key = tuple(str(given[label])[:_LONGEST_VALUE] for label in self.labels)
        return key if key in known or len(known) < SERIES else (OTHER,) * len(self.labels)


class PluginCounter(PluginMetric):
    """Counts what happens; never falls."""

    kind = "counter"

    def __init__(self, name: str, help: str, labels: tuple[str, ...]) -> None:
        super().__init__(name, help, labels)
        self.values: dict[Values, float] = {}

    def add(self, amount: float = 1, **labels: str) -> None:
        """Count `amount`, which is not negative. Each label has a value here, never one of a customer's."""
        if not amount >= 0:
            raise ValueError(f"metric {self.name}: a counter grows by 0 or more")
        with self._lock:
            key = self._key(labels, self.values)
            self.values[key] = self.values.get(key, 0.0) + amount


class PluginGauge(PluginMetric):
    """A value that rises and falls."""

    kind = "gauge"

    def __init__(self, name: str, help: str, labels: tuple[str, ...]) -> None:
        super().__init__(name, help, labels)
        self.values: dict[Values, float] = {}

    def set(self, value: float, **labels: str) -> None:
        """The value now."""
        with self._lock:
            self.values[self._key(labels, self.values)] = float(value)


class Buckets:
    """The observations of one combination of labels: how many fell into each bucket, and their sum."""

    __slots__ = ("counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0


class PluginHistogram(PluginMetric):
    """Counts values by bounds."""

    kind = "histogram"

    def __init__(self, name: str, help: str, labels: tuple[str, ...], bounds: tuple[float, ...]) -> None:
        super().__init__(name, help, labels)
        self.bounds = bounds
        self.values: dict[Values, Buckets] = {}

    def observe(self, value: float, **labels: str) -> None:
        """Count a value, such as a time in seconds."""
        with self._lock:
            key = self._key(labels, self.values)
            buckets = self.values.get(key)
            if buckets is None:
                buckets = self.values[key] = Buckets(self.bounds)
            buckets.counts[bisect_left(self.bounds, value)] += 1
            buckets.sum += value


M = TypeVar("M", bound=PluginMetric)


class PluginMetrics:
    """The metrics of one plugin instance. Make them in `startup`; a metric that is made again, as after a startup that
    failed, is the same one. `ValueError` for a name that cannot be used, and for more than `METRICS`."""

    def __init__(self) -> None:
        self._metrics: dict[str, PluginMetric] = {}
        self._lock = threading.Lock()

    def counter(self, name: str, help: str, labels: Sequence[str] = ()) -> PluginCounter:
        """A counter. On the page its name ends with `_total`."""
        return self._kept(PluginCounter(*_checked(name, help, labels)))

    def gauge(self, name: str, help: str, labels: Sequence[str] = ()) -> PluginGauge:
        """A gauge."""
        return self._kept(PluginGauge(*_checked(name, help, labels)))

    def histogram(
        self, name: str, help: str, labels: Sequence[str] = (), bounds: Sequence[float] = SECONDS
    ) -> PluginHistogram:
        """A histogram with these upper bounds, at most 30, in rising order."""
        if not 0 < len(bounds) <= _BOUNDS or list(bounds) != sorted(set(bounds)):
            raise ValueError(f"metric {name}: expected 1 to {_BOUNDS} bounds in rising order")
        return self._kept(PluginHistogram(*_checked(name, help, labels), bounds=tuple(map(float, bounds))))

    def __iter__(self) -> Iterator[PluginMetric]:
        return iter(list(self._metrics.values()))

    def _kept(self, metric: M) -> M:
        with self._lock:
            there = self._metrics.setdefault(metric.name, metric)
            if type(there) is not type(metric) or there.labels != metric.labels:
                raise ValueError(
                    f"metric {metric.name}: is there already as a {there.kind} with other labels or bounds"
                )
            if getattr(there, "bounds", None) != getattr(metric, "bounds", None):
                raise ValueError(
                    f"metric {metric.name}: is there already as a {there.kind} with other labels or bounds"
                )
            if len(self._metrics) > METRICS:
                del self._metrics[metric.name]
                raise ValueError(f"metric {metric.name}: a plugin has at most {METRICS} metrics")
            return there


def _checked(name: str, help: str, labels: Sequence[str]) -> tuple[str, str, tuple[str, ...]]:
    if not _NAME.fullmatch(name) or name.endswith(_RESERVED):
        rule = "lower-case letters, digits and _, at most 48, beginning with a letter"
        raise ValueError(f"metric {name[:60]!r}: expected {rule}, and no ending such as _total, which the page adds")
    if len(labels) > LABELS or len(set(labels)) != len(labels):
        raise ValueError(f"metric {name}: expected at most {LABELS} labels, each once")
    for label in labels:
        if not _NAME.fullmatch(label) or label in _RESERVED_LABELS:
            raise ValueError(f"metric {name}: {label[:60]!r} cannot be a label; plugin and le are the gateway's")
    return name, " ".join(help.split())[:_LONGEST_HELP], tuple(labels)
