"""What an engine does that one gateway has to itself: each plugin has one shard, and every event belongs to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from gateway.journal.interface import Share, Stretch

if TYPE_CHECKING:
    from gateway.journal.agreement import Disagreement
    from gateway.journal.interface import Cursors, Delivers, Filter, Track


class OneShard:
    """See `Cursors` and `Journal`."""

    about: Callable[[], Mapping[str, object]] = dict

    def disagreements(self) -> list[Disagreement]:
        return []

    def share(self, plugin: str, shards: int, owned: int) -> Share:
        return Share(shards)

    async def announce(self, deliveries: Callable[[], Mapping[str, Delivers]]) -> None:
        """There are no other gateways."""

    async def read_track(
        self: Cursors, track: Track, after: int, limit: int, which: Filter | None = None, until: int | None = None
    ) -> Stretch:
        if which is None:
            entries = await self.read(after, limit)
            return Stretch(entries, entries[-1].seq if entries else after)
        end = self.newest if until is None else until
        entries = await self.scan(which, after, end, limit)
        return Stretch(entries, entries[-1].seq if entries else end)
