"""The events that an operator asked for again, read beside the live log and delivered to one plugin."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection
from functools import partial
from typing import Final

import msgspec

from gateway.delivery.items import Item, Window
from gateway.delivery.machine import Machine
from gateway.delivery.reading import WINDOW, LogReader, until_read
from gateway.delivery.withdrawing import withdraw_replayed
from gateway.events import Event
from gateway.journal.interface import Cursors, Replay, ReplayProgress, Standing, Track
from gateway.plugin_host.load import Plugin

PAGE: Final = 200
AHEAD: Final = 1000
AHEAD_BYTES: Final = 32 * 2**20


class ReplayReader:
    """A plugin's replays, one after the other. An event whose live delivery is still ahead waits for that."""

    def __init__(
        self,
        plugin: Plugin,
        track: Track,
        journal: Cursors,
        machine: Machine,
        live: LogReader,
        standing: Standing,
    ) -> None:
        self.wake = asyncio.Event()
        """There may be more to read, or room for it."""
        self._plugin = plugin
        self._track = track
        self._journal = journal
        self._machine = machine
        self._live = live
        self._replays: deque[Replay] = deque()
        self._known: set[int] = set()
        self._window = Window(0)
        self._read_to = 0
        self._ended: dict[int, asyncio.Event] = {}
        """Replays that were ended and are not settled yet."""
        self._careful_left = 0 if standing.clean else WINDOW
        self.take_up(standing.replays)

    @property
    def idle(self) -> bool:
        return not self._replays

    @property
    def cautious(self) -> bool:
        """Whether an event that might kill the process is still to be replayed."""
        return self._careful_left > 0 and not self.idle

    @property
    def _finished(self) -> bool:
        """Whether the first replay has been read to its end, and all of it is settled."""
        return not len(self._window) and self._read_to >= self._replays[0].until

    def take_up(self, replays: Collection[Replay]) -> None:
        """Add those that are new, and end those that the journal no longer has: they were cancelled from elsewhere."""
        listed = {replay.number for replay in replays}
        for number in [
            one.number for one in self._replays if one.number not in listed and one.number not in self._ended
        ]:
            self.end(number)
        for replay in replays:
            if replay.number not in self._known:
                self._known.add(replay.number)
                self._replays.append(replay)
                if len(self._replays) == 1:
                    self.rewind()
        self.wake.set()

    def end(self, number: int) -> asyncio.Event:
        """Hand out nothing more of a replay. What the plugin has of it is settled as usual; the event is set then."""
        settled = asyncio.Event()
        self._known.add(number)
        if self._replays and self._replays[0].number == number:
            self._ended[number] = settled
            self._replays[0].until = self._read_to
            for seq in withdraw_replayed(self._machine):
                self._window.drop(seq)
            self._machine.unsettled.set()
        else:
            self._replays = deque(replay for replay in self._replays if replay.number != number)
            settled.set()
        return settled

    def settled(self) -> None:
        """The progress that was told last is durable: there may be room to read more."""
        self.wake.set()
        for number in [number for number in self._ended if all(one.number != number for one in self._replays)]:
            self._ended.pop(number).set()

    def rewind(self) -> None:
        """Go back to what is settled."""
        if self._replays:
            if self._replays[0].number in self._ended:
                self._replays[0].until = self._replays[0].position
            self._read_to = self._replays[0].position
            self._window = Window(self._read_to)
            self.wake.set()

    def progress(self) -> ReplayProgress | None:
        """What has been settled of the first replay since the last time, or None."""
        if not self._replays:
            return None
        replay = self._replays[0]
        done = self._window.advance()
        position = self._window.position
        if self._finished:
            position = replay.until
        if position == replay.position < replay.until:
            return None
        replay.position = position
        replay.done += done
        if position >= replay.until:
            self._replays.popleft()
            self.rewind()
        return ReplayProgress(replay.number, position, done)

    async def run(self) -> None:
        while True:
            self.wake.clear()
            if self._replays:
                replay, window = self._replays[0], self._window
                until = min(replay.until, self._live.cursor)
                if len(window) < AHEAD and window.size <= AHEAD_BYTES and self._read_to < until:
                    page = await until_read(
                        partial(self._journal.read_track, self._track, self._read_to, PAGE, replay.filter, until)
                    )
                    if window is self._window and self._read_to < replay.until:
                        for seq, event in page.entries:
                            self._read(seq, event)
                        self._read_to = page.through
                        self._machine.unsettled.set()
                    continue
                if self._finished:
                    self._machine.unsettled.set()
            await self.wake.wait()

    def _read(self, seq: int, event: Event) -> None:
        self._window.add(seq, len(event.raw))
        parked = seq in self._machine.parked.items  # it comes anyway
        if parked or not self._plugin.calls(event) or not self._plugin.where.admits(event):
            self._window.settle(seq)
            return
        event = msgspec.structs.replace(event, redelivered=True, replayed=True)
        careful = self._careful_left > 0
        self._careful_left -= careful
        careful = careful or seq in self._machine.crashes
        key = self._plugin.conversation_of(event)
        key = None if key is None else f"replay:{key}"
        self._machine.admit(Item(seq, event, key, self._window, careful=careful, replay=True))
