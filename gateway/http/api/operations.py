"""`/api/operations`: retry, discard, replay and forget by filter, begun with one request, watched and cancelled with
others."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, Final, Literal

import msgspec
from litestar import Response, delete, get, post
from litestar.exceptions import NotFoundException

from gateway.forgetting import selector_of
from gateway.http.api.answers import json_answer
from gateway.http.api.context import AdminContext, AnyRequest, NotNow
from gateway.http.api.query import LIMIT, MOST, Invalid, number, parameters
from gateway.http.audit import audit, masked
from gateway.journal.interface import DEAD, STATES, Filter
from gateway.journal.operator import Kind, StoredOperation
from gateway.operations import NotCancellable
from gateway.text import counted

MOST_IDS: Final = 10_000
WHAT: Final[dict[Kind, str]] = {
    "retry": "retry of dead letters",
    "discard": "discard of dead letters",
    "replay": "replay",
    "forget": "erasure",
}


class OperationRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What to do with which events. With `dry_run` they are only counted. `in_order` is for a retry: those of a
    conversation behind one another, and ahead of its newer events."""

    kind: Kind
    filter: Filter
    dry_run: bool = False
    in_order: bool = False


class Started(msgspec.Struct, kw_only=True):
    """The number of an operation, None after a dry run, and how many events or dead letters match."""

    number: int | None
    matched: int


class Operation(msgspec.Struct, kw_only=True):
    """How far an operation is. `matched` is how many dead letters or events matched at the begin; `done` how many were
    retried, discarded, replayed or erased; `left` how many of them, or of a replay, the plugin has still to get.
    `filter` is in words, with personal data masked. `error` says why it failed. An erasure also tells how many records
    of custom value requests were erased, and by plugin how many records it erased, what it says of events that it has
    passed on, and why it failed."""

    number: int
    kind: Kind
    state: Literal["running", "finished", "cancelled", "failed"]
    filter: str
    in_order: bool
    matched: int
    done: int
    left: int
    finished: bool
    begun_at: datetime
    ended_at: datetime | None
    error: str | None = None
    value_records: int = 0
    plugins: dict[str, int] = {}
    passed_on: dict[str, str] = {}
    failed: dict[str, str] = {}


class OperationList(msgspec.Struct, kw_only=True):
    """The newest operations, the newest first."""

    items: list[Operation]


class OperationLog:
    """Begins and cancels operations, and notes that in the audit log."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context
        self._journal = context.gateway.journal
        self._runner = context.gateway.operations

    async def count(self, kind: Kind, which: Filter) -> int:
        """How many dead letters, or for a replay or an erasure events, match."""
        if kind in ("replay", "forget"):
            return await self._context.reading.ask(lambda search: search.count(which))
        return await self._journal.count_dead(which)

    async def start(self, request: AnyRequest, kind: Kind, which: Filter, in_order: bool = False) -> Started:
        """Begin an operation. `NotNow` where the plugin cannot take events."""
        if kind == "replay" or (kind == "retry" and which.plugin is not None):
            self._context.require_delivery(which.plugin)
        begun = await self._runner.start(kind, which, in_order)
        audit(request, WHAT[kind], which, f"number {begun.number}, {counted(begun.matched, 'event')} matched")
        return Started(number=begun.number, matched=begun.matched)

    async def cancel(self, request: AnyRequest, text: str) -> Operation | None:
        """Cancel the operation whose number a text is. `NotNow` where it has to go on."""
        if not _is_number(text):
            return None
        try:
            found = await self._runner.cancel(int(text))
        except NotCancellable as error:
            raise NotNow(detail=str(error)) from None
        if found is None:
            return None
        audit(request, f"cancel of a {found.kind}", Filter(), f"number {found.number}, {found.done} done")
        return self._shown(found)

    async def newest(self, limit: int) -> OperationList:
        """The newest operations."""
        return OperationList(items=[self._shown(one) for one in await self._journal.operations(limit)])

    async def named(self, text: str, seconds: float = 0.0) -> Operation | None:
        """The operation whose number a text is, as soon as it is finished, or as it is after `seconds`; None where
        there is none."""
        if not _is_number(text):
            return None
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            operation = await self.state(int(text))
            if operation is None or operation.finished or asyncio.get_running_loop().time() >= deadline:
                return operation
            await asyncio.sleep(0.02)

    async def state(self, number: int) -> Operation | None:
        """How far an operation is; None for an unknown number."""
        found = await self._journal.operation(number)
        return None if found is None else self._shown(found)

    def _shown(self, kept: StoredOperation) -> Operation:
        busy = self._runner.is_busy(kept.number)
        state = "running" if busy and kept.state == "finished" else kept.state
        return Operation(
            number=kept.number,
            kind=kept.kind,
            state=state,
            filter="erased" if kept.is_cleared else masked(kept.filter),
            in_order=kept.in_order,
            matched=kept.matched,
            done=kept.done,
            left=kept.left,
            finished=state != "running",
            begun_at=datetime.fromtimestamp(kept.begun_at, UTC),
            ended_at=None if kept.ended_at is None else datetime.fromtimestamp(kept.ended_at, UTC),
            error=kept.error,
            value_records=kept.value_records,
            plugins=kept.answers.erased,
            passed_on=kept.answers.passed_on,
            failed=kept.answers.failed,
        )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19


def operation_routes(context: AdminContext, operations: OperationLog) -> list[Any]:
    """The handlers."""

    @post("/api/operations", status_code=202)
    async def begin(request: AnyRequest) -> Started:
        asked = await context.document(request, OperationRequest)
        which = asked.filter
        require_sound(which)
        if asked.in_order and asked.kind != "retry":
            raise Invalid("in_order", "expected with the kind retry only")
        if asked.kind == "replay":
            if which.error is not None:
                raise Invalid("filter.error", "expected with the kinds retry and discard only")
            context.require_delivery(which.plugin)
            if any(context.gateway.journal.decoder.hook_of(name) is None for name in which.names):
                raise NotNow(detail="the running gateway does not know all of these names yet; restart it")
        elif asked.kind == "forget":
            try:
                selector_of(which)
            except ValueError as error:
                raise Invalid("filter", str(error)) from None
        elif which.state not in (None, DEAD):
            raise Invalid("filter.state", f'expected "dead" or none: a {asked.kind} is of dead letters')
        if asked.dry_run:
            return Started(number=None, matched=await operations.count(asked.kind, which))
        return await operations.start(request, asked.kind, which, asked.in_order)

    @get("/api/operations")
    async def listed(request: AnyRequest) -> Response[OperationList]:
        limit = number(parameters(request, ("limit",)), "limit", LIMIT, 1, MOST)
        return json_answer(await operations.newest(limit))

    @get("/api/operations/{number:str}")
    async def state(request: AnyRequest) -> Response[Operation]:
        return json_answer(_known(await operations.named(request.path_params["number"])))

    @delete("/api/operations/{number:str}", status_code=200)
    async def cancel(request: AnyRequest) -> Response[Operation]:
        return json_answer(_known(await operations.cancel(request, request.path_params["number"])))

    return [begin, listed, state, cancel]


def _known(found: Operation | None) -> Operation:
    if found is None:
        raise NotFoundException(detail="no operation has this number")
    return found


def require_sound(which: Filter) -> None:
    """`Invalid` for a filter in a body that is well formed, but not valid."""
    if which.state is not None and which.state not in STATES:
        raise Invalid("filter.state", f"unknown state; use one of: {', '.join(STATES)}")
    for name, moment in (("since", which.since), ("until", which.until)):
        if moment is not None and moment.tzinfo is None:
            raise Invalid(f"filter.{name}", "needs a time zone, for example 2026-01-31T12:00:00Z")
    if len(which.ids) > MOST_IDS:
        raise Invalid("filter.ids", f"expected at most {MOST_IDS} ids, found {len(which.ids)}")
