"""The application of the admin listener: health, metrics, the API and the dashboard."""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import Any, Final

import msgspec
from litestar import HttpMethod, Litestar, Request, Response, get, post, route
from litestar.exceptions import HTTPException, NotFoundException
from litestar.params import FromQuery

from gateway.http.access import Access, peer
from gateway.http.api import api_routes
from gateway.http.api.context import BODY_BYTES, AdminContext, NotNow
from gateway.http.api.events import json_answer
from gateway.http.api.operations import MOST_IDS, OperationLog, Started
from gateway.http.api.overview import ask_values, records_of
from gateway.http.api.status import plugins_health
from gateway.http.audit import audit
from gateway.http.dashboard import dashboard_routes
from gateway.http.dashboard.faults import fault_page, wants_page
from gateway.http.privacy import privacy
from gateway.http.problems import FAILED, log_failure, problem_response
from gateway.http.readiness import Readiness
from gateway.http.request_id import RequestId
from gateway.http.roles import is_viewer, require_operator
from gateway.http.steering import steering
from gateway.journal.interface import STATES, Filter, JournalError
from gateway.log import REQUEST, RateLimit
from gateway.reload import Reloader
from gateway.service import Gateway
from gateway.text import counted
from gateway.values.answer import Explanation

log = logging.getLogger("gateway.admin")

_PROBES: Final = (HttpMethod.GET, HttpMethod.HEAD)
_LOGGED: Final = (401, 403, 408, 413, 415, 421, 429)
_NO_REPLAY: Final = "no replay has this number"


class Counted(msgspec.Struct, omit_defaults=True):
    """How many dead letters match a filter, how many of them were changed, and how many were left because their plugin
    is not enabled."""

    matched: int
    done: int
    left: int = 0


class ReplayState(msgspec.Struct):
    """How many events a replay has delivered, and whether it is over."""

    done: int
    finished: bool


class AdminApp(Litestar):
    """Litestar, with an id for each request."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        REQUEST.set(RequestId())
        await super().__call__(scope, receive, send)


class BadFilter(HTTPException):
    """The filter is not valid."""

    status_code = 400


def create_admin(gateway: Gateway, reloader: Reloader, access: Access) -> Litestar:
    """The admin application of a started gateway."""
    journal, delivery = gateway.journal, gateway.delivery
    readiness, context = Readiness(journal), AdminContext(gateway)
    operations = OperationLog(context)
    refusals: defaultdict[int, RateLimit] = defaultdict(lambda: RateLimit(log))

    @route("/health/live", http_method=_PROBES, status_code=200, media_type="application/json", sync_to_thread=False)
    def live() -> dict[str, bool]:
        return {"live": True}

    @route("/health/ready", http_method=_PROBES)
    async def ready(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        wanted = request.query_params.get("plugins")
        if wanted not in (None, "strict"):
            raise HTTPException(status_code=400, detail="plugins can only be strict")
        reason = await readiness.reason()
        is_ready = reason is None and (wanted is None or gateway.monitor.all_well())
        details: dict[str, Any] = {"ready": is_ready}
        if access.trusted(request):
            details["node"] = gateway.config.node.name
            details["journal"] = reason or "ok"
            details["plugins"] = plugins_health(gateway, masked=is_viewer(request))
            details["dead_letters"] = sum(gateway.monitor.dead.values())
            details["damaged"] = journal.damaged
            details["unknown"] = gateway.monitor.unknown_health()
            details["providers"] = [msgspec.to_builtins(health) for health in gateway.values.health()]
        return Response(details, status_code=200 if is_ready else 503, media_type="application/json")

    @get("/metrics", sync_to_thread=False)
    def metrics() -> Response[bytes]:
        return Response(gateway.metrics_page(), media_type="text/plain; version=0.0.4")

    @post("/api/dead/retry", status_code=200)
    async def dead_retry(request: Request[Any, Any, Any], in_order: FromQuery[bool] = False) -> Counted:
        data = read_filter(await context.body(request))
        if data.plugin is not None:
            context.require_delivery(data.plugin)
        matched = await journal.count_dead(data)
        done = await journal.retry_dead(data, list(delivery.consumers), in_order)
        await delivery.refresh(data.plugin)
        left = max(0, matched - done)
        audit(request, "retry of dead letters", data, f"{counted(done + left, 'event')} matched, {done} retried")
        return Counted(done + left, done, left)

    @post("/api/dead/discard", status_code=200)
    async def dead_discard(request: Request[Any, Any, Any]) -> Counted:
        data = read_filter(await context.body(request))
        done = await journal.discard_dead(data)
        audit(request, "discard of dead letters", data, f"{done} discarded")
        return Counted(done, done)

    @post("/api/replay", status_code=202)
    async def replay(request: Request[Any, Any, Any]) -> Started:
        data = read_filter(await context.body(request))
        context.require_delivery(data.plugin)
        if any(journal.decoder.hook_of(name) is None for name in data.names):
            raise NotNow(detail="the running gateway does not know all of these names yet; restart it")
        started = await journal.new_replay(data)
        audit(request, "replay", data, f"number {started.number}, {counted(started.matched, 'event')} matched")
        await delivery.refresh(data.plugin)
        return Started(number=started.number, matched=started.matched)

    @get("/api/replay/{number:int}")
    async def replay_state(request: Request[Any, Any, Any]) -> ReplayState:
        number = request.path_params["number"]
        if not 0 < number < 2**63:
            raise NotFoundException(detail=_NO_REPLAY)
        try:
            done, finished = await journal.replay_state(number)
        except ValueError:
            raise NotFoundException(detail=_NO_REPLAY) from None
        return ReplayState(done, finished)

    @get("/api/values")
    async def values(request: Request[Any, Any, Any]) -> Response[Any]:
        if not any(name.lower().startswith("param") for name in request.query_params):
            return json_answer(await records_of(context, request))
        require_operator(request)  # it asks the providers, and tells what they know of a customer
        organisation = request.query_params.get("organisation", "")
        answer = await ask_values(context, request, organisation, request.scope["query_string"])
        return Response(Explanation.of(answer), media_type="application/json", headers={"cache-control": "no-store"})

    def refused(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
        if error.status_code in _LOGGED:
            gateway.metrics.refused[str(error.status_code), "admin"] += 1
            refusals[error.status_code].warning(
                "%d %.20s from %s: admin listener: %s", error.status_code, request.method, peer(request), error.detail
            )
        detail = error.detail if error.status_code < 500 else FAILED
        if wants_page(request):
            return fault_page(request, error.status_code, detail)
        return problem_response(
            error.status_code, detail, error.headers, error.extra if isinstance(error.extra, dict) else {}
        )

    commands = [dead_retry, dead_discard, replay, replay_state, values, *privacy(context)]
    return AdminApp(
        [
            *(live, ready, metrics, *commands),
            *steering(gateway, reloader),
            *api_routes(context, operations),
            *dashboard_routes(context, operations, access),
        ],
        guards=[access.guard],
        exception_handlers={HTTPException: refused, Exception: _failed},
        request_max_body_size=BODY_BYTES,
        openapi_config=None,
        logging_config=None,
    )


def read_filter(body: bytes) -> Filter:
    """A filter from its JSON text. `BadFilter` where the text is not valid: a misspelt filter must not match
    everything."""
    try:
        which = msgspec.json.decode(body, type=Filter)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BadFilter(detail=f"the filter is not valid: {error}") from None
    if which.state is not None and which.state not in STATES:
        raise BadFilter(detail=f"unknown state; use one of: {', '.join(STATES)}")
    if any(moment is not None and moment.tzinfo is None for moment in (which.since, which.until)):
        raise BadFilter(detail="since and until need a time zone, for example 2026-01-31T12:00:00Z")
    if len(which.ids) > MOST_IDS:
        raise BadFilter(detail=f"a filter may have at most {MOST_IDS} ids, found {len(which.ids)}")
    return which


def _failed(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    known = isinstance(error, JournalError)
    if not known:
        log_failure(log, error)
    detail = str(error) if known else FAILED
    return fault_page(request, 503, detail) if wants_page(request) else problem_response(503, detail)
