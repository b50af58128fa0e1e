"""Appending: what is kept, what is a duplicate, what is a conflict."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import msgspec
import pytest
from conformance.engines import Engine, events_in, fill, ids_in, put
from journal_kit import ACME, message, payment

from gateway import simulate

OTHER = "umbrella"
DAY = 86400.0


async def test_an_event_keeps_its_bytes_and_what_was_read_of_it(engine: Engine) -> None:
    """The body is kept byte for byte, with the fields that filters need."""
    journal = await engine.open()
    raw = b'  {"type":"payment", "amount": 12.50,\n "big": 123456789012345678901234567890, "amount": "x",'
    raw += b' "conversationId": "c\\u00001", "customerUID": 77}  '
    receipt = await put(journal, raw)
    [event] = await events_in(journal)
    assert event.raw == raw
    assert (event.id, event.organisation, event.hook, event.readable) == (receipt.id, ACME, "payment", True)
    assert (event.conversation_id, event.customer_uid) == ("c\0001", "77")
    assert event.received_at.timestamp() == pytest.approx(engine.clock(), abs=1e-6)


async def test_events_stand_in_the_order_of_their_appends(engine: Engine) -> None:
    """Also those that were appended together, and across a restart; no position is given twice."""
    ids = []
    for count in (1, 50, 3):
        journal = await engine.open()
        ids += await fill(journal, count)
        await engine.close(journal)
    journal = await engine.open()
    assert await ids_in(journal) == ids
    assert [seq for seq, _ in await journal.read(0, 100)] == list(range(1, 55))
    assert journal.newest == 54


async def test_the_same_body_within_the_window_is_a_duplicate(engine: Engine) -> None:
    """The second is answered with the first's id and not kept again; the last moment of the window counts."""
    engine.configure(dedupe_window="24h")
    journal, raw = await engine.open(), message()
    first = await put(journal, raw)
    engine.clock.advance(1)
    soon = await put(journal, raw)
    engine.clock.advance(DAY - 1)
    late = await put(journal, raw)
    assert not first.duplicate
    assert soon == late == msgspec.structs.replace(first, duplicate=True)
    assert await ids_in(journal) == [first.id]


async def test_the_same_body_outside_the_window_is_a_new_event(engine: Engine) -> None:
    """The window starts again with the new event, and neither of them is a conflict: they do not differ."""
    engine.configure(dedupe_window="24h")
    journal, raw, receipts = await engine.open(), message(), []
    for pause in (0, DAY + 1, DAY - 1, 2, DAY + 1):
        engine.clock.advance(pause)
        receipts.append(await put(journal, raw))
    assert [receipt.duplicate for receipt in receipts] == [False, False, True, False, False]
    assert receipts[2].id == receipts[1].id
    assert len({receipt.id for receipt in receipts if not receipt.duplicate}) == 4
    assert [event.conflict for event in await events_in(journal)] == [False] * 4


async def test_a_clock_that_went_back_makes_no_difference_to_duplicates(engine: Engine) -> None:
    """The window reaches to both sides, so that a corrected clock lets no repeat through."""
    engine.configure(dedupe_window="24h")
    journal, raw = await engine.open(), message()
    first = await put(journal, raw)
    engine.clock.advance(-3600)
    assert [first.duplicate, (await put(journal, raw)).duplicate] == [False, True]


async def test_the_same_body_twice_in_one_group_is_one_event(engine: Engine) -> None:
    """The check and the insert are one, also within a group."""
    journal = await engine.open()
    bodies = [message() for _ in range(100)]
    receipts = await asyncio.gather(*(put(journal, raw) for raw in bodies for _ in range(3)))
    assert [receipt.duplicate for receipt in receipts] == [False, True, True] * 100
    assert [one.id for one in receipts[1::3]] == [one.id for one in receipts[::3]] == await ids_in(journal)


async def test_a_repeat_beside_new_events_changes_nothing_for_those(engine: Engine) -> None:
    """Old bodies, repeats within the group and new ones together: each gets what is due to it."""
    engine.configure(dedupe_window="1h")
    journal = await engine.open()
    old, recent, fresh = message(), message(), message()
    first = await put(journal, old)
    engine.clock.advance(4000)
    second = await put(journal, recent)
    bodies = (fresh, recent, old, message(), old, fresh, message())
    group = await asyncio.gather(*(put(journal, raw) for raw in bodies))
    assert [receipt.duplicate for receipt in group] == [False, True, False, False, True, True, False]
    assert group[1].id == second.id
    assert group[2].id != first.id
    assert group[4].id == group[2].id
    assert group[5].id == group[0].id
    assert await ids_in(journal) == [first.id, second.id, group[0].id, group[2].id, group[3].id, group[6].id]


async def test_a_body_without_a_date_is_never_a_duplicate(engine: Engine) -> None:
    """Unsure means keep: without `dateCreated` two equal bodies may be two events."""
    journal, raw = await engine.open(), payment()
    receipts = await asyncio.gather(*(put(journal, raw) for _ in range(3)))
    assert [receipt.duplicate for receipt in receipts] == [False, False, False]
    assert len(await ids_in(journal)) == 3


async def test_equal_bodies_of_two_organisations_are_two_events(engine: Engine) -> None:
    """Nothing of one organisation is a duplicate or a conflict for another."""
    journal, raw = await engine.open(), message()
    receipts = await asyncio.gather(*(put(journal, raw, organisation) for organisation in (ACME, OTHER, ACME, OTHER)))
    assert [receipt.duplicate for receipt in receipts] == [False, False, True, True]
    events = await events_in(journal)
    assert [(event.organisation, event.conflict) for event in events] == [(ACME, False), (OTHER, False)]


async def test_equal_bodies_of_two_hooks_are_two_events(engine: Engine) -> None:
    """The path may name another hook than the body: what counts is the hook it was received as."""
    journal, raw = await engine.open(), message()
    receipts = await asyncio.gather(*(put(journal, raw, hook=hook) for hook in ("payment", "set-status", "payment")))
    assert [(receipt.hook, receipt.duplicate) for receipt in receipts] == [
        ("payment", False),
        ("set-status", False),
        ("payment", True),
    ]


async def test_a_space_more_makes_another_body(engine: Engine) -> None:
    """Byte for byte: what only means the same is kept, here as a conflict of the same message."""
    journal, raw = await engine.open(), message()
    receipts = await asyncio.gather(put(journal, raw), put(journal, raw + b" "))
    assert [receipt.duplicate for receipt in receipts] == [False, False]
    assert [event.conflict for event in await events_in(journal)] == [False, True]


@pytest.mark.parametrize("together", [True, False], ids=["in one group", "one after the other"])
async def test_the_same_message_with_another_body_is_a_conflict(engine: Engine, together: bool) -> None:
    """Two events, the second flagged; another message is not one."""
    journal, fields = await engine.open(), simulate.body("delivery-report")
    bodies = [
        simulate.encode(fields | changed)
        for changed in ({}, {"note": "other"}, {"statusCode": "7"}, {"note": "third"}, {"communicationActionId": "1"})
    ]
    if together:
        await asyncio.gather(*(put(journal, raw) for raw in bodies))
    else:
        for raw in bodies:
            await put(journal, raw)
    fetched = await journal.fetch([1, 2, 3, 4, 5])
    expected = [False, True, False, True, False]
    assert [entry.event.conflict for entry in await journal.read(0, 10)] == expected
    assert [fetched[seq].conflict for seq in sorted(fetched)] == expected


async def test_a_repeat_of_a_conflicting_body_is_a_duplicate(engine: Engine) -> None:
    """A conflict is an event of its own, whose repeat is one too."""
    journal, fields = await engine.open(), simulate.body("message-send")
    first, second = simulate.encode(fields), simulate.encode(fields | {"body": "other"})
    receipts = [await put(journal, raw) for raw in (first, second, second, first)]
    assert [receipt.duplicate for receipt in receipts] == [False, False, True, True]
    assert [event.conflict for event in await events_in(journal)] == [False, True]


async def test_an_unreadable_event_is_kept_and_recognised_again(engine: Engine) -> None:
    """`readable: false` for the event and for its repeat."""
    journal = await engine.open()
    raw = b'{"type": "inboundMessage", "conversationId": {}, "dateCreated": "2026-01-01 10:00:00.000"}'
    receipts = [await put(journal, raw), await put(journal, raw)]
    assert [(receipt.readable, receipt.duplicate) for receipt in receipts] == [(False, False), (False, True)]


@pytest.mark.parametrize("created", ["0001-01-01 00:00:00", "9999-12-31 23:59:59.999999", "2026-01-01T00:00:00+14:00"])
async def test_dates_at_the_ends_of_time_are_kept(engine: Engine, created: str) -> None:
    """No date that can be read is too early or too late for the journal."""
    journal, raw = await engine.open(), message(dateCreated=created)
    assert [(await put(journal, raw)).duplicate for _ in range(2)] == [False, True]


async def test_ids_sort_by_the_time_of_receipt_and_never_repeat(engine: Engine) -> None:
    """Ten thousand ids, many of one moment: all different; those of later moments are greater."""
    journal, moments = await engine.open(), []
    for _ in range(20):
        moments.append(await fill(journal, 500))
        engine.clock.advance(0.000_5)
    assert len({event_id for moment in moments for event_id in moment}) == 10_000
    assert all(max(earlier) < min(later) for earlier, later in pairwise(moments))


async def test_repeats_leave_no_gap_before_the_newest_event(engine: Engine) -> None:
    """The newest position is that of an event, so that no plugin seems to be behind when all was delivered."""
    journal, raw = await engine.open(), message()
    for _ in range(6):
        await put(journal, raw)
    [entry] = await journal.read(0, 10)
    assert (journal.newest, entry.seq) == (1, 1)


async def test_listeners_are_called_once_events_can_be_read(engine: Engine) -> None:
    """After the call, reading on from where the reader stood gives what is new."""
    journal, woken, read = await engine.open(), asyncio.Event(), list[str]()
    journal.on_commit.append(woken.set)
    adding = asyncio.gather(*(fill(journal, 50) for _ in range(4)))
    position = 0
    while len(read) < 200:
        await asyncio.wait_for(woken.wait(), 10)
        woken.clear()
        for entry in await journal.read(position, 1000):
            position = entry.seq
            read.append(entry.event.id)
    assert read == [event_id for ids in await adding for event_id in ids]
