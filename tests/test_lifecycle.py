"""Starting plugins in config order beside one another, and shutting them down in reverse."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from asgi import in_process
from kit import Signal, make_plugin
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
    raise SystemExit("not today")


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
    """A lifecycle of plugins around these instances; a startup may take 50 ms where one of them hangs."""
    made = [(getattr(instance, "name", "only"), instance) for instance in instances]
    hang = any(getattr(instance, "up", None) is hangs for instance in instances)
    plugins = [make_plugin(name, instance, startup_timeout=0.05 if hang else 5.0) for name, instance in made]
    return Lifecycle(load_config(write_config(directory)), plugins)


async def started(cycle: Lifecycle) -> None:
    """Start all in the background, and wait until they have."""
    cycle.begin()
    for plugin in cycle.plugins:
        async with asyncio.timeout(10):
            await plugin.startup.done.wait()


async def test_in_config_order_and_in_reverse(tmp_path: Path) -> None:
    """Also those that have nothing to start are shut down; a second stop does nothing."""
    notes: list[str] = []
    cycle = lifecycle_of(tmp_path, Async("a", notes), OnlyDown(notes), Plain("b", notes), Async("c", notes))

    await started(cycle)
    assert notes == ["a up", "b up", "c up"]
    notes.clear()
    await cycle.stop(1)
    assert notes == ["c down", "b down", "only down", "a down"]
    await cycle.stop(1)
    assert len(notes) == 4


FAILING = [
    (lambda n: Async("b", n, up=raises), "OSError", "nothing answers at db.internal for …"),
    (lambda n: Async("b", n, up=exits), "SystemExit", "not today"),
    (lambda n: Async("b", n, up=hangs), "CallTimeout", "no answer within 0.05 s"),
    (lambda n: Plain("b", n, ValueError("not today")), "ValueError", "not today"),
    (lambda n: Plain("b", n, SystemExit("not today")), "SystemExit", "not today"),
    (lambda n: Plain("b", n, KeyboardInterrupt("not today")), "KeyboardInterrupt", "not today"),
]


@pytest.mark.parametrize(("make", "kind", "message"), FAILING)
async def test_a_startup_that_fails_holds_back_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, make: Callable[[list[str]], Any], kind: str, message: str
) -> None:
    """It is cleaned up with `shutdown` and tried again, while the others start. The log has type and place, and the
    message only where the gateway made it."""
    notes: list[str] = []
    cycle = lifecycle_of(tmp_path, Async("a", notes), OnlyDown(notes), make(notes), Async("c", notes))
    a, only, b, c = cycle.plugins

    cycle.begin()
    async with asyncio.timeout(10):
        for plugin in (a, only, c):
            await plugin.startup.done.wait()
        while notes.count("b up") < 3:
            await asyncio.sleep(0.001)
    assert b.startup.state == "starting"
    assert b.startup.trouble is not None
    await cycle.stop(1)
    assert notes[:2] == ["a up", "b up"]
    assert [note for note in notes if note.startswith("b")] == ["b up", "b down"] * notes.count("b up")
    assert [note for note in notes if not note.startswith("b")] == ["a up", "c up", "c down", "only down", "a down"]
    logged = next(line for line in caplog.messages if "its events wait" in line)
    assert logged.startswith(f"plugin b: startup failed: {kind}")
    assert (message in logged) is (kind == "CallTimeout")
    assert (" at test_lifecycle.py:" in logged) is (kind != "CallTimeout")


@pytest.mark.parametrize(("make", "kind", "message"), FAILING)
async def test_a_single_start_unwinds(
    tmp_path: Path, make: Callable[[list[str]], Any], kind: str, message: str
) -> None:
    """For a command: what has started is shut down in reverse, those behind never start, and one sentence says why."""
    notes: list[str] = []
    cycle = lifecycle_of(tmp_path, Async("a", notes), OnlyDown(notes), make(notes), Async("c", notes))

    with pytest.raises(StartFailed) as caught:
        await cycle.start()
    reason = message if kind == "CallTimeout" else f"{kind}: {message}"
    assert str(caught.value) == f"plugin b did not start: {reason}"
    assert notes == ["a up", "b up", "b down", "only down", "a down"]


async def test_the_pauses_between_attempts_grow_to_their_maximum(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They double from `backoff` to `backoff_max`."""
    failing = make_plugin("b", Async("b", [], up=raises), backoff=0.01, backoff_max=0.04)
    cycle = Lifecycle(load_config(write_config(tmp_path)), [failing])

    pauses: list[float] = []
    failed = failing.startup.failed

    def noted(told: str, pause: float) -> None:
        pauses.append(pause)
        failed(told, pause)

    failing.startup.failed = noted  # type: ignore[method-assign]
    cycle.begin()
    async with asyncio.timeout(10):
        while len(pauses) < 5:
            await asyncio.sleep(0.001)
    await cycle.stop(1)
    assert pauses[:5] == [0.01, 0.02, 0.04, 0.04, 0.04]


async def test_a_slow_startup_holds_the_next_one_back_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Then the next one begins beside it, and the log says what is being waited for."""
    monkeypatch.setattr(lifecycle, "TURN", 0.02)
    monkeypatch.setattr(lifecycle, "STILL_WAITING", 0.02)
    notes: list[str] = []
    go_on = Signal()

    async def slow() -> None:
        await go_on.wait()

    cycle = lifecycle_of(tmp_path, Async("a", notes, up=slow), Async("c", notes))
    first, last = cycle.plugins
    with caplog.at_level("INFO"):
        cycle.begin()
        async with asyncio.timeout(10):
            await last.startup.done.wait()
            while not any(
                line.startswith("still waiting for plugin a: its startup has taken") for line in caplog.messages
            ):
                await asyncio.sleep(0.001)
            assert (first.startup.state, last.startup.state) == ("starting", "started")
            go_on.set()
            await first.startup.done.wait()
            while not any(line.startswith("every plugin has started, after ") for line in caplog.messages):
                await asyncio.sleep(0.001)
    await cycle.stop(1)
    assert notes == ["a up", "c up", "c down", "a down"]


async def test_a_stop_while_a_startup_hangs(tmp_path: Path) -> None:
    """It is broken off, and shut down; a plugin whose turn has not come is not."""
    notes: list[str] = []
    cycle = lifecycle_of(tmp_path, Async("a", notes), Async("b", notes, up=hangs), Async("c", notes))

    cycle.begin()
    async with asyncio.timeout(10):
        while "b up" not in notes:
            await asyncio.sleep(0.001)
    began = time.monotonic()
    await cycle.stop(0.4)
    assert time.monotonic() - began < 3
    assert notes == ["a up", "b up", "b down", "a down"]


@pytest.mark.parametrize(("down", "reason"), [(raises, "OSError"), (exits, "SystemExit"), (hangs, "no answer within")])
async def test_a_shutdown_that_fails_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, down: Behaviour, reason: str
) -> None:
    """And the next still runs, within the time there is."""
    notes: list[str] = []
    cycle = lifecycle_of(tmp_path, Async("a", notes), Async("b", notes, down=down), Async("c", notes, down=down))

    await started(cycle)
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


async def test_a_stop_before_a_plugin_has_started_leaves_nothing_behind(tmp_path: Path) -> None:
    """Its cursor stays where it was, before the event that came meanwhile, and the next start finds it clean."""
    notes: list[str] = []

    class Takes(Async):
        @hookimpl
        async def on_event(self, event: Any) -> None:
            notes.append("event")

    def failing(_: Any) -> list[Plugin]:
        return [make_plugin("b", Takes("b", notes, up=raises), from_start=False)]

    async with in_process(tmp_path, plugins=failing, started=False) as gateway:
        assert (await gateway.post(b"{}")).status == 200
    assert "event" not in notes
    following = Gateway(load_config(tmp_path / "config.toml"), [])
    await following.start(lambda failure: None)
    standing = await following.journal.take_cursor(Track("b"), from_start=False)
    assert isinstance(standing, Standing)
    assert (standing.clean, standing.cursor) == (True, 0)
    await following.stop()
