"""`/api/operations`: retry, discard and replay by filter, begun with one request and watched with others."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from typing import Any, Final, Literal

import msgspec
from litestar import Response, get, post
from litestar.exceptions import NotFoundException

from gateway.http.api.context import AdminContext, AnyRequest, NotNow
from gateway.http.api.query import Invalid
from gateway.http.audit import audit
from gateway.http.problems import FAILED, log_failure
from gateway.journal.interface import DEAD, STATES, Filter, JournalError
from gateway.text import counted

log = logging.getLogger("gateway.admin")

KEPT: Final = 1000
"""Retries and discards of the past that are remembered."""
MOST_IDS: Final = 10_000
Kind = Literal["retry", "discard", "replay"]


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
    """How far an operation is. `matched` is None for a replay that began before the gateway started. `error` says why
    it ended before it was done."""

    number: int
    kind: Kind
    matched: int | None
    done: int
    finished: bool
    error: str | None = None


class OperationLog:
    """Begins operations. What a retry or a discard has changed is durable, but it does not go on after a restart; a
    replay does."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context
        self._journal = context.gateway.journal
        self._delivery = context.gateway.delivery
        self._known: OrderedDict[int, tuple[Operation, Filter]] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._last = 0

    async def count(self, kind: Kind, which: Filter) -> int:
        """How many dead letters, or for a replay events, match."""
        if kind == "replay":
            return await self._context.reading.ask(lambda search: search.count(which))
        return await self._journal.count_dead(which)

    async def start(self, request: AnyRequest, kind: Kind, which: Filter, in_order: bool = False) -> Started:
        """Begin an operation, and note it in the audit log. `NotNow` where the plugin cannot take events."""
        if kind == "replay" or (kind == "retry" and which.plugin is not None):
            self._context.require_delivery(which.plugin)
        if kind == "replay":
            replay = await self._journal.new_replay(which)
            number, matched = replay.number, replay.matched
            self._remember(Operation(number=number, kind=kind, matched=matched, done=0, finished=False), which)
            await self._delivery.refresh(which.plugin)
        else:
            matched = await self.count(kind, which)
            number = self._last = max(self._last + 1, time.time_ns() // 1_000_000)  # replays have small numbers
            operation = Operation(number=number, kind=kind, matched=matched, done=0, finished=False)
            self._remember(operation, which)
            task = asyncio.create_task(self._change(operation, which, in_order))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        what = {"retry": "retry of dead letters", "discard": "discard of dead letters", "replay": "replay"}[kind]
        audit(request, what, which, f"number {number}, {counted(matched, 'event')} matched")
        return Started(number=number, matched=matched)

    async def named(self, text: str, seconds: float = 0.0) -> Operation | None:
        """The operation whose number a text is, as soon as it is finished, or as it is after `seconds`; None where
        there is none."""
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            return None
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            operation = await self.state(int(text))
            if operation is None or operation.finished or asyncio.get_running_loop().time() >= deadline:
                return operation
            await asyncio.sleep(0.02)

    async def state(self, number: int) -> Operation | None:
        """How far an operation is; None for an unknown number."""
        operation, which = self._known.get(number, (None, Filter()))
        if operation is None or operation.kind == "replay":
            try:
                done, finished = await self._journal.replay_state(number)
            except ValueError:
                return None
            matched = None if operation is None else operation.matched
            return Operation(number=number, kind="replay", matched=matched, done=done, finished=finished)
        if not operation.finished and operation.matched is not None:
            operation.done = max(0, operation.matched - await self._journal.count_dead(which))
        return operation

    async def _change(self, operation: Operation, which: Filter, in_order: bool) -> None:
        try:
            if operation.kind == "retry":
                done = await self._journal.retry_dead(which, list(self._delivery.consumers), in_order)
                await self._delivery.refresh(which.plugin)
            else:
                done = await self._journal.discard_dead(which)
            operation.done = done
        except JournalError as error:
            operation.error = str(error)
        except Exception as error:
            log_failure(log, error)
            operation.error = FAILED
        operation.finished = True

    def _remember(self, operation: Operation, which: Filter) -> None:
        self._known[operation.number] = operation, which
        if len(self._known) > KEPT:
            self._known.popitem(last=False)


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
        elif which.state not in (None, DEAD):
            raise Invalid("filter.state", f'expected "dead" or none: a {asked.kind} is of dead letters')
        if asked.dry_run:
            return Started(number=None, matched=await operations.count(asked.kind, which))
        return await operations.start(request, asked.kind, which, asked.in_order)

    @get("/api/operations/{number:str}")
    async def state(request: AnyRequest) -> Response[Operation]:
        found = await operations.named(request.path_params["number"])
        if found is None:
            raise NotFoundException(detail="no operation has this number; retries and discards are known until a stop")
        return Response(found, media_type="application/json", headers={"cache-control": "no-store"})

    return [begin, state]


def require_sound(which: Filter) -> None:
    """`Invalid` for a filter in a body that is well formed, but not valid."""
    if which.state is not None and which.state not in STATES:
        raise Invalid("filter.state", f"unknown state; use one of: {', '.join(STATES)}")
    for name, moment in (("since", which.since), ("until", which.until)):
        if moment is not None and moment.tzinfo is None:
            raise Invalid(f"filter.{name}", "needs a time zone, for example 2026-01-31T12:00:00Z")
    if len(which.ids) > MOST_IDS:
        raise Invalid("filter.ids", f"expected at most {MOST_IDS} ids, found {len(which.ids)}")
