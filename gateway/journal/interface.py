"""What the gateway needs of a storage engine: a log of events, a cursor on it for each plugin, and rows for the events
that a plugin did not take at once. The engine in a file is the default; the one in memory is for tests and simulation.

Positions (`seq`) grow in the order of receipt. Unless stated otherwise, times are seconds since 1970, and every method
that touches storage can raise `JournalError`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import msgspec

from gateway.events import Event
from gateway.journal.attempts import Attempt
from gateway.journal.failures import JournalDamaged as JournalDamaged
from gateway.journal.failures import JournalError as JournalError
from gateway.journal.failures import JournalFailed as JournalFailed
from gateway.journal.failures import JournalFull as JournalFull
from gateway.journal.failures import JournalRefused as JournalRefused
from gateway.journal.failures import LeaseLost as LeaseLost
from gateway.journal.lease import Lease
from gateway.journal.operator import Operator

if TYPE_CHECKING:
    import asyncio

    from gateway.decoding import Decoded, Decoder
    from gateway.journal.agreement import Disagreement
    from gateway.journal.commits import Commits
    from gateway.journal.search import ValueRecord

RETRYING: Final = "retrying"
WAITING: Final = "waiting"
"""Behind an earlier event of its conversation that is retrying."""
DEAD: Final = "dead"
DISCARDED: Final = "discarded"
"""A dead letter that an operator discarded. It is not listed, and does not count as delivered."""
DELIVERED: Final = "delivered"
"""Of a row: the plugin took the event in a replay, and had no hook for it when it came, or got it as unknown."""
NO_TAKER: Final = "no taker"
"""No enabled plugin has a hook for the event, or had one when it came. Of a row: the plugin's `where` held it back."""
STATES: Final = (DEAD, RETRYING, WAITING, DELIVERED, NO_TAKER)
EVERY_HOOK: Final = "*"
"""Among the hooks of a plugin: it takes every event, also those that are unknown or cannot be read."""
UNORDERED: Final = 5_000
"""The most parked events without a conversation that are returned at once; millions may have been retried."""


class Track(NamedTuple):
    """A cursor's name: a plugin instance, and a shard of its conversations. In a file there is one shard, 0."""

    plugin: str
    shard: int = 0


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """The outcome of an append. For a duplicate, `id` is the first event's."""

    id: str
    hook: str
    duplicate: bool
    readable: bool


class Entry(NamedTuple):
    """An event at its position in the log."""

    seq: int
    event: Event


class Stretch(NamedTuple):
    """The next events of a track in order, and the position up to which was looked: what is missing up to there belongs
    to other shards, is settled already, does not match or was erased."""

    entries: Sequence[Entry]
    through: int


class Share(NamedTuple):
    """How many of a plugin's shards this gateway owns at most, and how many of those it has it is to give back, so that
    the gateways that run have about the same number."""

    most: int
    surplus: int = 0


class Delivers(NamedTuple):
    """That a gateway delivers to a plugin: in how many shards, and whether the plugin has started there."""

    shards: int
    started: bool


class Parked(msgspec.Struct, kw_only=True):
    """An event that a plugin has not taken. `since` is when it was parked, `next_at` when it is due, as `asked` by the
    plugin or not. `conversation` is `organisation/conversation`, or None where there is no order to keep."""

    seq: int
    state: str
    attempts: int = 0
    next_at: float = 0.0
    error: str = ""
    since: float = 0.0
    conversation: str | None = None
    replayed: bool = False
    asked: bool = False


class ReplayProgress(NamedTuple):
    """A replay's new position, and how many more events it has done."""

    number: int
    position: int
    done: int


class Settlement(msgspec.Struct, kw_only=True):
    """What one step of a plugin's progress changes: the cursor's new position, rows to write, positions whose rows go,
    and a replay's progress. `replayed` are the positions that the plugin has taken in a replay, `attempts` those that
    failed, or with which a parked event succeeded."""

    track: Track
    epoch: int
    cursor: int | None = None
    park: list[Parked] = []
    release: list[int] = []
    replay: ReplayProgress | None = None
    replayed: list[int] = []
    attempts: list[Attempt] = []


class Filter(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """Selects events; every condition that is given must hold. `since` is inclusive, `until` exclusive.
    `state` is one of `STATES`, for `plugin` where one is given, else for any plugin; "delivered" without a plugin
    means delivered to all. `address` and `text` are compared with the body, as `contents` states it. `names`
    selects events that came by one of these names, which no hook had then, without those that `plugin` has got in a
    replay since. `error` selects the dead letters of a `DeadGroup`; it counts for dead letters only."""

    ids: tuple[str, ...] = ()
    hook: str | None = None
    organisation: str | None = None
    conversation: str | None = None
    customer: str | None = None
    address: str | None = None
    text: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    plugin: str | None = None
    state: str | None = None
    names: tuple[str, ...] = ()
    error: str | None = None


class Replay(msgspec.Struct, kw_only=True):
    """Events up to `until` that `filter` matched, to be delivered again to a plugin. It continues after `position`."""

    number: int
    plugin: str
    filter: Filter
    position: int
    until: int
    matched: int
    done: int = 0


class Changes(NamedTuple):
    """A track's parked events, dead letters left out, and its replays that are not finished."""

    parked: list[Parked]
    replays: list[Replay]


class Standing(msgspec.Struct):
    """The cursor is ours. `clean` is whether the last owner released it cleanly (true for a new cursor). `dead_ahead`
    are the dead letters past the cursor; `crashes` counts, by position, the deliveries during which a process died.
    `lease` is None where no other gateway can take the cursor. `owners` is how many gateways may have delivered past
    the cursor at the same time, because there were other shards then."""

    epoch: int
    cursor: int
    clean: bool
    parked: list[Parked]
    dead_ahead: list[int]
    replays: list[Replay]
    crashes: dict[int, int]
    lease: Lease | None = None
    owners: int = 1


class HeldBy(msgspec.Struct):
    """Another gateway owns the cursor, until its lease ends without being renewed."""

    owner: str
    until: float


Done = Callable[[Receipt | JournalError], None]
"""Gets what became of an append."""


class Intake(Protocol):
    """What the receiver uses. Its methods return at once."""

    decoder: Decoder
    value_records_lost: int
    commits: Commits

    def refusal(self) -> str | None:
        """Why new events cannot be kept now, or None."""

    def append(self, organisation: str, decoded: Decoded, raw: bytes) -> asyncio.Future[Receipt]:
        """Keep an event; done once it is durable. The future or the call raises `JournalFull` or `JournalFailed`."""

    def append_then(self, organisation: str, decoded: Decoded, raw: bytes, done: Done) -> None:
        """As `append`, but `done` gets the outcome, on the loop, for a group at once, and must not raise."""

    def record_value_request(self, record: ValueRecord) -> None:
        """Keep the record of a custom value request, or count it in `value_records_lost`."""


class Cursors(Protocol):
    """What a plugin's delivery uses. A cursor belongs to the gateway that took it last; its epoch says so."""

    on_commit: list[Callable[[], None]]
    """Called in the event loop after events were added."""
    on_turnover: list[Callable[[], None]]
    """Called in the event loop when a cursor may have come free, or `share` may have changed."""

    @property
    def newest(self) -> int:
        """The position of the newest event known here; others may have appended since."""

    async def take_cursor(
        self, track: Track, from_start: bool, hooks: Collection[str] = (EVERY_HOOK,), shards: int = 1
    ) -> Standing | HeldBy:
        """Become the owner of a cursor, with the next epoch. A new cursor begins after the newest event, or at the
        start. `hooks` say what the plugin takes from here on, as in `journal/takes.py`. Where the last owner did not
        release the cursor, each delivery that it had marked as running counts as a crash. `shards` is how many the
        plugin has; a change of it waits until no gateway owns one of the plugin's cursors."""

    async def release_cursor(self, track: Track, epoch: int, clean: bool) -> None:
        """Release a cursor. `clean`: no event is suspected of having killed a process. Raises `LeaseLost`."""

    def share(self, plugin: str, shards: int, owned: int) -> Share:
        """How many of a plugin's shards this gateway should own, which now owns `owned` of them."""

    async def announce(self, deliveries: Callable[[], Mapping[str, Delivers]]) -> None:
        """Tell the other gateways at once, and from then on again and again, to which plugins this one delivers."""

    async def read_track(
        self, track: Track, after: int, limit: int, which: Filter | None = None, until: int | None = None
    ) -> Stretch:
        """Like `read`, but only events of a track whose cursor is ours; with `which`, like `scan`."""

    async def read(self, after: int, limit: int) -> Sequence[Entry]:
        """Up to `limit` events after a position, fewer where large or damaged; `JournalDamaged` where the first is."""

    async def fetch(self, seqs: Sequence[int]) -> dict[int, Event]:
        """The events at these positions; those that the journal no longer has are left out. Raises `JournalDamaged`."""

    async def scan(self, which: Filter, after: int, until: int, limit: int) -> Sequence[Entry]:
        """Like `read`, but only events that the filter matches, and none past `until`."""

    async def settle(self, settlement: Settlement) -> None:
        """Make progress durable: parked rows, then the cursor. Raises `LeaseLost`; `JournalFull`: try again later."""

    async def mark_running(self, track: Track, epoch: int, seq: int) -> None:
        """Record that an event is about to be delivered; durable on return. Raises `LeaseLost`."""

    async def mark_survived(self, track: Track, epoch: int, seq: int) -> None:
        """Forget that an event was marked as running, and its crashes. Raises `LeaseLost`."""

    async def changes(self, track: Track) -> Changes:
        """What is parked and replayed now, with what operators have changed; not older than earlier settlements."""


class Journal(Intake, Cursors, Operator, Protocol):
    """One gateway's journal."""

    on_failure: Callable[[JournalFailed], None]
    """Called once in the event loop when the journal has failed."""
    about: Callable[[], Mapping[str, object]]
    """What the other gateways on the journal are told of this one's config; to be set before `announce`."""

    def disagreements(self) -> list[Disagreement]:
        """In what the gateways on the journal differ, as of the last look at them."""

    @property
    def damaged(self) -> int:
        """How many places were found damaged since the start."""

    async def start(self) -> None:
        """Open the journal; creates it if it does not exist."""

    async def close(self) -> None:
        """Make everything that was handed over durable, then close the journal."""
