"""The archive forgets: its files are written anew without the lines of a customer, address or conversation."""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from archive_kit import DAY, Clock, Died, Disk, deliver, event, files, new_archive, records, running, text_of
from gateway_archive.store import ArchiveError

from gateway import Event, Selector

AFTER = DAY.replace(hour=0) + timedelta(days=1, minutes=15)
THEIRS = b'{"type": "x", "customerUID": "4711", "outboundChannelAddress": "+353 86 123 4567", "conversationId": "c-1"}'
ANOTHERS = b'{"type": "x", "customerUID": "47110", "outboundChannelAddress": "353861234568", "conversationId": "c-10"}'
BY = [Selector(customer_uid="4711"), Selector(address="353861234567"), Selector(conversation_id="c-1")]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "archive"


def of_both(day: int = 0, count: int = 20, organisation: str = "acme", first: int = 0) -> list[Event]:
    """Every second one is theirs."""
    return [
        event(first + number, day=day, raw=THEIRS if number % 2 else ANOTHERS, organisation=organisation)
        for number in range(count)
    ]


def left(directory: Path) -> set[str]:
    return {record["body"]["customerUID"] for record in records(directory)}


@pytest.mark.parametrize("selector", BY, ids=["customer", "address", "conversation"])
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
def test_lines_that_match_go_and_all_others_stay(directory: Path, selector: Selector, compressed: bool) -> None:
    """In plain and in compressed files, byte for byte; no other file is left beside them."""
    clock = Clock()
    events = of_both()
    with running(directory, clock) as plugin:
        deliver(plugin, *events)
        clock.now = AFTER
        if compressed:
            plugin.compress()
        before = {name: text_of(path) for name, path in files(directory).items()}
        assert plugin.forget(selector) == 10
        assert plugin.forget(selector) == 0
        after = {name: text_of(path) for name, path in files(directory).items()}
        assert after.keys() == before.keys()
        for name, text in after.items():
            kept = [line for line in before[name].splitlines(keepends=True) if b'"47110"' in line]
            assert text == b"".join(kept)
        deliver(plugin, *of_both(first=100))
    assert len(records(directory)) == 30


def test_other_organisations_stay_where_one_is_named(directory: Path) -> None:
    """An organisation narrows what is erased."""
    with running(directory) as plugin:
        deliver(plugin, *of_both(), *of_both(organisation="umbrella", first=100))
        assert plugin.forget(Selector(customer_uid="4711", organisation="acme")) == 10
    assert [one["organisation"] for one in records(directory) if one["body"]["customerUID"] == "4711"] == (
        ["umbrella"] * 10
    )


def test_a_file_without_a_line_left_goes(directory: Path) -> None:
    """Plain and compressed; later events of that day make a new file."""
    clock = Clock()
    with running(directory, clock) as plugin:
        deliver(plugin, *(event(number, raw=THEIRS) for number in range(5)))
        clock.now = AFTER
        plugin.compress()
        deliver(plugin, *(event(number, raw=THEIRS) for number in range(5, 9)))
        assert len(files(directory)) == 2
        assert plugin.forget(Selector(customer_uid="4711")) == 9
        assert files(directory) == {}
        deliver(plugin, event(20, raw=ANOTHERS))
    assert left(directory) == {"47110"}


def test_events_go_on_being_archived_meanwhile(directory: Path) -> None:
    """What is appended while a file is written anew is in the new file, each event once."""
    with running(directory) as plugin:
        deliver(plugin, *of_both(count=2000))
        stop, delivered = threading.Event(), []

        def append() -> None:
            number = 10_000
            while not stop.is_set():
                delivered.append(number)
                deliver(plugin, event(number, raw=ANOTHERS))
                number += 1

        thread = threading.Thread(target=append)
        thread.start()
        try:
            assert plugin.forget(Selector(customer_uid="4711")) == 1000
        finally:
            stop.set()
            thread.join()
        found = [record["id"] for record in records(directory)]
        assert len(found) == len(set(found)) == 1000 + len(delivered)


@pytest.mark.parametrize("at", range(12))
def test_a_crash_leaves_the_old_file_or_the_new_one(directory: Path, at: int) -> None:
    """Every event of others is there after each moment; a second attempt erases the rest."""
    clock = Clock()
    with running(directory, clock) as plugin:
        deliver(plugin, *of_both())
        clock.now = AFTER
        plugin.compress()
        deliver(plugin, *of_both(first=100))
    victim = new_archive(directory, clock)
    with Disk(dies_at=at), suppress(Died):
        victim.forget(Selector(customer_uid="4711"))
    victim.shutdown()
    with running(directory, clock) as plugin:
        assert sum(record["body"]["customerUID"] == "47110" for record in records(directory)) == 20
        plugin.forget(Selector(customer_uid="4711"))
        assert left(directory) == {"47110"}
        assert all(not name.endswith(".tmp") for name in files(directory))


def test_a_damaged_file_is_named_and_others_are_done(directory: Path) -> None:
    """The failure is the operator's to see; the damaged file stays as it is."""
    clock = Clock()
    with running(directory, clock) as plugin:
        deliver(plugin, *of_both())
        clock.now = AFTER
        plugin.compress()
        deliver(plugin, *of_both(day=1, first=100))
        [damaged] = [path for name, path in files(directory).items() if name.endswith(".zst")]
        data = damaged.read_bytes()
        damaged.write_bytes(data[:-9])
        with pytest.raises(ArchiveError, match=r"1 files could not be written anew.*10 lines of others were erased"):
            plugin.forget(Selector(customer_uid="4711"))
        assert damaged.read_bytes() == data[:-9]
