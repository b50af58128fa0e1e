"""Several hosts of one database: all are tried at the same time, so that one that does not answer costs no time, and a
former primary that still answers is not taken for the primary."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Final, Protocol, TypeVar

from gateway.journal.interface import JournalRefused
from gateway.journal.postgresql.failures import DatabaseLost, NoPrimary


class OnTimeline(Protocol):
    """A connection to a primary; a later one has a greater timeline."""

    timeline: int

    def terminate(self) -> None: ...


C = TypeVar("C", bound=OnTimeline)
OTHERS: Final = 0.25
"""Seconds that the other hosts have to answer, once one of them takes writes."""


async def newest(attempts: Sequence[Coroutine[Any, Any, C]]) -> C:
    """The connection to the primary that was promoted last, of attempts in the order of the URL. `JournalError` where
    none succeeds."""
    tasks = [asyncio.create_task(one) for one in attempts]
    try:
        pending = set(tasks)
        while pending and not any(map(_succeeded, tasks)):
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if pending:
            await asyncio.wait(pending, timeout=OTHERS)
        made = [task.result() for task in tasks if _succeeded(task)]
        chosen = max(made, key=lambda connection: connection.timeline, default=None)
    except BaseException:
        chosen = None
        raise
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            if _succeeded(task) and task.result() is not chosen:
                task.result().terminate()
    if chosen is None:
        raise _reason([error for task in tasks if (error := task.exception()) is not None])
    return chosen


def _succeeded(task: asyncio.Task[Any]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _reason(errors: Sequence[BaseException]) -> BaseException:
    """The error that says most: what a later try may change comes before what an operator has to change."""
    for kind in (NoPrimary, DatabaseLost, JournalRefused):
        for error in errors:
            if isinstance(error, kind):
                return error
    return errors[0]
