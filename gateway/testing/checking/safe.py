"""The tier *safe*, for plugins that take events: nothing is lost, repeated or told to the wrong people."""

from __future__ import annotations

import gc
import logging
import types
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

from gateway.events import HOOKS
from gateway.testing.checking.bench import NAME, Bench
from gateway.testing.checking.canaries import CANARIES, CANARY_TEXTS, listening
from gateway.testing.checking.report import CheckFailed, NotApplicable
from gateway.testing.factories import make_body
from gateway.testing.in_process import GatewayUnderTest

_LEAKS: Final = 0.5
"""Objects per event, by which a plugin that keeps something of every event grows at least."""
_OUTAGE: Final = 60.0
_MOST_OBJECTS: Final = 2_000_000
_SKIPPED: Final = (type, types.ModuleType, types.FunctionType, types.FrameType, types.CodeType, logging.Logger)


def takes_every_event(bench: Bench) -> None:
    """The plugin takes an event of each hook that it has, of unknown types and with odd bodies, or raises `Reject`;
    what it took is in the target as soon as the gateway counts it as delivered."""
    read = bench.need_taken()
    bench.run(_takes_every_event(bench, read))


async def _takes_every_event(bench: Bench, read: Any) -> None:
    async with bench.gateway() as gateway:
        for hook in (*HOOKS, "unknown"):
            await gateway.webio.send(hook)
        await gateway.webio.send_broken()
        await gateway.until_settled(NAME)
        for letter in gateway.dead_letters(NAME):
            if not letter.error.startswith("Reject"):
                raise CheckFailed(f"an event became a dead letter: {letter.error}; raise Reject(reason) for it")
        delivered = [event_id for event_id, state in gateway.states(NAME).items() if state == "delivered"]
        _require(delivered, read(), repeats=True)


def settled_is_durable(bench: Bench) -> None:
    """Events that the gateway counts as delivered are in the target at that moment: what is buffered is written in
    `checkpoint`."""
    read = bench.need_taken()
    bench.run(_settled_is_durable(bench, read))


async def _settled_is_durable(bench: Bench, read: Any) -> None:
    async with bench.gateway() as gateway:
        sent: list[str] = []
        for _ in range(3):
            sent += await gateway.webio.send_burst(20, bench.hook(), conversations=5)
            await gateway.until_delivered(NAME)
            _require(sent, read(), repeats=False)


def repeat_is_safe(bench: Bench) -> None:
    """Events that come again after a crash (`event.redelivered`) are in the target once; or, with
    `PluginCase(repeats=True)`, at least once and with their ids."""
    read = bench.need_taken()
    bench.run(_repeat_is_safe(bench, read, before=False))


def checkpoint_comes_before_the_cursor(bench: Bench) -> None:
    """Events that were taken and not checkpointed when the gateway crashed are in the target after the next start."""
    read = bench.need_taken()
    bench.run(_repeat_is_safe(bench, read, before=True))


async def _repeat_is_safe(bench: Bench, read: Any, *, before: bool) -> None:
    async with bench.gateway("disk") as gateway:
        first = await gateway.webio.send(bench.hook())
        await gateway.until_delivered(NAME)
        (gateway.hold_checkpoints if before else gateway.hold_settlements)(NAME)
        sent = [first, *[await gateway.webio.send(bench.hook()) for _ in range(5)]]
        await gateway.until_held(NAME, 6)
        await gateway.crash()
        await gateway.until_delivered(NAME)
        _require(sent, read(), repeats=bench.case.repeats)


def outage_loses_nothing(bench: Bench) -> None:
    """While the target fails, the plugin raises (not `Reject`), and nothing counts as delivered that is not in the
    target. When the target is back, every event is in it, in order of each conversation, without a restart."""
    read, fails = bench.need_taken(), bench.need_failing()
    bench.run(_outage(bench, read, fails))


async def _outage(bench: Bench, read: Any, fails: Any) -> None:
    async with bench.gateway() as gateway:
        sent = await gateway.webio.send_burst(5, bench.hook(), conversations=2)
        await gateway.until_delivered(NAME)
        with fails():
            sent += await gateway.webio.send_burst(20, bench.hook(), conversations=4)
            await gateway.until(
                lambda: gateway.failures(NAME) or gateway.idle(NAME), "the plugin fails", seconds=_OUTAGE
            )
            if not gateway.failures(NAME):
                raise CheckFailed("the plugin took events while its target failed; raise what the target raised")
        await gateway.until_settled(NAME, seconds=_OUTAGE)
        if letters := gateway.dead_letters(NAME):
            raise CheckFailed(f"an outage made {len(letters)} events dead letters: {letters[0].error}")
        _require(sent, read(), repeats=bench.case.repeats)


def refusal_is_a_dead_letter(bench: Bench) -> None:
    """An event that the target refuses for good becomes a dead letter at the first attempt (`Reject`), and the events
    after it are delivered."""
    read, refuses = bench.need_taken(), bench.case.refuses
    if refuses is None:
        raise NotApplicable("PluginCase(refuses=None): the target refuses no single event")
    bench.run(_refusal(bench, read, refuses))


async def _refusal(bench: Bench, read: Any, refuses: Any) -> None:
    async with bench.gateway() as gateway:
        with refuses():
            refused = await gateway.webio.send(bench.hook(), conversationId="97847")
            await gateway.until_settled(NAME)
        letter = next(iter(gateway.dead_letters(NAME)), None)
        if letter is None or letter.event_id != refused or letter.attempts != 1:
            raise CheckFailed(f"a refused event is no dead letter after 1 attempt: {letter}; raise Reject(reason)")
        later = await gateway.webio.send(bench.hook(), conversationId="97847")
        await gateway.until_settled(NAME)
        _require([later], read(), repeats=bench.case.repeats)


def memory_is_bounded(bench: Bench) -> None:
    """The plugin does not grow with the number of the events that it took and that were settled."""
    bench.hook()
    bench.run(_memory(bench))


async def _memory(bench: Bench) -> None:
    async with bench.gateway("disk") as gateway:
        sizes, count = [], max(50, bench.case.burst)
        for _ in range(4):
            await gateway.webio.send_burst(count, bench.hook(), conversations=50)
            await gateway.until_delivered(NAME)
            sizes.append(_reachable(gateway.plugin(NAME)))
        growth = [after - before for before, after in pairwise(sizes[1:])]
        if min(growth) > _LEAKS * count:
            more = min(growth) / count
            raise CheckFailed(
                f"the plugin keeps about {more:.1f} objects of each event, without end; bound what it keeps"
            )


def nothing_personal_is_said(bench: Bench) -> None:
    """No secret of the config, and nothing of a body, is in what the plugin raises or logs: not while it works, not
    while the target fails, and not for odd bodies. `repr` of the config does not have the secrets either."""
    bench.hook()
    with listening() as heard:
        bench.run(_speaks(bench, heard))
    plugin = bench.plugin()
    plugin.close()
    heard.said.append(f"the repr of the plugin: {plugin.instance!r}")
    if hasattr(bench.kind, "Config"):
        heard.said.append(f"the attributes of the plugin: {getattr(plugin.instance, '__dict__', {})!r}")
    if leak := heard.leak((*CANARY_TEXTS, *bench.case.secrets)):
        raise CheckFailed(
            f"{leak}; say what went wrong without a value, and `raise ... from None` where a driver says it"
        )


async def _speaks(bench: Bench, heard: Any) -> None:
    async with bench.gateway(prepare=heard.prepare) as gateway:
        await _send_canaries(gateway)
        await gateway.webio.send_broken()
        await gateway.until_settled(NAME)
        if bench.case.fails is not None:
            with bench.case.fails():
                await _send_canaries(gateway)
                await gateway.until(
                    lambda: gateway.failures(NAME) or gateway.idle(NAME), "the plugin fails", seconds=_OUTAGE
                )
            await gateway.until_settled(NAME, seconds=_OUTAGE)
        if bench.case.refuses is not None:
            with bench.case.refuses():
                await _send_canaries(gateway)
                await gateway.until_settled(NAME, seconds=_OUTAGE)
        heard.said.extend(f"a dead letter: {letter.error}" for letter in gateway.dead_letters(NAME))


async def _send_canaries(gateway: GatewayUnderTest) -> None:
    for hook in HOOKS:
        body = make_body(hook)
        await gateway.webio.post(body | {key: text for key, text in CANARIES.items() if key in body})


def _require(sent: Sequence[str], found: Sequence[str], *, repeats: bool) -> None:
    """Every event that was sent is in the target, and once unless it `repeats`."""
    counts = Counter(found)
    if missing := [event_id for event_id in sent if not counts[event_id]]:
        raise CheckFailed(f"{len(missing)} of {len(sent)} events are not in the target: {missing[0]}, for example")
    twice = [event_id for event_id, count in counts.items() if count > 1]
    if twice and not repeats:
        raise CheckFailed(
            f"{len(twice)} of {len(sent)} events are in the target more than once: {twice[0]}, for example"
        )


def _reachable(root: object) -> int:
    """How many objects a plugin keeps alive, those of modules, classes and loggers left out."""
    gc.collect()
    seen, todo = {id(root)}, [root]
    while todo and len(seen) < _MOST_OBJECTS:
        for one in gc.get_referents(todo.pop()):
            if id(one) not in seen and not isinstance(one, _SKIPPED):
                seen.add(id(one))
                todo.append(one)
    return len(seen)


CHECKS: Final = (
    takes_every_event,
    settled_is_durable,
    repeat_is_safe,
    checkpoint_comes_before_the_cursor,
    outage_loses_nothing,
    refusal_is_a_dead_letter,
    memory_is_bounded,
    nothing_personal_is_said,
)
