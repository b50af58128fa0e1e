"""The real delivery on virtual time and an in-memory journal. One seed is one history: events, plugins that fail,
stall, reject and kill the process, crashes, lost leases, jumps of the clock, and operators who repair.

`python tests/delivery/simulation.py SEED` runs one history and prints it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))

from delivering import journal_config
from kit import make_plugin
from virtual_time import run_virtually

from gateway import Event, Reject, Retry, hookimpl
from gateway.config.tables import Config
from gateway.delivery import conversations, dispatching, parked, reading, replaying, settling
from gateway.delivery.service import Delivery
from gateway.journal import memory, memory_store
from gateway.journal.interface import (
    DISCARDED,
    EVERY_HOOK,
    Filter,
    HeldBy,
    Journal,
    JournalError,
    JournalFull,
    Parked,
    Settlement,
    Standing,
    Track,
)
from gateway.log import RateLimit
from gateway.plugin_host import event_calls
from gateway.plugin_host.call import Threads

CONVERSATIONS = (None, "x", "y", "z")
MAX_ATTEMPTS = 4
PATIENCE = 100_000.0
"""Virtual seconds within which everything must be settled once all misfortune has ended."""
WAYS = ("retry", "retry in order", "discard", "replay")


class Broken(AssertionError):
    """A history in which the delivery did not keep a promise."""


class Stuttering:
    """A journal that now and then cannot be read, has no room, or whose cursor another gateway owns for a while."""

    def __init__(self, world: World, journal: memory.MemoryJournal) -> None:
        self._world = world
        self._journal = journal

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._journal, name)
        return self._reading(found) if name in ("read_track", "fetch") else found

    def _reading(self, read: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def reading(*arguments: Any) -> Any:
            if self._world.odds(0.02):
                raise JournalError("the journal cannot be read")
            return await read(*arguments)

        return reading

    async def settle(self, settlement: Settlement) -> None:
        if self._world.odds(0.05):
            raise JournalFull("no room")
        await self._journal.settle(settlement)

    async def take_cursor(
        self, track: Track, from_start: bool, hooks: Collection[str] = (EVERY_HOOK,), shards: int = 1
    ) -> Standing | HeldBy:
        if self._world.odds(0.05):
            return HeldBy("another", self._world.clock() + 3.0)
        return await self._journal.take_cursor(track, from_start, hooks, shards)


class Inline(Threads):
    """Threads on virtual time: the event loop runs their work."""

    def submit(self, work: Callable[[], None]) -> None:
        asyncio.get_running_loop().call_later(0.001, work)


class Player:
    """A plugin whose calls end by chance. It remembers them, over the lives of the process."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.down = False
        self.killers: set[int] = set()
        """Events that kill the process."""
        self.calls: Counter[int] = Counter()
        self.taken: list[int] = []
        self.volatile: set[int] = set()
        """Taken since the last checkpoint."""
        self.durable: set[int] = set()
        self.final: set[int] = set()
        """Settled for certain."""
        self.asked_again: set[int] = set()
        """An operator has had these delivered again since the last time everything was settled."""
        self.free: set[int] = set()
        """In no order any more: replayed, retried, or dead in a life that ended before that was durable."""
        self.dying: set[int] = set()
        """Perhaps dead since the last time everything was settled."""
        self.owned = True
        """Whether no other gateway has taken the cursor since then."""
        self.chains: dict[int, int] = {}
        """The operation that had a dead letter retried in order, until the event is taken."""
        self.chained: list[tuple[int, int]] = []
        self._running: Counter[tuple[int, str]] = Counter()

    def begin(self, event: Event) -> int:
        """A call begins; returns the event's number."""
        n: int = event.fields()["n"]
        self.world.say(f"{self.name} gets {n} of {event.conversation_id}, {event.attempt=} {event.redelivered=}")
        self.world.expect(not self.calls[n] or event.redelivered, f"{self.name} got {n} again unmarked")
        self.world.expect(n not in self.final or n in self.asked_again, f"{self.name} got {n} again without a reason")
        self.calls[n] += 1
        return n

    def decide(self, event: Event, n: int) -> None:
        """Raise what the plugin raises, or take the event."""
        world = self.world
        error: BaseException | None = None
        if self.down or world.odds(0.12):
            error = world.chance.choice((ValueError("no"), OSError("no"), SystemExit(1)))
        elif world.odds(0.03):
            error = Reject("never")
        elif world.odds(0.05):
            error = Retry(after=world.chance.choice((0.0, 0.01, 5.0, 600.0)))
        if error is not None:
            if isinstance(error, Reject) or event.attempt >= MAX_ATTEMPTS:
                self.dies(n)
            raise error
        self.takes(n, event.conversation_id)

    def dies(self, n: int) -> None:
        """An event may be a dead letter now. If it is, it comes again only if the process dies, or loses the cursor,
        before that is durable."""
        self.dying.add(n)
        if not self.owned:
            self.free.add(n)
        self.chains.pop(n, None)

    def takes(self, n: int, conversation: str | None) -> None:
        world = self.world
        if n not in self.taken and n not in self.free and conversation is not None:
            later = [m for m in self.taken if m > n and m not in self.free and world.conversations[m] == conversation]
            world.expect(not later, f"{self.name} took {n} after {later}")
        if (chain := self.chains.pop(n, None)) is not None and conversation is not None:
            later = [m for operation, m in self.chained if m > n and operation == chain]
            later = [m for m in later if world.conversations[m] == conversation]
            world.expect(not later, f"{self.name} took {n}, retried in order, after {later}")
            self.chained.append((chain, n))
        self.taken.append(n)
        self.volatile.add(n)

    async def wait(self, event: Event, n: int) -> None:
        """What passes before a coroutine decides; no other event of its conversation may come meanwhile."""
        world = self.world
        key = (world.life, event.conversation_id) if event.conversation_id and n not in self.free else None
        if key is not None:
            world.expect(not self._running[key], f"{self.name} got {n} beside another event of {key[1]}")
            self._running[key] += 1
        try:
            if n in self.killers:
                self.dies(n)
                world.dies.set()
                await asyncio.Event().wait()
            await asyncio.sleep(world.chance.choice((0, 0, 0, 0.001, 0.1)))
            if world.odds(0.04):
                if event.attempt >= MAX_ATTEMPTS:
                    self.dies(n)
                await asyncio.sleep(world.chance.choice((1.5, 4.0, 40.0)))  # slow, or longer than the timeout
        finally:
            if key is not None:
                self._running[key] -= 1


class Archive(Player):
    """A plugin that makes durable what it took when it is told to."""

    @hookimpl
    async def on_event(self, event: Event) -> None:
        n = self.begin(event)
        await self.wait(event, n)
        self.decide(event, n)

    @hookimpl
    async def checkpoint(self) -> None:
        taken = set(self.volatile)
        await asyncio.sleep(self.world.chance.choice((0, 0, 0.01, 0.5)))
        if self.world.odds(0.15):
            raise OSError("disk full")
        self.world.say(f"{self.name} makes durable {sorted(taken)}")
        self.durable |= taken


class Client(Player):
    """A plugin whose calls are durable at once."""

    @hookimpl
    async def on_event(self, event: Event) -> None:
        n = self.begin(event)
        await self.wait(event, n)
        self.decide(event, n)
        self.durable.add(n)


class Plain(Player):
    """A plugin with plain functions."""

    @hookimpl
    def on_event(self, event: Event) -> None:
        n = self.begin(event)
        self.decide(event, n)
        self.durable.add(n)


class World:
    """One history."""

    def __init__(self, seed: int, config: Config, loud: bool) -> None:
        self.chance = random.Random(f"world {seed}")
        self.seed = seed
        self.config = config
        self.loud = loud
        self.calm = False
        """Whether no further misfortune happens."""
        self.life = 0
        self.dies = asyncio.Event()
        self.broken: str | None = None
        self.offset = 0.0
        self.conversations: dict[int, str | None] = {}
        self.operations = 0
        self.players = {"a": Archive(self, "a"), "b": self.chance.choice((Client, Plain))(self, "b")}
        limits: dict[str, Any] = {"backoff": 0.5, "backoff_max": 8.0, "timeout": 10.0, "max_attempts": MAX_ATTEMPTS}
        limits["concurrency"] = self.chance.choice((1, 2, 4))
        loop = asyncio.get_running_loop()
        self.plugins = [make_plugin(name, player, loop=loop, **limits) for name, player in self.players.items()]
        for one in self.plugins:
            one.threads = Inline(one.name, 4)
        self.store = memory_store.Store()
        self.journal: memory.MemoryJournal
        self.delivery: Delivery

    def clock(self) -> float:
        return 1_000_000_000.0 + asyncio.get_running_loop().time() + self.offset

    def odds(self, share: float) -> bool:
        return not self.calm and self.chance.random() < share

    def say(self, line: str) -> None:
        if self.loud:
            print(f"{asyncio.get_running_loop().time():10.3f} {line}")

    def expect(self, condition: bool, otherwise: str) -> None:
        """Remember a broken promise; a plugin's exception would be handled as one."""
        if not condition:
            self.say(f"BROKEN: {otherwise}")
            self.broken = self.broken or otherwise

    # The process

    async def up(self) -> None:
        self.dies.clear()
        for player in self.players.values():
            player.volatile.clear()
        self.life += 1
        self.journal = memory.MemoryJournal(
            self.config, clock=self.clock, store=self.store, latency=self.latency, seed=self.chance.getrandbits(32)
        )
        await self.journal.start()
        self.delivery = Delivery(self.plugins, cast(Journal, Stuttering(self, self.journal)), self.clock)
        await self.delivery.start()

    def latency(self) -> float:
        return 0.0 if self.calm else self.chance.choice((0.0, 0.0, 0.001, 0.1))

    async def crash(self) -> None:
        self.say("the process dies")
        self.journal.abandon()
        await self.delivery.abandon()
        self.undo_deaths()
        await self.up()

    async def restart(self) -> None:
        patience = self.chance.choice((0.0, 0.05, 2.0, 1000.0))  # short ones end while the plugin has events
        self.say(f"a restart, {patience=}")
        await self.delivery.stop(patience)
        await self.journal.close()
        if patience < 1000.0:
            self.undo_deaths()
        await self.up()

    def undo_deaths(self) -> None:
        """The process ended, perhaps before it could write down which events are dead letters."""
        for player in self.players.values():
            player.free |= player.dying

    # What happens

    async def send(self) -> None:
        for _ in range(self.chance.randint(1, 6)):
            n = len(self.conversations) + 1
            conversation = self.conversations[n] = self.chance.choice(CONVERSATIONS)
            for player in self.players.values():
                if not isinstance(player, Plain) and self.odds(0.01):
                    player.killers.add(n)
            raw = json.dumps({"type": "payment", "conversationId": conversation, "n": n}).encode()
            await self.journal.append("acme", self.journal.decoder.decode("acme", raw, None), raw)

    async def operate(self) -> None:
        way = self.chance.choice(WAYS)
        self.say(f"an operator: {way}")
        self.operations += 1
        if way == "replay":
            player = self.players[self.chance.choice("ab")]
            player.asked_again.update(self.conversations)
            player.free.update(self.conversations)
            player.chains.clear()
            await self.journal.new_replay(Filter(plugin=player.name))
        elif way == "discard":
            await self.journal.discard_dead(Filter())
        else:
            for name, player in self.players.items():
                letters = {row.seq for _, row in self.store.dead(Filter(plugin=name))}
                player.asked_again |= letters
                player.free |= letters | player.dying  # some of these may be written before the operation
                for n in letters:
                    player.chains.pop(n, None)
                    if way == "retry in order":
                        player.chains[n] = self.operations
                await self.journal.retry_dead(Filter(plugin=name), None, way == "retry in order")
        with contextlib.suppress(JournalError):
            await self.delivery.refresh()

    async def lose_lease(self) -> None:
        name = self.chance.choice("ab")
        self.say(f"another gateway takes the cursor of {name}")
        self.players[name].owned = False
        self.undo_deaths()
        await self.journal.take_cursor(Track(name), True)

    async def jump(self) -> None:
        self.offset += self.chance.choice((-7200.0, -1.0, 1.0, 600.0))

    async def turn(self) -> None:
        player = self.players[self.chance.choice("ab")]
        player.down = not player.down

    async def rest(self) -> None:
        """Let everything be settled, without further misfortune."""
        loop = asyncio.get_running_loop()
        self.calm, deadline, pause = True, loop.time() + PATIENCE, 0.05
        for player in self.players.values():
            player.down = False
        while not all(consumer.idle for consumer in self.delivery.consumers.values()):
            if self.dies.is_set():
                await self.crash()
            for consumer in self.delivery.consumers.values():
                if consumer.health.broken is not None:
                    raise Broken(consumer.health.broken)
            if loop.time() > deadline:
                raise Broken(f"not settled after {PATIENCE:g} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.dies.wait(), pause)  # an event that kills does so at once
            pause = min(60.0, pause * 1.3)
        for player in self.players.values():
            player.final |= player.durable
            player.asked_again.clear()
            player.dying.clear()
            player.owned = True
        self.calm = False

    async def live(self) -> None:
        """Some random steps; in the end everything must be where it belongs."""
        steps = (self.send, self.operate, self.crash, self.restart, self.lose_lease, self.jump, self.turn, self.rest)
        await self.up()
        for _ in range(self.chance.randint(5, 18)):
            [step] = self.chance.choices(steps, weights=(50, 9, 6, 6, 4, 4, 6, 4))
            await step()
            await asyncio.sleep(self.chance.choice((0, 0.001, 0.02, 0.3, 2.0, 30.0)))
            if self.dies.is_set():
                await self.crash()
        await self.rest()
        self.judge()
        await self.delivery.stop(100.0)
        await self.journal.close()
        if self.broken is not None:
            raise Broken(self.broken)

    def judge(self) -> None:
        for name, player in self.players.items():
            rows: dict[int, Parked] = self.store.cursors[Track(name)].parked
            lost = self.conversations.keys() - player.durable - rows.keys()
            self.expect(not lost, f"{name} never got {sorted(lost)}")
            for n, row in rows.items():
                killed = "the process died" in row.error
                reason = row.attempts >= MAX_ATTEMPTS or row.error.startswith("Reject") or killed
                self.expect(row.state == DISCARDED or reason, f"{name}: {n} is {row.state}: {row.error}")
                self.expect(not killed or n in player.killers, f"{name}: {n} was blamed for a crash")


def limits_of(seed: int) -> dict[Any, dict[str, Any]]:
    """Small limits, so that a short history reaches them."""
    chance = random.Random(f"limits {seed}")
    window = chance.choice((4, 16, 64))
    return {
        reading: {"WINDOW": window, "PAGE": chance.choice((2, 8)), "PARKED": chance.choice((6, 100))},
        replaying: {"WINDOW": window, "PAGE": 3, "AHEAD": chance.choice((4, 50))},
        conversations: {"LOADED": chance.choice((2, 20))},
        dispatching: {"BATCH": chance.choice((1, 4, 64))},
        settling: {"ROWS": chance.choice((1, 5, 200))},
        parked: {"UNORDERED": chance.choice((5, 100))},
        memory_store: {"UNORDERED": chance.choice((5, 100))},
        memory: {"HOUSEKEEPING": 1e9},
        event_calls: {"LONGEST": 1e9},  # by real time
    }


@contextlib.contextmanager
def limited(seed: int, loud: bool) -> Iterator[None]:
    limits = limits_of(seed)
    limits[parked]["UNORDERED"] = limits[memory_store]["UNORDERED"]
    limits[RateLimit] = {"allows": lambda self: loud}  # by real time, too
    before = [(where, name, getattr(where, name)) for where, values in limits.items() for name in values]
    for where, values in limits.items():
        for name, value in values.items():
            setattr(where, name, value)
    try:
        yield
    finally:
        for where, name, value in before:
            setattr(where, name, value)


@cache
def config() -> Config:
    with tempfile.TemporaryDirectory() as folder:
        return journal_config(Path(folder), 'retention = "10000d"\n')


def simulate(seed: int, loud: bool = False) -> None:
    """Run one history; `Broken` with how to run it again where a promise was not kept."""
    random.seed(f"jitter {seed}")

    async def main() -> None:
        await World(seed, config(), loud).live()

    try:
        with limited(seed, loud):
            run_virtually(seed, main())
    except Exception as error:
        again = f"python tests/delivery/simulation.py {seed}"
        raise Broken(f"seed {seed}: {type(error).__name__}: {error}\nto see it: {again}") from error


if __name__ == "__main__":
    logging.basicConfig(format="           %(message)s")
    simulate(int(sys.argv[1]), loud=True)
