"""Retention, refusals and failures."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from conformance.engines import Engine, events_in, fill, ids_in, put, take, until, until_left
from journal_kit import message

from gateway.journal.interface import (
    DEAD,
    RETRYING,
    WAITING,
    Filter,
    Journal,
    JournalFailed,
    JournalFull,
    Parked,
    ReplayProgress,
)
from gateway.journal.search import ValueRecord

HOUR = 3600.0


async def test_what_is_old_and_delivered_goes_and_the_rest_stays(engine: Engine) -> None:
    """Exactly what is older than the retention, by itself; positions go on after it."""
    engine.configure(retention="1h")
    journal = await engine.open()
    owner = await take(journal)
    await fill(journal, 20)
    engine.clock.advance(1800)
    young = await fill(journal, 5)
    await owner.settle(cursor=25)
    engine.clock.advance(1801)
    assert await until_left(journal, 5) == young
    engine.clock.advance(HOUR)
    assert await until_left(journal, 0) == []
    await engine.close(journal)
    journal = await engine.open()
    await fill(journal, 1)
    assert journal.newest == 26


async def test_what_one_plugin_has_not_had_stays(engine: Engine) -> None:
    """The slowest plugin's cursor is the limit, however old the events are."""
    engine.configure(retention="1h")
    journal = await engine.open()
    slow, fast = await take(journal, "slow"), await take(journal, "fast")
    ids = await fill(journal, 20)
    await fast.settle(cursor=20)
    await slow.settle(cursor=12)
    engine.clock.advance(HOUR + 1)
    assert await until_left(journal, 8) == ids[12:]
    await slow.settle(cursor=20)
    assert await until_left(journal, 0) == []


@pytest.mark.parametrize("state", [RETRYING, WAITING, DEAD])
async def test_what_is_parked_or_dead_stays_until_it_is_not(engine: Engine, state: str) -> None:
    """Nothing that can still be repaired is dropped; once it is through or discarded, it goes like all others."""
    engine.configure(retention="1h")
    journal = await engine.open()
    owner = await take(journal)
    ids = await fill(journal, 30)
    await owner.settle(cursor=30, park=[Parked(seq=seq, state=state) for seq in (1, 7, 30)])
    engine.clock.advance(HOUR + 1)
    assert await until_left(journal, 3) == [ids[0], ids[6], ids[29]]
    if state == DEAD:
        await journal.discard_dead(Filter())
    else:
        await owner.settle(release=[1, 7, 30])
    assert await until_left(journal, 0) == []


async def test_an_unfinished_replay_keeps_what_it_has_yet_to_deliver(engine: Engine) -> None:
    """An operator asked for these events: they wait for the replay to pass."""
    engine.configure(retention="1h")
    journal = await engine.open()
    owner = await take(journal)
    await fill(journal, 20)
    await owner.settle(cursor=20)
    replay = await journal.new_replay(Filter(plugin="crm"))
    engine.clock.advance(HOUR + 1)
    await owner.settle(replay=ReplayProgress(replay.number, 15, 15))
    assert len(await until_left(journal, 5)) == 5
    await owner.settle(replay=ReplayProgress(replay.number, 20, 5))
    assert await until_left(journal, 0) == []


async def test_a_pruned_body_may_come_again(engine: Engine) -> None:
    """An event that is gone is not the first of a duplicate, and owns no message's key."""
    engine.configure(retention="1h", dedupe_window="24h")
    journal, raw = await engine.open(), message()
    await put(journal, raw)
    engine.clock.advance(HOUR + 1)
    await until_left(journal, 0)
    assert not (await put(journal, raw)).duplicate
    assert [event.conflict for event in await events_in(journal)] == [False]


async def test_beyond_max_size_events_are_refused_until_retention_makes_room(engine: Engine) -> None:
    """The refusal names the setting; delivery and repair go on; nothing of a refused event is kept."""
    if not engine.limits_size:
        pytest.skip("journal.max_size does not apply to a database")
    engine.configure(max_size="1 MiB", retention="1h")
    journal = await engine.open()
    owner = await take(journal)
    kept = 0
    while journal.refusal() is None and kept < 60:  # more than 1 MiB and less than 2, however rarely it looks
        await put(journal, message(body="x" * 20_000))
        kept += 1
    await until(lambda: journal.refusal() is not None)
    with pytest.raises(JournalFull, match=r"the journal holds 1 MiB, (\d MiB )?more than journal\.max_size"):
        put(journal, message())
    assert len(await ids_in(journal)) == kept
    await owner.settle(cursor=1, park=[Parked(seq=1, state=DEAD)])
    assert await journal.discard_dead(Filter()) == 1
    await journal.probe()
    engine.clock.advance(HOUR + 1)
    await owner.settle(cursor=journal.newest)
    await until(lambda: journal.refusal() is None)
    await fill(journal, 1)


async def test_a_full_disk_refuses_everything_and_loses_nothing(engine: Engine) -> None:
    """`JournalFull` for each write; tried again once there is room, it is written."""
    journal = await engine.open()
    owner = await take(journal)
    await fill(journal, 5)
    await owner.settle(cursor=2)
    await engine.fill_disk()
    for attempt in (owner.settle(cursor=3), journal.probe(), owner.mark_running(1)):
        with pytest.raises(JournalFull):
            await attempt
    assert journal.refusal() is not None
    with pytest.raises(JournalFull):
        put(journal, message())
    await engine.make_room()
    await until(lambda: journal.refusal() is None)
    await owner.settle(cursor=4)
    await fill(journal, 1)
    await engine.close(journal)
    standing = (await take(await engine.open())).standing
    assert (standing.cursor, standing.crashes) == (4, {})


async def test_a_failed_journal_takes_nothing_and_says_so_once(engine: Engine) -> None:
    """The owner of the process is told; the next start has what was acknowledged."""
    journal, told = await engine.open(), list[JournalFailed]()
    journal.on_failure = told.append
    owner = await take(journal)
    ids = await fill(journal, 5)
    await engine.break_disk(journal)
    for attempt in (owner.settle(cursor=3), journal.probe()):
        with pytest.raises(JournalFailed, match="what became of it is unknown"):
            await attempt
    with pytest.raises(JournalFailed):
        put(journal, message())
    assert journal.refusal() is not None
    assert len(told) == 1
    await engine.close(journal)
    assert (await ids_in(await engine.open()))[:5] == ids


async def test_a_closed_journal_takes_nothing(engine: Engine) -> None:
    """What was handed over before the end is kept; what comes after it is refused, and does not wait for ever."""
    journal = await engine.open()
    late = [put(journal, message()) for _ in range(20)]
    await engine.close(journal)
    assert not any(receipt.duplicate for receipt in await asyncio.gather(*late))
    with pytest.raises(JournalFull, match="the journal is closed"):
        put(journal, message())
    with pytest.raises(JournalFull, match="the journal is closed"):
        await journal.probe()
    assert len(await ids_in(await engine.open())) == 20


async def test_a_request_that_gave_up_disturbs_no_other(engine: Engine) -> None:
    """A future that was cancelled changes nothing for the others of its group; its event is kept."""
    journal = await engine.open()
    futures = [put(journal, message()) for _ in range(10)]
    futures[3].cancel()
    outcomes = await asyncio.gather(*futures, return_exceptions=True)
    assert [isinstance(outcome, asyncio.CancelledError) for outcome in outcomes].count(True) == 1
    await journal.probe()
    assert len(await ids_in(journal)) == 10


def record(journal: Journal, moment: float) -> None:
    at = datetime.fromtimestamp(moment, UTC)
    journal.record_value_request(
        ValueRecord(at=at, organisation="acme", customer_uid="1", address="…777", fields={}, status=200)
    )


async def test_a_value_record_that_cannot_be_kept_is_counted(engine: Engine) -> None:
    """No caller waits for it, so that is how an operator gets to know."""
    journal = await engine.open()
    record(journal, engine.clock())
    await journal.probe()
    assert journal.value_records_lost == 0
    await engine.break_disk(journal)
    record(journal, engine.clock())
    await until(lambda: journal.value_records_lost == 1)


async def test_each_hook_has_its_own_retention(engine: Engine) -> None:
    """Shorter or longer than that of the journal; the order in which they came makes no difference."""
    engine.configure(retention="1d")
    engine.keep(payment=10 * 86400.0, set_status=3600.0)
    journal = await engine.open()
    for _ in range(3):
        for hook in ("payment", "inbound-message", "set-status"):
            await put(journal, message(), hook=hook)
    owner = await take(journal)
    await owner.settle(9)

    async def hooks_left(count: int) -> set[str]:
        await until_left(journal, count)
        return {event.hook for event in await events_in(journal)}

    engine.clock.advance(7200)
    assert await hooks_left(6) == {"payment", "inbound-message"}
    engine.clock.advance(86400)
    assert await hooks_left(3) == {"payment"}
    engine.clock.advance(10 * 86400)
    assert await hooks_left(0) == set()
