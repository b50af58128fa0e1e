"""Events that are kept as unknown: by which names they came, and which hook they get once the config has one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.events import UNKNOWN
from gateway.journal.postgresql.columns import EVENT, restore
from gateway.journal.postgresql.letters import PAGE
from gateway.journal.search import UNKNOWN_NAMES, UnknownName

if TYPE_CHECKING:
    from gateway.decoding import Decoder
    from gateway.journal.postgresql.connection import DatabaseConnection

_LARGEST: Final = (
    f"SELECT name, count(*) AS number, min(seq) AS first, max(seq) AS last FROM events WHERE hook = '{UNKNOWN}'"
    f' GROUP BY name ORDER BY number DESC, name COLLATE "C" NULLS FIRST LIMIT {UNKNOWN_NAMES}'
)
_NAMES: Final = (
    f"SELECT l.name, l.number, first.received_at, last.received_at FROM ({_LARGEST}) AS l"
    " JOIN events first ON first.seq = l.first JOIN events last ON last.seq = l.last"
    ' ORDER BY l.number DESC, l.name COLLATE "C" NULLS FIRST'
)
"""An index has all that is counted."""


async def unknown_names(connection: DatabaseConnection) -> list[UnknownName]:
    """See `Operator.unknown_names`."""
    return [UnknownName(*row) for row in await connection.fetch(_NAMES)]


async def recognise(connection: DatabaseConnection, decoder: Decoder, names: tuple[str, ...]) -> int:
    """Give at most `PAGE` events that are kept as unknown, and came by one of these names, the hook that the decoder
    now has for it; returns how many."""
    known = [name for name in names if decoder.hook_of(name) is not None]
    rows = await connection.fetch(
        f"SELECT {EVENT} FROM events WHERE hook = '{UNKNOWN}' AND name = ANY($1::text[]) ORDER BY seq LIMIT {PAGE}"
        " FOR UPDATE",
        known,
    )
    events = [(row["seq"], restore(decoder, row)) for row in rows]
    await connection.execute(
        "UPDATE events SET hook = l.hook, readable = l.readable FROM unnest($1::bigint[], $2::text[], $3::boolean[])"
        " AS l(seq, hook, readable) WHERE events.seq = l.seq",
        [seq for seq, _ in events], [event.hook for _, event in events], [event.readable for _, event in events],
    )  # fmt: skip
    return len(rows)
