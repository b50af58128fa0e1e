"""`/api/events`: list, one event, and its delivery again; `/api/timeline`."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Response, get, post
from litestar.exceptions import NotFoundException

from gateway.http.api import pages
from gateway.http.api.answers import json_answer
from gateway.http.api.context import AdminContext, AnyRequest, NotNow
from gateway.http.api.operations import OperationLog, Started
from gateway.http.api.query import (
    FILTERS,
    LIMIT,
    MOST,
    Invalid,
    cursor,
    filter_of,
    is_id,
    number,
    parameters,
    require_known,
)
from gateway.http.audit import audit
from gateway.journal.interface import DEAD, RETRYING, WAITING, Filter
from gateway.journal.search import EventRow, Search
from gateway.text import counted


class DeliverTo(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The plugin that gets an event again."""

    plugin: str


def is_look_up(which: Filter) -> bool:
    """Whether a filter asks about a customer."""
    return any((which.customer, which.address, which.conversation, which.text))


def event_routes(context: AdminContext, operations: OperationLog) -> list[Any]:
    """The handlers."""
    gateway, reading = context.gateway, context.reading

    @get("/api/events")
    async def events(request: AnyRequest) -> Response[Any]:
        given = parameters(request, (*FILTERS, "limit", "cursor"))
        which, limit, before = filter_of(given), number(given, "limit", LIMIT, 1, MOST), cursor(given)

        def work(search: Search) -> pages.Page[EventRow]:
            require_known(gateway.config, search, which.organisation, which.plugin)
            return pages.newest_events(search, which, limit, before)

        page = await reading.ask(work)
        if is_look_up(which):
            audit(request, "look-up of events", which, counted(len(page.items), "event"))
        return json_answer(page)

    @get("/api/events/{event_id:str}")
    async def event(request: AnyRequest) -> Response[Any]:
        row = await one_event(context, request.path_params["event_id"])
        audit(request, "look-up of an event", Filter(ids=(row.id,)), row.id)
        return json_answer(row)

    @post("/api/events/{event_id:str}/deliver", status_code=202)
    async def deliver(request: AnyRequest) -> Started:
        plugin = (await context.document(request, DeliverTo)).plugin
        return await deliver_again(context, operations, request, request.path_params["event_id"], plugin)

    @get("/api/timeline")
    async def timeline(request: AnyRequest) -> Response[Any]:
        given = parameters(request, ("customer", "conversation", "organisation", "since", "until", "limit", "cursor"))
        if ("customer" in given) == ("conversation" in given):
            raise Invalid("customer", "expected either customer or conversation")
        which, limit = filter_of(given), number(given, "limit", LIMIT, 1, MOST)

        def work(search: Search) -> pages.Page[pages.Happened]:
            require_known(gateway.config, search, which.organisation)
            return pages.timeline(search, which, limit, given.get("cursor"))

        page = await reading.ask(work)
        audit(request, "look-up of a timeline", which, counted(len(page.items), "line"))
        return json_answer(page)

    return [events, event, deliver, timeline]


async def one_event(context: AdminContext, event_id: str) -> EventRow:
    """An event by its id; `NotFoundException`."""
    if is_id(event_id):
        which = Filter(ids=(event_id,))
        for row in await context.reading.ask(lambda search: list(search.events(which, 1, times=True))):
            return row
    raise NotFoundException(detail="the journal has no event with this id")


async def deliver_again(
    context: AdminContext, operations: OperationLog, request: AnyRequest, event_id: str, plugin: str
) -> Started:
    """Deliver an event to a plugin again: as a retry of its dead letter, else as a replay. `NotNow` where that plugin
    has it still to take."""
    context.require_delivery(plugin)
    row = await one_event(context, event_id)
    state = row.deliveries.get(plugin)
    if state in (RETRYING, WAITING):
        raise NotNow(detail=f"plugin {plugin} gets this event anyway: its delivery is {state}")
    which = Filter(ids=(event_id,), plugin=plugin)
    if state == DEAD:
        return await operations.start(request, "retry", which)
    return await operations.start(request, "replay", which)
