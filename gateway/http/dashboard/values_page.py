"""The page Values: who was asked for what, without the values; and a form that asks for one now."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from litestar import Response, get, post

from gateway.http.api.context import AnyRequest
from gateway.http.api.overview import ask_values, records_of
from gateway.http.audit import audit, hint
from gateway.http.dashboard.rendering import Renderer
from gateway.journal.interface import Filter
from gateway.journal.search import ValueRecord
from gateway.text import counted
from gateway.values.answer import STATUS, Answer, Explanation

_PAST: Final = {"value": "answered", "null": "has none", "default": "default given", "cached": "answered before"}
_WHY: Final = {
    "unknown": "no provider knows this customer or field",
    "refused": "it needs a customer UID, and the request has none",
    "several": "several customers match",
    "failed": "the provider failed",
    "skipped": "the provider was not asked, because its circuit breaker is open",
    "late": "the provider did not answer in time",
    "starting": "the provider has not started",
}


class ValueLine(msgspec.Struct, kw_only=True):
    """A custom value request, without its values."""

    at: datetime
    organisation: str
    customer: str
    status: int
    fields: list[str]


class Tried(msgspec.Struct, kw_only=True):
    """What was asked for in the form."""

    organisation: str = ""
    customer: str = ""
    address: str = ""
    fields: str = ""

    @property
    def query(self) -> bytes:
        """The query string of the request that Webio would send."""
        keys = {"customerUID": self.customer, "outboundChannelAddress": self.address}
        names = self.fields.replace(",", " ").split()
        params = {f"param{number}": name for number, name in enumerate(names, start=1)}
        return urlencode({**{key: value for key, value in keys.items() if value}, **params}).encode()


class TriedField(msgspec.Struct, kw_only=True):
    """A field of the answer: its value, masked or not, or why there is none."""

    name: str
    value: str
    fault: str
    provider: str
    ms: float


class TriedAnswer(msgspec.Struct, kw_only=True):
    status: int
    detail: str
    fields: list[TriedField]
    revealed: bool


class ValuesView(msgspec.Struct, kw_only=True):
    """`audit` is whether requests are recorded at all. `names` are the fields that the config has."""

    lines: list[ValueLine]
    next: str | None
    audit: bool
    revealed: bool
    providers: list[dict[str, Any]]
    organisations: list[str]
    names: list[str]
    tried: Tried
    answer: TriedAnswer | None


def values_routes(renderer: Renderer) -> list[Any]:
    """The handlers."""
    context = renderer.context

    async def show(
        request: AnyRequest,
        revealed: bool = False,
        cursor: str | None = None,
        tried: Tried | None = None,
        answer: TriedAnswer | None = None,
    ) -> Response[bytes]:
        page = await records_of(context, request, cursor)
        config = context.gateway.config
        view = ValuesView(
            lines=[_line(record, revealed) for record in page.items],
            next=page.next,
            audit=config.values.audit,
            revealed=revealed,
            providers=[msgspec.to_builtins(one) for one in context.gateway.values.health()],
            organisations=list(config.organisations),
            names=list(config.values.fields),
            tried=tried or Tried(),
            answer=answer,
        )
        if revealed:
            audit(request, "reveal of custom value requests", Filter(), counted(len(page.items), "request"))
        return await renderer.page(request, "values.html", "Values", view, place="values")

    @get("/values")
    async def values(request: AnyRequest) -> Response[bytes]:
        return await show(request)

    @post("/values", opt={"form": True, "viewer": True}, status_code=200)
    async def values_form(request: AnyRequest) -> Response[bytes]:
        fields = await renderer.form(request)
        return await show(request, fields.get("do") == "reveal", fields.get("cursor") or None)

    @post("/values/try", opt={"form": True}, status_code=200)
    async def values_try(request: AnyRequest) -> Response[bytes]:
        fields = await renderer.form(request)
        given = {name: fields.get(name, "").strip() for name in Tried.__struct_fields__}
        tried, revealed = Tried(**given), fields.get("do") == "reveal"
        answer = await ask_values(context, request, tried.organisation, tried.query)
        if revealed:
            which = Filter(organisation=tried.organisation, customer=tried.customer or None)
            audit(request, "reveal of custom values", which, f"status {answer.status}")
        return await show(request, tried=tried, answer=tried_answer(answer, revealed))

    return [values, values_form, values_try]


def tried_answer(answer: Answer, revealed: bool) -> TriedAnswer:
    """An answer as the page shows it."""
    explained = Explanation.of(answer)
    fields = [
        TriedField(
            name=name,
            value="" if detail.outcome in STATUS else _shown(explained.values.get(name), answer.status, revealed),
            fault=_WHY.get(detail.outcome, ""),
            provider=detail.provider or "",
            ms=detail.ms,
        )
        for name, detail in explained.fields.items()
    ]
    return TriedAnswer(
        status=answer.status,
        detail="" if explained.problem is None else str(explained.problem.get("detail", "")),
        fields=fields,
        revealed=revealed,
    )


def _shown(value: str | None, status: int, revealed: bool) -> str:
    if status != 200:
        return "known, but not given, because another field failed"
    if value is None:
        return "null"
    return value if revealed else f"… ({counted(len(value), 'character')})"


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
