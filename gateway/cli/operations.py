"""What operators do to a journal: retry and discard dead letters, replay. Beside a running gateway this goes over its
admin listener; without one, straight to the journal."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, TypeVar

import msgspec

from gateway.cli.admin_client import NoAnswer, request
from gateway.config.tables import Config
from gateway.http.admin import Counted, ReplayState, Started
from gateway.journal import journal_lock, open_journal, open_reader
from gateway.journal.interface import Filter, Journal, JournalError
from gateway.journal.lock import GATEWAY, JournalBusy
from gateway.journal.search import Search
from gateway.plugin_host.lifecycle import StartFailed
from gateway.plugin_host.load import taking_events

T = TypeVar("T")
POLL: Final = 0.1
Progress = Callable[[int, int], None]


__all__ = ["Counted", "OperationError", "Operations"]


class OperationError(Exception):
    """It could not be done; a sentence for the operator."""


class Operations:
    """The same whether the gateway runs or not. `command` is the name of this process in the journal's lock."""

    def __init__(self, config: Config, command: str) -> None:
        self._config = config
        self._lock = journal_lock(config, command)
        self.recorded = False
        """Whether what was done takes effect with the next start, since no gateway runs."""

    def dead_retry(self, which: Filter, dry_run: bool = False) -> Counted:
        """Have dead letters delivered again, with fresh attempts; those of plugins that are off stay as they are."""
        on = taking_events(self._config)
        if which.plugin is not None:
            _require(which.plugin, on)
        if dry_run:
            with self._reader() as reader:
                matched = reader.count_dead(which)
                return Counted(matched, 0, matched - reader.count_dead(which, on))
        with _explained():
            if not self._take():
                return msgspec.convert(self._ask("POST", "/api/dead/retry", which), Counted)

            async def retry(journal: Journal) -> Counted:
                matched = await journal.count_dead(which)
                done = await journal.retry_dead(which, on)
                return Counted(matched, done, matched - done)

            return self._here(retry)

    def dead_discard(self, which: Filter, dry_run: bool = False) -> Counted:
        """Drop dead letters for good; the events stay until retention takes them."""
        if dry_run:
            with self._reader() as reader:
                return Counted(reader.count_dead(which), 0)
        with _explained():
            if not self._take():
                return msgspec.convert(self._ask("POST", "/api/dead/discard", which), Counted)

            async def discard(journal: Journal) -> Counted:
                done = await journal.discard_dead(which)
                return Counted(done, done)

            return self._here(discard)

    def replay(self, which: Filter, dry_run: bool = False, progress: Progress | None = None) -> Counted:
        """Deliver events again to `which.plugin`. Beside a running gateway, returns when all were handed over, with
        `progress(done, matched)` meanwhile; without one, the replay is recorded and begins with the next start."""
        if which.plugin is None:
            raise OperationError("a replay needs the plugin to deliver to")
        _require(which.plugin, taking_events(self._config))
        if dry_run:
            with self._reader() as reader:
                return Counted(reader.count(which), 0)
        with _explained():
            if self._take():

                async def record(journal: Journal) -> Counted:
                    matched = (await journal.new_replay(which)).matched
                    return Counted(matched, matched)

                return self._here(record)
        return self._replay_running(which, progress or (lambda done, matched: None))

    def _here(self, change: Callable[[Journal], Awaitable[T]]) -> T:
        """Change the journal, whose lock is ours."""

        async def run() -> T:
            journal = open_journal(self._config)
            await journal.start()
            try:
                return await change(journal)
            finally:
                await journal.close()

        self.recorded = True
        with self._lock:
            return asyncio.run(run())

    @contextlib.contextmanager
    def _reader(self) -> Iterator[Search]:
        with _explained(), contextlib.closing(open_reader(self._config)) as reader:
            yield reader

    def _take(self) -> bool:
        """Whether the journal is ours now: not where a gateway has it, which is to be asked then."""
        while (holder := self._lock.holder()) is None:
            open_reader(self._config).close()  # to change a journal must not make one
            with contextlib.suppress(JournalBusy):
                self._lock.take()
                return True
        if holder.name != GATEWAY:
            raise OperationError(f"{holder.name} with process id {holder.process} is at it; wait until that is done")
        return False

    def _replay_running(self, which: Filter, report: Progress) -> Counted:
        started = msgspec.convert(self._ask("POST", "/api/replay", which), Started)
        while True:
            state = msgspec.convert(self._ask("GET", f"/api/replay/{started.number}"), ReplayState)
            report(state.done, started.matched)
            if state.finished:
                return Counted(started.matched, state.done)
            time.sleep(POLL)

    def _ask(self, method: str, path: str, body: Filter | None = None) -> Any:
        try:
            return request(self._config, method, path, body)
        except NoAnswer as error:
            raise OperationError(str(error)) from error


def _require(plugin: str, on: list[str]) -> None:
    """`OperationError` for a plugin that nothing would be delivered to."""
    if plugin not in on:
        known = ", ".join(on) or "none"
        raise OperationError(f"no plugin {plugin} that takes events is switched on; those that are: {known}")


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (JournalError, StartFailed) as error:
        raise OperationError(str(error)) from error
