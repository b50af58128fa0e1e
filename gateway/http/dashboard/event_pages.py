"""The pages of one event, and of a timeline."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec
from litestar import Response, get, post
from litestar.exceptions import HTTPException, NotFoundException

from gateway.http.api import pages
from gateway.http.api.context import AnyRequest
from gateway.http.api.events import deliver_again, one_event
from gateway.http.api.operations import Operation, OperationLog
from gateway.http.api.query import filter_of, parameters, require_known
from gateway.http.audit import audit, hint
from gateway.http.dashboard.lines import TimelineLine, shown_id, shown_name, timeline_line, what_happened
from gateway.http.dashboard.rendering import Renderer, see_other
from gateway.http.masking import masked_fields
from gateway.journal.interface import DEAD, DELIVERED, RETRYING, WAITING, Filter
from gateway.journal.search import EventRow, Search
from gateway.plugin_host.place import without_message
from gateway.text import counted

LINES: Final = 200
WAIT: Final = 1.5
"""Seconds that a page waits for an operation before it shows it as running."""
_VERDICTS: Final = {
    DEAD: "A plugin has given this event up: it waits for a decision.",
    RETRYING: "A plugin has failed to take this event, and gets it again.",
    WAITING: "This event is on disk, and a plugin has still to take it.",
    DELIVERED: "Every plugin that takes such events has taken this one.",
    "discarded": "An operator has discarded this event's delivery.",
    "no taker": "This event is on disk. No enabled plugin has a hook for it.",
}


class AttemptLine(msgspec.Struct, kw_only=True):
    """An attempt at a delivery; `error` is empty where it succeeded."""

    at: datetime | None
    number: int
    error: str
    ms: float | None


class DeliveryView(msgspec.Struct, kw_only=True):
    """How far one plugin is. `again` is whether the page offers to deliver the event again."""

    plugin: str
    state: str
    attempts: list[AttemptLine]
    next_try: datetime | None
    between: tuple[datetime, datetime] | None
    again: bool


class EventView(msgspec.Struct, kw_only=True):
    """An event. `fields` are masked, and `body` is the text as received, only after a reveal."""

    id: str
    at: datetime
    organisation: str
    hook: str
    name: str
    conversation: str
    customer: str
    readable: bool
    conflict: bool
    verdict: str
    what: str
    deliveries: list[DeliveryView]
    others: list[str]
    fields: list[tuple[str, str]]
    body: str
    revealed: bool
    operation: Operation | None


class TimelineView(msgspec.Struct, kw_only=True):
    """`of` says whose timeline it is; `next` is the cursor of the next page."""

    of: str
    lines: list[TimelineLine]
    next: str | None
    revealed: bool
    audit: bool


def event_routes(renderer: Renderer, operations: OperationLog) -> list[Any]:
    """The handlers."""
    context = renderer.context

    async def show(request: AnyRequest, revealed: bool) -> Response[bytes]:
        row = await one_event(context, request.path_params["event_id"])
        operation = await operations.named(request.query_params.get("operation", ""), WAIT)
        if revealed:
            audit(request, "reveal of an event", Filter(ids=(row.id,)), row.id)
        takes = list(context.gateway.delivery.consumers)
        messages = revealed or renderer.shows_messages(request)
        view = _event_view(row, takes, revealed, messages, operation)
        return await renderer.page(request, "event.html", f"Event {row.id}", view, place="find")

    @get("/events/{event_id:str}")
    async def event(request: AnyRequest) -> Response[bytes]:
        return await show(request, False)

    @post("/events/{event_id:str}", opt={"form": True}, status_code=200)
    async def event_form(request: AnyRequest) -> Response[bytes]:
        fields = await renderer.form(request)
        if fields.get("do") == "reveal":
            return await show(request, True)
        event_id = request.path_params["event_id"]
        started = await deliver_again(context, operations, request, event_id, fields.get("plugin", ""))
        return see_other(f"/events/{event_id}?operation={started.number}")

    async def show_timeline(request: AnyRequest, revealed: bool, cursor: str | None) -> Response[bytes]:
        given = parameters(request, ("customer", "conversation", "organisation", "event", "since", "until"))
        if "event" in given:
            row = await one_event(context, given.pop("event"))
            given["organisation"] = row.organisation
            if row.customer_uid is not None:
                given["customer"] = row.customer_uid
            elif row.conversation_id is not None:
                given["conversation"] = row.conversation_id
            else:
                raise NotFoundException(detail="this event names neither a customer nor a conversation")
        if ("customer" in given) == ("conversation" in given):
            raise HTTPException(status_code=400, detail="expected either a customer or a conversation")
        which = filter_of(given)

        def work(search: Search) -> pages.Page[pages.Happened]:
            require_known(context.gateway.config, search, which.organisation)
            return pages.timeline(search, which, LINES, cursor)

        page = await context.reading.ask(work)
        what = "reveal of a timeline" if revealed else "look-up of a timeline"
        audit(request, what, which, counted(len(page.items), "line"))
        of = f"conversation {which.conversation}"
        if which.customer is not None:
            of = f"customer {which.customer if revealed else hint(which.customer)}"
        view = TimelineView(
            of=of,
            lines=[timeline_line(line, revealed) for line in page.items],
            next=page.next,
            revealed=revealed,
            audit=context.gateway.config.values.audit,
        )
        return await renderer.page(request, "timeline.html", "Timeline", view, place="find")

    @get("/timeline")
    async def timeline(request: AnyRequest) -> Response[bytes]:
        return await show_timeline(request, False, None)

    @post("/timeline", opt={"form": True, "viewer": True}, status_code=200)
    async def timeline_form(request: AnyRequest) -> Response[bytes]:
        fields = await renderer.form(request)
        return await show_timeline(request, fields.get("do") == "reveal", fields.get("cursor") or None)

    return [event, event_form, timeline, timeline_form]


def _event_view(
    row: EventRow, takes: list[str], revealed: bool, messages: bool, operation: Operation | None
) -> EventView:
    return EventView(
        id=row.id,
        at=row.received_at,
        organisation=row.organisation,
        hook=row.hook,
        name=shown_name(row.name, revealed),
        conversation=row.conversation_id or "",
        customer=shown_id(row.customer_uid, revealed),
        readable=row.readable,
        conflict=row.conflict,
        verdict=_VERDICTS.get(row.state, row.state),
        what=what_happened(row, revealed),
        deliveries=[_delivery(row, plugin, state, takes, messages) for plugin, state in row.deliveries.items()],
        others=[plugin for plugin in takes if plugin not in row.deliveries],
        fields=[] if revealed else masked_fields(bytes(row.body)),
        body=bytes(row.body).decode() if revealed else "",
        revealed=revealed,
        operation=operation,
    )


def _delivery(row: EventRow, plugin: str, state: str, takes: list[str], messages: bool) -> DeliveryView:
    between = row.delivered_between
    attempts = [
        AttemptLine(at=one.at, number=one.attempt, error=_error(one.error, messages), ms=one.ms)
        for one in row.attempts.get(plugin, [])
    ]
    return DeliveryView(
        plugin=plugin,
        state=state,
        attempts=attempts,
        next_try=row.next_try.get(plugin),
        between=None if isinstance(between, msgspec.UnsetType) else between.get(plugin),
        again=plugin in takes and state not in (RETRYING, WAITING),
    )


def _error(error: str | None, messages: bool) -> str:
    return "" if error is None else error if messages else without_message(error)
