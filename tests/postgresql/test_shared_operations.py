"""Operations that several gateways could carry out: one does, and another goes on where it dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from conformance.engines import PostgresqlEngine, fill, ids_in, operation_of, put, take
from journal_kit import WAIT, message

from gateway.journal.interface import DEAD, RETRYING, Filter, Journal, Parked, Standing, Track
from gateway.journal.operator import StoredOperation
from gateway.journal.postgresql import claims, letters, upkeep
from gateway.journal.postgresql.journal import PostgresqlJournal
from gateway.service import Gateway

COUNT = 30


@pytest.fixture
async def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PostgresqlEngine]:
    """Steps are small, and claims of a gateway that has died are soon over."""
    monkeypatch.setattr(letters, "PAGE", 10)
    monkeypatch.setattr(claims, "CLAIM", 1.0)
    monkeypatch.setattr(upkeep, "CLAIMS", 0.1)
    made = PostgresqlEngine(tmp_path)
    yield made
    await made.close_all()


async def with_dead(engine: PostgresqlEngine) -> Journal:
    """A gateway's journal with dead letters of the plugin `crm`, which no gateway delivers to now."""
    journal = await engine.open()
    await fill(journal, COUNT, customerUID="4711")
    owner = await take(journal)
    await owner.settle(cursor=COUNT, park=[Parked(seq=seq, state=DEAD, attempts=9) for seq in range(1, COUNT + 1)])
    await owner.release()
    return journal


async def die(engine: PostgresqlEngine, journal: Journal) -> None:
    """Close a journal without telling the database, as a process does that is killed."""
    assert isinstance(journal, PostgresqlJournal)
    await journal.database.close()
    await engine.close(journal)


async def until(journal: Journal, number: int, holds: Callable[[StoredOperation], bool]) -> StoredOperation:
    """An operation once something is true of it."""
    async with asyncio.timeout(WAIT):
        while not holds(found := await operation_of(journal, number)):
            await asyncio.sleep(0.02)
    return found


async def test_one_gateway_has_an_operation_until_it_stops(engine: PostgresqlEngine) -> None:
    """Another one gets it at once then."""
    first, second = await with_dead(engine), await engine.open()
    number = (await first.begin("discard", Filter())).number
    assert await first.claim(number)
    assert not await second.claim(number)
    assert await first.claim(number)
    await engine.close(first)
    assert await second.claim(number)


@pytest.mark.parametrize("kind", ["discard", "forget"])
async def test_an_operation_of_a_gateway_that_has_died_is_finished_by_another(
    engine: PostgresqlEngine, kind: str
) -> None:
    """By itself, while that one runs, with true counts."""
    journal = await with_dead(engine)
    journal.on_operations.append(lambda: None)  # as a gateway has
    which = Filter(customer="4711")
    number = (await (journal.begin("forget", which) if kind == "forget" else journal.begin("discard", which))).number
    assert await journal.claim(number)
    await journal.advance(number)
    gateway = Gateway(engine.config, [], clock=engine.clock)
    await gateway.start(lambda error: None)
    try:
        await die(engine, journal)
        operation = await until(gateway.journal, number, lambda one: one.state != "running")
        assert (operation.state, operation.matched, operation.done) == ("finished", COUNT, COUNT)
        assert await gateway.journal.count_dead(Filter()) == 0
        assert len(await ids_in(gateway.journal)) == (COUNT if kind == "discard" else 0)
    finally:
        await gateway.stop()


async def test_two_gateways_that_take_steps_do_nothing_twice(engine: PostgresqlEngine) -> None:
    """As where one was stopped for longer than its claim lasts, and goes on beside the other."""
    first, second = await with_dead(engine), await engine.open()
    number = (await first.begin("retry", Filter())).number

    async def steps(journal: Journal) -> None:
        while (await journal.advance(number)).state == "running":
            pass

    await asyncio.gather(steps(first), steps(second))
    operation = await operation_of(first, number)
    assert (operation.state, operation.done, operation.left) == ("finished", COUNT, COUNT)
    owner = await take(second)
    assert [(row.seq, row.state) for row in await owner.parked()] == [(seq, RETRYING) for seq in range(1, COUNT + 1)]


async def test_a_cancelled_retry_has_events_back_from_the_gateway_that_delivers_them(engine: PostgresqlEngine) -> None:
    """Only that one knows which of them its plugin has; what no gateway delivers goes back at once."""
    first, second = await with_dead(engine), await engine.open()
    number = (await first.begin("retry", Filter())).number
    while (await first.advance(number)).state == "running":
        pass
    owner = await take(second)
    await first.cancel(number)
    for plugin, seqs in (await first.retried(number)).items():
        await first.take_back(owner.track._replace(plugin=plugin), number, seqs)
    assert (await operation_of(first, number)).left == COUNT

    await owner.settle(release=[1])
    await second.take_back(owner.track, number, (await second.retried(number))["crm"])
    operation = await operation_of(first, number)
    assert (operation.state, operation.done, operation.left) == ("cancelled", 1, 0)
    assert await first.count_dead(Filter()) == COUNT - 1


async def test_retention_is_one_gateways_work_at_a_time(engine: PostgresqlEngine) -> None:
    """With several gateways, what is old goes all the same, and only that."""
    engine.configure(retention="1h")
    first = await engine.open()
    second = await engine.open()
    owner = await take(first)
    await fill(first, 20)
    engine.clock.advance(1800)
    young = [(await put(second, message())).id for _ in range(5)]
    await owner.settle(cursor=25)
    engine.clock.advance(1801)
    async with asyncio.timeout(WAIT):
        while len(left := await ids_in(first)) > 5:
            await asyncio.sleep(0.02)
    assert left == young


async def test_a_replay_is_for_all_shards_that_its_plugin_will_have(engine: PostgresqlEngine) -> None:
    """Also where it was asked for before the plugin began; each event is replayed once."""
    journal = await engine.open()
    for number in range(COUNT):
        await put(journal, message(conversationId=str(number)))
    replay = await journal.new_replay(Filter(plugin="crm"))
    assert replay.matched == COUNT
    found: list[int] = []
    for shard in range(4):
        track = Track("crm", shard)
        standing = await journal.take_cursor(track, from_start=False, shards=4)
        assert isinstance(standing, Standing)
        [part] = standing.replays
        assert (part.number, part.until) == (replay.number, COUNT)
        found += [seq for seq, _ in (await journal.read_track(track, 0, 1000, part.filter, part.until)).entries]
    assert sorted(found) == list(range(1, COUNT + 1))
    assert (await operation_of(journal, replay.number)).matched == COUNT
    again = await journal.new_replay(Filter(plugin="crm"))
    assert (again.matched, (await operation_of(journal, again.number)).left) == (COUNT, COUNT)
