"""What crosses between the loop that serves and a plugin's own, and how."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from kit import Signal, make_plugin

from gateway import Context, CustomValueRequest, Reject, Retry, hookimpl
from gateway.plugin_host import loop as plugin_loop
from gateway.plugin_host.call import CallTimeout, PluginFault, Stuck
from gateway.plugin_host.load import Plugin

TENANT: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="none")


class Does:
    """Calls what it is given, in a coroutine."""

    def __init__(self, what: Callable[[], Any]) -> None:
        self.what = what

    @hookimpl
    async def startup(self, context: Context) -> Any:
        return self.what()

    @hookimpl
    async def custom_values(self, request: CustomValueRequest) -> Any:
        result = self.what()
        return await result if asyncio.iscoroutine(result) else result

    @hookimpl
    def check(self) -> Any:
        return self.what()


@asynccontextmanager
async def plugin_that(what: Callable[[], Any]) -> AsyncIterator[Plugin]:
    plugin = make_plugin("crm", Does(what))
    try:
        yield plugin
    finally:
        plugin.close()
        assert await plugin.loop.closed(5)


async def call(plugin: Plugin, hook: str = "custom_values", timeout: float = 10.0) -> Any:
    impl = plugin.hooks[hook]
    return await plugin.caller.call(impl, *([] if hook == "check" else [None]), timeout=timeout)


async def test_all_async_hooks_of_an_instance_share_a_loop_and_no_two_instances_do() -> None:
    """What `startup` opens can be used by every other hook. Plain hooks run on no loop."""

    def where() -> Any:
        try:
            return asyncio.get_running_loop(), threading.current_thread().name
        except RuntimeError:
            return None, threading.current_thread().name

    async with plugin_that(where) as one, plugin_that(where) as other:
        found = [await call(one, "startup"), await call(one), await call(other)]
        assert found[0] == found[1]
        assert len({loop for loop, _ in found} | {asyncio.get_running_loop()}) == 3
        assert {name for _, name in found} == {"plugin-crm-loop"}
        assert await call(one, "check") == (None, "plugin-crm")


@pytest.mark.parametrize("error", [Retry("later", after=60), Reject("never"), OSError("no"), SystemExit(3)])
async def test_what_a_hook_raises_crosses_unchanged(error: BaseException) -> None:
    """The same object, with the place it was raised at."""

    def raises() -> None:
        raise error

    async with plugin_that(raises) as plugin:
        with pytest.raises(PluginFault) as caught:
            await call(plugin)
        assert caught.value.cause is error
        names = []
        trace = error.__traceback__
        while trace is not None:
            names.append(trace.tb_frame.f_code.co_name)
            trace = trace.tb_next
        assert names[-2:] == ["custom_values", "raises"]


async def test_context_variables_cross() -> None:
    """Those of the caller; what a hook sets stays with its call."""

    def read_and_set() -> str:
        found = TENANT.get()
        TENANT.set("changed")
        return found

    async with plugin_that(read_and_set) as plugin:
        assert await call(plugin) == "none"
        TENANT.set("acme")
        assert [await call(plugin), await call(plugin)] == ["acme", "acme"]
        assert TENANT.get() == "acme"


async def test_a_cancellation_crosses() -> None:
    """Of a call whose caller goes away, and of one whose time is over."""
    begun, ended = Signal(), Signal()

    async def waits() -> None:
        begun.set()
        try:
            await asyncio.sleep(10**6)
        finally:
            ended.set()

    async with plugin_that(waits) as plugin:
        calling = asyncio.create_task(call(plugin))
        await begun.wait()
        calling.cancel()
        await asyncio.wait_for(ended.wait(), 10)
        with pytest.raises(asyncio.CancelledError):
            await calling
        ended = Signal()
        with pytest.raises(CallTimeout, match=r"^no answer within 0\.05 s"):
            await call(plugin, timeout=0.05)
        await asyncio.wait_for(ended.wait(), 10)


async def test_calls_that_cross_together_share_a_wake_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty calls of one moment wake the plugin's loop once; and their results, the loop that serves."""
    wake_ups: list[str] = []

    def counted(loop: asyncio.AbstractEventLoop, way: str) -> asyncio.AbstractEventLoop:
        wake = loop.call_soon_threadsafe

        def count(*callback: Any) -> object:
            wake_ups.append(way)
            return wake(*callback)

        monkeypatch.setattr(loop, "call_soon_threadsafe", count)
        return loop

    def new_loop() -> asyncio.AbstractEventLoop:
        return counted(asyncio.new_event_loop(), "there")

    monkeypatch.setattr(plugin_loop, "new_loop", new_loop)
    counted(asyncio.get_running_loop(), "back")
    begun, release, all_over = Signal(), threading.Event(), threading.Event()
    answered: list[str] = []

    def held() -> str:
        begun.set()
        release.wait(60)
        answered.append("1")
        if len(answered) == 41:
            all_over.set()
        return "1"

    async with plugin_that(held) as plugin:
        try:
            calls = [asyncio.ensure_future(call(plugin, timeout=60))]
            await begun.wait()
            wake_ups.clear()
            calls += [asyncio.ensure_future(call(plugin, timeout=60)) for _ in range(40)]
            await asyncio.sleep(0)
        finally:
            release.set()
        all_over.wait(60)  # holds this loop, so that the results wait for it
        assert [await one for one in calls] == ["1"] * 41
    assert wake_ups[:2] == ["there", "back"]
    assert len(wake_ups) <= 4, "one more each for what came between the two, and for the end"


async def test_a_task_of_the_plugin_that_exits_ends_only_itself(caplog: pytest.LogCaptureFixture) -> None:
    """The loop goes on, and the plugin's calls are answered."""

    async def exits() -> None:
        raise SystemExit(3)

    async def begins_it() -> str:
        task = asyncio.create_task(exits())
        await asyncio.wait((task,))
        return "still here"

    async with plugin_that(begins_it) as plugin:
        assert [await call(plugin), await call(plugin)] == ["still here"] * 2
    assert "plugin crm: a task of its own raised SystemExit; its calls go on" in caplog.messages


async def test_a_loop_that_has_ended_takes_no_call() -> None:
    """`Stuck` says so, at once."""
    async with plugin_that(lambda: "1") as plugin:
        assert await call(plugin) == "1"
    with pytest.raises(Stuck, match="its event loop has ended"):
        await call(plugin)
