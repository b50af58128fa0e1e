"""The page Trouble: dead letters by plugin and cause, with what an operator can do about them."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Final, Literal

import msgspec
from litestar import Response, get, post
from litestar.exceptions import HTTPException

from gateway.http.api.context import AnyRequest, NotNow
from gateway.http.api.operations import Operation, OperationLog
from gateway.http.api.overview import groups_of
from gateway.http.api.status import PluginStatus, status_of
from gateway.http.dashboard.rendering import Renderer, see_other
from gateway.http.roles import is_viewer
from gateway.journal.interface import Filter
from gateway.journal.search import DeadGroup
from gateway.plugin_host.place import without_message

WAIT: Final = 1.5
"""Seconds that the page waits for an operation before it shows it as running."""
_KINDS: Final[dict[str, tuple[Literal["retry", "discard"], bool]]] = {
    "retry": ("retry", False),
    "in order": ("retry", True),
    "discard": ("discard", False),
}


class GroupView(DeadGroup, kw_only=True):
    """A group of dead letters. `key` names the group in a form, without its error. `takes` is whether the plugin can
    get them again."""

    key: str
    takes: bool


class TroubleView(msgspec.Struct, kw_only=True):
    """`waiting` are the plugins that have events to take, or are not well; `plugin` is the only one that is shown, or
    None: all are."""

    groups: list[GroupView]
    waiting: list[PluginStatus]
    operation: Operation | None
    plugin: str | None


def trouble_routes(renderer: Renderer, operations: OperationLog) -> list[Any]:
    """The handlers."""
    context = renderer.context

    @get("/trouble")
    async def trouble(request: AnyRequest) -> Response[bytes]:
        operation = await operations.named(request.query_params.get("operation", ""), WAIT)
        only = request.query_params.get("plugin") or None
        takes, messages = context.gateway.delivery.consumers, renderer.shows_messages(request)
        plugins = status_of(context, masked=is_viewer(request)).plugins
        view = TroubleView(
            groups=[
                _view(group, group.plugin in takes, messages) for group in await groups_of(context, Filter(plugin=only))
            ],
            waiting=[
                plugin for plugin in plugins if only in (None, plugin.name) and (plugin.waiting or not plugin.healthy)
            ],
            operation=operation,
            plugin=only,
        )
        return await renderer.page(request, "trouble.html", "Trouble", view, place="trouble")

    @post("/trouble", opt={"form": True}, status_code=303)
    async def act(request: AnyRequest) -> Response[bytes]:
        fields = await renderer.form(request)
        if fields.get("do") not in _KINDS:
            raise HTTPException(status_code=400, detail=f"do: expected one of: {', '.join(_KINDS)}")
        kind, in_order = _KINDS[fields["do"]]
        for group in await groups_of(context, Filter()):
            if key_of(group) == fields.get("group"):
                which = Filter(plugin=group.plugin, error=group.error)
                started = await operations.start(request, kind, which, in_order)
                return see_other(f"/trouble?operation={started.number}")
        raise NotNow(detail="there are no dead letters of this group any more")

    return [trouble, act]


def key_of(group: DeadGroup) -> str:
    """What a form names a group by: the error may have words of a customer."""
    return blake2b(f"{group.plugin}\0{group.error}".encode("utf-8", "replace"), digest_size=12).hexdigest()


def _view(group: DeadGroup, takes: bool, messages: bool) -> GroupView:
    shown = {"error": group.error if messages else without_message(group.error)}
    return GroupView(**msgspec.structs.asdict(group) | shown, key=key_of(group), takes=takes)
