"""What operators do to a journal: retry and discard dead letters, replay. Beside a running gateway this goes over its
admin listener; without one, straight to the journal."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import msgspec
from apsw import Connection

from gateway.cli.admin_client import NoAnswer, request
from gateway.config.tables import Config
from gateway.http.admin import Counted, ReplayState, Started
from gateway.journal.interface import Filter, JournalError
from gateway.journal.lock import GATEWAY, JournalBusy, JournalLock
from gateway.journal.sqlite import progress
from gateway.journal.sqlite.journal import STEP
from gateway.journal.sqlite.reader import JournalReader, open_reader
from gateway.journal.sqlite.schema import open_writer
from gateway.plugin_host.lifecycle import StartFailed
from gateway.plugin_host.load import load_plugins, taking_events
from gateway.service import Gateway

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
            with self._lock, contextlib.closing(open_writer(self._config.journal.path)) as connection:
                matched = progress.count_dead(connection, which)
                done = _in_steps(connection, partial(progress.retry_dead, plugins=on), which)
                return Counted(matched, done, matched - done)

    def dead_discard(self, which: Filter, dry_run: bool = False) -> Counted:
        """Drop dead letters for good; the events stay until retention takes them."""
        if dry_run:
            with self._reader() as reader:
                return Counted(reader.count_dead(which), 0)
        with _explained():
            if not self._take():
                return msgspec.convert(self._ask("POST", "/api/dead/discard", which), Counted)
            with self._lock, contextlib.closing(open_writer(self._config.journal.path)) as connection:
                done = _in_steps(connection, progress.discard_dead, which)
                return Counted(done, done)

    def replay(self, which: Filter, dry_run: bool = False, progress: Progress | None = None) -> Counted:
        """Deliver events again to `which.plugin`; returns when all were handed over. `progress(done, matched)`."""
        if which.plugin is None:
            raise OperationError("a replay needs the plugin to deliver to")
        _require(which.plugin, taking_events(self._config))
        if dry_run:
            with self._reader() as reader:
                return Counted(reader.count(which), 0)
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

    @contextlib.contextmanager
    def _reader(self) -> Iterator[JournalReader]:
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

    def _await_gateway(self) -> None:
        deadline = time.monotonic() + TAKE_OVER_SECONDS
        while self._lock.holder() is None and time.monotonic() < deadline:
            time.sleep(POLL)

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


def _require(plugin: str, on: list[str]) -> None:
    """`OperationError` for a plugin that nothing would be delivered to."""
    if plugin not in on:
        known = ", ".join(on) or "none"
        raise OperationError(f"no plugin {plugin} that takes events is switched on; those that are: {known}")


def _in_steps(connection: Connection, change: Callable[[Connection, Filter, int], int], which: Filter) -> int:
    done = 0
    while True:
        with connection:
            count = change(connection, which, STEP)
        if not count:
            return done
        done += count


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
