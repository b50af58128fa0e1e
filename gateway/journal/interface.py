"""The journal's interface: a log of events, a cursor on it per plugin, and rows for what is parked.

SQLite (`gateway.journal.sqlite.journal`) is its first engine. Positions (`seq`) grow in the order of receipt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from gateway.decoding import Decoded
from gateway.events import Event

RETRYING: Final = "retrying"
HELD: Final = "held"
"""Behind an earlier event of its conversation that is retrying; shown to users as waiting."""
DEAD: Final = "dead"
DISCARDED: Final = "discarded"
"""A dead letter that an operator gave up; it is listed no more, and was not delivered either."""


UNORDERED: Final = 5_000
"""So many parked events without an order a plugin takes up at once: operators may have retried millions."""


class JournalError(Exception):
    """The journal cannot do what was asked; a sentence for the operator."""


class JournalFull(JournalError):
    """No room: the size limit, the disk's low-water mark, or a full disk. Nothing was kept."""


class JournalFailed(JournalError):
    """A commit failed, and what became of it is unknown. The gateway stops."""


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """What became of an appended event. For a duplicate, the first one's id."""

    id: str
    hook: str
    duplicate: bool
    readable: bool


class Entry(NamedTuple):
    """An event at its position in the log."""

    seq: int
    event: Event


class Parked(msgspec.Struct, kw_only=True):
    """An event that one plugin has not taken although its cursor has passed it. `next_at` and `since` are seconds
    since 1970. `conversation` is `organisation/conversation`, or None where there is no order to keep."""

    plugin: str
    seq: int
    state: str
    attempts: int = 0
    next_at: float = 0.0
    error: str = ""
    since: float = 0.0
    conversation: str | None = None
    replayed: bool = False
    asked: bool = False
    """Whether the plugin itself said when to try again."""


class Settlement(msgspec.Struct, kw_only=True):
    """What one plugin's progress changes, in one transaction: the cursor's new place, rows to write, rows to drop."""

    plugin: str
    cursor: int | None = None
    park: list[Parked] = []
    release: list[int] = []
    replay: tuple[int, int, int] | None = None
    """A replay's number, its new position, and how many events more it has done."""


class Filter(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Which events an operator means; everything given must hold. `state` is one of dead, retrying, waiting,
    delivered, of `plugin` where one is given, else of any plugin."""

    ids: tuple[str, ...] = ()
    hook: str | None = None
    organisation: str | None = None
    conversation: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    plugin: str | None = None
    state: str | None = None


class Replay(msgspec.Struct, kw_only=True):
    """A range that an operator had delivered again to one plugin; it goes on where it stopped."""

    number: int
    plugin: str
    filter: Filter
    position: int
    until: int
    matched: int
    done: int = 0


class Standing(msgspec.Struct):
    """Where a plugin stands: its cursor, what is parked (dead letters left out), the dead letters past the cursor,
    its replays, and the events whose delivery took the process down, with how often."""

    cursor: int
    parked: list[Parked]
    dead_ahead: list[int]
    replays: list[Replay]
    crashes: dict[int, int]


class GivenRow(msgspec.Struct, kw_only=True):
    """A line of `gateway values`; `address` is masked."""

    at: datetime
    organisation: str
    customer_uid: str | None
    address: str | None
    fields: dict[str, dict[str, Any]]
    status: int


class EventRow(msgspec.Struct, kw_only=True):
    """A line of `gateway events`."""

    id: str
    received_at: datetime
    organisation: str
    hook: str
    conversation_id: str | None
    customer_uid: str | None
    readable: bool
    conflict: bool
    deliveries: dict[str, str]
    body: msgspec.Raw


class DeadRow(msgspec.Struct, kw_only=True):
    """A line of `gateway dead`."""

    id: str
    plugin: str
    hook: str
    conversation_id: str | None
    attempts: int
    error: str
    dead_since: datetime


class Reader(Protocol):
    """Looking things up, beside a running gateway or without one. Changes nothing."""

    def events(self, which: Filter, limit: int | None = None, newest: bool = False) -> Iterator[EventRow]:
        """Matching events, oldest first; with `newest`, the last `limit` of them, still oldest first."""

    def dead(self, which: Filter, limit: int | None = None) -> Iterator[DeadRow]: ...

    def count(self, which: Filter) -> int: ...

    def count_dead(self, which: Filter) -> int: ...

    def plugins(self) -> list[str]:
        """The plugin instances that have a cursor."""

    def knows_plugin(self, name: str) -> bool:
        """Whether anything is kept of a plugin instance, which may be removed since."""

    def knows_organisation(self, name: str) -> bool:
        """Whether anything is kept of an organisation."""

    def close(self) -> None: ...


class Decoding(Protocol):
    """Bodies to payloads, by the config's names of hooks and the organisations' time zones."""

    def decode(self, organisation: str, raw: bytes, hook: str | None) -> Decoded: ...


class Journal(Protocol):
    """What the receiver, the delivery and the operator's commands need of an engine."""

    crashed: bool
    """Whether the last gateway on this journal ended without closing it."""
    on_commit: list[Callable[[], None]]
    """Called in the loop after events were added."""

    @property
    def decoder(self) -> Decoding: ...

    @property
    def last_seq(self) -> int:
        """The position of the newest event."""

    def refusal(self) -> str | None:
        """None, or why new events cannot be kept now."""

    def append(self, organisation: str, decoded: Decoded, raw: bytes) -> asyncio.Future[Receipt]:
        """Keep an event; the future is done when it is committed. `JournalFull`, `JournalFailed`."""

    async def read(self, after: int, limit: int) -> Sequence[Entry]:
        """At most `limit` events after a position, in order."""

    async def fetch(self, seqs: Sequence[int]) -> dict[int, Event]:
        """The events at these positions, of those that are there."""

    async def scan(self, which: Filter, after: int, until: int, limit: int) -> Sequence[Entry]:
        """Like `read`, of those events that a filter means, up to a position."""

    async def open_cursor(self, plugin: str, from_start: bool) -> Standing:
        """Where a plugin stands; a new one begins at the end of the journal, or at its start."""

    async def retire_cursors(self, keep: Sequence[str]) -> None:
        """The cursors of all other plugins begin to expire."""

    async def settle(self, settlement: Settlement) -> None:
        """Commit one plugin's progress. `JournalFull`: try again."""

    async def suspect(self, plugin: str, running: int | None, over: int | None) -> None:
        """Record durably which delivery runs next, and that the one before it is over and took nothing down."""

    async def changes(self, plugin: str) -> tuple[list[Parked], list[Replay]]:
        """What is parked for a plugin and its replays that are not over, with what operators have changed of both."""

    async def probe(self) -> None:
        """Write and read back; `JournalError` where either fails."""

    async def retry_dead(self, which: Filter, plugins: Collection[str] | None = None) -> int:
        """Make dead letters due again, out of order; with `plugins`, of these only. Returns how many."""

    async def count_dead(self, which: Filter) -> int:
        """How many dead letters there are."""

    async def discard_dead(self, which: Filter) -> int:
        """Give dead letters up; returns how many."""

    async def new_replay(self, which: Filter) -> Replay:
        """Have all that a filter means now delivered again to `which.plugin`."""

    async def replay_state(self, number: int) -> tuple[int, bool]:
        """How many events a replay has done, and whether it is over; `ValueError` where there is none."""

    def note(self, row: GivenRow) -> None:
        """Keep the record of a custom value request; nobody waits for it."""
