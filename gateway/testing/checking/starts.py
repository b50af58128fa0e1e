"""The tier *starts*: the plugin is configured, started and stopped as the contract says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from gateway.config.annotations import bare
from gateway.config.convert import ConfigError
from gateway.plugin_host.call import CallTimeout, PluginFault, Stuck
from gateway.plugin_host.load import Plugin
from gateway.plugin_host.sources import config_of
from gateway.testing.checking.bench import Bench, Traces, bench_of
from gateway.testing.checking.report import CheckFailed
from gateway.testing.settings import testing_config
from gateway.text import describe

_SECONDS: Final = 30.0
_UNKNOWN: Final = "a_key_that_nobody_has"


def config_is_strict(bench: Bench) -> None:
    """`Config`, and each struct in it, is a frozen struct that forbids unknown fields; an unknown key is an error that
    names it, and a table that is as the author gives it has no fault."""
    for kind in _structs(config_of(bench.kind)):
        settings = kind.__struct_config__
        if not settings.forbid_unknown_fields:
            raise CheckFailed(f"{kind.__qualname__} takes unknown keys; write forbid_unknown_fields=True")
        if not settings.frozen:
            raise CheckFailed(f"{kind.__qualname__} can be changed; write frozen=True")
    try:
        bench.plugin()
    except ConfigError as error:
        raise CheckFailed(f"PluginCase(config=...) has faults: {error}") from None
    try:
        bench.plugin(**{_UNKNOWN: 1})
    except ConfigError as error:
        if not any(_UNKNOWN in problem.path for problem in error.problems):
            raise CheckFailed(f"the error of an unknown key does not name it: {error}") from None
    else:
        raise CheckFailed(f"the unknown key {_UNKNOWN} was accepted")


def constructor_has_no_side_effects(bench: Bench) -> None:
    """`__init__` opens nothing, starts nothing and writes nothing: `gateway check` calls it, too."""
    with bench_of(bench.kind, bench.make_case) as other:
        other.plugin().close()  # what an import does is not the constructor's
    config = testing_config(bench.config(), {}, bench.folder)
    traces = Traces(bench.folder)
    plugin = bench.loaded(config)
    plugin.close()
    if made := traces.made():
        raise CheckFailed(f"the constructor changed files: {', '.join(made)}; do that in startup")
    del plugin
    if left := traces.running():
        raise CheckFailed(f"the constructor left {left}; open and start things in startup")


def check_changes_nothing(bench: Bench) -> None:
    """The hook `check` finds no fault in the config that the author gives, writes nothing, and leaves nothing open."""
    if not hasattr(bench.kind, "check"):
        return
    bench.run(_called(bench.plugin(), "check"))
    traces = Traces(bench.folder)
    bench.run(_called(bench.plugin(), "check"))
    if made := traces.made():
        raise CheckFailed(f"check changed files: {', '.join(made)}")
    if left := traces.running():
        raise CheckFailed(f"check left {left}")


def starts_and_stops(bench: Bench) -> None:
    """`startup` and `shutdown` succeed, again and again with one instance, and leave no task, thread or open file."""
    bench.run(_lives(bench, bench.plugin(), 1))
    traces = Traces(bench.folder)
    bench.run(_lives(bench, bench.plugin(), 2))
    if left := traces.running():
        raise CheckFailed(f"shutdown left {left}")


def stops_without_a_start(bench: Bench) -> None:
    """`shutdown` works after a `startup` that failed at once, and after one that failed because of the target; a later
    `startup` succeeds."""
    bench.run(_lives(bench, bench.plugin(), 1))
    traces = Traces(bench.folder)
    bench.run(_fails_to_start(bench))
    if left := traces.running():
        raise CheckFailed(f"shutdown after a startup that failed left {left}")


async def _fails_to_start(bench: Bench) -> None:
    plugin = bench.plugin()
    try:
        await stop(plugin)
        if bench.case.fails is not None:
            with bench.case.fails():
                with contextlib.suppress(CheckFailed):  # it may succeed: a connection may be made later
                    await start(bench, plugin)
                await stop(plugin)
        await start(bench, plugin)
        await stop(plugin)
    finally:
        await closed(plugin)


async def _lives(bench: Bench, plugin: Plugin, times: int) -> None:
    try:
        for _ in range(times):
            await start(bench, plugin)
            await stop(plugin)
            if tasks := await _tasks(plugin):
                raise CheckFailed(f"shutdown left the tasks {', '.join(tasks)}; cancel and await them")
    finally:
        await closed(plugin)


async def _called(plugin: Plugin, hook: str) -> None:
    try:
        await call(plugin, hook)
    finally:
        await closed(plugin)


async def start(bench: Bench, plugin: Plugin) -> None:
    """Call the plugin's `startup`."""
    plugin.tasks.open()
    await call(plugin, "startup", bench.context(plugin))


async def stop(plugin: Plugin) -> None:
    """Cancel the plugin's own tasks, and call its `shutdown`, as the gateway does."""
    await plugin.tasks.cancel()
    await call(plugin, "shutdown")


async def call(plugin: Plugin, hook: str, *args: Any) -> None:
    """Call one of the plugin's hooks, if it has it. `CheckFailed` where it raises or takes too long."""
    if hook not in plugin.hooks:
        return
    try:
        await plugin.caller.call(plugin.hooks[hook], *args, timeout=_SECONDS)
    except PluginFault as fault:
        raise CheckFailed(f"{hook} raised {describe(fault.cause)}") from fault.cause
    except (CallTimeout, Stuck) as error:
        raise CheckFailed(f"{hook}: {error}") from None


async def _tasks(plugin: Plugin) -> list[str]:
    """The tasks on the plugin's loop, after a moment in which those that were cancelled end."""
    if not plugin.loop.runs:
        return []
    loop = plugin.loop.there().loop
    found: list[str] = []
    for _ in range(100):
        found = [task.get_name() for task in asyncio.all_tasks(loop) if not task.done()]
        if not found:
            break
        await asyncio.sleep(0.01)
    return found


async def closed(plugin: Plugin) -> None:
    """Let go of the plugin's threads and loop. `CheckFailed` where the loop does not end."""
    plugin.close()
    if not await plugin.loop.closed(5):
        raise CheckFailed(f"the event loop of the plugin does not end: it is at {plugin.loop.place()}")


def _structs(kind: Any) -> Iterator[Any]:
    """A config and the structs in it."""
    yield kind
    for field in msgspec.structs.fields(kind):
        yield from _inside(field.type)


def _inside(kind: Any) -> Iterator[Any]:
    kind = bare(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield from _structs(kind)
    for inner in getattr(kind, "__args__", ()):
        yield from _inside(inner)


CHECKS: Final = (
    config_is_strict,
    constructor_has_no_side_effects,
    check_changes_nothing,
    starts_and_stops,
    stops_without_a_start,
)
