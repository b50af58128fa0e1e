"""Appending to the journal: when it is kept, what is a duplicate, what is a conflict."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path

import apsw
import msgspec
import pytest
from journal_kit import (
    ACME,
    Clock,
    FaultyFiles,
    config_of,
    fill,
    ids_in,
    message,
    opened,
    payment,
    put,
    put_together,
    reading,
)

from gateway import simulate
from gateway.config.tables import Config
from gateway.journal.interface import Filter, Receipt
from gateway.journal.search import EventRow
from gateway.journal.sqlite.writer import GROUP, GROUP_BYTES

OTHER = "umbrella"
DAY = 86400.0


def rows_in(config: Config) -> list[EventRow]:
    with reading(config) as reader:
        return list(reader.events(Filter()))


def test_a_receipt_comes_only_once_another_connection_sees_the_event(tmp_path: Path) -> None:
    """When the future is done the event is committed: not earlier, and for every event of a group."""
    config = config_of(tmp_path)

    async def scenario() -> list[tuple[str, bool]]:
        seen: list[tuple[str, bool]] = []
        second = apsw.Connection(str(config.journal.path), flags=apsw.SQLITE_OPEN_READONLY)

        def look(receipt_id: str) -> None:
            found = second.execute("SELECT count(*) FROM events WHERE id = ?", (receipt_id,)).fetchone()
            seen.append((receipt_id, found == (1,)))

        async with opened(config) as journal:
            for _ in range(20):
                futures = [put(journal, message()) for _ in range(10)]
                for future in futures:
                    future.add_done_callback(lambda done: look(done.result().id))
                await asyncio.gather(*futures)
        second.close()
        return seen

    # the file has to be there before the second connection can open it
    async def make() -> None:
        async with opened(config):
            pass

    asyncio.run(make())
    seen = asyncio.run(scenario())
    assert len(seen) == 200
    assert all(visible for _, visible in seen)


def test_a_commit_that_takes_long_gives_no_receipt_before_it_is_through(tmp_path: Path) -> None:
    """A receipt waits for the sync of the write-ahead log itself."""
    files = FaultyFiles()
    config = config_of(tmp_path)

    async def scenario() -> None:
        async with opened(config, vfs=files.name) as journal:
            with files.held("sync", "-wal") as held:
                future = put(journal, message())
                await asyncio.to_thread(held.reached.wait, 10)
                await asyncio.sleep(0.05)
                assert not future.done()
                held.release.set()
                assert (await future).duplicate is False

    asyncio.run(scenario())


def test_events_that_arrive_during_a_commit_share_the_next(tmp_path: Path) -> None:
    """Group commit: a thousand appends beside a running commit take one sync more."""
    files = FaultyFiles()
    config = config_of(tmp_path)

    async def scenario() -> int:
        async with opened(config, vfs=files.name) as journal:
            before = files.syncs["journal.db-wal"]
            await put_together(journal, files, [message() for _ in range(1000)])
            return files.syncs["journal.db-wal"] - before

    assert asyncio.run(scenario()) == 2


def test_large_events_do_not_all_wait_for_one_large_commit(tmp_path: Path) -> None:
    """A group is bounded in bytes too: the first are acknowledged while the last are being written."""
    files = FaultyFiles()
    config = config_of(tmp_path)

    async def scenario() -> int:
        async with opened(config, vfs=files.name) as journal:
            before = files.syncs["journal.db-wal"]
            await put_together(journal, files, [message(body="x" * 2**20) for _ in range(3 * GROUP_BYTES >> 20)])
            return files.syncs["journal.db-wal"] - before

    assert asyncio.run(scenario()) >= 4


def test_a_lone_append_waits_for_nobody(tmp_path: Path) -> None:
    """One after the other, each append gets a commit of its own at once: no timer gathers a group."""
    files = FaultyFiles()
    config = config_of(tmp_path)

    async def scenario() -> tuple[int, float]:
        loop = asyncio.get_running_loop()
        async with opened(config, vfs=files.name) as journal:
            before, began = files.syncs["journal.db-wal"], loop.time()
            for _ in range(20):
                await put(journal, message())
            return files.syncs["journal.db-wal"] - before, loop.time() - began

    syncs, seconds = asyncio.run(scenario())
    assert syncs == 20
    assert seconds < 20 * 0.1


def test_more_than_a_group_are_all_kept_in_order(tmp_path: Path) -> None:
    """What does not fit into one transaction goes into the next, in the order of arrival."""
    config = config_of(tmp_path)

    async def scenario() -> list[str]:
        async with opened(config) as journal:
            return await fill(journal, 2 * GROUP + 7)

    ids = asyncio.run(scenario())
    assert ids_in(config) == ids
    assert len(set(ids)) == 2 * GROUP + 7


def test_an_event_keeps_its_bytes_and_what_was_read_of_it(tmp_path: Path) -> None:
    """The body stands in the journal byte for byte, with the columns that filters need."""
    config = config_of(tmp_path)
    raw = b'  {"type":"payment", "amount": 12.50,\n "big": 123456789012345678901234567890, "amount": "x",'
    raw += b' "conversationId": "c\\u00001", "customerUID": 77}  '

    async def scenario() -> tuple[str, bytes]:
        async with opened(config) as journal:
            receipt = await put(journal, raw)
            [entry] = await journal.read(0, 10)
            return receipt.id, entry.event.raw

    event_id, kept = asyncio.run(scenario())
    [row] = rows_in(config)
    assert kept == raw
    assert (row.id, row.organisation, row.hook, row.readable) == (event_id, ACME, "payment", True)
    assert (row.conversation_id, row.customer_uid) == ("c\0001", "77")
    assert bytes(row.body) == raw.replace(b"\n", b" ").strip()


def test_the_same_body_within_the_window_is_a_duplicate(tmp_path: Path) -> None:
    """The second is answered with the first's id and not kept again; the last moment of the window counts."""
    clock = Clock()
    config = config_of(tmp_path, dedupe_window="24h")
    raw = message()

    async def scenario() -> tuple[Receipt, Receipt, Receipt]:
        async with opened(config, clock=clock) as journal:
            first = await put(journal, raw)
            clock.advance(1)
            soon = await put(journal, raw)
            clock.advance(DAY - 1)
            late = await put(journal, raw)
            return first, soon, late

    first, soon, late = asyncio.run(scenario())
    assert not first.duplicate
    assert soon == msgspec.structs.replace(first, duplicate=True)
    assert late == msgspec.structs.replace(first, duplicate=True)
    assert ids_in(config) == [first.id]


def test_the_same_body_outside_the_window_is_a_new_event(tmp_path: Path) -> None:
    """The window begins anew with the new event, and neither of them is a conflict: they do not differ."""
    clock = Clock()
    config = config_of(tmp_path, dedupe_window="24h")
    raw = message()

    async def scenario() -> list[tuple[str, bool]]:
        receipts = []
        async with opened(config, clock=clock) as journal:
            for pause in (0, DAY + 1, DAY - 1, 2, DAY + 1):
                clock.advance(pause)
                receipt = await put(journal, raw)
                receipts.append((receipt.id, receipt.duplicate))
        return receipts

    receipts = asyncio.run(scenario())
    assert [duplicate for _, duplicate in receipts] == [False, False, True, False, False]
    assert receipts[2][0] == receipts[1][0]
    assert len({event_id for event_id, duplicate in receipts if not duplicate}) == 4
    assert [row.conflict for row in rows_in(config)] == [False] * 4


def test_a_clock_that_went_back_makes_no_difference_to_duplicates(tmp_path: Path) -> None:
    """The window reaches to both sides, so that a corrected clock lets no repeat through."""
    clock = Clock()
    config = config_of(tmp_path, dedupe_window="24h")
    raw = message()

    async def scenario() -> list[bool]:
        async with opened(config, clock=clock) as journal:
            first = await put(journal, raw)
            clock.advance(-3600)
            second = await put(journal, raw)
            return [first.duplicate, second.duplicate]

    assert asyncio.run(scenario()) == [False, True]


def test_the_same_body_twice_in_one_group_is_one_event(tmp_path: Path) -> None:
    """The check and the insert are one transaction, also within a group."""
    config = config_of(tmp_path)
    bodies = [message() for _ in range(100)]

    async def scenario() -> list[tuple[str, bool]]:
        async with opened(config) as journal:
            futures = [put(journal, raw) for raw in bodies for _ in range(3)]
            return [(receipt.id, receipt.duplicate) for receipt in await asyncio.gather(*futures)]

    receipts = asyncio.run(scenario())
    assert [duplicate for _, duplicate in receipts] == [False, True, True] * 100
    assert [receipts[n][0] for n in range(1, 300, 3)] == [receipts[n][0] for n in range(0, 300, 3)]
    assert ids_in(config) == [receipts[n][0] for n in range(0, 300, 3)]


def test_a_repeat_beside_new_events_changes_nothing_for_those(tmp_path: Path) -> None:
    """Old bodies, repeats within the group and new ones in one transaction: each gets what is due to it."""
    clock = Clock()
    config = config_of(tmp_path, dedupe_window="1h")
    old, recent, fresh = message(), message(), message()

    async def scenario() -> tuple[list[str], list[tuple[str, bool]]]:
        async with opened(config, clock=clock) as journal:
            first = await put(journal, old)
            clock.advance(4000)
            second = await put(journal, recent)
            group = [put(journal, raw) for raw in (fresh, recent, old, message(), old, fresh, message())]
            receipts = await asyncio.gather(*group)
            return [first.id, second.id], [(receipt.id, receipt.duplicate) for receipt in receipts]

    (first, second), group = asyncio.run(scenario())
    assert [duplicate for _, duplicate in group] == [False, True, False, False, True, True, False]
    assert group[1][0] == second
    assert group[2][0] != first
    assert group[4][0] == group[2][0]
    assert group[5][0] == group[0][0]
    assert ids_in(config) == [first, second, group[0][0], group[2][0], group[3][0], group[6][0]]


def test_a_body_without_a_date_is_never_a_duplicate(tmp_path: Path) -> None:
    """Unsure means keep: without `dateCreated` two equal bodies may be two events."""
    config = config_of(tmp_path)
    raw = payment()

    async def scenario() -> list[bool]:
        async with opened(config) as journal:
            return [receipt.duplicate for receipt in await asyncio.gather(*(put(journal, raw) for _ in range(3)))]

    assert asyncio.run(scenario()) == [False, False, False]
    assert len(ids_in(config)) == 3


def test_equal_bodies_of_two_organisations_are_two_events(tmp_path: Path) -> None:
    """Nothing of one organisation is a duplicate or a conflict for another."""
    config = config_of(tmp_path)
    raw = message()

    async def scenario() -> list[bool]:
        async with opened(config) as journal:
            futures = [put(journal, raw, organisation) for organisation in (ACME, OTHER, ACME, OTHER)]
            return [receipt.duplicate for receipt in await asyncio.gather(*futures)]

    assert asyncio.run(scenario()) == [False, False, True, True]
    assert [(row.organisation, row.conflict) for row in rows_in(config)] == [(ACME, False), (OTHER, False)]


def test_equal_bodies_of_two_hooks_are_two_events(tmp_path: Path) -> None:
    """The path may name another hook than the body: what counts is the hook it was received as."""
    config = config_of(tmp_path)
    raw = message()

    async def scenario() -> list[tuple[str, bool]]:
        async with opened(config) as journal:
            futures = [put(journal, raw, hook=hook) for hook in ("payment", "set-status", "payment")]
            return [(receipt.hook, receipt.duplicate) for receipt in await asyncio.gather(*futures)]

    assert asyncio.run(scenario()) == [("payment", False), ("set-status", False), ("payment", True)]


def test_a_space_more_makes_another_body(tmp_path: Path) -> None:
    """Byte for byte: what only means the same is kept, here as a conflict of the same message."""
    config = config_of(tmp_path)
    raw = message()

    async def scenario() -> list[bool]:
        async with opened(config) as journal:
            return [receipt.duplicate for receipt in await asyncio.gather(put(journal, raw), put(journal, raw + b" "))]

    assert asyncio.run(scenario()) == [False, False]
    assert [row.conflict for row in rows_in(config)] == [False, True]


@pytest.mark.parametrize("together", [True, False], ids=["in one group", "one after the other"])
def test_the_same_message_with_another_body_is_a_conflict(tmp_path: Path, together: bool) -> None:
    """Two events, the second flagged, in the journal and for plugins; another message is none."""
    config = config_of(tmp_path)
    fields = simulate.body("delivery-report")
    bodies = [
        simulate.encode(fields | changed)
        for changed in ({}, {"note": "other"}, {"statusCode": "7"}, {"note": "third"}, {"communicationActionId": "1"})
    ]

    async def scenario() -> tuple[list[bool], list[bool]]:
        async with opened(config) as journal:
            if together:
                await asyncio.gather(*(put(journal, raw) for raw in bodies))
            else:
                for raw in bodies:
                    await put(journal, raw)
            remembered = [entry.event.conflict for entry in await journal.read(0, 10)]
            fetched = await journal.fetch([1, 2, 3, 4, 5])
            return remembered, [fetched[seq].conflict for seq in sorted(fetched)]

    remembered, fetched = asyncio.run(scenario())
    assert remembered == fetched == [False, True, False, True, False]


def test_a_repeat_of_a_conflicting_body_is_a_duplicate(tmp_path: Path) -> None:
    """A conflict is an event of its own, whose repeat is one too."""
    config = config_of(tmp_path)
    fields = simulate.body("message-send")
    first, second = simulate.encode(fields), simulate.encode(fields | {"body": "other"})

    async def scenario() -> list[bool]:
        async with opened(config) as journal:
            receipts = [await put(journal, raw) for raw in (first, second, second, first)]
            return [receipt.duplicate for receipt in receipts]

    assert asyncio.run(scenario()) == [False, False, True, True]
    assert [row.conflict for row in rows_in(config)] == [False, True]


def test_an_unreadable_event_is_kept_and_recognised_again(tmp_path: Path) -> None:
    """`readable: false` for the event and for its repeat."""
    config = config_of(tmp_path)
    raw = b'{"type": "inboundMessage", "conversationId": {}, "dateCreated": "2026-01-01 10:00:00.000"}'

    async def scenario() -> list[tuple[bool, bool]]:
        async with opened(config) as journal:
            receipts = [await put(journal, raw), await put(journal, raw)]
            return [(receipt.readable, receipt.duplicate) for receipt in receipts]

    assert asyncio.run(scenario()) == [(False, False), (False, True)]


@pytest.mark.parametrize("created", ["0001-01-01 00:00:00", "9999-12-31 23:59:59.999999", "2026-01-01T00:00:00+14:00"])
def test_dates_at_the_ends_of_time_are_kept(tmp_path: Path, created: str) -> None:
    """No date that can be read is too early or too late for the journal."""
    config = config_of(tmp_path)
    raw = message(dateCreated=created)

    async def scenario() -> list[bool]:
        async with opened(config) as journal:
            return [(await put(journal, raw)).duplicate for _ in range(2)]

    assert asyncio.run(scenario()) == [False, True]


def test_ids_sort_by_the_time_of_receipt_and_never_repeat(tmp_path: Path) -> None:
    """Ten thousand ids, many of one moment: all different; those of later moments are greater."""
    clock = Clock()
    config = config_of(tmp_path)

    async def scenario() -> list[list[str]]:
        async with opened(config, clock=clock) as journal:
            moments = []
            for _ in range(20):
                moments.append(await fill(journal, 500))
                clock.advance(0.000_5)
            return moments

    moments = asyncio.run(scenario())
    assert len({event_id for moment in moments for event_id in moment}) == 10_000
    assert all(max(earlier) < min(later) for earlier, later in pairwise(moments))


def test_repeats_leave_no_gap_before_the_newest_event(tmp_path: Path) -> None:
    """The journal's position is that of an event, so that nobody seems to be behind when all was delivered."""
    config = config_of(tmp_path)
    raw = message()

    async def scenario() -> tuple[int, int]:
        async with opened(config) as journal:
            await put(journal, raw)
            for _ in range(5):
                await put(journal, raw)
            [entry] = await journal.read(0, 10)
            return journal.newest, entry.seq

    assert asyncio.run(scenario()) == (1, 1)
