"""Drift of fields: what appeared in Webio's bodies, and what vanished from them. Watches the newest events for a small,
fixed part of the time, so that neither receiving nor delivery waits for it.

Fields are told apart by organisation and hook, at the top level of a body, by name only: never by value.

- A field that the hook does not document is *undocumented* where it was among the first `LEARN` events of its hook, and
  *appeared* where it came later. Documented fields never appear: Webio leaves optional ones out as it likes. Where
  Webio documents nothing of a hook's bodies, undocumented fields are not told.
- A field *vanished* once it was in `STEADY` events in a row and then in none of `GONE` events in a row. A field that is
  missing now and then is optional, and does not vanish.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

from gateway.decoding import bounded
from gateway.events import HOOKS, PAYLOADS, Event
from gateway.journal.interface import Journal, JournalError
from gateway.json_text import parse_object
from gateway.unknown import public

LEARN: Final = 200
"""Events of a hook from which its undocumented fields are learned."""
STEADY: Final = 200
"""Events in a row that have a field which is always there."""
GONE: Final = 20
"""Events in a row without such a field, after which it has vanished."""
FIELDS: Final = 200
"""Fields of one hook of one organisation that are told apart; further ones are left out."""
RECENT: Final = 7 * 86400.0
"""Seconds for which a change counts for the alarm."""
KEPT: Final = 30 * 86400.0
"""Seconds after which a field is forgotten that no event has any more."""
LARGE: Final = 64 * 2**10
"""Bytes from which a body is left out."""
BATCH: Final = 10
PAUSE: Final = 0.1
"""At most `BATCH` events are looked at, about 0.6 ms of work, then nothing for this time (seconds)."""
BEHIND: Final = 5_000
"""Positions: further behind than this, the watch goes on with the newest events."""
KEEP: Final = 30.0
"""Seconds between two writes of what is known."""
NOTE: Final = "fields"
_DOCUMENTED: Final = {
    hook: frozenset(field.encode_name for field in msgspec.structs.fields(kind)) - {"extra"} | {"type"}
    for hook, kind in PAYLOADS.items()
}
_WITHOUT_DOCUMENTS: Final = {
    hook for hook, kind in PAYLOADS.items() if not any(field.required for field in msgspec.structs.fields(kind))
}
"""Hooks of whose bodies Webio documents nothing: that their fields are not documented is no news."""
Change = Literal["undocumented", "appeared", "vanished"]


class FieldChange(msgspec.Struct, kw_only=True):
    """A field that drifted. `first` and `last` are when it was first and last there; `count` says in how many events,
    of a vanished field in how many it is missing since. `example` is the id of the last event that has it, of a
    vanished field of the first that lacks it."""

    organisation: str
    hook: str
    field: str
    change: Change
    first: datetime
    last: datetime
    count: int
    example: str


class Known(msgspec.Struct):
    """What is known of a field; times are seconds since 1970."""

    first: float
    last: float
    example: str
    count: int = 0
    new: bool = False
    row: int = 0
    """Events in a row that have it."""
    steady: bool = False
    missing: int = 0
    """Events in a row that lack it."""
    missing_since: float = 0.0
    missing_example: str = ""


class Fields(msgspec.Struct):
    """The fields of one hook of one organisation, and the number of its events that were looked at."""

    events: int = 0
    known: dict[str, Known] = {}


class WatchState(msgspec.Struct):
    """What is kept in the journal: how far the watch is, and by `organisation/hook` what it knows."""

    position: int = 0
    fields: dict[str, Fields] = {}


def look(state: WatchState, event: Event) -> None:
    """Take an event into account."""
    if event.hook not in HOOKS or not event.readable or len(event.raw) > LARGE:
        return
    try:
        names = {str(public(bounded(name))) for name in parse_object(event.raw)}
    except ValueError:
        return
    fields = state.fields.setdefault(f"{event.organisation}/{event.hook}", Fields())
    fields.events += 1
    at = event.received_at.timestamp()
    for name in names:
        known = fields.known.get(name)
        if known is None:
            if len(fields.known) >= FIELDS:
                continue
            new = fields.events > LEARN and name not in _DOCUMENTED[event.hook]
            known = fields.known[name] = Known(at, at, event.id, new=new)
        known.count += 1
        known.row += 1
        known.steady = known.steady or known.row >= STEADY
        known.last, known.example, known.missing = max(known.last, at), event.id, 0
    for name in fields.known.keys() - names:
        known = fields.known[name]
        if known.missing == 0:
            known.missing_since, known.missing_example = at, event.id
        known.missing += 1
        known.row = 0
        if at - known.last > KEPT:
            del fields.known[name]


def changes_in(state: WatchState) -> Iterator[FieldChange]:
    """The fields that drifted, by organisation and hook."""
    for place, fields in sorted(state.fields.items()):
        organisation, _, hook = place.rpartition("/")
        for name, known in sorted(fields.known.items()):
            change = _change_of(hook, name, known)
            if change is not None:
                gone = change == "vanished"
                yield FieldChange(
                    organisation=organisation,
                    hook=hook,
                    field=name,
                    change=change,
                    first=datetime.fromtimestamp(known.first, UTC),
                    last=datetime.fromtimestamp(known.last, UTC),
                    count=known.missing if gone else known.count,
                    example=known.missing_example if gone else known.example,
                )


def _change_of(hook: str, name: str, known: Known) -> Change | None:
    if known.steady and known.missing >= GONE:
        return "vanished"
    if known.new:
        return "appeared"
    return None if name in _DOCUMENTED[hook] or hook in _WITHOUT_DOCUMENTS else "undocumented"


class DriftWatch:
    """Follows the journal of a running gateway. `clock` gives seconds since 1970."""

    def __init__(self, journal: Journal, clock: Callable[[], float] = time.time) -> None:
        self._journal = journal
        self._clock = clock
        self._state = WatchState()
        self._task: asyncio.Task[None] | None = None
        self._kept = 0

    def start(self) -> None:
        """Begin to watch, in the background. A journal without a watch before is followed from now on."""
        self._state = WatchState(self._journal.newest)
        self._task = asyncio.create_task(self._run(), name="drift of fields")

    async def stop(self, *, keep: bool = True) -> None:
        """End the watch; with `keep`, what is known is kept for the next start."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            if keep:
                await self._keep()

    def changes(self) -> list[FieldChange]:
        """The fields that drifted, as of now."""
        return list(changes_in(self._state))

    def alarming(self) -> Counter[tuple[str, str]]:
        """How many fields appeared or vanished in the last `RECENT` seconds, by hook and change."""
        recent = self._clock() - RECENT
        found: Counter[tuple[str, str]] = Counter()
        for place, fields in self._state.fields.items():
            hook = place.rpartition("/")[2]
            for name, known in fields.known.items():
                change = _change_of(hook, name, known)
                since = known.missing_since if change == "vanished" else known.first
                if change in ("appeared", "vanished") and since >= recent:
                    found[hook, change] += 1
        return found

    async def _run(self) -> None:
        with contextlib.suppress(JournalError, msgspec.MsgspecError):
            if (text := await self._journal.note(NOTE)) is not None:
                self._state = msgspec.json.decode(text, type=WatchState)
        self._kept = self._state.position
        kept_at = time.monotonic()
        while True:
            with contextlib.suppress(JournalError):
                await self._step()
                if time.monotonic() - kept_at >= KEEP:
                    kept_at = time.monotonic()
                    await self._keep()
            await asyncio.sleep(PAUSE)

    async def _step(self) -> None:
        state, newest = self._state, self._journal.newest
        if not state.position <= newest:  # another journal stands here
            state.position = newest
        state.position = max(state.position, newest - BEHIND)
        if state.position == newest:
            return
        for seq, event in await self._journal.read(state.position, BATCH):
            look(state, event)
            state.position = seq

    async def _keep(self) -> None:
        if self._state.position != self._kept:
            with contextlib.suppress(JournalError):
                await self._journal.keep_note(NOTE, msgspec.json.encode(self._state).decode())
                self._kept = self._state.position
