"""Faults of the [journal] table: which keys are for a file, and which for a database."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from gateway.config.convert import Problem
from gateway.config.tables import JournalSettings

_OF_A_FILE: Final = {
    "path": "names a file, and `url` a database; leave one of them out",
    "max_size": "does not apply to a database; watch the size of the database itself, and leave this out",
    "min_free": "does not apply to a database; watch the disk of the database itself, and leave this out",
}
_OF_A_DATABASE: Final = ("password", "ca", "require_standby")


def journal_faults(table: Any, settings: JournalSettings | None) -> Iterator[Problem]:
    """The faults of the table as it is written; `settings` is what it means, None where it has a fault already."""
    if not isinstance(table, dict):
        return
    if "url" in table:
        for key in _OF_A_FILE.keys() & table.keys():
            yield Problem(f"journal.{key}", _OF_A_FILE[key])
    else:
        for key in _OF_A_DATABASE:
            if key in table:
                yield Problem(f"journal.{key}", "needs `url`, the address of a database")
    if settings is not None and settings.url is not None and settings.ca is not None:
        mode = settings.url.option("sslmode")
        if mode is not None and not mode.startswith("verify"):
            yield Problem("journal.ca", f"is not used with sslmode={mode}; write sslmode=verify-full, or leave it out")


def journal_warnings(settings: JournalSettings) -> Iterator[Problem]:
    """Warnings: a connection over a network that another machine could take over."""
    if settings.url is None or settings.url.is_local:
        return
    mode = settings.url.option("sslmode")
    if mode is not None and not mode.startswith("verify"):
        message = f"sslmode={mode} does not check whom the gateway talks to; leave it out for verify-full"
        yield Problem("journal.url", message)
