"""Writes the objects anew that have lines of what is to be forgotten."""

from __future__ import annotations

from zstandard import ZstdError

from gateway import Selector
from gateway_s3.bucket import Bucket, BucketFailed
from gateway_s3.objects import folder_of, packed, span_of, unpacked


async def erase(bucket: Bucket, selector: Selector) -> int:
    """Read every object of the organisation, or of all, one after the other; write those anew, under their keys, that
    have lines of what the selector names, and delete those that have no other; how many lines that were.
    `BucketFailed`, at the end, where an object is damaged, and cannot be looked into."""
    place = "" if selector.organisation is None else folder_of(selector.organisation)
    erased, damaged = 0, []
    async for found in bucket.listed(place):
        content = await bucket.get(found.key) if span_of(found.key) is not None else None
        if content is None:
            continue
        try:
            lines = unpacked(content)
        except ZstdError:
            damaged.append(found.key)
            continue
        kept = [line.text for line in lines if line.body is None or not selector.matches(line.organisation, line.body)]
        if len(kept) == len(lines):
            continue
        if kept:
            await bucket.put(found.key, packed(kept))
        else:
            await bucket.delete(found.key)
        erased += len(lines) - len(kept)
    if damaged:
        raise BucketFailed(f"{len(damaged)} damaged objects were not looked into: {damaged[0]}, for example")
    return erased
