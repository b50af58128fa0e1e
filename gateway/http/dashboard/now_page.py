"""The page Now: how the gateway is, in one sentence first, and what came in the last hour or day."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from litestar import Response, get

from gateway.http.api.context import AdminContext, AnyRequest
from gateway.http.api.query import Invalid
from gateway.http.api.status import Status, status_of
from gateway.http.dashboard.charts import Chart, Line, chart_of
from gateway.http.dashboard.rendering import Renderer
from gateway.http.roles import is_viewer
from gateway.rates import MINUTE, Rate, total

SPANS: Final = {"hour": (1, 60), "day": (5, 288)}
"""Minutes of a point of a chart, and points, by the name of the time that the charts show."""
_FAILURES: Final = {
    "400": "the request is not valid",
    "404": "nobody knows the customer or the field",
    "409": "several customers match",
    "502": "a provider failed",
    "504": "out of time",
}


class SecretLine(msgspec.Struct, kw_only=True):
    """A secret of an organisation, and when it last verified a token since the gateway started, or None."""

    organisation: str
    secret: str
    used: datetime | None


class NowView(msgspec.Struct, kw_only=True):
    """`span` is the time that the charts show, `since` when counting began. `received` are the events of that time by
    hook, `asked` the custom value requests, `failed` those of them that failed, by reason; `p50` and `p95` are in
    milliseconds. `refused` are the requests refused since the start, by status and reason."""

    status: Status
    span: str
    spans: list[str]
    since: datetime
    events: Chart
    values: Chart
    times: Chart
    received: list[tuple[str, int]]
    asked: int
    failed: list[tuple[str, int]]
    p50: float | None
    p95: float | None
    refused: list[tuple[str, str, int]]
    secrets: list[SecretLine]

    @property
    def waiting(self) -> int:
        return sum(plugin.waiting for plugin in self.status.plugins)

    @property
    def dead(self) -> int:
        return sum(plugin.dead for plugin in self.status.plugins)

    @property
    def events_received(self) -> int:
        return sum(count for _, count in self.received)

    @property
    def requests_failed(self) -> int:
        return sum(count for _, count in self.failed)


def now_routes(renderer: Renderer) -> list[Any]:
    """The handler."""
    context = renderer.context

    @get("/")
    async def now(request: AnyRequest) -> Response[bytes]:
        span = request.query_params.get("span", "hour")
        if span not in SPANS:
            raise Invalid("span", f"expected one of: {', '.join(SPANS)}")
        view = now_view(context, span, is_viewer(request))
        return await renderer.page(request, "now.html", view.status.sentence, view, place="now")

    return [now]


def now_view(context: AdminContext, span: str, masked: bool) -> NowView:
    """The view, from memory only. With `masked`, errors are without what an exception said."""
    gateway = context.gateway
    length, points = SPANS[span]
    spans, seconds = gateway.rates.spans(length, points), length * MINUTE
    whole = total(spans)
    hooks = [hook for hook, _ in whole.events.most_common()]
    half, most = whole.quantile(0.5), whole.quantile(0.95)
    return NowView(
        status=status_of(context, masked=masked),
        span=span,
        spans=list(SPANS),
        since=datetime.fromtimestamp(gateway.rates.since, UTC),
        events=chart_of(spans, seconds, [Line(hook, _events(hook, length)) for hook in hooks]),
        values=chart_of(
            spans,
            seconds,
            [
                Line("answered", lambda one: one.values["200"] / length),
                Line("failed", lambda one: (one.values.total() - one.values["200"]) / length),
            ],
        ),
        times=chart_of(spans, seconds, [Line("p50", _milliseconds(0.5)), Line("p95", _milliseconds(0.95))]),
        received=whole.events.most_common(),
        asked=whole.values.total(),
        failed=[
            (_FAILURES.get(status, f"status {status}"), count)
            for status, count in whole.values.most_common()
            if status != "200"
        ],
        p50=None if half is None else half * 1000,
        p95=None if most is None else most * 1000,
        refused=sorted((*key, count) for key, count in gateway.metrics.refused.items()),
        secrets=_secrets(context),
    )


def _secrets(context: AdminContext) -> list[SecretLine]:
    used = context.gateway.receiver.secrets_last_used()
    return [
        SecretLine(
            organisation=name,
            secret=secret.source,
            used=datetime.fromtimestamp(at, UTC) if (at := used.get((name, index), 0.0)) else None,
        )
        for name, organisation in context.gateway.config.organisations.items()
        for index, secret in enumerate(organisation.secrets)
    ]


def _events(hook: str, length: int) -> Any:
    return lambda one: one.events[hook] / length


def _milliseconds(share: float) -> Any:
    def of(one: Rate) -> float | None:
        seconds = one.quantile(share)
        return None if seconds is None else seconds * 1000

    return of
