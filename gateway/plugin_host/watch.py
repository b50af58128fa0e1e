"""Watches the plugins' event loops, and names a plugin whose loop does not answer, with the place that blocks it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import partial
from traceback import walk_stack
from typing import Final

from gateway.log import RateLimit
from gateway.plugin_host.load import Plugin
from gateway.plugin_host.loop import Blocked, PluginLoop
from gateway.text import counted

EVERY: Final = 0.25
"""Seconds between two looks."""
BLOCKED: Final = 1.0
"""Seconds without an answer after which a loop counts as blocked."""
_FRAMES: Final = 30
_LINES: Final = 4
_SECONDS: Final = 10.0
"""At most that many lines about one plugin in that time."""
log = logging.getLogger("gateway.plugins")


class Watch:
    """Sets `PluginLoop.blocked` of loops that do not answer, and logs when one begins and ceases to be blocked."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self._loops = {plugin.name: plugin.loop for plugin in plugins}
        self._limits = {name: RateLimit(log, _LINES, _SECONDS, partial(_more, name)) for name in self._loops}
        self._since: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._watch(), name="watch over the plugins' loops")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(EVERY)
            now = time.monotonic()
            late = now - last > 2 * EVERY  # the whole process stood still
            last = now
            for name, loop in self._loops.items():
                if loop.runs:
                    self._look(name, loop, now, late)

    def _look(self, name: str, loop: PluginLoop, now: float, late: bool) -> None:
        asked = loop.asked
        if asked is None:
            if loop.blocked is not None:
                loop.blocked = None
                if self._limits[name].allows():
                    log.warning("plugin %s: its event loop answers again after %.1f s", name, now - self._since[name])
            loop.ping()
        elif late and loop.blocked is None:
            loop.ping()
        elif now - asked >= BLOCKED:
            self._blocked(name, loop, asked, now)

    def _blocked(self, name: str, loop: PluginLoop, asked: float, now: float) -> None:
        first, frame = loop.blocked is None, loop.frame()
        loop.blocked = Blocked(now - asked, loop.place())
        if first:
            self._since[name] = asked
            if self._limits[name].allows():
                calls = (
                    []
                    if frame is None
                    else [
                        f'File "{one.f_code.co_filename}", line {line}, in {one.f_code.co_name}'
                        for one, line in walk_stack(frame)
                    ]
                )
                log.error(
                    "plugin %s: %s; its events wait, and everything else goes on",
                    name, loop.blocked, extra={"traceback": calls[:_FRAMES][::-1]},
                )  # fmt: skip


def _more(name: str, count: int) -> str:
    return f"plugin {name}: {counted(count, 'more line')} about its event loop"
