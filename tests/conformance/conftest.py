"""Each test of this folder runs over each engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from conformance.engines import ENGINES, Engine

from gateway.journal import memory
from gateway.journal.postgresql import journal as postgresql
from gateway.journal.sqlite import writer


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
