"""Each test of this folder runs over each engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from conformance.engines import ENGINES, Engine

from gateway.journal import memory
from gateway.journal.postgresql import journal as postgresql
from gateway.journal.sqlite import writer

PENDING = (
    "test_finding.py",
    "test_limits.py::test_a_full_disk_refuses_everything_and_loses_nothing",
    "test_limits.py::test_beyond_max_size_events_are_refused_until_retention_makes_room",
)
"""What the engine `postgresql` does not do yet: modules, and tests. Take out what passes."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    pending = [item for item in items if "[postgresql" in item.name and _is_pending(item.nodeid)]
    config.hook.pytest_deselected(items=pending)
    items[:] = [item for item in items if item not in pending]


def _is_pending(node: str) -> bool:
    name = node.rpartition("conformance/")[2].partition("[")[0]
    return name in PENDING or name.partition("::")[0] in PENDING


@pytest.fixture(params=ENGINES)
async def engine(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Engine]:
    """An engine that looks after its journal fifty times a second, so that tests need not wait."""
    for module in (writer, memory, postgresql):
        monkeypatch.setattr(module, "HOUSEKEEPING", 0.02)
    made: Engine = ENGINES[request.param](tmp_path)
    yield made
    await made.close_all()
