"""The page of a timeline: what happened to a customer or in a conversation, in sentences."""

from __future__ import annotations

from datetime import UTC
from itertools import groupby
from typing import Any, Final

import msgspec
from litestar import Response, get, post
from litestar.exceptions import HTTPException, NotFoundException

from gateway.http.api import pages
from gateway.http.api.context import AnyRequest
from gateway.http.api.events import one_event
from gateway.http.api.query import filter_of, parameters, require_known
from gateway.http.audit import audit, hint
from gateway.http.dashboard.export import exported
from gateway.http.dashboard.lines import TimelineLine, timeline_line
from gateway.http.dashboard.rendering import SAFE, Renderer
from gateway.journal.interface import Filter
from gateway.journal.search import Search
from gateway.text import counted

LINES: Final = 200
_PARAMETERS: Final = ("customer", "conversation", "organisation", "event", "since", "until")


class TimelineView(msgspec.Struct, kw_only=True):
    """`of` says whose timeline it is; `days` are its lines by day, and `next` is the cursor of the next page."""

    of: str
    days: list[tuple[str, list[TimelineLine]]]
    next: str | None
    revealed: bool
    audit: bool


def timeline_routes(renderer: Renderer) -> list[Any]:
    """The handlers."""
    context = renderer.context

    async def asked_for(request: AnyRequest) -> Filter:
        """The customer or the conversation; of an event where the request names one."""
        given = parameters(request, _PARAMETERS)
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
        return filter_of(given)

    async def show(request: AnyRequest, revealed: bool, cursor: str | None) -> Response[bytes]:
        which = await asked_for(request)

        def work(search: Search) -> pages.Page[pages.Happened]:
            require_known(context.gateway.config, search, which.organisation)
            return pages.timeline(search, which, LINES, cursor)

        page = await context.reading.ask(work)
        what = "reveal of a timeline" if revealed else "look-up of a timeline"
        audit(request, what, which, counted(len(page.items), "line"))
        of = f"conversation {which.conversation}"
        if which.customer is not None:
            of = f"customer {which.customer if revealed else hint(which.customer)}"
        lines = [timeline_line(line, revealed) for line in page.items]
        view = TimelineView(
            of=of,
            days=[(day, list(found)) for day, found in groupby(lines, _day)],
            next=page.next,
            revealed=revealed,
            audit=context.gateway.config.values.audit,
        )
        return await renderer.page(request, "timeline.html", "Timeline", view, place="find")

    async def export(request: AnyRequest) -> Response[bytes]:
        which = await asked_for(request)

        def work(search: Search) -> list[bytes]:
            require_known(context.gateway.config, search, which.organisation)
            return list(exported(search.timeline(which)))

        lines = await context.reading.ask(work)
        audit(request, "export of a timeline without personal data", which, counted(len(lines), "line"))
        headers = {"content-disposition": 'attachment; filename="timeline.jsonl"', "cache-control": "no-store", **SAFE}
        return Response(b"".join(lines), status_code=200, media_type="application/jsonl", headers=headers)

    @get("/timeline")
    async def timeline(request: AnyRequest) -> Response[bytes]:
        return await show(request, False, None)

    @post("/timeline", opt={"form": True, "viewer": True}, status_code=200)
    async def timeline_form(request: AnyRequest) -> Response[bytes]:
        fields = await renderer.form(request)
        if fields.get("do") == "export":
            return await export(request)
        return await show(request, fields.get("do") == "reveal", fields.get("cursor") or None)

    return [timeline, timeline_form]


def _day(line: TimelineLine) -> str:
    return f"{line.at.astimezone(UTC):%A, %d %B %Y}"
