"""The events that were taken and are not in the bucket yet, and the way there."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

from zstandard import ZstdError

from gateway import Event, Selector
from gateway_s3.bucket import Bucket, Found
from gateway_s3.objects import Line, key_of, packed, place_of, span_of, unpacked, without

_KNOWN: Final = 32
"""Objects whose ids are remembered."""


class Batch:
    """Lines by place and id, and those ids that may be in the bucket already."""

    def __init__(self) -> None:
        self.places: dict[str, dict[str, bytes]] = {}
        self.suspects: dict[str, set[str]] = {}
        self.count = 0
        self.bytes = 0

    def add(self, event: Event) -> None:
        place, line = place_of(event), event.record()
        self.places.setdefault(place, {})[event.id] = line
        if event.redelivered or event.replayed:
            self.suspects.setdefault(place, set()).add(event.id)
        self.count += 1
        self.bytes += len(line)

    def forget(self, selector: Selector) -> None:
        for lines in self.places.values():
            for id, text in list(lines.items()):
                line = Line.read(text)
                if line.body is not None and selector.matches(line.organisation, line.body):
                    del lines[id]


class Uploader:
    """Writes batches, and remembers a little of what the bucket has."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._ids: OrderedDict[Found, list[str]] = OrderedDict()

    async def upload(self, batch: Batch) -> None:
        """An object for each place of the batch. `BucketFailed`; some objects may be written then."""
        places = [self._write(place, lines, batch.suspects.get(place, set())) for place, lines in batch.places.items()]
        failed = [one for one in await asyncio.gather(*places, return_exceptions=True) if one is not None]
        if failed:
            raise failed[0]

    async def _write(self, place: str, lines: dict[str, bytes], suspects: set[str]) -> None:
        if suspects:
            lines = without(lines, await self._there(place, suspects))
        if lines:
            await self._bucket.put(key_of(place, lines), await asyncio.to_thread(packed, list(lines.values())))

    async def _there(self, place: str, suspects: set[str]) -> set[str]:
        """Those of the ids that objects of the place have. The keys tell which of these are to be read."""
        first, last, there = min(suspects), max(suspects), set[str]()
        async for found in self._bucket.listed(place):
            span = span_of(found.key)
            if span is not None and span[0] <= last and first <= span[1]:
                there.update(suspects.intersection(await self._ids_in(found)))
        return there

    async def _ids_in(self, found: Found) -> list[str]:
        if found not in self._ids:
            content = await self._bucket.get(found.key)
            try:
                ids = [] if content is None else [line.id for line in await asyncio.to_thread(unpacked, content)]
            except ZstdError:  # it has nothing that can be read
                ids = []
            while len(self._ids) >= _KNOWN:
                self._ids.popitem(last=False)
            self._ids[found] = ids
        return self._ids[found]
