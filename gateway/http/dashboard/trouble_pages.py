"""The page Trouble: dead letters by plugin and cause, with what an operator can do about all, some or one of them, and
how far that is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Final, Literal

import msgspec
from litestar import Response, get, post
from litestar.exceptions import HTTPException

from gateway.http.api.context import AnyRequest, NotNow
from gateway.http.api.operations import OperationLog
from gateway.http.api.overview import groups_of
from gateway.http.api.query import Invalid, is_id, moment
from gateway.http.api.status import PluginStatus, status_of
from gateway.http.dashboard.operation_pages import OperationsView, lately
from gateway.http.dashboard.rendering import Renderer, see_other
from gateway.http.roles import is_viewer
from gateway.journal.interface import Filter
from gateway.journal.search import DeadGroup, DeadRow
from gateway.plugin_host.place import without_message

WAIT: Final = 1.5
"""Seconds that the page waits for an operation before it shows it as running."""
ROWS: Final = 200
"""Dead letters of a group that are listed to choose from."""
WINDOWS: Final = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7), "all": None}
"""When the events came whose dead letters are shown."""
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
    """`waiting` are the plugins that have events to take, or are not well. `window` is one of `windows`, and `since`
    when it begins, for the forms: they are about what the page shows, not about what came later. `plugin` is the only
    one that is shown, or None: all are."""

    groups: list[GroupView]
    waiting: list[PluginStatus]
    window: str
    windows: list[str]
    since: datetime | None
    operations: OperationsView
    plugin: str | None

    @property
    def count(self) -> int:
        return sum(group.count for group in self.groups)


class ChoiceView(msgspec.Struct, kw_only=True):
    """A group with its dead letters, at most `ROWS` of them, the oldest events first."""

    group: GroupView
    rows: list[DeadRow]
    window: str
    since: datetime | None


def trouble_routes(renderer: Renderer, operations: OperationLog) -> list[Any]:
    """The handlers."""
    context = renderer.context

    def shown(request: AnyRequest, group: DeadGroup) -> GroupView:
        messages = renderer.shows_messages(request)
        error = {"error": group.error if messages else without_message(group.error)}
        takes = group.plugin in context.gateway.delivery.consumers
        return GroupView(**msgspec.structs.asdict(group) | error, key=key_of(group), takes=takes)

    async def group_of(key: str, since: datetime | None) -> DeadGroup:
        for group in await groups_of(context, Filter(since=since)):
            if key_of(group) == key:
                return group
        raise NotNow(detail="there are no dead letters of this group any more")

    @get("/trouble")
    async def trouble(request: AnyRequest) -> Response[bytes]:
        window, since = _window(request)
        only = request.query_params.get("plugin") or None
        named = await operations.named(request.query_params.get("operation", ""), WAIT)
        plugins = status_of(context, masked=is_viewer(request)).plugins
        view = TroubleView(
            groups=[shown(request, group) for group in await groups_of(context, Filter(plugin=only, since=since))],
            waiting=[
                plugin for plugin in plugins if only in (None, plugin.name) and (plugin.waiting or not plugin.healthy)
            ],
            window=window,
            windows=list(WINDOWS),
            since=since,
            operations=await lately(operations, named),
            plugin=only,
        )
        return await renderer.page(request, "trouble.html", "Trouble", view, place="trouble")

    @get("/trouble/{key:str}")
    async def choose(request: AnyRequest) -> Response[bytes]:
        window, since = _window(request)
        group = await group_of(request.path_params["key"], since)
        which = Filter(plugin=group.plugin, error=group.error, since=since)
        rows = await context.reading.ask(lambda search: list(search.dead(which, ROWS)))
        view = ChoiceView(group=shown(request, group), rows=rows, window=window, since=since)
        return await renderer.page(request, "choice.html", f"Dead letters of {group.plugin}", view, place="trouble")

    @post("/trouble", opt={"form": True}, status_code=303)
    async def act(request: AnyRequest) -> Response[bytes]:
        pairs = await renderer.form_pairs(request)
        fields = dict(pairs)
        if fields.get("do") not in _KINDS:
            raise HTTPException(status_code=400, detail=f"do: expected one of: {', '.join(_KINDS)}")
        kind, in_order = _KINDS[fields["do"]]
        since = moment("since", fields["since"]) if fields.get("since") else None
        group = await group_of(fields.get("group", ""), since)
        which = Filter(plugin=group.plugin, error=group.error, since=since)
        if fields.get("only") == "chosen":
            which = msgspec.structs.replace(which, ids=_chosen([value for name, value in pairs if name == "choice"]))
        started = await operations.start(request, kind, which, in_order)
        return see_other(f"/trouble?operation={started.number}")

    return [trouble, choose, act]


def key_of(group: DeadGroup) -> str:
    """What a form names a group by: the error may have words of a customer."""
    return blake2b(f"{group.plugin}\0{group.error}".encode("utf-8", "replace"), digest_size=12).hexdigest()


def _window(request: AnyRequest) -> tuple[str, datetime | None]:
    """The window that a request asks for, and when it begins."""
    window = request.query_params.get("window", "all")
    if window not in WINDOWS:
        raise Invalid("window", f"expected one of: {', '.join(WINDOWS)}")
    length = WINDOWS[window]
    return window, None if length is None else datetime.now(UTC) - length


def _chosen(ids: list[str]) -> tuple[str, ...]:
    """The ids that were chosen in a form."""
    if not ids:
        raise Invalid("choice", "expected at least one dead letter, found none")
    if len(ids) > ROWS or not all(map(is_id, ids)):
        raise Invalid("choice", f"expected at most {ROWS} ids of events")
    return tuple(ids)
