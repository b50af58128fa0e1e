"""`exec` beside a bare loop that starts the same program."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bare import Subject, at_the_same_time

COMMAND = ("sh", "-c", "cat > /dev/null")


@contextmanager
def subject(folder: Path) -> Iterator[Subject]:
    async def send(record: bytes) -> None:
        process = await asyncio.create_subprocess_exec(*COMMAND, stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL)
        await process.communicate(record)
        assert process.returncode == 0

    async def bare(records: Sequence[bytes], concurrency: int) -> None:
        await at_the_same_time(records, concurrency, send)

    yield Subject(f"command = {list(COMMAND)}\n", bare, events=1000)
