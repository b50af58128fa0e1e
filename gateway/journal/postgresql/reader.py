"""Searches a journal in PostgreSQL; see `Search`. Its methods are not coroutines: each search has a loop of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.config.tables import Config
    from gateway.journal.search import Search, UnknownName


def open_search(config: Config) -> Search:
    """See `gateway.journal.open_reader`."""
    raise NotImplementedError


def unknown_names(config: Config) -> list[UnknownName]:
    """See `gateway.journal.kept_as_unknown`."""
    raise NotImplementedError
