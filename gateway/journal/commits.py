"""Figures about the commits that keep events."""

from __future__ import annotations

from typing import Final

from gateway.metrics import Histogram

SIZES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Bounds for the events of a commit, which has about 1000 at most."""


class Commits:
    """`events` is how many events each commit kept, `seconds` how long it took, from its begin until it was durable."""

    def __init__(self) -> None:
        self.events = Histogram(SIZES)
        self.seconds = Histogram()

    def observe(self, events: int, seconds: float) -> None:
        self.events.observe(events)
        self.seconds.observe(seconds)
