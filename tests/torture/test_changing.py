"""Reloads and restarts under load: no request is refused, each gets an answer, and what is acknowledged is kept."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from changes import reload_rounds, restart_rounds


def test_reloads_under_load_refuse_no_request(tmp_path: Path) -> None:
    """Organisations, secrets, hooks, values, delivery and log change again and again; no connection is closed."""
    changed = reload_rounds(tmp_path / "victim", 400)
    outcome = changed.outcome
    assert set(outcome.answers) == {200}
    assert (outcome.broken, outcome.unexpected, outcome.findings.faults()) == (0, [], [])
    assert set(changed.asked) == {"200"}
    assert changed.changes >= 5


def test_restarts_under_load_refuse_no_connection(tmp_path: Path) -> None:
    """Connections wait in the sockets of the service manager, and requests that are under way get their answer."""
    found = restart_rounds(tmp_path, 3)
    assert found.failures == []
    assert set(found.statuses) == {200}
    assert found.lost == 0
    assert found.halves > 0
    assert found.statuses == Counter({200: found.statuses.total()})
