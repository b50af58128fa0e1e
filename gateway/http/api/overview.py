"""`/api/dead/groups`, `/api/drift`, `/api/config` and the list of `/api/values`."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Response, get

from gateway.drift import FieldChange
from gateway.http.api import pages
from gateway.http.api.answers import json_answer
from gateway.http.api.context import AdminContext, AnyRequest
from gateway.http.api.effective import effective
from gateway.http.api.events import is_look_up
from gateway.http.api.query import LIMIT, MOST, Invalid, filter_of, moment, number, parameters, require_known
from gateway.http.audit import audit
from gateway.journal.interface import Filter
from gateway.journal.search import DRIFT_WINDOW, DeadGroup, Search, UnreadableBodies, ValueRecord, ValueRecordFilter
from gateway.text import counted
from gateway.values.answer import Answer
from gateway.values.question import Malformed, parse_query

VALUE_FILTERS = ("customer", "field", "status", "organisation", "since", "until", "limit", "cursor")
GROUP_FILTERS = ("hook", "organisation", "conversation", "customer", "address", "text", "since", "until")


class Drift(msgspec.Struct, kw_only=True):
    """Signs of a change at Webio's end: the names that no hook has, and the bodies that do not fit their hook among the
    newest `window` events, and the fields that appeared or vanished."""

    unknown: list[dict[str, Any]]
    unreadable: list[UnreadableBodies]
    window: int
    fields: list[FieldChange]


async def drift_of(context: AdminContext) -> Drift:
    """See `Drift`."""
    found = await context.reading.ask(lambda search: search.unreadable())
    gateway = context.gateway
    unknown, fields = gateway.monitor.unknown_health(), gateway.drift.changes()
    return Drift(unknown=unknown, unreadable=found, window=DRIFT_WINDOW, fields=fields)


async def records_of(context: AdminContext, request: AnyRequest, cursor: str | None = None) -> pages.Page[ValueRecord]:
    """The page of custom value requests that a request asks for; `cursor` instead of one in its query."""
    given = parameters(request, VALUE_FILTERS)
    limit = number(given, "limit", LIMIT, 1, MOST)
    status = number(given, "status", 0, 100, 599) if "status" in given else None
    which = ValueRecordFilter(
        organisation=given.get("organisation"),
        customer_uid=given.get("customer"),
        fields=_names(context, given["field"]) if "field" in given else (),
        status=status,
        since=moment("since", given["since"]) if "since" in given else None,
        until=moment("until", given["until"]) if "until" in given else None,
    )

    def work(search: Search) -> pages.Page[ValueRecord]:
        require_known(context.gateway.config, search, which.organisation)
        return pages.value_records(search, which, limit, cursor or given.get("cursor"))

    page = await context.reading.ask(work)
    if which.customer_uid is not None:
        look_up = Filter(organisation=which.organisation, customer=which.customer_uid)
        audit(request, "look-up of custom value requests", look_up, counted(len(page.items), "request"))
    return page


async def ask_values(context: AdminContext, request: AnyRequest, organisation: str, query: bytes) -> Answer:
    """The answer to an operator's own custom value request, which is noted in the audit log. `Invalid` for an
    organisation that the config does not have."""
    known = context.gateway.config.organisations
    if organisation not in known:
        raise Invalid("organisation", f"unknown organisation; use one of: {', '.join(known)}")
    answer = await context.gateway.values.answer(organisation, query, record=False)
    try:
        question = parse_query(organisation, query)
        which = Filter(organisation=organisation, customer=question.customer_uid, address=question.address)
    except Malformed:
        which = Filter(organisation=organisation)
    outcome = f"{counted(len(answer.details), 'field')}, status {answer.status}"
    audit(request, "look-up of custom values", which, outcome)
    return answer


async def groups_of(context: AdminContext, which: Filter) -> list[DeadGroup]:
    """The dead letters by plugin and cause."""
    return await context.reading.ask(lambda search: search.dead_groups(which))


def overview_routes(context: AdminContext) -> list[Any]:
    """The handlers, without that of `/api/values`, which also answers operators' questions."""

    @get("/api/dead/groups")
    async def groups(request: AnyRequest) -> Response[Any]:
        given = parameters(request, (*GROUP_FILTERS, "plugin"))
        plugin = given.pop("plugin", None)
        which = msgspec.structs.replace(filter_of(given), plugin=plugin)

        def work(search: Search) -> list[DeadGroup]:
            require_known(context.gateway.config, search, which.organisation, which.plugin)
            return search.dead_groups(which)

        found = await context.reading.ask(work)
        if is_look_up(which):
            audit(request, "look-up of dead letters", which, counted(len(found), "group"))
        return json_answer(found)

    @get("/api/drift")
    async def drift(request: AnyRequest) -> Response[Any]:
        return json_answer(await drift_of(context))

    @get("/api/config", sync_to_thread=False)
    def config(request: AnyRequest) -> Response[Any]:
        return json_answer(effective(context.gateway))

    return [groups, drift, config]


def _names(context: AdminContext, name: str) -> tuple[str, ...]:
    """Every name of the field with this name or alias: a record has the name of the request."""
    every = ((field, *settings.aliases) for field, settings in context.gateway.config.values.fields.items())
    return next((names for names in every if name in names), (name,))
