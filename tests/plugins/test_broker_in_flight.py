"""What brokers' plugins have on its way, where an event fails behind others that a checkpoint has covered."""

from __future__ import annotations

import msgspec
import pytest
from gateway_brokers import InFlight
from gateway_brokers.in_flight import EarlierFailed

from gateway import Event, Reject
from gateway.testing import make_event


class Broker:
    """Confirms every event but those in `refused`; keeps the order of what it took."""

    def __init__(self) -> None:
        self.refused: set[str] = set()
        self.taken: list[str] = []

    async def publish(self, event: Event) -> None:
        if event.id in self.refused:
            raise Reject("too long")
        self.taken.append(event.id)


async def test_an_event_that_a_checkpoint_covered_may_come_again() -> None:
    """The gateway may not have seen yet that its call returned, and then takes it back when a later one fails: it is
    neither sent again nor held up by that one, which would wait behind it for ever."""
    flight, broker = InFlight(10, 10.0), Broker()
    first, long, after = (make_event(conversationId="c0") for _ in range(3))
    broker.refused.add(long.id)
    await flight.send(first, broker.publish)
    await flight.confirm()
    await flight.send(long, broker.publish)
    with pytest.raises(EarlierFailed):
        await flight.send(after, broker.publish)
    with pytest.raises(Reject):
        await flight.confirm()
    await flight.send(first, broker.publish)
    with pytest.raises(Reject):
        await flight.send(long, broker.publish)
    await flight.send(after, broker.publish)
    await flight.confirm()
    assert broker.taken == [first.id, after.id]


async def test_a_replay_sends_what_was_confirmed_before() -> None:
    flight, broker = InFlight(10, 10.0), Broker()
    event = make_event(conversationId="c0")
    again = msgspec.structs.replace(event, replayed=True)
    await flight.send(event, broker.publish)
    await flight.confirm()
    await flight.send(again, broker.publish)
    await flight.confirm()
    assert broker.taken == [event.id, event.id]
