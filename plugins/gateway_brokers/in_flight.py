"""The events that were sent to a broker and are not confirmed yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Final, NamedTuple

from gateway import Event

_REMEMBERED: Final = 20_000
"""Confirmed events that are remembered, more than the gateway has under way at once. A checkpoint does not end that:
it may cover an event whose call the gateway has not seen return yet, and which comes again if a later one fails."""


class EarlierFailed(Exception):
    """An event was not sent, because an earlier one of its conversation has failed."""

    loggable = True


class _Sent(NamedTuple):
    """An event that was sent: its id, its conversation, and the task that ends once it is confirmed."""

    id: str
    key: Hashable
    task: asyncio.Task[None]


class InFlight:
    """Many events on their way at the same time, at most one of each conversation, so that the order within it holds.

    `send` returns before its event is confirmed; `confirm`, the plugin's checkpoint, waits for all, and fails if one
    did. The gateway then delivers all of them again: those that were confirmed are not sent a second time, and each
    that failed is awaited by `send` itself, so that only its own delivery fails if the broker does not take it."""

    def __init__(self, most: int, timeout: float) -> None:
        """At most `most` events are unconfirmed; one that is not confirmed within `timeout` seconds has failed."""
        self._timeout = timeout
        self._room = asyncio.Semaphore(most)
        self._batch: dict[str, _Sent] = {}
        """By id, those that were sent since the last checkpoint."""
        self._last: dict[Hashable, _Sent] = {}
        """By conversation, the one that is on its way or has failed."""
        self._confirmed: dict[str, None] = {}
        """Ids that the broker has confirmed, the latest last."""
        self._reported: list[_Sent] = []
        """What the last checkpoint failed with. Later events of these conversations may still be with the plugin, and
        fail until the gateway has taken all back, which it has once it calls for the next checkpoint."""
        self._doubtful: set[str] = set()
        """Ids that have failed and that no checkpoint has covered since."""

    async def send(self, event: Event, publish: Callable[[Event], Coroutine[Any, Any, None]]) -> None:
        """Begin to send an event, with a coroutine that ends once the broker has confirmed it. `EarlierFailed`, and for
        an event that has failed before what `publish` raises."""
        key = event.id if event.conversation_id is None else (event.organisation, event.conversation_id)
        if event.id in self._confirmed and not event.replayed:
            return
        earlier = self._last.get(key)
        if earlier is not None:
            error = await self._outcome(earlier.task)
            if earlier.id == event.id and error is None and not event.replayed:
                return
            if earlier.id != event.id and error is not None:
                raise EarlierFailed("an earlier event of its conversation was not confirmed")
        await self._room.acquire()
        task = asyncio.get_running_loop().create_task(publish(event))
        sent = self._batch[event.id] = self._last[key] = _Sent(event.id, key, task)
        task.add_done_callback(lambda _: self._over(sent))
        if event.attempt > 1 or event.id in self._doubtful:
            error = await self._outcome(task)
            if error is not None:
                self._batch.pop(event.id, None)
                self._doubtful.add(event.id)
                self._let_go(sent)
                raise error

    async def confirm(self) -> None:
        """Wait until all events are confirmed that `send` has returned for; raises what one of them failed with."""
        self.forget_failures()
        batch, self._batch = self._batch, {}
        try:
            await self._wait({sent.task for sent in batch.values()})
        except BaseException:
            self._batch = batch | self._batch
            raise
        failed = [(sent, error) for sent in batch.values() if (error := _error(sent.task)) is not None]
        if failed:
            self._reported = [sent for sent, _ in failed]
            self._doubtful.update(sent.id for sent in self._reported)
            raise failed[0][1]
        self._doubtful.difference_update(batch)

    def forget_failures(self) -> None:
        """What the last checkpoint failed with holds up no later event any more: the gateway has taken all back."""
        for sent in self._reported:
            self._let_go(sent)
        self._reported = []

    def close(self) -> None:
        """Break off what is on its way."""
        for sent in (*self._batch.values(), *self._last.values()):
            sent.task.cancel()

    async def _outcome(self, task: asyncio.Task[None]) -> BaseException | None:
        await self._wait({task})
        return _error(task)

    async def _wait(self, tasks: set[asyncio.Task[None]]) -> None:
        """Wait until tasks have ended; those that take too long are cancelled."""
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._timeout)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)

    def _over(self, sent: _Sent) -> None:
        self._room.release()
        if _error(sent.task) is not None:
            return
        while len(self._confirmed) >= _REMEMBERED:
            del self._confirmed[next(iter(self._confirmed))]
        self._confirmed[sent.id] = None
        self._let_go(sent)

    def _let_go(self, sent: _Sent) -> None:
        if self._last.get(sent.key) is sent:
            del self._last[sent.key]


def _error(task: asyncio.Task[None]) -> BaseException | None:
    """What a task that has ended failed with."""
    return TimeoutError("no confirmation in time") if task.cancelled() else task.exception()
