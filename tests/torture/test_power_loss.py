"""Proof 2: after a loss of power at any moment, all that was acknowledged is there, and the journal is sound."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from power_loss import Verdict, lose_power

SEED = os.environ.get("TORTURE_SEED") or f"{random.SystemRandom().getrandbits(32):08x}"


@pytest.mark.parametrize("number", range(3))
def test_nothing_acknowledged_is_lost_with_the_power(tmp_path: Path, number: int) -> None:
    """A hundred crash images of a journal at work: none has lost an event, a cursor or a dead letter; all are sound."""
    verdict = Verdict()
    lose_power(tmp_path / "power", f"{SEED}-{number}", verdict, 100)
    print(verdict)
    assert (verdict.images, verdict.lossy, verdict.corrupt) == (100, 0, 0), verdict.examples[:5]


def test_without_a_sync_per_commit_events_are_lost(tmp_path: Path) -> None:
    """The negative control: with `synchronous=NORMAL` the same images show the loss, so they would show it."""
    verdict = Verdict()
    lose_power(tmp_path / "power", f"{SEED}-normal", verdict, 100, normal=True)
    print(verdict)
    assert verdict.images == 100
    assert verdict.lossy > 20
    assert verdict.corrupt == 0, verdict.examples[:5]
