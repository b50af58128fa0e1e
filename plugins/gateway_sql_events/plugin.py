"""The settings and the plugin: collects rows in memory, and writes them in batches at each checkpoint."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC
from typing import Annotated, Any, ClassVar, Final

import gateway_databases
import msgspec
from gateway_databases import DatabaseFailed, file_of, quieten
from sqlalchemy import Connection, text

from gateway import Context, Duration, Event, Reject, Secret, Selector, hookimpl
from gateway_sql_events.columns import DoesNotFit, PayloadField, TableName, is_identifier
from gateway_sql_events.database import Database
from gateway_sql_events.erasing import erase
from gateway_sql_events.table import EventTable, Row
from gateway_sql_events.writing import write

_MOST_IN_MEMORY: Final = 4 * 1024 * 1024
"""Bytes of bodies that are collected, at most, before they are written."""
_MOST_REFUSED: Final = 10_000
_LOOK_AGAIN: Final = 1.0
"""Seconds until the table is looked at again when an event does not fit it: an operator may have changed it."""
_SUPPORTED: Final = ("sqlite", "postgresql", "mysql", "mariadb")
_MISSING: Final = text("""
    SELECT privilege FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege
    WHERE NOT has_table_privilege(CAST(:name AS text), privilege)
""")


class WriteFailed(Exception):
    """Rows were not written. The message has nothing of an event."""

    loggable = True


class DatabaseUrl(gateway_databases.DatabaseUrl):
    """A database that is written."""

    sqlite_mode: ClassVar = "rwc"


class Timeout(Duration):
    """A duration longer than 0 s."""

    allows_zero: ClassVar = False


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: Annotated[
        DatabaseUrl, msgspec.Meta(description="The database, without a password, or a secret with the whole URL.")
    ]
    password: Annotated[Secret | None, msgspec.Meta(description="The password for the database.")] = None
    table: Annotated[
        TableName, msgspec.Meta(description="The table; with its schema where it is not the default one.")
    ] = TableName("webio_events")
    create: Annotated[
        bool, msgspec.Meta(description="Whether the table is made at the start where it does not exist.")
    ] = True
    columns: Annotated[
        dict[str, PayloadField],
        msgspec.Meta(description="Further columns, each with its field and type: text, integer, decimal or boolean."),
    ] = {}
    transaction_timeout: Annotated[
        Timeout, msgspec.Meta(description="A transaction that takes longer has failed, and is tried again.")
    ] = Timeout(20)

    def __post_init__(self) -> None:
        kind = self.url.url.get_backend_name()
        faults = []
        if kind not in _SUPPORTED:
            faults.append(f"url: expected one of {', '.join(_SUPPORTED)}, found {kind}")
        own = {"id", "received_at", "organisation", "hook", "conversation_id", "customer_uid", "body"}
        faults += [f"columns.{name}: the table has this column anyway" for name in self.columns if name in own]
        faults += [
            f"columns.{name}: expected a name of letters, digits and _, at most 63, such as amount"
            for name in self.columns
            if not is_identifier(name)
        ]
        if faults:
            raise ExceptionGroup("faults of the settings", [ValueError(fault) for fault in faults])


class SqlEventsPlugin:
    """Writes every event as a row of a table, once.

    An event whose row the table refuses fails the checkpoint that finds this out. The gateway then delivers the batch
    again, and the plugin rejects that event: the others are in the table, or come there."""

    Config = Settings

    def __init__(self, config: Settings) -> None:
        quieten()
        self._config = config
        self._kind = config.url.url.get_backend_name()
        self._table = EventTable(self._kind, config.table, config.columns)
        self._database: Database | None = None
        self._writing: asyncio.Lock
        self._rows: dict[str, Row] = {}
        self._bytes = 0
        self._lost: Exception | None = None
        """Why rows of events that were taken are not in the table, and not in `_rows` any more."""
        self._refused: dict[str, str] = {}
        """By its id, why an event has no row."""
        self._looked = 0.0

    @hookimpl
    async def startup(self, context: Context) -> None:
        self._writing = asyncio.Lock()
        self._rows, self._bytes, self._lost, self._refused = {}, 0, None, {}
        self._database = self._open()
        if self._config.create:
            await self._database.run(self._table.create)
        await self._look(self._database)

    @hookimpl
    async def shutdown(self) -> None:
        database, self._database = self._database, None
        if database is not None:
            await database.close()

    @hookimpl
    async def check(self) -> list[str]:
        file = file_of(self._config.url.url)
        if file is not None and not file.exists():
            if not os.access(file.parent, os.W_OK | os.X_OK):
                raise ValueError(f"url: the folder {file.parent} does not exist, or is not writable for this user")
            return self._not_there(f"url: the file {file} does not exist")
        database = self._open()
        try:
            if await self._look(database, must_exist=False):
                return []
            return self._not_there(f"table: the table {self._config.table} does not exist")
        except DatabaseFailed as error:
            raise ValueError(f"the database cannot be asked: {error.told}") from None
        finally:
            await database.close()

    def _not_there(self, sentence: str) -> list[str]:
        if not self._config.create:
            raise ValueError(f"{sentence}; make it, or write create = true")
        return [f"{sentence}; it is made when the gateway starts"]

    @hookimpl
    async def on_event(self, event: Event) -> None:
        if event.id in self._refused:
            raise Reject(self._refused.pop(event.id))
        try:
            row = await self._row(event)
        except (DoesNotFit, ValueError) as error:
            raise Reject(str(error)) from None
        self._rows[event.id] = row
        self._bytes += len(event.raw)
        if self._bytes > _MOST_IN_MEMORY:
            await self._write()

    @hookimpl
    async def checkpoint(self) -> None:
        await self._write()
        lost, self._lost = self._lost, None
        if lost is not None:
            raise lost

    @hookimpl
    async def forget(self, selector: Selector) -> int:
        """Delete the rows of these events; returns how many those were."""
        database = self._started()
        async with self._writing:
            for row in list(self._rows.values()):
                if selector.matches(row["organisation"], row["body"].encode()):
                    del self._rows[row["id"]]
        return await erase(database, self._table.table, selector)

    async def _row(self, event: Event) -> Row:
        """Its row. `DoesNotFit`, with a sentence without a value, where the table cannot have it."""
        received = event.received_at.astimezone(UTC)
        row: dict[str, Any] = {
            "id": event.id,
            "received_at": received if self._kind == "postgresql" else received.replace(tzinfo=None),
            "organisation": event.organisation,
            "hook": event.hook,
            "conversation_id": event.conversation_id,
            "customer_uid": event.customer_uid,
            "body": event.line().decode(),
        }
        if self._config.columns:
            fields = event.fields()
            for name, field in self._config.columns.items():
                value = field.of(fields)
                as_text = self._kind == "sqlite" and field.type == "decimal" and value is not None
                row[name] = f"{value:f}" if as_text else value
        try:
            self._table.require_fit(row)
        except DoesNotFit:
            now = asyncio.get_running_loop().time()
            if now - self._looked > _LOOK_AGAIN:
                await self._look(self._started())
            self._table.require_fit(row)
        return row

    async def _write(self) -> None:
        """Write what was collected. What goes wrong is kept for the next checkpoint, which fails with it."""
        database = self._started()
        async with self._writing:
            rows, self._rows, self._bytes = list(self._rows.values()), {}, 0
            refused: dict[str, str] = {}
            try:
                await write(database, self._table, rows, refused)
            except DatabaseFailed as error:
                self._lost = error
            except BaseException:
                self._lost = WriteFailed("the write was broken off")
                raise
            finally:
                self._refused |= refused
                while len(self._refused) > _MOST_REFUSED:
                    del self._refused[next(iter(self._refused))]
            if refused:
                self._lost = self._lost or WriteFailed(
                    f"the table refuses {len(refused)} of {len(rows)} rows: {next(iter(refused.values()))}"
                )

    async def _look(self, database: Database, must_exist: bool = True) -> bool:
        """Look at the real table; false where there is none and it need not exist. `ValueError` for what does not suit,
        or a group of them."""
        self._looked = asyncio.get_running_loop().time()
        faults = await database.run(self._faults)
        if faults is None:
            if must_exist:
                raise ValueError(
                    f"table: the table {self._config.table} does not exist; make it, or write create = true"
                )
            return False
        if faults:
            raise ExceptionGroup("faults of the table", [ValueError(fault) for fault in faults])
        return True

    def _faults(self, connection: Connection) -> list[str] | None:
        faults = self._table.look(connection)
        if faults is not None and self._kind == "postgresql":
            name = connection.dialect.identifier_preparer.format_table(self._table.table)
            missing = [row[0] for row in connection.execute(_MISSING, {"name": name})]
            faults += [f"table: the role lacks {', '.join(missing)} on {self._config.table}"] if missing else []
        return faults

    def _open(self) -> Database:
        return Database(self._config.url.with_password(self._config.password), self._config.transaction_timeout)

    def _started(self) -> Database:
        if self._database is None:
            raise WriteFailed("the plugin has not started")
        return self._database
