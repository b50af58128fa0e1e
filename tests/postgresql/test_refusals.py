"""When it is looked again whether new events can be taken."""

from __future__ import annotations

import time

import pytest

from gateway.journal.postgresql.refusing import LONGEST, Refusals


def test_a_reason_that_comes_back_is_looked_at_ever_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a disk that has room for a little only: the log has a few lines, and not two a second."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    refusals, pauses = Refusals(), list[float]()
    for _ in range(7):
        refusals.refuse("the disk is full")
        begun = now
        while not refusals.is_due:
            now += 0.5
        pauses.append(now - begun)
        refusals.take()
        now += 0.5
    assert pauses == [0, 1, 2, 4, 8, LONGEST, LONGEST]
    now += 60
    refusals.refuse("the disk is full")
    assert refusals.is_due
