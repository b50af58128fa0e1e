"""`s3` beside bare botocore: puts of the same lines, compressed, in objects as large as a checkpoint's. The store is
moto's server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import zstandard
from bare import SERVER_CORE, Subject

# isort: split
from s3_kit import SECRET_KEY, running_store

BATCH = 1000


@contextmanager
def subject(folder: Path) -> Iterator[Subject]:
    os.environ["S3_SECRET"] = SECRET_KEY
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {SERVER_CORE})  # which the server inherits
    with running_store() as store:
        os.sched_setaffinity(0, own)
        bucket = store.make_bucket()

        def put(first: int, lines: Sequence[bytes]) -> None:
            content = zstandard.ZstdCompressor(level=3, write_checksum=True).compress(b"\n".join(lines) + b"\n")
            store.client.put_object(Bucket=bucket.name, Key=f"bare/{first}.jsonl.zst", Body=content)

        async def bare(records: Sequence[bytes], concurrency: int) -> None:
            for first in range(0, len(records), BATCH):
                await asyncio.to_thread(put, first, records[first : first + BATCH])

        yield Subject(bucket.table(), bare, events=20000)
