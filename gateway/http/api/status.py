"""`/api/status`: how the gateway is, first in one sentence."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

import msgspec
from litestar import Response, get

from gateway.http.api.answers import json_answer
from gateway.http.api.context import AdminContext, AnyRequest
from gateway.http.roles import is_viewer
from gateway.service import Gateway
from gateway.text import counted

LATE: Final = 60.0
"""Seconds that an event may wait for a plugin before the sentence says so."""
_DOWN: Final = re.compile(r"\S+ has taken nothing since [\d -]*\d\d:\d\d: (.*)", re.DOTALL)
"""The error of a plugin that is down."""
WELL: Final = "All is well"
_HIDDEN: Final = "what it said is shown with the password of admin.password only"
_REFUSING: Final = (
    "Make room on the journal's disk, or raise max_size in [journal]; Webio gets 503 meanwhile, and sends these events"
    " again. Receiving goes on by itself."
)
_DAMAGED: Final = "`gateway journal check --repair` takes out what is damaged, after a copy. Look at the disk's health."
_UNWELL: Final = "Its events are safe on disk. Remove the cause; delivery then goes on by itself, in order."
_LATE: Final = "The plugin takes events slower than they come. Look at what stands behind it, or raise its concurrency."
_SILENT: Final = (
    "Look at what stands behind it. Bots get a failure meanwhile; the gateway tries again by itself, with pauses."
)
_DIFFER: Final = (
    "Gateways on one journal need the same config but for [node] and paths. During an upgrade this passes by itself."
)
_DEAD: Final = "Remove the cause first, then retry them in Trouble; or discard them there."


class PluginStatus(msgspec.Struct, kw_only=True):
    """A plugin that takes events. `waiting` are the events that it has still to take, at most (those that it has no
    hook for count until it has passed them); `since` is when the oldest of them came; `dead` are its dead letters.
    `held_back` are the events that its `where` has held back since the start, and `where_failures` those that it got
    because that failed on them, the last time for the reason `where_failure`. Of the plugin's `shards`, this gateway
    `owns` some, by number, and the gateways named in `elsewhere` deliver others; `waiting` and `parked` are of its
    own."""

    name: str
    state: str
    healthy: bool
    error: str | None
    waiting: int
    since: datetime | None
    parked: int
    dead: int
    held_back: int
    where_failures: int
    where_failure: str | None
    shards: int
    owns: list[int]
    elsewhere: dict[str, str]


class JournalStatus(msgspec.Struct, kw_only=True):
    """`refusing` says why new events are refused, or is None. `newest` is the position of the newest event; `bytes` is
    the size of the journal's files or tables, and `free` the free space on their disk, None for a database."""

    refusing: str | None
    newest: int
    bytes: int
    free: int | None
    damaged: int


class Status(msgspec.Struct, kw_only=True):
    """What the page Now shows. `ok` is false where an operator should do something; `problems` has a sentence for each
    such thing, `sentence` is the first of them, and `advice` says for each of them what to do. `node` is the name of
    this gateway."""

    ok: bool
    sentence: str
    problems: list[str]
    advice: list[str]
    plugins: list[PluginStatus]
    providers: list[dict[str, Any]]
    journal: JournalStatus
    unknown: list[dict[str, Any]]
    node: str
    version: str


def status_of(context: AdminContext, *, masked: bool) -> Status:
    """The status now, from memory and the last count of the journal; masked for a viewer."""
    gateway = context.gateway
    used, free = gateway.monitor.space
    journal = JournalStatus(
        refusing=gateway.journal.refusal(),
        newest=gateway.journal.newest,
        bytes=used,
        free=free,
        damaged=gateway.journal.damaged,
    )
    plugins = [_plugin(one) for one in plugins_health(gateway, masked=masked)]
    providers: list[dict[str, Any]] = [msgspec.to_builtins(one) for one in gateway.values.health()]
    found = list(_problems(journal, plugins, providers))
    differ = [one.sentence for one in gateway.journal.disagreements() if not one.expected]
    found += [(sentence[0].upper() + sentence[1:], _DIFFER) for sentence in differ]
    problems = [problem for problem, _ in found]
    return Status(
        ok=not problems,
        sentence=problems[0] if problems else WELL,
        problems=problems,
        advice=[advice for _, advice in found],
        plugins=plugins,
        providers=providers,
        journal=journal,
        unknown=gateway.monitor.unknown_health(),
        node=gateway.config.node.name,
        version=version("webio-gateway"),
    )


def plugins_health(gateway: Gateway, *, masked: bool) -> list[dict[str, Any]]:
    """See `Monitor.plugins_health`; masked, without what the exceptions of plugins said."""
    found = gateway.monitor.plugins_health()
    if masked and gateway.config.log.plugin_messages:
        return [one | {"error": one["error"] and _HIDDEN} for one in found]
    return found


def _plugin(health: dict[str, Any]) -> PluginStatus:
    waits = health["behind"] + health["parked"]
    since = datetime.fromtimestamp(time.time() - health["oldest"], UTC) if health["oldest"] else None
    told = {name: health[name] for name in PluginStatus.__struct_fields__ if name in health}
    return PluginStatus(**told, waiting=waits, since=since)


def _problems(
    journal: JournalStatus, plugins: list[PluginStatus], providers: list[dict[str, Any]]
) -> Iterator[tuple[str, str]]:
    """A sentence for each thing that an operator should know, the worst first; and what to do about it."""
    if journal.refusing is not None:
        yield f"New events are refused: {journal.refusing}", _REFUSING
    if journal.damaged:
        yield f"The journal is damaged at {counted(journal.damaged, 'place')}; run `gateway journal check`", _DAMAGED
    for plugin in plugins:
        late = plugin.since is not None and (datetime.now(UTC) - plugin.since).total_seconds() > LATE
        if not plugin.healthy or late:
            yield _waits(plugin), _LATE if plugin.healthy else _UNWELL
    for provider in providers:
        if provider["breaker"] != "closed" or provider["blocked"] is not None:
            reason = provider["blocked"] or f"its circuit breaker is {provider['breaker']}"
            yield f"{provider['name']} does not answer custom values: {reason}", _SILENT
    for plugin in plugins:
        if plugin.dead:
            wait = "waits" if plugin.dead == 1 else "wait"
            yield f"{plugin.name}: {counted(plugin.dead, 'dead letter')} {wait} for a decision", _DEAD


def _waits(plugin: PluginStatus) -> str:
    known = _DOWN.fullmatch(plugin.error or "")  # the sentence itself says since when
    error = known[1] if known is not None else plugin.error
    reason = "" if error is None else f": {error}"
    if not plugin.waiting:
        return f"{plugin.name} is not well{reason}"
    wait = "waits" if plugin.waiting == 1 else "wait"
    since = "" if plugin.since is None else f" since {clock(plugin.since)}"
    return f"{plugin.name}: {counted(plugin.waiting, 'event')} {wait}{since}{reason}"


def clock(moment: datetime) -> str:
    """A time in UTC, for a sentence: 02:41 where it is of today."""
    today = moment.date() == datetime.now(UTC).date()
    return f"{moment:%H:%M}" if today else f"{moment:%Y-%m-%d %H:%M}"


def status_routes(context: AdminContext) -> list[Any]:
    """The handlers."""

    @get("/api/status", sync_to_thread=False)
    def status(request: AnyRequest) -> Response[Any]:
        return json_answer(status_of(context, masked=is_viewer(request)))

    return [status]
