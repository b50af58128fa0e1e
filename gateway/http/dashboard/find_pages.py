"""The page Find: one box for an id, a conversation, a customer, a phone number, words, or filters such as
`hook:payment state:dead since:2h`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from litestar import Response, get, post

from gateway.events import digits_of
from gateway.http.api import pages
from gateway.http.api.context import AnyRequest
from gateway.http.api.events import is_look_up
from gateway.http.api.query import FILTERS, Invalid, cursor, filter_of, is_id, require_known
from gateway.http.audit import audit
from gateway.http.dashboard.lines import EventLine, event_line
from gateway.http.dashboard.rendering import Renderer, see_other
from gateway.journal.contents import wanted_words
from gateway.journal.interface import Filter
from gateway.journal.search import EventRow, Search
from gateway.text import counted

LIMIT: Final = 50
LONGEST: Final = 500


class FindView(msgspec.Struct, kw_only=True):
    """`query` is what was asked for where it tells nothing of a customer; then `newest` and `older` are addresses of
    such pages. `by` says as what a single word was found. `cursor` is that of this page and `next` that of the next
    one; `fault` is why the query cannot be read. `organisations` is how many the config has.
    `live` is whether the page shows by itself what is new: not a look-up of a customer, since each leaves a line in the
    audit log."""

    query: str = ""
    by: list[str] = []
    lines: list[EventLine] = []
    cursor: str = ""
    next: str | None = None
    newest: str = ""
    older: str = ""
    fault: str = ""
    asked: bool = False
    revealed: bool = False
    organisations: int = 1
    live: bool = False


class _Found(msgspec.Struct):
    rows: list[EventRow]
    next: str | None
    by: list[str]


def find_routes(renderer: Renderer) -> list[Any]:
    """The handlers."""
    context = renderer.context

    async def show(request: AnyRequest, revealed: bool = False, before: str = "") -> Response[bytes]:
        query = request.query_params.get("q", "").strip()
        if is_id(query.lower()):
            return see_other(f"/events/{query.lower()}")
        many = len(context.gateway.config.organisations)
        view = FindView(asked=bool(query), revealed=revealed, cursor=before, organisations=many)
        status = 200
        try:
            filters = filters_of(query)
            place = cursor({"cursor": before} if before else {})
            found = await context.reading.ask(lambda search: _find(search, filters, place))
            if not any(map(is_look_up, filters.values())):
                view.query, view.newest = query, _address(query)
                view.live = not (revealed or before)
                view.older = "" if found.next is None else _address(query, found.next)
            elif query:
                which = next(iter(filters.values()))
                audit(request, "look-up of events", which, counted(len(found.rows), "event"))
            if revealed:
                audit(request, "reveal of events", next(iter(filters.values())), counted(len(found.rows), "event"))
            view.lines = [event_line(row, revealed) for row in found.rows]
            view.next, view.by = found.next, found.by
        except Invalid as error:
            view.fault, status = error.detail, 400
        return await renderer.page(request, "find.html", "Find", view, place="find", status=status)

    def _find(search: Search, filters: dict[str, Filter], before: str | None) -> _Found:
        for which in filters.values():
            require_known(context.gateway.config, search, which.organisation, which.plugin)
        if len(filters) == 1:
            page = pages.newest_events(search, next(iter(filters.values())), LIMIT, before)
            return _Found(page.items, page.next, [])
        rows: dict[str, EventRow] = {}
        by = []
        for name, which in filters.items():
            found = pages.newest_events(search, which, LIMIT, None).items
            if found:
                by.append(f"{name} ({len(found)}{'' if len(found) < LIMIT else ' or more'})")
            rows |= {row.id: row for row in found}
        newest = sorted(rows.values(), key=lambda row: row.id, reverse=True)[:LIMIT]
        return _Found(newest, None, by)

    @get("/find")
    async def find(request: AnyRequest) -> Response[bytes]:
        return await show(request, before=request.query_params.get("cursor", ""))

    @post("/find", opt={"form": True, "viewer": True}, status_code=200)
    async def find_form(request: AnyRequest) -> Response[bytes]:
        fields = await renderer.form(request)
        return await show(request, fields.get("do") == "reveal", fields.get("cursor", ""))

    return [find, find_form]


def _address(query: str, cursor: str = "") -> str:
    """The address of a page of events."""
    given = {name: value for name, value in (("q", query), ("cursor", cursor)) if value}
    return f"/find?{urlencode(given)}" if given else "/find"


def filters_of(query: str) -> dict[str, Filter]:
    """What a query may mean, by the name of what is looked for; `Invalid`. One filter where there is no bare word."""
    if len(query) > LONGEST:
        raise Invalid("q", f"expected at most {LONGEST} characters, found {len(query)}")
    given: dict[str, str] = {}
    words = []
    for term in _terms(query):
        name, colon, value = term.partition(":")
        if not colon or name not in FILTERS:
            words.append(term)
        elif name in given:
            raise Invalid(name, "expected once, found twice")
        elif value:
            given[name] = value
    if not words:
        return {"filter": filter_of(given)}
    found: dict[str, dict[str, str]] = {}
    text = " ".join(words)
    if len(words) == 1:
        found |= {"conversation": {"conversation": text}, "customer": {"customer": text}}
    if digits_of(text) or "@" in text:
        found["address"] = {"address": text}
    if wanted_words(text):
        found["text"] = {"text": text}
    if not found:
        raise Invalid("q", "expected a word, found a text without a letter or a digit")
    return {name: filter_of({**given, **more}) for name, more in found.items() if not given.keys() & more.keys()}


def _terms(query: str) -> Iterator[str]:
    try:
        yield from shlex.split(query.replace("'", "\\'"))
    except ValueError:  # a quotation mark without its partner
        yield from query.split()
