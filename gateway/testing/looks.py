"""What a test sees of the journal, in memory or on disk."""

from __future__ import annotations

from typing import NamedTuple

from gateway.config.tables import Config
from gateway.journal import open_reader
from gateway.journal.interface import Filter, Journal
from gateway.journal.memory import MemoryJournal


class DeadLetter(NamedTuple):
    """An event that is not delivered again: its id, the plugin, the number of its attempts, and the last error."""

    event_id: str
    plugin: str
    attempts: int
    error: str


def states_of(journal: Journal, config: Config) -> dict[str, dict[str, str]]:
    """How far each plugin is with each event, by the event's id, oldest first: `delivered`, `waiting`, `retrying` or
    `dead`."""
    if isinstance(journal, MemoryJournal):
        return {kept.event.id: journal.store.states(seq) for seq, kept in journal.store.events.items()}
    reader = open_reader(config)
    try:
        return {row.id: dict(row.deliveries) for row in reader.events(Filter())}
    finally:
        reader.close()


def dead_letters_of(journal: Journal, config: Config, plugin: str | None) -> list[DeadLetter]:
    """The dead letters of one plugin, or of all."""
    which = Filter(plugin=plugin)
    if isinstance(journal, MemoryJournal):
        kept = journal.store
        # a journal in memory knows the plugin of a cursor, not of a row: one plugin at a time
        names = [plugin] if plugin is not None else sorted({name for seq in kept.events for name in kept.states(seq)})
        return [
            DeadLetter(kept.events[row.seq].event.id, name, row.attempts, row.error)
            for name in names
            for _, row in kept.dead(Filter(plugin=name))
        ]
    reader = open_reader(config)
    try:
        return [DeadLetter(row.id, row.plugin, row.attempts, row.error) for row in reader.dead(which)]
    finally:
        reader.close()
