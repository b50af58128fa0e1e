"""A plugin that writes down each event that it takes, and the reading of what it wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

SOURCE: Final = """
import asyncio, os, random, time
import msgspec
from gateway import hookimpl

class Plugin:
    '''Writes down what it takes, a line for each event in one write, and fails now and then.'''

    class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        fails: float = 0.0
        takes: float = 0.0

    def __init__(self, config):
        self.config = config

    @hookimpl
    def startup(self, context):
        path = context.directory / f'recorded-{context.name}'
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    @hookimpl
    async def on_event(self, event):
        began = time.monotonic_ns()
        if self.config.takes:
            await asyncio.sleep(self.config.takes)
        if self.config.fails and random.random() < self.config.fails:
            raise RuntimeError('not this time')
        epoch = getattr(event, 'epoch', 0)
        line = f'{began} {epoch} {event.attempt} {event.redelivered:d} {event.id}\\n'
        os.write(self.file, line.encode())
"""


class Delivery(NamedTuple):
    """A plugin took an event. `at` are the seconds at which the call began, by the monotonic clock that all processes
    of this machine share; whatever their other clocks say."""

    at: float
    node: str
    plugin: str
    epoch: int
    attempt: int
    redelivered: bool
    id: str


def read(folder: Path, node: str) -> list[Delivery]:
    """What the recorders of one gateway took. A last line that a power cut left unfinished is not read."""
    found = []
    for path in sorted(folder.glob("recorded-*")):
        plugin = path.name.removeprefix("recorded-")
        for line in path.read_text().split("\n")[:-1]:
            began, epoch, attempt, redelivered, event_id = line.split()
            found.append(
                Delivery(int(began) / 1e9, node, plugin, int(epoch), int(attempt), redelivered == "1", event_id)
            )
    return found
