"""`/api/openapi.json`: the paths of this API, and what Webio sends, as schemas of their structs."""

from __future__ import annotations

from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, Final, NamedTuple

import msgspec
from litestar import Response, get

from gateway.events import HOOKS, PAYLOADS
from gateway.http.api.context import AnyRequest
from gateway.http.api.events import DeliverTo
from gateway.http.api.operations import Operation, OperationList, OperationRequest, Started
from gateway.http.api.overview import GROUP_FILTERS, VALUE_FILTERS, Drift
from gateway.http.api.query import FILTERS, LIMIT, MOST
from gateway.http.api.status import Status
from gateway.http.api.steering import Level, LevelSet
from gateway.http.sign_in_links import SignInLink
from gateway.journal.interface import STATES
from gateway.journal.nodes import Node
from gateway.journal.search import DeadGroup, EventHappened, EventRow, ValueRecord, ValuesAsked
from gateway.reload import Reloaded
from gateway.values.answer import Explanation

_REFERENCE: Final = "#/components/schemas/{name}"
_TEXT: Final = {"type": "string"}
_PROBLEM: Final = {
    "title": "Problem",
    "description": "A problem document (RFC 9457). `field` names the parameter or the field of the body at fault.",
    "type": "object",
    "properties": {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
        "field": _TEXT,
    },
    "required": ["type", "title", "status", "detail"],
}
_PARAMETERS: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "hook": ({"type": "string", "enum": ["", *HOOKS, "unknown"]}, "The hook; empty for every one."),
    "organisation": (_TEXT, "An organisation of the config."),
    "conversation": (_TEXT, "Webio's conversationId."),
    "customer": (_TEXT, "Webio's customerUID."),
    "address": (_TEXT, "The customer's address; a phone number in any notation."),
    "text": (_TEXT, "Messages with all of these words; pay* is the beginning of one."),
    "plugin": (_TEXT, "The plugin that state is about."),
    "state": ({"type": "string", "enum": ["", *STATES]}, "The state of the delivery; empty for every one."),
    "since": (_TEXT, "At or after a time: 2026-01-31T09:30, 2h, 7d, today. UTC without a zone."),
    "until": (_TEXT, "Before a time."),
    "limit": ({"type": "integer", "minimum": 1, "maximum": MOST, "default": LIMIT}, "The most entries of the page."),
    "cursor": (_TEXT, "The next of the page before."),
    "field": (_TEXT, "A field that was asked for, by any of its names."),
    "status": ({"type": "integer", "minimum": 100, "maximum": 599}, "The answer's status."),
    "plugins": ({"type": "string", "enum": ["strict"]}, "Not ready while a plugin or a provider fails, either."),
    "param1": (_TEXT, "A field to look up now, as Webio's bot does; param2 and so on for more."),
    "customerUID": (_TEXT, "The customer to look fields up for."),
    "outboundChannelAddress": (_TEXT, "The address to look fields up for."),
}


class Live(msgspec.Struct, kw_only=True):
    """The process answers."""

    live: bool


class Ready(msgspec.Struct, kw_only=True):
    """Whether events can be kept. The rest, with `journal` (why not, or ok), is for those who have the password."""

    ready: bool
    node: str | None = None
    journal: str | None = None
    plugins: list[dict[str, Any]] = []
    providers: list[dict[str, Any]] = []
    unknown: list[dict[str, Any]] = []
    disagreements: list[str] = []
    dead_letters: int = 0
    damaged: int = 0


class _Described(NamedTuple):
    """One method of one path. `answer` and `body` are structs; `many` says that a list of `answer` comes, in a page
    where it is "page". `also` is another struct that may be the answer instead."""

    method: str
    path: str
    summary: str
    answer: Any = None
    parameters: tuple[str, ...] = ()
    body: Any = None
    many: str = ""
    status: int = 200
    also: Any = None


_PATHS: Final = (
    _Described("get", "/health/live", "Whether the process answers.", Live),
    _Described("get", "/health/ready", "Whether events can be kept: 503 where not.", Ready, ("plugins",)),
    _Described("get", "/metrics", "Metrics in Prometheus' text format."),
    _Described("get", "/api/status", "How the gateway is, first in one sentence.", Status),
    _Described("get", "/api/events", "Events, the newest first.", EventRow, (*FILTERS, "limit", "cursor"), many="page"),
    _Described("get", "/api/events/{id}", "One event, with the state of its deliveries.", EventRow),
    _Described("post", "/api/events/{id}/deliver", "Deliver it to a plugin again.", Started, (), DeliverTo, status=202),
    _Described(
        *("get", "/api/timeline", "What happened to a customer or in a conversation, the oldest first."),
        EventHappened | ValuesAsked,
        ("customer", "conversation", "organisation", "since", "until", "limit", "cursor"),
        many="page",
    ),
    _Described(
        *("get", "/api/dead/groups", "Dead letters by plugin and cause, the most first."),
        DeadGroup,
        (*GROUP_FILTERS, "plugin"),
        many="list",
    ),
    _Described(
        *("post", "/api/operations", "Begin to retry, discard, replay or forget; or count what matches."),
        Started,
        body=OperationRequest,
        status=202,
    ),
    _Described("get", "/api/operations", "Operations, the newest first.", OperationList, ("limit",)),
    _Described("get", "/api/operations/{number}", "How far an operation is.", Operation),
    _Described("delete", "/api/operations/{number}", "Cancel an operation; how far it came.", Operation),
    _Described(
        *("get", "/api/values", "Custom value requests without their values, the newest first; or look values up."),
        ValueRecord,
        (*VALUE_FILTERS, "param1", "customerUID", "outboundChannelAddress"),
        many="page",
        also=Explanation,
    ),
    _Described("get", "/api/nodes", "The gateways on this journal.", Node, many="list"),
    _Described("post", "/api/reload", "Put a changed config in force, as far as that needs no restart.", Reloaded),
    _Described("post", "/api/log-level", "Change the level of the log.", LevelSet, body=Level),
    _Described("get", "/api/drift", "What Webio sends otherwise than before.", Drift),
    _Described("get", "/api/config", "The config in effect, with secrets masked."),
    _Described("post", "/api/sign-in-link", "Make a link that signs a browser in as an operator.", SignInLink),
    _Described("get", "/changes", "Server-sent events, which tell an open page that something changed, but not what."),
    _Described("get", "/api/openapi.json", "This document."),
)


_TEXTS: Final = {"/metrics": "text/plain", "/changes": "text/event-stream"}
"""The media type of answers that are not JSON, by path."""


def openapi_routes() -> list[Any]:
    """The handler."""

    @get("/api/openapi.json", sync_to_thread=False)
    def openapi(request: AnyRequest) -> Response[bytes]:
        return Response(document(), media_type="application/json")

    return [openapi]


@cache
def document() -> bytes:
    """The OpenAPI document as JSON."""
    structs = [kind for one in _PATHS for kind in (one.answer, one.body, one.also) if kind is not None]
    schemas, components = msgspec.json.schema_components([*structs, *PAYLOADS.values()], ref_template=_REFERENCE)
    answers = dict(zip((id(struct) for struct in structs), schemas, strict=False))
    for payload in PAYLOADS.values():
        components[payload.__name__]["properties"].pop("extra", None)  # fields of the body itself, not one of them
    paths: dict[str, dict[str, Any]] = {}
    for one in _PATHS:
        paths.setdefault(one.path, {})[one.method] = _operation(one, answers)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "Webio Gateway", "version": version("webio-gateway")},
            "security": [{"password": []}, {}],
            "paths": paths,
            "webhooks": _webhooks(),
            "components": {
                "schemas": {**components, "Problem": _PROBLEM},
                "securitySchemes": {"password": {"type": "http", "scheme": "basic", "description": "Any user name."}},
            },
        }
    )


def _operation(one: _Described, answers: dict[int, Any]) -> dict[str, Any]:
    schema = {} if one.answer is None else answers[id(one.answer)]
    if one.many:
        schema = {"type": "array", "items": schema}
    if one.many == "page":
        following = {"type": ["string", "null"]}
        schema = {
            "type": "object",
            "properties": {"items": schema, "next": following},
            "required": ["items", "next"],
        }
    if one.also is not None:
        schema = {"anyOf": [schema, answers[id(one.also)]]}
    done = _content(schema, "Done.")
    if one.path in _TEXTS:
        done = {"description": "Done.", "content": {_TEXTS[one.path]: {"schema": _TEXT}}}
    responses: dict[str, Any] = {str(one.status): done}
    if one.path == "/changes":
        responses["204"] = {"description": "Too many are open: ask for the page itself every few seconds."}
    for status in _errors(one):
        responses[str(status)] = {
            "description": HTTPStatus(status).phrase,
            "content": {"application/problem+json": {"schema": {"$ref": _REFERENCE.format(name="Problem")}}},
        }
    if one.path == "/health/ready":
        responses["503"] = _content(schema, "Not ready.")
    operation: dict[str, Any] = {
        "summary": one.summary,
        "parameters": [*_in_path(one.path), *map(_parameter, one.parameters)],
        "responses": responses,
    }
    if one.body is not None:
        operation["requestBody"] = {"required": True, **_content(answers[id(one.body)])}
    return operation


def _errors(one: _Described) -> list[int]:
    """The statuses of the problem documents that a request may be answered with."""
    found = [400, 401, 403, 421, 429, 503]
    if "{" in one.path:
        found.append(404)
    if one.method == "delete" or one.path.endswith(("/deliver", "/operations")):
        found.append(409)
    if one.method == "post":
        found += [408, 413, 415]
    return sorted(found)


def _in_path(path: str) -> list[dict[str, Any]]:
    name = path.partition("{")[2].partition("}")[0]
    schema = {"type": "integer"} if name == "number" else _TEXT
    return [{"name": name, "in": "path", "required": True, "schema": schema}] if name else []


def _parameter(name: str) -> dict[str, Any]:
    schema, text = _PARAMETERS[name]
    return {"name": name, "in": "query", "description": text, "schema": schema}


def _content(schema: Any, description: str | None = None) -> dict[str, Any]:
    content: dict[str, Any] = {"content": {"application/json": {"schema": schema}}}
    return content if description is None else {"description": description, **content}


def _webhooks() -> dict[str, Any]:
    """The nine hooks of Webio's: eight that send events, and the one that asks for custom values."""
    token = {"name": "x-webio-token", "in": "header", "required": True, "schema": _TEXT}
    hooks: dict[str, Any] = {
        hook: {
            "post": {
                "summary": f"Webio sends an event of the hook {hook}.",
                "parameters": [token],
                "requestBody": _content({"$ref": _REFERENCE.format(name=payload.__name__)}),
                "responses": {"200": {"description": "The event is on disk."}},
            }
        }
        for hook, payload in PAYLOADS.items()
    }
    names = ("customerUID", "outboundChannelAddress", "param1", "param2")
    values = _content({"type": "object", "additionalProperties": {"type": ["string", "null"]}}, "The values, as text.")
    hooks["custom-values"] = {
        "get": {
            "summary": "Webio's bot asks for custom values: param1, param2 and so on name the fields.",
            "parameters": [token, *({"name": name, "in": "query", "schema": _TEXT} for name in names)],
            "responses": {"200": values},
        }
    }
    return hooks
