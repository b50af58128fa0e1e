"""The admin listener: health, metrics, and what the operator's commands ask of a running gateway."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import msgspec
from litestar import HttpMethod, Litestar, Request, Response, get, post, route
from litestar.exceptions import HTTPException, NotFoundException
from litestar.params import FromQuery
from litestar.response import Redirect

from gateway.http.access import guard, trusted
from gateway.http.problems import problem
from gateway.journal.interface import STATES, Filter, JournalError
from gateway.service import Gateway
from gateway.values.answer import Explanation

log = logging.getLogger("gateway.admin")

MOST_IDS: Final = 10_000
BODY_BYTES: Final = 2**20
PROBE_SECONDS: Final = 5.0
PROBLEM: Final = "application/problem+json"
_PROBES: Final = (HttpMethod.GET, HttpMethod.HEAD)
_INTRUSIONS: Final = (401, 415, 421)
_NO_REPLAY: Final = "there is no replay of this number"


class Counted(msgspec.Struct, omit_defaults=True):
    """How many a filter means, how many of them were dealt with, and how many are of plugins that are off."""

    matched: int
    done: int
    left: int = 0


class Started(msgspec.Struct):
    """A replay that was taken up."""

    number: int
    matched: int


class ReplayState(msgspec.Struct):
    done: int
    finished: bool


class BadFilter(HTTPException):
    """The filter cannot be read."""

    status_code = 400


class NotNow(HTTPException):
    """The request is sound, but cannot be done now."""

    status_code = 409


def create_admin(gateway: Gateway) -> Litestar:
    """The admin application of a started gateway."""
    journal, delivery = gateway.journal, gateway.delivery

    def require_delivery(plugin: str | None) -> None:
        if plugin not in delivery.consumers:
            known = ", ".join(delivery.consumers) or "none"
            raise NotNow(detail=f"no plugin {plugin} takes events here; those that do: {known}")

    @get("/", sync_to_thread=False)
    def front() -> Redirect:
        return Redirect("/health/ready")

    @route("/health/live", http_method=_PROBES, status_code=200, media_type="application/json", sync_to_thread=False)
    def live() -> dict[str, bool]:
        return {"live": True}

    @route("/health/ready", http_method=_PROBES)
    async def ready(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        reason = journal.refusal()
        if reason is None:
            try:
                async with asyncio.timeout(PROBE_SECONDS):
                    await journal.probe()
            except JournalError as error:
                reason = str(error)
            except TimeoutError:
                reason = f"the journal did not write and read within {PROBE_SECONDS:g} s"
        details: dict[str, Any] = {"ready": reason is None}
        if trusted(gateway.config, request):
            details["journal"] = reason or "ok"
            details["plugins"] = gateway.plugins_health()
            details["providers"] = [msgspec.to_builtins(health) for health in gateway.values.health()]
        return Response(details, status_code=200 if reason is None else 503, media_type="application/json")

    @get("/metrics", sync_to_thread=False)
    def metrics() -> Response[bytes]:
        return Response(gateway.metrics_page(), media_type="text/plain; version=0.0.4")

    @post("/api/dead/retry", status_code=200)
    async def dead_retry(request: Request[Any, Any, Any], in_order: FromQuery[bool] = False) -> Counted:
        data = read_filter(await request.body())
        if data.plugin is not None:
            require_delivery(data.plugin)
        matched = await journal.count_dead(data)
        done = await journal.retry_dead(data, list(delivery.consumers), in_order)
        await delivery.refresh(data.plugin)
        left = max(0, matched - done)
        return Counted(done + left, done, left)

    @post("/api/dead/discard", status_code=200)
    async def dead_discard(request: Request[Any, Any, Any]) -> Counted:
        data = read_filter(await request.body())
        done = await journal.discard_dead(data)
        return Counted(done, done)

    @post("/api/replay", status_code=202)
    async def replay(request: Request[Any, Any, Any]) -> Started:
        data = read_filter(await request.body())
        require_delivery(data.plugin)
        started = await journal.new_replay(data)
        await delivery.refresh(data.plugin)
        return Started(started.number, started.matched)

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
    async def values(request: Request[Any, Any, Any]) -> Response[Explanation]:
        organisation = request.query_params.get("organisation", "")
        if organisation not in gateway.config.organisations:
            known = ", ".join(gateway.config.organisations)
            raise HTTPException(status_code=400, detail=f"name one organisation of those that there are: {known}")
        answer = await gateway.values.answer(organisation, request.scope["query_string"], record=False)
        return Response(Explanation.of(answer), media_type="application/json", headers={"cache-control": "no-store"})

    def refused(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
        if error.status_code in _INTRUSIONS:
            gateway.receiver.note(request.scope, error.status_code, "admin", f"admin listener: {error.detail}")
        return _as_problem(error)

    return Litestar(
        [front, live, ready, metrics, dead_retry, dead_discard, replay, replay_state, values],
        guards=[guard(gateway.config)],
        exception_handlers={HTTPException: refused, Exception: _unexpected},
        request_max_body_size=BODY_BYTES,
        openapi_config=None,
        logging_config=None,
    )


def read_filter(body: bytes) -> Filter:
    """A filter as JSON; `BadFilter` where it would mean something else than was meant."""
    try:
        which = msgspec.json.decode(body, type=Filter)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BadFilter(detail=f"this is no filter: {error}") from None
    if which.state is not None and which.state not in STATES:
        raise BadFilter(detail=f"there is no such state; those that there are: {', '.join(STATES)}")
    if any(moment is not None and moment.tzinfo is None for moment in (which.since, which.until)):
        raise BadFilter(detail="since and until need a time zone, such as the Z of 2026-01-31T12:00:00Z")
    if len(which.ids) > MOST_IDS:
        raise BadFilter(detail=f"at most {MOST_IDS} ids in one filter")
    return which


def _as_problem(error: HTTPException) -> Response[bytes]:
    return Response(
        problem(error.status_code, error.detail if error.status_code < 500 else "Something went wrong here."),
        status_code=error.status_code,
        media_type=PROBLEM,
        headers=error.headers,
    )


def _unexpected(_: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    if isinstance(error, JournalError):
        detail = str(error)
    else:
        detail = "Something went wrong here."
        log.error("a request failed: %s", type(error).__name__, exc_info=log.isEnabledFor(logging.DEBUG))
    return Response(problem(503, detail), status_code=503, media_type=PROBLEM)
