"""A journal in a file with something in every table, and everything that a search tells of a journal."""

from __future__ import annotations

import asyncio
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from journal_kit import ACME, Clock, fill, message, payment, put
from schemas import Schema

from gateway.config.database_url import DatabaseUrl
from gateway.config.tables import Config
from gateway.journal import open_reader
from gateway.journal.attempts import Attempt
from gateway.journal.interface import (
    DEAD,
    NO_TAKER,
    RETRYING,
    STATES,
    WAITING,
    Filter,
    Parked,
    Settlement,
    Standing,
    Track,
)
from gateway.journal.search import ValueRecord, ValueRecordFilter
from gateway.journal.sqlite.journal import SqliteJournal

OTHER = "umbrella"
START = 1_700_000_000.0
PLUGINS = ("archive", "crm", "late", "gone")
LONG = "x" * 700


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(START, UTC) + timedelta(seconds=seconds)


def in_database(config: Config, schema: Schema) -> Config:
    """The config with a journal in that schema."""
    url = DatabaseUrl.from_config(schema.url, config.directory)
    return msgspec.structs.replace(config, journal=msgspec.structs.replace(config.journal, url=url))


async def _own(journal: SqliteJournal, plugin: str, from_start: bool = True, hooks: tuple[str, ...] = ("*",)) -> int:
    standing = await journal.take_cursor(Track(plugin), from_start, hooks)
    assert isinstance(standing, Standing)
    return standing.epoch


async def make(config: Config) -> list[str]:
    """Make the journal; the ids of its events."""
    clock = Clock(START)
    journal = SqliteJournal(config, clock=clock)
    await journal.start()
    epochs = {"archive": await _own(journal, "archive")}
    ids: list[str] = []

    async def add(raw: bytes, organisation: str = ACME) -> None:
        ids.append((await put(journal, raw, organisation)).id)
        clock.advance(60.25)

    for number in range(6):
        await add(message(conversationId=str(number % 3), customerUID=str(number % 2), body=f"pay {number} tomorrow"))
    epochs["late"] = await _own(journal, "late", False, ("payment", "inbound-message@umbrella"))
    epochs["gone"] = await _own(journal, "gone")
    await add(payment(conversationId="1", customerUID="0"), OTHER)
    await add(payment(conversationId=LONG, customerUID=LONG[1:], outboundChannelAddress="+353 86 1234567"))
    await add(b'{"type":"inboundMessage","body":"caf\\u00e9 it does not fit","conversationId":{},"customerUID":"1"}')
    await add(b'{"type":"odd news","customerUID":"1","body":"hello"}')
    await add(b'{"no":"type"}')
    await add(message(customerUID="", conversationId="2", outboundChannelAddress="whatsapp:353861234567"), OTHER)
    same = message(conversationId="7", communicationActionId="900", statusCode="1")
    await add(same)
    await put(journal, same)
    await add(same.replace(b'"7"', b'"8"'))
    epochs["crm"] = await _own(journal, "crm", True, ("payment*", "*@umbrella"))
    for number in range(3):
        journal.record_value_request(
            ValueRecord(
                at=at(60 * number + 30),
                organisation=ACME,
                customer_uid=str(number),
                address="…567",
                fields={"balance": {"outcome": "value", "provider": "crm", "ms": 1.5}},
                status=200 + number,
            )
        )
    parked = {
        "archive": [
            Parked(seq=1, state=DEAD, attempts=12, error="ValueError: odd 17 at a.py:8", since=START + 5),
            Parked(seq=2, state=RETRYING, attempts=1, error="OSError", since=START + 7, next_at=START + 99),
            Parked(seq=5, state=WAITING, since=START + 8, conversation="acme/1"),
            Parked(seq=6, state=DEAD, attempts=3, error="ValueError: odd 18 at a.py:8", since=START + 9),
        ],
        "crm": [
            Parked(seq=7, state=DEAD, attempts=1, error="Reject: no", since=START + 6.5),
            Parked(seq=8, state=NO_TAKER),
            Parked(seq=12, state=DEAD, attempts=2, error="Reject: no", since=START + 8.5),
        ],
        "gone": [Parked(seq=2, state=RETRYING)],
    }
    attempts = [Attempt(1, n, START + n, 1.25, "ValueError: odd 17 at a.py:8") for n in range(1, 4)]
    for plugin, cursor in (("archive", 9), ("crm", 12), ("gone", 4), ("late", 7)):
        await journal.settle(
            Settlement(
                track=Track(plugin),
                epoch=epochs[plugin],
                cursor=cursor,
                park=parked.get(plugin, []),
                attempts=attempts if plugin == "archive" else [],
                replayed=[3] if plugin == "crm" else [],
            )
        )
        clock.advance(11)
    await journal.mark_running(Track("late"), epochs["late"], 8)
    await journal.retire_cursors(["archive", "crm", "late"])
    await journal.new_replay(Filter(plugin="crm", hook="payment"))
    await journal.retry_dead(Filter(ids=(ids[5],), plugin="archive"))
    await journal.discard_dead(Filter(ids=(ids[11],), plugin="crm"))
    await journal.keep_note("about", "something")
    await journal.close()
    return ids


def filters(ids: list[str]) -> list[Filter]:
    """Of every kind, and some of two."""
    states = [Filter(state=state, plugin=plugin) for state in STATES for plugin in (None, *PLUGINS)]
    return [
        Filter(),
        *states,
        *(Filter(state=state, customer="1") for state in STATES),
        *(Filter(state=state, hook="payment") for state in STATES),
        *(Filter(state=state, text="pay*") for state in STATES),
        Filter(hook="payment"),
        Filter(hook="unknown"),
        Filter(organisation=OTHER),
        Filter(conversation="1"),
        Filter(conversation=LONG),
        Filter(conversation=LONG[:-1]),
        Filter(conversation="1' OR '1'='1"),
        Filter(customer="1"),
        Filter(customer="1", organisation=OTHER),
        Filter(customer="1", since=at(70), until=at(600)),
        Filter(address="+353861234567"),
        Filter(address="nobody"),
        Filter(text="pay tomorrow"),
        Filter(text="cafe"),
        Filter(text="café"),
        Filter(text="hel*"),
        Filter(text="..."),
        Filter(since=at(180.75)),
        Filter(until=at(180.75)),
        Filter(since=at(180.75), until=at(400)),
        Filter(since=at(400), until=at(100)),
        Filter(since=datetime(1, 1, 2, tzinfo=UTC), until=datetime(9999, 12, 30, tzinfo=UTC)),
        Filter(ids=(ids[3], "nobody's", ids[1], ids[1])),
        Filter(names=("odd news",), plugin="crm"),
    ]


def told(config: Config, which: list[Filter], before: str) -> dict[str, Any]:
    """Everything that a search tells of a journal, by question."""
    found: dict[str, Any] = {}
    with closing(open_reader(config)) as search:
        for one in which:
            found[f"events {one}"] = list(search.events(one, times=True))
            found[f"newest {one}"] = list(search.events(one, 3, newest=True))
            found[f"before {one}"] = list(search.events(one, 2, newest=True, before=before))
            found[f"oldest {one}"] = list(search.events(one, 2))
            found[f"count {one}"] = search.count(one)
            found[f"dead {one}"] = list(search.dead(one))
            found[f"count dead {one}"] = search.count_dead(one)
            found[f"groups {one}"] = search.dead_groups(one)
        found["dead of crm"] = [list(search.dead(Filter(plugin="crm"), limit)) for limit in (None, 1)]
        found["dead of a cause"] = list(search.dead(Filter(error="ValueError: odd … at a.py:8")))
        found["count of a cause"] = search.count_dead(Filter(error="ValueError: odd … at a.py:8"), ["archive"])
        for customer in ("0", "1", LONG[1:], "nobody"):
            found[f"timeline of {customer}"] = list(search.timeline(Filter(customer=customer)))
            asked = ValueRecordFilter(customer_uid=customer, status=201, fields=("balance", "none"))
            found[f"values of {customer}"] = list(search.value_records(asked))
        for conversation in ("1", "2", LONG):
            found[f"conversation {conversation}"] = list(search.timeline(Filter(conversation=conversation)))
        found["values"] = list(search.value_records(ValueRecordFilter(since=at(0), until=at(100))))
        found["newest values"] = list(search.value_records(ValueRecordFilter(organisation=ACME), 2, newest=True))
        found["names"] = (search.names(), search.unknown_names())
        found["unreadable"] = search.unreadable()
        found["operations"] = search.operations(10)
        found["one operation"] = (search.operation(1), search.operation(99))
        found["plugins"] = (sorted(search.plugins()), search.knows_plugin("gone"), search.knows_plugin("nobody"))
        found["organisations"] = (search.knows_organisation(OTHER), search.knows_organisation("nobody"))
    return found


def made(config: Config) -> list[str]:
    return asyncio.run(make(config))


async def fill_plainly(config: Config, count: int) -> None:
    """A journal with events only."""
    journal = SqliteJournal(config)
    await journal.start()
    await fill(journal, count)
    await journal.close()
