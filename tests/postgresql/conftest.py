"""Journals in servers of the tests' own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from clusters import Cluster, clusters
from running import read_config
from schemas import Schema

from gateway.config.tables import Config
from gateway.journal.postgresql import journal as module
from gateway.journal.postgresql.journal import PostgresqlJournal

Configure = Callable[..., Config]


@pytest.fixture(scope="package")
def cluster() -> Iterator[Cluster]:
    """A server that runs, for all tests that leave it as it is."""
    with clusters() as (made,):
        made.make()
        made.start()
        yield made


@pytest.fixture
def schema(cluster: Cluster) -> Iterator[Schema]:
    """An empty schema in it."""
    made = Schema(cluster.url)
    yield made
    made.drop()


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """Makes configs with a journal in a database; `more` are further lines of its table."""

    def make(url: str, *more: str) -> Config:
        return read_config(tmp_path, "\n".join(["[journal]", f'url = "{url}"', *more, ""]))

    return make


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start waits for no database, and a refusal is looked at again fifty times a second."""
    monkeypatch.setattr(module, "START_SECONDS", 0.0)
    monkeypatch.setattr(module, "HOUSEKEEPING", 0.02)


@asynccontextmanager
async def opened(config: Config, **options: Any) -> AsyncIterator[PostgresqlJournal]:
    """A started journal, closed at the end."""
    journal = PostgresqlJournal(config, **options)
    await journal.start()
    try:
        yield journal
    finally:
        await journal.close()
