"""The search index: made of the journal beside receiving, and never trusted for more than where to look."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import apsw
import msgspec
import pytest
from journal_kit import Clock, config_of, fill, message, move_cursor, opened, payment, put, take, until

from gateway.config.load import load_config
from gateway.config.tables import Config
from gateway.journal import open_reader
from gateway.journal.interface import DEAD, RETRYING, WAITING, Filter, Parked, Track
from gateway.journal.search import EventHappened
from gateway.journal.sqlite import indexer, search_file, timeline, writer
from gateway.journal.sqlite.finding import Finder
from gateway.journal.sqlite.search_file import SearchFile, search_path

WORDS = ("pay", "paid", "tomorrow", "café", "no")
PHONES = ("353861234567", "+353 86 1234568", "ann@example.com")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small parts, and an index that does not rest."""
    monkeypatch.setattr(search_file, "PART", 16)
    monkeypatch.setattr(indexer, "BATCH", 7)
    monkeypatch.setattr(indexer, "IDLE", 0.005)
    monkeypatch.setattr(indexer, "LOOK", 0.01)
    monkeypatch.setattr(indexer, "AGAIN", 0.01)
    monkeypatch.setattr(writer, "HOUSEKEEPING", 0.02)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return config_of(tmp_path)


def bodies(count: int) -> list[bytes]:
    """Messages of few customers, conversations, addresses and words."""
    chosen = random.Random(7)
    return [
        message(
            customerUID=chosen.choice(("", "1", "2")),
            conversationId=chosen.choice(("7", "8", "9")),
            outboundChannelAddress=chosen.choice(PHONES),
            body=" ".join(chosen.sample(WORDS, 2)),
        )
        for _ in range(count)
    ]


def filters() -> Iterator[Filter]:
    for customer in (None, "1", "nobody"):
        for conversation in (None, "7"):
            for address in (None, "+353861234568", "ANN@example.com"):
                for text in (None, "pay", "pa*", "CAFE no"):
                    yield Filter(customer=customer, conversation=conversation, address=address, text=text)


def parts_of(config: Config) -> dict[int, int]:
    """How far each part of the index is."""
    if (index := SearchFile.to_read(search_path(config.journal.path))) is None:
        return {}
    try:
        return {part.number: part.upto for part in index.parts()}
    except (apsw.Error, search_file.IndexDamaged):
        return {}
    finally:
        index.close()


def listed(config: Config, which: Filter, limit: int | None = None) -> tuple[list[str], int]:
    """The ids that a search finds, and how many events it had to read one by one."""
    search = open_reader(config)
    try:
        return [row.id for row in search.events(which, limit, newest=True)], search.unindexed
    finally:
        search.close()


def by_reading(config: Config, which: Filter) -> list[str]:
    """The same without the index."""
    search = open_reader(config)
    search._finder = Finder(search._connection)  # type: ignore[attr-defined]
    try:
        return [row.id for row in search.events(which)]
    finally:
        search.close()


async def test_the_index_finds_what_reading_finds(config: Config) -> None:
    """Every filter, all matches and the newest, without reading an event that is no candidate."""
    async with opened(config) as journal:
        await asyncio.gather(*(put(journal, raw) for raw in bodies(60)))
        await until(lambda: parts_of(config) == {0: 16, 1: 32, 2: 48, 3: 60})
    found = 0
    for which in filters():
        expected = by_reading(config, which)
        found += len(expected)
        assert listed(config, which) == (expected, 0), which
        assert listed(config, which, 3) == (expected[-3:], 0), which
        narrow = msgspec.structs.replace(which, hook="payment")
        assert listed(config, narrow) == ([], 0)
    assert found > 200


async def test_hooks_and_organisations_are_indexed(config: Config, tmp_path: Path) -> None:
    """Also of an event that came by a name that no hook had, and has one now."""
    async with opened(config) as journal:
        for number in range(20):
            await put(journal, message(customerUID="1"), organisation="umbrella" if number % 5 == 0 else "acme")
            await put(journal, payment(reference=f"{number}", type="webioPayment" if number == 7 else "payment"))
        await until(lambda: parts_of(config) == {0: 16, 1: 32, 2: 40})

    def counted(**which: str) -> int:
        ids, unindexed = listed(config, Filter(**which))  # type: ignore[arg-type]
        assert (ids, unindexed) == (by_reading(config, Filter(**which)), 0)  # type: ignore[arg-type]
        return len(ids)

    assert counted(hook="payment") == 19
    assert counted(hook="unknown") == 1
    assert counted(organisation="umbrella", hook="inbound-message") == 4
    assert counted(organisation="umbrella", hook="payment") == 0
    assert counted(organisation="acme", customer="1") == 16
    assert counted(organisation="nobody") == 0
    with config.source.open("a") as file:
        file.write('[hooks.payment]\ntypes = ["webioPayment"]\n')
    async with opened(load_config(config.source)) as journal:
        await journal.new_replay(Filter(plugin="crm", names=("webioPayment",)))
    assert counted(hook="payment") == 20
    assert counted(hook="unknown") == 0


@pytest.mark.parametrize("state", [None, "dead", "retrying", "waiting", "delivered", "no taker"])
async def test_a_page_that_ends_early_says_where_the_next_one_begins(config: Config, state: str | None) -> None:
    """Pages together have what one search without a limit of time has, each event once."""
    async with opened(config) as journal:
        await asyncio.gather(*(put(journal, raw) for raw in bodies(60)))
        await take(journal, "crm")
        await journal.take_cursor(Track("late"), True, ["payment"])
        parked = [Parked(seq=seq, state=DEAD if seq % 2 else RETRYING, attempts=1) for seq in range(3, 30, 3)]
        await move_cursor(journal, "crm", 40, parked)
        await until(lambda: parts_of(config) == {0: 16, 1: 32, 2: 48, 3: 60})
    for which in (Filter(state=state), Filter(state=state, customer="1"), Filter(state=state, hook="payment")):
        expected, pages = by_reading(config, which), 0
        found: list[str] = []
        before: str | None = None
        with closing(open_reader(config)) as search:
            while True:
                search.limit(60, page_seconds=0)
                page = [row.id for row in search.events(which, 5, newest=True, before=before)]
                found, pages = page + found, pages + 1
                if (before := search.goes_on_before() or (page[0] if page else None)) is None:
                    break
        assert found == expected
        assert pages > 1 or not expected


@pytest.mark.parametrize("which", [Filter(customer="1"), Filter(conversation="7")])
async def test_a_timeline_of_many_events_is_read_in_pages(
    config: Config, which: Filter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the same events."""
    async with opened(config) as journal:
        await asyncio.gather(*(put(journal, raw) for raw in bodies(60)))

    def told() -> list[str]:
        with closing(open_reader(config)) as search:
            return [line.id for line in search.timeline(which) if isinstance(line, EventHappened)]

    expected = told()
    monkeypatch.setattr(timeline, "MANY", 5)
    monkeypatch.setattr(timeline, "PAGE", 3)
    assert told() == expected
    assert len(expected) > 10


async def test_states_are_found_where_they_can_be(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dead letters and what waits are found by their rows and by the cursor: the other events are not looked at."""
    async with opened(config) as journal:
        await asyncio.gather(*(put(journal, raw) for raw in bodies(60)))
        await take(journal, "crm")
        await move_cursor(journal, "crm", 55, [Parked(seq=7, state=DEAD, attempts=1), Parked(seq=9, state=WAITING)])
    seen: list[tuple[int, int]] = []

    def scanned(finder: Finder, one: tuple[int, int, object], *rest: object) -> Iterator[list[int]]:
        seen.append(one[:2])
        return iter(())

    monkeypatch.setattr(Finder, "_scanned", scanned)
    assert len(listed(config, Filter(state="dead"))[0]) == 1
    assert [after for after, until in seen if after < until] == []
    assert len(listed(config, Filter(state="waiting"))[0]) == 1
    assert [after for after, until in seen if after < until] == [55]


async def test_what_is_not_indexed_yet_is_read(config: Config) -> None:
    """An answer is complete however far the index is, and says how much was read."""
    async with opened(config) as journal:
        await asyncio.gather(*(put(journal, raw) for raw in bodies(60)))
        await until(lambda: parts_of(config) == {0: 16, 1: 32, 2: 48, 3: 60})
    connection = apsw.Connection(str(search_path(config.journal.path)))
    connection.execute("DELETE FROM parts WHERE number = 1; UPDATE parts SET upto = 50, last_id = '' WHERE number = 3")
    connection.execute("UPDATE parts SET upto = 40, last_id = (SELECT last_id FROM parts WHERE number = 0)"
                       " WHERE number = 2")  # fmt: skip
    connection.close()
    for which in filters():
        ids, unindexed = listed(config, which)
        assert ids == by_reading(config, which)
        assert unindexed == (0 if which == Filter() else 44)
        assert listed(config, which, 5)[0] == ids[-5:]


async def test_without_an_index(config: Config) -> None:
    """Everything is read, and the search says so."""
    async with opened(config) as journal:
        ids = await fill(journal, 20, customerUID="1")
    search_file.remove(search_path(config.journal.path))
    assert listed(config, Filter(customer="1")) == (ids, 20)


async def filled(config: Config) -> list[str]:
    """A journal with an index; the ids of its events, which are all of one customer."""
    async with opened(config) as journal:
        ids = await fill(journal, 20, customerUID="1")
        await until(lambda: parts_of(config) == {0: 16, 1: 20})
    return ids


def of_another_version(path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA user_version = 999")
    connection.close()


def without_sound_pages(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes(len(content) - 100))


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize("damage", [of_another_version, without_sound_pages, cut_short])
async def test_an_index_that_cannot_be_used_is_made_again(config: Config, damage: Callable[[Path], None]) -> None:
    """Searches do without it, and the next gateway makes it again."""
    ids = await filled(config)
    damage(search_path(config.journal.path))
    assert listed(config, Filter(customer="1"))[0] == ids
    async with opened(config):
        await until(lambda: parts_of(config) == {0: 16, 1: 20})
    assert listed(config, Filter(customer="1")) == (ids, 0)


@pytest.mark.parametrize("content", [b"notes, not a database", b""])
async def test_a_file_of_another_kind_stays(config: Config, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """What is in the place of the index and was not made by the gateway is not touched."""
    ids = await filled(config)
    path = search_path(config.journal.path)
    path.write_bytes(content)
    if not content:
        connection = apsw.Connection(str(path))
        connection.execute("CREATE TABLE customers (name); PRAGMA user_version = 7")
        connection.close()
    before = path.read_bytes()
    async with opened(config):
        await until(lambda: "another file is in the place of the search index" in caplog.text)
        assert listed(config, Filter(customer="1"))[0] == ids
    assert path.read_bytes() == before


async def test_a_part_that_is_lost_meanwhile_leaves_a_search_complete(config: Config) -> None:
    """What cannot be read of the index is read of the journal."""
    ids = await filled(config)
    connection = apsw.Connection(str(search_path(config.journal.path)))
    connection.execute("DROP TABLE part_0")
    connection.close()
    assert listed(config, Filter(customer="1"))[0] == ids
    assert listed(config, Filter(customer="1"), 19)[0] == ids[1:]


async def test_the_index_of_another_journal_is_not_used(config: Config, tmp_path: Path) -> None:
    """A journal that was put in the place of another has other events at the same positions."""
    other = config_of(tmp_path / "other")
    for one, customer in ((config, "1"), (other, "2")):
        async with opened(one) as journal:
            await fill(journal, 20, customerUID=customer)
            await until(lambda one=one: parts_of(one) == {0: 16, 1: 20})  # type: ignore[misc]
    for end in ("", "-wal"):
        source = other.journal.path.with_name(other.journal.path.name + end)
        if source.exists():
            source.rename(config.journal.path.with_name(source.name))
    assert listed(config, Filter(customer="1"))[0] == []
    assert len(listed(config, Filter(customer="2"))[0]) == 20
    async with opened(config):
        await until(lambda: listed(config, Filter(customer="2"))[1] == 0)
    assert len(listed(config, Filter(customer="2"))[0]) == 20


async def test_retention_reaches_the_index(tmp_path: Path) -> None:
    """A part goes with the last of its events."""
    config, clock = config_of(tmp_path, retention="1h"), Clock()
    async with opened(config, clock=clock) as journal:
        await fill(journal, 40, customerUID="1")
        await until(lambda: parts_of(config) == {0: 16, 1: 32, 2: 40})
        clock.advance(3600)
        ids = await fill(journal, 2, customerUID="1")
        clock.advance(1)
        await until(lambda: parts_of(config) == {2: 42})
        assert listed(config, Filter(customer="1")) == (ids, 0)
        tables = apsw.Connection(str(search_path(config.journal.path)))
        names = {name for (name,) in tables.execute("SELECT name FROM sqlite_schema WHERE name LIKE 'part_%'")}
        assert {name.split("_")[1] for name in names if name != "parts"} == {"2"}
        tables.close()


async def test_an_index_that_cannot_be_written_disturbs_no_one(
    config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    """Events are kept and found; the log says so once; when it can be written again, it is filled."""
    path = search_path(config.journal.path)
    path.mkdir(parents=True)
    async with opened(config) as journal:
        await take(journal, "crm")
        ids = await fill(journal, 20, customerUID="1")
        await until(lambda: "search index" in caplog.text)
        assert listed(config, Filter(customer="1"))[0] == ids
        path.rmdir()
        await until(lambda: parts_of(config) == {0: 16, 1: 20})
    lines = [line for line in caplog.messages if "search index" in line]
    assert lines == [
        "journal: the search index journal-search.db cannot be filled: Is a directory; searches read the journal"
        " itself, and it is tried again every 0.01 s"
    ]


async def test_a_search_takes_few_steps(config: Config) -> None:
    """It depends on what it finds, not on how much the journal has."""
    async with opened(config) as journal:
        for _ in range(20):
            await asyncio.gather(*(put(journal, raw) for raw in bodies(100)))
        wanted = await fill(journal, 2, customerUID="rare", conversationId="rare", body="rare")
        await until(lambda: sum(upto - number * 16 for number, upto in parts_of(config).items()) == 2002)
    for which in (Filter(customer="rare"), Filter(conversation="rare"), Filter(text="rare"), Filter(text="rare rare")):
        search = open_reader(config)
        steps = 0

        def step() -> bool:
            nonlocal steps
            steps += 1
            return False

        search._connection.set_progress_handler(step, 20)  # type: ignore[attr-defined]
        assert [row.id for row in search.events(which, 20, newest=True)] == wanted
        search.close()
        assert steps * 20 < 2002 * 2, which
