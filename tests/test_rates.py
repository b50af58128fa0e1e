"""What came by the minute, as the page Now shows it."""

from __future__ import annotations

from gateway.metrics import Metrics
from gateway.rates import KEPT, Rate, Rates, total

START = 1_800_000_000.0  # a full minute, hour and five minutes


class Clock:
    now = START

    def __call__(self) -> float:
        return self.now


def events(spans: list[Rate | None]) -> list[int | None]:
    return [None if span is None else span.events["payment"] for span in spans]


def test_minutes_are_counted_apart() -> None:
    """Also the one that is not over; a repeated event does not count, and before the start there is a gap."""
    clock, metrics = Clock(), Metrics()
    clock.now += 20
    rates = Rates(metrics, clock)
    for count in (3, 0, 2):
        metrics.received["acme", "payment", "new"] += count
        metrics.received["acme", "payment", "duplicate"] += 5
        clock.now += 60
        rates.close_minute()
    metrics.received["globex", "payment", "unreadable"] += 1
    assert events(rates.spans(1, 6)) == [None, None, 3, 0, 2, 1]
    assert events(rates.spans(5, 2)) == [None, 6]
    assert total(rates.spans(1, 6)).events == {"payment": 6}


def test_what_was_counted_before_is_not_counted_again() -> None:
    """Counting begins with the object: a restart, or counters that have numbers already, add nothing."""
    clock, metrics = Clock(), Metrics()
    metrics.received["acme", "payment", "new"] += 1000
    rates = Rates(metrics, clock)
    assert rates.since == START
    assert events(rates.spans(1, 2)) == [None, 0]


def test_a_day_is_kept() -> None:
    """And no more, so that the memory is bounded."""
    clock, metrics = Clock(), Metrics()
    rates = Rates(metrics, clock)
    for _ in range(KEPT + 100):
        metrics.received["acme", "payment", "new"] += 1
        clock.now += 60
        rates.close_minute()
    assert total(rates.spans(1, KEPT + 100)).events["payment"] == KEPT


def test_a_clock_that_jumps() -> None:
    """Forward: the minutes without the process are empty. Back: the minute is longer, and nothing counts twice."""
    clock, metrics = Clock(), Metrics()
    rates = Rates(metrics, clock)
    metrics.received["acme", "payment", "new"] += 1
    clock.now += 180
    rates.close_minute()
    metrics.received["acme", "payment", "new"] += 2
    clock.now -= 60
    rates.close_minute()
    clock.now += 120
    rates.close_minute()
    assert events(rates.spans(1, 5)) == [1, 0, 0, 2, 0]


def test_quantiles_are_interpolated() -> None:
    """Within a bucket of the histogram; without a request there is none."""
    clock, metrics = Clock(), Metrics()
    rates = Rates(metrics, clock)
    assert total(rates.spans(1, 1)).quantile(0.5) is None
    for seconds in [0.02] * 90 + [0.4] * 10:
        metrics.seconds["custom_values"].observe(seconds)
    metrics.values["acme", "200"] += 90
    metrics.values["acme", "504"] += 10
    [now] = rates.spans(1, 1)
    assert now is not None
    assert (now.values["200"], now.values["504"]) == (90, 10)
    half, most = now.quantile(0.5), now.quantile(0.95)
    assert half is not None
    assert most is not None
    assert 0.01 < half < 0.025
    assert 0.25 < most < 0.5
    metrics.seconds["custom_values"].observe(60.0)
    assert rates.spans(1, 1)[0].quantile(1.0) == 5  # type: ignore[union-attr]
