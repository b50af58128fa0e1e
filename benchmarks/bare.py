"""What the benchmark of a plugin compares it with: its bare client. See `plugins.py`, which finds every `bare_NAME.py`.

A module `bare_NAME.py` has a function `subject(folder)`, a context manager that starts what the plugin `NAME` sends to
(on `SERVER_CORE`, where it is a process) and gives a `Subject`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

IN_FLIGHT: Final = 1000
"""The default of `in_flight` of the plugins that send to a message broker."""
CLIENT_CORE, SERVER_CORE = 0, 1
"""The gateway and the bare client run on one core, by turns, and what they send to on the other."""


class Subject(NamedTuple):
    """`table` has the plugin's keys in the config; `bare` sends these records, each as `Event.record` makes it, with so
    many at the same time, and returns when all were taken. `events` is how many make a good measurement, `in_flight`
    how many the plugin has sent and not confirmed at the same time, where that is not its `concurrency`."""

    table: str
    bare: Callable[[Sequence[bytes], int], Awaitable[None]]
    events: int = 5000
    in_flight: int | None = None


async def at_the_same_time(
    records: Sequence[bytes], concurrency: int, send: Callable[[bytes], Awaitable[object]]
) -> None:
    """`send` each record, so many at a time."""
    left = iter(records)

    async def work() -> None:
        for record in left:
            await send(record)

    await asyncio.gather(*(work() for _ in range(concurrency)))
