"""The plugin contract: everything a plugin author needs to read.

A plugin is a class that an entry point in the group `gateway.plugins` names. It has a `Config` (a frozen,
keyword-only msgspec struct that forbids unknown fields; leave it out where there is nothing to set) and
`__init__(self, config)` without side effects. It implements any of the hooks below as methods of their names, each
either `async def` or plain `def`. Async ones run on an event loop of their plugin's own; plain ones run in threads of
their plugin, so they may block. An implementation may leave out arguments that it does not need. `@hookimpl` marks
hooks for readers; a method with the name of a hook is that hook without it, too. Names that begin with `on_` are
reserved for hooks: any other such method is an error.

    class Payments:
        class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
            url: str

        def __init__(self, config: Config) -> None:
            self.config = config

        @hookimpl
        async def on_payment(self, event: Event, payload: Payment) -> None: ...

Delivery is at least once and in order within a conversation: after a crash or a retry the same event may be delivered
again, with the same `event.id`. An exception means "not delivered", and the event is retried with growing pauses.
`Retry(after=...)` sets the pause; `Reject(reason)` makes it a dead letter.

A class attribute `contract = (1, 0)` may say which version of the contract (`CONTRACT`) the plugin needs.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from math import inf
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import pluggy

from gateway.events import (
    ConversationAssignment,
    ConversationClosed,
    CustomValueRequest,
    DeliveryReport,
    Event,
    InboundMessage,
    MessageSend,
    MoveToQueue,
    Payment,
    SetStatus,
)
from gateway.plugin_metrics import PluginMetrics
from gateway.selector import Selector

PROJECT: Final = "gateway"
ENTRY_POINT_GROUP: Final = "gateway.plugins"
CONTRACT: Final = (1, 1)
"""The version of this contract. What is added raises the second number; what is removed or changed raises the first. A
plugin may say with a class attribute, `contract = (1, 0)`, what it needs; an older gateway then refuses it."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

Value = str | int | float | Decimal | date | bool | None
"""A field's value, as a provider returns it. Numbers and dates are sent as text: decimals exact, dates ISO 8601."""

Values = Mapping[str, Value | Exception]
"""Values by field; an exception as a value means that this field failed and others did not."""


class Retry(Exception):
    """Deliver this event again `after` seconds (or a `timedelta`) from now; None: after the usual backoff. `TypeError`
    or `ValueError` for an `after` that is not a number of 0 or more seconds.
    With `counts=False` the attempt counts as one that failed with any other exception does: only while the plugin takes
    other events. Say so where the fault is not in this event, as in an outage."""

    def __init__(self, reason: str = "", *, after: float | timedelta | None = None, counts: bool = True) -> None:
        super().__init__(reason or "the plugin asked for a retry")
        if isinstance(after, timedelta):
            after = after.total_seconds()
        if after is not None and not 0 <= float(after) < inf:
            raise ValueError("after must be 0 or more seconds, and finite")
        self.after = None if after is None else float(after)
        self.counts = counts


class Reject(Exception):
    """Do not deliver this event again: it becomes a dead letter at once, and its conversation goes on."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class SeveralCustomers(Exception):
    """More than one customer matches a custom value request. It is answered with a conflict, without any value."""


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """A condition that an operator should know of, or its end (`recovered`). It contains no personal data. Since
    version (1, 1) of the contract.

    `kind` is `"dead-letters"` (`plugin` has `count` of them that wait for a decision), `"unknown-type"` (`count` events
    came by a name that no hook has), `"plugin"` (`plugin` is not healthy: it takes no events, has not started, or a
    task of its own failed) or `"journal"` (new events get 503). `sentence` says it in words. `key` is the same for all
    notices about one condition; `since` is when it began (aware, in UTC)."""

    kind: Literal["dead-letters", "unknown-type", "plugin", "journal"]
    key: str
    sentence: str
    since: datetime
    plugin: str | None = None
    count: int = 0
    recovered: bool = False


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """The argument of `startup`: the instance's name in the config, a logger for it, the config file's folder (to which
    paths are relative), and the names of the organisations. `metrics` are the instance's own, on the gateway's page of
    metrics (since version (1, 1) of the contract). `state` is where `state_dir` is, or is made. `node` is the gateway's
    name where others share its journal, so that they take turns with the plugin's events; else None (since version
    (1, 1))."""

    name: str
    log: logging.Logger
    directory: Path
    organisations: tuple[str, ...]
    state: Path | None = None
    node: str | None = None
    metrics: PluginMetrics = msgspec.field(default_factory=PluginMetrics)
    spawner: Callable[[Coroutine[Any, Any, object], str | None], None] | None = None
    """What `spawn` calls."""

    def spawn(self, work: Coroutine[Any, Any, object], name: str | None = None) -> None:
        """Run a coroutine in the background, on the plugin's own event loop: `context.spawn(self.refresh())`. May be
        called from any thread, from `startup` until `shutdown`. An exception that ends it is logged, counted and shown
        in the plugin's health under `name` (default: the coroutine's), until a task of this name begins again. Before
        `shutdown` is called, all are cancelled, and have 1 s to end. `RuntimeError` where 100 run already. Since
        version (1, 1) of the contract."""
        if self.spawner is None:
            work.close()
            raise ValueError("this context has no tasks: Context(..., spawner=...) gives it some")
        self.spawner(work, name)

    @property
    def state_dir(self) -> Path:
        """A folder for what this instance keeps between two starts, of its own and with mode 0700: `plugins/NAME`
        beside the journal. It is made when it is asked for first; `OSError` where that fails."""
        if self.state is None:
            raise ValueError("this context has no folder: Context(..., state=folder) gives it one")
        for folder in (self.state.parent, self.state):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.state


class Hooks:
    """Every hook, with its exact arguments. Plugins are called in the order of the config."""

    @hookspec
    def startup(self, context: Context) -> Awaitable[None] | None:
        """Open connections, files and the like. The gateway receives events meanwhile. Each plugin gets its events, and
        requests for its values, once its own startup is over.
        If it raises, or is not over after `startup_timeout`, that is logged, `shutdown` is called, and after a pause
        `startup` again, until it succeeds. Pauses double from `backoff` to `backoff_max`. An `async def` that has
        exceeded its time is cancelled; a plain `def` cannot be, and may still run beside the next attempt.
        Startups begin in config order: each when the one before is over, or has taken 1 s."""

    @hookspec
    def shutdown(self) -> Awaitable[None] | None:
        """Close them again, also after a `startup` that failed halfway. Called once for each call of `startup`; plugins
        shut down in reverse order. If it raises, that is logged and the next one runs."""

    @hookspec
    def check(self) -> Awaitable[Iterable[str] | None] | Iterable[str] | None:
        """`gateway check`: test what the settings name, such as a server or a folder. Raise with a sentence for a
        fault (an `ExceptionGroup` for several), and return sentences that are only warnings. A sentence that begins
        with a key of the settings, such as `queries[0].sql: ...`, is reported at that key.
        Called without `startup`; it must not change anything."""

    @hookspec
    def on_event(self, event: Event) -> Awaitable[None] | None:
        """Every event of every hook, also unknown and unreadable ones. Called before the event's own hook."""

    @hookspec
    def on_inbound_message(self, event: Event, payload: InboundMessage) -> Awaitable[None] | None:
        """A customer's message reached one of the organisation's channels."""

    @hookspec
    def on_message_send(self, event: Event, payload: MessageSend) -> Awaitable[None] | None:
        """A message went from pending to sent."""

    @hookspec
    def on_delivery_report(self, event: Event, payload: DeliveryReport) -> Awaitable[None] | None:
        """A message went from sent to an outcome."""

    @hookspec
    def on_payment(self, event: Event, payload: Payment) -> Awaitable[None] | None:
        """A payment through WebioPay succeeded."""

    @hookspec
    def on_set_status(self, event: Event, payload: SetStatus) -> Awaitable[None] | None:
        """A status was assigned to a conversation."""

    @hookspec
    def on_conversation_closed(self, event: Event, payload: ConversationClosed) -> Awaitable[None] | None:
        """A conversation was closed."""

    @hookspec
    def on_move_to_queue(self, event: Event, payload: MoveToQueue) -> Awaitable[None] | None:
        """A conversation was moved to a queue."""

    @hookspec
    def on_conversation_assignment(self, event: Event, payload: ConversationAssignment) -> Awaitable[None] | None:
        """A conversation was assigned or unassigned."""

    @hookspec
    def checkpoint(self) -> Awaitable[None] | None:
        """Make durable what the calls since the last checkpoint did: this plugin's cursor moves next.
        It covers the calls that had returned when it began; with `concurrency` above 1 others may run at the same time.
        If it raises, all of them count as not delivered, and their events are delivered again."""

    @hookspec
    def custom_values(self, request: CustomValueRequest) -> Awaitable[Values] | Values:
        """Return the values that you know for this customer, by field, and leave out the others. Which fields a
        look-up may answer depends on what it goes by: `request.fields_for("customer_uid")`,
        `request.fields_for("outbound_channel_address")`; `request.fields` where it goes by neither.
        Raise `SeveralCustomers` where more than one customer matches, `TimeoutError` where a service that you call
        took too long, and `Reject(reason)` where the fault is in this request: it does not count as a failure of the
        provider. Any exception, or no answer in time, fails the request, unless a provider earlier in the config
        knows the field."""
        raise NotImplementedError

    @hookspec
    def custom_value_fields(self) -> Collection[str] | Mapping[str, Collection[str]] | None:
        """The names of the fields that this provider may know, or None where only a look-up tells (the default).
        Preferably return a mapping from field to the keys it can be looked up by, as in `fields_for`: `"customer_uid"`,
        `"outbound_channel_address"`, both, or none of them. A field with the key `"customer_uid"` is then not answered
        by the address alone where Webio sends a UID, not by another provider either. With None that holds for every
        field; a collection of names says that no field has that key. Called after `startup`, and again at most every
        10 s while it returns None; `gateway check` calls it after `check`, without `startup`."""

    @hookspec
    def notice(self, notice: Notice) -> Awaitable[None] | None:
        """Something is wrong, has become worse, or is over. The gateway looks once a second: what ends before that is
        not told, nor are the dead letters and unknown types from before the start. Called after `startup`, one notice
        after the other, each for at most the plugin's `timeout`. If it raises, that is logged, and the notice is not
        repeated. While 100 notices wait for this plugin, the oldest is dropped for each further one, which is logged.
        Since version (1, 1) of the contract."""

    @hookspec
    def forget(self, selector: Selector) -> Awaitable[int | str] | int | str:
        """`gateway forget`: erase what you keep of this customer, address or conversation, and return how many records
        that were; or a sentence for the operator where you have passed the events on and cannot erase them. Called
        after the journal has erased its events, and after the events that this plugin had were settled; also where the
        journal had none left. It may be called again with the same selector. If it raises, or takes longer than 1 h,
        the command reports it and exits with 1. Without a running gateway it is called between `startup` and
        `shutdown`. A plugin that keeps nothing of an event leaves it out."""
        raise NotImplementedError
