"""A plugin's cursors among several gateways on one database: leased, taken over, fenced, and divided into shards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from conformance.engines import Owner, fill, put
from hypothesis import given
from hypothesis import strategies as st
from journal_kit import message
from postgresql.conftest import Configure, opened
from schemas import Schema

from gateway.journal.interface import DEAD, RETRYING, Delivers, HeldBy, JournalFull, LeaseLost, Parked, Standing, Track
from gateway.journal.postgresql import settling
from gateway.journal.postgresql.columns import BUCKETS, bucket_of
from gateway.journal.postgresql.deliveries import PluginCursor
from gateway.journal.postgresql.journal import PostgresqlJournal
from gateway.journal.postgresql.leases import CLOCK, Leases, LeaseTimes
from gateway.journal.postgresql.sharding import CursorPlace, buckets_of, spread

WAIT = 60.0
TIMES = LeaseTimes(trust=0.0)
FAR = LeaseTimes(trust=600.0)


@asynccontextmanager
async def gateways(schema: Schema, configure: Configure, count: int = 2) -> AsyncIterator[list[PostgresqlJournal]]:
    """Journals of gateways on one schema."""
    async with opened(configure(schema.url), lease=TIMES) as first:
        if count == 1:
            yield [first]
            return
        async with gateways(schema, configure, count - 1) as others:
            yield [first, *others]


async def take(journal: PostgresqlJournal, shard: int = 0, shards: int = 1, plugin: str = "crm") -> Owner:
    """Become the owner of a cursor."""
    track = Track(plugin, shard)
    standing = await journal.take_cursor(track, True, ("*",), shards)
    assert isinstance(standing, Standing), standing
    return Owner(journal, track, standing)


async def held(journal: PostgresqlJournal, shard: int = 0, shards: int = 1) -> HeldBy:
    """Ask for a cursor that another gateway owns."""
    found = await journal.take_cursor(Track("crm", shard), True, ("*",), shards)
    assert isinstance(found, HeldBy)
    return found


def end_leases(schema: Schema) -> None:
    """Let the time of every lease pass."""
    schema.execute("UPDATE cursors SET lease_until = clock_timestamp()")


def later(journal: PostgresqlJournal, seconds: float) -> None:
    """Let so much time have passed by a gateway's own clock since it was started."""
    journal.leases.clock = lambda: CLOCK() + seconds


async def read_all(owner: Owner) -> list[int]:
    """The positions of all events that a shard has from its cursor on, read in small pages."""
    seqs: list[int] = []
    after = owner.standing.cursor
    while after < owner.journal.newest:
        found = await owner.journal.read_track(owner.track, after, 3)
        assert found.through > after
        seqs += [entry.seq for entry in found.entries]
        after = found.through
    return seqs


async def test_a_cursor_belongs_to_one_gateway_until_its_lease_ends(schema: Schema, configure: Configure) -> None:
    """The other is told which one; what the former owner writes after that ends in `LeaseLost`."""
    async with gateways(schema, configure) as (one, two):
        await fill(one, 9)
        former = await take(one)
        await former.settle(cursor=3)
        assert (await held(two)).owner == one.config.node.name
        end_leases(schema)
        new = await take(two)
        assert (new.standing.cursor, new.standing.clean) == (3, False)
        assert new.standing.epoch > former.standing.epoch
        await new.settle(cursor=5)
        for late in (
            former.settle(cursor=4),
            former.settle(park=[Parked(seq=4, state=DEAD)]),
            former.mark_running(4),
            former.mark_survived(4),
            former.release(),
        ):
            with pytest.raises(LeaseLost):
                await late
        await new.release()
        assert (await take(two)).standing.cursor == 5
        assert schema.execute("SELECT count(*) FROM parked") == [(0,)]


async def test_a_lease_is_not_over_for_a_gateway_that_has_just_connected(schema: Schema, configure: Configure) -> None:
    """The database may have failed over to a server whose clock is ahead; what was released is free all the same."""
    times = LeaseTimes(trust=600.0)
    async with opened(configure(schema.url)) as one, opened(configure(schema.url), lease=times) as two:
        owner = await take(one)
        end_leases(schema)
        assert (await held(two)).owner == one.config.node.name
        assert (await held(two, 0, 8)).owner == one.config.node.name
        await owner.release()
        await take(two)


async def test_a_lease_is_over_for_a_gateway_that_has_used_the_server_for_long(
    schema: Schema, configure: Configure
) -> None:
    """Whenever its connections were made, unless the server has changed since."""
    async with opened(configure(schema.url)) as one, opened(configure(schema.url), lease=FAR) as two:
        await take(one)
        end_leases(schema)
        await held(two)
        later(two, 600.0)
        two.database.drop_idle()
        two.leases.server_changed()
        await held(two)
        later(two, 1200.0)
        two.database.drop_idle()
        await take(two)


async def test_a_lease_by_a_clock_that_was_ahead_ends_when_it_is_not_renewed(
    schema: Schema, configure: Configure
) -> None:
    """A promoted server may be minutes behind: what the lease seems to last is not waited for."""
    ahead = "UPDATE cursors SET lease_until = clock_timestamp() + interval '1 day'"
    async with opened(configure(schema.url)) as one, opened(configure(schema.url), lease=FAR) as two:
        await take(one)
        later(two, 600.0)  # the server is known for long
        schema.execute(ahead)
        await held(two)
        later(two, 900.0)
        await held(two)
        schema.execute(ahead)  # it is renewed
        later(two, 1201.0)
        await held(two)
        await held(two, 0, 8)
        later(two, 1802.0)
        await take(two)


async def test_a_gateway_counts_on_no_other_whose_lease_has_to_be_over(schema: Schema, configure: Configure) -> None:
    """It takes over the shards of a dead one without another look at all; nor does one count that beat by a clock which
    was ahead."""
    times = LeaseTimes(lasts=600.0, own=400.0, every=600.0)
    async with opened(configure(schema.url), lease=times) as one, opened(configure(schema.url), lease=times) as two:
        for journal in (one, two):
            await journal.announce(lambda: {"crm": Delivers(8, True)})
        await one.nodes.look()
        assert one.share("crm", 8, 0).most == 4
        later(one, 600.0)
        assert one.share("crm", 8, 0).most == 8
        await one.nodes.look()
        assert len(one.nodes.live) == 2
        schema.execute("UPDATE nodes SET beat_at = clock_timestamp() + interval '1 day'")
        await one.nodes.look()
        assert one.nodes.live == []


async def test_repeats_are_expected_of_all_former_shards(schema: Schema, configure: Configure) -> None:
    """Where they ended uncleanly, even if all were at the same position."""
    async with gateways(schema, configure) as (one, two):
        await fill(one, 5)
        for shard in range(8):
            await take(one, shard, 8)
        end_leases(schema)
        for shard in range(2):
            assert (await take(two, shard, 2)).standing.owners == BUCKETS
        end_leases(schema)
        owner = await take(one)
        assert owner.standing.owners == BUCKETS
        assert await read_all(owner) == [1, 2, 3, 4, 5]
        await owner.settle(cursor=1)
        await owner.release()
        assert (await take(two)).standing.owners == 1


async def test_a_released_cursor_is_free_at_once_and_others_are_told(schema: Schema, configure: Configure) -> None:
    """The same holds for all cursors of a gateway that ends without releasing them."""
    async with opened(configure(schema.url)) as two:
        async with opened(configure(schema.url)) as one:
            owner, told = await take(one), asyncio.Event()
            await take(one, plugin="archive")
            two.on_turnover.append(told.set)
            await owner.release()
            await asyncio.wait_for(told.wait(), WAIT)
            assert (await take(two)).standing.clean
            assert isinstance(await two.take_cursor(Track("archive"), True), HeldBy)
            told.clear()
        await asyncio.wait_for(told.wait(), WAIT)
        assert not (await take(two, plugin="archive")).standing.clean


async def test_a_gateway_that_runs_keeps_its_cursors(schema: Schema, configure: Configure) -> None:
    """It renews all its leases again and again, and finds out which it has lost."""
    times = LeaseTimes(lasts=600.0, own=400.0, every=0.02)
    async with opened(configure(schema.url), lease=times) as one, opened(configure(schema.url)) as two:
        await one.announce(lambda: {"crm": Delivers(1, True), "archive": Delivers(1, True)})
        kept, lost = await take(one), await take(one, plugin="archive")
        assert kept.standing.lease is not None
        assert lost.standing.lease is not None
        until = kept.standing.lease.until
        schema.execute("UPDATE cursors SET owner = NULL WHERE plugin = 'archive'")  # else it might be renewed
        await take(two, plugin="archive")
        async with asyncio.timeout(WAIT):
            while not lost.standing.lease.lost or kept.standing.lease.until == until:
                await asyncio.sleep(0.01)
        assert not kept.standing.lease.is_over
        assert lost.standing.lease.is_over
        await kept.settle(cursor=0)
        assert (await held(two)).owner == one.config.node.name


def test_a_gateway_that_stood_still_finds_its_lease_over() -> None:
    """By its own clock, well before another may take the cursor; a renewal that was late gives it no time."""
    now = [100.0]
    leases = Leases(LeaseTimes(10.0, 6.0, 3.0), lambda: now[0])
    lease = leases.begin(Track("crm"), 7, now[0])
    now[0] += 5.9
    looks = [lease.is_over]
    now[0] += 0.1
    looks.append(lease.is_over)
    assert looks == [False, True]
    leases.renewed(leases.held(), 103.0, [(Track("crm"), 7)])
    assert (lease.is_over, lease.until) == (False, 109.0)
    leases.renewed(leases.held(), 101.0, [(Track("crm"), 7)])
    assert lease.until == 109.0
    before = leases.held()
    later = leases.begin(Track("crm"), 8, now[0])
    leases.renewed(before, now[0], [(Track("crm"), 8)])
    assert (lease.lost, later.lost) == (True, False)
    leases.renewed(leases.held(), now[0], [])
    assert later.lost


async def test_a_crash_counts_whichever_gateway_takes_over(schema: Schema, configure: Configure) -> None:
    """Each death with an event counts, and the shard that has the event is told."""
    async with gateways(schema, configure, 3) as journals:
        await asyncio.gather(*(put(journals[0], message(conversationId=str(number))) for number in range(20)))
        for number, journal in enumerate(journals):
            owners = [await take(journal, shard, 2) for shard in range(2)]
            crashes = [owner.standing.crashes for owner in owners]
            [owner] = [owner for owner in owners if 7 in await read_all(owner)]
            assert owner.standing.crashes == ({7: number} if number else {})
            assert sum(map(len, crashes)) == min(number, 1)
            await owner.mark_running(7)
            end_leases(schema)


async def test_a_gateway_that_takes_a_cursor_from_itself_has_not_crashed(schema: Schema, configure: Configure) -> None:
    """It lost the database while a plugin had an event, as often as that may be; a crash after that counts."""
    async with gateways(schema, configure) as (one, two):
        await fill(one, 3)
        for _ in range(4):
            owner = await take(one)
            assert owner.standing.crashes == {}
            await owner.mark_running(2)
        end_leases(schema)
        assert (await take(two)).standing.crashes == {2: 1}


async def test_a_lease_without_a_delivery_ends(
    schema: Schema, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release that fails, and a take whose answer is lost, leave a row that names the gateway: it is not renewed."""

    async def fail(*values: object) -> None:
        raise JournalFull("the connection was lost")

    times = LeaseTimes(lasts=600.0, own=400.0, every=0.02)
    async with opened(configure(schema.url), lease=times) as one:
        await one.announce(lambda: {"crm": Delivers(3, True)})
        released, unknown, _ = [await take(one, shard, 3) for shard in range(3)]
        with monkeypatch.context() as patch:
            patch.setattr(settling, "release", fail)
            with pytest.raises(JournalFull):
                await released.release()
        schema.execute("UPDATE cursors SET epoch = epoch + 1 WHERE shard = 1")  # a take of which it knows nothing
        until = "SELECT lease_until, owner IS NOT NULL FROM cursors ORDER BY shard"
        async with one.nodes.beating:
            before = schema.execute(until)
        assert unknown.standing.lease is not None
        async with asyncio.timeout(WAIT):
            while (after := schema.execute(until))[2] == before[2] or not unknown.standing.lease.is_over:
                await asyncio.sleep(0.01)
        assert after[:2] == before[:2]
        assert [owned for _, owned in after] == [True] * 3


async def test_each_event_belongs_to_one_shard_and_a_conversation_to_the_same(
    schema: Schema, configure: Configure
) -> None:
    """Cursors advance past what belongs to others, parked events are told to their shard, and leases are apart."""
    async with gateways(schema, configure) as journals:
        for number in range(40):
            await put(journals[number % 2], message(conversationId=str(number % 7)))
        owners = [await take(journals[shard % 2], shard, 4) for shard in range(4)]
        seqs = [await read_all(owner) for owner in owners]
        assert sorted(seq for some in seqs for seq in some) == list(range(1, 41))
        for seq in range(1, 34):
            assert [seq in some for some in seqs] == [seq + 7 in some for some in seqs]
        for owner, some in zip(owners, seqs, strict=True):
            await owner.settle(cursor=40, park=[Parked(seq=seq, state=RETRYING) for seq in some])
            assert [row.seq for row in await owner.parked()] == some
        assert (await held(journals[1], 2, 4)).owner == journals[0].config.node.name


async def test_a_change_of_shards_waits_for_the_owners_and_repeats_nothing(
    schema: Schema, configure: Configure
) -> None:
    """Every event comes once more or not at all, in the order of its conversation, whatever each shard had settled."""
    async with gateways(schema, configure) as (one, two):
        for number in range(60):
            await put(one, message(conversationId=str(number % 9)))
        settled: set[int] = set()
        was, epoch = 1, 0
        for step, shards in enumerate((4, 3, 64, 2, 1, 8)):
            owners = [await take(one, shard, was) for shard in range(was)]
            seen = {owner.track: await read_all(owner) for owner in owners}
            assert sorted(seq for some in seen.values() for seq in some) == sorted(set(range(1, 61)) - settled)
            assert min(owner.standing.epoch for owner in owners) > epoch
            epoch = max(owner.standing.epoch for owner in owners)
            for number, owner in enumerate(owners):
                if moved := seen[owner.track][: (number + step) % 5]:
                    await owner.settle(cursor=moved[-1])
                    settled.update(moved)
            assert isinstance(await two.take_cursor(Track("crm", 0), True, ("*",), shards), HeldBy)
            for owner in owners[1:]:
                await owner.release()
            end_leases(schema)
            was = shards
            new = await take(two, 0, shards)
            assert not new.standing.clean
            with pytest.raises(LeaseLost):
                await owners[0].settle(cursor=1)
            await new.release()
        assert settled


PLACES = st.integers(1, 64).flatmap(
    lambda shards: st.lists(st.integers(0, 50).map(CursorPlace), min_size=shards, max_size=shards)
)


@given(PLACES, st.lists(st.integers(1, 64), min_size=1, max_size=4))
def test_buckets_keep_their_places_through_every_change_of_shards(
    places: list[CursorPlace], changes: list[int]
) -> None:
    """No bucket goes back, so nothing is repeated, and none goes ahead, so nothing is skipped."""
    before = [places[bucket % len(places)].settled(bucket) for bucket in range(BUCKETS)]
    for shards in changes:
        places = spread(places, shards)
        assert len(places) == shards
        assert [places[bucket % shards].settled(bucket) for bucket in range(BUCKETS)] == before
        for shard, place in enumerate(places):
            assert place.seq == min(before[bucket] for bucket in buckets_of(shard, shards))


def test_a_search_tells_what_a_shard_has_had_after_a_change_of_shards() -> None:
    """By the floor of the event's bucket, or by the cursor where it has none."""
    cursor = PluginCursor(0, 2, {0: 5, 1: 7}, {0: [9] + [None] * (BUCKETS - 1)})
    assert [cursor.has_had(seq, 0) for seq in (9, 10)] == [True, False]
    assert [cursor.has_had(seq, 2) for seq in (5, 6)] == [True, False]
    assert [cursor.has_had(seq, 1) for seq in (7, 8)] == [True, False]


def test_the_bucket_of_a_conversation_is_the_same_in_every_version() -> None:
    """Else its order would break with an upgrade."""
    assert [bucket_of("acme", str(number), "") for number in range(8)] == [49, 12, 50, 55, 52, 45, 56, 18]
    assert bucket_of("acme", None, "0190b5c4-0000-7000-8000-000000000001") == 60
