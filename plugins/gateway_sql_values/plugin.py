"""The provider: its settings, its hooks, and the errors of the database in the terms of the plugin contract."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import msgspec
from gateway_databases import DatabaseFailed, DatabaseUrl, quieten

from gateway import Context, CustomValueRequest, Duration, Reject, Secret, SeveralCustomers, Values, hookimpl
from gateway_sql_values.checking import look
from gateway_sql_values.comparisons import LOOSE, cast_faults, pattern_faults
from gateway_sql_values.engine import Database, DoubtfulRow
from gateway_sql_values.lookups import Lookup, merged, parameters, plan, together
from gateway_sql_values.statement import Statement

_LEARNING: Final = 2.0
"""Seconds that `startup` waits for the columns of the statements."""
MARGIN: Final = 0.05
"""Seconds before the deadline at which slow statements are given up, so that the other fields are answered."""


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[queries]]`: a SELECT whose column names are field names. `fields` names the columns it is run for;
    left out, all of its columns."""

    sql: Annotated[
        Statement, msgspec.Meta(description="A SELECT; the names of its columns are the names of the fields.")
    ]
    fields: Annotated[
        tuple[str, ...] | None, msgspec.Meta(description="The columns that it is run for; default: all.")
    ] = None


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: Annotated[
        DatabaseUrl, msgspec.Meta(description="The database, without a password, or a secret with the whole URL.")
    ]
    queries: Annotated[tuple[Query, ...], msgspec.Meta(description="The statements that look customers up.")]
    password: Annotated[Secret | None, msgspec.Meta(description="The password for the database.")] = None
    pool_size: Annotated[int, msgspec.Meta(ge=1, le=200, description="The most connections at the same time.")] = 10
    pool_timeout: Annotated[Duration, msgspec.Meta(description="How long a request waits for a connection.")] = (
        Duration(1)
    )
    statement_timeout: Annotated[
        Duration, msgspec.Meta(description="The database ends a statement that takes longer.")
    ] = Duration(2)
    ping_after: Annotated[
        Duration, msgspec.Meta(description="A connection that was idle for longer is pinged before it is used.")
    ] = Duration(5)
    recycle: Annotated[Duration, msgspec.Meta(description="A connection that is older is replaced.")] = Duration(1800)

    def __post_init__(self) -> None:
        kind = self.url.url.get_backend_name()
        faults = [] if self.queries else ["queries: expected at least one [[queries]]"]
        for index, query in enumerate(self.queries):
            casts = cast_faults(query.sql.tokens, kind) if kind in LOOSE else ()
            faults += [f"queries[{index}].sql: {fault}" for fault in (*pattern_faults(query.sql.tokens), *casts)]
        for name in ("pool_timeout", "statement_timeout", "recycle"):
            if getattr(self, name) <= 0:
                faults.append(f"{name}: expected a duration longer than 0 s")
        if faults:
            raise ExceptionGroup("faults of the settings", [ValueError(fault) for fault in faults])


class SqlValuesPlugin:
    """Answers custom values from one database."""

    Config = Settings

    def __init__(self, config: Settings) -> None:
        quieten()
        self._config = config
        self._database: Database
        self._opened = False
        self._lookups: list[Lookup] = []
        self._known = False

    @hookimpl
    async def startup(self, context: Context) -> None:
        self._database = self._open()
        self._opened = True
        self._prepare(self._database)
        try:
            async with asyncio.timeout(_LEARNING):
                await self._learn()
        except (DatabaseFailed, TimeoutError, ValueError) as error:
            reason = str(error) or "no answer in time"
            context.log.warning("the statements' columns are not known yet: %s", reason)

    @hookimpl
    async def shutdown(self) -> None:
        if self._opened:
            self._opened = False
            await self._database.close()

    @hookimpl
    async def check(self) -> list[str]:
        database = self._open()
        try:
            warnings = await look(database, [(query.sql, query.fields) for query in self._config.queries])
            self._prepare(database)
            await self._learn()
            return warnings
        finally:
            await database.close()

    @hookimpl
    def custom_value_fields(self) -> dict[str, set[str]] | None:
        """The columns of the statements with their keys; None until the columns are known."""
        if not self._known:
            return None
        found: dict[str, set[str]] = {}
        for lookup in self._lookups:
            for column in lookup.columns or ():
                found.setdefault(column, set()).update(lookup.parameters)
        return found

    @hookimpl
    async def custom_values(self, request: CustomValueRequest) -> Values:
        try:
            if not self._known:
                await self._learn()
            return await self._look_up(request)
        except (DoubtfulRow, DatabaseFailed) as error:
            raise _told(error) from None

    async def _look_up(self, request: CustomValueRequest) -> Values:
        given = parameters(request)
        runs = plan(self._lookups, request)
        if len(runs) < 2:
            return merged([(fields, await lookup.row(given)) for lookup, fields in runs])
        results = await together([lookup.row(given) for lookup, _ in runs], request.time_left - MARGIN)
        errors = [result for result in results if isinstance(result, Exception)]
        several = [error for error in errors if isinstance(error, SeveralCustomers)]
        if several or len(errors) == len(results):
            raise (several or errors)[0]
        return merged(
            [
                (fields, dict.fromkeys(fields, _told(result)) if isinstance(result, Exception) else result)
                for (_, fields), result in zip(runs, results, strict=True)
            ]
        )

    def _prepare(self, database: Database) -> None:
        queries = enumerate(self._config.queries)
        self._lookups = [Lookup(index, query.sql, query.fields, database) for index, query in queries]
        self._known = False

    async def _learn(self) -> None:
        for lookup in self._lookups:
            await lookup.learn()
        self._known = True

    def _open(self) -> Database:
        config = self._config
        return Database(
            config.url.with_password(config.password),
            pool_size=config.pool_size,
            pool_timeout=config.pool_timeout,
            statement_timeout=config.statement_timeout,
            ping_after=config.ping_after,
            recycle=config.recycle,
        )


def _told(error: Exception) -> Exception:
    """The error that the plugin contract has for this failure."""
    if isinstance(error, DoubtfulRow):
        return Reject("the database read a text as another number; cast the column to text")
    if isinstance(error, DatabaseFailed) and error.late:
        return TimeoutError("the statement took too long")
    return Reject(str(error)) if isinstance(error, DatabaseFailed) and error.of_data else error
