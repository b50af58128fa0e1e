"""Filters as SQL, with `$1` for the first value."""

from __future__ import annotations

from typing import Any

from gateway.journal.interface import Filter


def where(which: Filter, first: int = 1) -> tuple[str, tuple[Any, ...]]:
    """A condition on `events`, and its values, which are numbered from `first`."""
    raise NotImplementedError
