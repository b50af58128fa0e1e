"""What a delivery must get over: odd exceptions, a journal that stutters, plugins that change their pace."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest
from delivering import Async, Batches, Plain, Takes, delivering, journal_config

from gateway import Event, Payment, Reject, Retry, hookimpl
from gateway.journal import open_journal
from gateway.journal.interface import JournalError, JournalFull, Standing, Track


class _Unspeakable(Exception):
    def __str__(self) -> str:
        raise SystemExit("not even this")


@pytest.mark.parametrize("error", [ValueError("bad \udcff name"), _Unspeakable()])
@pytest.mark.parametrize("kind", [Plain, Async])
async def test_an_exception_that_cannot_be_shown_is_a_failure_like_any_other(
    tmp_path: Path, kind: type[Takes], error: Exception
) -> None:
    """It is written down and tried again, and what comes after it goes on."""
    plugin = kind({1: [error]})
    async with delivering(tmp_path, {"a": plugin}) as rig:
        await asyncio.gather(rig.send("x"), rig.send("x"), rig.send("y"))
        await rig.idle()
        assert sorted(plugin.taken) == [1, 2, 3]
        assert rig.states("a") == ["delivered"] * 3


def test_a_pause_is_a_number_of_seconds_or_a_timedelta() -> None:
    """Anything else is said where it is written, and the event is tried again as after any failure."""
    assert Retry(after=2).after == 2.0
    assert Retry(after=timedelta(minutes=1)).after == 60.0
    assert Retry().after is None
    for wrong in (-1, float("nan"), float("inf"), "soon"):
        with pytest.raises(ValueError):
            Retry(after=wrong)  # type: ignore[arg-type]


async def test_a_pause_that_a_plugin_asked_for_outlasts_a_restart(tmp_path: Path) -> None:
    """The usual pauses do not: whoever shortens them in the config wants them shorter."""
    first = Plain({1: [Retry(after=3600)], 2: [ValueError("no")]})
    async with delivering(tmp_path, {"a": first}, backoff=3600, backoff_max=3600) as rig:
        await asyncio.gather(rig.send("x"), rig.send("y"))
        await rig.until(lambda: rig.states("a") == ["retrying", "retrying"])
    second = Plain()
    async with delivering(tmp_path, {"a": second}) as rig:
        await rig.until(lambda: second.taken == [2])
        await asyncio.sleep(0.1)
        assert rig.states("a") == ["retrying", "delivered"]


async def test_no_thread_to_be_had_is_waited_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plugin is named as unhealthy meanwhile; no attempt is counted."""
    start = threading.Thread.start

    plugin = Plain()
    async with delivering(tmp_path, {"a": plugin}) as rig:

        def refuse(thread: threading.Thread) -> None:
            if thread.name.startswith("plugin-"):
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", refuse)
        await rig.send("x")
        await rig.until(lambda: rig.consumer("a").health.trouble is not None)
        assert "can't start new thread" in str(rig.consumer("a").health.trouble)
        monkeypatch.setattr(threading.Thread, "start", start)
        await rig.idle()
        assert [event.attempt for event in plugin.calls] == [1]
        assert rig.consumer("a").health.trouble is None


@pytest.mark.parametrize("name", ["read", "fetch", "scan"])
async def test_a_journal_that_cannot_be_read_for_a_while_stops_nothing_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Reading on, retries and replays wait, say so, and go on."""
    monkeypatch.setattr("gateway.delivery.reading.AGAIN", 0.01)

    plugin = Plain({2: [ValueError("no")]})
    async with delivering(tmp_path, {"a": plugin}) as rig:
        read, left = getattr(rig.journal, name), 3

        async def fails(*arguments: Any) -> Any:
            nonlocal left
            if left:
                left -= 1
                raise JournalError("the journal cannot be read")
            return await read(*arguments)

        setattr(rig.journal, name, fails)
        await asyncio.gather(rig.send("x"), rig.send("x"))
        await rig.idle()
        assert plugin.taken == [1, 2]
        await rig.replay("a")
        await rig.until(lambda: sorted(plugin.taken) == [1, 1, 2, 2])
        await rig.idle()
        assert left == 0


async def test_order_holds_when_a_checkpoint_fails_between(tmp_path: Path) -> None:
    """What was taken before a failure and has to come again comes before what was held behind that failure."""
    plugin = Batches()
    plugin.script = {2: [ValueError("no")], 3: [ValueError("no")]}
    async with delivering(tmp_path, {"a": plugin}, max_attempts=20) as rig:
        plugin.failures = 1
        await asyncio.gather(*(rig.send("x") for _ in range(5)))
        await rig.idle()
        assert plugin.durable[-5:] == [1, 2, 3, 4, 5]


async def test_a_dead_letter_stays_one_although_every_checkpoint_fails(tmp_path: Path) -> None:
    """What was taken comes again after the restart; what was rejected does not, or it would come after later events."""
    plugin = Batches()
    plugin.script = {2: [Reject("no")]}
    async with delivering(tmp_path, {"a": plugin}) as rig:
        await rig.send("x")
        await rig.idle()
        plugin.failures = 1_000_000
        await asyncio.gather(rig.send("x"), rig.send("x"))
        await rig.until(lambda: 3 in plugin.taken)
    plugin.failures = 0
    async with delivering(tmp_path, {"a": plugin}) as rig:
        await rig.idle()
        assert len(rig.dead()) == 1
        assert rig.states("a") == ["delivered", "dead", "delivered"]
    assert 2 not in plugin.taken


async def test_order_holds_when_the_cursor_is_behind_what_is_parked(tmp_path: Path) -> None:
    """As a crash leaves it: the first event was taken and not made durable, the second is parked, the third held."""
    first = Batches()
    first.script = {2: [Retry(after=0.05)] * 100}
    async with delivering(tmp_path, {"a": first}, max_attempts=1000) as rig:
        settle = rig.journal.settle

        async def without_the_cursor(settlement: Any) -> None:
            settlement.cursor = None
            await settle(settlement)

        rig.journal.settle = without_the_cursor  # type: ignore[method-assign]
        await asyncio.gather(*(rig.send("x") for _ in range(3)))
        await rig.until(lambda: len(first.calls) > 3)
    second = Batches()
    async with delivering(tmp_path, {"a": second}) as rig:
        await rig.idle()
        assert second.taken == [1, 2, 3]


async def test_looking_for_retried_dead_letters_brings_back_none_that_has_just_died(tmp_path: Path) -> None:
    """The journal is asked what is parked; before the answer is here, an event has its last attempt."""
    plugin = Plain({1: [Retry(after=0.3)] * 100})
    async with delivering(tmp_path, {"a": plugin}, max_attempts=2) as rig:
        changes: Any = rig.journal.changes

        async def slowly(name: str) -> Any:
            answer = await changes(name)
            await rig.until(lambda: rig.consumer("a").health.buried_count == 1)
            return answer

        await rig.send("x")
        await rig.until(lambda: rig.states("a") == ["retrying"])
        rig.journal.changes = slowly  # type: ignore[method-assign, assignment]
        await asyncio.gather(rig.delivery.refresh(), rig.delivery.refresh())
        await asyncio.sleep(0.3)
        assert len(plugin.calls) == 2
        assert rig.states("a") == ["dead"]


async def test_looking_for_retried_dead_letters_while_the_journal_has_no_room_brings_none_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A retried event was taken, another one died, and neither could be written yet: both are still parked in what the
    journal answers. A letter that is retried afterwards comes."""
    monkeypatch.setattr("gateway.delivery.settling.TRY_AGAIN", 0.01)
    plugin = Plain({1: [ValueError("no")], 2: [ValueError("no"), Reject("never")]})
    async with delivering(tmp_path, {"a": plugin}, backoff=0.3, backoff_max=0.3) as rig:
        settle: Any = rig.journal.settle
        full = refused = False

        async def settle_unless_full(settlement: Any) -> None:
            nonlocal refused
            refused = refused or full
            if full:
                raise JournalFull("no room")
            await settle(settlement)

        rig.journal.settle = settle_unless_full  # type: ignore[method-assign]
        monkeypatch.setattr("random.uniform", lambda least, most: most)
        await asyncio.gather(rig.send("x"), rig.send("y"))
        await rig.until(lambda: rig.states("a") == ["retrying", "retrying"])
        full = True
        await rig.until(lambda: len(plugin.calls) == 4 and refused and not rig.consumer("a").parked)
        await rig.delivery.refresh()
        assert rig.consumer("a").parked == 0
        full = False
        await rig.idle()
        assert rig.states("a") == ["delivered", "dead"]
        assert len(plugin.calls) == 4
        await rig.retry_dead()
        await rig.idle()
        assert plugin.taken == [1, 2]


async def test_all_retried_dead_letters_come_whatever_is_asked_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than are taken up at once, one that keeps failing among them, and a second look that finds nothing new."""
    monkeypatch.setattr("gateway.journal.sqlite.cursors.UNORDERED", 20)
    monkeypatch.setattr("gateway.delivery.parked.UNORDERED", 20)
    monkeypatch.setattr("gateway.delivery.service.TOP_UP", 0.01)

    plugin = Async({n: [Reject("no")] for n in range(1, 71)})
    plugin.script[1] = [Reject("no"), Retry(after=60)]
    async with delivering(tmp_path, {"a": plugin}) as rig:
        await asyncio.gather(*(rig.send(f"c{n}") for n in range(70)))
        await rig.until(lambda: len(rig.dead()) == 70)
        await rig.retry_dead()
        await rig.delivery.refresh()
        await rig.until(lambda: sorted(plugin.taken) == list(range(2, 71)))


class Mixed(Takes):
    """A coroutine for one hook, a plain function that never returns for another."""

    def __init__(self) -> None:
        super().__init__()
        self.over = threading.Event()

    @hookimpl
    def on_event(self, event: Event) -> None:
        self.over.wait()

    @hookimpl
    async def on_payment(self, event: Event, payload: Payment) -> None:
        self._take(event)


async def test_stuck_threads_behind_a_coroutine_cost_no_processor(tmp_path: Path) -> None:
    """Asked again now and then, not all the time."""
    plugin = Mixed()
    async with delivering(tmp_path, {"a": plugin}, concurrency=1, timeout=0.1, max_attempts=1000) as rig:
        for n in range(6):
            await rig.send(f"c{n}")
        await rig.until(lambda: "stuck" in str(rig.consumer("a").health.blocked))
        before = time.process_time()
        await asyncio.sleep(1.0)
        assert time.process_time() - before < 0.5
        plugin.over.set()


async def test_a_backlog_of_a_healthy_plugin_writes_no_row_per_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much it is behind: it has a cursor, and that is all."""
    monkeypatch.setattr("gateway.delivery.reading.WINDOW", 32)
    monkeypatch.setattr("gateway.delivery.machine.SLOW", 30.0)  # the machine may be

    class Slow(Takes):
        @hookimpl
        def on_event(self, event: Event) -> None:
            time.sleep(0.002)
            self._take(event)

    plugin = Slow()
    async with delivering(tmp_path, {"a": plugin}) as rig:
        await asyncio.gather(*(rig.send(f"c{n % 9}") for n in range(400)))
        parked = 0
        while not rig.consumer("a").idle:
            parked = max(parked, rig.consumer("a").parked)
            await asyncio.sleep(0.002)
        assert parked == 0
        assert len(plugin.taken) == 400


async def test_conversations_are_delivered_side_by_side_by_plain_functions_too(tmp_path: Path) -> None:
    """A call of some milliseconds, as to another system, is worth a thread."""

    class Calls(Takes):
        now = most = 0

        @hookimpl
        def on_event(self, event: Event) -> None:
            with self._lock:
                self.now += 1
                self.most = max(self.most, self.now)
            time.sleep(0.008)
            with self._lock:
                self.now -= 1
            self._take(event)

    plugin = Calls()
    async with delivering(tmp_path, {"a": plugin}, concurrency=8) as rig:
        await asyncio.gather(*(rig.send(f"c{n}") for n in range(300)))
        await rig.idle()
        assert 4 <= plugin.most <= 8


async def test_a_plugin_that_becomes_slow_is_noticed_soon(tmp_path: Path) -> None:
    """Although it was fast before, so that it gets many events at once."""

    class Turns(Takes):
        slow = False

        @hookimpl
        def on_event(self, event: Event) -> None:
            if self.slow:
                time.sleep(0.2)
                raise ConnectionError("gone")
            self._take(event)

    plugin = Turns()
    async with delivering(tmp_path, {"a": plugin}, max_attempts=1000, concurrency=1) as rig:
        await asyncio.gather(*(rig.send(f"c{n}") for n in range(1000)))
        await rig.idle()
        plugin.slow = True
        await asyncio.gather(*(rig.send(f"d{n}") for n in range(300)))
        began = time.monotonic()
        await rig.until(lambda: not rig.consumer("a").health.healthy)
        assert time.monotonic() - began < 10


async def test_an_event_that_no_thread_came_free_for_has_had_no_attempt(tmp_path: Path) -> None:
    """Each call is another attempt, and none is made for an event that was given up before."""

    class Hangs(Takes):
        def __init__(self) -> None:
            super().__init__()
            self.over = threading.Event()

        @hookimpl
        def on_event(self, event: Event) -> None:
            with self._lock:
                self.calls.append(event)
            self.over.wait()
            self._take(event)

    plugin = Hangs()
    async with delivering(tmp_path, {"a": plugin}, timeout=0.2, max_attempts=1000) as rig:
        for n in range(16):
            await rig.send(f"c{n}")
        await rig.until(lambda: "stuck" in str(rig.consumer("a").health.blocked))
        begun = list(plugin.calls)
        plugin.over.set()
        await rig.idle()
        attempts: dict[int, list[int]] = {}
        for event in begun:
            attempts.setdefault(event.fields()["n"], []).append(event.attempt)
        assert all(seen == list(range(1, len(seen) + 1)) for seen in attempts.values())
        assert set(plugin.taken) == set(range(1, 17))


async def test_a_plugin_that_rejects_everything_works(tmp_path: Path) -> None:
    """It said no, and said it properly: it is healthy, and asked as fast as any other."""
    plugin = Plain({n: [Reject("not for me")] for n in range(1, 201)})
    async with delivering(tmp_path, {"a": plugin}) as rig:
        await asyncio.gather(*(rig.send(f"c{n}") for n in range(200)))
        await rig.idle()
        assert len(rig.dead()) == 200
        assert rig.consumer("a").health.healthy


async def test_a_clean_end_on_the_way_forgets_no_suspicion(tmp_path: Path) -> None:
    """A start that failed, or a restart by hand, before what was in flight at the crash has been tried again: the next
    start is as cautious, and what was counted against an event stays."""
    config = journal_config(tmp_path)

    async def opened(clean: bool | None = None) -> tuple[bool, dict[int, int]]:
        """A gateway that dies in a delivery, or one that ends in one of two ways."""
        journal = open_journal(config)
        await journal.start()
        standing = await journal.take_cursor(Track("a"), True)
        assert isinstance(standing, Standing)
        if clean is None:
            await journal.mark_running(Track("a"), standing.epoch, 7)
        else:
            await journal.release_cursor(Track("a"), standing.epoch, clean)
        await journal.close()
        return standing.clean, standing.crashes

    assert await opened() == (True, {})
    assert await opened(clean=False) == (False, {7: 1})
    assert await opened() == (False, {7: 1})
    assert await opened(clean=True) == (False, {7: 2})
    assert await opened(clean=True) == (True, {7: 2})


async def test_a_damaged_cursor_stops_only_its_plugin(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The gateway starts, the log and the plugin's health say why, and the others get what comes."""
    async with delivering(tmp_path, {"a": Plain(), "b": Plain()}) as rig:
        await rig.send("x")
        await rig.idle()
        path = rig.config.journal.path
    with closing(apsw.Connection(str(path))) as database:
        database.execute("UPDATE cursors SET seq = 64 WHERE plugin = 'a'")
    other = Plain()
    async with delivering(tmp_path, {"a": Plain(), "b": other}) as rig:
        await rig.send("x")
        await rig.idle("b")
        assert other.taken == [1]
        trouble = f"the journal {path} is damaged: the cursor of plugin a is not what was written; run"
        assert (rig.consumer("a").health.trouble or "").startswith(trouble)
        assert not rig.consumer("a").healthy
        assert rig.consumer("b").healthy
        assert [line for line in caplog.messages if line.startswith("plugin a: gets no events until the journal is")]
        assert rig.journal.damaged == 1
