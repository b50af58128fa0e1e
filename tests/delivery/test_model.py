"""The delivery against a plain model: whatever happens in whatever order, nothing is lost, nothing comes twice
without a reason, and order holds within conversations.

`GATEWAY_MODEL_STEPS=50000` runs the long form; Hypothesis prints the seed and the steps of a failure.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
from delivering import Rig, journal_config
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from kit import ATTEMPTS, make_plugin

from gateway import Event, Reject, Retry, hookimpl
from gateway.delivery.service import Delivery
from gateway.journal.erasing import Retention
from gateway.journal.interface import Entry, Filter
from gateway.journal.sqlite.journal import SqliteJournal
from gateway.journal.sqlite.retention import prune

STEPS = int(os.environ.get("GATEWAY_MODEL_STEPS", "900"))
PER_EXAMPLE = 45
CONVERSATIONS = (None, "x", "y", "z")
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


class Scripted:
    """Takes events, or raises what the script has for them. Outlives the processes of the model."""

    def __init__(self) -> None:
        self.script: dict[int, list[BaseException]] = defaultdict(list)
        self.taken: list[int] = []
        self.seen: list[tuple[int, bool]] = []
        self.failed_for_good: set[int] = set()
        self.alive = True
        self.failing_checkpoints = 0
        self.on_failed_checkpoint: Callable[[], None] = lambda: None

    @hookimpl
    async def on_event(self, event: Event) -> None:
        n = event.fields()["n"]
        await asyncio.sleep(0)
        if not self.alive:
            raise asyncio.CancelledError
        if self.script[n]:
            error = self.script[n].pop(0)
            if isinstance(error, Reject) or event.attempt >= ATTEMPTS:
                self.failed_for_good.add(n)
            raise error
        self.taken.append(n)
        self.seen.append((n, event.redelivered))

    @hookimpl
    async def checkpoint(self) -> None:
        await asyncio.sleep(0)
        if self.failing_checkpoints:
            self.failing_checkpoints -= 1
            self.on_failed_checkpoint()
            raise OSError("no space left")


class DeliveryModel(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY))
        self.config = journal_config(self.folder, 'retention = "1h"\n')
        self.offset = 0.0
        self.plugins = {"a": Scripted(), "b": Scripted()}
        self.on = {"a"}
        self.numbers = 0
        self.conversations: dict[int, str | None] = {}
        self.expected: dict[str, set[int]] = {"a": set(), "b": set()}
        self.excused: dict[str, Counter[int]] = {"a": Counter(), "b": Counter()}
        self.out_of_order: dict[str, set[int]] = {"a": set(), "b": set()}
        self.discarded: dict[str, set[int]] = {"a": set(), "b": set()}
        for name, one in self.plugins.items():
            one.on_failed_checkpoint = partial(self.excuse_all, name)
        self.run(self.up())

    def excuse_all(self, name: str) -> None:
        self.excused[name].update(range(1, self.numbers + 100))  # those that come meanwhile too

    def run(self, work: object) -> object:
        return self.loop.run_until_complete(work)  # type: ignore[arg-type]

    async def up(self) -> None:
        self.journal = SqliteJournal(self.config, clock=lambda: time.time() + self.offset)
        await self.journal.start()
        for name in self.on:
            self.plugins[name].alive = True
        made = [make_plugin(name, self.plugins[name], from_start=name == "a") for name in sorted(self.on)]
        self.delivery = Delivery(made, self.journal, lambda: time.time() + self.offset)
        await self.delivery.start()
        self.rig = Rig(self.config, self.journal, self.delivery)
        self.rig._number = self.numbers

    async def down(self) -> None:
        await self.delivery.stop(30.0)  # a busy machine must not cut it short
        await self.journal.close()

    async def crash(self) -> None:
        """What the death of the process does. A dead letter that was not on disk is none: its event comes again,
        although later ones of its conversation have been taken."""
        for name in self.on:
            self.plugins[name].alive = False
            self.out_of_order[name].update(self.plugins[name].failed_for_good)
        await self.delivery.abandon()
        await self.journal.close()

    async def entries(self) -> Sequence[Entry]:
        return await self.journal.scan(Filter(), 0, self.journal.newest, 10**6)

    async def quiet(self) -> None:
        await self.rig.idle()

    # What can happen

    @rule(conversations=st.lists(st.sampled_from(CONVERSATIONS), min_size=1, max_size=6))
    def receive(self, conversations: list[str | None]) -> None:
        async def go() -> None:
            for conversation in conversations:
                self.numbers += 1
                self.conversations[self.numbers] = conversation
                for name in self.on:
                    self.expected[name].add(self.numbers)
                await self.rig.send(conversation)

        self.run(go())

    @rule(
        name=st.sampled_from("ab"),
        ahead=st.integers(1, 4),
        kind=st.sampled_from(("once", "twice", "always", "never", "later")),
    )
    def will_fail(self, name: str, ahead: int, kind: str) -> None:
        errors: dict[str, list[BaseException]] = {
            "once": [ValueError("no")],
            "twice": [SystemExit(1), ValueError("no")],
            "always": [ValueError("no"), OSError("no"), ValueError("no")],
            "never": [Reject("no")],
            "later": [Retry(after=0.003)],
        }
        self.plugins[name].script[self.numbers + ahead] = errors[kind]

    @rule(seconds=st.sampled_from((0.0, 0.001, 0.005, 0.02)))
    def wait(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @rule()
    def settle(self) -> None:
        self.run(self.quiet())

    @rule()
    def restart(self) -> None:
        self.run(self.down())
        self.run(self.up())

    @rule()
    def crashes(self) -> None:
        self.run(self.crash())
        for name in self.plugins:
            self.excuse_all(name)
        self.run(self.up())

    @rule(name=st.sampled_from("ab"), times=st.integers(1, 3))
    def checkpoints_will_fail(self, name: str, times: int) -> None:
        self.plugins[name].failing_checkpoints = times

    @rule(seconds=st.sampled_from((-7200.0, -1.0, 1.0, 600.0)))
    def clock_jumps(self, seconds: float) -> None:
        self.offset += seconds

    @rule()
    def retention_takes_all_it_may(self) -> None:
        async def go() -> None:
            future = int((time.time() + self.offset + 1) * 1_000_000)
            await self.journal.operate(lambda connection: prune(connection, future, Retention(0, {}), 0))
            if "b" not in self.on:  # its cursor has expired: it begins anew
                self.expected["b"].clear()

        self.run(go())

    @rule(name=st.sampled_from("ab"))
    def replay(self, name: str) -> None:
        if name not in self.on:
            return

        async def go() -> None:
            for entry in await self.entries():
                n = entry.event.fields()["n"]
                self.excused[name][n] += 1
                self.expected[name].add(n)
                self.out_of_order[name].add(n)
            await self.rig.replay(name)

        self.run(go())

    @rule()
    def retry_dead(self) -> None:
        async def go() -> None:
            for event_id, name in self.note_dead(self.out_of_order):  # and not those that die meanwhile
                await self.rig.retry_dead(Filter(ids=(event_id,), plugin=name))

        self.run(go())

    @rule()
    def discard_dead(self) -> None:
        async def go() -> None:
            await self.quiet()
            self.note_dead(self.discarded)
            await self.journal.discard_dead(Filter())

        self.run(go())

    @rule()
    def switch_b(self) -> None:
        self.run(self.quiet())
        self.run(self.down())
        self.on ^= {"b"}
        self.run(self.up())

    # What must hold

    def note_dead(self, where: dict[str, set[int]]) -> set[tuple[str, str]]:
        numbers, dead = self.numbers_by_id(), self.rig.dead()
        for event_id, name, _, _ in dead:
            where[name].add(numbers[event_id])
        return {(event_id, name) for event_id, name, *_ in dead}

    def numbers_by_id(self) -> dict[str, int]:
        import json

        reader = self.rig.reader()
        try:
            return {row.id: json.loads(bytes(row.body))["n"] for row in reader.events(Filter())}
        finally:
            reader.close()

    @invariant()
    def nothing_comes_again_without_a_reason(self) -> None:
        if not hasattr(self, "plugins"):
            return
        for name, one in self.plugins.items():
            for n, times in Counter(one.taken).items():
                assert times <= 1 + self.excused[name][n], f"{name} had {n} {times} times"
            first = set()
            for n, redelivered in one.seen:
                assert n not in first or redelivered, f"{name} had {n} again without being told"
                first.add(n)

    @invariant()
    def order_holds_within_conversations(self) -> None:
        if not hasattr(self, "plugins"):
            return
        for name, one in self.plugins.items():
            latest: dict[str, int] = {}
            seen: set[int] = set()
            for n in one.taken:
                conversation = self.conversations[n]
                if n in seen or conversation is None or n in self.out_of_order[name]:
                    continue
                seen.add(n)
                assert n > latest.get(conversation, 0), f"{name} had {n} after {latest[conversation]}"
                latest[conversation] = n

    def teardown(self) -> None:
        if not hasattr(self, "plugins"):
            return
        try:
            self.run(self.quiet())
            dead: dict[str, set[int]] = {"a": set(), "b": set()}
            self.note_dead(dead)
            for name in self.on:
                missing = self.expected[name] - set(self.plugins[name].taken) - dead[name] - self.discarded[name]
                assert not missing, f"{name} never had {missing}"
            self.nothing_comes_again_without_a_reason()
            self.order_holds_within_conversations()
        finally:
            self.run(self.down())
            self.loop.close()
            shutil.rmtree(self.folder)


DeliveryModel.TestCase.settings = settings(
    max_examples=max(1, STEPS // PER_EXAMPLE),
    stateful_step_count=PER_EXAMPLE,
    suppress_health_check=list(HealthCheck),
    database=None,
    phases=(Phase.generate,),
)
TestDeliveryModel = pytest.mark.timeout(max(120, STEPS // 5))(DeliveryModel.TestCase)
