"""What operators ask for: filters, dead letters, replays, retired plugins."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from conformance.engines import Engine, Owner, fill, ids_in, operation_of, put, take, until_left
from journal_kit import ACME, message, payment

from gateway.journal.contents import error_key
from gateway.journal.interface import DEAD, NO_TAKER, RETRYING, WAITING, Filter, Journal, Parked, ReplayProgress
from gateway.journal.operator import PluginAnswers, carry_out

OTHER = "umbrella"
START = 1_700_000_000.0


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(START, UTC) + timedelta(seconds=seconds)


async def mixed(engine: Engine) -> tuple[Journal, list[str]]:
    """Ten events, a minute apart: two organisations, two hooks, three conversations; their ids."""
    journal, ids = await engine.open(), []
    for number in range(10):
        raw = message(conversationId=str(number % 3)) if number % 2 else payment(conversationId=str(number % 3))
        ids.append((await put(journal, raw, OTHER if number in (3, 4) else ACME)).id)
        engine.clock.advance(60)
    return journal, ids


@pytest.mark.parametrize(
    ("which", "numbers"),
    [
        (Filter(), range(10)),
        (Filter(hook="payment"), (0, 2, 4, 6, 8)),
        (Filter(hook="set-status"), ()),
        (Filter(organisation=OTHER), (3, 4)),
        (Filter(conversation="1"), (1, 4, 7)),
        (Filter(conversation="1", organisation=ACME), (1, 7)),
        (Filter(conversation="1' OR '1'='1"), ()),
        (Filter(since=at(180)), range(3, 10)),
        (Filter(since=at(180.000_001)), range(4, 10)),
        (Filter(until=at(180)), (0, 1, 2)),
        (Filter(until=at(180.000_001)), (0, 1, 2, 3)),
        (Filter(since=at(60), until=at(240)), (1, 2, 3)),
        (Filter(since=at(240), until=at(60)), ()),
        (Filter(since=datetime(1, 1, 2, tzinfo=UTC), until=datetime(9999, 12, 30, tzinfo=UTC)), range(10)),
        (Filter(hook="payment", conversation="0", since=at(1)), (6,)),
        (Filter(ids=("nobody's",)), ()),
    ],
    ids=repr,
)
async def test_every_condition_of_a_filter_must_hold(
    engine: Engine, which: Filter, numbers: tuple[int, ...] | range
) -> None:
    """`since` is inclusive and `until` exclusive; a replay matches the same events."""
    journal, ids = await mixed(engine)
    assert await ids_in(journal, which) == [ids[number] for number in numbers]
    replay = await journal.new_replay(msgspec.structs.replace(which, plugin="crm"))
    assert replay.matched == len(numbers)


async def test_a_clock_that_was_set_back_hides_nothing_from_a_filter_of_time(engine: Engine) -> None:
    """What counts is the moment of receipt that the event bears, whatever came before it."""
    journal, ids = await mixed(engine)
    engine.clock.advance(-480)  # to the minute of the third event
    early = (await put(journal, message())).id
    assert await ids_in(journal, Filter(until=at(180))) == [*ids[:3], early]
    assert await ids_in(journal, Filter(since=at(120), until=at(180))) == [ids[2], early]
    assert await ids_in(journal, Filter(since=at(180))) == ids[3:]
    assert await ids_in(journal, Filter(ids=(early, ids[9]))) == [ids[9], early]


# Two plugins and eight events. `late` began after the second; `archive` is through the sixth, `late` the fifth.
PARKED = {
    "archive": [Parked(seq=2, state=DEAD), Parked(seq=3, state=RETRYING), Parked(seq=4, state=WAITING)],
    "late": [Parked(seq=4, state=DEAD), Parked(seq=7, state=RETRYING)],
}
STATES: dict[str, list[str | None]] = {
    "archive": ["delivered", "dead", "retrying", "waiting", "delivered", "delivered", "waiting", "waiting"],
    "late": [None, None, "delivered", "dead", "delivered", "waiting", "retrying", "waiting"],
}


async def with_states(engine: Engine) -> tuple[Journal, list[str]]:
    journal = await engine.open()
    archive = await take(journal, "archive")
    ids = await fill(journal, 2)
    late = await take(journal, "late", from_start=False)
    gone = await take(journal, "gone")
    ids += await fill(journal, 6)
    await gone.settle(park=[Parked(seq=1, state=RETRYING)])
    await archive.settle(cursor=6, park=PARKED["archive"])
    await late.settle(cursor=5, park=PARKED["late"])
    await journal.retire_cursors(["archive", "late"])
    return journal, ids


@pytest.mark.parametrize("state", ["dead", "retrying", "waiting", "delivered"])
async def test_a_state_is_one_plugins_or_any(engine: Engine, state: str) -> None:
    """Of one plugin; without a plugin at any that is there, and delivered means to all of them."""
    journal, ids = await with_states(engine)
    for plugin, states in STATES.items():
        expected = [event_id for event_id, found in zip(ids, states, strict=True) if found == state]
        assert await ids_in(journal, Filter(plugin=plugin, state=state)) == expected
    pairs = [{found for found in pair if found} for pair in zip(*STATES.values(), strict=True)]
    holds = [found == {state} if state == "delivered" else state in found for found in pairs]
    assert await ids_in(journal, Filter(state=state)) == [ids[n] for n, held in enumerate(holds) if held]


async def test_an_event_without_a_hook_has_no_taker(engine: Engine) -> None:
    """What counts are the hooks that a plugin had when the event came; one that cannot be read needs `on_event`."""
    journal = await engine.open()
    crm = await take(journal, "crm", hooks=("payment", "set-status"))
    message_id, payment_id = (await put(journal, message())).id, (await put(journal, payment())).id
    unreadable = (await put(journal, b'{"conversationId": {}}', hook="payment")).id
    await crm.settle(cursor=3)
    await crm.release()
    crm = await take(journal, "crm", hooks=("inbound-message",))
    later = (await put(journal, payment())).id
    assert await ids_in(journal, Filter(state=NO_TAKER)) == [message_id, unreadable, later]
    assert await ids_in(journal, Filter(state=NO_TAKER, plugin="crm")) == [message_id, unreadable, later]
    assert await ids_in(journal, Filter(state="delivered")) == [payment_id]
    assert await ids_in(journal, Filter(state=WAITING)) == []

    await crm.settle(cursor=4, park=[Parked(seq=4, state=DEAD)])
    assert await ids_in(journal, Filter(state=NO_TAKER)) == [message_id, unreadable]

    await take(journal, "archive", from_start=False)
    both = (await put(journal, payment())).id
    assert await ids_in(journal, Filter(state=NO_TAKER, plugin="crm")) == [message_id, unreadable, both]
    assert await ids_in(journal, Filter(state=WAITING)) == [both]


async def test_an_event_that_is_held_back_has_no_taker(engine: Engine) -> None:
    """Its row says so, though the plugin has a hook for it; until a replay delivers it. Retention does not wait for
    that row."""
    engine.configure(retention="1h")
    journal = await engine.open()
    crm, archive = await take(journal, "crm"), await take(journal, "archive")
    held, both, taken = [(await put(journal, payment())).id for _ in range(3)]
    await crm.settle(cursor=3, park=[Parked(seq=1, state=NO_TAKER), Parked(seq=2, state=NO_TAKER)])
    await archive.settle(cursor=3, park=[Parked(seq=1, state=NO_TAKER)])
    assert await ids_in(journal, Filter(state=NO_TAKER)) == [held]
    assert await ids_in(journal, Filter(state=NO_TAKER, plugin="crm")) == [held, both]
    assert await ids_in(journal, Filter(state="delivered")) == [both, taken]
    assert await ids_in(journal, Filter(state="delivered", plugin="crm")) == [taken]
    assert await ids_in(journal, Filter(state=WAITING)) == []
    assert await crm.parked() == []
    assert await journal.oldest_undelivered() == {}

    await crm.settle(release=[1], replayed=[1])
    assert await ids_in(journal, Filter(state="delivered")) == [held, both, taken]
    engine.clock.advance(3601)
    await until_left(journal, 0)


@pytest.mark.parametrize(
    ("hooks", "taken"),
    [
        (("payment*",), {"paid", "unreadable"}),
        (("payment",), {"paid"}),
        (("unknown*",), {"unknown"}),
        (("*@acme",), {"message", "paid", "unreadable", "unknown"}),
        (("*@other", "payment@acme"), {"paid"}),
        (("payment*@acme", "payment@other"), {"paid", "unreadable"}),
        (("payment@other", "payment*@acm", "ayment*", "set-status*"), set()),
    ],
)
async def test_what_a_plugin_takes_may_be_a_part_of_the_events(
    engine: Engine, hooks: tuple[str, ...], taken: set[str]
) -> None:
    """See `journal/takes.py`. Listings, counts and the age of the oldest agree."""
    journal = await engine.open()
    await take(journal, "crm", hooks=hooks)
    ids = {
        "message": (await put(journal, message())).id,
        "paid": (await put(journal, payment())).id,
        "unreadable": (await put(journal, b'{"conversationId": {}}', hook="payment")).id,
        "unknown": (await put(journal, payment(type="cardPaid"))).id,
    }
    expected = [ids[name] for name in ids if name in taken]
    assert await ids_in(journal, Filter(state=WAITING, plugin="crm")) == expected
    assert await ids_in(journal, Filter(state=NO_TAKER)) == [ids[name] for name in ids if name not in taken]
    assert (await journal.oldest_undelivered() != {}) is bool(taken)


async def test_the_oldest_event_that_a_plugin_has_still_to_take(engine: Engine) -> None:
    """It is parked, or past the cursor; an event without a hook and a dead letter are not waited for."""
    journal = await engine.open()
    crm, archive = await take(journal, "crm", hooks=("payment",)), await take(journal, "archive")
    assert await journal.oldest_undelivered() == {}
    for body in (message(), payment(), payment(), message()):
        await put(journal, body)
        engine.clock.advance(10)
    assert await journal.oldest_undelivered() == {"crm": START + 10, "archive": START}
    await crm.settle(cursor=4, park=[Parked(seq=2, state=DEAD), Parked(seq=3, state=RETRYING)])
    await archive.settle(cursor=3)
    assert await journal.oldest_undelivered() == {"crm": START + 20, "archive": START + 30}
    await crm.settle(release=[3])
    await archive.settle(cursor=4, park=[Parked(seq=1, state=WAITING), Parked(seq=4, state=WAITING)])
    assert await journal.oldest_undelivered() == {"archive": START}


async def test_a_replay_delivers_what_had_no_taker(engine: Engine) -> None:
    """The state is `delivered` then, and retention does not wait for that row."""
    engine.configure(retention="1h")
    journal = await engine.open()
    crm = await take(journal, "crm", hooks=("payment",))
    first, second = [(await put(journal, message())).id for _ in range(2)]
    await crm.settle(cursor=2, replayed=[1])
    assert await ids_in(journal, Filter(state="delivered")) == [first]
    assert await ids_in(journal, Filter(state=NO_TAKER)) == [second]
    assert await crm.parked() == []
    engine.clock.advance(3601)
    await until_left(journal, 0)


async def test_an_unknown_event_gets_the_hook_that_its_name_has_now(engine: Engine) -> None:
    """Where it is replayed by its name. A plugin that has got it since does not get it again."""
    engine.configure()
    journal = await engine.open()
    crm, archive = await take(journal, "crm", hooks=("payment",)), await take(journal, "archive")
    raw = payment(type="cardPaid")
    ids = [(await put(journal, body)).id for body in (raw, raw, message(), b'{"type": "brandNew"}', b"{}")]
    for owner in (crm, archive):
        await owner.settle(cursor=5)
        await owner.release()
    names = await journal.unknown_names()
    assert [(one.name, one.number) for one in names] == [("cardPaid", 2), (None, 1), ("brandNew", 1)]
    assert (await journal.new_replay(Filter(plugin="crm", names=("cardPaid",)))).matched == 2
    assert await ids_in(journal, Filter(hook="payment")) == []  # the config has no hook for it yet
    await engine.close(journal)

    engine.know("payment", "cardPaid")
    journal = await engine.open()
    which = Filter(plugin="crm", names=("cardPaid", "brandNew"))
    assert (await journal.new_replay(which)).matched == 3
    assert await ids_in(journal, Filter(hook="payment")) == ids[:2]
    assert [(one.name, one.number) for one in await journal.unknown_names()] == [(None, 1), ("brandNew", 1)]
    assert await ids_in(journal, Filter(state="delivered", plugin="crm")) == []
    crm = await take(journal, "crm", hooks=("payment",))
    await crm.settle(replayed=[1])
    assert await ids_in(journal, Filter(state="delivered", plugin="crm")) == ids[:1]
    assert await ids_in(journal, msgspec.structs.replace(which, names=("cardPaid",))) == ids[1:2]
    assert await ids_in(journal, Filter(plugin="archive", names=("cardPaid",))) == ids[:2]


async def with_dead(engine: Engine, conversations: str) -> Owner:
    """An event for each letter, its conversation; all of them dead letters of `crm`."""
    journal = await engine.open()
    for conversation in conversations:
        await put(journal, message(conversationId=conversation))
    owner = await take(journal)
    rows = [
        Parked(seq=seq, state=DEAD, attempts=12, error="OSError", next_at=9.0, conversation=f"{ACME}/{conversation}")
        for seq, conversation in enumerate(conversations, 1)
    ]
    await owner.settle(cursor=len(conversations), park=rows)
    return owner


async def test_retried_dead_letters_are_due_without_an_order(engine: Engine) -> None:
    """With no attempts counted; those that do not match stay dead."""
    owner = await with_dead(engine, "aab")
    journal = owner.journal
    assert await journal.count_dead(Filter()) == 3
    assert await journal.retry_dead(Filter(conversation="a")) == 2
    rows = await owner.parked()
    assert [(row.seq, row.state, row.attempts, row.next_at) for row in rows] == [
        (1, RETRYING, 0, 0),
        (2, RETRYING, 0, 0),
    ]
    assert [row.conversation for row in rows] == [None, None]
    assert await journal.count_dead(Filter()) == 1
    assert await journal.retry_dead(Filter(conversation="a")) == 0


async def test_dead_letters_retried_in_order_stand_behind_one_another(engine: Engine) -> None:
    """The first of each conversation is due, the others wait for it."""
    owner = await with_dead(engine, "abaab")
    assert await owner.journal.retry_dead(Filter(), in_order=True) == 5
    rows = await owner.parked()
    assert [row.state for row in rows] == [RETRYING, RETRYING, WAITING, WAITING, WAITING]
    assert [row.conversation for row in rows] == [f"{ACME}/{letter}" for letter in "abaab"]
    assert {(row.attempts, row.next_at) for row in rows} == {(0, 0.0)}


async def test_a_letter_retried_in_order_waits_behind_an_earlier_event_that_is_parked(engine: Engine) -> None:
    """And goes before a later one; one that lost its conversation by an earlier retry has it again."""
    owner = await with_dead(engine, "aaa")
    await owner.journal.retry_dead(Filter())
    await owner.settle(park=[Parked(seq=2, state=RETRYING, conversation=f"{ACME}/a")])
    await owner.settle(park=[Parked(seq=seq, state=DEAD) for seq in (1, 3)])
    assert await owner.journal.retry_dead(Filter(), in_order=True) == 2
    rows = await owner.parked()
    assert [(row.seq, row.state, row.conversation) for row in rows] == [
        (1, RETRYING, f"{ACME}/a"),
        (2, RETRYING, f"{ACME}/a"),
        (3, WAITING, f"{ACME}/a"),
    ]


async def test_an_event_without_a_conversation_is_retried_at_once(engine: Engine) -> None:
    """In order or not, there is nothing to wait for."""
    journal = await engine.open()
    await asyncio.gather(*(put(journal, message(conversationId="")) for _ in range(2)))
    owner = await take(journal)
    await owner.settle(cursor=2, park=[Parked(seq=seq, state=DEAD) for seq in (1, 2)])
    assert await journal.retry_dead(Filter(), in_order=True) == 2
    assert [(row.state, row.conversation) for row in await owner.parked()] == [(RETRYING, None)] * 2


@pytest.mark.parametrize("in_order", [False, True])
async def test_more_dead_letters_than_a_step_are_all_retried(engine: Engine, in_order: bool) -> None:
    """However many match; in order, each conversation has one that is due."""
    journal = await engine.open()
    count = 2300
    await asyncio.gather(*(put(journal, message(conversationId=str(number % 10))) for number in range(count)))
    owner = await take(journal)
    await owner.settle(cursor=count, park=[Parked(seq=seq, state=DEAD) for seq in range(1, count + 1)])
    assert await journal.retry_dead(Filter(), in_order=in_order) == count
    rows = await owner.parked()
    assert len(rows) == count
    assert [row.seq for row in rows if row.state == RETRYING] == list(range(1, 11 if in_order else count + 1))


async def test_dead_letters_of_other_plugins_stay(engine: Engine) -> None:
    """A filter's plugin, and the plugins that are switched on, narrow what is retried and discarded."""
    journal = await engine.open()
    await fill(journal, 2)
    owners = {plugin: await take(journal, plugin) for plugin in ("one", "two", "three")}
    for owner in owners.values():
        await owner.settle(cursor=2, park=[Parked(seq=seq, state=DEAD) for seq in (1, 2)])
    assert await journal.count_dead(Filter(plugin="one")) == 2
    assert await journal.retry_dead(Filter(plugin="one"), ["one", "two"]) == 2
    assert await journal.retry_dead(Filter(), ["two"]) == 2
    assert await journal.count_dead(Filter()) == 2
    assert await journal.discard_dead(Filter(plugin="two")) == 0
    assert await journal.discard_dead(Filter(plugin="three")) == 2


async def test_discarded_dead_letters_are_neither_counted_nor_retried(engine: Engine) -> None:
    """Nor delivered: their event is of none of the states."""
    owner = await with_dead(engine, "aab")
    journal = owner.journal
    assert await journal.discard_dead(Filter(conversation="a")) == 2
    assert await journal.count_dead(Filter()) == 1
    assert await journal.retry_dead(Filter()) == 1
    assert [row.seq for row in await owner.parked()] == [3]
    assert await ids_in(journal, Filter(state="delivered")) == []


async def test_replays_have_numbers_of_their_own(engine: Engine) -> None:
    """They count from 1; no operation has any other number."""
    journal, _ = await mixed(engine)
    first = await journal.new_replay(Filter(plugin="crm", hook="payment"))
    second = await journal.new_replay(Filter(plugin="archive"))
    assert (first.matched, second.matched) == (5, 10)
    third = await journal.new_replay(Filter(plugin="crm"))
    assert (first.number, second.number, third.number) == (1, 2, 3)
    operation = await operation_of(journal, second.number)
    assert (operation.done, operation.state, operation.left) == (0, "running", 10)
    assert await journal.operation(third.number + 1) is None


async def test_a_retired_plugin_keeps_its_place_for_the_retention(engine: Engine) -> None:
    """It may come back meanwhile; afterwards everything of it goes, and it is a new cursor."""
    engine.configure(retention="1h")
    journal = await engine.open()
    gone = await take(journal, "gone", from_start=False)
    await fill(journal, 10)
    await gone.settle(cursor=5, park=[Parked(seq=3, state=RETRYING)])
    await journal.retire_cursors([])
    engine.clock.advance(1800)
    back = await take(journal, "gone")
    assert (back.standing.cursor, [row.seq for row in back.standing.parked]) == (5, [3])
    await journal.retire_cursors([])
    engine.clock.advance(3601)
    await until_left(journal, 0)
    anew = await take(journal, "gone", from_start=False)
    assert (anew.standing.cursor, anew.standing.parked, journal.newest) == (10, [], 10)


async def test_dead_letters_of_one_cause_are_retried_and_discarded(engine: Engine) -> None:
    """`error` is what their errors have in common: without numbers, identifiers and quoted texts."""
    journal = await engine.open()
    await fill(journal, 4)
    owner = await take(journal, "crm", from_start=True)
    errors = [
        "OSError at crm.py:88: disk 1 of 'Ann' is full",
        "OSError at crm.py:88: disk 22 of 'Bo' is full",
        "OSError at crm.py:89: disk 1 of 'Ann' is full",
        "",
    ]
    rows = [Parked(seq=seq, state=DEAD, attempts=1, error=error) for seq, error in enumerate(errors, 1)]
    await owner.settle(cursor=4, park=rows)
    one_cause = Filter(error="OSError at crm.py:88: disk … of … is full")
    assert await journal.count_dead(one_cause) == 2
    assert await journal.retry_dead(one_cause) == 2
    assert await journal.count_dead(one_cause) == 0
    assert await journal.discard_dead(Filter(error="")) == 1
    assert await journal.count_dead(Filter()) == 1


def test_what_errors_of_one_cause_have_in_common() -> None:
    """The type and the place, and the message without what differs; also where digits were taken out before."""
    same = [
        "KeyError at crm.py:88: no row 01a22696-2d67-7e7a-a67c-3130f4bb84a5 for 12.50, code 7",
        "KeyError at crm.py:88: no row 01a22696-2d9d-…-8a51-f61386d254f1 for …, code 123",
    ]
    assert {error_key(error) for error in same} == {"KeyError at crm.py:88: no row … for … code …"}
    assert error_key("KeyError at crm.py:89: no row") == "KeyError at crm.py:89: no row"


async def test_an_operation_goes_on_where_a_crash_has_interrupted_it(engine: Engine) -> None:
    """With the next journal on the same storage: what was done is counted once, and the rest is done."""
    engine.configure()
    journal = await engine.open()
    count = 2300
    await asyncio.gather(*(put(journal, message(conversationId=str(number % 10))) for number in range(count)))
    owner = await take(journal)
    await owner.settle(cursor=count, park=[Parked(seq=seq, state=DEAD) for seq in range(1, count + 1)])
    number = (await journal.begin("discard", Filter())).number
    await journal.advance(number)
    await engine.close(journal)

    journal = await engine.open()
    waiting = await journal.operations(10, running=True)
    operation = await carry_out(journal, number)
    assert (operation.state, operation.matched, operation.done) == ("finished", count, count)
    assert [one.number for one in waiting] in ([number], [])  # the one in memory needs a single step
    assert await journal.operations(10, running=True) == []
    assert await journal.count_dead(Filter()) == 0


async def test_a_letter_that_dies_again_is_not_retried_twice_by_one_operation(engine: Engine) -> None:
    """Else a plugin that rejects everything would keep the operation going for ever."""
    owner = await with_dead(engine, "ab")
    number = (await owner.journal.begin("retry", Filter())).number
    await owner.journal.advance(number)
    await owner.settle(park=[Parked(seq=1, state=DEAD, attempts=1)])
    operation = await carry_out(owner.journal, number)
    assert (operation.done, await owner.journal.count_dead(Filter())) == (2, 1)


@pytest.mark.parametrize("in_order", [False, True])
async def test_a_cancelled_retry_has_back_what_its_plugin_has_not_got(engine: Engine, in_order: bool) -> None:
    """They are dead letters as before, with their attempts; what was attempted or taken stays so."""
    owner = await with_dead(engine, "aaaa")
    journal = owner.journal
    number = (await journal.begin("retry", Filter(), in_order)).number
    await carry_out(journal, number)
    await owner.settle(release=[1], park=[Parked(seq=2, state=RETRYING, attempts=1)])
    assert (await operation_of(journal, number)).left == 2

    await journal.cancel(number)
    assert [one.number for one in await journal.operations(10, running=True)] == [number]
    for plugin, seqs in (await journal.retried(number)).items():
        assert (plugin, seqs) == ("crm", [3, 4])
        await journal.take_back(owner.track, number, seqs)
    operation = await operation_of(journal, number)
    assert (operation.state, operation.matched, operation.done, operation.left) == ("cancelled", 4, 2, 0)
    assert [row.seq for row in await owner.parked()] == [2]
    assert await journal.count_dead(Filter()) == 2
    assert await journal.operations(10, running=True) == []
    assert (await journal.operations(10))[0].number == number


async def test_a_cancelled_replay_is_handed_out_no_more(engine: Engine) -> None:
    """Its progress is kept, and still counts what the plugin had."""
    journal, _ = await mixed(engine)
    owner = await take(journal, "crm")
    replay = await journal.new_replay(Filter(plugin="crm"))
    await owner.settle(cursor=10, replay=ReplayProgress(replay.number, 2, 2))
    await journal.cancel(replay.number)
    assert (await journal.changes(owner.track)).replays == []
    await owner.settle(replay=ReplayProgress(replay.number, 3, 1))
    assert (await journal.changes(owner.track)).replays == []
    operation = await operation_of(journal, replay.number)
    assert (operation.state, operation.done, operation.left) == ("cancelled", 3, 0)
    await journal.cancel(replay.number)
    assert (await operation_of(journal, replay.number)).ended_at == operation.ended_at


async def test_an_erasure_counts_what_it_erases_and_forgets_whom(engine: Engine) -> None:
    """Also where it was interrupted: the events and the records of each attempt."""
    journal = await engine.open()
    for number in range(3):
        await put(journal, message(customerUID="4711", body=str(number)))
    other = await journal.begin("discard", Filter(customer="4711"))
    number = (await journal.begin("forget", Filter(customer="4711"))).number
    assert (await operation_of(journal, number)).matched == 3
    await journal.forget(Filter(customer="4711"), number)
    await put(journal, message(customerUID="4711", body="later"))
    await journal.forget(Filter(customer="4711"), number)
    await journal.tell_answers(number, PluginAnswers(erased={"archive": 4}, failed={"crm": "down"}))
    assert (await operation_of(journal, number)).filter == Filter(customer="4711")
    await journal.end(number)
    operation = await operation_of(journal, number)
    assert (operation.state, operation.matched, operation.done) == ("finished", 4, 4)
    assert (operation.answers.erased, operation.answers.failed) == ({"archive": 4}, {"crm": "down"})
    assert operation.filter == Filter(ids=("erased",))
    ended = await operation_of(journal, other.number)
    assert (ended.state, ended.filter) == ("finished", Filter(ids=("erased",)))


async def test_only_so_many_operations_are_remembered(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest, and those that are not over."""
    monkeypatch.setattr("gateway.journal.sqlite.operations.KEPT_OPERATIONS", 3)
    monkeypatch.setattr("gateway.journal.memory_operations.KEPT_OPERATIONS", 3)
    monkeypatch.setattr("gateway.journal.postgresql.operations.KEPT_OPERATIONS", 3)
    journal = await engine.open()
    first = await journal.begin("replay", Filter(plugin="crm"))
    await journal.cancel(first.number)
    await put(journal, message())
    waits = await journal.begin("replay", Filter(plugin="crm"))
    for _ in range(5):
        await journal.discard_dead(Filter())
    await journal.begin("discard", Filter())
    numbers = [one.number for one in await journal.operations(10)]
    assert numbers == [8, 7, 6, 5, waits.number]
    assert first.number not in numbers
