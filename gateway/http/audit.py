"""One log line for each change and each look-up of a customer that was asked for through the admin listener."""

from __future__ import annotations

import logging
import re
from typing import Any, Final

import msgspec

from gateway.http.access import peer, user
from gateway.http.roles import Connection
from gateway.journal.interface import Filter

log = logging.getLogger("gateway.audit")

_PERSONAL: Final = ("customer", "address", "conversation", "text")
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9._/-]{0,63}", re.ASCII)
_MANY_DIGITS: Final = re.compile(r"\d{5}")
_KEPT: Final = 2
_LEAST: Final = 6
"""An identifier with fewer characters is hidden as a whole."""


def audit(request: Connection, what: str, which: Filter, outcome: str) -> None:
    """Log that `what` was asked for, by which user name from which address, with which filter, and what came of it."""
    log.info("%s from %s: %s (%s): %s", user(request), peer(request), what, masked(which), outcome)


def hint(identifier: str) -> str:
    """An identifier of a customer, reduced to its last characters; empty for an empty one."""
    kept = identifier[-_KEPT:]
    return (f"…{kept}" if len(identifier) >= _LEAST and kept.isalnum() else "…") if identifier else ""


def masked(which: Filter) -> str:
    """A filter's conditions, for a log: no number of a customer in full, no text. `everything` where it has none."""
    conditions = []
    for name, value in msgspec.structs.asdict(which).items():
        if value is None or value == ():
            continue
        conditions.append(f"{name} {_shown(name, value)}")
    return ", ".join(conditions) or "everything"


def _shown(name: str, value: Any) -> str:
    if isinstance(value, tuple):
        return str(len(value))
    if name == "text":
        return "…"
    if name in _PERSONAL:
        return hint(value)
    if isinstance(value, str):
        return value if _WORD.fullmatch(value) and not _MANY_DIGITS.search(value) else "…"
    return f"{value:%Y-%m-%dT%H:%M:%S%z}"
