"""`context.spawn`: tasks of a plugin's own, supervised by the gateway."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest

from gateway import Context, Event, hookimpl
from gateway.plugin_host.tasks import MOST
from gateway.testing import GatewayUnderTest, make_context, running_gateway

Work = Callable[["Worker"], Any]


class Worker:
    """Begins its work in `startup`, which is a plain function unless `on_loop`; keeps what happened."""

    def __init__(self, *works: Work) -> None:
        self.works = works
        self.said: list[str] = []
        self.context: Context | None = None

    @hookimpl
    def startup(self, context: Context) -> None:
        self.context = context
        for work in self.works:
            context.spawn(work(self))

    @hookimpl
    def on_event(self, event: Event) -> None: ...

    @hookimpl
    async def shutdown(self) -> None:
        self.said.append("shutdown")


async def beats(worker: Worker) -> None:
    """Goes on until it is cancelled."""
    worker.said.append(f"beats in {threading.current_thread().name}")
    try:
        await asyncio.Event().wait()
    finally:
        worker.said.append("cancelled")


async def breaks(worker: Worker) -> None:
    raise ConnectionResetError("of the customer 447700900001")


async def exits(worker: Worker) -> None:
    raise SystemExit(3)


async def clings(worker: Worker) -> None:
    worker.said.append("begun")
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            worker.said.append("clings")


def failures(gateway: GatewayUnderTest) -> float:
    return gateway.metrics()['gateway_plugin_task_failures_total{plugin="worker"}']


async def test_a_task_runs_on_the_plugins_loop_until_the_shutdown() -> None:
    """It is cancelled, and has ended, before `shutdown` is called."""
    worker = Worker(beats)
    async with running_gateway(plugins={"worker": worker}) as gateway:
        await gateway.until(lambda: worker.said)
        assert gateway.metrics()['gateway_plugin_tasks{plugin="worker"}'] == 1
        assert gateway.health("worker")["healthy"]
    assert worker.said == ["beats in plugin-worker-loop", "cancelled", "shutdown"]


@pytest.mark.parametrize(("work", "told"), [(breaks, "ConnectionResetError at "), (exits, "SystemExit at ")])
async def test_a_task_that_fails_is_told(work: Work, told: str, caplog: pytest.LogCaptureFixture) -> None:
    """Logged without its message, counted, and shown in health until a task of its name begins again."""
    worker = Worker(work)
    async with running_gateway(plugins={"worker": worker}) as gateway:
        await gateway.until(lambda: failures(gateway) == 1)
        assert any(f"task {work.__name__} of plugin worker failed: {told}" in line for line in caplog.messages)
        assert "447700900001" not in caplog.text
        health = gateway.health("worker")
        assert not health["healthy"]
        assert re.search(rf"its task {work.__name__} ended [0-9.]+ s ago with {told}", health["error"])
        await gateway.webio.send()
        await gateway.until_delivered()
        assert worker.context is not None
        worker.context.spawn(beats(worker), work.__name__)
        await gateway.until(lambda: gateway.health("worker")["healthy"])
        assert failures(gateway) == 1


async def test_tasks_are_bounded() -> None:
    """The one that is too many is refused, and the others go on."""
    worker = Worker(*[beats] * MOST)
    async with running_gateway(plugins={"worker": worker}) as gateway:
        await gateway.until(lambda: len(worker.said) == MOST)
        assert worker.context is not None
        with pytest.raises(RuntimeError, match=f"task beats cannot begin: {MOST} tasks of this plugin run already"):
            worker.context.spawn(beats(worker))
    with pytest.raises(RuntimeError, match="task beats cannot begin: the plugin is shut down"):
        worker.context.spawn(beats(worker))
    assert worker.said.count("cancelled") == MOST


async def test_a_task_that_does_not_end_holds_up_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named in the log, and `shutdown` is called."""
    monkeypatch.setattr("gateway.plugin_host.lifecycle.CANCEL_SECONDS", 0.05)
    worker = Worker(clings)
    async with running_gateway(plugins={"worker": worker}) as gateway:
        await gateway.until(lambda: "begun" in worker.said)
    assert "shutdown" in worker.said
    assert "plugin worker: tasks did not end within 0.05 s: clings" in caplog.messages


async def test_a_startup_that_fails_ends_its_tasks() -> None:
    """And the next attempt begins them anew."""

    class Second(Worker):
        attempts = 0

        @hookimpl
        def startup(self, context: Context) -> None:
            super().startup(context)
            self.attempts += 1
            if self.attempts == 1:
                raise OSError("not yet")

    worker = Second(beats)
    async with running_gateway(plugins={"worker": worker}) as gateway:
        await gateway.until(lambda: [said[:5] for said in worker.said].count("beats") == 2 or worker.said[-1:] != [])
        await gateway.until(lambda: gateway.metrics()['gateway_plugin_tasks{plugin="worker"}'] == 1)
        assert worker.attempts == 2
    assert worker.said[-2:] == ["cancelled", "shutdown"]


async def test_a_context_of_a_test_runs_tasks_on_its_loop(plugin_context: Context) -> None:
    done = asyncio.Event()

    async def work() -> None:
        done.set()

    plugin_context.spawn(work())
    await done.wait()
    bare = Context(name="x", log=plugin_context.log, directory=plugin_context.directory, organisations=())
    with pytest.raises(ValueError, match="this context has no tasks"):
        bare.spawn(work())


def test_made_contexts_have_tasks_only_beside_a_loop(plugin_context: Context) -> None:
    async def work() -> None: ...

    with pytest.raises(RuntimeError, match="no running event loop"):
        make_context(plugin_context.directory).spawn(work())
