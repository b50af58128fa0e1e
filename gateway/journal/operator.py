"""What the operator's commands and the admin API use of a journal, and the operations that it keeps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Final, Literal, Protocol

import msgspec

if TYPE_CHECKING:
    from gateway.journal.erasing import Erased
    from gateway.journal.interface import Filter, Replay, Track
    from gateway.journal.search import UnknownName

Kind = Literal["retry", "discard", "replay", "forget"]
CLEARED: Final = ("erased",)
"""The `ids` in place of a filter that named someone who was erased."""
KEPT_OPERATIONS: Final = 1000
"""Operations that are over and remembered."""


class PluginAnswers(msgspec.Struct, kw_only=True):
    """To an erasure, by plugin: how many records it erased, what it says of events that it has passed on, and why it
    failed."""

    erased: dict[str, int] = {}
    passed_on: dict[str, str] = {}
    failed: dict[str, str] = {}


class StoredOperation(msgspec.Struct, kw_only=True):
    """An operation; it is kept from its begin on, so that the next start goes on with it. Times are seconds since 1970.

    `state` is running, finished, cancelled or failed (`error` says why). `matched` is what the filter matched at the
    begin: dead letters, or events. `done` are those that were retried, discarded, replayed or erased; `left` those of
    them, or of a replay, that the plugin has still to get. The filter of an erasure is forgotten with its end. An
    erasure also counts records of custom value requests, and has the `answers` of plugins."""

    number: int
    kind: Kind
    filter: Filter
    in_order: bool = False
    state: Literal["running", "finished", "cancelled", "failed"] = "running"
    begun_at: float
    ended_at: float | None = None
    matched: int
    done: int = 0
    left: int = 0
    value_records: int = 0
    answers: PluginAnswers = msgspec.field(default_factory=PluginAnswers)
    error: str | None = None

    @property
    def is_cleared(self) -> bool:
        """Whether it is forgotten whom the operation is about."""
        return self.filter.ids == CLEARED


class Operator(Protocol):
    """See the module."""

    on_operations: list[Callable[[], None]]
    """Called in the event loop when operators have changed something in this journal from elsewhere, or another gateway
    may have left an operation."""

    async def begin(self, kind: Kind, which: Filter, in_order: bool = False) -> StoredOperation:
        """Keep a new operation. A replay then is one for `which.plugin`; a name of `which.names` first gets the hook
        that the config now has for it. Those of the other kinds are carried out by `advance` and `forget`."""

    async def claim(self, number: int) -> bool:
        """Whether this gateway has to carry an operation out: false while another one does. A claim lasts until the
        operation ends, or the gateway stops or dies."""

    async def advance(self, number: int, plugins: Collection[str] | None = None) -> StoredOperation:
        """Take the next step of a running retry or discard, and return how far it is. A retry makes dead letters due
        again, as new; with `plugins`, only of these. In order: behind one another and ahead of newer events of their
        conversation; else without an order. Each dead letter is met once, also where it dies again meanwhile."""

    async def operation(self, number: int) -> StoredOperation | None:
        """How far an operation is; None where no operation has this number."""

    async def operations(self, limit: int, running: bool = False) -> list[StoredOperation]:
        """The newest operations, the newest first; with `running`, only those that `advance`, `forget` or `take_back`
        have still to carry out."""

    async def cancel(self, number: int) -> None:
        """No further step of an operation is taken. One that is over stays as it is, but for a retry with events that
        its plugin has still to get: see `take_back`."""

    async def retried(self, number: int) -> dict[str, list[int]]:
        """The positions of the events that a retry has made due, and that their plugin has not got since; by plugin."""

    async def take_back(self, track: Track, number: int, seqs: Collection[int]) -> None:
        """Make these events of a retry dead letters again; not those that are another track's to deliver."""

    async def forget(self, which: Filter, number: int | None = None) -> Erased:
        """Erase matching events, delivered or not, and records about the customer, with no byte of them left. The
        operation with this number counts what is erased."""

    async def share_erasure(self, number: int) -> None:
        """Have the other gateways that run ask their plugins, too, and forget what they have read."""

    async def shared_erasures(self) -> list[StoredOperation]:
        """The erasures of other gateways in which the plugins of this one have still to be asked."""

    async def answer_erasure(self, number: int, answers: PluginAnswers) -> None:
        """Keep what the plugins of this gateway have answered to an erasure of another one."""

    async def answers_of_others(self, number: int) -> Mapping[str, PluginAnswers | None] | None:
        """What the plugins of the other gateways have answered, by the gateway's name; None for a gateway that stopped
        before it had. As a whole None while a gateway that runs has still to answer."""

    async def tell_answers(self, number: int, answers: PluginAnswers) -> None:
        """Keep what plugins have answered to an erasure."""

    async def clear(self, number: int) -> None:
        """Forget whom an erasure is about."""

    async def end(self, number: int, error: str | None = None) -> None:
        """An operation is over: finished, or failed with an error. Of an erasure, the filter is cleared, too."""

    async def wipe(self) -> None:
        """Remove copies of what was erased from the journal's files."""

    async def count_dead(self, which: Filter) -> int:
        """How many dead letters match."""

    async def retry_dead(self, which: Filter, plugins: Collection[str] | None = None, in_order: bool = False) -> int:
        """Begin a retry and carry it out; returns how many dead letters are due again."""

    async def discard_dead(self, which: Filter) -> int:
        """Begin a discard and carry it out; returns how many dead letters were discarded."""

    async def new_replay(self, which: Filter) -> Replay:
        """Begin a replay to `which.plugin`."""

    async def unknown_names(self) -> list[UnknownName]:
        """What is kept as unknown, the most frequent names first, at most `UNKNOWN_NAMES` of them."""

    async def oldest_undelivered(self) -> dict[str, float]:
        """When the oldest event was received that a plugin has still to take; by plugin, where there is one."""

    async def retire_cursors(self, keep: Collection[str]) -> None:
        """The cursors of plugins other than these expire after the retention."""

    async def note(self, name: str) -> str | None:
        """What was kept under a name, or None."""

    async def keep_note(self, name: str, text: str) -> None:
        """Keep a text under a name, in place of the one before."""

    async def probe(self) -> None:
        """Write a value and read it back. Raises `JournalError`."""


async def carry_out(journal: Operator, number: int, plugins: Collection[str] | None = None) -> StoredOperation:
    """Take every step of a retry or a discard; returns its end."""
    while (operation := await journal.advance(number, plugins)).state == "running":
        pass
    return operation
