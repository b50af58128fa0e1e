"""What operators do to a journal: retry and discard dead letters, replay. Beside a running gateway this goes over its
admin listener; without one, straight to the journal."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from gateway.admin import Counted, ReplayState, Started
from gateway.admin_client import NoAnswer, request
from gateway.config import Config
from gateway.gateway import Gateway
from gateway.journal import Filter, JournalError, progress
from gateway.journal.lock import GATEWAY, JournalBusy, JournalLock
from gateway.journal.reader import open_reader
from gateway.journal.schema import open_writer
from gateway.journal.sqlite import STEP
from gateway.lifecycle import StartFailed
from gateway.loader import load_plugins

POLL: Final = 0.1
TAKE_OVER_SECONDS: Final = 5.0
"""How long a gateway that wanted the journal gets to take it."""
Progress = Callable[[int, int], None]


__all__ = ["Counted", "OperationError", "Operations"]


class OperationError(Exception):
    """It could not be done; a sentence for the operator."""


class Operations:
    """The same whether the gateway runs or not; one that starts meanwhile goes first. `command` is who works here, for
    the others."""

    def __init__(self, config: Config, command: str) -> None:
        self._config = config
        self._lock = JournalLock(config.journal.path, command)

    def dead_retry(self, which: Filter, dry_run: bool = False) -> Counted:
        """Have dead letters delivered again, with fresh attempts."""
        if dry_run:
            return Counted(self._count(which, dead=True), 0)
        return self._change_dead("retry", which)

    def dead_discard(self, which: Filter, dry_run: bool = False) -> Counted:
        """Drop dead letters for good; the events stay until retention takes them."""
        if dry_run:
            return Counted(self._count(which, dead=True), 0)
        return self._change_dead("discard", which)

    def replay(self, which: Filter, dry_run: bool = False, progress: Progress | None = None) -> Counted:
        """Deliver events again to `which.plugin`; returns when all were handed over. `progress(done, matched)`."""
        if which.plugin is None:
            raise OperationError("a replay needs the plugin to deliver to")
        known = [table.name for table in self._config.plugins if table.settings.enabled]
        if which.plugin not in known:
            raise OperationError(f"no plugin {which.plugin} is switched on; those that are: {', '.join(known)}")
        if dry_run:
            return Counted(self._count(which, dead=False), 0)
        report = progress or (lambda done, matched: None)
        started: Started | None = None
        with _explained():
            while self._take():
                with self._lock:
                    started, done, finished = asyncio.run(self._replay_here(which, started, report))
                if finished:
                    return Counted(started.matched, done)
                self._await_gateway()
        return self._replay_running(which, started, report)

    def _count(self, which: Filter, dead: bool) -> int:
        with _explained(), contextlib.closing(open_reader(self._config)) as reader:
            return reader.count_dead(which) if dead else reader.count(which)

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

    def _await_gateway(self) -> None:
        deadline = time.monotonic() + TAKE_OVER_SECONDS
        while self._lock.holder() is None and time.monotonic() < deadline:
            time.sleep(POLL)

    def _change_dead(self, what: str, which: Filter) -> Counted:
        change = progress.retry_dead if what == "retry" else progress.discard_dead
        with _explained():
            if not self._take():
                return msgspec.convert(self._ask("POST", f"/api/dead/{what}", which), Counted)
            with self._lock, contextlib.closing(open_writer(self._config.journal.path)) as connection:
                done = 0
                while True:
                    with connection:
                        count = change(connection, which, STEP)
                    if not count:
                        return Counted(done, done)
                    done += count

    def _replay_running(self, which: Filter, started: Started | None, report: Progress) -> Counted:
        if started is None:
            started = msgspec.convert(self._ask("POST", "/api/replay", which), Started)
        while True:
            state = msgspec.convert(self._ask("GET", f"/api/replay/{started.number}"), ReplayState)
            report(state.done, started.matched)
            if state.finished:
                return Counted(started.matched, state.done)
            time.sleep(POLL)

    async def _replay_here(self, which: Filter, started: Started | None, report: Progress) -> tuple[Started, int, bool]:
        """The replay, how many events it has done, and whether it is over: not where a gateway wants to start, which
        goes on with it."""
        only = _only(self._config, which.plugin)
        gateway = Gateway(only, load_plugins(only))
        await gateway.start(lambda failure: None, only=True)
        try:
            if which.plugin not in gateway.delivery.deliverers:
                raise JournalError(f"plugin {which.plugin} takes no events")
            if started is None:
                replay = await gateway.journal.new_replay(which)
                started = Started(replay.number, replay.matched)
                await gateway.delivery.refresh(which.plugin)
            while True:
                done, finished = await gateway.journal.replay_state(started.number)
                report(done, started.matched)
                if finished or self._lock.wanted():
                    return started, done, finished
                await asyncio.sleep(POLL)
        finally:
            await gateway.stop()

    def _ask(self, method: str, path: str, body: Filter | None = None) -> Any:
        try:
            return request(self._config, method, path, body)
        except NoAnswer as error:
            raise OperationError(str(error)) from error


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (JournalError, StartFailed) as error:
        raise OperationError(str(error)) from error


def _only(config: Config, plugin: str | None) -> Config:
    """A config in which this plugin is the only one, and no field has a provider that is not there then."""
    tables = tuple(table for table in config.plugins if table.name == plugin)
    values = msgspec.structs.replace(config.values, fields={})
    return msgspec.structs.replace(config, plugins=tables, values=values)
