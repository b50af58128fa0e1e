"""The same changes to a journal in a database, which gateways on other machines may use, too. A gateway that runs here
with this config is asked over its admin listener. Else the operation is begun in the database: the gateways that run
elsewhere carry it out, and where none runs this process does."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from gateway.cli.changes import POLL, GoesOn, Operations, Progress
from gateway.cli.failures import Failure
from gateway.journal import open_console
from gateway.journal.interface import Track
from gateway.journal.operator import carry_out

if TYPE_CHECKING:
    from gateway.journal.interface import Filter
    from gateway.journal.operator import Kind, StoredOperation
    from gateway.journal.postgresql.console import Console

T = TypeVar("T")


class SharedOperations(Operations):
    """See `Operations`. No lock is needed: each step of an operation is one transaction."""

    def _take_journal(self) -> bool:
        return False

    def _wait(self, kind: Kind, which: Filter, in_order: bool, progress: Progress | None) -> dict[str, Any]:
        if self._lock.is_held():
            return super()._wait(kind, which, in_order, progress)
        operation = self._run(self._have_carried_out(kind, which, in_order, progress))
        if operation.state == "failed":
            raise Failure(f"operation {operation.number} failed: {operation.error}")
        answers = operation.answers
        told = {"plugins": answers.erased, "passed_on": answers.passed_on, "failed": answers.failed}
        return {**{name: getattr(operation, name) for name in operation.__struct_fields__}, **told}

    def _cancel(self, number: int) -> None:
        if self._lock.is_held():
            super()._cancel(number)
        else:
            self._run(_cancel(open_console(self._config), number))

    async def _have_carried_out(
        self, kind: Kind, which: Filter, in_order: bool, progress: Progress | None
    ) -> StoredOperation:
        async with open_console(self._config) as console:
            operation = await console.begin(kind, which, in_order)
            while operation.state == "running":
                if not await console.gateways() and await console.claim(operation.number):
                    self.offline = True
                    if kind == "replay":  # the next gateway that starts delivers it
                        return operation
                    await self._carry_out(console, operation)
                await asyncio.sleep(POLL)
                found = await console.operation(operation.number)
                if found is None:
                    raise Failure(f"operation {operation.number} is no longer in the journal")
                operation = found
                if progress is not None:
                    progress(operation.done, operation.matched)
            return operation

    async def _carry_out(self, console: Console, operation: StoredOperation) -> None:
        if operation.kind == "forget":
            from gateway.forgetting import forget_stopped
            from gateway.plugin_host.load import load_plugins

            plugins = load_plugins(self._config)
            await forget_stopped(self._config, plugins, console, operation.filter, operation.number)
        elif operation.kind == "retry":
            await carry_out(console, operation.number, self.plugins(operation.filter))
        else:
            await carry_out(console, operation.number)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return asyncio.run(work)
        except KeyboardInterrupt:
            raise GoesOn(
                "what has begun goes on in the gateways that run with this journal, or with the next `gateway run`;"
                " `gateway operations` shows it"
            ) from None


async def _cancel(console: Console, number: int) -> None:
    async with console:
        operation = await console.operation(number)
        if operation is None:
            return
        if operation.kind == "forget" and operation.state == "running" and not await console.claim(number):
            raise Failure("an erasure that has begun goes on to its end: half of it would be no erasure")
        await console.cancel(number)
        for plugin, seqs in (await console.retried(number)).items():
            await console.take_back(Track(plugin), number, seqs)
