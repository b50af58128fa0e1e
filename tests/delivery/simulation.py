"""The real delivery on virtual time: one seed is one history of events, plugins that misbehave, crashes and operators.

`python tests/delivery/simulation.py SEED` runs one history, with its log."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

from delivering import plugin
from virtual_time import run_virtually

from gateway import Event, Reject, Retry, hookimpl
from gateway.delivery import conversations, dispatching, reading, replaying, service, settling
from gateway.delivery.service import Delivery
from gateway.journal.interface import Filter, HeldBy, JournalError, JournalFull, Track
from gateway.log import RateLimit
from gateway.plugin_host import event_calls

CONVERSATIONS = (None, "x", "y", "z")
MAX_ATTEMPTS = 4
PATIENCE = 100_000.0
"""Virtual seconds within which everything must have come to rest."""


class Broken(AssertionError):
    """What must hold does not."""


class Slow:
    """A journal that takes its time, has no room now and then, and may be cut off before or after a write."""

    def __init__(self, world: World, journal: Any) -> None:
        self.inner = journal
        self._world = world
        self.on_commit = journal.on_commit

    @property
    def newest(self) -> int:
        return int(self.inner.newest)

    async def take_cursor(self, track: Track, from_start: bool) -> Any:
        if self._world.odds(0.05):
            return HeldBy("another", self._world.clock() + 3.0)
        return await self._slowly("take_cursor", track, from_start)

    async def settle(self, settlement: Any) -> None:
        if self._world.odds(0.05):
            raise JournalFull("no room")
        await self._slowly("settle", settlement)

    async def _slowly(self, name: str, *arguments: Any, **named: Any) -> Any:
        world = self._world
        if name in ("read", "fetch", "scan") and world.odds(0.02):
            raise JournalError("cannot be read now")
        if world.odds(0.3):
            await asyncio.sleep(world.chance.choice((0, 0.001, 0.1)))
        result = await getattr(self.inner, name)(*arguments, **named)
        if world.odds(0.3):
            await asyncio.sleep(world.chance.choice((0, 0.001, 0.1)))
        return result

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*arguments: Any, **named: Any) -> Any:
            return await self._slowly(name, *arguments, **named)

        return call


class Scripted:
    """Decides by chance what becomes of a call, and remembers all of them."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.calls: Counter[int] = Counter()
        self.taken: list[int] = []
        self.unsure: set[int] = set()
        """Taken since the last checkpoint."""
        self.durable: set[int] = set()
        self.final: set[int] = set()
        """Settled for certain: they come again only when an operator says so."""
        self.failures: Counter[int] = Counter()
        self.died: set[int] = set()
        """May be dead: had all attempts, was rejected, or has killed the process."""
        self.in_any_order: set[int] = set()
        self.asked_again: set[int] = set()
        self.with_it: Counter[tuple[int, str]] = Counter()
        self.down = False
        self.killers: set[int] = set()

    async def take(self, event: Event) -> None:
        world, n, process = self.world, event.fields()["n"], self.world.process
        world.say(f"{self.name} has {n} {event.conversation_id} attempt {event.attempt} {event.redelivered=}")
        world.hold(self.calls[n] == 0 or event.redelivered, f"{self.name} had {n} again without being told")
        world.hold(n not in self.final or n in self.asked_again, f"{self.name} had {n} again without a reason")
        self.calls[n] += 1
        key = (process, event.conversation_id) if event.conversation_id and n not in self.in_any_order else None
        if key is not None:
            world.hold(not self.with_it[key], f"{self.name} had {n} beside another of {key}")
            self.with_it[key] += 1
        try:
            await self.decide(event, n)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self.failures[n] += 1
            if isinstance(error, Reject) or event.attempt >= MAX_ATTEMPTS:
                self.died.add(n)
            raise
        finally:
            if key is not None:
                self.with_it[key] -= 1
        if process == world.process:
            self.took(n, event.conversation_id)

    def took(self, n: int, conversation: str | None) -> None:
        if n not in self.taken and conversation is not None and n not in self.in_any_order | self.died:
            later = [
                m
                for m in self.taken
                if m > n and self.world.conversations[m] == conversation and m not in self.in_any_order
            ]
            self.world.hold(not later, f"{self.name} took {n} after {later}")
        self.world.say(f"{self.name} took {n}")
        self.taken.append(n)
        self.unsure.add(n)

    async def decide(self, event: Event, n: int) -> None:
        world = self.world
        if n in self.killers:
            self.died.add(n)
            world.dies.set()
            await asyncio.sleep(10**6)
        await asyncio.sleep(world.chance.choice((0, 0, 0, 0.001, 0.1)))
        if world.calm:
            return
        if self.down or world.odds(0.12):
            raise world.chance.choice((ValueError("no"), OSError("no"), SystemExit(1)))
        if world.odds(0.03):
            raise Reject("never")
        if world.odds(0.05):
            raise Retry(after=world.chance.choice((0.0, 0.01, 5.0, 600.0)))
        if world.odds(0.04):
            await asyncio.sleep(world.chance.choice((1.5, 4.0, 40.0)))  # slow, or longer than its timeout

    async def check(self) -> None:
        process, unsure = self.world.process, set(self.unsure)
        await asyncio.sleep(self.world.chance.choice((0, 0, 0.01, 0.5)))
        if not self.world.calm and self.world.odds(0.15):
            raise OSError("disk full")
        if process == self.world.process:
            self.world.say(f"{self.name} has made durable {sorted(unsure)}")
            self.durable |= unsure


class WithCheckpoint(Scripted):
    @hookimpl
    async def on_event(self, event: Event) -> None:
        await self.take(event)

    @hookimpl
    async def checkpoint(self) -> None:
        await self.check()


class Without(Scripted):
    @hookimpl
    async def on_event(self, event: Event) -> None:
        await self.take(event)
        self.durable.add(event.fields()["n"])


class World:
    """One history."""

    def __init__(self, seed: int | str, open_engine: Callable[[Callable[[], float]], Any], loud: bool = False) -> None:
        self.chance = random.Random(f"world {seed}")
        self.loud = loud
        self.calm = False
        self.broken: str | None = None
        self.process = 0
        self.dies = asyncio.Event()
        self.offset = 0.0
        self.numbers = 0
        self.conversations: dict[int, str | None] = {}
        self.plugins: dict[str, Scripted] = {"a": WithCheckpoint(self, "a"), "b": Without(self, "b")}
        self.settings = {
            "max_attempts": MAX_ATTEMPTS,
            "backoff": 0.5,
            "backoff_max": 8.0,
            "timeout": 10.0,
            "concurrency": self.chance.choice((1, 2, 4)),
            "ordered": True,
        }
        self.made = [plugin(name, one, **self.settings) for name, one in self.plugins.items()]
        self.engine = open_engine(self.clock)
        self.journal = Slow(self, self.engine)
        self.delivery: Delivery

    def clock(self) -> float:
        return 1_000_000.0 + asyncio.get_running_loop().time() + self.offset

    def odds(self, share: float) -> bool:
        return not self.calm and self.chance.random() < share

    def say(self, line: str) -> None:
        if self.loud:
            print(f"{asyncio.get_running_loop().time():10.3f} {line}")

    def hold(self, condition: bool, otherwise: str) -> None:
        if not condition:
            self.say(f"BROKEN: {otherwise}")
            self.broken = self.broken or otherwise

    # Steps of the history

    async def up(self) -> None:
        self.dies.clear()
        self.delivery = Delivery(self.made, self.journal, self.clock)  # type: ignore[arg-type]
        await self.delivery.start()

    async def crash(self) -> None:
        self.say("the process dies")
        await self.delivery.abandon()
        self.process += 1
        self.engine.on_commit.clear()
        for one in self.plugins.values():
            one.unsure.clear()

    async def restart(self) -> None:
        self.say("a restart")
        await self.delivery.stop(1000.0)
        self.process += 1
        for one in self.plugins.values():
            one.unsure.clear()
        await self.up()

    async def lose_lease(self) -> None:
        name = self.chance.choice("ab")
        self.say(f"another gateway takes the cursor of {name}")
        await self.engine.take_cursor(Track(name), True)

    async def rest(self) -> None:
        """Wait until everything is settled."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE
        pause = 0.05
        while not all(consumer.idle for consumer in self.delivery.consumers.values()):
            if self.dies.is_set():
                await self.crash()
                await self.up()
            if loop.time() > deadline:
                raise Broken(f"not at rest after {PATIENCE:g} s")
            if broken := [c.health.broken for c in self.delivery.consumers.values() if c.health.broken]:
                raise Broken(str(broken))
            await asyncio.sleep(pause)
            pause = min(60.0, pause * 1.3)

    async def send(self, count: int) -> None:
        for _ in range(count):
            self.numbers += 1
            conversation = self.chance.choice(CONVERSATIONS)
            self.conversations[self.numbers] = conversation
            for one in self.plugins.values():
                if self.odds(0.01):
                    one.killers.add(self.numbers)
            await self.engine.append_body(self.numbers, conversation)

    def dead(self) -> dict[str, dict[int, Any]]:
        found: dict[str, dict[int, Any]] = defaultdict(dict)
        for name, seq, row in self.engine.dead():
            found[name][seq] = row
        return found

    async def operate(self) -> None:
        kind = self.chance.choice(("retry", "in order", "discard", "replay"))
        self.say(f"operator: {kind}")
        if kind == "replay":
            name = self.chance.choice("ab")
            one = self.plugins[name]
            one.asked_again.update(range(1, self.numbers + 1))
            one.in_any_order.update(range(1, self.numbers + 1))
            await self.engine.new_replay(Filter(plugin=name))
        elif kind == "discard":
            await self.engine.discard_dead(Filter())
        else:
            for name, rows in self.dead().items():
                one = self.plugins[name]
                one.in_any_order.update(rows)
                one.asked_again.update(rows)
                for n in rows:
                    one.died.discard(n)
            await self.engine.retry_dead(Filter(), None, kind == "in order")
        with contextlib.suppress(JournalError):
            await self.delivery.refresh()

    async def live(self) -> None:
        """Some random steps, then peace, then everything must be where it belongs."""
        await self.up()
        for _ in range(self.chance.randint(10, 30)):
            step = self.chance.random()
            if step < 0.5:
                await self.send(self.chance.randint(1, 6))
            elif step < 0.58:
                await self.operate()
            elif step < 0.64:
                await self.crash()
                await self.up()
            elif step < 0.70:
                await self.restart()
            elif step < 0.74:
                self.offset += self.chance.choice((-7200.0, -1.0, 1.0, 600.0))
            elif step < 0.78:
                await self.lose_lease()
            elif step < 0.84:
                one = self.plugins[self.chance.choice("ab")]
                one.down = not one.down
            elif step < 0.88:
                self.calm = True
                await self.rest()
                self.calm = False
                for one in self.plugins.values():
                    one.final = one.durable - one.asked_again
                    one.asked_again.clear()
            if self.dies.is_set():
                await self.crash()
                await self.up()
            await asyncio.sleep(self.chance.choice((0, 0.001, 0.02, 0.3, 2.0, 30.0)))
        self.calm = True
        await self.rest()
        self.judge()
        await self.delivery.stop(100.0)
        if self.broken:
            raise Broken(self.broken)

    def judge(self) -> None:
        dead = self.dead()
        discarded = self.engine.discarded()
        for name, one in self.plugins.items():
            gone = dead[name].keys() | {seq for owner, seq in discarded if owner == name}
            lost = set(range(1, self.numbers + 1)) - one.durable - gone
            self.hold(not lost, f"{name} never had {sorted(lost)}")
            for n, row in dead[name].items():
                killed = "the process died" in row.error
                reason = row.attempts >= MAX_ATTEMPTS or row.error.startswith("Reject") or killed
                self.hold(reason, f"{n} died for {name} after {row.attempts} attempts: {row.error}")
                self.hold(not killed or n in one.killers, f"{n} was buried for {name}, but kills nothing")


def bounds(chance: random.Random) -> dict[Any, dict[str, Any]]:
    """Small limits, so that a short history reaches them."""
    window = chance.choice((4, 16, 64))
    return {
        reading: {"WINDOW": window, "PAGE": chance.choice((2, 8)), "PARKED": chance.choice((6, 100))},
        replaying: {"WINDOW": window, "PAGE": 3, "AHEAD": chance.choice((4, 50))},
        conversations: {"LOADED": chance.choice((2, 20))},
        dispatching: {"BATCH": chance.choice((1, 4, 64))},
        settling: {"ROWS": chance.choice((1, 5, 200))},
        service: {},
        event_calls: {"LONGEST": 10**9},
    }


def simulate(seed: int | str, open_engine: Callable[[Callable[[], float]], Any], loud: bool = False) -> None:
    """Run one history; `Broken` or what the delivery raised where something does not hold."""
    random.seed(f"jitter {seed}")
    limits = bounds(random.Random(f"bounds {seed}"))
    before = [(module, name, getattr(module, name)) for module, values in limits.items() for name in values]
    allows = RateLimit.allows
    RateLimit.allows = lambda self: loud  # type: ignore[method-assign]
    for module, values in limits.items():
        for name, value in values.items():
            setattr(module, name, value)

    async def main() -> None:
        await World(seed, open_engine, loud).live()

    try:
        run_virtually(seed, main())
    finally:
        RateLimit.allows = allows  # type: ignore[method-assign]
        for module, name, value in before:
            setattr(module, name, value)
