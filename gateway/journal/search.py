"""Searches the journal for the operator's commands, in any process, with or without a running gateway."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import msgspec

from gateway.journal.interface import DEAD, DELIVERED, DISCARDED, NO_TAKER, RETRYING, WAITING, Filter, JournalError

if TYPE_CHECKING:
    from gateway.journal.operator import StoredOperation

UNKNOWN_NAMES: Final = 20
"""The most names of unknown events that are listed."""
DEAD_GROUPS: Final = 200
"""The most groups of dead letters that are listed."""
DRIFT_WINDOW: Final = 200_000
"""Events that are looked through for unreadable bodies."""


class SearchTooSlow(JournalError):
    """A search took longer than it was allowed."""


class UnknownName(NamedTuple):
    """The events that are kept as unknown and came by one name (None: without one), and when the first and the last of
    them were received."""

    name: str | None
    number: int
    first: datetime
    last: datetime


class DeadGroup(msgspec.Struct, kw_only=True):
    """Dead letters of one plugin and cause. `error` is what their errors have in common, `first` and `last` are when
    they became dead letters, and `sample` is the id of the newest of these events."""

    plugin: str
    error: str
    count: int
    first: datetime
    last: datetime
    sample: str


class UnreadableBodies(msgspec.Struct, kw_only=True):
    """Events of one hook whose bodies do not fit it: how many, when the first and the last came, and the id of the
    last."""

    hook: str
    count: int
    first: datetime
    last: datetime
    sample: str


class ValueRecord(msgspec.Struct, kw_only=True):
    """A line of `gateway values`: one custom value request, without its values; `address` is masked."""

    at: datetime
    organisation: str
    customer_uid: str | None
    address: str | None
    fields: dict[str, dict[str, Any]]
    status: int


class ValueRecordFilter(msgspec.Struct, kw_only=True, frozen=True):
    """Selects custom value requests; every condition that is given must hold. One of `fields` is enough."""

    organisation: str | None = None
    customer_uid: str | None = None
    fields: tuple[str, ...] = ()
    status: int | None = None
    since: datetime | None = None
    until: datetime | None = None


class AttemptRow(msgspec.Struct, kw_only=True):
    """An attempt at a delivery: when it ended, its number, how long it took in milliseconds, and the error with its
    place; no error where it succeeded after all. Of attempts that an older version made, the times are not known."""

    at: datetime | None
    attempt: int
    error: str | None
    ms: float | None


class EventRow(msgspec.Struct, kw_only=True):
    """A line of `gateway events`. `attempts` has for each plugin that did not take it at once its attempts, oldest
    first and the last 20 at most, and `next_try` when a retrying one gets it again. `delivered_between`, where it was
    asked for, has for each other plugin that took it the times between which its cursor passed it. `state` is the one
    that most needs a look among `deliveries`; where all were discarded `discarded`, and `no taker` where there is
    none."""

    id: str
    received_at: datetime
    organisation: str
    hook: str
    conversation_id: str | None
    customer_uid: str | None
    readable: bool
    conflict: bool
    name: str | None
    state: str
    deliveries: dict[str, str]
    attempts: dict[str, list[AttemptRow]] = {}
    next_try: dict[str, datetime] = {}
    delivered_between: dict[str, tuple[datetime, datetime]] | msgspec.UnsetType = msgspec.UNSET
    body: msgspec.Raw


class EventHappened(msgspec.Struct, kw_only=True, tag_field="kind", tag="event"):
    """A line of `gateway timeline`: something that Webio sent."""

    at: datetime
    organisation: str
    conversation_id: str | None
    customer_uid: str | None
    id: str
    hook: str
    name: str | None
    readable: bool
    body: msgspec.Raw


class ValuesAsked(msgspec.Struct, kw_only=True, tag_field="kind", tag="value"):
    """A line of `gateway timeline`: a custom value request, without its values. A request names no conversation, so
    `conversation_id` is always None."""

    at: datetime
    organisation: str
    conversation_id: None = None
    customer_uid: str | None
    status: int
    fields: dict[str, dict[str, Any]]


def overall_state(deliveries: Mapping[str, str]) -> str:
    """See `EventRow.state`."""
    found = deliveries.values()
    return next((state for state in (DEAD, RETRYING, WAITING, DELIVERED, DISCARDED) if state in found), NO_TAKER)


class DeadRow(msgspec.Struct, kw_only=True):
    """A line of `gateway dead`."""

    id: str
    plugin: str
    hook: str
    conversation_id: str | None
    attempts: int
    error: str
    dead_since: datetime


class Findings(msgspec.Struct):
    """What a check of the whole journal found: the number of sound events, the positions of damaged ones, the plugins
    whose cursor is damaged, other damaged rows, and what is wrong with the files themselves."""

    sound: int = 0
    events: list[int] = []
    cursors: list[str] = []
    rows: list[str] = []
    pages: list[str] = []

    @property
    def ok(self) -> bool:
        return not (self.events or self.cursors or self.rows or self.pages)


class DatabaseFindings(msgspec.Struct):
    """What a look at the journal's database found: why no gateway could work on it, and what an operator should know
    besides."""

    errors: list[str] = []
    warnings: list[str] = []


class Backup(NamedTuple):
    """A copy of the journal in one file: how many events it has, its size in bytes, and where it is."""

    events: int
    bytes: int
    file: str


class Search(Protocol):
    """Changes nothing. A listing may be read slowly: it is fetched in pages."""

    @property
    def unindexed(self) -> int:
        """How many positions the last search by customer, address, text or conversation read one by one, because the
        search index does not have them yet."""

    damaged: list[int]
    """The positions of events that are not what was written: they were left out of listings, or the state of a delivery
    was."""
    damaged_records: int
    """How many records of custom value requests were left out, because they are not what was written."""

    def events(
        self,
        which: Filter,
        limit: int | None = None,
        newest: bool = False,
        times: bool = False,
        before: str | None = None,
    ) -> Iterator[EventRow]:
        """Matching events, oldest first; with `newest` the last `limit` of them, still oldest first. With `times`,
        `delivered_between` is looked up, which takes two look-ups for each plugin. With `before` and `newest`, the last
        of those that came before the event with this id."""

    def dead(self, which: Filter, limit: int | None = None) -> Iterator[DeadRow]:
        """Matching dead letters, by event and plugin."""

    def count(self, which: Filter) -> int:
        """How many events match."""

    def count_dead(self, which: Filter, plugins: Collection[str] | None = None) -> int:
        """How many dead letters match; with `plugins`, only of these."""

    def value_records(
        self, which: ValueRecordFilter, limit: int | None = None, newest: bool = False
    ) -> Iterator[ValueRecord]:
        """Matching records of custom value requests, ordered and limited like `events`."""

    def timeline(self, which: Filter) -> Iterator[EventHappened | ValuesAsked]:
        """What happened to `which.customer`, or in `which.conversation`, oldest first; `organisation`, `since` and
        `until` count, too.

        A customer's timeline includes the events of its conversations that name no customer, where the conversation
        has no other customer, unless the customer has 2000 events or more. A conversation's includes the custom value
        requests about its customers from an hour before its first event to an hour after its last one."""

    def unknown_names(self) -> list[UnknownName]:
        """See `Operator.unknown_names`."""

    def dead_groups(self, which: Filter) -> list[DeadGroup]:
        """Matching dead letters by plugin and `error_key`, the most first, at most `DEAD_GROUPS` of them."""

    def unreadable(self) -> list[UnreadableBodies]:
        """The bodies that could not be read as their hook, among the newest `DRIFT_WINDOW` events."""

    def operations(self, limit: int) -> list[StoredOperation]:
        """The newest operations, the newest first."""

    def operation(self, number: int) -> StoredOperation | None:
        """See `Operator.operation`."""

    def limit(self, seconds: float, page_seconds: float | None = None) -> None:
        """From now on, reading for longer than this in all is `SearchTooSlow`. With `page_seconds`, a search for the
        newest events ends after this time with those that it has found; see `goes_on_before`."""

    def goes_on_before(self) -> str | None:
        """Where the last search for the newest events ended early: the id with which, as `before`, the next one looks
        at what this one did not. Else None."""

    def names(self) -> list[str]:
        """The names that events came by which no hook had then."""

    def plugins(self) -> list[str]:
        """The plugin instances that have a cursor and are not retired."""

    def knows_plugin(self, name: str) -> bool:
        """Whether the journal holds anything of a plugin instance."""

    def knows_organisation(self, name: str) -> bool:
        """Whether the journal holds anything of an organisation."""

    def close(self) -> None:
        """Free what the search holds."""
