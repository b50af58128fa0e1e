"""Erasing a customer, an address or a conversation: what goes, and what stays."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from conformance.engines import Engine, events_in, operation_of, put, take
from journal_kit import message

from gateway.journal.interface import DEAD, RETRYING, Filter, Parked
from gateway.journal.search import ValueRecord

BY = [
    Filter(customer="4711"),
    Filter(address="+353 86 123 4567"),
    Filter(conversation="c-1"),
    Filter(customer="4711", organisation="acme"),
]


def theirs(**fields: str) -> bytes:
    return message(customerUID="4711", outboundChannelAddress="00353861234567"[2:], conversationId="c-1", **fields)


def anothers() -> bytes:
    return message(customerUID="47110", outboundChannelAddress="+353861234568", conversationId="c-10")


@pytest.mark.parametrize("which", BY, ids=["customer", "address", "conversation", "organisation"])
async def test_what_matches_goes_and_all_else_stays(engine: Engine, which: Filter) -> None:
    """Also what no plugin has taken yet; the number and the positions are told."""
    journal = await engine.open()
    for raw in (theirs(), anothers(), theirs(), anothers()):
        await put(journal, raw)
    other = await put(journal, theirs(), "umbrella")
    erased = await journal.forget(which)
    left = [event.customer_uid for event in await events_in(journal)]
    if which.organisation is None:
        assert (erased.events, sorted(erased.seqs), left) == (3, [1, 3, 5], ["47110"] * 2)
    else:
        assert (erased.events, sorted(erased.seqs), left) == (2, [1, 3], ["47110", "47110", "4711"])
        assert [event.id for event in await events_in(journal)][-1] == other.id
    assert (await journal.forget(which)).events == 0


async def test_dead_letters_and_retries_of_it_go(engine: Engine) -> None:
    """A settlement that comes afterwards does not bring them back."""
    journal = await engine.open()
    for raw in (theirs(), anothers(), theirs()):
        await put(journal, raw)
    owner = await take(journal)
    rows = [Parked(seq=1, state=DEAD), Parked(seq=2, state=DEAD), Parked(seq=3, state=RETRYING)]
    await owner.settle(3, rows)
    await journal.forget(Filter(customer="4711"))
    assert [await journal.count_dead(Filter()), await owner.parked()] == [1, []]
    await owner.settle(park=rows)
    assert [await journal.count_dead(Filter()), await owner.parked()] == [1, []]


async def test_an_erased_event_is_no_longer_known_as_a_duplicate(engine: Engine) -> None:
    """What would tell a repeat is erased with it, and so is what would tell a conflict."""
    journal, raw = await engine.open(), theirs()
    first = await put(journal, raw)
    await journal.forget(Filter(customer="4711"))
    again, changed = await put(journal, raw), await put(journal, raw.rstrip(b"}") + b', "more": 1}')
    assert (again.duplicate, changed.duplicate, again.id == first.id) == (False, False, False)
    assert [event.conflict for event in await events_in(journal)] == [False, True]


async def test_the_position_of_an_erased_event_is_not_given_again(engine: Engine) -> None:
    """Also after a restart."""
    journal = await engine.open()
    for raw in (anothers(), theirs(), theirs()):
        await put(journal, raw)
    await journal.forget(Filter(conversation="c-1"))
    await engine.close(journal)
    journal = await engine.open()
    await put(journal, anothers())
    assert [entry.seq for entry in await journal.read(0, 10)] == [1, 4]


async def test_more_than_a_step_is_erased_in_steps(engine: Engine) -> None:
    """Every second of 2,500 events."""
    journal = await engine.open()
    futures = [put(journal, theirs() if number % 2 else anothers()) for number in range(2500)]
    for future in futures:
        await future
    assert (await journal.forget(Filter(customer="4711"))).events == 1250
    assert {event.customer_uid for event in await events_in(journal)} == {"47110"}
    assert len(await events_in(journal)) == 1250


async def test_records_of_requests_about_the_customer_go(engine: Engine) -> None:
    """With the selector of a customer; those of others stay."""
    journal = await engine.open()
    for organisation, uid in (("acme", "4711"), ("umbrella", "4711"), ("acme", "12"), ("acme", None)):
        journal.record_value_request(
            ValueRecord(
                at=datetime.now(UTC), organisation=organisation, customer_uid=uid, address=None, fields={}, status=200
            )
        )
    await journal.probe()
    assert (await journal.forget(Filter(conversation="4711"))).value_records == 0
    assert (await journal.forget(Filter(customer="4711", organisation="acme"))).value_records == 1
    assert (await journal.forget(Filter(customer="4711"))).value_records == 1


async def test_a_replay_that_was_asked_for_by_the_customer_ends(engine: Engine) -> None:
    """Nothing more comes of it."""
    journal = await engine.open()
    for raw in (theirs(), anothers()):
        await put(journal, raw)
    owner = await take(journal)
    replay = await journal.new_replay(Filter(plugin="crm", customer="4711"))
    other = await journal.new_replay(Filter(plugin="crm", customer="47110"))
    await journal.forget(Filter(customer="4711"))
    operation = await operation_of(journal, replay.number)
    assert (operation.state, operation.filter) == ("finished", Filter(ids=("erased",)))
    assert [one.number for one in (await journal.changes(owner.track)).replays] == [other.number]
