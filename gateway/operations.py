"""Carries out what operators ask for: retries, discards, replays and erasures. The journal keeps each of them from its
begin on, so that the next start goes on with those that a stop or a crash has interrupted; or another gateway on the
same journal does, at once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final

from gateway.delivery.service import Delivery
from gateway.forgetting import forget_for_another, forget_running
from gateway.journal.interface import Filter, Journal, JournalError, JournalFailed, JournalFull
from gateway.journal.operator import Kind, PluginAnswers, StoredOperation, carry_out
from gateway.plugin_host.load import Plugin
from gateway.text import describe
from gateway.values.service import CustomValues

log = logging.getLogger("gateway.server")

MOST: Final = 1_000_000
"""Operations that one start goes on with, at most."""
AGAIN: Final = 1.0
"""Seconds until an operation goes on for which the journal had no room."""
STARTING: Final = 60.0
"""Seconds that an erasure which goes on after a restart waits for a plugin to start."""
LOOK: Final = 0.2
"""Seconds between two looks at an operation that another gateway carries out."""
ENDING: Final = 5.0
"""Seconds that the cancelling of a replay waits for what the plugin has of it."""


class NotCancellable(Exception):
    """The operation has to go on to its end; says why."""


class OperationRunner:
    """The operations of a running gateway."""

    def __init__(self, journal: Journal, values: CustomValues, delivery: Delivery, plugins: Sequence[Plugin]) -> None:
        self._journal = journal
        self._values = values
        self._delivery = delivery
        self._plugins = plugins
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._erasing = asyncio.Lock()
        self._begun: set[int] = set()
        """The erasures that can no longer be cancelled."""
        self._cancelled: set[int] = set()
        """The erasures that were cancelled before it was their turn."""
        self._waiting = asyncio.Event()
        """There may be operations that no gateway carries out, and changes that were made from elsewhere."""
        self._watching: asyncio.Task[None] | None = None

    async def prepare(self) -> None:
        """Take back what is left of cancelled retries. Call it before events are delivered."""
        for operation in await self._unended():
            if operation.state == "cancelled":
                await self._delivery.take_back(operation.number)

    async def resume(self) -> None:
        """Go on with what the last run left, and from now on with what other gateways leave. Call it once events are
        delivered."""
        self._journal.on_operations.append(self._waiting.set)
        await self._go_on()
        self._watching = asyncio.create_task(self._watch(), name="operations of other gateways")

    async def _go_on(self) -> None:
        for operation in await self._unended():
            if operation.state == "cancelled":
                await self._delivery.take_back(operation.number)
            elif operation.number not in self._tasks and await self._journal.claim(operation.number):
                log.info("operation %d (%s) goes on", operation.number, operation.kind)
                self._begin(operation, STARTING)

    async def _help_others(self) -> None:
        """Do this gateway's part of the erasures of others."""
        for operation in await self._journal.shared_erasures():
            if operation.number not in self._tasks:
                self._run(operation.number, partial(self._forget_for_another, operation))

    async def _watch(self) -> None:
        while True:
            await self._waiting.wait()
            self._waiting.clear()
            with contextlib.suppress(JournalError):  # the journal calls again
                await self._go_on()
                await self._help_others()
                await self._delivery.refresh()

    async def _unended(self) -> list[StoredOperation]:
        return (await self._journal.operations(MOST, running=True))[::-1]

    async def stop(self) -> None:
        """Stop between two steps."""
        tasks = [*self._tasks.values(), *([] if self._watching is None else [self._watching])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def start(self, kind: Kind, which: Filter, in_order: bool = False) -> StoredOperation:
        """Begin an operation. `JournalError`."""
        operation = await self._journal.begin(kind, which, in_order)
        if kind == "replay":
            await self._delivery.refresh(which.plugin)
        else:
            with contextlib.suppress(JournalError):  # `_watch` begins it later
                if await self._journal.claim(operation.number):
                    self._begin(operation, 0.0)
        return operation

    def _begin(self, operation: StoredOperation, patience: float) -> None:
        if (number := operation.number) in self._tasks:
            return
        work: Callable[[], Coroutine[Any, Any, None]] = partial(self._change, operation)
        if operation.kind == "forget":
            work = partial(self._forget, number, patience)
        self._run(number, partial(self._guarded, number, work))

    def _run(self, number: int, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = self._tasks[number] = asyncio.create_task(work(), name=f"operation {number}")
        task.add_done_callback(lambda _: self._tasks.pop(number, None))

    def is_busy(self, number: int) -> bool:
        """Whether an operation is being carried out, or just about to end."""
        return number in self._tasks

    async def ended(self, number: int) -> StoredOperation:
        """An operation once the last step of it was taken. A replay may still be running: delivery takes its steps."""
        if number in self._tasks:
            await asyncio.wait((self._tasks[number],))
        while True:
            if (operation := await self._journal.operation(number)) is None:
                raise JournalError(f"the journal has no operation {number}")
            if operation.state != "running" or operation.kind == "replay" or await self._journal.claim(number):
                return operation
            await asyncio.sleep(LOOK)

    async def cancel(self, number: int) -> StoredOperation | None:
        """Take no further step of an operation, and have the events back that plugins have not got yet; returns how
        far it came, or None where no operation has this number. `NotCancellable`; `JournalError`."""
        operation = await self._journal.operation(number)
        if operation is None:
            return None
        if operation.kind == "forget" and operation.state == "running":
            if number in self._begun or not await self._journal.claim(number):  # another gateway may have begun it
                raise NotCancellable("an erasure that has begun goes on to its end: half of it would be no erasure")
            self._cancelled.add(number)
        await self._journal.cancel(number)
        if operation.kind == "replay":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ENDING):
                    await self._delivery.end_replay(str(operation.filter.plugin), number)
        elif operation.kind != "forget":
            if number in self._tasks:
                await asyncio.wait((self._tasks[number],))
            await self._delivery.take_back(number)
        return await self._journal.operation(number)

    async def _guarded(self, number: int, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Carry an operation out; a failure is kept in it. Where the journal itself has failed, the gateway stops, and
        the next start goes on."""
        while True:
            try:
                return await work()
            except JournalFailed:
                return None
            except JournalFull:
                await asyncio.sleep(AGAIN)
                continue
            except JournalError as error:
                reason = str(error)
            except Exception as error:
                log.critical("operation %d stopped: internal error", number, exc_info=error)
                reason = f"internal error: {describe(error)}"
            with contextlib.suppress(JournalError):
                await self._journal.end(number, reason)
            return None

    async def _change(self, operation: StoredOperation) -> None:
        if operation.kind == "discard":
            await carry_out(self._journal, operation.number)
        else:
            await carry_out(self._journal, operation.number, list(self._delivery.consumers))
            await self._delivery.refresh(operation.filter.plugin)

    async def _forget(self, number: int, patience: float) -> None:
        async with self._erasing:
            if number in self._cancelled:
                self._cancelled.remove(number)
                return
            self._begun.add(number)
            try:
                if (operation := await self._journal.operation(number)) is not None and operation.state == "running":
                    parts = self._journal, self._values, self._delivery, self._plugins
                    await forget_running(*parts, operation, patience)
            finally:
                self._begun.discard(number)

    async def _forget_for_another(self, operation: StoredOperation) -> None:
        parts = self._journal, self._values, self._delivery, self._plugins
        try:
            await forget_for_another(*parts, operation, STARTING)
        except JournalError as error:
            log.error("operation %d (forget): what plugins answered was not kept: %s", operation.number, error)
        except Exception as error:
            log.critical("operation %d (forget): internal error", operation.number, exc_info=error)
            failed = {"every plugin": f"internal error: {describe(error)}"}
            with contextlib.suppress(JournalError):
                await self._journal.answer_erasure(operation.number, PluginAnswers(failed=failed))
