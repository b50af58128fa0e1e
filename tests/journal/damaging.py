"""Damages the file of a journal, and compares what is served with what was written."""

from __future__ import annotations

import random
from pathlib import Path

import apsw
from journal_kit import fill, opened, reading, take

from gateway.config.tables import Config
from gateway.events import Event
from gateway.journal.interface import Filter, JournalError, Track

PAGE = 4096


async def make(config: Config, count: int) -> dict[str, Event]:
    """A journal of `count` events and a cursor, closed; its events by id."""
    async with opened(config) as journal:
        await take(journal, "crm")
        await fill(journal, count)
        return {event.id: event for _, event in await journal.read(0, count)}


def damage(content: bytes, chance: random.Random) -> bytes:
    """A flipped bit, a zeroed page, or a truncated file."""
    made, kind = bytearray(content), chance.random()
    if kind < 0.9:
        made[chance.randrange(len(made))] ^= 1 << chance.randrange(8)
    elif kind < 0.95:
        start = chance.randrange(len(made) // PAGE) * PAGE
        made[start : start + PAGE] = bytes(PAGE)
    else:
        del made[chance.randrange(len(made)) :]
    return bytes(made)


async def served_wrong(config: Config, written: dict[str, Event]) -> list[str]:
    """What a reader or a plugin gets that was not written. Errors other than `JournalError` are raised."""
    wrong = []
    try:
        with reading(config) as search:
            for row in search.events(Filter()):
                first = written.get(row.id)
                if first is None or first.line() != bytes(row.body) or first.received_at != row.received_at:
                    wrong.append(f"listed {row.id}")
    except (JournalError, apsw.Error):
        pass
    try:
        async with opened(config) as journal:
            for after in range(len(written)):
                try:
                    entries = await journal.read(after, 1)
                except JournalError:
                    continue
                wrong += [f"read {event.id}" for _, event in entries if written.get(event.id) != event]
            await journal.take_cursor(Track("crm"), from_start=False)
    except JournalError:
        pass
    return wrong


async def run(config: Config, count: int, seed: int) -> list[str]:
    """Damage a journal `count` times, every other time the log that a killed gateway left; what was served wrong."""
    path: Path = config.journal.path
    log = path.with_name(f"{path.name}-wal")
    written = await make(config, 20)
    async with opened(config) as journal:
        for _ in range(5):
            await fill(journal, 1)
        written |= {event.id: event for _, event in await journal.read(20, 5)}
        killed = path.read_bytes(), log.read_bytes()
    stopped = path.read_bytes()
    chance, wrong = random.Random(seed), []
    for number in range(count):
        for leftover in path.parent.iterdir():
            leftover.unlink()
        if number % 2:
            path.write_bytes(damage(stopped, chance))
        else:
            path.write_bytes(killed[0])
            log.write_bytes(damage(killed[1], chance))
        wrong += [f"{number}: {what}" for what in await served_wrong(config, written)]
    return wrong
