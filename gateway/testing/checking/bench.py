"""Where the checks of one plugin run: a new folder and a new target for each, and a gateway around the plugin."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from gateway.config.tables import Config
from gateway.hookspecs import Context
from gateway.plugin_host.bind import EVENT_HOOKS
from gateway.plugin_host.filters import hook_name
from gateway.plugin_host.load import Plugin
from gateway.testing.checking.case import PluginCase
from gateway.testing.checking.report import CheckFailed, NotApplicable
from gateway.testing.factories import make_context
from gateway.testing.in_process import GatewayUnderTest, JournalKind
from gateway.testing.settings import testing_config, testing_plugins

T = TypeVar("T")
NAME: Final = "checked"
"""The name of the plugin's table."""
_SETTLE: Final = 5.0
"""Seconds that threads and files have to be gone after a plugin has stopped."""


class Bench:
    """One check of one plugin."""

    def __init__(self, kind: type, make_case: Callable[[Path], PluginCase], folder: Path) -> None:
        self.kind = kind
        self.make_case = make_case
        self.folder = folder
        self.case = make_case(folder)

    def config(self, **more: Any) -> dict[str, Any]:
        """The config around the plugin, with `more` keys in its table."""
        return {**self.case.gateway, "plugins": {NAME: {**self.case.config, **more}}}

    def plugin(self, **more: Any) -> Plugin:
        """The plugin, loaded as the gateway does. `ConfigError` for a fault of its config."""
        return self.loaded(testing_config(self.config(**more), {}, self.folder))

    def loaded(self, config: Config) -> Plugin:
        """The plugin of a config."""
        [plugin] = testing_plugins(config, {NAME: self.kind})
        return plugin

    def context(self, plugin: Plugin) -> Context:
        """The argument of the plugin's `startup`, as the gateway has it."""
        return msgspec.structs.replace(
            make_context(self.folder, name=NAME), metrics=plugin.metrics, spawner=plugin.tasks.spawn
        )

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(work)

    @asynccontextmanager
    async def gateway(
        self, journal: JournalKind = "memory", prepare: Callable[[Plugin], None] = lambda plugin: None
    ) -> AsyncIterator[GatewayUnderTest]:
        """A gateway that runs, with the plugin as `NAME`. `prepare` gets each of its instances before its start."""
        given: Mapping[str, Any] = {NAME: self.kind}
        config = testing_config(self.config(), given, self.folder)
        running = GatewayUnderTest(config, given, journal, False, prepare)
        await running.start()
        try:
            yield running
        finally:
            await running.stop()

    # What the checks are about

    def hook(self) -> str:
        """A hook that the plugin takes events of. `NotApplicable` where it takes none."""
        taken = sorted(name for name in EVENT_HOOKS if hasattr(self.kind, name))
        if not taken:
            raise NotApplicable("it takes no events")
        return "payment" if "on_event" in taken else hook_name(taken[0])

    def need_taken(self) -> Callable[[], list[str]]:
        """The way to read back what was taken; `CheckFailed` where the author gives none."""
        self.hook()
        read = self.case.taken
        if read is None:
            raise CheckFailed(
                "the plugin takes events: give PluginCase(taken=...), which reads back what the target has"
            )
        return lambda: list(read())

    def need_values(self) -> Mapping[str, str]:
        """What the plugin answers; `NotApplicable` where it answers no custom values."""
        if not hasattr(self.kind, "custom_values"):
            raise NotApplicable("it answers no custom values")
        if not self.case.values:
            raise CheckFailed("the plugin answers custom values: give PluginCase(values=...), those of `customer_uid`")
        return self.case.values

    def need_failing(self) -> Callable[[], contextlib.AbstractContextManager[object]]:
        """The way to make the target fail; `NotApplicable` where the author says that it has none that could."""
        if self.case.fails is None:
            raise NotApplicable("PluginCase(fails=None): there is no target that could fail")
        return self.case.fails


@contextmanager
def bench_of(kind: type, make_case: Callable[[Path], PluginCase]) -> Iterator[Bench]:
    """A bench in a temporary folder."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(os.path.realpath(temporary))
        yield Bench(kind, make_case, folder)


class Traces:
    """What a process has: threads, open files, and what is in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._threads = set(threading.enumerate())
        self._open = _open_files()
        self._files = _listed(folder)

    def running(self) -> str | None:
        """What runs or is open now and was not before, after some time to end; None where there is nothing."""
        deadline = time.monotonic() + _SETTLE
        while (found := self._running()) is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        return found

    def made(self) -> list[str]:
        """The files and folders that are new or gone."""
        return sorted(_listed(self._folder) ^ self._files)

    def _running(self) -> str | None:
        left = [thread.name for thread in threading.enumerate() if thread not in self._threads]
        if left:
            return f"the threads {', '.join(sorted(left))}"
        gc.collect()
        more = _open_files() - self._open
        return f"{more} open files or sockets" if more > 0 else None


def _open_files() -> int:
    """How many file descriptors are open; 0 where the system does not tell."""
    try:
        return len(list(Path("/proc/self/fd").iterdir()))
    except OSError:
        return 0


def _listed(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
