"""What every engine makes of a received body: an event with its id, and the keys that find repeats and conflicts."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from gateway.decoding import Decoded
from gateway.events import Event
from gateway.journal.interface import Done, JournalError, Receipt


class Append(msgspec.Struct, gc=False):
    """One event on its way into the journal. `micros` is when it was received, in microseconds since 1970; `created`
    and `digest` find a repeat of its body, `natural_key` a conflict. `duplicate_of` is the receipt of the event that it
    repeats; a duplicate keeps the `seq` 0. `done` is called on the loop with what became of it."""

    event: Event
    micros: int
    created: int | None
    digest: bytes | None
    natural_key: str | None
    done: Done
    seq: int = 0
    duplicate_of: Receipt | None = None

    @property
    def receipt(self) -> Receipt:
        event = self.event
        return self.duplicate_of or Receipt(event.id, event.hook, False, event.readable)


class Appends:
    """Makes appends. Ids are UUIDv7 as text, so that they sort by the time of receipt; those of one moment differ by 62
    random bits, from `seed` where one is given."""

    def __init__(self, clock: Callable[[], float], seed: int | None = None) -> None:
        self._clock = clock
        seed = random.SystemRandom().getrandbits(256) if seed is None else seed
        self._bits = random.Random(seed)  # noqa: S311 - ids must differ, not be secret

    def make(self, organisation: str, decoded: Decoded, raw: bytes, done: Done) -> Append:
        """An append of an event received now."""
        micros = int(self._clock() * 1_000_000)
        event = Event(
            id=self.new_id(micros),
            received_at=moment(micros),
            organisation=organisation,
            hook=decoded.hook,
            payload=decoded.payload,
            raw=raw,
            readable=decoded.readable,
            conversation_id=decoded.conversation_id,
            customer_uid=decoded.customer_uid,
            name=decoded.name,
        )
        scope = f"{organisation}/{decoded.hook}/"
        digest = natural_key = None
        if decoded.created is not None:
            digest = hashlib.blake2b(scope.encode() + raw, digest_size=16).digest()
            if decoded.natural_key is not None:
                natural_key = scope + decoded.natural_key
        return Append(event, micros, decoded.created, digest, natural_key, done)

    def new_id(self, micros: int) -> str:
        """An id for a moment in microseconds since 1970; its upper 60 bits are that moment in 1/4096 ms."""
        tick = (micros // 1000 << 12) | (micros % 1000 * 4096 // 1000)
        text = f"{tick << 64 | 0x8000000000000000 | self._bits.getrandbits(62):031x}"
        return f"{text[:8]}-{text[8:12]}-7{text[12:15]}-{text[15:19]}-{text[19:]}"


def awaited(future: asyncio.Future[Receipt]) -> Done:
    """A `Done` that settles a future."""

    def done(outcome: Receipt | JournalError) -> None:
        if future.done():  # its caller was cancelled
            return
        if isinstance(outcome, JournalError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    return done


def first_id(micros: int) -> str:
    """The smallest id of a moment, for searching by time."""
    text = f"{max(0, micros) // 1000 << 12:015x}"
    return f"{text[:8]}-{text[8:12]}-7{text[12:]}-0000-000000000000"


def moment(micros: int) -> datetime:
    """Microseconds since 1970 as an aware datetime in UTC."""
    return datetime.fromtimestamp(micros / 1_000_000, UTC)
