"""The metrics, and their page in Prometheus' text format. The values of labels come from the config and
fixed sets only, so a client cannot add time series."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Final, Literal, NamedTuple

from gateway.events import UNKNOWN

BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


class Sample(NamedTuple):
    """One value of a metric. The name of a counter ends with `_total`."""

    kind: Literal["counter", "gauge"]
    name: str
    help: str
    labels: Mapping[str, str]
    value: float


class Seconds:
    """A histogram of times in seconds."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds


class Metrics:
    """Counts of the requests to one gateway."""

    def __init__(self) -> None:
        self.received: Counter[tuple[str, str, str]] = Counter()
        """Events answered 200, by organisation, hook and kind (new, duplicate, unreadable)."""
        self.refused: Counter[tuple[str, str]] = Counter()
        """Requests not answered 200, by status and reason."""
        self.values: Counter[tuple[str, str]] = Counter()
        """Custom value requests, by organisation and status."""
        self.seconds = {"event": Seconds(), "custom_values": Seconds()}
        """Time to the answer, by kind of request."""

    def page(self, samples: Iterable[Sample] = ()) -> bytes:
        """The page: the requests, and the samples of the gateway's other parts."""
        described: dict[str, list[str]] = {}
        for sample in (*self._requests(), *samples):
            if sample.name not in described:
                described[sample.name] = [
                    f"# HELP {sample.name} {sample.help}",
                    f"# TYPE {sample.name} {sample.kind}",
                ]
            described[sample.name].append(_line(sample.name, sample.labels, sample.value))
        lines = [line for family in described.values() for line in family]
        return "".join(f"{line}\n" for line in (*lines, *self._histogram("gateway_answer_seconds"))).encode()

    def _requests(self) -> Iterator[Sample]:
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

    def _histogram(self, name: str) -> Iterator[str]:
        yield f"# HELP {name} Time to the answer"
        yield f"# TYPE {name} histogram"
        for kind, times in self.seconds.items():
            for bound, count in zip((*BUCKETS, "+Inf"), accumulate(times.counts), strict=True):
                yield _line(f"{name}_bucket", {"le": str(bound), "request": kind}, count)
            yield _line(f"{name}_count", {"request": kind}, sum(times.counts))
            yield _line(f"{name}_sum", {"request": kind}, times.sum)


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    pairs = ",".join(f'{label}="{text.translate(_ESCAPES)}"' for label, text in labels.items())
    return f"{name}{{{pairs}}} {float(value)}" if pairs else f"{name} {float(value)}"
