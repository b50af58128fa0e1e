"""Proofs 1 and 7: `kill -9` and SIGTERM at random moments under sixteen senders lose nothing that was acknowledged."""

from __future__ import annotations

import os
import random
from pathlib import Path

from rounds import ALL, SUPERVISOR, WORKER, kill_rounds, stop_rounds

SEED = os.environ.get("TORTURE_SEED") or f"{random.SystemRandom().getrandbits(32):08x}"


def test_killed_at_random_moments_nothing_is_lost_and_the_archive_has_each_event_once(tmp_path: Path) -> None:
    """All processes, the worker or the supervisor alone: acknowledged means kept, archived once, in order."""
    print(f"seed {SEED}")
    outcome = kill_rounds(tmp_path / "victim", 4, SEED, kinds=(ALL, ALL, WORKER, SUPERVISOR), pause=0.005)
    print(outcome.deaths, outcome.findings, outcome.answers)
    assert outcome.findings.faults() == []
    assert outcome.unexpected == []
    assert outcome.findings.acknowledged > 100
    assert outcome.exits == [0]


def test_stopped_under_load_it_ends_at_once_and_loses_nothing(tmp_path: Path) -> None:
    """Exit code 0 within ten seconds, each time; what was not acknowledged is sent again and kept once."""
    print(f"seed {SEED}")
    outcome = stop_rounds(tmp_path / "victim", 2, SEED, pause=0.005)
    print(outcome.seconds, outcome.findings, outcome.answers)
    assert outcome.findings.faults() == []
    assert outcome.unexpected == []
    assert outcome.exits == [0] * 3
    assert max(outcome.seconds) < 10
    assert "Traceback" not in outcome.words
