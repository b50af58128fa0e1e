"""Charts: the data that the browser draws, and the same as a table, for those who do not see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from gateway.rates import Rate


class Line(NamedTuple):
    """A line of a chart: its label, and its height in a span of time, or None for a gap."""

    label: str
    height: Callable[[Rate], float | None]


class Chart(msgspec.Struct, kw_only=True):
    """`data` is the JSON of `{"labels": [...], "columns": [times, heights, ...]}`: times in seconds since 1970, one
    column of heights for each label, null where there is a gap. `rows` are the spans with a height above 0."""

    labels: list[str]
    data: str
    rows: list[tuple[datetime, list[float | None]]]


def chart_of(spans: Sequence[Rate | None], seconds: int, lines: Sequence[Line]) -> Chart:
    """A chart of these spans of so many seconds each; None is one from before counting began."""
    newest = next(span for span in reversed(spans) if span is not None)
    times = [newest.at - seconds * back for back in range(len(spans) - 1, -1, -1)]
    columns = [[None if span is None else _rounded(line.height(span)) for span in spans] for line in lines]
    labels = [line.label for line in lines]
    rows = [
        (datetime.fromtimestamp(at, UTC), list(heights))
        for at, *heights in zip(times, *columns, strict=True)
        if any(heights)
    ]
    data = msgspec.json.encode({"labels": labels, "columns": [times, *columns]}).decode()
    return Chart(labels=labels, data=data, rows=rows[::-1])


def _rounded(height: float | None) -> float | None:
    return None if height is None else round(height, 1)
