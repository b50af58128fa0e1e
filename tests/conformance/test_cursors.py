"""A plugin's cursor: taken, settled, fenced, released; and what it is told of at the next start."""

from __future__ import annotations

import asyncio

import pytest
from conformance.engines import Engine, fill, operation_of, put, take
from journal_kit import ACME, message, payment

from gateway.journal.interface import (
    DEAD,
    DISCARDED,
    RETRYING,
    UNORDERED,
    WAITING,
    Filter,
    LeaseLost,
    Parked,
    ReplayProgress,
    Settlement,
    Track,
)


async def test_a_page_has_at_most_the_events_asked_for(engine: Engine) -> None:
    """In order, after the position, and empty at the end."""
    journal = await engine.open()
    ids = await fill(journal, 10)
    assert [entry.event.id for entry in await journal.read(3, 4)] == ids[3:7]
    assert [entry.seq for entry in await journal.read(3, 4)] == [4, 5, 6, 7]
    assert list(await journal.read(10, 4)) == []


async def test_events_are_fetched_by_position(engine: Engine) -> None:
    """Those that are there."""
    journal = await engine.open()
    ids = await fill(journal, 5)
    fetched = await journal.fetch([4, 2, 99])
    assert {seq: event.id for seq, event in fetched.items()} == {2: ids[1], 4: ids[3]}


async def test_a_scan_gives_what_a_filter_matches_up_to_a_position(engine: Engine) -> None:
    """The way a replay reads."""
    journal = await engine.open()
    for number in range(10):
        await put(journal, message(conversationId=str(number % 2)))
    which = Filter(conversation="1", organisation=ACME)
    assert [seq for seq, _ in await journal.scan(which, 0, 9, 3)] == [2, 4, 6]
    assert [seq for seq, _ in await journal.scan(which, 6, 9, 3)] == [8]


async def test_a_restarted_gateway_reads_the_events_that_it_had(engine: Engine) -> None:
    """Typed payload, flags, bytes and moment are the same from storage as at the time of receipt."""
    journal = await engine.open()
    bodies = [message(), payment(), b'{"type": "somethingNew", "amount": 1.10}', b"{}", b'{"type": "payment"}']
    bodies.append(b'{"type": "inboundMessage", "body": ["no text"], "dateCreated": "2026-01-01 10:00:00"}')
    await asyncio.gather(*(put(journal, raw) for raw in bodies), put(journal, message(), hook="payment"))
    before = list(await journal.read(0, 100))
    await engine.close(journal)
    assert list(await (await engine.open()).read(0, 100)) == before


async def test_a_new_cursor_begins_at_the_end_or_at_the_start(engine: Engine) -> None:
    """And stays where it stood when it is taken again later."""
    journal = await engine.open()
    await fill(journal, 5)
    late, early = await take(journal, "late", from_start=False), await take(journal, "early")
    await fill(journal, 5)
    again = await take(journal, "late", from_start=True)
    assert (late.standing.cursor, early.standing.cursor, again.standing.cursor) == (5, 0, 5)
    assert late.standing.clean
    assert (late.standing.parked, late.standing.dead_ahead, late.standing.crashes) == ([], [], {})


async def test_what_was_settled_is_there_at_the_next_start(engine: Engine) -> None:
    """The cursor, parked events in order, dead letters past the cursor; what was released is not."""
    journal = await engine.open()
    await fill(journal, 20)
    owner = await take(journal)
    rows = [
        Parked(seq=3, state=RETRYING, attempts=2, next_at=5.5, error="OSError", since=1.5, conversation="acme/7"),
        Parked(seq=4, state=WAITING, conversation="acme/7", since=1.5),
        Parked(seq=5, state=DEAD, attempts=12, error="ValueError: odd"),
        Parked(seq=12, state=DEAD),
        Parked(seq=13, state=DISCARDED),
        Parked(seq=1, state=RETRYING, replayed=True, asked=True),
        Parked(seq=2, state=RETRYING),
    ]
    await owner.settle(cursor=6, park=rows)
    await owner.settle(cursor=10, release=[2])
    await engine.close(journal)
    standing = (await take(await engine.open())).standing
    assert standing.cursor == 10
    assert standing.parked == [rows[0], rows[1], rows[5]]
    assert sorted(standing.dead_ahead) == [12, 13]


async def test_a_row_that_is_parked_again_replaces_the_one_before(engine: Engine) -> None:
    """One row for each plugin and event."""
    journal = await engine.open()
    await fill(journal, 2)
    owner, other = await take(journal), await take(journal, "other")
    await owner.settle(cursor=2, park=[Parked(seq=1, state=RETRYING, attempts=1)])
    await other.settle(cursor=2, park=[Parked(seq=1, state=RETRYING, attempts=7)])
    await owner.settle(park=[Parked(seq=1, state=RETRYING, attempts=2)])
    assert [row.attempts for row in await owner.parked()] == [2]
    assert [row.attempts for row in await other.parked()] == [7]


async def test_events_without_a_conversation_are_given_a_bounded_number_at_a_time(engine: Engine) -> None:
    """Those of conversations all, since their order counts; of the others the first few thousand."""
    journal = await engine.open()
    owner = await take(journal)
    await fill(journal, UNORDERED + 99)
    rows = [Parked(seq=seq, state=RETRYING) for seq in range(1, UNORDERED + 50)]
    ordered = Parked(seq=UNORDERED + 99, state=RETRYING, conversation="acme/1")
    await owner.settle(park=[*rows, ordered])
    assert await owner.parked() == [ordered, *rows[:UNORDERED]]


async def test_each_take_has_a_later_epoch(engine: Engine) -> None:
    """Also after a restart, and for each plugin by itself."""
    journal = await engine.open()
    epochs = [(await take(journal)).standing.epoch for _ in range(3)]
    other = (await take(journal, "other")).standing.epoch
    await engine.close(journal)
    epochs.append((await take(await engine.open())).standing.epoch)
    assert epochs == sorted(set(epochs))
    assert other < epochs[-1]


async def test_an_owner_that_was_replaced_changes_nothing_any_more(engine: Engine) -> None:
    """Whatever it writes ends in `LeaseLost`, and the new owner's progress stands."""
    journal = await engine.open()
    await fill(journal, 9)
    old = await take(journal)
    await old.settle(cursor=2)
    new = await take(journal)
    await new.settle(cursor=5)
    with pytest.raises(LeaseLost):
        await old.settle(cursor=3, park=[Parked(seq=1, state=DEAD)], release=[2])
    with pytest.raises(LeaseLost):
        await old.mark_running(4)
    with pytest.raises(LeaseLost):
        await old.mark_survived(4)
    with pytest.raises(LeaseLost):
        await old.release()
    await new.release()
    standing = (await take(journal)).standing
    assert (standing.cursor, standing.clean, standing.crashes, standing.dead_ahead) == (5, True, {}, [])


async def test_a_cursor_that_was_never_taken_cannot_be_settled(engine: Engine) -> None:
    """There is no lease to hold."""
    journal = await engine.open()
    with pytest.raises(LeaseLost):
        await journal.settle(Settlement(track=Track("nobody"), epoch=1, cursor=3))


async def test_the_next_owner_is_told_whether_the_last_one_ended_cleanly(engine: Engine) -> None:
    """Released, released with doubts, and not released at all; each plugin's cursor by itself."""
    journal = await engine.open()
    await (await take(journal)).release()
    assert (await take(journal)).standing.clean
    owner = await take(journal)
    assert not owner.standing.clean
    await owner.release(clean=False)
    assert not (await take(journal)).standing.clean
    assert (await take(journal, "other")).standing.clean


async def test_a_delivery_that_was_running_when_the_owner_died_counts_as_a_crash(engine: Engine) -> None:
    """Each time; one that was survived before does not, and none where the owner released the cursor."""
    journal = await engine.open()
    owner = await take(journal)
    await owner.mark_running(7)
    await owner.mark_running(8)
    await owner.mark_survived(8)
    await engine.close(journal)
    journal = await engine.open()
    owner = await take(journal)
    assert owner.standing.crashes == {7: 1}
    await owner.mark_running(7)
    await engine.close(journal)
    owner = await take(await engine.open())
    assert owner.standing.crashes == {7: 2}
    await owner.mark_running(9)
    await owner.release(clean=False)
    owner = await take(owner.journal)
    assert owner.standing.crashes == {7: 2}
    await owner.mark_survived(7)
    assert (await take(owner.journal)).standing.crashes == {}


async def test_changes_are_not_older_than_the_settlements_before_them(engine: Engine) -> None:
    """Asked for right after a settlement was handed over, they have it."""
    journal = await engine.open()
    await fill(journal, 3)
    owner = await take(journal)
    settling = asyncio.create_task(owner.settle(park=[Parked(seq=1, state=RETRYING)]))
    await asyncio.sleep(0)
    assert [row.seq for row in await owner.parked()] == [1]
    await settling


async def test_a_replay_is_shown_until_it_is_finished(engine: Engine) -> None:
    """With its progress, also after a restart."""
    journal = await engine.open()
    await fill(journal, 6)
    owner = await take(journal)
    replay = await journal.new_replay(Filter(plugin="crm"))
    assert (replay.plugin, replay.position, replay.until, replay.matched, replay.done) == ("crm", 0, 6, 6, 0)
    await owner.settle(replay=ReplayProgress(replay.number, 4, 3))
    operation = await operation_of(journal, replay.number)
    assert (operation.done, operation.state) == (3, "running")
    await engine.close(journal)
    owner = await take(await engine.open())
    [again] = owner.standing.replays
    assert (again.number, again.filter, again.position, again.done) == (replay.number, Filter(plugin="crm"), 4, 3)
    await owner.settle(replay=ReplayProgress(replay.number, 6, 2))
    operation = await operation_of(owner.journal, replay.number)
    assert (operation.done, operation.state) == (5, "finished")
    assert (await owner.journal.changes(owner.track)).replays == []
