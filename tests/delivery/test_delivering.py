"""Events reach each plugin, in order within their conversation, whatever others do."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from delivering import Async, Batches, Plain, Takes, delivering

from gateway import Event, Payment, Reject, Retry, hookimpl
from gateway.journal.interface import Filter

BOTH = pytest.mark.parametrize("kind", [Plain, Async])


@BOTH
async def test_every_event_comes_once_in_order_of_its_conversation(tmp_path: Path, kind: type[Takes]) -> None:
    """Within a conversation events come in the order of receipt, and each of them once."""
    plugin = kind()
    async with delivering(tmp_path, {"a": plugin}) as rig:
        await asyncio.gather(*(rig.send(f"c{n % 7}") for n in range(300)))
        await rig.idle()
        by_conversation: dict[str | None, list[int]] = {}
        for event in plugin.calls:
            by_conversation.setdefault(event.conversation_id, []).append(event.fields()["n"])
        assert len(plugin.taken) == 300 == len(set(plugin.taken))
        assert len(by_conversation) == 7
        assert all(numbers == sorted(numbers) for numbers in by_conversation.values())
        assert rig.states("a") == ["delivered"] * 300


@BOTH
async def test_a_failing_event_holds_back_its_own_conversation_only(tmp_path: Path, kind: type[Takes]) -> None:
    """What failed is retried; later events of its conversation wait for it, and others do not."""
    plugin = kind({1: [ValueError("no"), ValueError("no")]})
    async with delivering(tmp_path, {"a": plugin}, backoff=0.05, backoff_max=0.1) as rig:
        for conversation in ("x", "y", "x", None, "x"):
            await rig.send(conversation)
        await rig.until(lambda: {2, 4} <= set(plugin.taken))
        assert 3 not in plugin.taken
        await rig.idle()
        assert [n for n in plugin.taken if n in (1, 3, 5)] == [1, 3, 5]
        assert [event.attempt for event in plugin.calls if event.fields()["n"] == 1] == [1, 2, 3]
        assert rig.states("a") == ["delivered"] * 5


async def test_unordered_plugins_wait_for_nothing(tmp_path: Path) -> None:
    """`ordered = false` lifts the order: later events of the conversation pass a failing one."""
    plugin = Plain({1: [ValueError("no")]})
    async with delivering(tmp_path, {"a": plugin}, ordered=False, backoff=30, backoff_max=30) as rig:
        for _ in range(3):
            await rig.send("x")
        await rig.until(lambda: plugin.taken == [2, 3])
        await rig.until(lambda: rig.states("a") == ["retrying", "delivered", "delivered"])


@BOTH
async def test_after_the_last_attempt_an_event_is_a_dead_letter_and_its_conversation_goes_on(
    tmp_path: Path, kind: type[Takes]
) -> None:
    plugin = kind({1: [ValueError("call 447717472695 back")] * 9999})
    async with delivering(tmp_path, {"a": plugin}, give_up_after=3600) as rig:
        first = await rig.send("x")
        await rig.send("x")
        while not rig.dead():
            await rig.send("y")
            await asyncio.sleep(0.002)
        await rig.idle()
        plugin.taken = [n for n in plugin.taken if n <= 2]
        assert plugin.taken == [2]
        [(*letter, error)] = rig.dead()
        assert letter == [first.id, "a", 3]
        assert re.fullmatch(r"ValueError at \w+\.py:\d+: call … back", error)
        assert rig.states("a")[:2] == ["dead", "delivered"]
        plugin.script.clear()
        assert await rig.retry_dead() == 1
        await rig.idle()
        assert plugin.taken == [2, 1]
        assert rig.dead() == []


@BOTH
async def test_a_plugin_can_say_never_and_later(tmp_path: Path, kind: type[Takes]) -> None:
    """`Reject` makes a dead letter at once; `Retry(after)` is waited for, not the backoff."""
    plugin = kind({1: [Reject("no such account")], 2: [Retry(after=0.15)]})
    async with delivering(tmp_path, {"a": plugin}) as rig:
        await rig.send("x")
        began = time.monotonic()
        await rig.send("y")
        await rig.idle()
        assert time.monotonic() - began >= 0.15
        assert plugin.taken == [2]
        [(_, *letter, error)] = rig.dead()
        assert letter == ["a", 1]
        assert re.fullmatch(r"Reject at \w+\.py:\d+: no such account", error)


class _Ends(BaseException):
    pass


@BOTH
@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), _Ends(), asyncio.CancelledError(), StopIteration()]
)
async def test_whatever_a_plugin_raises_is_a_failure_of_its_own(
    tmp_path: Path, kind: type[Takes], error: BaseException
) -> None:
    bad, good = kind({1: [error]}), kind()
    async with delivering(tmp_path, {"bad": bad, "good": good}) as rig:
        await rig.send("x")
        await rig.send("x")
        await rig.idle()
        assert bad.taken == good.taken == [1, 2]


class HangsInThread(Takes):
    def __init__(self) -> None:
        super().__init__()
        self.release = threading.Event()

    @hookimpl
    def on_event(self, event: Event) -> None:
        if event.fields()["n"] == 1 and event.attempt == 1:
            self.release.wait(20)
        self._take(event)


class HangsInTask(Takes):
    @hookimpl
    async def on_event(self, event: Event) -> None:
        if event.fields()["n"] == 1 and event.attempt == 1:
            while True:
                try:
                    await asyncio.sleep(20)
                except asyncio.CancelledError:
                    if event.fields().get("stubborn"):
                        continue
                    raise
        self._take(event)


@pytest.mark.parametrize("kind", [HangsInThread, HangsInTask])
async def test_a_call_that_hangs_is_given_up_and_tried_again(tmp_path: Path, kind: type[Takes]) -> None:
    """Its timeout is a failure; meanwhile other conversations go on."""
    plugin = kind()
    async with delivering(tmp_path, {"a": plugin}, timeout=0.3) as rig:
        await rig.send("x")
        await rig.send("x")
        await rig.send("y")
        await rig.until(lambda: 3 in plugin.taken)
        await rig.idle()
        assert plugin.taken == [3, 1, 2]
        if isinstance(plugin, HangsInThread):
            plugin.release.set()


async def test_the_window_does_not_stop_behind_one_slow_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More events than the window holds get past one whose call takes long."""
    monkeypatch.setattr("gateway.delivery.reading.WINDOW", 32)

    plugin = HangsInThread()
    async with delivering(tmp_path, {"a": plugin}, timeout=30) as rig:
        await rig.send("x")
        for _ in range(100):
            await rig.send("y")
        await rig.until(lambda: len(plugin.taken) == 100)
        await rig.until(lambda: rig.states("a") == ["retrying"] + ["delivered"] * 100)
        plugin.release.set()
        await rig.idle()
        assert plugin.taken[-1] == 1
        assert rig.states("a") == ["delivered"] * 101


async def test_own_hooks_come_after_on_event_and_only_for_their_hook(tmp_path: Path) -> None:
    """`on_event` sees everything, unreadable and unknown too; `on_payment` gets typed payments only."""

    class Both:
        def __init__(self) -> None:
            self.calls: list[tuple[str, str]] = []

        @hookimpl
        def on_event(self, event: Event) -> None:
            self.calls.append(("event", event.hook))

        @hookimpl
        async def on_payment(self, payload: Payment, event: Event) -> None:
            assert isinstance(payload, Payment)
            self.calls.append(("payment", str(payload.conversation_id)))

    plugin = Both()
    async with delivering(tmp_path, {"a": plugin}) as rig:
        await rig.send("x")
        await rig.send("x", type="newThing")
        await rig.send("x", customerUID={"not": "text"})
        await rig.idle()
        assert plugin.calls == [("event", "payment"), ("payment", "x"), ("event", "unknown"), ("event", "payment")]


async def test_the_cursor_moves_after_the_checkpoint_only(tmp_path: Path) -> None:
    plugin = Batches()
    async with delivering(tmp_path, {"a": plugin}) as rig:
        for _ in range(20):
            await rig.send("x")
            assert rig.states("a").count("delivered") <= len(plugin.durable)
        await rig.idle()
        assert plugin.durable == list(range(1, 21))


async def test_when_a_checkpoint_fails_its_batch_comes_again(tmp_path: Path) -> None:
    """Nothing counts as delivered, the plugin is unhealthy meanwhile, and no event becomes a dead letter for it."""
    plugin = Batches(failures=5)
    async with delivering(tmp_path, {"a": plugin, "b": Plain()}) as rig:
        await rig.send("x")
        await rig.send("y")
        await rig.until(lambda: plugin.failures <= 3)
        assert not rig.consumer("a").health.healthy
        await rig.idle()
        assert rig.dead() == []
        assert rig.consumer("a").health.healthy
        assert {event.fields()["n"] for event in plugin.calls if event.redelivered} == {1, 2}
        assert plugin.durable[-2:] in ([1, 2], [2, 1])


async def test_a_new_plugin_begins_at_the_end_or_at_the_start(tmp_path: Path) -> None:
    async with delivering(tmp_path, {"a": Plain()}) as rig:
        await rig.send("x")
        await rig.idle()
    late, early = Plain(), Plain()
    async with delivering(tmp_path, {"late": late}, from_start=False) as rig:
        assert rig.states("late") == [None]
        await rig.send("x", n=2)
        await rig.idle()
        assert late.taken == [2]
    async with delivering(tmp_path, {"early": early}) as rig:
        await rig.idle()
        assert early.taken == [1, 2]


async def test_a_restart_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """What was delivered does not come again; what was not, does, retries included."""
    first = Plain({2: [ValueError("no")]})
    async with delivering(tmp_path, {"a": first}, backoff=60, backoff_max=60) as rig:
        for conversation in ("x", "y", "y", "z"):
            await rig.send(conversation)
        await rig.until(lambda: rig.states("a") == ["delivered", "retrying", "waiting", "delivered"])
    second = Plain()
    async with delivering(tmp_path, {"a": second}, backoff_max=0.01) as rig:
        await rig.idle()
        assert second.taken == [2, 3]
        assert [event.attempt for event in second.calls] == [2, 1]
        assert rig.states("a") == ["delivered"] * 4


async def test_a_replay_delivers_a_range_again(tmp_path: Path) -> None:
    """To that plugin only, with the same ids, marked as replayed, in order; what is dead is then delivered."""
    a, b = Plain({3: [Reject("no")]}), Plain()
    async with delivering(tmp_path, {"a": a, "b": b}) as rig:
        ids = [(await rig.send(conversation)).id for conversation in ("x", "y", "x", "y")]
        await rig.idle()
        assert len(rig.dead()) == 1
        a.calls.clear()
        await rig.replay("a", conversation="x")
        await rig.idle()
        assert [(event.id, event.replayed, event.redelivered) for event in a.calls] == [
            (ids[0], True, True),
            (ids[2], True, True),
        ]
        assert len(b.calls) == 4
        assert rig.dead() == []
        assert rig.states("a") == ["delivered"] * 4


async def test_a_replay_of_many_goes_on_after_a_restart(tmp_path: Path) -> None:
    async with delivering(tmp_path, {"a": Plain()}) as rig:
        await asyncio.gather(*(rig.send(f"c{n % 5}") for n in range(1500)))
        await rig.idle()
    slow = Takes()

    class Slow(Plain):
        @hookimpl
        def on_event(self, event: Event) -> None:
            time.sleep(0.0005)
            slow._take(event)

    async with delivering(tmp_path, {"a": Slow()}) as rig:
        number = await rig.replay("a")
        await rig.until(lambda: len(slow.calls) > 300)
    assert len(slow.calls) < 1500
    async with delivering(tmp_path, {"a": Slow()}) as rig:
        await rig.idle()
        operation = await rig.journal.operation(number)
        assert operation is not None
        assert (operation.done, operation.state) == (1500, "finished")
    assert {event.fields()["n"] for event in slow.calls} == set(range(1, 1501))


async def test_a_failing_event_of_a_replay_is_retried_and_dies_like_any_other(tmp_path: Path) -> None:
    plugin = Plain()
    async with delivering(tmp_path, {"a": plugin}) as rig:
        await rig.send("x")
        await rig.send("x")
        await rig.idle()
        plugin.script = {1: [ValueError("no")] * 9}
        await rig.replay("a")
        await rig.idle()
        assert plugin.taken == [1, 2, 2]
        assert rig.states("a") == ["dead", "delivered"]


async def test_a_plugin_that_is_stuck_altogether_is_named_unhealthy_and_recovers(tmp_path: Path) -> None:
    """All its threads hang: it takes nothing more until one comes back; the other plugin has everything."""

    class Stuck(Takes):
        def __init__(self) -> None:
            super().__init__()
            self.release = threading.Event()

        @hookimpl
        def on_event(self, event: Event) -> None:
            self.release.wait(20)
            self._take(event)

    stuck, good, before = Stuck(), Plain(), threading.active_count()
    async with delivering(
        tmp_path, {"stuck": stuck, "good": good}, timeout=0.02, concurrency=2, max_attempts=1000
    ) as rig:
        for n in range(30):
            await rig.send(f"c{n}")
        await rig.idle("good")
        await rig.until(lambda: not rig.consumer("stuck").health.healthy)
        await rig.until(lambda: rig.consumer("stuck").health.blocked is not None)
        assert threading.active_count() < before + 20
        stuck.release.set()
        await rig.idle()
        assert set(stuck.taken) == set(good.taken) == set(range(1, 31))


async def test_states_can_be_filtered(tmp_path: Path) -> None:
    plugin = Plain({1: [Reject("no")], 2: [ValueError("no")]})
    async with delivering(tmp_path, {"a": plugin}, backoff=60, backoff_max=60) as rig:
        for conversation in ("x", "y", "y", "z"):
            await rig.send(conversation)
        await rig.until(lambda: rig.states("a") == ["dead", "retrying", "waiting", "delivered"])
        reader = rig.reader()
        for number, state in enumerate(("dead", "retrying", "waiting", "delivered"), 1):
            for name in ("a", None):
                [row] = reader.events(Filter(state=state, plugin=name))
                assert row.deliveries == {"a": state}
                assert f'"n": {number}' in bytes(row.body).decode()
                assert reader.count(Filter(state=state, plugin=name)) == 1
        reader.close()


async def test_memory_does_not_grow_with_what_is_parked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin that fails everything reads no further than its bound of parked events."""
    monkeypatch.setattr("gateway.delivery.reading.PARKED", 50)

    class Down(Takes):
        down = True

        @hookimpl
        def on_event(self, event: Event) -> None:
            if self.down:
                raise ConnectionError("down")
            self._take(event)

    plugin: Any = Down()
    async with delivering(tmp_path, {"a": plugin}, max_attempts=100_000, concurrency=1) as rig:
        await asyncio.gather(*(rig.send(f"c{n}") for n in range(1000)))
        await rig.until(lambda: rig.consumer("a").parked >= 50)
        assert rig.consumer("a").parked <= 50 + 256
        plugin.down = False
        await rig.idle()
        assert set(plugin.taken) == set(range(1, 1001))


async def test_dead_letters_are_named_in_the_log_and_a_flood_of_them_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each of a few with plugin and event; of many the first, and how many more there were, though no other follows."""
    monkeypatch.setattr("gateway.delivery.health.QUIET", 1.0)

    plugin = Plain({n: [Reject("no")] for n in range(1, 13)})
    async with delivering(tmp_path, {"a": plugin}) as rig:
        receipts = await asyncio.gather(*(rig.send() for _ in range(12)))
        await rig.until(lambda: caplog.messages[-1:] == ["plugin a: 2 more dead letters"])
        named = [line for line in caplog.messages if "is a dead letter" in line]
        assert named == [f"plugin a: event {receipt.id} is a dead letter after attempt 1" for receipt in receipts[:10]]


async def test_a_great_many_retried_dead_letters_all_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than are taken up at once: the rest follows, each once, while new events are not held up."""
    monkeypatch.setattr("gateway.journal.sqlite.cursors.UNORDERED", 20)
    monkeypatch.setattr("gateway.delivery.parked.UNORDERED", 20)
    monkeypatch.setattr("gateway.delivery.service.TOP_UP", 0.01)

    plugin = Plain({n: [Reject("no")] for n in range(1, 71)})
    async with delivering(tmp_path, {"a": plugin}) as rig:
        await asyncio.gather(*(rig.send(f"c{n}") for n in range(70)))
        await rig.idle()
        assert len(rig.dead()) == 70
        assert await rig.retry_dead() == 70
        await rig.until(lambda: len(plugin.taken) == 70)
        await rig.idle()
        assert sorted(plugin.taken) == list(range(1, 71))
        assert rig.states("a") == ["delivered"] * 70


async def test_a_plugin_that_is_down_is_asked_now_and_then_only(tmp_path: Path) -> None:
    """Single events probe it until one works, with pauses that grow; the others wait without an attempt."""

    class Down(Takes):
        down = True
        asked = 0

        @hookimpl
        def on_event(self, event: Event) -> None:
            self.asked += 1
            if self.down:
                raise ConnectionError("down")
            self._take(event)

    plugin, good = Down(), Plain()
    async with delivering(tmp_path, {"a": plugin, "good": good}, backoff_max=0.5) as rig:
        for n in range(25):
            await rig.send(f"c{n}")
        await rig.until(lambda: rig.consumer("a").health.outage.probing)
        before, began = plugin.asked, time.monotonic()
        await asyncio.gather(*(rig.send(f"d{n}") for n in range(500)))
        await rig.idle("good")
        await rig.until(lambda: plugin.asked > before + 2)
        assert plugin.asked - before <= (time.monotonic() - began) / 0.02 + 5
        assert rig.consumer("a").parked < 100
        plugin.down = False
        await rig.idle()
        assert sorted(plugin.taken) == list(range(1, 526))
        assert rig.dead() == []


async def test_what_could_not_be_read_can_be_replayed_when_it_can(tmp_path: Path) -> None:
    """An event of an unknown type is typed, and goes to its own hook, once the config names that type."""

    class Payments(Takes):
        @hookimpl
        def on_payment(self, event: Event, payload: Payment) -> None:
            self._take(event)
            assert payload.extra["n"] == 1

    plugin = Payments()
    async with delivering(tmp_path, {"a": plugin}) as rig:
        receipt = await rig.send("x", type="webioPayment")
        assert receipt.hook == "unknown"
        await rig.idle()
    assert plugin.taken == []
    async with delivering(tmp_path, {"a": plugin}, '[hooks.payment]\ntypes = ["webioPayment"]\n') as rig:
        await rig.replay("a", hook="unknown")
        await rig.idle()
        assert plugin.taken == [1]
        assert [(event.id, event.hook, event.replayed) for event in plugin.calls] == [(receipt.id, "payment", True)]
