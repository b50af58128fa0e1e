"""What a 200 means: which settings of the database keep an event once its commit has returned. They are looked at
before the first append on a connection; the function that appends looks again, because an operator can change them."""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeVar

from gateway.journal.interface import JournalFull, JournalRefused
from gateway.journal.postgresql.connection import DatabaseConnection
from gateway.journal.postgresql.database import LOCAL_ONLY
from gateway.journal.postgresql.failures import translated

if TYPE_CHECKING:
    from gateway.config.tables import Config
    from gateway.journal.postgresql.layout import Marker

T = TypeVar("T")
_SETTINGS: Final = """
SELECT current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
    current_setting('synchronous_commit') AS synchronous_commit, pg_is_in_recovery() AS recovering,
    current_setting('synchronous_standby_names') AS standbys, current_setting('gateway.direct', true) AS direct,
    current_setting('server_version_num')::integer AS version, pg_backend_pid() AS process,
    current_setting('server_encoding') AS encoding, has_function_privilege('pg_control_system()', 'EXECUTE') AS known
"""
_SYNCHRONOUS: Final = (
    "SELECT count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')) AS found,"
    " count(*) FILTER (WHERE sync_state IS NULL) AS hidden FROM pg_stat_replication"
)
_HAS_STANDBYS: Final = "SELECT current_setting('synchronous_standby_names') <> ''"
STANDBY_REMOVED: Final = (
    "journal.require_standby is true, and synchronous_standby_names was emptied while a commit ran: only one server may"
    " have it"
)
OLDEST: Final = 130000
"""The oldest version of PostgreSQL that has what the layout uses, as `server_version_num` gives it."""


async def faults(connection: DatabaseConnection, config: Config) -> list[str]:
    """A sentence for each reason why an answered event could be lost, or the connection be of no use."""
    row: Any = await connection.fetchrow(_SETTINGS)
    found = list(_faults(row))
    if row["direct"] != "yes" or row["process"] != connection.get_server_pid():
        found.append(
            "journal.url leads to a connection pooler, which takes the session away between two statements: name the"
            " database server itself"
        )
    if config.journal.require_standby:
        found += await _standby_faults(connection, row["standbys"])
    return found


def _faults(row: Any) -> Iterator[str]:
    if row["version"] < OLDEST:
        yield f"the database is PostgreSQL {row['version'] // 10000}; the journal needs {OLDEST // 10000} or later"
    if row["encoding"] != "UTF8":
        yield f"the database has the encoding {row['encoding']}; make one with UTF8"
    for name in ("fsync", "full_page_writes"):
        if row[name] != "on":
            yield f"the database has {name} = {row[name]}, and could lose events that were answered; set {name} = on"
    if row["synchronous_commit"] not in ("on", "remote_apply"):
        yield (
            f"the database has synchronous_commit = {row['synchronous_commit']} for this user, and could lose events"
            " that were answered; set it to on, or to remote_apply"
        )
    if row["recovering"]:
        yield "the database is a standby, which takes no writes"


async def _standby_faults(connection: DatabaseConnection, standbys: str) -> list[str]:
    if not standbys.strip():
        return [
            "journal.require_standby is true, and the database has no synchronous standby: set"
            " synchronous_standby_names, or leave require_standby out"
        ]
    row: Any = await connection.fetchrow(_SYNCHRONOUS)
    if row["found"]:
        return []
    if row["hidden"]:
        return ["journal.require_standby is true, and this user may not see whether there is one: GRANT pg_monitor"]
    return ["journal.require_standby is true, and no synchronous standby is connected to the database now"]


async def system_identifier(connection: DatabaseConnection) -> str | None:
    """The identifier of the database cluster; None where this user may not know it."""
    if not await connection.fetchval("SELECT has_function_privilege('pg_control_system()', 'EXECUTE')"):
        return None
    found: str = await connection.fetchval("SELECT system_identifier::text FROM pg_control_system()")
    return found


def identity_fault(marker: Marker, found: str | None) -> str | None:
    """A sentence where the journal is in another cluster than the one that it was made in."""
    if found is None or marker.system_identifier in (None, found):
        return None
    return (
        f"the journal was made in another database cluster (system_identifier {marker.system_identifier}, now {found}):"
        " it is a copy, or was restored. Where no gateway uses the other one any more: `gateway journal adopt`"
    )


async def require(connection: DatabaseConnection, config: Config, marker: Marker | None, *, again: bool) -> None:
    """Raise where an answered event could be lost: `JournalRefused`, or `JournalFull` where the gateway runs already
    (`again`) and waits until an operator has changed that."""
    with translated():
        found = await faults(connection, config)
        identity = None if marker is None else identity_fault(marker, await system_identifier(connection))
    if identity is not None:
        found.append(identity)
    if found:
        raise (JournalFull if again else JournalRefused)("; ".join(found))


async def durable(connection: DatabaseConnection, commit: Awaitable[T], need_standby: bool) -> T:
    """The result of what commits once; `JournalFull` where that commit did not wait for the standby.

    PostgreSQL ends the wait without a warning where the setting is emptied. A session sees a changed setting with its
    next statement, and it is told of the change before the wait ends."""
    connection.local_only = False
    result = await commit
    if connection.local_only:
        raise JournalFull(LOCAL_ONLY)
    if need_standby and not await connection.fetchval(_HAS_STANDBYS):
        raise JournalFull(STANDBY_REMOVED)
    return result
