"""The page of one event."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec
from litestar import Response, get, post

from gateway.http.api.context import AnyRequest
from gateway.http.api.events import deliver_again, one_event
from gateway.http.api.operations import Operation, OperationLog
from gateway.http.audit import audit
from gateway.http.dashboard.lines import shown_id, shown_name, what_happened
from gateway.http.dashboard.rendering import Renderer, see_other
from gateway.http.masking import masked_fields
from gateway.journal.interface import DEAD, DELIVERED, DISCARDED, RETRYING, WAITING, Filter
from gateway.journal.search import EventRow
from gateway.plugin_host.place import without_message

WAIT: Final = 1.5
"""Seconds that a page waits for an operation before it shows it as running."""
_VERDICTS: Final = {
    DEAD: ("{} gave it up, and it waits for a decision", "unwell"),
    RETRYING: ("{} failed to take it, and gets it again", "busy"),
    WAITING: ("{} has still to take it", "busy"),
    DELIVERED: ("delivered to {}", "well"),
    DISCARDED: ("an operator discarded its delivery to {}", ""),
}
"""What became of a delivery, and how the page looks then."""


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
    """An event. `tone` is how the verdict looks: well, busy, unwell or neither. `fields` are masked, and `body` is the
    text as received, only after a reveal."""

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
    tone: str
    what: str
    deliveries: list[DeliveryView]
    others: list[str]
    fields: list[tuple[str, str]]
    body: str
    revealed: bool
    operation: Operation | None


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

    return [event, event_form]


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
        verdict=verdict(row),
        tone=_VERDICTS.get(row.state, ("", ""))[1],
        what=what_happened(row, revealed),
        deliveries=[_delivery(row, plugin, state, takes, messages) for plugin, state in row.deliveries.items()],
        others=[plugin for plugin in takes if plugin not in row.deliveries],
        fields=[] if revealed else masked_fields(bytes(row.body)),
        body=bytes(row.body).decode() if revealed else "",
        revealed=revealed,
        operation=operation,
    )


def verdict(row: EventRow) -> str:
    """What became of an event, in a sentence; what most needs a look comes first."""
    told = []
    for state, (words, _) in _VERDICTS.items():
        plugins = [plugin for plugin, found in row.deliveries.items() if found == state]
        if plugins:
            told.append(words.format(_listed(plugins)))
    sentence = "; ".join(told) or "on disk; no enabled plugin has a hook for it"
    return sentence if row.state in (DEAD, RETRYING, WAITING) else f"{sentence[0].upper()}{sentence[1:]}"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


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
