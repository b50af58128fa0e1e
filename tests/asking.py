"""Custom values without HTTP: a config, providers scripted or installed, and questions."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlencode

from kit import make_plugin
from running import read_config

from gateway import Context, CustomValueRequest, hookimpl
from gateway.config.convert import each
from gateway.config.tables import Config
from gateway.plugin_host.call import PluginFault
from gateway.plugin_host.load import Plugin, load_plugins
from gateway.values.answer import Answer
from gateway.values.service import CustomValues

Answering = Callable[[CustomValueRequest], Awaitable[Mapping[str, Any]]]


class Clock:
    """A monotonic clock that also jumps. It starts at the real one, which providers' requests are timed by."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return asyncio.get_running_loop().time() + self.ahead


class Grace:
    """The 50 ms over a deadline that an answer may take, plus what the machine was late by meanwhile.

    A thread that only sleeps measures how late the machine wakes it: tests run beside other work.
    """

    def __init__(self) -> None:
        self._worst = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def seconds(self) -> float:
        return 0.05 + self._worst

    def _watch(self) -> None:
        due = time.perf_counter()
        while not self._stop.wait(0.005):
            due, before = time.perf_counter(), due
            self._worst = max(self._worst, due - before - 0.005)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


class Knows:
    """An async provider that knows these values; `requests` are those it was asked."""

    def __init__(self, values: Any = None, fields: Any = None, answer: Answering | None = None) -> None:
        self.values = {} if values is None else values
        self.fields = fields
        self.answer = answer
        self.requests: list[CustomValueRequest] = []

    @hookimpl
    async def custom_values(self, request: CustomValueRequest) -> Any:
        self.requests.append(request)
        if self.answer is not None:
            return await self.answer(request)
        if isinstance(self.values, BaseException):
            raise self.values
        return self.values

    @hookimpl
    def custom_value_fields(self) -> Any:
        return self.fields


class Blocks:
    """A plain provider that runs a function in a thread."""

    def __init__(self, answer: Callable[[CustomValueRequest], Any]) -> None:
        self.answer = answer

    @hookimpl
    def custom_values(self, request: CustomValueRequest) -> Any:
        return self.answer(request)


def scripted(config: Config, providers: Mapping[str, Any]) -> list[Plugin]:
    """Plugins around instances, in the order of the config's tables."""
    return [make_plugin(table.name, providers[table.name], table, timeout=30.0) for table in config.plugins]


@contextlib.asynccontextmanager
async def asking(
    directory: Path, text: str = "", *, clock: Clock | None = None, **providers: Any
) -> AsyncIterator[CustomValues]:
    """`CustomValues` over scripted providers; `text` is added to the config, plugin tables where it has none."""
    tables = "".join(f"[plugins.{name}]\n" for name in providers if f"[plugins.{name}]" not in text)
    config = read_config(directory, text + "\n" + tables)
    plugins = scripted(config, providers)
    values = CustomValues(config, plugins, monotonic=time.monotonic if clock is None else clock)
    await values.start()
    try:
        yield values
    finally:
        await values.close()
        await close_all(plugins)


@contextlib.asynccontextmanager
async def running(
    directory: Path, text: str, *, clock: Clock | None = None
) -> AsyncIterator[tuple[CustomValues, list[Plugin]]]:
    """`CustomValues` over installed plugins, started and shut down as the gateway does."""
    config = read_config(directory, text)
    plugins = load_plugins(config)
    for plugin in plugins:
        if "startup" in plugin.hooks:
            context = Context(
                name=plugin.name,
                log=logging.getLogger(f"plugin.{plugin.name}"),
                directory=config.directory,
                organisations=tuple(config.organisations),
            )
            await plugin.caller.call(plugin.hooks["startup"], context, timeout=10)
    values = CustomValues(config, plugins, monotonic=time.monotonic if clock is None else clock)
    await values.start()
    try:
        yield values, plugins
    finally:
        await values.close()
        for plugin in reversed(plugins):
            if "shutdown" in plugin.hooks:
                await plugin.caller.call(plugin.hooks["shutdown"], timeout=10)
        await close_all(plugins)


async def close_all(plugins: Sequence[Plugin]) -> None:
    """End the plugins' threads and loops, and wait for the loops' end."""
    for plugin in plugins:
        plugin.close()
    for plugin in plugins:
        await plugin.loop.closed(2)


async def check(directory: Path, text: str) -> Any:
    """What the `check` of the config's only plugin returns, or the sentences that it raises."""
    [plugin] = load_plugins(read_config(directory, text))
    try:
        return await plugin.caller.call(plugin.hooks["check"], timeout=30)
    except PluginFault as fault:
        return "; ".join(map(str, each(fault.cause))) if isinstance(fault.cause, Exception) else str(fault.cause)
    finally:
        plugin.close()


def query(*fields: str, uid: str | None = "123456", address: str | None = None) -> bytes:
    """A query string as Webio writes it."""
    pairs = [] if uid is None else [("customerUID", uid)]
    pairs += [] if address is None else [("outboundChannelAddress", address)]
    pairs += [(f"param{number}", field) for number, field in enumerate(fields, 1)]
    return urlencode(pairs, quote_via=quote).encode()


async def ask(values: CustomValues, *fields: str, organisation: str = "acme", **who: str | None) -> Answer:
    return await values.answer(organisation, query(*fields, **who))


def values_of(answer: Answer) -> Any:
    """The values of an answer that must be a success."""
    assert (answer.status, answer.media_type) == (200, "application/json"), answer
    return json.loads(answer.body)


def problem_of(answer: Answer) -> tuple[int, list[str]]:
    """Status and fields of an answer that must be a failure."""
    assert answer.media_type == "application/problem+json", answer
    body = json.loads(answer.body)
    assert body["status"] == answer.status
    return answer.status, body["fields"]
