"""The pages that only show: Now, Drift and Values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
from litestar import Response, get, post

from gateway.http.api.context import AnyRequest
from gateway.http.api.overview import Drift, drift_of, records_of
from gateway.http.api.status import Status, status_of
from gateway.http.audit import audit, hint
from gateway.http.dashboard.rendering import Renderer
from gateway.http.roles import is_viewer
from gateway.journal.interface import Filter
from gateway.journal.search import ValueRecord
from gateway.text import counted

_PAST = {"value": "answered", "null": "has none", "default": "default given", "cached": "answered before"}


class NowView(msgspec.Struct, kw_only=True):
    """`received` are the events since the start, by hook; `values` the custom value requests, by status."""

    status: Status
    received: list[tuple[str, int]]
    values: list[tuple[str, int]]


class DriftView(msgspec.Struct, kw_only=True):
    drift: Drift


class ValueLine(msgspec.Struct, kw_only=True):
    """A custom value request, without its values."""

    at: datetime
    organisation: str
    customer: str
    status: int
    fields: list[str]


class ValuesView(msgspec.Struct, kw_only=True):
    """`audit` is whether requests are recorded at all."""

    lines: list[ValueLine]
    next: str | None
    audit: bool
    revealed: bool
    providers: list[dict[str, Any]]


def look_routes(renderer: Renderer) -> list[Any]:
    """The handlers."""
    context = renderer.context

    @get("/")
    async def now(request: AnyRequest) -> Response[bytes]:
        metrics = context.gateway.metrics
        received: Counter[str] = Counter()
        for (_, hook, kind), count in metrics.received.items():
            if kind != "duplicate":
                received[hook] += count
        answered: Counter[str] = Counter()
        for (_, status), count in metrics.values.items():
            answered[status] += count
        now_status = status_of(context, masked=is_viewer(request))
        view = NowView(status=now_status, received=received.most_common(), values=sorted(answered.items()))
        return await renderer.page(request, "now.html", view.status.sentence, view, place="now")

    @get("/drift")
    async def drift(request: AnyRequest) -> Response[bytes]:
        view = DriftView(drift=await drift_of(context))
        return await renderer.page(request, "drift.html", "Drift", view, place="drift")

    async def show_values(request: AnyRequest, revealed: bool, cursor: str | None = None) -> Response[bytes]:
        page = await records_of(context, request, cursor)
        view = ValuesView(
            lines=[_line(record, revealed) for record in page.items],
            next=page.next,
            audit=context.gateway.config.values.audit,
            revealed=revealed,
            providers=[msgspec.to_builtins(one) for one in context.gateway.values.health()],
        )
        if revealed:
            audit(request, "reveal of custom value requests", Filter(), counted(len(page.items), "request"))
        return await renderer.page(request, "values.html", "Values", view, place="values")

    @get("/values")
    async def values(request: AnyRequest) -> Response[bytes]:
        return await show_values(request, False)

    @post("/values", opt={"form": True, "viewer": True}, status_code=200)
    async def values_form(request: AnyRequest) -> Response[bytes]:
        fields = await renderer.form(request)
        return await show_values(request, fields.get("do") == "reveal", fields.get("cursor") or None)

    return [now, drift, values, values_form]


def _line(record: ValueRecord, revealed: bool) -> ValueLine:
    customer = record.customer_uid or ""
    return ValueLine(
        at=record.at,
        organisation=record.organisation,
        customer=customer if revealed else hint(customer),
        status=record.status,
        fields=[_field(name, detail) for name, detail in record.fields.items()],
    )


def _field(name: str, detail: Mapping[str, Any]) -> str:
    outcome = str(detail.get("outcome"))
    by = f" by {detail['provider']}" if detail.get("provider") else ""
    took = f" in {detail['ms']:.0f} ms" if detail.get("ms") else ""
    return f"{name}: {_PAST.get(outcome, outcome)}{by}{took}"
