"""Tells plugins with the hook `notice` what an operator should know of: looks once a second at what health knows, and
hands on what has changed.

    conditions -> Notices._look -> a bounded queue per plugin -> its `notice` hook

A plugin that is slow or fails costs itself notices, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from gateway.hookspecs import Notice
from gateway.journal.interface import Journal
from gateway.journal.search import UnknownName
from gateway.log import RateLimit
from gateway.monitoring import Monitor
from gateway.plugin_host.call import PluginFault
from gateway.plugin_host.load import Plugin
from gateway.text import counted, describe
from gateway.unknown import subject

log = logging.getLogger("gateway.notices")

PAUSE: Final = 1.0
"""Seconds between two looks."""
HELD: Final = 10.0
"""Seconds for which a plugin must not be healthy: one that starts, or fails a few times, is not told."""
MOST: Final = 100
"""Notices that wait for one plugin."""
AGAIN: Final = 60.0
"""Seconds between two log lines about notices that were dropped."""


class Notices:
    """What is wrong now, and who has yet to hear of it."""

    def __init__(self, plugins: Sequence[Plugin], monitor: Monitor, journal: Journal) -> None:
        self._monitor = monitor
        self._journal = journal
        self._listeners = [NoticeQueue(plugin) for plugin in plugins if "notice" in plugin.hooks]
        self._now: dict[str, Notice] = {}
        """What was told and is not over, by key."""
        self._before: dict[str, int] = {}
        """The counts of what there was when the gateway started, by key."""
        self._counted = False
        self._ill: dict[str, float] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        if self._listeners:
            self._tasks = [asyncio.create_task(listener.run()) for listener in self._listeners]
            self._tasks.append(asyncio.create_task(self._run(), name="notices"))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                for notice in self._look():
                    for listener in self._listeners:
                        listener.put(notice)
            except Exception as error:
                log.error("notices: cannot look for what is wrong: %s; next try in %g s", describe(error), HELD)
                await asyncio.sleep(HELD)
            await asyncio.sleep(PAUSE)

    def _look(self) -> Iterable[Notice]:
        """What has begun, has more of it, or is over since the last look."""
        found = {one.key: one for one in (*self._of_journal(), *self._of_plugins(), *self._of_counts())}
        for key, notice in found.items():
            told = self._now.get(key)
            if told is None or notice.count > told.count:
                yield notice if told is None else msgspec.structs.replace(notice, since=told.since)
        for key in self._now.keys() - found.keys():
            told = self._now[key]
            yield msgspec.structs.replace(told, recovered=True, count=0, sentence=_recovery(told))
        self._now = {
            key: msgspec.structs.replace(notice, since=self._now.get(key, notice).since)
            for key, notice in found.items()
        }

    def _of_journal(self) -> Iterator[Notice]:
        refusal = self._journal.refusal()
        if refusal is not None:
            sentence = f"new events are refused with 503: {refusal}"
            yield Notice(kind="journal", key="journal", sentence=sentence, since=_now())

    def _of_plugins(self) -> Iterator[Notice]:
        """Plugins that have not been healthy for `HELD` seconds."""
        ill = {health["name"]: health for health in self._monitor.plugins_health() if not health["healthy"]}
        moment = time.monotonic()
        self._ill = {name: self._ill.get(name, moment) for name in ill}
        for name, began in self._ill.items():
            if moment - began >= HELD:
                since = datetime.fromtimestamp(time.time() - (moment - began), UTC)
                # what exceptions say may be personal, and is in the error where the operator wants it in the log
                why = None if self._monitor.config.log.plugin_messages else ill[name]["error"]
                sentence = f"plugin {name} is not healthy{f': {why}' if why else ''}"
                yield Notice(kind="plugin", key=f"plugin {name}", plugin=name, sentence=sentence, since=since)

    def _of_counts(self) -> Iterator[Notice]:
        """Dead letters and unknown names, but for those of before the start."""
        if not self._monitor.counted:
            return
        counts = [*self._counts()]
        if not self._counted:
            self._counted, self._before = True, {notice.key: notice.count for notice in counts}
        left = {notice.key: notice.count for notice in counts}
        self._before = {key: min(count, left.get(key, 0)) for key, count in self._before.items()}
        for notice in counts:
            if notice.count > self._before.get(notice.key, 0):
                yield notice

    def _counts(self) -> Iterator[Notice]:
        for name, count in self._monitor.dead.items():
            if count:
                sentence = f"plugin {name} has {counted(count, 'dead letter')}: gateway dead --plugin {name}"
                key = f"dead letters of {name}"
                yield Notice(kind="dead-letters", key=key, plugin=name, count=count, sentence=sentence, since=_now())
        by_name = dict[str, list[UnknownName]]()  # names that differ in their long numbers only are one
        for one in self._monitor.unknown:
            by_name.setdefault(subject(one.name), []).append(one)
        for name, ones in by_name.items():
            count, since = sum(one.number for one in ones), min(one.first for one in ones)
            sentence = f"{name} came in, which no hook has; {counted(count, 'event')} by it"
            yield Notice(kind="unknown-type", key=f"unknown: {name}", count=count, sentence=sentence, since=since)


class NoticeQueue:
    """One plugin that is told, and what it has yet to be told."""

    def __init__(self, plugin: Plugin) -> None:
        self._plugin = plugin
        self._waiting: deque[Notice] = deque()
        self._dropped = RateLimit(log, 1, AGAIN)
        self._some = asyncio.Event()

    def put(self, notice: Notice) -> None:
        if len(self._waiting) >= MOST:
            dropped = self._waiting.popleft()
            if self._dropped.allows():
                name = self._plugin.name
                log.warning("plugin %s: %d notices wait; dropped the oldest: %s", name, MOST, dropped.sentence)
        self._waiting.append(notice)
        self._some.set()

    async def run(self) -> None:
        plugin = self._plugin
        await plugin.startup.done.wait()
        while True:
            await self._some.wait()
            self._some.clear()
            while self._waiting:
                try:
                    timeout = float(plugin.delivery.timeout)
                    await plugin.caller.call(plugin.hooks["notice"], self._waiting.popleft(), timeout=timeout)
                except Exception as error:
                    cause = error.cause if isinstance(error, PluginFault) else error
                    with contextlib.suppress(Exception):
                        plugin.faults.warning(log, f"plugin {plugin.name}: notice", cause, "; it is not told again")


def _recovery(told: Notice) -> str:
    match told.kind:
        case "dead-letters":
            return f"plugin {told.plugin} has no new dead letters left"
        case "unknown-type":
            return f"none is left of what this was about: {told.sentence}"
        case "plugin":
            return f"plugin {told.plugin} is healthy again"
    return "new events are kept again"


def _now() -> datetime:
    return datetime.now(UTC)
