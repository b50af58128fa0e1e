"""The application of the admin listener: health, metrics, the API and the dashboard."""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import Any, Final

import msgspec
from litestar import HttpMethod, Litestar, Request, Response, get, route
from litestar.exceptions import HTTPException

from gateway.http.access import Access, peer
from gateway.http.api import api_routes
from gateway.http.api.answers import json_answer
from gateway.http.api.context import BODY_BYTES, AdminContext
from gateway.http.api.operations import OperationLog
from gateway.http.api.overview import ask_values, records_of
from gateway.http.api.status import plugins_health
from gateway.http.api.steering import steering
from gateway.http.dashboard import dashboard_routes
from gateway.http.dashboard.faults import fault_page, wants_page
from gateway.http.problems import FAILED, log_failure, problem_response
from gateway.http.readiness import Readiness
from gateway.http.request_id import RequestId
from gateway.http.roles import is_viewer, require_operator
from gateway.journal.interface import JournalError
from gateway.log import REQUEST, RateLimit
from gateway.reload import Reloader
from gateway.service import Gateway
from gateway.values.answer import Explanation

log = logging.getLogger("gateway.admin")

_PROBES: Final = (HttpMethod.GET, HttpMethod.HEAD)
_LOGGED: Final = (401, 403, 408, 413, 415, 421, 429)


class AdminApp(Litestar):
    """Litestar, with an id for each request."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        REQUEST.set(RequestId())
        await super().__call__(scope, receive, send)


def create_admin(gateway: Gateway, reloader: Reloader, access: Access) -> Litestar:
    """The admin application of a started gateway."""
    journal = gateway.journal
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
            details["disagreements"] = [one.sentence for one in journal.disagreements()]
            details["unknown"] = gateway.monitor.unknown_health()
            details["providers"] = [msgspec.to_builtins(health) for health in gateway.values.health()]
        return Response(details, status_code=200 if is_ready else 503, media_type="application/json")

    @get("/metrics", sync_to_thread=False)
    def metrics() -> Response[bytes]:
        return Response(gateway.metrics_page(), media_type="text/plain; version=0.0.4")

    @get("/api/values")
    async def values(request: Request[Any, Any, Any]) -> Response[Any]:
        if not any(name.lower().startswith("param") for name in request.query_params):
            return json_answer(await records_of(context, request))
        require_operator(request)  # it asks the providers, and tells what they know of a customer
        organisation = request.query_params.get("organisation", "")
        answer = await ask_values(context, request, organisation, request.scope["query_string"])
        return json_answer(Explanation.of(answer))

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

    return AdminApp(
        [
            *(live, ready, metrics, values),
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


def _failed(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    known = isinstance(error, JournalError)
    if not known:
        log_failure(log, error)
    detail = str(error) if known else FAILED
    return fault_page(request, 503, detail) if wants_page(request) else problem_response(503, detail)
