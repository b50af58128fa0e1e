"""Starting plugins in config order, shutting them down in reverse, also after a start that failed halfway."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from asgi import in_process
from kit import make_plugin
from running import write_config

from gateway import Context, hookimpl
from gateway.config.load import load_config
from gateway.journal.interface import Standing, Track
from gateway.plugin_host import lifecycle
from gateway.plugin_host.lifecycle import Lifecycle, StartFailed
from gateway.plugin_host.load import Plugin
from gateway.service import Gateway

Behaviour = Callable[[], Awaitable[None]]


async def nothing() -> None: ...


async def raises() -> None:
    raise OSError("nothing answers at db.internal for 447700900123")


async def exits() -> None:
    raise SystemExit(3)


async def hangs() -> None:
    await asyncio.Event().wait()


class Async:
    """Notes what is called, and then behaves as told."""

    def __init__(self, name: str, notes: list[str], up: Behaviour = nothing, down: Behaviour = nothing) -> None:
        self.name, self.notes, self.up, self.down = name, notes, up, down

    @hookimpl
    async def startup(self, context: Context) -> None:
        self.notes.append(f"{self.name} up")
        await self.up()

    @hookimpl
    async def shutdown(self) -> None:
        self.notes.append(f"{self.name} down")
        await self.down()


class Plain:
    """The same without `async`."""

    def __init__(self, name: str, notes: list[str], fails: BaseException | None = None) -> None:
        self.name, self.notes, self.fails = name, notes, fails

    @hookimpl
    def startup(self, context: Context) -> None:
        self.notes.append(f"{self.name} up")
        if self.fails is not None:
            raise self.fails

    @hookimpl
    def shutdown(self) -> None:
        self.notes.append(f"{self.name} down")


class OnlyDown:
    """Has nothing to start."""

    def __init__(self, notes: list[str]) -> None:
        self.notes = notes

    @hookimpl
    def shutdown(self) -> None:
        self.notes.append("only down")


def lifecycle_of(directory: Path, *instances: Any) -> Lifecycle:
    plugins = [make_plugin(getattr(instance, "name", "only"), instance) for instance in instances]
    return Lifecycle(load_config(write_config(directory)), plugins)


async def test_in_config_order_and_in_reverse(tmp_path: Path) -> None:
    """Also those that have nothing to start are shut down; a second stop does nothing."""
    notes: list[str] = []
    cycle = lifecycle_of(tmp_path, Async("a", notes), OnlyDown(notes), Plain("b", notes), Async("c", notes))

    await cycle.start()
    assert notes == ["a up", "b up", "c up"]
    notes.clear()
    await cycle.stop(1)
    assert notes == ["c down", "b down", "only down", "a down"]
    await cycle.stop(1)
    assert len(notes) == 4


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda n: Async("b", n, up=raises), "OSError: nothing answers at db.internal for …"),
        (lambda n: Async("b", n, up=exits), "SystemExit: 3"),
        (lambda n: Async("b", n, up=hangs), "no answer within 0.05 s"),
        (lambda n: Plain("b", n, ValueError("no")), "ValueError: no"),
        (lambda n: Plain("b", n, SystemExit("no")), "SystemExit: no"),
        (lambda n: Plain("b", n, KeyboardInterrupt()), "KeyboardInterrupt"),
    ],
)
async def test_a_start_that_fails_halfway_unwinds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[list[str]], Any], reason: str
) -> None:
    """Those already started are shut down in reverse, those behind never start, and one sentence says why."""
    monkeypatch.setattr(lifecycle, "STARTUP_SECONDS", 0.05)
    notes: list[str] = []
    cycle = lifecycle_of(tmp_path, Async("a", notes), OnlyDown(notes), make(notes), Async("c", notes))

    with pytest.raises(StartFailed) as caught:
        await cycle.start()
    assert str(caught.value) == f"plugin b did not start: {reason}"
    assert notes == ["a up", "b up", "only down", "a down"]


@pytest.mark.parametrize(("down", "reason"), [(raises, "OSError"), (exits, "SystemExit"), (hangs, "no answer within")])
async def test_a_shutdown_that_fails_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, down: Behaviour, reason: str
) -> None:
    """And the next still runs, within the time there is."""
    notes: list[str] = []
    cycle = lifecycle_of(tmp_path, Async("a", notes), Async("b", notes, down=down), Async("c", notes, down=down))

    await cycle.start()
    began = time.monotonic()
    await cycle.stop(0.3)
    assert time.monotonic() - began < 2
    assert notes[3:] == ["c down", "b down", "a down"]
    [c, b] = caplog.messages
    assert c.startswith(f"plugin c: shutdown failed: {reason}")
    assert b.startswith(f"plugin b: shutdown failed: {reason}")
    assert "447700900123" not in caplog.text


async def test_what_a_plugin_is_told(tmp_path: Path) -> None:
    """Its instance's name, a logger of its own, the config's folder, the organisations."""
    told: list[Context] = []

    class Curious:
        name = "archive-eu"

        @hookimpl
        def startup(self, context: Context) -> None:
            told.append(context)

    cycle = lifecycle_of(tmp_path, Curious())
    await cycle.start()
    await cycle.stop(1)
    [context] = told
    assert (context.name, context.directory, context.organisations) == ("archive-eu", tmp_path, ("acme",))
    assert context.log is logging.getLogger("plugins.archive-eu")


async def test_the_gateway_around_it(tmp_path: Path) -> None:
    """Events come to a plugin between its startup and its shutdown only; at the end it may finish what it has."""
    notes: list[str] = []

    class Slow(Async):
        @hookimpl
        async def on_event(self, event: Any) -> None:
            notes.append("event")
            await asyncio.sleep(0.1)
            notes.append("event over")

        @hookimpl
        def checkpoint(self) -> None:
            notes.append("checkpoint")

    def plugins(_: Any) -> list[Plugin]:
        return [make_plugin("slow", Slow("slow", notes))]

    async with in_process(tmp_path, plugins=plugins) as gateway:
        await gateway.post(b"{}")
        while "event" not in notes:
            await asyncio.sleep(0.001)
    assert notes == ["slow up", "event", "event over", "checkpoint", "slow down"]


async def test_a_gateway_that_did_not_start_leaves_nothing_open(tmp_path: Path) -> None:
    """The journal is closed cleanly, and the next start finds it so."""
    config = load_config(write_config(tmp_path))
    notes: list[str] = []

    failing = Gateway(config, [make_plugin("a", Async("a", notes)), make_plugin("b", Async("b", notes, up=raises))])
    with pytest.raises(StartFailed):
        await failing.start(lambda failure: None)
    assert notes == ["a up", "b up", "a down"]
    following = Gateway(config, [])
    await following.start(lambda failure: None)
    standing = await following.journal.take_cursor(Track("a"), True)
    assert isinstance(standing, Standing)
    assert standing.clean
    await following.stop()
