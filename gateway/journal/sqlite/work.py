"""What the journal's thread has to do, and the queue that brings it there in groups."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Final

import apsw

from gateway.journal.append import Append
from gateway.journal.interface import JournalError

GROUP: Final = 1024
GROUP_BYTES: Final = 8 * 2**20
"""About the largest transaction, in items and in bytes of bodies."""

Operation = Callable[[apsw.Connection], Any]
_OWN_FAULTS: Final = (apsw.SQLError, apsw.ConstraintError, apsw.MismatchError, apsw.RangeError, apsw.TooBigError)


class Operate:
    """A change other than an append, done within a commit; the future gets what `run` returns or raises."""

    __slots__ = ("error", "future", "result", "run")

    def __init__(self, run: Operation, future: asyncio.Future[Any]) -> None:
        self.run = run
        self.future = future
        self.result: Any = None
        self.error: Exception | None = None

    def attempt(self, connection: apsw.Connection) -> None:
        """Run within a transaction. Where `run` fails by its own fault, only its own changes are rolled back."""
        connection.execute("SAVEPOINT operation")
        try:
            self.result = self.run(connection)
        except Exception as error:
            if isinstance(error, apsw.Error) and not isinstance(error, _OWN_FAULTS):
                raise
            self.error = JournalError(f"the journal refused this: {error}") if isinstance(error, apsw.Error) else error
            connection.execute("ROLLBACK TO operation")
        connection.execute("RELEASE operation")


Work = Append | Operate


class WorkQueue:
    """Brings work from the loop to the thread. What came in one turn of the loop crosses at once: if each item crossed
    alone, the thread would take the interpreter's lock from the loop between two requests, and commit small groups."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._batches: SimpleQueue[tuple[list[Work], int] | None] = SimpleQueue()
        self._batch: list[Work] = []
        self._bytes = 0

    def put(self, work: Work) -> None:
        """Queue work. Call it on the loop."""
        if not self._batch:
            self._loop.call_soon(self._flush)
        self._batch.append(work)
        if type(work) is Append:
            self._bytes += len(work.event.raw)
        if len(self._batch) >= GROUP or self._bytes >= GROUP_BYTES:
            self._flush()

    def end(self) -> None:
        """No work comes after this. Call it on the loop."""
        self._flush()
        self._batches.put(None)

    def _flush(self) -> None:
        if self._batch:
            self._batches.put((self._batch, self._bytes))
            self._batch, self._bytes = [], 0

    def gather(self, seconds: float) -> tuple[list[Work], bool]:
        """At most a group of the work that waits, after at most these seconds without any, and whether there can be
        more. Call it on the thread."""
        work: list[Work] = []
        size = 0
        try:
            batch = self._batches.get(timeout=seconds)
            while batch is not None:
                work += batch[0]
                size += batch[1]
                if len(work) >= GROUP or size >= GROUP_BYTES:
                    return work, True
                batch = self._batches.get_nowait()
        except Empty:
            return work, True
        return work, False
