"""What metrics are made of, the counts of requests, and the page in Prometheus' text format. The values of labels come
from the config and fixed sets only, so a client cannot add time series."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final, Literal, NamedTuple

from gateway.events import UNKNOWN

SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
"""Bounds for the time of a request, a commit or a call."""
_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


class Histogram:
    """Counts values by bounds, which are fixed and grow. An observation costs one bisection. One thread observes; any
    may read."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """A value at a bound counts as within it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many values were observed."""
        return sum(self.counts)


class Sample(NamedTuple):
    """One value of a metric. The name of a counter ends with `_total`; the value of a histogram is a `Histogram`."""

    kind: Literal["counter", "gauge", "histogram"]
    name: str
    help: str
    labels: Mapping[str, str]
    value: float | Histogram


class Metrics:
    """Counts of the requests to one gateway."""

    def __init__(self) -> None:
        self.received: Counter[tuple[str, str, str]] = Counter()
        """Events answered 200, by organisation, hook and kind (new, duplicate, unreadable)."""
        self.refused: Counter[tuple[str, str]] = Counter()
        """Requests not answered 200, by status and reason."""
        self.values: Counter[tuple[str, str]] = Counter()
        """Custom value requests, by organisation and status."""
        self.seconds = {"event": Histogram(), "custom_values": Histogram()}
        """Time from the head of a request to its answer, by kind of request."""

    def samples(self) -> Iterator[Sample]:
        for (organisation, hook, kind), count in self.received.items():
            labels = {"hook": hook, "kind": kind, "organisation": organisation}
            yield Sample("counter", "gateway_events_received_total", "Events answered 200", labels, count)
        unknown = sum(count for (_, hook, _), count in self.received.items() if hook == UNKNOWN)
        yield Sample("counter", "gateway_unknown_events_total", "Events of a type that no hook has", {}, unknown)
        for (status, reason), count in self.refused.items():
            labels = {"reason": reason, "status": status}
            yield Sample("counter", "gateway_requests_refused_total", "Requests refused", labels, count)
        for (organisation, status), count in self.values.items():
            labels = {"organisation": organisation, "status": status}
            yield Sample("counter", "gateway_custom_value_requests_total", "Custom value requests", labels, count)
        for kind, seconds in self.seconds.items():
            text = "Time from the head of a request to its answer"
            yield Sample("histogram", "gateway_answer_seconds", text, {"request": kind}, seconds)


def page(samples: Iterable[Sample]) -> bytes:
    """The page with these samples."""
    families: dict[str, list[str]] = {}
    for sample in samples:
        name = sample.name
        lines = families.setdefault(name, [f"# HELP {name} {sample.help}", f"# TYPE {name} {sample.kind}"])
        if isinstance(sample.value, Histogram):
            lines += _histogram(name, sample.labels, sample.value)
        else:
            lines.append(_line(name, sample.labels, sample.value))
    return "".join(f"{line}\n" for lines in families.values() for line in lines).encode()


def _histogram(name: str, labels: Mapping[str, str], values: Histogram) -> Iterator[str]:
    counts = list(accumulate(values.counts))
    for bound, count in zip((*values.bounds, "+Inf"), counts, strict=True):
        yield _line(f"{name}_bucket", {"le": str(bound), **labels}, count)
    yield _line(f"{name}_count", labels, counts[-1])
    yield _line(f"{name}_sum", labels, values.sum)


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    pairs = ",".join(f'{label}="{text.translate(_ESCAPES)}"' for label, text in labels.items())
    return f"{name}{{{pairs}}} {float(value)}" if pairs else f"{name} {float(value)}"
